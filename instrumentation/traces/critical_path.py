"""The critical path of a span: at each moment of it, the one span that its end waited for. Pure.

From the end backwards: before any moment, the child that finished last is what was waited for, and within it the same
holds again; where no child was at work, it is the span itself. Jaeger marks its critical path by the same rule.

Invariants:
    the pieces cover exactly the time of the root, in order, without gap or overlap;
    a child that was still at work when its successor began is not on the path: nobody waited for its end.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from instrumentation.traces.span import FinishedSpan

OVERLAP_NS_MAX = 1_000_000
"""How much two steps may overlap and still be one after the other: a start is an end less a duration, which are of two
clocks, and an event is written a moment after what it tells."""


class Piece(NamedTuple):
    """A stretch of the critical path, and the span that it belongs to. Unix time in nanoseconds."""

    span_id: str
    start_ns: int
    end_ns: int


class _Visit:
    """A span on the way back: `point` is how far the way has come, `children` those that come into question."""

    __slots__ = ("children", "end_ns", "point", "span_id", "start_ns")

    def __init__(self, span_id: str, start_ns: int, end_ns: int, children: Iterable[FinishedSpan]) -> None:
        self.span_id, self.start_ns, self.end_ns, self.point = span_id, start_ns, end_ns, end_ns
        self.children: Iterator[FinishedSpan] = iter(
            sorted(children, key=lambda child: (-min(child.end_ns, end_ns), child.start_ns, child.span_id))
        )


def critical_path(spans: Iterable[FinishedSpan], root: FinishedSpan) -> list[Piece]:
    """What the end of `root` waited for, in the order of time.

    Args:
        spans: those of its trace; what is not below `root` does not matter, and of its descendants only what lies
            within their parents' time.
        root: where to end; it need not be among them.
    """
    below = children_of(spans)
    pieces: list[Piece] = []
    visits = [_Visit(root.span_id, root.start_ns, root.end_ns, below.pop(root.span_id, ()))]
    while visits:
        visit = visits[-1]
        child = next(visit.children, None)
        if child is None:
            if visit.start_ns < visit.point:
                pieces.append(Piece(visit.span_id, visit.start_ns, visit.point))
            visits.pop()
            continue
        end_ns = min(child.end_ns, visit.end_ns)
        if end_ns > visit.point + OVERLAP_NS_MAX:
            continue
        start_ns, end_ns = max(child.start_ns, visit.start_ns), min(end_ns, visit.point)
        if start_ns >= end_ns:
            continue
        if end_ns < visit.point:
            pieces.append(Piece(visit.span_id, end_ns, visit.point))
        visit.point = start_ns
        visits.append(_Visit(child.span_id, start_ns, end_ns, below.pop(child.span_id, ())))
    pieces.reverse()
    return pieces


def own_nanoseconds(spans: Sequence[FinishedSpan]) -> dict[str, int]:
    """Of each span, by its id, for how long none of its children was at work."""
    below = children_of(spans)
    return {span.span_id: span.end_ns - span.start_ns - _covered(span, below.get(span.span_id, ())) for span in spans}


def children_of(spans: Iterable[FinishedSpan]) -> dict[str, list[FinishedSpan]]:
    """The spans below each, by the id of the enclosing one, whether or not that is among them."""
    below: dict[str, list[FinishedSpan]] = defaultdict(list)
    for span in spans:
        if span.parent_span_id is not None:
            below[span.parent_span_id].append(span)
    return below


def _covered(span: FinishedSpan, children: Iterable[FinishedSpan]) -> int:
    """How much of the time of a span its children take together, what they share counted once."""
    covered, point = 0, span.start_ns
    for child in sorted(children, key=lambda child: child.start_ns):
        start_ns, end_ns = max(child.start_ns, point), min(child.end_ns, span.end_ns)
        if start_ns < end_ns:
            covered, point = covered + end_ns - start_ns, end_ns
    return covered
