"""Several worker processes that carry out requests, each with its own log.

Invariants:
    at most twice as many requests as workers are on their way to the workers, so the input is never read far ahead;
    when this returns or raises, no worker process is left.
"""

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from eventflow import mirror
from eventflow.engines.worker import begin_worker, busy, starting_workers
from eventflow.errors import StoreError
from eventflow.vocabulary import ProcessExited
from eventflow.work import Delivery, Work

_AHEAD = 2
GRACE_SECONDS = 2.0


class WorkerDied(StoreError):
    """A worker process ended without a word: killed for its memory, or crashed."""

    def __init__(self, exit_codes: tuple[int, ...]) -> None:
        super().__init__(exit_codes)
        self.exit_codes = exit_codes

    def __str__(self) -> str:
        codes = ", ".join(map(str, self.exit_codes)) or "unknown"
        return f"a worker process died (exit status {codes}): if memory ran out, use fewer --workers, then resume"


def run_in_processes(work: Work, carry_out: Callable[[Delivery], None]) -> None:
    """Give every request to `carry_out`, a function of a module, in one of `work.settings.workers` processes.

    Raises:
        Interrupted: the run was asked to stop.
        WorkerDied: a worker process ended without a word.
        Exception: what `carry_out` raised, the first of them.
    """
    recorder = work.recorder
    begun = recorder.sources.monotonic_ns()
    pool = ProcessPoolExecutor(
        work.settings.workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=begin_worker,
        initargs=(work.settings, str(work.log), recorder.run, mirror.installed),
    )
    deliveries = _Deliveries(work, pool, carry_out)
    try:
        deliveries.run()
    except BrokenProcessPool as problem:
        work.cancel()
        deliveries.note_workers()
        _stop(pool, deliveries.workers)
        pool.shutdown(wait=True)  # which asks all of them how they ended
        raise WorkerDied(_exit_codes(deliveries.workers)) from problem
    except BaseException:
        work.cancel()
        deliveries.note_workers()  # an interrupt may come while the pool starts one
        _stop(pool, deliveries.workers)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        seconds = (recorder.sources.monotonic_ns() - begun) / 1e9
        for worker in deliveries.workers:
            if worker.pid is not None and recorder.failure is None:
                work.span.record(ProcessExited(pid=worker.pid, exit_code=worker.exitcode, seconds=seconds))


def _stop(pool: ProcessPoolExecutor, workers: list[multiprocessing.process.BaseProcess]) -> None:
    """Ask the workers to end, and kill those that did not within `GRACE_SECONDS`: their logs can take it."""
    for worker in workers:
        worker.terminate()
    pool.shutdown(wait=False, cancel_futures=True)
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.exitcode is None:
            worker.kill()


def _exit_codes(workers: list[multiprocessing.process.BaseProcess]) -> tuple[int, ...]:
    """How those ended that nobody asked to: the pool ends all others (SIGTERM) once it has missed one."""
    codes = [worker.exitcode for worker in workers if worker.exitcode]
    return tuple(code for code in codes if code != -signal.SIGTERM) or tuple(codes)


class _Deliveries:
    """The requests on their way: bounded, and the first error kept.

    Attributes:
        workers: the worker processes that were started, also those that have ended.
    """

    def __init__(self, work: Work, pool: ProcessPoolExecutor, carry_out: Callable[[Delivery], None]) -> None:
        self._work, self._pool, self._carry_out = work, pool, carry_out
        self._slots = work.settings.workers * _AHEAD
        self._free = threading.Semaphore(self._slots)
        self._error: BaseException | None = None
        self.workers: list[multiprocessing.process.BaseProcess] = []

    def run(self) -> None:
        """Deliver everything and wait until it is carried out.

        Raises:
            BrokenProcessPool: a worker process ended without a word.
        """
        for queued in self._work.requests():
            self._free.acquire()
            self._check()
            with starting_workers() if self._may_start() else contextlib.nullcontext():
                future = self._pool.submit(_carry_out, self._carry_out, self._work.pack(queued))
            self.note_workers()
            future.add_done_callback(self._done)
        for _ in range(self._slots):
            self._free.acquire()
            self._check()

    def note_workers(self) -> None:
        """The pool starts them one by one; one that has died is no longer among the active."""
        if self._may_start():
            self.workers += [child for child in multiprocessing.active_children() if child not in self.workers]

    def _may_start(self) -> bool:
        return len(self.workers) < self._work.settings.workers

    def _done(self, future: "Future[None]") -> None:
        try:
            future.result()
        except CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001  (kept, and raised where the stage waits)
            self._error = self._error or error
        self._free.release()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


def _carry_out(function: Callable[[Delivery], None], delivery: Delivery) -> None:
    """In the worker: one request, unless the run was asked to stop before it began."""
    with busy() as place:
        if not place.cancelled.is_set():
            function(delivery)
