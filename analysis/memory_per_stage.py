"""The most memory that each run took at once."""

import sys
from typing import TYPE_CHECKING

from analysis.amounts import MIB, memory_text
from analysis.appearance import alt
from analysis.labels import labelled
from analysis.picture import Picture, listing, table
from analysis.program import main
from analysis.shapes import bar_per_run, run_tooltip

if TYPE_CHECKING:
    import duckdb

TITLE = "Peak memory"
CAPTION = (
    "The most memory of all processes of a run together (PSS: each shared page is counted once). Shorter is better."
)
NOTHING = "No run has measured its memory."


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """A bar for each run that was sampled, or None if there is none."""
    statement = """
        SELECT run, peak_memory_bytes / $mib AS mib, upper(memory_kind) AS kind, state, most AS processes
        FROM runs JOIN (SELECT run, max(processes) AS most FROM samples GROUP BY run) USING (run)
        WHERE peak_memory_bytes IS NOT NULL
    """
    labels, rows = labelled(connection, statement, {"mib": MIB})
    if not rows:
        return None
    for row in rows:
        row["text"] = memory_text(row["mib"] * MIB) + ("" if row["kind"] == "PSS" else f" · {row['kind']}")
    tooltip = [
        run_tooltip(),
        alt.Tooltip("mib:Q", title="peak memory (MiB)", format=",.1~f"),
        alt.Tooltip("kind:N", title="measured as"),
        alt.Tooltip("processes:Q", title="processes at most"),
    ]
    return Picture(
        chart=bar_per_run(labels, rows, field="mib", title="memory (MiB)", form=",.0f", tooltip=tooltip),
        seen="A bar for each run: " + listing([f"{row['label']} {row['text']}" for row in rows]) + ".",
        table=table(
            rows, {"run": "label", "peak memory (MiB)": "mib", "measured as": "kind", "processes at most": "processes"}
        ),
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
