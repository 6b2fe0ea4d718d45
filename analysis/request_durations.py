"""How long the requests of each run took: their distribution."""

import sys
from typing import TYPE_CHECKING

from analysis.amounts import seconds_text
from analysis.appearance import alt
from analysis.labels import labelled, rows_per_run
from analysis.logarithmic import log_ticks
from analysis.picture import Columns, Picture, listing, table
from analysis.program import main
from analysis.shapes import line_per_run, run_tooltip, upward

if TYPE_CHECKING:
    import duckdb

TITLE = "Duration of requests"
CAPTION = "The share of completed requests that took at most so long, on a logarithmic scale. Further left is better."
NOTHING = "No request is completed."
SECONDS_MIN = 1e-6  # a logarithmic axis has no zero
POINTS_MAX = 200


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
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
    chart = line_per_run(
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
    middles = [
        min((row for row in rows if row["label"] == label.text), key=lambda row: abs(row["share"] - 0.5))
        for label in labels
    ]
    said = [f"{row['label']} {seconds_text(row['seconds'])}" for row in middles]
    columns: Columns = {
        "run": "label",
        "share of requests": lambda row: f"{row['share']:.1%}",
        "took at most (s)": "seconds",
    }
    return Picture(
        chart=chart,
        seen=f"A line for each run, from its shortest request to its longest; the middle: {listing(said)}.",
        table=table(rows, columns),
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
