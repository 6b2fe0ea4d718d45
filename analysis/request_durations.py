"""How long the requests of each run took: their distribution."""

import math
import sys
from typing import TYPE_CHECKING

from analysis.appearance import Chart, alt
from analysis.labels import labelled, rows_per_run
from analysis.program import main
from analysis.shapes import line_per_run, run_tooltip, upward

if TYPE_CHECKING:
    import duckdb

TITLE = "Duration of requests"
CAPTION = "The share of completed requests that took at most so long, on a logarithmic scale. Further left is better."
NOTHING = "No request is completed."
SECONDS_MIN = 1e-6  # a logarithmic axis has no zero
POINTS_MAX = 200


def chart(connection: "duckdb.DuckDBPyConnection") -> Chart | None:
    """A line for each run with a completed request: its empirical distribution function. None if there is none."""
    points = min(POINTS_MAX, rows_per_run(connection))
    shares = [place / (points - 1) for place in range(points)]
    statement = """
        SELECT run, unnest($shares) AS share, unnest(quantile_disc(seconds, $shares)) AS seconds
        FROM (SELECT run, greatest(seconds, $seconds_min) AS seconds FROM requests WHERE state = 'completed')
        GROUP BY run
        ORDER BY run, share
    """
    labels, rows = labelled(connection, statement, {"shares": shares, "seconds_min": SECONDS_MIN})
    if not rows:
        return None
    durations = [row["seconds"] for row in rows]
    tooltip = [
        run_tooltip(),
        alt.Tooltip("share:Q", title="share of requests", format=".1~%"),
        alt.Tooltip("seconds:Q", title="took at most (s)", format=",.4~r"),
    ]
    return line_per_run(
        labels,
        rows,
        x=alt.X(
            "seconds:Q",
            title="duration (seconds, log scale)",
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(values=log_ticks(min(durations), max(durations)), format="~r", labelOverlap="greedy"),
        ),
        y=alt.Y("share:Q", title="share of completed requests", axis=upward("%")),
        tooltip=tooltip,
    )


def log_ticks(low: float, high: float) -> list[float]:
    """Round values from `low` to `high`: 1, 2 and 5 times the powers of ten; at least one, however near the two are.

    >>> log_ticks(0.015, 0.3)
    [0.02, 0.05, 0.1, 0.2]
    """
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high] or [float(f"{low:.3g}")]


if __name__ == "__main__":
    main(sys.modules[__name__])
