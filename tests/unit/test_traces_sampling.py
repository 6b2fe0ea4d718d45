"""Tail sampling: what a policy keeps, whole traces, the same ones for the same share."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from eventflow.errors import UsageError
from instrumentation.traces import FinishedSpan, State
from instrumentation.traces.sampling import Policy, Sampler, parse_policy


def story(number: int, *, seconds: float = 1.0, state: State = "completed", trace_id: str = "") -> list[FinishedSpan]:
    """A request and its attempt."""
    trace_id = trace_id or f"{number:016x}{(number * 0x9E3779B97F4A7C15) % 2**64:016x}"
    common: dict[str, Any] = {
        "run": "r",
        "stream": f"request-{number}",
        "writer": "w",
        "trace_id": trace_id,
        "start_ns": 0,
    }
    end = int(seconds * 1e9)
    return [
        FinishedSpan(step="attempt", name="GET", span_id=f"{number:08x}a", parent_span_id="1", end_ns=end, **common),
        FinishedSpan(
            step="request",
            name="request",
            span_id=f"{number:08x}b",
            parent_span_id=None,
            end_ns=end,
            state=state,
            **common,
        ),
    ]


def kept(policy: Policy, stories: list[list[FinishedSpan]]) -> set[str]:
    """The streams that are kept, after a check that each is kept whole."""
    sampler = Sampler(policy)
    passed = [span for spans in stories for one in spans for span in sampler.feed((one,))]
    streams = [span.stream for span in passed]
    assert all(streams.count(stream) == 2 for stream in streams)
    assert sampler.dropped + len(passed) == sum(map(len, stories))
    assert sampler.finish() == []
    return set(streams)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("all", Policy(1.0)),
        ("none", Policy(0.0)),
        ("1%", Policy(0.01)),
        ("0.5", Policy(0.5)),
        ("errors", Policy(0.0, errors=True)),
        ("errors, slow ,1%", Policy(0.01, errors=True, slow=True)),
        ("slow=250ms", Policy(0.0, slower_than=0.25)),
    ],
)
def test_a_policy_is_read(text: str, policy: Policy) -> None:
    """Words and a share, in any order; without a share nothing else is kept."""
    assert parse_policy(text) == policy


@pytest.mark.parametrize("text", ["", ",", "fast", "errors,quick", "120%", "slow=", "slow=soon", "-1%"])
def test_a_policy_that_cannot_be_is_refused(text: str) -> None:
    """With a message that names the fix."""
    with pytest.raises(UsageError):
        parse_policy(text)


def test_every_failure_is_kept() -> None:
    """Failed and interrupted requests are; those that were cancelled on purpose are no failures."""
    states: list[State] = ["completed", "failed", "interrupted", "cancelled"]
    stories = [story(number, state=states[number % 4]) for number in range(40)]
    assert kept(Policy(0.0, errors=True), stories) == {f"request-{n}" for n in range(40) if n % 4 in {1, 2}}


def test_the_slowest_are_kept() -> None:
    """Of a thousand requests of which every fiftieth is slow, at least those; of the rest the first hundred at most."""
    stories = [story(number, seconds=9.0 if number % 97 == 96 else 1.0 + number % 7 / 10) for number in range(1_000)]
    streams = kept(Policy(0.0, slow=True), stories)
    assert {f"request-{n}" for n in range(96, 1_000, 97)} <= streams
    assert len(streams) <= 100 + 2 * 10


def test_a_duration_is_a_limit() -> None:
    """`slow=2s` keeps what took two seconds or more."""
    stories = [story(1, seconds=1.99), story(2, seconds=2.0), story(3, seconds=7.0)]
    assert kept(Policy(0.0, slower_than=2.0), stories) == {"request-2", "request-3"}


@given(trace_id=st.integers(1, 2**128 - 1), share=st.floats(0, 1))
def test_the_share_is_that_of_opentelemetry(trace_id: int, share: float) -> None:
    """The same traces that the SDK's sampler keeps at that share: so several programs keep the same ones."""
    decision = TraceIdRatioBased(share).should_sample(None, trace_id, "x").decision
    stories = [story(1, trace_id=f"{trace_id:032x}")]
    assert bool(kept(Policy(share), stories)) is (decision is Decision.RECORD_AND_SAMPLE)


def test_a_share_is_about_that_many() -> None:
    """Five percent of 4 000 traces are about 200, and with twice the share the same ones and more."""
    stories = [story(number) for number in range(4_000)]
    few, more = kept(Policy(0.05), stories), kept(Policy(0.1), stories)
    assert 150 <= len(few) <= 250
    assert few <= more


def test_what_is_no_requests_always_passes() -> None:
    """The run, its stage, its processes and origins are kept, unless nothing is."""
    (attempt, _) = story(1)
    run = FinishedSpan(
        run="r",
        stream="run",
        writer="w",
        step="run",
        name="run",
        trace_id="1" * 32,
        span_id="1" * 16,
        parent_span_id=None,
        start_ns=0,
        end_ns=1,
    )
    sampler = Sampler(Policy(0.0, errors=True))
    assert list(sampler.feed([attempt, run])) == [run]
    assert sampler.finish() == [attempt]
    nothing = Sampler(Policy(0.0))
    assert list(nothing.feed([attempt, run])) == []
    assert nothing.dropped == 2
