"""`eventflow compare`: runs, or the stages of a sweep, side by side, and how sure it is that they differ."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer

from eventflow.cli.options import JsonOption, StoreOption
from eventflow.cli.output import print_json, print_table, result_console, status_console, table
from eventflow.errors import StoreError, UsageError
from eventflow.log.runs import find_run, store_path
from eventflow.quantities import format_count
from eventflow.sweep import Sweep, SweepRun, read_sweep, sweep_asked, sweep_runs

if TYPE_CHECKING:
    from eventflow.cli.comparison import Group, Line, Picked, Slices

_PAUSE_SECONDS = 0.5  # a run that took this much longer by the clock than its sittings together has been resumed

_ENDED = """
SELECT run, list(seconds ORDER BY seconds), list(epoch_ns(ended_at) ORDER BY ended_at)
FROM requests
WHERE state = 'completed'
GROUP BY run
"""
_WIDTH_ALL, _WIDTH_MOST = 116, 104
"""On a narrower terminal the number of runs is left out of the table, then the ratios, which the words say too."""


class _Named(NamedTuple):
    """A run that was asked for, and the sweep that it was picked from, or nothing."""

    run: str
    sweep: str = ""


def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN|SWEEP...", help="Runs, or sweeps, by their names.")],
    requests: Annotated[
        int | None, typer.Option(min=1, help="Of a sweep: the number of requests. Default: its largest.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="run|stage|LABEL", help="Which runs are repetitions of one another: by run means none."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the others are compared with. Default: the first.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Compare runs: time, rate, request durations, memory, CPU and energy, with 95 % intervals, and in words.

    Several runs of the same stage are repetitions of one another where there is more than one stage. What differs by
    no more than chance is said to be no difference.

    Example: eventflow compare latest-sweep --requests 100

    Example: eventflow compare 14af c0de --baseline c0de
    """
    from eventflow.cli.comparison import grouped, lines_of, notes_of, with_baseline

    folder = store_path(store)
    named, notes = _named(folder, names, requests)
    picked, more = _read(folder, named)
    groups = with_baseline([_finished(group) for group in grouped(picked, by)], baseline)
    left_out = len(picked) - sum(len(group.runs) for group in groups)
    if left_out:
        more.append(f"{left_out} unfinished runs are left out")
    groups = _with_requests(folder, groups)
    lines = lines_of(groups)
    notes += [*more, *notes_of(groups)]
    if json:
        print_json({"baseline": groups[0].name, "groups": _listed(groups), "measures": lines, "notes": notes})
    else:
        _print(lines, notes, groups[0].name)


def _named(store: Path, names: Sequence[str], requests: int | None) -> tuple[list[_Named], list[str]]:
    """The runs that the names stand for, each once, and what is to be said about the choice."""
    found: list[_Named] = []
    notes: list[str] = []
    is_sweep_named = False
    for name in names:
        asked = sweep_asked(store, name)
        if asked is None:
            run = find_run(store, name).run
            if any(known.run == run for known in found):
                raise UsageError(f"the run {run} is named twice", "name each run once")
            found.append(_Named(run))
            continue
        is_sweep_named, sweep = True, read_sweep(store, asked)
        size, runs, note = _of_sweep(store, sweep, requests)
        notes.append(f"sweep {sweep.name}: {format_count(size)} request{'s' * (size != 1)}{note}")
        known = {one.run for one in found}
        found += [_Named(run.run, sweep.name) for run in runs if run.run not in known]
    if requests is not None and not is_sweep_named:
        raise UsageError("--requests chooses among a sweep's runs, and no sweep is named", "leave it out")
    return found, notes


def _of_sweep(store: Path, sweep: Sweep, requests: int | None) -> tuple[int, list[SweepRun], str]:
    """The runs of a sweep with one number of requests, in the order of its stages: its largest that has any."""
    if requests is not None and requests not in sweep.sizes:
        sizes = ", ".join(map(str, sweep.sizes))
        raise UsageError(f"the sweep {sweep.name} has no runs of {requests} requests", f"choose one of {sizes}")
    from eventflow.cli.run_facts import run_facts
    from eventflow.cli.sweep_result import is_done

    for size in [requests] if requests is not None else sorted(sweep.sizes, reverse=True):
        runs = [run for run in sweep_runs(store, sweep) if run.requests == size]
        facts, _ = run_facts(store, [run.run for run in runs])
        runs = [run for run in runs if is_done(facts.get(run.run), run.requests)]
        missing = [stage for stage in sweep.stages if stage not in {run.stage for run in runs}]
        if runs:
            note = f"; not yet run: {', '.join(missing)}" if missing else ""
            return size, sorted(runs, key=lambda run: (sweep.stages.index(run.stage), run.run)), note
    raise UsageError(
        f"the sweep {sweep.name} has no completed run" + (f" of {requests} requests" if requests else ""),
        f"go on with `eventflow sweep --resume {sweep.name}`",
    )


def _read(store: Path, named: Sequence[_Named]) -> "tuple[list[Picked], list[str]]":
    """What is known about the runs; those that never began are left out, and that is said.

    Raises:
        StoreError: the log of one of them is damaged.
    """
    from eventflow.cli.comparison import Picked
    from eventflow.cli.run_facts import run_facts

    facts, problems = run_facts(store, [one.run for one in named])
    for run, problem in problems.items():
        raise StoreError(f"{run} cannot be compared: {problem}")
    notes = [f"{one.run} is left out, since nothing has happened in it" for one in named if one.run not in facts]
    return [Picked(facts=facts[one.run], sweep=one.sweep) for one in named if one.run in facts], notes


def _finished(group: "Group") -> "Group":
    """The group without its unfinished runs, if that leaves any."""
    finished = [run for run in group.runs if run.is_finished]
    return msgspec.structs.replace(group, runs=finished or group.runs[-1:])


def _with_requests(store: Path, groups: "Sequence[Group]") -> "list[Group]":
    """The groups with what their runs' requests tell: one look at the requests of all of them."""
    from eventflow.cli.comparison import is_alone
    from eventflow.log.sql import connect, query

    runs = [run.run for group in groups for run in group.runs]
    with contextlib.closing(connect(store, runs)) as connection:
        ended = {run: (durations, times) for run, durations, times in query(connection, _ENDED)}
    return [
        msgspec.structs.replace(
            group, runs=[_with_durations(run, *ended.get(run.run, ([], [])), is_alone(group)) for run in group.runs]
        )
        for group in groups
    ]


def _with_durations(run: "Picked", durations: Sequence[float], times_ns: Sequence[int], is_alone: bool) -> "Picked":
    """The run with its quantiles; where it is alone, with all that can tell how sure its numbers are."""
    from eventflow.cli.comparison import quantiles_of

    run = msgspec.structs.replace(run, quantiles=quantiles_of(durations))
    return msgspec.structs.replace(run, durations=durations, slices=_slices(run, times_ns)) if is_alone else run


def _slices(run: "Picked", times_ns: Sequence[int]) -> "Slices | None":
    """When the requests ended. None where there are too few, or where the run was not one stretch of time."""
    from eventflow.cli.comparison import Slices
    from eventflow.comparing import slices_for

    count = slices_for(len(times_ns))
    if count is None or (span_ns := times_ns[-1] - times_ns[0]) <= 0:
        return None
    if span_ns / 1e9 > run.facts["seconds"] + _PAUSE_SECONDS:
        return None
    counts = [0] * count
    for moment in times_ns:
        counts[min(count - 1, (moment - times_ns[0]) * count // span_ns)] += 1
    return Slices(counts, span_ns / 1e9)


def _listed(groups: "Sequence[Group]") -> list[dict[str, object]]:
    return [
        {"group": group.name, "stage": group.runs[0].facts["stage"], "runs": [run.run for run in group.runs]}
        for group in groups
    ]


def _print(lines: "Sequence[Line]", notes: Sequence[str], baseline: str) -> None:
    from eventflow.cli.comparison import MEASURES, ratio_text

    titles = {measure.key: measure for measure in MEASURES}
    columns = ("measure", "of", "runs", "value", f"× {baseline} (95 %)", "in words")
    rows = [
        (
            titles[line.measure].title,
            line.group,
            format_count(line.runs),
            "–" if line.value is None else titles[line.measure].text(line.value),
            ratio_text(line),
            line.words,
        )
        for line in lines
    ]
    if sys.stdout.isatty():
        _print_framed(columns, rows)
    else:
        print_table(columns, rows)
    for note in notes:
        status_console().print(note, style="dim", markup=False, soft_wrap=True)


def _print_framed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """On a terminal each measure is named once. Where it is narrow, the words have to do."""
    from eventflow.cli.comparison import BASELINE

    console = result_console()
    left_out = [name for name, width in ((columns[2], _WIDTH_ALL), (columns[4], _WIDTH_MOST)) if console.width < width]
    kept = [place for place, name in enumerate(columns) if name not in left_out]
    shown = [(row[0] if row[-1] == BASELINE else "", *row[1:]) for row in rows]
    framed = table(
        [columns[place] for place in kept], [[row[place] for place in kept] for row in shown], right=columns[2:5]
    )
    for made, following in zip(framed.rows, rows[1:], strict=False):
        made.end_section = following[-1] == BASELINE
    console.print(framed)
