"""The report: one page that compares runs, in words, numbers and charts. It reads the log and nothing else.

Of runs with several numbers of requests, a sweep for example, the charts against that number come first, and one run of
each stage is looked into: of those of its largest number the one in the middle by time. So it is where every stage was
run several times.

Invariants:
    the page is one file, opens without a network, and is there whole or not at all;
    the same runs give the same bytes;
    what cannot be read is named, and hides nothing else.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.cards import Card, Group
    from analysis.contents import Contents
    from analysis.picture import Picture

BY_SIZE = ("speed", "memory", "scaling", "tradeoff", "explore")
BY_STAGE = ("tradeoff", "explore")
OF_RUNS = ("time_per_stage", "memory_per_stage")
IN_RUNS = (
    "progress_over_time",
    "in_flight",
    "memory_over_time",
    "memory_per_process",
    "request_durations",
    "latency_phases",
    "failures_by_cause",
    "gantt",
    "requests_over_time",
)
CHARTS = tuple(dict.fromkeys((*BY_SIZE, *OF_RUNS, *IN_RUNS)))


def write_report(store: Path, runs: Sequence[str], path: Path, sweep: str = "") -> Path:
    """Write the report of these runs, which may still be going on, and return its path.

    Args:
        store: the store.
        runs: names of runs, as `find_run` takes them.
        path: the HTML file; one that is there is replaced.
        sweep: the name of the sweep that these are the runs of.

    Raises:
        MissingExtra: the packages for charts are not installed.
        UnknownRun: no run, or more than one, has such a name.
        UsageError: none of the runs can be read, or has an event yet.
        OSError: the file cannot be written.
    """
    from analysis.contents import contents
    from analysis.front import front_page
    from analysis.page import write

    with contents(store, runs) as found:
        write(path, front_page(found, _groups(found), sweep))
    return path


def write_pictures(store: Path, runs: Sequence[str], folder: Path, form: str) -> list[Path]:
    """Write each chart of the report into a folder, as `png` or `svg`, and return the files.

    Raises:
        MissingExtra, UnknownRun, UsageError, OSError: as `write_report`.
    """
    from analysis.contents import contents
    from analysis.program import save

    with contents(store, runs) as found:
        made = [(module, picture) for module, picture in _pictures(found) if picture is not None]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for module, picture in made:
        written.append(folder / f"{module.__name__.rpartition('.')[2]}.{form}")
        save(module, picture, written[-1])
    return written


def _charts(found: "Contents") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The charts about all runs, and those about the runs that are looked into."""
    from analysis.contents import Kind

    match found.kind:
        case Kind.SIZES:
            return BY_SIZE, IN_RUNS
        case Kind.STAGES:
            return BY_STAGE, (*OF_RUNS, *IN_RUNS)
    stages = {label.stage for label in found.labels}
    return (), (*OF_RUNS, *(("tradeoff",) if len(stages) > 1 and found.are_alike else ()), *IN_RUNS)


def _pictures(found: "Contents") -> "Iterator[tuple[ModuleType, Picture | None]]":
    """The charts of a report, in order."""
    for names, connection in zip(_charts(found), (found.material.connection, found.inner), strict=True):
        for name in names:
            module = importlib.import_module(f"analysis.{name}")
            yield module, module.picture(connection)


def _groups(found: "Contents") -> "list[Group]":
    from analysis.cards import Group, card

    cards: list[Card] = [card(module, picture) for module, picture in _pictures(found)]
    count = len(_charts(found)[0])
    if not count:
        return [Group(cards)]
    said = "One run of each stage: of those with its largest number of requests, the one in the middle by time."
    return [Group(cards[:count]), Group(cards[count:], "Inside the runs", said)]
