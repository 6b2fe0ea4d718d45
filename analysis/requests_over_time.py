"""From the whole run to its requests: an overview in which an interval is marked, and the requests that ended in it."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.appearance import alt
from analysis.in_run import is_chosen, part_colour, run_choice, run_title, share_of_rows
from analysis.labels import Label, Row, labelled, labels
from analysis.logarithmic import log_axis, log_scale
from analysis.picture import Picture, listing, table
from analysis.program import WIDTH_PIXELS, main
from analysis.shapes import across, drawing, run_tooltip, upward
from analysis.timed import timed_requests

if TYPE_CHECKING:
    import duckdb

TITLE = "Requests over time"
CAPTION = (
    "Above, how many requests ended when: mark an interval with the mouse to see the requests that ended in it below, "
    "double-click to see all. Of many requests the failed and cancelled, the slowest and some of the others are shown."
)
NOTHING = "No request is over."
SLOTS = 120
SECONDS_MIN = 1e-6  # a logarithmic axis has no zero
OUTCOMES = ("completed", "failed", "cancelled")
EDGE_PIXELS = 48

# The field across has the same name in both: by it the interval of one chooses among the rows of the other.
_OVERVIEW = """
    WITH spans AS (SELECT run, greatest(max(ended), 1e-6) * 1.000001 / $slots AS width FROM timed GROUP BY run)
    SELECT
        run, round(slot * width, 6) AS moment, round((slot + 1) * width, 6) AS until,
        state AS outcome, count(*) AS requests
    FROM (SELECT *, floor(ended / width) AS slot FROM timed JOIN spans USING (run) WHERE ended IS NOT NULL)
    GROUP BY ALL
    ORDER BY run, moment, outcome
"""
_DETAIL = """
    WITH picked AS (
        SELECT
            run,
            min_by(number, hash(number), $share // 4) FILTER (state <> 'completed') AS failed,
            max_by(number, ended - coalesce(started, queued), $share // 4) AS slowest,
            min_by(number, hash(number), $share // 2) AS others
        FROM timed WHERE ended IS NOT NULL
        GROUP BY run
    ),
    chosen AS (
        SELECT run, unnest(list_distinct(list_concat(coalesce(failed, []), slowest, others))) AS number FROM picked
    )
    SELECT
        run, number, round(ended, 6) AS moment, greatest(round(coalesce(seconds, 0), 6), $seconds_min) AS seconds,
        timed.state AS outcome,
        left(url, 200) AS url, error
    FROM chosen JOIN timed USING (run, number) JOIN requests USING (run, number)
    ORDER BY run, ended, number
"""


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """The overview and the requests of each run, or None if no request is over."""
    timed_requests(connection)
    share = share_of_rows(labels(connection))
    _, bars = labelled(connection, _OVERVIEW, {"slots": min(SLOTS, share)})
    found, dots = labelled(connection, _DETAIL, {"share": share, "seconds_min": SECONDS_MIN})
    if not bars:
        return None
    columns = {"run": "label", "from (s)": "moment", "to (s)": "until", "outcome": "outcome", "requests": "requests"}
    counts = {label.text: sum(row["requests"] for row in bars if row["label"] == label.text) for label in found}
    return Picture(
        chart=_drawn(found, bars, dots),
        seen=f"Ended requests by time, and the duration of each: {listing([f'{k} {n:,}' for k, n in counts.items()])}.",
        table=table(bars, columns),
        wide=True,
    )


def _drawn(found: Sequence[Label], bars: Sequence[Row], dots: Sequence[Row]) -> alt.VConcatChart:
    brush = alt.selection_interval(name="interval", encodings=["x"])
    width = WIDTH_PIXELS - EDGE_PIXELS
    colour = part_colour("outcome:N", [name for name in OUTCOMES if any(bar["outcome"] == name for bar in bars)])
    over_time = "time since the start (seconds)"
    overview = (
        drawing(bars)
        .transform_filter(is_chosen())
        .mark_bar(binSpacing=0)
        .encode(
            x=alt.X("moment:Q", title=over_time, bin="binned", scale=alt.Scale(domainMin=0), axis=across()),
            x2="until:Q",
            y=alt.Y("requests:Q", title="ended requests", stack="zero", axis=_edged(upward(step_min=1))),
            color=colour,
            opacity=alt.when(brush).then(alt.value(1)).otherwise(alt.value(0.35)),
            tooltip=[run_tooltip(), *(alt.Tooltip(f"{key}:Q", format=",.3~f") for key in ("moment", "until")),
                     alt.Tooltip("requests:Q", format=","), alt.Tooltip("outcome:N")],
        )
        .add_params(brush)
        .properties(width=width, height=90)
    )  # fmt: skip
    seconds = [row["seconds"] for row in dots]
    detail = (
        drawing(dots)
        .transform_filter(is_chosen())
        .transform_filter(brush)
        .mark_point(filled=True, size=24, opacity=0.6)
        .encode(
            x=alt.X("moment:Q", title="ended at (seconds)", scale=alt.Scale(domain=brush), axis=across()),
            y=alt.Y("seconds:Q", title="duration (seconds, log scale)", scale=log_scale(seconds),
                    axis=_edged(log_axis(seconds, upward=True))),
            color=colour,
            tooltip=_tooltip(),
        )
        .properties(width=width, height=240)
    )  # fmt: skip
    return alt.vconcat(overview, detail, spacing=14).add_params(*run_choice(found)).properties(title=run_title())


def _edged(axis: alt.Axis) -> alt.Axis:
    """The axis with a fixed room for its labels, so that both parts begin at the same place."""
    axis.minExtent = axis.maxExtent = EDGE_PIXELS
    return axis


def _tooltip() -> list[alt.Tooltip]:
    return [
        run_tooltip(),
        alt.Tooltip("number:Q", title="request"),
        alt.Tooltip("seconds:Q", title="duration (s)", format=",.4~r"),
        alt.Tooltip("moment:Q", title="ended at (s)", format=",.4~r"),
        alt.Tooltip("outcome:N"),
        alt.Tooltip("error:N"),
        alt.Tooltip("url:N"),
    ]


if __name__ == "__main__":
    main(sys.modules[__name__])
