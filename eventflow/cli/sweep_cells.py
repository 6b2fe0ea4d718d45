"""Running the cells of a sweep: one at a time, each in a process of its own, ended in order by the first Ctrl-C.

Invariants:
    no run outlives the sweep: on Linux it is killed with it, and wherever there is one left, the next sitting waits;
    a cell leaves nothing behind but its run in the store.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import msgspec

from eventflow.cli.stage_process import PROGRAM, read_summary, run_command
from eventflow.errors import StoreError
from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings
from eventflow.request import first_lines
from eventflow.sweep import Cell, Sweep, labels_of, warm_up_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stages.running import Summary

SEALED_SIZE_MIN = 1_000
"""The runs of so many requests or more are sealed at once: a sweep to 10 000 would take gigabytes otherwise."""

_LOOK_SECONDS = 0.25
_SPREAD = 0.3
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here, since after a fork little may be done


class Outcome(msgspec.Struct, frozen=True):
    """What became of a cell: what its run said, why it does not count (empty where it does), and how long all took."""

    summary: "Summary | None"
    problem: str = ""
    seconds: float = 0.0


class Stopping:
    """While it is entered, the first SIGINT or SIGTERM ends the process that runs in order, the next one kills it.

    Where no process runs, it is a KeyboardInterrupt. Enter it in the main thread.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._process: subprocess.Popen[bytes] | None = None
        self._is_waiting = False
        self._before: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}

    @contextmanager
    def running(self, command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
        """The process of a command. When the block is left it has ended."""
        self._is_waiting = True  # from here on a signal is not raised but remembered
        try:
            with _start(command) as process:
                self._process = process
                if self.is_asked:
                    process.terminate()
                try:
                    yield process
                except BaseException:
                    self._kill()
                    raise
        finally:
            self._process, self._is_waiting = None, False

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if not self._is_waiting:
            self.is_asked = True
            raise KeyboardInterrupt
        if self._process is not None:
            self._kill() if self.is_asked else self._process.terminate()
        self.is_asked = True

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.getsignal(number)
            if self._before[number] is not signal.SIG_IGN:
                signal.signal(number, self._receive)
        return self

    def __exit__(self, _kind: object, _error: BaseException | None, _trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


class Workshop:
    """Where cells are run: the lists of requests, and a folder for the files, which is emptied after each.

    Args:
        store: the store.
        sweep: the plan.
        folder: an empty folder of its own.
        stopping: who is told of the process that runs.
        reset: called before each cell.
    """

    def __init__(
        self, store: Path, sweep: Sweep, folder: Path, stopping: Stopping, reset: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._sweep, self._folder, self._stopping = store, sweep, folder, stopping
        self._reset = reset

    def write_lists(self, lines: Iterable[bytes]) -> None:
        """A list for each number of requests: the beginning of the same one.

        Raises:
            StoreError: there is no room.
        """
        all_lines = list(islice(lines, self._sweep.sizes[-1]))
        try:
            for size in {*self._sweep.sizes, warm_up_size(self._sweep)}:
                self._list(size).write_bytes(b"".join(all_lines[:size]))
        except OSError as problem:
            raise _no_room(problem) from problem

    def carry_out(
        self, cell: Cell, *, is_warm_up: bool = False, until: float | None = None, tick: Callable[[float], None]
    ) -> Outcome:
        """Run a cell.

        Args:
            cell: it.
            is_warm_up: whether its run is labelled so.
            until: when it is ended in order, by the monotonic clock.
            tick: told now and then how long it has been running, in seconds.

        Raises:
            StoreError: the embedded origin is gone.
        """
        try:
            self._reset()
        except OSError as problem:
            raise StoreError(f"the embedded origin is gone ({problem.strerror or problem})") from problem
        out = self._folder / "files"
        labels = labels_of(self._sweep, cell, is_warm_up=is_warm_up)
        command = run_command(cell.stage, self._list(cell.requests), self._store, out, labels=labels)
        begun = time.monotonic()
        try:
            with self._stopping.running(command) as process:
                answer, errors = _wait(process, begun, until, tick)
        finally:
            shutil.rmtree(out, ignore_errors=True)
        outcome = _judged(cell, process.returncode, answer, errors)
        if outcome.summary is not None and cell.requests >= SEALED_SIZE_MIN and not self._stopping.is_asked:
            self._seal(outcome.summary.run)
        return msgspec.structs.replace(outcome, seconds=time.monotonic() - begun)

    def _seal(self, run: str) -> None:
        """Make the run small, and quick to ask. Where that fails it stays as it is, which is just as good a log."""
        with self._stopping.running([*PROGRAM, "seal", run, "--store", str(self._store)]) as process:
            process.communicate()

    def _list(self, size: int) -> Path:
        return self._folder / f"{size}.tsv"


@contextmanager
def open_workshop(store: Path, sweep: Sweep, stopping: Stopping) -> Iterator[Workshop]:
    """A workshop with its lists, and with the embedded origin where the user has given no list.

    Raises:
        StoreError: there is no room for the lists, or the origin did not start.
        UsageError: the user's list cannot be read.
    """
    prefix = f"eventflow-{sweep.name}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):  # by a sitting that was killed; there is but one
        shutil.rmtree(left, ignore_errors=True)
    with _temporary_folder(prefix) as folder:
        if sweep.source is not None:
            workshop = Workshop(store, sweep, folder, stopping)
            workshop.write_lists(first_lines(sweep.source, sweep.sizes[-1]))
            yield workshop
            return
        with start_origin(origin_settings(sweep)) as origin:
            workshop = Workshop(store, sweep, folder, stopping, origin.reset)
            workshop.write_lists(entry.tsv() for entry in origin.entries())
            yield workshop


@contextmanager
def _temporary_folder(prefix: str) -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as problem:
        raise _no_room(problem) from problem
    with folder as path:
        yield Path(path)


def _no_room(problem: OSError) -> StoreError:
    reason = f"the temporary folder cannot be written ({problem.strerror or problem})"
    return StoreError(f"{reason}: make room there, or name another one with TMPDIR")


def origin_settings(sweep: Sweep) -> OriginSettings:
    """What the embedded origin serves in a sweep: files and latencies that differ as they do elsewhere; no faults."""
    return OriginSettings(
        files=max(sweep.sizes[-1], warm_up_size(sweep)),
        size=sweep.file_size_bytes,
        size_spread=_SPREAD,
        latency_s=sweep.latency_s,
        latency_spread=_SPREAD,
        seed=sweep.seed,
    )


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    """In a process group of its own, so that Ctrl-C at the terminal does not reach it but by this process."""
    return subprocess.Popen(  # noqa: S603  (our own program)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
        preexec_fn=partial(_die_with, os.getpid()),  # noqa: PLW1509  (no thread is at work here)
    )


def _die_with(parent: int) -> None:
    """In the child, before it becomes the run: whoever kills the sweep leaves no run behind that nobody wants."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was quicker
            os._exit(1)


def _wait(
    process: "subprocess.Popen[bytes]", begun: float, until: float | None, tick: Callable[[float], None]
) -> tuple[bytes, bytes]:
    is_told = False
    while True:
        try:
            return process.communicate(timeout=_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            tick(now - begun)
            if until is not None and now >= until and not is_told:
                is_told = True
                process.terminate()


def _judged(cell: Cell, status: int, answer: bytes, errors: bytes) -> Outcome:
    said = errors.decode(errors="replace").strip().splitlines()
    try:
        summary = read_summary(cell.stage, answer, status)
    except StoreError:
        how = f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"
        return Outcome(None, said[-1].removeprefix("eventflow: ") if said else how)
    if summary.state == "completed":
        return Outcome(summary)
    return Outcome(summary, summary.problem or f"it was {summary.state}")
