"""Where the time of requests goes: how long each phase took, usually and at worst."""

import sys
from typing import TYPE_CHECKING

from analysis.amounts import seconds_text
from analysis.appearance import alt
from analysis.labels import labelled
from analysis.logarithmic import log_axis, log_scale
from analysis.picture import Picture, listing, table
from analysis.program import main
from analysis.shapes import drawing, faded, focus, run_tooltip, stage_colour

if TYPE_CHECKING:
    import duckdb

TITLE = "Phases of requests"
CAPTION = (
    "For each phase the middle request (dot), and from there to the slowest percent (line), on a logarithmic scale. "
    "Queue: waiting for a worker. Process: verifying, storing and the external program. Further left is better."
)
NOTHING = "No phase of a request was measured."
PHASES = ("queue", "connect", "first byte", "body", "process", "request")
SECONDS_MIN = 1e-6  # a logarithmic axis has no zero
PHASE_PIXELS = 22
RUN_PIXELS = 7


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """A line for each run in each phase, or None if nothing was measured."""
    statement = """
        SELECT
            run, phase, requests, greatest(p50_seconds, $least) AS p50, greatest(p90_seconds, $least) AS p90,
            greatest(p95_seconds, $least) AS p95, greatest(p99_seconds, $least) AS p99, max_seconds AS most
        FROM latencies
        WHERE p50_seconds IS NOT NULL
        ORDER BY run, list_position($phases, phase)
    """
    labels, rows = labelled(connection, statement, {"least": SECONDS_MIN, "phases": list(PHASES)})
    if not rows:
        return None
    phases = [phase for phase in PHASES if any(row["phase"] == phase for row in rows)]
    ends = [row[key] for row in rows for key in ("p50", "p99")]
    names = [label.text for label in labels]
    x = alt.X("p50:Q", title="seconds (log scale)", scale=log_scale(ends), axis=log_axis(ends))
    lines = drawing(rows).encode(
        y=alt.Y("phase:N", sort=phases, title=None, axis=alt.Axis(labelFontSize=13, grid=False)),
        yOffset=alt.YOffset("label:N", sort=names),
        color=stage_colour(labels, legend=True),
        opacity=faded(),
        tooltip=[
            run_tooltip(),
            alt.Tooltip("phase:N"),
            alt.Tooltip("requests:Q", format=","),
            *(alt.Tooltip(f"{key}:Q", title=f"{key[1:]} % within (s)", format=",.4~r") for key in _SHARES),
            alt.Tooltip("most:Q", title="longest (s)", format=",.4~r"),
        ],
    )
    middles = listing([f"{row['label']} {seconds_text(row['p50'])}" for row in rows if row["phase"] == "request"])
    columns = {"run": "label", "phase": "phase", "requests": "requests"}
    columns |= {f"{key[1:]} % within (s)": key for key in _SHARES}
    return Picture(
        chart=alt.layer(
            lines.mark_rule(strokeWidth=2.2).encode(x=x, x2="p99:Q"),
            lines.mark_point(filled=True, size=34, opacity=1).encode(x=x),
        )
        .add_params(focus())
        .properties(height=len(phases) * (PHASE_PIXELS + RUN_PIXELS * len(labels))),
        seen=f"Lines by phase and run; the middle request as a whole: {middles}.",
        table=table(rows, columns | {"longest (s)": "most"}),
    )


_SHARES = ("p50", "p90", "p95", "p99")


if __name__ == "__main__":
    main(sys.modules[__name__])
