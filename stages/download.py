"""The part that every stage shares: one request, fetched with httpx, verified, stored and told to the log.

What a stage adds is only *where* and *how many at once*.
"""

import contextlib
from concurrent.futures import Future

import httpx
import trio

from eventflow.story import QueuedRequest, Story
from eventflow.work import Workplace


def download(client: httpx.Client, place: Workplace, queued: QueuedRequest) -> None:
    """Carry out one request, blocking until its file is durable. A failure is recorded, not raised."""
    with place.story(queued) as story:
        fetch(client, story)


def fetch(client: httpx.Client, story: Story) -> None:
    """The downloading part of a story: fetch, verify, store."""
    with story.attempt() as attempt, client.stream("GET", story.request.url) as response:
        attempt.response(response.status_code, response.headers, response.http_version)
        for chunk in response.iter_raw():
            attempt.write(chunk)
    story.store()


async def download_async(client: httpx.AsyncClient, place: Workplace, queued: QueuedRequest) -> None:
    """The same for an event loop: only the disk's part is waited for without blocking it."""
    with place.story(queued) as story:
        with story.attempt() as attempt:
            async with client.stream("GET", queued.request.url) as response:
                attempt.response(response.status_code, response.headers, response.http_version)
                async for chunk in response.aiter_raw():
                    attempt.write(chunk)
        story.stored(await _wait_future(story.submit()))


async def _wait_future(future: "Future[float]") -> float:
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def wake(_future: "Future[float]") -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    future.add_done_callback(wake)
    await done.wait()
    return future.result()
