"""A sweep: the same work in several stages, over growing numbers of requests, several times each.

Here is what is decided: which cells a sweep has and in which order, and which of them are left. A cell is one stage
with one number of requests, once. Its run is an ordinary run with labels, and what is done is what the store's runs
say, so going on is the same as beginning: look, and do what is left. The acting is in `eventflow.cli.sweep`.

Invariants:
    the cells and their order follow from the plan alone, which is durable before the first run;
    a cell is done if, and only if, the store has a completed run with its labels.
"""

import contextlib
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventflow.disk import Disk
from eventflow.errors import NewerFormat, StoreError, UnknownRun, UsageError, name_of
from eventflow.log.runs import RunFolder, list_runs
from eventflow.sources import Sources, SystemSources

SIZES_MAX = 50
SIZE_MAX = 1_000_000
REPEAT_MAX = 1_000
SWEEP, REQUESTS, REPEAT, WARM_UP = "sweep", "requests", "repeat", "warm-up"
"""The labels of a sweep's runs."""

_FORMAT = 1
_SUFFIX = ".sweep.json"
_NAME_TRIES = 20
_ELLIPSIS = ("…", "...", "..")
_WARM_UP_SIZE = 20


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a sweep, as its file keeps it.

    Attributes:
        format: of the file.
        name: as a run's: `<UTC time>-<4 hex>`.
        created: ISO 8601 in UTC.
        stages: in the order in which they are shown.
        sizes: the numbers of requests, growing.
        repeat: how often each cell's kind is run.
        seed: the order within a repeat follows from it, and what the embedded origin serves.
        latency_s: the embedded origin's median latency, in seconds.
        file_size_bytes: the median size of its files.
        source: the user's list; None for the embedded origin.
        source_size: its bytes, when the sweep began.
        source_mtime_ns: when it was changed last, then.
    """

    format: int = _FORMAT
    name: str = ""
    created: str = ""
    stages: tuple[str, ...]
    sizes: tuple[int, ...]
    repeat: int
    seed: int = 1
    latency_s: float = 0.0
    file_size_bytes: int = 0
    source: str | None = None
    source_size: int = 0
    source_mtime_ns: int = 0


class Cell(NamedTuple):
    """One stage with one number of requests, for the `repeat`-th time (from 1)."""

    stage: str
    requests: int
    repeat: int


class SweepRun(msgspec.Struct, frozen=True):
    """A run of a sweep, of which its labels say what it is. Whether it was completed is another question."""

    run: str
    stage: str
    requests: int
    repeat: int

    @property
    def cell(self) -> Cell:
        """The cell that it was made for."""
        return Cell(self.stage, self.requests, self.repeat)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Numbers of requests as people write them; an ellipsis goes on as before, up to the number after it.

    As before is the first of these that comes to that number: by the same factor; by the same difference; by the same
    factors in turn; the same digits in the next decade.

    Raises:
        UsageError: it is not such a list, or does not come to the number after the ellipsis.

    >>> parse_sizes("1, 10, 100")
    (1, 10, 100)
    >>> parse_sizes("1,3,10,…,10000")
    (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
    >>> parse_sizes("1,10,...,1000"), parse_sizes("100,200,...,500"), parse_sizes("1,2,5,…,100")
    ((1, 10, 100, 1000), (100, 200, 300, 400, 500), (1, 2, 5, 10, 20, 50, 100))
    >>> parse_sizes("1,3,10,…,9000")
    Traceback (most recent call last):
        ...
    eventflow.errors.UsageError: '1,3,10,…,9000' does not come to 9000: end it with 3000 or 10000
    """
    pieces = [piece.strip() for piece in text.split(",")]
    dots = [place for place, piece in enumerate(pieces) if piece in _ELLIPSIS]
    if len(dots) > 1:
        raise UsageError(f"{name_of(text)} has more than one ellipsis", "write for example 1,3,10,…,10000")
    if not dots:
        return _growing([_size(piece, text) for piece in pieces], text)
    before = _growing([_size(piece, text) for piece in pieces[: dots[0]]], text)
    after = [_size(piece, text) for piece in pieces[dots[0] + 1 :]]
    if len(before) < 2 or not after:
        raise UsageError(
            f"{name_of(text)} does not say how it goes on",
            "put two numbers or more before the ellipsis and one behind it, for example 1,3,10,…,10000",
        )
    return _growing([*_continued(before, after[0], text), *after], text)


def cells(sweep: Sweep) -> list[Cell]:
    """All cells in the order in which they are run: whatever drifts meanwhile hits all stages alike.

    >>> plan = Sweep(stages=("serial", "loop"), sizes=(1, 10), repeat=1)
    >>> sorted(cells(plan)) == sorted(Cell(stage, size, 1) for stage in plan.stages for size in plan.sizes)
    True
    """
    made = []
    for repeat in range(1, sweep.repeat + 1):
        for size in sweep.sizes:
            stages = list(sweep.stages)
            random.Random(f"{sweep.seed} {repeat} {size}").shuffle(stages)  # noqa: S311  (to be the same on a resume)
            made += [Cell(stage, size, repeat) for stage in stages]
    return made


def cells_left(sweep: Sweep, done: Iterable[Cell]) -> list[Cell]:
    """What is still to be run, in order."""
    finished = set(done)
    return [cell for cell in cells(sweep) if cell not in finished]


def warm_up_size(sweep: Sweep) -> int:
    """How many requests a warm-up has: few, but enough to tell what one more costs."""
    return min(_WARM_UP_SIZE, sweep.sizes[-1])


def labels_of(sweep: Sweep, cell: Cell, *, is_warm_up: bool = False) -> dict[str, str]:
    """The labels that the run of a cell gets."""
    labels = {SWEEP: sweep.name, REQUESTS: str(cell.requests), REPEAT: str(cell.repeat)}
    return labels | {WARM_UP: "yes"} if is_warm_up else labels


def create_sweep(store: Path, plan: Sweep, *, sources: Sources | None = None, disk: Disk | None = None) -> Sweep:
    """The plan under a name of its own, durably in `<store>/<name>.sweep.json`.

    Raises:
        UsageError: the store cannot be made or written.
    """
    sources, disk = sources or SystemSources(), disk or Disk()
    created = datetime.fromtimestamp(sources.time_ns() / 1e9, UTC)
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.sync_folder(store.absolute().parent)
        names = (f"{created:%Y%m%d-%H%M%S}-{sources.name_suffix()[:4]}" for _ in range(_NAME_TRIES))
        name = next(name for name in names if not (store / name).exists() and not sweep_path(store, name).exists())
        sweep = msgspec.structs.replace(plan, name=name, created=created.isoformat(timespec="microseconds"))
        disk.replace_file(sweep_path(store, name), msgspec.json.format(msgspec.json.encode(sweep), indent=2) + b"\n")
    except OSError as problem:
        reason = f"the store {name_of(str(store))} cannot be written ({problem.strerror or problem})"
        raise UsageError(reason, "name another folder with --store or EVENTFLOW_STORE, or make room") from problem
    return sweep


def sweep_path(store: Path, name: str) -> Path:
    """Where the plan of a sweep is."""
    return store / f"{name}{_SUFFIX}"


def sweep_names(store: Path) -> list[str]:
    """The sweeps of a store, oldest first. A store that is not there has none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        names = [path.name for path in store.iterdir() if path.name.endswith(_SUFFIX) and path.is_file()]
        return sorted(name.removesuffix(_SUFFIX) for name in names if not name.startswith("."))
    return []


def sweep_named(store: Path, name: str) -> str | None:
    """The whole name of the sweep of that name, or whose name begins or ends so; `latest-sweep` is the newest.

    None if there is none.

    Raises:
        UnknownRun: several sweeps fit.
    """
    names = sweep_names(store)
    if name == "latest-sweep":
        return names[-1] if names else None
    fitting = [known for known in names if known == name] or [
        known for known in names if name and (known.startswith(name) or known.endswith(name))
    ]
    if len(fitting) > 1:
        raise UnknownRun(name, str(store), tuple(fitting))
    return fitting[0] if fitting else None


def sweep_asked(store: Path, name: str) -> str | None:
    """The name of the sweep that a person means who may name a run as well; None where it is a run's, as `latest` is.

    Raises:
        UnknownRun: it fits several sweeps, or a run as well as a sweep.
        UsageError: it is `latest-sweep`, and there is none.
    """
    if name == "latest":
        return None
    sweep = sweep_named(store, name)
    if name == "latest-sweep" and sweep is None:
        raise UsageError(f"there is no sweep in {name_of(str(store))}", "begin one with `eventflow sweep`")
    runs = [run.run for run in list_runs(store) if name and (run.run.startswith(name) or run.run.endswith(name))]
    if sweep is not None and runs and name != sweep:
        raise UnknownRun(name, str(store), (sweep, *runs))
    return sweep


def find_sweep(store: Path, name: str) -> Sweep | None:
    """The plan of the sweep that `sweep_named` finds.

    Raises:
        UnknownRun: several sweeps fit.
        StoreError: its plan cannot be read.
    """
    found = sweep_named(store, name)
    return None if found is None else read_sweep(store, found)


def read_sweep(store: Path, name: str) -> Sweep:
    """The plan of a sweep.

    Raises:
        StoreError: it cannot be read, or a newer eventflow wrote it.
    """
    path = sweep_path(store, name)
    try:
        sweep = msgspec.json.decode(path.read_bytes(), type=Sweep)
    except (OSError, ValueError) as problem:
        raise StoreError(f"{path} cannot be read ({problem}): restore it from a copy") from problem
    if sweep.format > _FORMAT:
        raise NewerFormat(str(path), sweep.format, _FORMAT)
    return sweep


def sweep_runs(store: Path, sweep: Sweep) -> list[SweepRun]:
    """The runs of a sweep's cells, oldest first, without its warm-ups. Some may be unfinished."""
    runs = (made for folder in list_runs(store) if (made := _as_sweep_run(folder, sweep.name)) is not None)
    return [run for run in runs if _has_cell(sweep, run.cell)]


def _has_cell(sweep: Sweep, cell: Cell) -> bool:
    return cell.stage in sweep.stages and cell.requests in sweep.sizes and 1 <= cell.repeat <= sweep.repeat


def _as_sweep_run(folder: RunFolder, sweep: str) -> SweepRun | None:
    try:
        info = folder.info()
        labels = info.labels
        if labels.get(SWEEP) != sweep or WARM_UP in labels:
            return None
        return SweepRun(folder.run, info.stage, int(labels[REQUESTS]), int(labels[REPEAT]))
    except (StoreError, KeyError, ValueError):  # a run that cannot be read, or that a person labelled, is none of ours
        return None


def _size(piece: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", piece):
        raise UsageError(f"{name_of(text)} is not a list of numbers", "write for example 1,10,100 or 1,3,10,…,10000")
    if not 1 <= int(piece) <= SIZE_MAX:
        raise UsageError(f"{piece} is no number of requests for a sweep", f"give 1 to {SIZE_MAX}")
    return int(piece)


def _growing(sizes: Sequence[int], text: str) -> tuple[int, ...]:
    if any(size >= later for size, later in pairwise(sizes)):
        raise UsageError(f"the numbers in {name_of(text)} do not grow", "give each once, the smaller ones first")
    if len(sizes) > SIZES_MAX:
        raise UsageError(f"{name_of(text)} are {len(sizes)} numbers", f"give at most {SIZES_MAX}")
    return tuple(sizes)


def _continued(before: Sequence[int], end: int, text: str) -> list[int]:
    """The numbers before `end`. The patterns that fit are tried in turn; the first that comes to `end` counts."""
    _growing([*before, end], text)
    nearest: list[int] = []
    for pattern in _patterns(before):
        made = list(before)
        while made[-1] < end and (following := pattern.after(made)) is not None:
            made.append(following)
        if made[-1] == end:
            return made[:-1]
        nearest = nearest or [size for size in made[-2:] if size > before[-1]]
    fix = f"end it with {' or '.join(map(str, nearest))}" if nearest else "write for example 1,3,10,…,10000"
    raise UsageError(f"{name_of(text)} does not come to {end}", fix)


class _Pattern(NamedTuple):
    """The next number is the one `back` places before, times `factor`, divided by `divisor`, plus `step`."""

    back: int
    factor: int
    divisor: int
    step: int = 0

    def after(self, made: Sequence[int]) -> int | None:
        """The next number; None where it is not a whole one."""
        whole, rest = divmod(made[-self.back] * self.factor, self.divisor)
        return None if rest else whole + self.step

    def fits(self, made: Sequence[int]) -> bool:
        """Whether what is there goes on like this."""
        return all(self.after(made[:place]) == made[place] for place in range(self.back, len(made)))


def _patterns(before: Sequence[int]) -> Iterator[_Pattern]:
    candidates = [
        _Pattern(1, before[1], before[0]),
        _Pattern(1, 1, 1, before[1] - before[0]),
        *(_Pattern(back, before[back], before[0]) for back in range(2, len(before))),
    ]
    if before[-1] < 10 * before[0]:
        candidates.append(_Pattern(len(before), 10, 1))
    return (candidate for candidate in candidates if candidate.fits(before))
