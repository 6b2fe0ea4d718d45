"""The numbers of some runs, from the view `runs`: a damaged run hides none of the others."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventflow.errors import EventflowError
from eventflow.log.sql import connect, query

Facts = dict[str, Any]
"""The columns of the view `runs`."""


def run_facts(store: Path, runs: Sequence[str]) -> tuple[dict[str, Facts], dict[str, str]]:
    """The numbers of each run that has begun, by its name; and what is wrong with those that cannot be read."""
    if not runs:
        return {}, {}
    try:
        return _ask(store, runs), {}
    except EventflowError:
        pass
    found: dict[str, Facts] = {}
    problems: dict[str, str] = {}
    for run in runs:
        try:
            found |= _ask(store, [run])
        except EventflowError as problem:
            problems[run] = str(problem)
    return found, problems


def _ask(store: Path, runs: Sequence[str]) -> dict[str, Facts]:
    with contextlib.closing(connect(store, runs)) as connection:
        return {row["run"]: row for row in query(connection, "FROM runs").records()}
