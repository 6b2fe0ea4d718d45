"""How long each run took from start to finish."""

import sys
from typing import TYPE_CHECKING

from analysis.amounts import seconds_text
from analysis.appearance import alt
from analysis.labels import labelled
from analysis.picture import Picture, listing, table
from analysis.program import main
from analysis.shapes import bar_per_run, run_tooltip

if TYPE_CHECKING:
    import duckdb

TITLE = "Time from start to finish"
CAPTION = "Everything counts: starting processes, downloading, checking and storing. Shorter is better."
NOTHING = "No run has begun."


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """A bar for each run, or None if there is none."""
    statement = "SELECT run, seconds, state, completed, requests, requests_per_second AS rate FROM runs"
    labels, rows = labelled(connection, statement)
    if not rows:
        return None
    for row in rows:
        row["text"] = seconds_text(row["seconds"]) + ("" if row["state"] == "completed" else f" · {row['state']}")
    tooltip = [
        run_tooltip(),
        alt.Tooltip("seconds:Q", title="time (s)", format=",.3~f"),
        alt.Tooltip("rate:Q", title="completed requests per second", format=",.1~f"),
        alt.Tooltip("completed:Q", title="completed", format=","),
        alt.Tooltip("requests:Q", title="requests", format=","),
        alt.Tooltip("state:N"),
    ]
    columns = {"run": "label", "time (s)": "seconds", "requests per second": "rate", "completed": "completed"}
    return Picture(
        chart=bar_per_run(labels, rows, field="seconds", title="time (seconds)", form="~r", tooltip=tooltip),
        seen="A bar for each run: " + listing([f"{row['label']} {row['text']}" for row in rows]) + ".",
        table=table(rows, columns | {"requests": "requests", "state": "state"}),
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
