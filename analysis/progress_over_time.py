"""How many requests were completed by when."""

import sys
from typing import TYPE_CHECKING

from analysis.amounts import seconds_text
from analysis.appearance import alt
from analysis.labels import labelled, rows_per_run
from analysis.picture import Picture, listing, table
from analysis.program import main
from analysis.shapes import across, line_per_run, run_tooltip, upward
from analysis.timed import timed_requests

if TYPE_CHECKING:
    import duckdb

TITLE = "Progress"
CAPTION = "Completed requests by the run's own time; pauses before a resume are left out. Steeper is better."
NOTHING = "No request is completed."


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """A line for each run with a completed request, or None if there is none. Of many requests, some are left out."""
    statement = """
        WITH done AS (SELECT run, ended AS seconds FROM timed WHERE state = 'completed'),
        numbered AS (
            SELECT
                *,
                row_number() OVER (PARTITION BY run ORDER BY seconds) AS completed,
                count(*) OVER (PARTITION BY run) AS n
            FROM done
        )
        SELECT run, seconds, completed
        FROM numbered
        WHERE completed = n OR completed * $rows_max // n > (completed - 1) * $rows_max // n
        UNION ALL
        SELECT DISTINCT run, 0, 0 FROM done
        ORDER BY run, completed
    """
    timed_requests(connection)
    labels, rows = labelled(connection, statement, {"rows_max": rows_per_run(connection)})
    if not rows:
        return None
    tooltip = [
        run_tooltip(),
        alt.Tooltip("completed:Q", title="completed requests", format=","),
        alt.Tooltip("seconds:Q", title="after (s)", format=",.3~f"),
    ]
    chart = line_per_run(
        labels,
        rows,
        x=alt.X("seconds:Q", title="time since the start (seconds)", axis=across()),
        y=alt.Y("completed:Q", title="completed requests", axis=upward(step_min=1)),
        tooltip=tooltip,
        interpolate="step-after",
    )
    ends = [[row for row in rows if row["label"] == label.text][-1] for label in labels]
    said = [f"{row['label']} {row['completed']:,} after {seconds_text(row['seconds'])}" for row in ends]
    return Picture(
        chart=chart,
        seen=f"A line for each run, from 0 up to what it completed: {listing(said)}.",
        table=table(rows, {"run": "label", "after (s)": "seconds", "completed requests": "completed"}),
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
