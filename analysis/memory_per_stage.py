"""The most memory that each run took at once."""

import sys
from typing import TYPE_CHECKING

from analysis.amounts import MIB, memory_text
from analysis.appearance import Chart, alt
from analysis.labels import labelled
from analysis.program import main
from analysis.shapes import bar_per_run, run_tooltip

if TYPE_CHECKING:
    import duckdb

TITLE = "Peak memory"
CAPTION = (
    "The most memory of all processes of a run together in one sample (PSS: each shared page is counted once). "
    "Shorter is better."
)
NOTHING = "No run has measured its memory."


def chart(connection: "duckdb.DuckDBPyConnection") -> Chart | None:
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
    return bar_per_run(labels, rows, field="mib", title="memory (MiB)", form=",.0f", tooltip=tooltip)


if __name__ == "__main__":
    main(sys.modules[__name__])
