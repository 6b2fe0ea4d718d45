"""Stage 6, director: events in, next actions out, and every state of every request in the log while it happens.

What the loop could not show, this can: which request waits for a connection, for an answer, for its next try. What it
cannot show is what led to what: its events have states and no links. The stage after it, lineage, adds those.
"""

import gc
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from eventflow.director.loop import run_director
from eventflow.engines.shares import run_in_shares
from eventflow.errors import StoreError
from eventflow.story import Interrupted
from eventflow.work import Work

_COLLECT_EVERY = 50_000


def run(work: Work) -> None:
    """Carry out every request of `work`; with several workers, in as many processes, each with its share of the input.

    Raises:
        Interrupted: the run was asked to stop, or its deadline passed.
        StoreError: the log failed.
    """
    if work.settings.workers > 1:
        run_in_shares(work, direct)
    else:
        direct(work)


def direct(work: Work) -> None:
    """The director of one process."""
    work.heeds_signals = True  # an exception in the middle of trio would end all of it
    if work.cancelled.is_set():
        raise Interrupted
    try:
        with _rarely_collecting():
            trio.run(_direct, work)
    except* StoreError as failures:
        raise _first(failures) from failures
    if work.cancelled.is_set():
        raise Interrupted


@contextmanager
def _rarely_collecting() -> Iterator[None]:
    """Look for cycles of garbage less often: what a request leaves has none, and to look costs a tenth of the time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, before[1], before[2])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _direct(work: Work) -> None:
    deadline = work.settings.deadline_s
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as stopping:
            nursery.start_soon(_cancel_on_signal, work, stopping)
            with trio.move_on_after(math.inf if deadline is None else deadline) as scope:
                await run_director(work, reads_inline=work.settings.source is not None)
            if scope.cancelled_caught:
                work.cancel("deadline")
        nursery.cancel_scope.cancel()


async def _cancel_on_signal(work: Work, scope: trio.CancelScope) -> None:
    """The first signal cancels what is in flight and keeps its parts; the second ends the process at once.

    Where Ctrl-C is ignored it stays so: a terminal sends it to all processes, and the run's passes it on as SIGTERM.
    """
    heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    with trio.open_signal_receiver(*heeded) as signals:
        if work.cancelled.is_set():  # by a signal that came before
            scope.cancel()
        async for number in signals:
            if work.cancelled.is_set():
                work.leave_now(number)
            work.cancel(signal.Signals(number).name)
            scope.cancel()


def _first(group: BaseExceptionGroup[StoreError]) -> StoreError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
