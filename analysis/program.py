"""One chart as a program: `python -m analysis.time_per_stage RUN… -o time.png`.

Invariants:
    an HTML file that it writes is one of those that the report writes: it opens without a network.
"""

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from analysis.appearance import Chart, alt, theme
from analysis.page import Card, Page, embeddable, write
from eventflow.errors import EventflowError, UsageError, name_of
from eventflow.log.runs import find_run, store_path
from eventflow.log.sql import connect

if TYPE_CHECKING:
    import duckdb

WIDTH_PIXELS = 640
PNG_SCALE = 2
PNG_FONT = "sans-serif"


class ChartModule(Protocol):
    """A module with one chart: its title, a line of explanation, what to say where there is none, and `chart`."""

    TITLE: str
    CAPTION: str
    NOTHING: str

    def chart(self, connection: "duckdb.DuckDBPyConnection", /) -> Chart | None:
        """The chart of the connection's runs, None if there is nothing to show."""
        ...


def main(module: Any, arguments: list[str] | None = None) -> None:
    """Run a `ChartModule` as a program. Ends the process: status 0, or 2 with a message on standard error."""
    name = Path(module.__file__).stem
    parser = argparse.ArgumentParser(prog=f"python -m analysis.{name}", description=module.__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run's name, or part of it; `latest` is the newest")
    parser.add_argument("-o", "--out", type=Path, default=Path(f"{name}.html"), help="FILE.html, .png or .svg")
    parser.add_argument("--store", type=Path, help="the folder of runs")
    given = parser.parse_args(arguments)
    store = store_path(given.store)
    try:
        runs = [find_run(store, run).run for run in given.runs]
        draw(module, store, runs, given.out)
    except (EventflowError, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(2)
    sys.stdout.write(f"{given.out.absolute()}\n")


def draw(module: ChartModule, store: Path, runs: list[str], out: Path) -> None:
    """Write one chart to a file, whose ending says how.

    Raises:
        UsageError: there is nothing to show, or the ending is none of .html, .png and .svg.
        OSError: the file cannot be written.
    """
    with closing(connect(store, runs)) as connection:
        chart = module.chart(connection)
    if chart is None:
        raise UsageError(module.NOTHING.rstrip("."), "name other runs")
    match out.suffix.lower():
        case ".html":
            card = Card("", module.CAPTION, embeddable(chart))
            write(out, Page(title=module.TITLE, headline=module.TITLE, cards=(card,), legend=True))
        case ".png":
            picture = as_picture(module, chart)
            picture.save(str(out), format="png", scale_factor=PNG_SCALE)
        case ".svg":
            as_picture(module, chart).save(str(out), format="svg")
        case other:
            raise UsageError(f"a chart cannot be written as {name_of(other)}", "name a file .html, .png or .svg")


def as_picture(module: ChartModule, chart: Chart) -> Chart:
    """The chart with its title, a width and the light theme, as it can stand alone."""
    specification = chart.to_dict()
    specification["title"] = {"text": module.TITLE, "subtitle": module.CAPTION}
    specification["width"] = WIDTH_PIXELS
    specification["config"] = theme("light", PNG_FONT) | {"background": "white", "padding": 16}
    made = alt.Chart.from_dict(specification)
    assert isinstance(made, Chart)
    return made
