"""A worker process: what has to be set up in it, once, before it carries out requests.

Each worker writes its own log, so no lock is shared and a crash of one hurts no other.

Invariants:
    Ctrl-C in a terminal reaches every process of it; a worker leaves that to the run's own process, from the moment
    that it exists; that one says SIGTERM when it is time; SIGTERM interrupts the request that is being carried out,
    wherever it blocks;
    a worker does not outlive the process that started it, even after kill -9.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventflow.errors import StoreError
from eventflow.interrupts import Interrupts
from eventflow.metrics import recorded_by
from eventflow.mirror import Mirror, mirrored_by
from eventflow.recorder import Recorder
from eventflow.vocabulary import ProcessStarted
from eventflow.work import Settings, Workplace

_busy = threading.Event()
_workplaces: list[Workplace] = []
_measuring = contextlib.ExitStack()


@contextmanager
def starting_workers() -> Iterator[None]:
    """In the run's process: a process that is started within is not reached by Ctrl-C before it can leave that to us.

    It inherits the mask of this thread, and `leave_ctrl_c_to_parent` ends that. Without, a Ctrl-C that comes while the
    interpreter starts ends it with a traceback of its own on the terminal.
    """
    multiprocessing.resource_tracker.ensure_running()  # to start it later would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_ctrl_c_to_parent() -> None:
    """In the worker: the first thing that it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))  # what it starts would inherit it


def begin_worker(settings: Settings, log: str, run: str, mirror: Mirror | None) -> None:
    """The initializer of a worker process: opens its own log and gets ready to be interrupted."""
    leave_ctrl_c_to_parent()
    recorder = Recorder(Path(log), run, links=settings.links)
    place = Workplace(settings, recorder)
    _workplaces.append(place)
    _measuring.enter_context(recorded_by(recorder))
    _measuring.enter_context(mirrored_by(mirror))
    recorder.open_stream(f"process-{recorder.writer}").record(ProcessStarted(pid=os.getpid(), role="worker"))
    # Worker processes leave by os._exit, without atexit; this is what multiprocessing calls before it.
    multiprocessing.util.Finalize(None, _end_worker, args=(place,), exitpriority=10)
    leave_with_parent()
    Interrupts(lambda: _cancel(place), _busy.is_set).__enter__()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def workplace() -> Workplace:
    """This worker's workplace."""
    return _workplaces[0]


@contextmanager
def busy() -> Iterator[Workplace]:
    """While it is entered, SIGTERM interrupts; outside, nothing is being carried out."""
    place = workplace()
    _busy.set()
    try:
        yield place
    finally:
        try:
            place.abandon_in_flight()
        finally:  # also when the log fails: what is not busy must be able to end
            _busy.clear()


def _cancel(place: Workplace) -> None:
    """The first SIGTERM cancels; the pool then says that there is no more. A second one ends a worker that waits.

    Not the first: a worker that leaves while it waits for the pool's queue takes the lock of that queue with it.
    """
    if place.cancelled.is_set() and not _busy.is_set():
        _end_worker(place)
        os._exit(0)
    place.cancel()


def _end_worker(place: Workplace) -> None:
    place.close()
    _measuring.close()
    with contextlib.suppress(StoreError):  # a log that fails has failed a request too, and the run's process knows
        place.recorder.close()


def leave_with_parent() -> None:
    """From now on this process ends when the one that started it does, however that ends."""
    threading.Thread(target=_wait_for_parent, daemon=True, name="eventflow-parent").start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
