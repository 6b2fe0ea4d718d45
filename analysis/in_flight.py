"""How many requests were in flight when, and how many the director allowed."""

import sys
from typing import TYPE_CHECKING

from analysis.amounts import number_text
from analysis.appearance import alt
from analysis.labels import labelled, rows_per_run
from analysis.picture import Picture, listing, table
from analysis.program import main
from analysis.shapes import across, drawing, faded, line_per_run, run_tooltip, stage_colour, upward
from analysis.timed import timed_requests

if TYPE_CHECKING:
    import duckdb

TITLE = "Requests in flight"
CAPTION = (
    "How many requests were being carried out, from their start until they were stored or failed, on average over each "
    "moment. Dashed: how many the director let out to all origins at once, since it first changed its mind."
)
NOTHING = "No request has begun."
POINTS_MAX = 150

# A request adds one to the number in flight when it begins and takes it away when it is over. Within a slot of time the
# average is what was in flight at its beginning, and what came and went in it by how much of the slot was left.
_STATEMENT = """
    WITH spans AS (SELECT run, greatest(max(over), 1e-6) * 1.000001 / $points AS width FROM timed GROUP BY run),
    moments AS (
        SELECT run, started AS moment, 1 AS change FROM timed WHERE started IS NOT NULL
        UNION ALL
        SELECT run, over, -1 FROM timed WHERE started IS NOT NULL
    ),
    slots AS (
        SELECT run, width, slot, sum(change) AS change, sum(change * ((slot + 1) * width - moment)) AS partly
        FROM (SELECT *, floor(moment / width)::BIGINT AS slot FROM moments JOIN spans USING (run))
        GROUP BY ALL
    ),
    filled AS (
        SELECT run, width, slot, coalesce(change, 0) AS change, coalesce(partly, 0) AS partly
        FROM (SELECT run, width, unnest(range($points)) AS slot FROM spans) LEFT JOIN slots USING (run, width, slot)
    )
    SELECT
        run, round((slot + 0.5) * width, 6) AS seconds,
        round(greatest(0, coalesce(sum(change) OVER before, 0) + partly / width), 3) AS in_flight
    FROM filled
    WINDOW before AS (PARTITION BY run ORDER BY slot ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ORDER BY run, slot
"""
_LIMITS = """
    WITH told AS (
        SELECT
            run, worked_seconds + (time_ns - start_ns) / 1e9 AS seconds, data->>'origin' AS origin,
            (data->>'limit')::BIGINT AS most
        FROM events JOIN log.sittings USING (run)
        WHERE type = 'limit.changed' AND time_ns >= since_ns AND time_ns < until_ns
    ),
    summed AS (
        SELECT run, seconds, sum(most - before) OVER (PARTITION BY run ORDER BY seconds, origin) AS most
        FROM (SELECT *, lag(most, 1, 0) OVER (PARTITION BY run, origin ORDER BY seconds) AS before FROM told)
    ),
    numbered AS (
        SELECT *, row_number() OVER (PARTITION BY run ORDER BY seconds) AS place, count(*) OVER (PARTITION BY run) AS n
        FROM summed
    )
    SELECT run, round(seconds, 6) AS seconds, most
    FROM numbered WHERE place = n OR place * $points // n > (place - 1) * $points // n
    UNION ALL
    SELECT run, ends.over, latest.most
    FROM (SELECT run, max(over) AS over FROM timed GROUP BY run) AS ends
    JOIN (SELECT run, arg_max(most, seconds) AS most FROM summed GROUP BY run) AS latest USING (run)
    ORDER BY run, seconds
"""


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """A line for each run, and one for its limit if it had any, or None if no request has begun."""
    timed_requests(connection)
    points = min(POINTS_MAX, rows_per_run(connection))
    labels, rows = labelled(connection, _STATEMENT, {"points": points})
    if not rows:
        return None
    _, limits = labelled(connection, _LIMITS, {"points": points})
    x = alt.X("seconds:Q", title="time since the start (seconds)", axis=across())
    tooltip = [
        run_tooltip(),
        alt.Tooltip("in_flight:Q", title="requests in flight", format=",.2~f"),
        alt.Tooltip("seconds:Q", title="after (s)", format=",.3~f"),
    ]
    y = alt.Y("in_flight:Q", title="requests in flight", axis=upward(",~r"))
    chart = line_per_run(labels, rows, x=x, y=y, tooltip=tooltip)
    if limits:
        allowed = drawing(limits).mark_line(strokeDash=[5, 3], strokeWidth=1.4, interpolate="step-after")
        chart += allowed.encode(x=x, y="most:Q", color=stage_colour(labels, legend=True), opacity=faded())
    most = {label.text: max(row["in_flight"] for row in rows if row["label"] == label.text) for label in labels}
    said = listing([f"{run} {number_text(count)}" for run, count in most.items()])
    return Picture(
        chart=chart,
        seen=f"A line for each run; the most in flight: {said}.",
        table=table(rows, {"run": "label", "after (s)": "seconds", "requests in flight": "in_flight"}),
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
