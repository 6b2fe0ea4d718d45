"""Stage 5, loop: one thread, an event loop (trio), many requests in flight.

The cheapest way to wait. Its problems: one slow piece of Python stops everything, and although cancellation and errors
arrive properly, nobody can see what state a request is in while it is on its way.
"""

import signal

import httpx
import trio

from eventflow.errors import StoreError
from eventflow.story import Interrupted
from eventflow.work import Work
from stages.download import download_async


def run(work: Work) -> None:
    """Carry out every request of `work`, `work.settings.workers` at once, in one event loop.

    Raises:
        Interrupted: the run was asked to stop.
        StoreError: the log failed; of several tasks that saw it, the first one's.
    """
    try:
        trio.run(_run, work)
    except* StoreError as failures:
        raise _first(failures) from failures
    if work.cancelled.is_set():
        raise Interrupted


def _first(group: BaseExceptionGroup[StoreError]) -> StoreError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def _run(work: Work) -> None:
    limits = httpx.Limits(max_connections=work.settings.workers, max_keepalive_connections=work.settings.workers)
    async with (
        httpx.AsyncClient(limits=limits, **work.settings.client_options(is_async=True)) as client,
        trio.open_nursery() as watch,
    ):
        watch.start_soon(_cancel_on_signal, work, watch.cancel_scope)
        async with trio.open_nursery() as workers:
            for _ in range(work.settings.workers):
                workers.start_soon(_carry_out_requests, work, client)
        watch.cancel_scope.cancel()


async def _carry_out_requests(work: Work, client: httpx.AsyncClient) -> None:
    # Reading the input may block (a pipe), so it happens in a thread.
    while queued := await trio.to_thread.run_sync(work.next, abandon_on_cancel=True):
        await download_async(client, work, queued)


async def _cancel_on_signal(work: Work, scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            work.cancel(signal.Signals(number).name)
            scope.cancel()
            return
