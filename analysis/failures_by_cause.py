"""Why requests failed, and in which runs."""

import sys
from typing import TYPE_CHECKING

from analysis.appearance import alt
from analysis.labels import labelled
from analysis.picture import Picture, listing, table
from analysis.program import main
from analysis.shapes import across, bars_height, drawing, faded, focus, run_tooltip, stage_colour

if TYPE_CHECKING:
    import duckdb

TITLE = "Failures by cause"
CAPTION = "Requests that failed, by the kind of failure; after a resume the last outcome counts."
NOTHING = "No request failed."
CAUSES_MAX = 12
EXAMPLE_CHARACTERS_MAX = 200


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """A bar for each cause, stacked by run, or None if no request failed. The rare ones of many causes share a bar."""
    statement = """
        WITH failed AS (SELECT run, error, message FROM requests WHERE state = 'failed'),
        causes AS (
            SELECT error, row_number() OVER (ORDER BY count(*) DESC, error) AS rank FROM failed GROUP BY error
        )
        SELECT
            run,
            CASE WHEN rank <= $causes_max THEN error ELSE 'other causes' END AS cause,
            least(rank, $causes_max + 1) AS rank,
            count(*) AS requests,
            left(min(message), $characters_max) AS example
        FROM failed JOIN causes USING (error)
        GROUP BY run, cause, least(rank, $causes_max + 1)
        ORDER BY rank, run
    """
    parameters = {"causes_max": CAUSES_MAX, "characters_max": EXAMPLE_CHARACTERS_MAX}
    labels, rows = labelled(connection, statement, parameters)
    if not rows:
        return None
    order = {label.text: place for place, label in enumerate(labels)}
    values = [row | {"order": order[row["label"]]} for row in rows]
    causes = list(dict.fromkeys(row["cause"] for row in sorted(rows, key=lambda row: row["rank"])))
    bars = drawing(values).mark_bar(height={"band": 0.72}, cornerRadius=2)
    stacked = bars.encode(
        x=alt.X("requests:Q", title="failed requests", axis=across(",d", step_min=1)),
        y=alt.Y("cause:N", sort=causes, title=None, axis=alt.Axis(labelFontSize=13, grid=False)),
        color=stage_colour(labels, legend=True),
        order=alt.Order("order:Q"),
        opacity=faded(),
        tooltip=[
            run_tooltip(),
            alt.Tooltip("cause:N"),
            alt.Tooltip("requests:Q", title="failed requests", format=","),
            alt.Tooltip("example:N", title="for example"),
        ],
    )
    columns = {"run": "label", "cause": "cause", "failed requests": "requests", "for example": "example"}
    counts = [(cause, sum(row["requests"] for row in rows if row["cause"] == cause)) for cause in causes]
    return Picture(
        chart=stacked.add_params(focus()).properties(height=bars_height(len(causes))),
        seen="A bar for each cause: " + listing([f"{cause} {count:,}" for cause, count in counts]) + ".",
        table=table(rows, columns),
        wide=True,
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
