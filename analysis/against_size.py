"""The shape of charts against the number of requests: a dot for each run, a line through the medians of each stage.

Both axes are logarithmic, so that a straight line is a power of the number and 1 request can be read beside 10 000.
"""

import json
from collections.abc import Mapping, Sequence

from analysis.amounts import number_text
from analysis.appearance import alt
from analysis.labels import Label, Row
from analysis.logarithmic import log_axis, log_scale, spaced_ticks
from analysis.picture import TABLE_ROWS_MAX, Picture, Table, evenly, listing
from analysis.shapes import drawing, faded, focus, stage_colour
from analysis.sizes import by_size, largest_common, middle, spread

HEIGHT = 320
PARAMETER = "up"


def against_size(labels: Sequence[Label], found: Sequence[Row], measures: Mapping[str, str]) -> Picture:
    """The chart, from rows of `sized`.

    Args:
        labels: one for each stage.
        found: the rows.
        measures: what the vertical axis may show: its title, and the field. Of several a person chooses.
    """
    titles = [title for title, field in measures.items() if any(row[field] for row in found)]
    first = titles[0]
    values = [
        {"label": row["label"], "size": row["size"], "run": row["run"]}
        | {title: row[measures[title]] for title in titles}
        for row in found
    ]
    up = _chosen(titles)
    dots = (
        drawing(values)
        .transform_calculate(value=f"datum[{PARAMETER}]" if up else f"datum[{first!r}]")
        .transform_filter("isValid(datum.value) && datum.value > 0")
    )
    medians = dots.transform_aggregate(
        middle="median(value)", low="min(value)", high="max(value)", runs="count()", groupby=["label", "size"]
    )
    sizes = [row["size"] for row in found]
    x = alt.X("size:Q", title="requests", scale=log_scale(sizes), axis=log_axis(sizes))
    axis = alt.Axis(format=",~r", labelOverlap="greedy", values=_ticks(values, titles))
    title = None if up else first
    y_scale = alt.Scale(type="log", nice=False, padding=8)  # its domain follows from what is chosen
    colour = stage_colour(labels, legend=True)
    chart = alt.layer(
        medians.mark_area().encode(
            x=x,
            y=alt.Y("low:Q", title=title, scale=y_scale, axis=axis),
            y2="high:Q",
            color=colour,
            opacity=faded(0.16, 0.03),
        ),
        medians.mark_line(strokeWidth=2.2, strokeJoin="round").encode(
            x=x, y=alt.Y("middle:Q", title=title), color=colour, opacity=faded()
        ),
        dots.mark_point(filled=True, size=26).encode(
            x=x, y=alt.Y("value:Q", title=title), color=colour, opacity=faded(0.75, 0.1), tooltip=_tooltip(titles)
        ),
        *([_heading(PARAMETER)] if up else []),
    ).add_params(focus(), *([up] if up else []))
    return Picture(
        chart=chart.properties(height=HEIGHT),
        seen=_seen(found, first, measures[first]),
        table=_table(labels, found, first, measures[first]),
        wide=True,
    )


def _chosen(titles: Sequence[str]) -> alt.Parameter | None:
    """What lets a person choose among several measures."""
    if len(titles) == 1:
        return None
    return alt.param(
        name=PARAMETER, value=titles[0], bind=alt.binding_radio(options=list(titles), name="vertical axis ")
    )


def _ticks(values: Sequence[Row], titles: Sequence[str]) -> alt.ExprRef | list[float]:
    """Where the vertical axis has labels: at round values of what is chosen."""
    ticks = {}
    for title in titles:
        known = [row[title] for row in values if row[title]]
        ticks[title] = spaced_ticks(min(known), max(known))
    return ticks[titles[0]] if len(titles) == 1 else alt.expr(f"({json.dumps(ticks)})[{PARAMETER}]")


def _heading(parameter: str) -> alt.Chart:
    """The title of the vertical axis, where it is chosen."""
    mark = drawing([{}]).mark_text(align="left", baseline="bottom")
    made: alt.Chart = mark.encode(x=alt.value(0), y=alt.value(-8), text=alt.value(alt.expr(parameter)))
    return made


def _tooltip(titles: Sequence[str]) -> list[alt.Tooltip]:
    figures = [alt.Tooltip(f"{title}:Q", format=",.4~r") for title in titles]
    return [alt.Tooltip("label:N", title="stage"), alt.Tooltip("size:Q", title="requests", format=","), *figures]


def _table(labels: Sequence[Label], found: Sequence[Row], title: str, field: str) -> Table:
    """A row for each size, a column for each stage: the median, and from where to where."""
    lines = []
    for size, stages in by_size(found).items():
        cells = []
        for label in labels:
            there = stages.get(label.stage, [])
            value, ends = middle(there, field), spread(there, field)
            many = f" ({number_text(ends[0])}–{number_text(ends[1])})" if ends and len(there) > 1 else ""
            cells.append("–" if value is None else number_text(value) + many)
        lines.append((f"{size:,}", *cells))
    return Table((f"requests / {title}", *(label.text for label in labels)), tuple(evenly(lines, TABLE_ROWS_MAX)))


def _seen(found: Sequence[Row], title: str, field: str) -> str:
    there = largest_common(found)
    size = next(iter(there.values()))[0]["size"]
    known = {stage: middle(rows, field) for stage, rows in there.items()}
    said = listing([f"{stage} {number_text(value)}" for stage, value in known.items() if value is not None])
    return f"Lines by stage, {title} against the number of requests; medians at {size:,} requests: {said}."
