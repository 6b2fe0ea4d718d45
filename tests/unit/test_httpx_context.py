"""The headers of a request that httpx sends say which span sends it, to whom that was promised."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trio

from eventflow.log.runs import create_run
from eventflow.recorder import Recorder, Span
from eventflow.work import Settings

TOLD, UNTOLD = "https://told.example", "https://untold.example"


@pytest.fixture
def span(tmp_path: Path) -> Iterator[Span]:
    """A request's."""
    run = create_run(tmp_path / "store", stage="serial")
    with Recorder(run.log, run.run) as recorder:
        yield recorder.open_stream("request-0")


def settings(*origins: str) -> Settings:
    """Of a run that tells these origins."""
    return Settings(stage="serial", workers=1, out="", propagate=origins)


def answering(seen: list[tuple[str, str | None]]) -> Callable[[httpx.Request], httpx.Response]:
    """A network in which `/there` of the one origin leads to the other one, and `/back` of that one back."""

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((str(request.url), request.headers.get("traceparent")))
        there = {f"{TOLD}/there": f"{UNTOLD}/back", f"{UNTOLD}/back": f"{TOLD}/file"}.get(str(request.url))
        return httpx.Response(302, headers={"Location": there}) if there else httpx.Response(200)

    return answer


def test_redirects_to_others_carry_nothing(span: Span) -> None:
    """And one that leads back carries it again; so it is for both kinds of clients."""
    parent = f"00-{span.stream.trace_id}-{span.span_id}-01"
    expected = [(f"{TOLD}/there", parent), (f"{UNTOLD}/back", None), (f"{TOLD}/file", parent)]
    seen: list[tuple[str, str | None]] = []
    transport = httpx.MockTransport(answering(seen))
    with span, httpx.Client(transport=transport, **settings(TOLD).client_options()) as client:
        client.get(f"{TOLD}/there")
    assert seen == expected
    seen.clear()

    async def get() -> None:
        async with httpx.AsyncClient(transport=transport, **settings(TOLD).client_options(is_async=True)) as client:
            await client.get(f"{TOLD}/there")

    with span:
        trio.run(get)
    assert seen == expected


def test_outside_of_a_span_nothing_is_sent() -> None:
    """There is nothing to say."""
    seen: list[tuple[str, str | None]] = []
    options = settings("all").client_options()
    with httpx.Client(transport=httpx.MockTransport(answering(seen)), **options) as client:
        client.get(f"{TOLD}/file")
    assert seen == [(f"{TOLD}/file", None)]


def test_a_run_that_tells_nobody_has_no_hook() -> None:
    """It costs nothing where it is not asked for."""
    assert "event_hooks" not in settings().client_options()
