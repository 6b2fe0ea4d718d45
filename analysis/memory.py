"""How much memory each stage takes, against the number of requests."""

import sys
from typing import TYPE_CHECKING

from analysis.against_size import against_size
from analysis.picture import Picture
from analysis.program import main
from analysis.sizes import sized

if TYPE_CHECKING:
    import duckdb

TITLE = "Memory against number of requests"
CAPTION = (
    "Each dot is the most memory that all processes of a run took at once; the line goes through the medians of a "
    "stage, the band from its lowest to its highest. Both axes are logarithmic."
)
NOTHING = "No run that came to its end has measured its memory."


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """The peak memory of every run, or None if none was measured."""
    labels, rows = sized(connection)
    measured = [row for row in rows if row["mib"]]
    if not measured:
        return None
    stages = {row["stage"] for row in measured}
    return against_size([label for label in labels if label.stage in stages], measured, {"peak memory (MiB)": "mib"})


if __name__ == "__main__":
    main(sys.modules[__name__])
