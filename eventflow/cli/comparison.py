"""What `eventflow compare` compares: groups of runs, their measures, and each against the baseline. Pure.

Invariants:
    a measure that a run does not have is left out, never 0;
    the answer does not depend on the order of the runs within a group, nor on the other groups.
"""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from eventflow.cli.run_facts import Facts
from eventflow.comparing import (
    Verdict,
    compare,
    draw_medians,
    draw_quantiles,
    draw_seconds,
    in_words,
    quantile,
)
from eventflow.errors import UsageError, name_of
from eventflow.quantities import format_count, format_duration, format_energy, format_size

MEDIAN, NINETY_FIFTH = 0.5, 0.95
BASELINE = "the baseline"
RUNS_ENOUGH = 6
"""With fewer runs in a group the bootstrap's intervals are known to be too narrow. All n runs of a group lie on one
side of the true median in 2/2ⁿ of all cases, and where the other group is quiet, those intervals miss the truth."""

Key = Literal[
    "seconds",
    "requests_per_second",
    "median_request_seconds",
    "p95_request_seconds",
    "peak_memory_bytes",
    "cpu_seconds_per_1000",
    "energy_joules_per_1000",
]


class Slices(msgspec.Struct, frozen=True):
    """The time from the first to the last request that a run completed, cut into slices: how many ended in each."""

    counts: Sequence[int]
    span_seconds: float


class Picked(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is compared, with what is known about it.

    Attributes:
        facts: its row of the view `runs`.
        sweep: the sweep that it was picked from, or nothing.
        quantiles: the median and the 95th percentile of its completed requests' durations.
        durations: all of them, the shortest first, where it is alone in its group.
        slices: when they ended, where it is alone and that can be said.
    """

    facts: Facts
    sweep: str = ""
    quantiles: tuple[float | None, float | None] = (None, None)
    durations: Sequence[float] = ()
    slices: Slices | None = None

    @property
    def run(self) -> str:
        """Its name."""
        return str(self.facts["run"])

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end."""
        return bool(self.facts["state"] == "completed")


class Group(msgspec.Struct, frozen=True):
    """Runs that are repetitions of one another, or one run."""

    name: str
    runs: Sequence[Picked]


class Measure(msgspec.Struct, frozen=True):
    """Something that is compared: its title, the words for less and for more of it, and how it is written."""

    key: Key
    title: str
    less: str
    more: str
    text: Callable[[float], str]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A measure of a group against the baseline's. What is null is not known."""

    measure: Key
    group: str
    runs: int
    value: float | None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Verdict | Literal["baseline"] = "unknown"
    words: str = ""


MEASURES = (
    Measure("seconds", "time", "faster", "slower", format_duration),
    Measure("requests_per_second", "requests/s", "slower", "faster", lambda value: f"{value:,.4g}"),
    Measure("median_request_seconds", "median request", "shorter", "longer", format_duration),
    Measure("p95_request_seconds", "95th percentile", "shorter", "longer", format_duration),
    Measure("peak_memory_bytes", "peak memory", "less", "more", format_size),
    Measure("cpu_seconds_per_1000", "CPU for 1 000", "less", "more", format_duration),
    Measure("energy_joules_per_1000", "energy for 1 000", "less", "more", format_energy),
)


def grouped(runs: Sequence[Picked], by: str | None) -> list[Group]:
    """The runs in groups, in the order in which they come.

    Args:
        runs: each once.
        by: `run`, `stage`, or the name of a label. None: by stage where several runs have the same stage and there is
            more than one, else by run.

    Raises:
        UsageError: a run has no such label.
    """
    stages = [run.facts["stage"] for run in runs]
    if by is None:
        by = "stage" if 1 < len(set(stages)) < len(stages) else "run"
    several = len({run.sweep for run in runs if run.sweep}) > 1
    found: dict[str, list[Picked]] = defaultdict(list)
    for run in runs:
        name = _group_of(run, by, is_of_several=several)
        found[run.run if by == "run" and name in found else name].append(run)
    return [Group(name, members) for name, members in found.items()]


def with_baseline(groups: Sequence[Group], baseline: str | None) -> list[Group]:
    """The groups, the baseline first: the group of that name, or with that run in it; None for the first.

    Raises:
        UsageError: there is none, or nothing to compare it with.
    """
    if len(groups) < 2:
        raise UsageError(
            f"there is only {groups[0].name if groups else 'nothing'}: nothing to compare",
            "name two runs or more, or a sweep with two stages or more",
        )
    if baseline is None:
        return list(groups)
    chosen = [group for group in groups if group.name == baseline] or [
        group for group in groups if any(baseline and run.run.endswith(baseline) for run in group.runs)
    ]
    if len(chosen) != 1:
        names = ", ".join(group.name for group in groups)
        raise UsageError(f"{name_of(baseline)} is none of what is compared", f"name one of {names}")
    return [chosen[0], *(group for group in groups if group is not chosen[0])]


def lines_of(groups: Sequence[Group]) -> list[Line]:
    """All measures of all groups against the first. Times only where all had the same to do."""
    measures = MEASURES if len(_sizes(groups)) == 1 else MEASURES[1:]
    return [line for measure in measures for line in _lines(measure, groups)]


def notes_of(groups: Sequence[Group]) -> list[str]:
    """What a reader of the numbers has to know."""
    runs = [run for group in groups for run in group.runs]
    sizes = _sizes(groups)
    notes = []
    if len(sizes) > 1:
        notes.append(f"the runs had {_listed(sizes)} requests: rates are compared, not times")
    notes += [
        f"{run.run} ({run.facts['stage']}) is {run.facts['state']}: its time is not compared"
        for run in runs
        if not run.is_finished
    ]
    failed = [f"{group.name} {sum(run.facts['failed'] for run in group.runs)}" for group in groups if _failed(group)]
    if failed:
        notes.append(f"requests failed ({', '.join(failed)}): durations are those of the completed ones")
    without = [run.run for run in runs if run.facts["peak_memory_bytes"] is None]
    if without:
        notes.append(f"without samples, so without memory, CPU and energy: {', '.join(without)}")
    counts = [len(group.runs) for group in groups]
    if 1 in counts:
        notes.append(
            "of a single run the interval tells how sure its own number is, not how another run would differ; of its "
            "memory, CPU and energy nothing is known: repeat it, for example with `eventflow sweep`"
        )
    if any(1 < count < RUNS_ENOUGH for count in counts):
        notes.append(
            f"with fewer than {RUNS_ENOUGH} runs in a group the intervals are too narrow: "
            "where one group is much noisier than the other they hold the truth in as few as half of all cases "
            "with two runs, three of four with three, seven of eight with four"
        )
    if any(run.facts.get("energy_kind") == "modelled" for run in runs):
        notes.append("energy is modelled from CPU time and duration, not measured")
    return notes


def is_alone(group: Group) -> bool:
    """Whether nothing but the run itself can tell how sure its numbers are."""
    return len(group.runs) == 1


def _group_of(run: Picked, by: str, *, is_of_several: bool) -> str:
    short = f" {run.sweep[-4:]}" if is_of_several and run.sweep else ""
    if by == "run":
        return f"{run.facts['stage']} {run.run[-4:]}"
    if by == "stage":
        return f"{run.facts['stage']}{short}"
    labels = run.facts.get("labels") or {}
    if by not in labels:
        raise UsageError(f"the run {run.run} has no label {name_of(by)}", "group --by run or stage")
    return f"{by}={labels[by]}{short}"


def _lines(measure: Measure, groups: Sequence[Group]) -> Iterable[Line]:
    baseline, *others = groups
    base = _value(measure.key, baseline)
    base_draws = _draws(measure.key, baseline)
    yield Line(
        measure=measure.key,
        group=baseline.name,
        runs=len(baseline.runs),
        value=base,
        verdict="baseline",
        words=BASELINE,
    )
    for group in others:
        value = _value(measure.key, group)
        known = None if value is None or base is None else compare(value, base, _draws(measure.key, group), base_draws)
        line = Line(measure=measure.key, group=group.name, runs=len(group.runs), value=value)
        if known is not None:
            line = msgspec.structs.replace(
                line,
                ratio=known.value,
                low=known.low,
                high=known.high,
                verdict=known.verdict,
                words=in_words(known, measure.less, measure.more),
            )
        yield line


def _value(key: Key, group: Group) -> float | None:
    values = _values(key, group)
    return statistics.median(values) if values else None


def _values(key: Key, group: Group) -> list[float]:
    return [value for run in group.runs if (value := _of_run(key, run)) is not None]


def _of_run(key: Key, run: Picked) -> float | None:
    facts, completed = run.facts, run.facts["completed"]
    match key:
        case "seconds":
            return _number(facts, "seconds") if run.is_finished else None
        case "requests_per_second":
            return _number(facts, "requests_per_second") if completed else None
        case "median_request_seconds":
            return run.quantiles[0]
        case "p95_request_seconds":
            return run.quantiles[1]
        case "peak_memory_bytes":
            return _number(facts, "peak_memory_bytes")
        case "cpu_seconds_per_1000":
            return _per_1000(_number(facts, "cpu_seconds"), completed)
        case "energy_joules_per_1000":
            return _per_1000(_number(facts, "energy_joules"), completed)


def _number(facts: Facts, column: str) -> float | None:
    value = facts.get(column)
    return None if value is None else float(value)


def _per_1000(value: float | None, completed: int) -> float | None:
    return 1000 * value / completed if value is not None and completed else None


def _draws(key: Key, group: Group) -> list[float] | None:
    """The bootstrap distribution of a measure, from a generator that the runs' names seed."""
    chance = random.Random(f"{key} {sorted(run.run for run in group.runs)}")  # noqa: S311  (to be the same each time)
    if not is_alone(group):
        return draw_medians(sorted(_values(key, group)), chance)
    run = group.runs[0]
    match key:
        case "median_request_seconds":
            return draw_quantiles(run.durations, MEDIAN, chance)
        case "p95_request_seconds":
            return draw_quantiles(run.durations, NINETY_FIFTH, chance)
        case "seconds" | "requests_per_second" if run.slices is not None:
            slices, seconds = run.slices, run.facts["seconds"]
            drawn = draw_seconds(slices.counts, slices.span_seconds, max(0.0, seconds - slices.span_seconds), chance)
            return drawn if key == "seconds" else [run.facts["completed"] / each for each in drawn]
        case _:
            return None


def quantiles_of(durations: Sequence[float]) -> tuple[float | None, float | None]:
    """The median and the 95th percentile of durations in order; None of none."""
    if not durations:
        return None, None
    return quantile(durations, MEDIAN), quantile(durations, NINETY_FIFTH)


def _sizes(groups: Sequence[Group]) -> list[int]:
    """How many requests the runs had; of an unfinished one that is not known."""
    return sorted({run.facts["requests"] for group in groups for run in group.runs if run.is_finished})


def _failed(group: Group) -> bool:
    return any(run.facts["failed"] for run in group.runs)


def _listed(sizes: Sequence[int]) -> str:
    *first, last = map(format_count, sizes)
    return f"{', '.join(first)} and {last}" if len(sizes) <= 4 else f"{first[0]} to {last}"


def ratio_text(line: Line) -> str:
    """A ratio with its interval.

    >>> ratio_text(Line(measure="seconds", group="loop", runs=1, value=1.0, ratio=0.44, low=0.42, high=0.481))
    '0.44 (0.42–0.481)'
    """
    if line.ratio is None or math.isnan(line.ratio):
        return "" if line.verdict == "baseline" else "–"
    if line.low is None or line.high is None:
        return f"{line.ratio:.3g}"
    return f"{line.ratio:.3g} ({line.low:.3g}–{line.high:.3g})"
