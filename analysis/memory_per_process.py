"""How much memory each process of a run took over time, one on top of the other."""

import sys
from typing import TYPE_CHECKING

from analysis.amounts import MIB, number_text
from analysis.appearance import OTHER, alt
from analysis.in_run import is_chosen, part_colour, run_choice, run_title, share_of_rows
from analysis.labels import labelled, labels
from analysis.picture import Picture, listing, table
from analysis.program import main
from analysis.shapes import LINE_PIXELS, across, drawing, run_tooltip, upward

if TYPE_CHECKING:
    import duckdb

TITLE = "Memory by process"
CAPTION = (
    "The processes of a run on top of one another: the upper edge is the memory of all. Of a long run, the sample with "
    "the most memory of each moment is shown. Many processes of one role share an area."
)
NOTHING = "No run has measured the memory of its processes."
ROLES = ("main", "worker", "program", OTHER)
PROCESSES_MAX = 6
POINTS_MAX = 120

_STATEMENT = """
    WITH told AS (
        SELECT
            run, elapsed_seconds AS seconds, pid, memory_bytes,
            CASE WHEN list_contains($roles, role) THEN role ELSE $other END AS role,
            (dense_rank() OVER (PARTITION BY run ORDER BY elapsed_seconds) - 1)::BIGINT AS place
        FROM processes
    ),
    slotted AS (
        SELECT *, place // ((max(place) OVER (PARTITION BY run) + $points) // $points) AS slot,
            sum(memory_bytes) OVER (PARTITION BY run, place) AS total
        FROM told
    ),
    highest AS (SELECT run, slot, arg_max(place, total) AS place FROM slotted GROUP BY run, slot),
    ranked AS (
        SELECT run, role, pid, row_number() OVER (PARTITION BY run, role ORDER BY max(memory_bytes) DESC, pid) AS rank,
            count(*) OVER (PARTITION BY run, role) AS n
        FROM told GROUP BY run, role, pid
    ),
    stacked AS (
        SELECT
            run, seconds, slot, role, CASE WHEN n <= $processes_max THEN pid ELSE 0 END AS pid,
            sum(memory_bytes) AS size, count(*) AS processes
        FROM slotted JOIN highest USING (run, slot, place) JOIN ranked USING (run, role, pid)
        GROUP BY ALL
    ),
    parts AS (SELECT DISTINCT run, role, pid FROM stacked)
    SELECT
        run, round(points.seconds, 6) AS seconds, role,
        CASE pid WHEN 0 THEN role ELSE role || ' ' || pid END AS process,
        list_position($roles, role) * 1e9 + pid AS place, round(coalesce(size, 0) / $mib, 3) AS mib,
        coalesce(processes, 0) AS processes
    FROM (SELECT DISTINCT run, slot, seconds FROM stacked) AS points
    JOIN parts USING (run)
    LEFT JOIN stacked USING (run, slot, role, pid)
    ORDER BY run, seconds, place
"""


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """The areas of each run's processes, or None if none was measured."""
    points = max(10, min(POINTS_MAX, share_of_rows(labels(connection)) // 8))
    parameters = {"roles": list(ROLES), "other": OTHER, "points": points, "mib": MIB, "processes_max": PROCESSES_MAX}
    found, rows = labelled(connection, _STATEMENT, parameters)
    if not rows:
        return None
    roles = [role for role in ROLES if any(row["role"] == role for row in rows)]
    areas = (
        drawing(rows)
        .transform_filter(is_chosen())
        .mark_area(stroke="white", strokeWidth=0.6, opacity=0.85)
        .encode(
            x=alt.X("seconds:Q", title="time since the start (seconds)", axis=across()),
            y=alt.Y("mib:Q", title="memory (MiB)", stack="zero", axis=upward(",.0f")),
            color=part_colour("role:N", roles),
            detail="process:N",
            order=alt.Order("place:Q"),
            tooltip=[run_tooltip(), alt.Tooltip("process:N"), alt.Tooltip("role:N")],
        )
    )
    counts = {label.text: max(row["mib"] for row in rows if row["label"] == label.text) for label in found}
    said = listing([f"{run} {number_text(mib)} MiB" for run, mib in counts.items()])
    columns = {"run": "label", "after (s)": "seconds", "process": "process", "memory (MiB)": "mib"}
    return Picture(
        chart=areas.add_params(*run_choice(found)).properties(height=LINE_PIXELS, title=run_title()),
        seen=f"Stacked areas over time, one for each process of the run that is shown; the largest process: {said}.",
        table=table(rows, columns | {"processes": "processes"}),
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
