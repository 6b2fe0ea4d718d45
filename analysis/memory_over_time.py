"""How much memory each run took, from its start to its end."""

import sys
from typing import TYPE_CHECKING

from analysis.amounts import MIB, number_text
from analysis.appearance import alt
from analysis.labels import labelled, rows_per_run
from analysis.picture import Picture, listing, table
from analysis.program import main
from analysis.shapes import across, line_per_run, run_tooltip, upward

if TYPE_CHECKING:
    import duckdb

TITLE = "Memory over time"
CAPTION = (
    "All processes of a run together, with the peaks between samples as the kernel noted them. Of a long run, the "
    "highest of several samples is shown, so that no peak is lost."
)
NOTHING = "No run has measured its memory."


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """A line for each run that was sampled, or None if there is none."""
    statement = """
        WITH numbered AS (
            SELECT
                *,
                row_number() OVER (PARTITION BY run ORDER BY elapsed_seconds) - 1 AS place,
                count(*) OVER (PARTITION BY run) AS n
            FROM samples
        )
        SELECT
            run, arg_max(elapsed_seconds, peak_bytes) AS seconds, max(peak_bytes) / $mib AS mib,
            arg_max(processes, peak_bytes) AS processes
        FROM numbered
        GROUP BY run, place // ((n + $rows_max - 1) // $rows_max)
        ORDER BY run, seconds
    """
    labels, rows = labelled(connection, statement, {"mib": MIB, "rows_max": rows_per_run(connection)})
    if not rows:
        return None
    tooltip = [
        run_tooltip(),
        alt.Tooltip("mib:Q", title="memory (MiB)", format=",.1~f"),
        alt.Tooltip("processes:Q", title="processes"),
        alt.Tooltip("seconds:Q", title="after (s)", format=",.3~f"),
    ]
    chart = line_per_run(
        labels,
        rows,
        x=alt.X("seconds:Q", title="time since the start (seconds)", axis=across()),
        y=alt.Y("mib:Q", title="memory (MiB)", scale=alt.Scale(zero=True), axis=upward(",.0f")),
        tooltip=tooltip,
    )
    peaks = {label.text: max(row["mib"] for row in rows if row["label"] == label.text) for label in labels}
    return Picture(
        chart=chart,
        seen="A line for each run; the highest points: "
        + listing([f"{run} {number_text(mib)} MiB" for run, mib in peaks.items()])
        + ".",
        table=table(rows, {"run": "label", "after (s)": "seconds", "memory (MiB)": "mib", "processes": "processes"}),
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
