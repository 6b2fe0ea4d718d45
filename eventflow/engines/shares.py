"""Several processes that each carry out a share of the input by themselves.

For a stage that one interpreter is too slow for: nothing crosses between the processes but the end. Each reads the
whole list, takes every n-th request of it, and writes its own log.

Invariants:
    each request is carried out by exactly one of them, and which one follows from its number;
    when this returns or raises, none of them is left.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec

from eventflow.engines.processes import GRACE_SECONDS, WorkerDied
from eventflow.engines.worker import leave_with_parent
from eventflow.errors import StoreError, UsageError
from eventflow.event import Link
from eventflow.recorder import Recorder
from eventflow.request import BadLine, Request
from eventflow.resume import Resumption
from eventflow.source import from_file
from eventflow.story import Interrupted
from eventflow.vocabulary import ProcessExited, ProcessStarted
from eventflow.work import Settings, Work

_DONE, _INTERRUPTED, _STORE_FAILED = 0, 130, 3


class Share(msgspec.Struct, frozen=True):
    """What a process needs to know: `index` of `count`."""

    settings: Settings
    log: str
    run: str
    cause: Link
    source: str
    index: int
    count: int
    resumed: bool


def run_in_shares(work: Work, carry_out: Callable[[Work], None]) -> None:
    """Have `carry_out`, a function of a module, do the work in `work.settings.workers` processes.

    Raises:
        UsageError: the input is not a file that each can read for itself.
        Interrupted: the run was asked to stop.
        StoreError: the log of one of them failed.
        WorkerDied: one of them ended without a word.
    """
    source = work.source()
    if source is None:
        raise UsageError("several workers need the list as a file", "give it with --input FILE, or use --workers 1")
    context = multiprocessing.get_context("spawn")
    count = work.settings.workers
    shares = [
        Share(
            work.settings,
            str(work.log),
            work.recorder.run,
            work.cause,
            source,
            index,
            count,
            work.resumption is not None,
        )
        for index in range(count)
    ]
    processes = [context.Process(target=_carry_out, args=(share, carry_out), daemon=False) for share in shares]
    begun = work.recorder.sources.monotonic_ns()
    try:
        for process in processes:
            process.start()
        _wait(processes)
    except BaseException:
        work.cancel()
        _stop(processes)
        raise
    finally:
        seconds = (work.recorder.sources.monotonic_ns() - begun) / 1e9
        for process in processes:
            if process.pid is not None and work.recorder.failure is None:
                work.span.record(ProcessExited(pid=process.pid, exit_code=process.exitcode, seconds=seconds))
    codes = tuple(process.exitcode or 0 for process in processes)
    if _INTERRUPTED in codes:
        work.cancel("deadline")
        raise Interrupted
    if any(codes):
        raise WorkerDied(codes)


def _wait(processes: Sequence[BaseProcess]) -> None:
    """Until all have ended, or one has failed."""
    left = list(processes)
    while left:
        multiprocessing.connection.wait([process.sentinel for process in left])
        for process in [process for process in left if process.exitcode is not None]:
            left.remove(process)
            if process.exitcode not in (_DONE, _INTERRUPTED):
                raise WorkerDied((process.exitcode or 0,))


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Ask them to end, and kill those that have not within some seconds: their logs can take it."""
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.terminate()
    deadline = time.monotonic() + 2 * GRACE_SECONDS
    for process in started:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()


def _carry_out(share: Share, carry_out: Callable[[Work], None]) -> None:
    """In the process: its own recorder, its own director."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the run's process passes on SIGTERM
    leave_with_parent()
    settings = share.settings
    recorder = Recorder(Path(share.log), share.run, links=settings.links)
    code = _DONE
    try:
        root = recorder.open_stream(f"process-{recorder.writer}")
        root.record(ProcessStarted(pid=os.getpid(), role="worker"), share.cause)
        resumption = Resumption(Path(share.log)) if share.resumed else None
        work = Work(settings, recorder, Path(share.log), root, share.cause, _items(share), resumption)
        try:
            carry_out(work)
        except Interrupted:
            code = _INTERRUPTED
        finally:
            work.close()
        recorder.close()
    except StoreError:
        code = _STORE_FAILED
    raise SystemExit(code)


def _items(share: Share) -> Iterator[Request | BadLine]:
    return (item for item in from_file(share.source) if item.number % share.count == share.index)
