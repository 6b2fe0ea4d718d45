"""What a report is about: its runs, those that are looked into, and the rows of its table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from analysis.labels import Label, Row, labelled
from analysis.material import Material, open_material
from analysis.sizes import representatives, sized, typical
from analysis.summary import RUNS
from eventflow.errors import UsageError
from eventflow.log.runs import RunInfo, find_run
from eventflow.sweep import SWEEP

if TYPE_CHECKING:
    import duckdb


REPEATS_MIN = 3
OF_ONE_RUN = frozenset({"out", "source", "source_size", "source_mtime_ns"})
"""The settings in which runs of one kind differ."""


class Kind(Enum):
    """What is compared: runs; stages, each with several runs of the same size; or stages over several sizes.

    Stages are compared only where all runs of each did the same thing: where they are of one sweep, or had the same
    settings. Runs with 2 and with 64 workers are no repeats of one another.
    """

    RUNS = "runs"
    STAGES = "stages"
    SIZES = "sizes"


class Contents(NamedTuple):
    """The runs, and a connection to those that are looked into: all of them, or one of each stage.

    `labels` and `rows` are those of the table: of runs, or of stages where those are what is compared. `are_alike`: all
    runs of each stage were done in the same way. `ways`: the same text for runs that were.
    """

    material: Material
    inner: "duckdb.DuckDBPyConnection"
    labels: list[Label]
    rows: list[Row]
    kind: Kind
    are_alike: bool
    ways: dict[str, str]


@contextmanager
def contents(store: Path, runs: Sequence[str]) -> Iterator[Contents]:
    """What these runs have to show, while the context is open.

    Raises:
        UnknownRun: no run, or more than one, has such a name.
        UsageError: none of the runs can be read, or has an event yet.
    """
    material = open_material(store, [find_run(store, run).run for run in runs])
    opened = [material.connection]
    try:
        stages, by_stage = sized(material.connection)
        ways = _ways(material)
        are_alike = len({(row["stage"], ways[row["run"]]) for row in by_stage}) == len(stages)
        kind = _kind(by_stage, len(stages)) if are_alike else Kind.RUNS
        if kind is Kind.RUNS:
            found = Contents(material, material.connection, *labelled(material.connection, RUNS), kind, are_alike, ways)
        else:
            opened.append(open_material(store, representatives(by_stage)).connection)
            found = Contents(material, opened[-1], stages, typical(by_stage), kind, are_alike, ways)
        if not found.rows:
            raise UsageError("there is no event to report on yet", "try again when a run has begun")
        yield found
    finally:
        for connection in opened:
            connection.close()


def _kind(whole: Sequence[Row], stages: int) -> Kind:
    """What runs that came to their end are good for."""
    if len({row["size"] for row in whole}) > 1:
        return Kind.SIZES
    return Kind.STAGES if stages > 1 and len(whole) >= REPEATS_MIN * stages else Kind.RUNS


def _ways(material: Material) -> dict[str, str]:
    """By run, how it was done: in what sweep, or with what settings and with which servers in its list.

    What it read and where it wrote does not matter, nor what the servers of a sweep are called.
    """
    asked: dict[str, list[str]] = {run: [] for run in material.infos}
    if sum(not info.labels.get(SWEEP) for info in material.infos.values()) > 1:
        servers = "SELECT DISTINCT run, regexp_extract(url, '^[^/]*//([^/?#]*)', 1) FROM requests ORDER BY ALL"
        for run, server in material.connection.sql(servers).fetchall():
            asked[run].append(server)
    return {run: _way(info, asked[run]) for run, info in material.infos.items()}


def _way(info: RunInfo, servers: Sequence[str]) -> str:
    if sweep := info.labels.get(SWEEP):
        return sweep
    settings = {name: value for name, value in info.settings.items() if name not in OF_ONE_RUN}
    return msgspec.json.encode([settings, servers], order="deterministic").decode()
