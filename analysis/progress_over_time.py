"""How many requests were completed by when."""

import sys
from typing import TYPE_CHECKING

from analysis.appearance import Chart, alt
from analysis.labels import labelled, rows_per_run
from analysis.program import main
from analysis.shapes import across, line_per_run, run_tooltip, upward

if TYPE_CHECKING:
    import duckdb

TITLE = "Progress"
CAPTION = "Completed requests by the run's own time; pauses before a resume are left out. Steeper is better."
NOTHING = "No request is completed."


def chart(connection: "duckdb.DuckDBPyConnection") -> Chart | None:
    """A line for each run with a completed request, or None if there is none. Of many requests, some are left out."""
    statement = """
        WITH done AS (
            SELECT run, greatest(0, worked_seconds + (epoch_ns(ended_at) - start_ns) / 1e9) AS seconds
            FROM requests JOIN log.sittings USING (run)
            WHERE requests.state = 'completed' AND epoch_ns(ended_at) BETWEEN since_ns - 999 AND until_ns - 1000
        ),
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
    labels, rows = labelled(connection, statement, {"rows_max": rows_per_run(connection)})
    if not rows:
        return None
    tooltip = [
        run_tooltip(),
        alt.Tooltip("completed:Q", title="completed requests", format=","),
        alt.Tooltip("seconds:Q", title="after (s)", format=",.3~f"),
    ]
    return line_per_run(
        labels,
        rows,
        x=alt.X("seconds:Q", title="time since the start (seconds)", axis=across()),
        y=alt.Y("completed:Q", title="completed requests", axis=upward(step_min=1)),
        tooltip=tooltip,
        interpolate="step-after",
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
