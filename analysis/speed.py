"""How fast each stage is, against the number of requests."""

import sys
from typing import TYPE_CHECKING

from analysis.against_size import against_size
from analysis.picture import Picture
from analysis.program import main
from analysis.sizes import sized

if TYPE_CHECKING:
    import duckdb

TITLE = "Speed against number of requests"
CAPTION = (
    "Each dot is a run from start to finish; the line goes through the medians of a stage, the band from its slowest "
    "run to its fastest. Both axes are logarithmic."
)
NOTHING = "No run has come to its end."


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """Requests per second, or the time, of every run, or None if none is completed."""
    labels, rows = sized(connection)
    if not rows:
        return None
    return against_size(labels, rows, {"requests per second": "rate", "time (seconds)": "seconds"})


if __name__ == "__main__":
    main(sys.modules[__name__])
