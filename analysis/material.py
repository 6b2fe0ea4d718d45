"""The runs of a report: which can be read, which cannot and why, and which stand for the others.

A report is often made of what is left of a bad day: a run that was killed, one whose description is broken, one from a
newer eventflow. What can be read is shown, and what cannot is named, with the reason.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from analysis.timed import keep
from eventflow.errors import EventflowError, UsageError
from eventflow.log.runs import RunFolder, RunInfo, find_run
from eventflow.log.sql import connect
from eventflow.sweep import read_sweep, sweep_asked, sweep_runs

if TYPE_CHECKING:
    import duckdb


class Material(msgspec.Struct, frozen=True):
    """What a report is made of: the connection, the runs' descriptions by name, and why others are not shown."""

    connection: "duckdb.DuckDBPyConnection"
    infos: dict[str, RunInfo]
    left_out: list[tuple[str, str]]


def open_material(store: Path, runs: Sequence[str]) -> Material:
    """Connect to those of these runs that can be read. The connection is to be closed.

    Raises:
        UsageError: none can be read.
    """
    infos, left_out = _described(store, list(dict.fromkeys(runs)))
    try:
        return Material(_connected(store, list(infos)), infos, left_out)
    except (EventflowError, OSError):
        for run in list(infos):
            if (problem := _problem(store, run)) is not None:
                del infos[run]
                left_out.append((run, problem))
    if not infos:
        raise _unreadable(left_out)
    return Material(_connected(store, list(infos)), infos, left_out)


def asked_runs(store: Path, names: Sequence[str]) -> tuple[list[str], str]:
    """The runs that are asked for, and the name of the sweep if they are asked for by that.

    Raises:
        UnknownRun: no run has such a name, nor has a sweep, or more than one has.
        UsageError: the sweep has no run yet.
        StoreError: the sweep's plan cannot be read.
    """
    runs: list[str] = []
    sweeps: list[str] = []
    for name in names:
        sweep = sweep_asked(store, name)
        if sweep is None:
            runs.append(find_run(store, name).run)
            continue
        sweeps.append(sweep)
        of_sweep = [run.run for run in sweep_runs(store, read_sweep(store, sweep))]
        if not of_sweep:
            raise UsageError(f"the sweep {sweep} has no run yet", f"go on with `eventflow sweep --resume {sweep}`")
        runs += of_sweep
    return list(dict.fromkeys(runs)), sweeps[0] if len(names) == len(sweeps) == 1 else ""


def _described(store: Path, runs: Sequence[str]) -> tuple[dict[str, RunInfo], list[tuple[str, str]]]:
    infos, left_out = dict[str, RunInfo](), list[tuple[str, str]]()
    for run in runs:
        try:
            infos[run] = RunFolder(store / run).info()
        except EventflowError as problem:
            left_out.append((run, str(problem)))
    if not infos and left_out:
        raise _unreadable(left_out)
    return infos, left_out


def _unreadable(left_out: Sequence[tuple[str, str]]) -> UsageError:
    run, why = left_out[0]
    more = f", and {len(left_out) - 1} more" if len(left_out) > 1 else ""
    return UsageError(f"there is no run that can be read ({run}{more}: {why})", "name other runs")


def _connected(store: Path, runs: Sequence[str]) -> "duckdb.DuckDBPyConnection":
    """A connection that has answered for all its runs.

    Raises:
        UsageError: there is no run.
        StoreError: a log is damaged.
    """
    import duckdb

    if not runs:
        raise UsageError("there is no run that can be read", "`eventflow verify RUN` says what is wrong with one")
    connection = connect(store, runs)
    try:
        keep(connection)
    except duckdb.Error as problem:
        connection.close()
        raise UsageError(f"the log is damaged ({str(problem).splitlines()[0]})", "see `eventflow verify`") from problem
    return connection


def _problem(store: Path, run: str) -> str | None:
    """Why a run cannot be read, or None if it can."""
    try:
        _connected(store, [run]).close()
    except (EventflowError, OSError) as problem:
        return str(problem)
    return None
