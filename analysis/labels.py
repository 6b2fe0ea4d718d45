"""What the runs of a report are called, and their rows: one name for each run, short where that is enough.

Invariants:
    two runs never have the same label; labels are in the order of the ladder, and those of one stage by the runs' age.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from analysis.appearance import DASHES, place

if TYPE_CHECKING:
    import duckdb

Row = dict[str, Any]

ROWS_MAX = 2_000
ROWS_PER_RUN_MIN = 12


class Label(msgspec.Struct, frozen=True):
    """What a run is called in charts; `dash`, the pattern of its line, tells it from other runs of its stage."""

    run: str
    stage: str
    text: str
    dash: tuple[int, ...]


def rows(
    connection: "duckdb.DuckDBPyConnection", statement: str, parameters: Mapping[str, object] | None = None
) -> list[Row]:
    """The rows of a query, as dicts by column. For queries without zoned times, which the client may not hand over."""
    return connection.sql(statement, params=parameters).to_dicts()


def labels(connection: "duckdb.DuckDBPyConnection") -> list[Label]:
    """The labels of the connection's runs, in the order in which charts show them."""
    return label_runs((row["run"], row["stage"]) for row in rows(connection, "SELECT run, stage FROM log.stages"))


def label_runs(runs: Iterable[tuple[str, str]]) -> list[Label]:
    """Labels for pairs of run and stage: the stage alone where it has one run, else with the end of the run's name.

    >>> [label.text for label in label_runs([("20260101-000000-aaaa", "loop"), ("20260101-000001-bbbb", "serial")])]
    ['serial', 'loop']
    """
    of_stage: dict[str, list[str]] = defaultdict(list)
    for run, stage in runs:
        of_stage[stage].append(run)
    found = []
    for stage in sorted(of_stage, key=place):
        for number, (run, name) in enumerate(_names(sorted(of_stage[stage]))):
            text = f"{stage} {name}" if name else stage
            found.append(Label(run, stage, text, DASHES[number % len(DASHES)]))
    return found


def labelled(
    connection: "duckdb.DuckDBPyConnection", statement: str, parameters: Mapping[str, object] | None = None
) -> tuple[list[Label], list[Row]]:
    """The rows of a query that has a column `run`, and the labels of the runs that occur in them.

    The rows get `label` and `stage` instead of `run`. They are in the order of the labels, and those of one run as the
    query gave them.
    """
    of_run: dict[str, list[Row]] = defaultdict(list)
    for row in rows(connection, statement, parameters):
        of_run[row.pop("run")].append(row)
    occurring = [label for label in labels(connection) if label.run in of_run]
    found = [row | {"label": label.text, "stage": label.stage} for label in occurring for row in of_run[label.run]]
    return occurring, found


def rows_per_run(connection: "duckdb.DuckDBPyConnection") -> int:
    """How many rows a chart may have for each run, so that all together are few enough to embed and to draw."""
    return max(ROWS_PER_RUN_MIN, ROWS_MAX // max(1, len(labels(connection))))


def _names(runs: Sequence[str]) -> list[tuple[str, str]]:
    """Each run with what tells it from the others: nothing, or the shortest end of its name that no other has."""
    if len(runs) == 1:
        return [(runs[0], "")]
    return [(run, next(end for end in _ends(run) if _is_unique(end, runs))) for run in runs]


def _ends(run: str) -> list[str]:
    """The last part of a run's name, the last two, all of it."""
    parts = run.split("-")
    return ["-".join(parts[place:]) for place in reversed(range(len(parts)))]


def _is_unique(end: str, runs: Sequence[str]) -> bool:
    return sum(end in _ends(run) for run in runs) == 1
