"""One chart as a program: `python -m analysis.time_per_stage RUN… -o time.png`.

Invariants:
    an HTML file that it writes is one of those that the report writes: it opens without a network.
"""

import argparse
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from analysis.appearance import Chart, alt, theme
from analysis.cards import Group, card
from analysis.material import asked_runs, open_material
from analysis.page import Page, write
from analysis.picture import Picture
from eventflow.errors import EventflowError, UsageError, name_of
from eventflow.log.runs import store_path

if TYPE_CHECKING:
    import duckdb

WIDTH_PIXELS = 640
CAPTION_CHARACTERS = 100
PNG_SCALE = 2
PNG_FONT = "sans-serif"


class ChartModule(Protocol):
    """A module with one chart: its title, a line of explanation, what to say where there is none, and `picture`."""

    TITLE: str
    CAPTION: str
    NOTHING: str

    def picture(self, connection: "duckdb.DuckDBPyConnection", /) -> Picture | None:
        """The chart of the connection's runs with its words, None if there is nothing to show."""
        ...


def main(module: Any, arguments: list[str] | None = None) -> None:
    """Run a `ChartModule` as a program. Ends the process: status 0, or 2 with a message on standard error."""
    name = Path(module.__file__).stem
    parser = argparse.ArgumentParser(prog=f"python -m analysis.{name}", description=module.__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run or sweep, by name or part of it; `latest`")
    parser.add_argument("-o", "--out", type=Path, default=Path(f"{name}.html"), help="FILE.html, .png or .svg")
    parser.add_argument("--store", type=Path, help="the folder of runs")
    given = parser.parse_args(arguments)
    store = store_path(given.store)
    try:
        runs, _ = asked_runs(store, given.runs)
        draw(module, store, runs, given.out)
    except (EventflowError, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(2)
    sys.stdout.write(f"{given.out.absolute()}\n")


def draw(module: ChartModule, store: Path, runs: list[str], out: Path) -> None:
    """Write one chart to a file, whose ending says how. A run that cannot be read is named on standard error.

    Raises:
        UsageError: no run can be read, there is nothing to show, or the ending is none of .html, .png and .svg.
        OSError: the file cannot be written.
    """
    material = open_material(store, runs)
    with closing(material.connection):
        made = module.picture(material.connection)
    for run, why in material.left_out:
        sys.stderr.write(f"{run} cannot be read and is not shown: {why}\n")
    if made is None:
        raise UsageError(module.NOTHING.rstrip("."), "name other runs")
    save(module, made, out)


def save(module: ChartModule, made: Picture, out: Path) -> None:
    """Write a chart that is made.

    Raises:
        UsageError: the file's ending is none of .html, .png and .svg.
        OSError: the file cannot be written.
    """
    match out.suffix.lower():
        case ".html":
            only = card(module, made, title="")
            write(out, Page(title=module.TITLE, headline=module.TITLE, groups=(Group((only,)),), legend=True))
        case ".png":
            _alone(module, made).save(str(out), format="png", scale_factor=PNG_SCALE)
        case ".svg":
            _alone(module, made).save(str(out), format="svg")
        case other:
            raise UsageError(f"a chart cannot be written as {name_of(other)}", "name a file .html, .png or .svg")


def _title(module: ChartModule, specification: dict[str, Any]) -> str | dict[str, str]:
    """The title of the chart, with what the chart itself says at its head: which run it shows."""
    if "title" not in specification:
        return module.TITLE
    return {"expr": f"{module.TITLE + ': '!r} + {specification['title']['text']['expr']}"}


def _alone(module: ChartModule, made: Picture) -> Chart:
    """The chart with its title, a width and the light theme, as it can stand alone."""
    specification = made.specification()
    caption = textwrap.wrap(module.CAPTION, CAPTION_CHARACTERS)
    specification["title"] = {"text": _title(module, specification), "subtitle": caption, "offset": 22}
    if "vconcat" not in specification:
        specification["width"] = WIDTH_PIXELS
    specification["config"] = theme("light", PNG_FONT) | {"background": "white", "padding": 16}
    chart = alt.Chart.from_dict(specification)
    assert isinstance(chart, Chart)
    return chart
