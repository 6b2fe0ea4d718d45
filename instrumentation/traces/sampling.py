"""Tail sampling: which requests are exported, decided when the whole story is known. The log keeps all of them.

A trace is kept or left out as a whole, but that the parts of a request that was resumed are judged one by one. The
share is taken from the trace id, the way OpenTelemetry's `TraceIdRatioBased` does: whoever samples the same traces by
the same share, or a larger one, keeps these too.

`slow` needs to know what is usual: it keeps what took longer than 99 of 100 requests before it, and what is among the
first hundred. So which ones it keeps depends on the order in which they ended; nothing else does.
"""

import math
from collections.abc import Iterable

import msgspec

from eventflow.errors import UsageError, name_of
from eventflow.quantities import parse_duration, parse_share
from instrumentation.traces.span import FinishedSpan

_SLOW_SHARE = 0.01
_FEW = 100
_BUCKETS_PER_DOUBLING = 8


class Policy(msgspec.Struct, frozen=True):
    """What to keep.

    Attributes:
        share: of all traces, 0 to 1.
        errors: every request that failed or was interrupted.
        slow: the slowest of those so far.
        slower_than: every request that took at least so many seconds.
    """

    share: float = 1.0
    errors: bool = False
    slow: bool = False
    slower_than: float | None = None


ALL = Policy()
NOTHING = Policy(0.0)


def parse_policy(text: str) -> Policy:
    """What `--sample` says: words and a share, separated by commas.

    >>> parse_policy("errors,slow,1%")
    Policy(share=0.01, errors=True, slow=True, slower_than=None)
    >>> parse_policy("slow=2s").slower_than
    2.0

    Raises:
        UsageError: it cannot be understood.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    share: float | None = None
    errors, slow, slower_than = False, False, None
    for word in words:
        if word == "errors":
            errors = True
        elif word == "slow":
            slow = True
        elif word.startswith("slow="):
            slower_than = parse_duration(word.removeprefix("slow="))
        elif word in {"all", "none"}:
            share = 1.0 if word == "all" else 0.0
        elif word[0].isdecimal():
            share = parse_share(word)
        else:
            words = []
    if not words:
        raise UsageError(
            f"--sample {name_of(text)} cannot be understood", "give for example errors,slow,1% or slow=2s,all"
        )
    return Policy(share if share is not None else 0.0, errors, slow, slower_than)


class Sampler:
    """Passes on the spans of the traces that are kept, each trace when its request is over.

    What is no request's (the run, its processes, the origins) passes, unless nothing at all is to be kept.

    Args:
        policy: what to keep.

    Memory: that of the spans of the requests that are not over.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._keeps_all = policy.share >= 1
        self._bound = round(policy.share * (1 << 64))
        self._waiting: dict[str, list[FinishedSpan]] = {}
        self._durations = _Durations()
        self.dropped = 0

    def feed(self, spans: Iterable[FinishedSpan]) -> Iterable[FinishedSpan]:
        """Take spans as they end; gives those that are to be exported now."""
        if self._keeps_all:
            return spans
        passed: list[FinishedSpan] = []
        if self._policy == NOTHING:
            self.dropped += sum(1 for _ in spans)
            return passed
        for span in spans:
            if not span.stream.startswith("request-"):
                passed.append(span)
            elif span.step != "request":
                self._waiting.setdefault(span.trace_id, []).append(span)
            else:
                story = [*self._waiting.pop(span.trace_id, ()), span]
                if self._is_kept(span):
                    passed += story
                else:
                    self.dropped += len(story)
        return passed

    def finish(self) -> list[FinishedSpan]:
        """What waits for the end of requests that have none."""
        left = [span for spans in self._waiting.values() for span in spans]
        self._waiting.clear()
        return left

    def _is_kept(self, root: FinishedSpan) -> bool:
        policy, seconds = self._policy, root.seconds
        is_slow = policy.slow and self._durations.is_among_the_slowest(seconds)
        return (
            is_slow
            or (policy.errors and root.is_error)
            or (policy.slower_than is not None and seconds >= policy.slower_than)
            or int(root.trace_id[16:], 16) < self._bound
        )


class _Durations:
    """How long requests took so far, in buckets that are a twelfth wide."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0

    def is_among_the_slowest(self, seconds: float) -> bool:
        """Whether at most one of a hundred before took as long. Counts it."""
        bucket = math.floor(math.log2(max(seconds, 1e-9)) * _BUCKETS_PER_DOUBLING)
        longer = sum(count for other, count in self._counts.items() if other >= bucket)
        is_slow = self._total < _FEW or longer <= self._total * _SLOW_SHARE
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._total += 1
        return is_slow
