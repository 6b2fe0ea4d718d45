"""Several processes that each carry out a share of the input by themselves.

For a stage that one interpreter is too slow for: nothing crosses between the processes but the end. Each reads the
whole list, takes every n-th request of it, and writes its own log.

Invariants:
    each request is carried out by exactly one of them, and which one follows from its number;
    when this returns or raises, none of them is left.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec

from eventflow.engines.processes import GRACE_SECONDS, WorkerDied
from eventflow.engines.worker import leave_ctrl_c_to_parent, leave_with_parent, starting_workers
from eventflow.errors import StoreError, UsageError
from eventflow.event import Link
from eventflow.metrics import recorded_by
from eventflow.own_tally import Count, count_of, counted
from eventflow.recorder import Recorder
from eventflow.request import BadLine, Request
from eventflow.resume import Resumption
from eventflow.source import from_file
from eventflow.story import Interrupted
from eventflow.vocabulary import ProcessExited, ProcessStarted
from eventflow.work import Settings, Work

_REPORT_SECONDS = 0.1
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
    pipes = [context.Pipe(duplex=False) for _ in shares]
    processes = [
        context.Process(target=_carry_out, args=(share, carry_out, sender))
        for share, (_, sender) in zip(shares, pipes, strict=True)
    ]
    begun = work.recorder.sources.monotonic_ns()
    try:
        with starting_workers():
            for process in processes:
                process.start()
        for _, sender in pipes:
            sender.close()
        _wait(work, processes, [receiver for receiver, _ in pipes])
    except BaseException:
        work.cancel()
        with _leaving_on_signal(work, processes):
            _stop(processes)
        raise
    finally:
        for index, (receiver, _) in enumerate(pipes):
            _receive(work, index, receiver)
            receiver.close()
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


def _wait(work: Work, processes: Sequence[BaseProcess], receivers: Sequence[Connection]) -> None:
    """Until all have ended, or one has failed; their counts are passed on."""
    left = list(processes)
    open_receivers = dict(enumerate(receivers))
    while left:
        multiprocessing.connection.wait([*(process.sentinel for process in left), *open_receivers.values()])
        for index, receiver in list(open_receivers.items()):
            if not _receive(work, index, receiver):
                del open_receivers[index]
        for process in [process for process in left if process.exitcode is not None]:
            left.remove(process)
            if process.exitcode not in (_DONE, _INTERRUPTED):
                raise WorkerDied((process.exitcode or 0,))


def _receive(work: Work, index: int, receiver: Connection) -> bool:
    """Take the counts that a process has sent; False when it sends no more."""
    try:
        while receiver.poll():
            work.report(index, msgspec.msgpack.decode(receiver.recv_bytes(), type=Count))
    except (EOFError, OSError):
        return False
    return True


@contextlib.contextmanager
def _leaving_on_signal(work: Work, processes: Sequence[BaseProcess]) -> Iterator[None]:
    """A signal that comes while they are asked to end, the second one as a rule, ends all of them at once."""

    def leave(number: int, _frame: object) -> None:
        for process in processes:
            if process.pid is not None and process.exitcode is None:
                process.kill()
        work.leave_now(number)

    before = [(number, signal.signal(number, leave)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


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


def _carry_out(share: Share, carry_out: Callable[[Work], None], sender: Connection) -> None:
    """In the process: its own recorder, its own director."""
    leave_ctrl_c_to_parent()
    leave_with_parent()
    settings = share.settings
    recorder = Recorder(Path(share.log), share.run, links=settings.links)
    code = _DONE
    try:
        root = recorder.open_stream(f"process-{recorder.writer}")
        root.record(ProcessStarted(pid=os.getpid(), role="worker"), share.cause)
        resumption = Resumption(Path(share.log)) if share.resumed else None
        work = Work(settings, recorder, Path(share.log), root, share.cause, _items(share), resumption)
        work.tally.failures = {
            number: failure for number, failure in work.tally.failures.items() if number % share.count == share.index
        }
        with _Reports(work, sender):
            try:
                with recorded_by(recorder):
                    carry_out(work)
            except Interrupted:
                code = _INTERRUPTED
            finally:
                work.close()
                recorder.close()
    except StoreError:
        code = _STORE_FAILED
    raise SystemExit(code)


class _Reports:
    """While it is entered, the run's process hears how far this one is, and at the end, what it has done."""

    def __init__(self, work: Work, sender: Connection) -> None:
        self._work, self._sender = work, sender
        self._base = counted(work.tally)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._report, name="eventflow-reports", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._sender.send_bytes(self._count())
        self._sender.close()

    def _report(self) -> None:
        """What was counted at one look is sent at a later one, when it is durable."""
        statistics = self._work.recorder.statistics
        recorded, count = statistics().recorded, self._count()
        while not self._stopping.wait(_REPORT_SECONDS):
            if statistics().durable >= recorded:
                with contextlib.suppress(OSError):  # the run's process is gone, and this one soon
                    self._sender.send_bytes(count)
                recorded, count = statistics().recorded, self._count()

    def _count(self) -> bytes:
        return msgspec.msgpack.encode(count_of(self._work.tally, self._work.recorder, self._base))


def _items(share: Share) -> Iterator[Request | BadLine]:
    return (item for item in from_file(share.source) if item.number % share.count == share.index)
