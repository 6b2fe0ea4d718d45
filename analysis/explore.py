"""Any figure of the runs against any other: what is on each axis is chosen from a list."""

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.amounts import MIB
from analysis.appearance import Chart, alt
from analysis.labels import Label, Row, rows
from analysis.picture import Picture, table
from analysis.program import main
from analysis.shapes import drawing, faded, focus, stage_colour
from analysis.sizes import by_size, middle, sized

if TYPE_CHECKING:
    import duckdb

TITLE = "Any figure against any other"
CAPTION = "Each dot is a run that came to its end. Choose what is on each axis, and whether it is logarithmic."
NOTHING = "No run has come to its end."
HEIGHT = 320
ROUND_LOGARITHMS = [round(math.log10(digit) + power, 6) for power in range(-6, 10) for digit in (1, 2, 5)]
METRICS = {
    "number of requests": "size",
    "time (seconds)": "seconds",
    "requests per second": "rate",
    "first result after (seconds)": "first_result_seconds",
    "half of the requests within (seconds)": "p50",
    "95 % of the requests within (seconds)": "p95",
    "peak memory (MiB)": "mib",
    "CPU time (seconds)": "cpu_seconds",
    "CPU time per request (seconds)": "cpu_per_request",
    "energy (joules)": "energy_joules",
    "data (MiB)": "data_mib",
    "failed requests": "failed",
    "workers": "workers",
}


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """A dot for each run that completed, or None if there is none."""
    labels, found = sized(connection)
    if not found:
        return None
    within = {row["run"]: row for row in rows(connection, _WITHIN)}
    for row in found:
        cpu = row["cpu_seconds"]
        row["data_mib"], row["cpu_per_request"] = row["bytes"] / MIB, None if cpu is None else cpu / row["size"]
        row.update(within.get(row["run"], {}))
    known = {title: field for title, field in METRICS.items() if any(row.get(field) is not None for row in found)}
    values = [
        {"label": row["label"], "run": row["run"]} | {title: row.get(field) for title, field in known.items()}
        for row in found
    ]
    sizes = len({row["size"] for row in found})
    first = ("number of requests" if sizes > 1 else "time (seconds)", "requests per second")
    return Picture(
        chart=_drawn(labels, values, list(known), first, is_log=sizes > 1),
        seen=f"A dot for each of {len(found)} runs, at first by {first[0]} and {first[1]}.",
        table=table(_medians(found, known), {"stage": "label", "requests": "size"} | {name: name for name in known}),
        wide=True,
    )


_WITHIN = """
    SELECT run, quantile_cont(seconds, 0.5) AS p50, quantile_cont(seconds, 0.95) AS p95
    FROM requests WHERE state = 'completed' GROUP BY run
"""


def _medians(found: Sequence[Row], known: dict[str, str]) -> list[Row]:
    return [
        {"label": stage, "size": size} | {title: middle(there, field) for title, field in known.items()}
        for size, stages in by_size(found).items()
        for stage, there in stages.items()
    ]


def _drawn(
    labels: Sequence[Label], values: Sequence[Row], titles: Sequence[str], first: tuple[str, str], *, is_log: bool
) -> Chart:
    names = {"x": "across", "y": "up"}
    chosen = [
        alt.param(name=name, value=title, bind=alt.binding_select(options=list(titles), name=f"{axis} axis "))
        for (name, axis), title in zip((("across", "horizontal"), ("up", "vertical")), first, strict=True)
    ]
    logs = [
        alt.param(name=f"log_{name}", value=is_log, bind=alt.binding_checkbox(name=f"{axis} axis logarithmic "))
        for name, axis in (("across", "horizontal"), ("up", "vertical"))
    ]
    axis = {
        name: alt.Axis(
            labelExpr=f"log_{name} ? format(pow(10, datum.value), ',.2~r') : format(datum.value, ',.4~r')",
            values=alt.expr(f"log_{name} ? {ROUND_LOGARITHMS} : null"),
            tickCount=alt.expr("ceil(width / 90)") if name == "across" else 5,
            labelOverlap="greedy",
        )
        for name in names.values()
    }
    place = {name: f"log_{name} ? log(datum[{name}]) / LN10 : datum[{name}]" for name in names.values()}
    scale = alt.Scale(zero=False, nice=False, padding=14)
    dots = (
        drawing(values)
        .transform_filter(" && ".join(f"isValid(datum[{n}]) && (!log_{n} || datum[{n}] > 0)" for n in names.values()))
        .transform_calculate(**place)
        .mark_point(filled=True, size=60)
        .encode(
            x=alt.X("across:Q", title=None, scale=scale, axis=axis["across"]),
            y=alt.Y("up:Q", title=None, scale=scale, axis=axis["up"]),
            color=stage_colour(labels, legend=True),
            opacity=faded(0.8, 0.08),
            tooltip=[alt.Tooltip("label:N", title="stage"), alt.Tooltip("run:N"), *_figures(titles)],
        )
    )
    text = drawing([{}])
    return (
        alt.layer(
            dots,
            text.mark_text(align="left", baseline="bottom").encode(
                x=alt.value(0), y=alt.value(-8), text=alt.value(alt.expr("up"))
            ),
            text.mark_text(align="right", baseline="top").encode(
                x=alt.value("width"), y=alt.value(HEIGHT + 30), text=alt.value(alt.expr("across"))
            ),
        )
        .add_params(focus(), *chosen, *logs)
        .properties(height=HEIGHT)
    )


def _figures(titles: Sequence[str]) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{title}:Q", format=",.4~r") for title in titles]


if __name__ == "__main__":
    main(sys.modules[__name__])
