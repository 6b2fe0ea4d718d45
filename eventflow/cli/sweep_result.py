"""What a sweep has found: a row for each stage and number of requests, as tables and as JSON."""

import shlex
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from eventflow.cli.output import print_table, result_console
from eventflow.cli.run_facts import Facts
from eventflow.cli.stage_process import program_name
from eventflow.quantities import format_count, format_duration, format_size
from eventflow.sweep import Cell, Sweep, SweepRun, cells_left

_MEASURES = ("seconds", "requests_per_second", "peak_memory_bytes", "cpu_seconds", "energy_joules")


class Spread(msgspec.Struct, frozen=True):
    """A number over several runs."""

    median: float
    lowest: float
    highest: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A stage with a number of requests. A measure is null where no run has it.

    `runs` are those that count; `failed` are the requests that failed in them; `unfinished` are its runs that do not
    count, because they were interrupted, killed, or failed.
    """

    stage: str
    requests: int
    runs: int
    failed: int
    unfinished: int
    seconds: Spread | None
    requests_per_second: Spread | None
    peak_memory_bytes: Spread | None
    cpu_seconds: Spread | None
    energy_joules: Spread | None


class Result(msgspec.Struct, frozen=True):
    """All of a sweep, as `--json` prints it. `missing` are the cells that have no completed run yet."""

    sweep: str
    stages: Sequence[str]
    requests: Sequence[int]
    repeat: int
    complete: bool
    rows: Sequence[Row]
    missing: Sequence[dict[str, str | int]]


def is_done(facts: Facts | None, requests: int) -> bool:
    """Whether a run of a sweep counts: it came to its end, with as many requests as its label says."""
    return facts is not None and facts["state"] == "completed" and facts["requests"] == requests


def result_of(sweep: Sweep, runs: Sequence[SweepRun], facts: Mapping[str, Facts]) -> Result:
    """What the runs say."""
    done: dict[tuple[str, int], list[Facts]] = defaultdict(list)
    unfinished = Counter[tuple[str, int]]()
    cells_done = []
    for run in runs:
        if is_done(facts.get(run.run), run.requests):
            done[run.stage, run.requests].append(facts[run.run])
            cells_done.append(run.cell)
        else:
            unfinished[run.stage, run.requests] += 1
    rows = [
        _row(stage, size, done[stage, size], unfinished[stage, size]) for stage in sweep.stages for size in sweep.sizes
    ]
    left = cells_left(sweep, cells_done)
    missing: list[dict[str, str | int]] = [
        {"stage": cell.stage, "requests": cell.requests, "repeat": cell.repeat} for cell in left
    ]
    return Result(sweep.name, sweep.stages, sweep.sizes, sweep.repeat, not left, rows, missing)


def print_result(result: Result, store: Path | None) -> None:
    """Two tables, what is missing and what failed, and what to do next."""
    _print_grid(result, "median time", lambda row: format_duration(row.seconds.median) if row.seconds else "–")
    sys.stdout.write("\n")
    _print_grid(
        result,
        "median peak memory",
        lambda row: format_size(row.peak_memory_bytes.median) if row.peak_memory_bytes else "–",
    )
    console = result_console()
    failed = sum(row.failed for row in result.rows)
    if failed:
        where = ", ".join(f"{row.stage} with {row.requests}: {row.failed}" for row in result.rows if row.failed)
        console.print(f"\nfailed requests: {where}", style="red", markup=False, soft_wrap=True)
    program, option = program_name(), f" --store {shlex.quote(str(store))}" if store else ""
    console.print("\nNext:", markup=False)
    for words in (f"report {result.sweep} -o report.html", f"compare {result.sweep}"):
        console.print(f"  {program} {words}{option}", markup=False, soft_wrap=True)


def in_short(cells: Iterable[Cell], shown_max: int = 6) -> str:
    """Some cells in a line.

    >>> in_short([Cell("loop", 10, 1), Cell("loop", 10, 2), Cell("serial", 3, 1)])
    'loop with 10 requests (2 runs), serial with 3 requests (1 run)'
    """
    counted = Counter((cell.stage, cell.requests) for cell in cells)
    texts = [
        f"{stage} with {format_count(size)} request{'s' * (size != 1)} ({count} run{'s' * (count != 1)})"
        for (stage, size), count in counted.items()
    ]
    more = [f"and {len(texts) - shown_max} more"] if len(texts) > shown_max else []
    return ", ".join([*texts[:shown_max], *more])


def _row(stage: str, size: int, done: Sequence[Facts], unfinished: int) -> Row:
    spreads = {name: _spread([facts.get(name) for facts in done]) for name in _MEASURES}
    failed = sum(facts["failed"] for facts in done)
    return Row(stage=stage, requests=size, runs=len(done), failed=failed, unfinished=unfinished, **spreads)


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def _print_grid(result: Result, title: str, text: Callable[[Row], str]) -> None:
    """A table of stages by numbers of requests."""
    columns = ["stage", *map(format_count, result.requests)]
    if not sys.stdout.isatty():
        columns[0] = title
    by_place = {(row.stage, row.requests): text(row) for row in result.rows}
    rows = [[stage, *(by_place[stage, size] for size in result.requests)] for stage in result.stages]
    print_table(columns, rows, right=columns[1:], title=f"{title[0].upper()}{title[1:]}, by the number of requests")
