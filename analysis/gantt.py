"""Requests as bars over time: when each one waited, connected, was answered, took its body and was stored."""

import sys
from typing import TYPE_CHECKING

from analysis.amounts import seconds_text
from analysis.appearance import PARTS, Chart, alt
from analysis.in_run import is_chosen, part_colour, run_choice, run_title, share_of_rows
from analysis.labels import Label, Row, labelled, labels
from analysis.picture import Picture, listing, table
from analysis.program import main
from analysis.shapes import across, drawing, run_tooltip
from analysis.timed import timed_requests

if TYPE_CHECKING:
    import duckdb

TITLE = "Requests, one by one"
CAPTION = (
    "A row for each request, in the order in which they began, with what it was doing when. Of many requests some are "
    "shown: neighbours from the middle of the run, some from all of it, or the slowest. A cross is a failure."
)
NOTHING = "No request has begun."
REQUESTS_MAX = 200
SETS = ("neighbours", "from all of the run", "the slowest")
SEGMENTS = (("queue", "queued", "begun"), ("connect", "begun", "connected"), ("first byte", "connected", "answered"),
            ("body", "answered", "read"), ("process", "read", "over"))  # fmt: skip
HEIGHT = 380

_STATEMENT = """
    WITH placed AS (
        SELECT *,
            row_number() OVER (PARTITION BY run ORDER BY started, number) - 1 AS place,
            row_number() OVER (PARTITION BY run ORDER BY over - started DESC, number) AS slowness,
            count(*) OVER (PARTITION BY run) AS n
        FROM timed WHERE started IS NOT NULL
    ),
    picked AS (
        SELECT *, n > $requests_max AS is_part, list_filter([
            CASE WHEN place - greatest(0, n - $requests_max) // 2 BETWEEN 0 AND $requests_max - 1 THEN $sets[1] END,
            CASE WHEN is_part AND (place + 1) * $requests_max // n > place * $requests_max // n THEN $sets[2] END,
            CASE WHEN is_part AND slowness <= $requests_max THEN $sets[3] END
        ], lambda name: name IS NOT NULL) AS names
        FROM placed
    ),
    shown AS (
        SELECT *, dense_rank() OVER (PARTITION BY run, part ORDER BY place) AS line
        FROM (SELECT * EXCLUDE (names), unnest(names) AS part FROM picked)
    ),
    tries AS (
        SELECT
            run, number, resend_count, attempts.state AS outcome, attempts.error AS error,
            started + (epoch_us(attempts.started_at) - epoch_us(picked.started_at)) / 1e6 AS begun,
            begun + coalesce(dns_seconds + connect_seconds + tls_seconds, 0) AS connected,
            begun + coalesce(response_seconds, attempts.seconds, over - begun) AS answered,
            CASE WHEN outcome = 'unfinished' AND body_seconds IS NULL THEN over
                ELSE answered + coalesce(body_seconds, 0) END AS read,
            row_number() OVER (PARTITION BY run, number ORDER BY attempts.started_at, resend_count) AS try,
            count(*) OVER (PARTITION BY run, number) AS tries
        FROM (FROM picked WHERE len(names) > 0) AS picked JOIN attempts USING (run, number)
        WHERE attempts.started_at >= picked.started_at
    )
    SELECT
        run, part, line, number, state, coalesce(try, 1) AS try, coalesce(error, '') AS error,
        round(CASE WHEN coalesce(try, 1) = 1 THEN queued ELSE begun END, 6) AS queued,
        round(coalesce(begun, started), 6) AS begun,
        round(least(coalesce(connected, started), answered, over), 6) AS connected,
        round(least(coalesce(answered, started), over), 6) AS answered,
        round(least(coalesce(read, started), over), 6) AS read,
        round(CASE WHEN coalesce(try = tries, true) THEN over ELSE least(read, over) END, 6) AS over
    FROM shown LEFT JOIN tries USING (run, number)
    ORDER BY run, part, line, try
"""


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """The bars of some requests of each run, or None if no request has begun."""
    timed_requests(connection)
    share = min(REQUESTS_MAX, share_of_rows(labels(connection)) // len(SETS))
    found, rows = labelled(connection, _STATEMENT, {"requests_max": share, "sets": list(SETS)})
    if not rows:
        return None
    spans = {label.text: max(row["over"] or 0 for row in rows if row["label"] == label.text) for label in found}
    columns = {"run": "label", "request": "number", "try": "try", "queued at (s)": "queued", "began at (s)": "begun",
               "connected at (s)": "connected", "first byte at (s)": "answered", "body read at (s)": "read",
               "over at (s)": "over", "state": "state"}  # fmt: skip
    said = listing([f"{run} up to {seconds_text(seconds)}" for run, seconds in spans.items()])
    return Picture(
        chart=_drawn(found, rows),
        seen=f"Bars over time, one for each of at most {share} requests of each run: {said}.",
        table=table([row for row in rows if row["part"] == SETS[0]], columns),
        wide=True,
    )


def _drawn(found: list[Label], rows: list[Row]) -> Chart:
    parts = [name for name in SETS if any(row["part"] == name for row in rows)]
    bind = alt.binding_radio(options=parts, name="requests ") if len(parts) > 1 else alt.Undefined
    choice = alt.param(name="part", value=SETS[0], bind=bind)
    base = drawing(rows).transform_filter(is_chosen()).transform_filter("datum.part == part")
    colour = part_colour("segment:N", [name for name, _, _ in SEGMENTS])
    y = alt.Y("line:O", title="requests", axis=alt.Axis(labels=False, ticks=False, grid=False))
    over_time = "time since the start (seconds)"
    bars = [
        base.transform_calculate(segment=repr(name))
        .mark_bar(height={"band": 0.85})
        .encode(
            x=alt.X(f"{begin}:Q", title=over_time, axis=across(), scale=alt.Scale(zero=False)),
            x2=f"{end}:Q",
            y=y,
            color=colour,
            tooltip=_tooltip(),
        )
        for name, begin, end in SEGMENTS
    ]
    failed = base.mark_point(shape="cross", angle=45, filled=True, size=30, color=PARTS["failed"]).encode(
        opacity=alt.OpacityValue(condition={"test": "datum.state == 'failed'", "value": 1}, value=0)
    )
    return (
        alt.layer(*bars, failed.encode(x=alt.X("over:Q", title=over_time), y=y, tooltip=_tooltip()))
        .add_params(*run_choice(found), choice)
        .properties(height=HEIGHT, title=run_title())
    )


def _tooltip() -> list[alt.Tooltip]:
    figures = {"begun": "began at (s)", "connected": "connected at (s)", "answered": "first byte at (s)",
               "read": "body read at (s)", "over": "over at (s)"}  # fmt: skip
    return [
        run_tooltip(),
        alt.Tooltip("number:Q", title="request"),
        alt.Tooltip("try:Q"),
        alt.Tooltip("state:N"),
        alt.Tooltip("error:N", title="error of the try"),
        *(alt.Tooltip(f"{key}:Q", title=title, format=",.4~f") for key, title in figures.items()),
    ]  # fmt: skip


if __name__ == "__main__":
    main(sys.modules[__name__])
