"""The spans of a trace as the rows of a waterfall: in the order of the tree, numbered, linked, with waits shown. Pure.

A request that was resumed has a part for each time that it was taken up, and each has a time axis of its own: between
two parts may lie a night. A part that goes on lacks its root, which has not ended; then a row stands in for it.

Invariants:
    every span is one row of one part;
    at each moment of a part, from its root's start to its end, exactly one row is on the critical path.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from eventflow.cli.trace_words import DELAYED, spent_on
from instrumentation.traces.critical_path import children_of, critical_path, own_nanoseconds
from instrumentation.traces.span import FinishedSpan, SpanEvent, SpanLink

WAIT = "wait"
WAITING = "waiting to try again"
STAND_IN = ""
"""The id of what stands in for a root that has not ended."""

_WAIT_SHARE_MIN = 0.005
_WAIT_NS_MIN = 1_000_000
_TURNS = frozenset(("request", "run"))

Interval = tuple[int, int]


class Wait(NamedTuple):
    """A time between two attempts, and the event that decided on it, if one did."""

    start_ns: int
    end_ns: int
    delay: SpanEvent | None


class Row(msgspec.Struct, kw_only=True):
    """One line of a waterfall.

    Attributes:
        what: the span, or the wait.
        tree: where it is in the tree, a letter for each level above: `|` where that goes on below, ` ` where not; and
            for its own `+`, or `L` if it is the last.
        path: where it is on the critical path.
        number: its number in the trace, from 1; 0 for a wait.
        causes: the numbers of the rows that led to it.
        outside: links to spans of other traces.
    """

    what: FinishedSpan | Wait
    tree: str
    path: Sequence[Interval] = ()
    number: int = 0
    causes: Sequence[int] = ()
    outside: Sequence[SpanLink] = ()

    @property
    def span(self) -> FinishedSpan | None:
        """The span, if it is no wait."""
        return self.what if isinstance(self.what, FinishedSpan) else None


class Part(msgspec.Struct, frozen=True):
    """Rows with one time axis, the first of them is their root.

    Attributes:
        start_ns, end_ns: the axis. A step may outlast the root where clocks differ.
        shares: what its time was spent on, in seconds, the longest first.
        critical_ns: for how long each span was on the critical path, waits counted as their parents'.
        own_ns: for how long each span was at work without its children.
    """

    start_ns: int
    end_ns: int
    rows: Sequence[Row]
    shares: Mapping[str, float]
    critical_ns: Mapping[str, int]
    own_ns: Mapping[str, int]

    @property
    def seconds(self) -> float:
        """How long its root took."""
        return self.root.seconds

    @property
    def spans(self) -> list[FinishedSpan]:
        """Those that have ended, as they are in the tree."""
        return [row.span for row in self.rows if row.span is not None and row.span.span_id != STAND_IN]

    @property
    def root(self) -> FinishedSpan:
        """What encloses all of it."""
        root = self.rows[0].what
        assert isinstance(root, FinishedSpan)
        return root

    @property
    def goes_on(self) -> bool:
        """Whether its root has not ended."""
        return self.root.span_id == STAND_IN


def parts_of(spans: Sequence[FinishedSpan]) -> list[Part]:
    """The parts of one trace, in the order of time. Of `spans`, those of the trace that have ended, in any order."""
    parts = [_part(root, members) for root, members in _split(spans)]
    rows = [row for part in parts for row in part.rows if row.span is not None]
    numbers: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        row.number = number
        if row.span is not None:
            numbers[row.span.span_id] = number
    for row in rows:
        links = row.span.links if row.span is not None else ()
        row.causes = sorted({numbers[link.span_id] for link in links if link.span_id in numbers} - {row.number})
        row.outside = [link for link in links if link.span_id not in numbers]
    return parts


def _split(spans: Sequence[FinishedSpan]) -> Iterator[tuple[FinishedSpan, list[FinishedSpan]]]:
    """The root of each part, and what is below it."""
    known = {span.span_id: span for span in spans}
    heads = [span for span in spans if _is_head(span, known)]
    below = children_of(span for span in spans if not _is_head(span, known))
    parts = [(head, list(_descend(head, below))) for head in heads]
    if lost := [span for span in spans if not _is_head(span, known) and span.parent_span_id not in known]:
        parts.append((_stand_in(lost), [member for span in lost for member in (span, *_descend(span, below))]))
    return iter(sorted(parts, key=lambda part: (part[0].start_ns, part[0].span_id)))


def _is_head(span: FinishedSpan, known: Mapping[str, FinishedSpan]) -> bool:
    """Whether a part begins with it: it encloses the trace, or goes on where that ended."""
    parent = known.get(span.parent_span_id or "")
    if parent is None:
        return span.parent_span_id is None or span.step in _TURNS
    return span.step in _TURNS and parent.step == span.step


def _descend(root: FinishedSpan, below: Mapping[str, Sequence[FinishedSpan]]) -> Iterator[FinishedSpan]:
    left = list(below.get(root.span_id, ()))
    while left:
        span = left.pop()
        yield span
        left += below.get(span.span_id, ())


def _stand_in(orphans: Sequence[FinishedSpan]) -> FinishedSpan:
    """A root for spans whose own has not ended."""
    first = min(orphans, key=lambda span: span.start_ns)
    name = first.stream.partition("-")[0]
    return FinishedSpan(
        run=first.run,
        stream=first.stream,
        writer=first.writer,
        step=name,
        name=name,
        trace_id=first.trace_id,
        span_id=STAND_IN,
        parent_span_id=None,
        start_ns=first.start_ns,
        end_ns=max(span.end_ns for span in orphans),
    )


def _part(root: FinishedSpan, members: Sequence[FinishedSpan]) -> Part:
    known = {span.span_id for span in members}
    inside = [
        span if span.parent_span_id in known else msgspec.structs.replace(span, parent_span_id=root.span_id)
        for span in members
    ]
    paths: dict[str, list[Interval]] = {}
    for piece in critical_path(inside, root):
        paths.setdefault(piece.span_id, []).append((piece.start_ns, piece.end_ns))
    end_ns = max([root.end_ns, *(span.end_ns for span in members)])
    rows = list(_rows(root, inside, paths, max(_WAIT_NS_MIN, int((end_ns - root.start_ns) * _WAIT_SHARE_MIN))))
    critical_ns = {span_id: sum(end - start for start, end in path) for span_id, path in paths.items()}
    return Part(root.start_ns, end_ns, rows, _shares(rows), critical_ns, own_nanoseconds([root, *inside]))


def _rows(
    root: FinishedSpan, inside: Sequence[FinishedSpan], paths: Mapping[str, list[Interval]], wait_ns_min: int
) -> Iterator[Row]:
    """The tree from above, each level by time."""
    below = children_of(inside)
    left = [Row(what=root, tree="")]
    while left:
        row = left.pop()
        yield row
        if row.span is None:
            continue
        children = sorted(below.pop(row.span.span_id, ()), key=lambda span: (span.start_ns, span.end_ns, span.span_id))
        own = paths.get(row.span.span_id, [])
        items = [Row(what=child, tree="") for child in children]
        for wait in _waits(row.span, children, wait_ns_min):
            items.append(Row(what=wait, tree="", path=_filled(_cut(own, wait))))
            own = _filled(_without(own, wait))
        row.path = own
        items.sort(key=lambda item: item.what.start_ns)
        above = row.tree[:-1] + {"+": "|", "L": " ", "": ""}[row.tree[-1:]]
        for item in items:
            item.tree = above + ("L" if item is items[-1] else "+")
        left += reversed(items)


def _waits(parent: FinishedSpan, children: Sequence[FinishedSpan], ns_min: int) -> Iterator[Wait]:
    """The times between a failed attempt and the next. After the last of them only what was decided on."""
    attempts = [span for span in children if span.step == "attempt"]
    delays = [event for event in parent.events if event.name == DELAYED]
    for before, after in pairwise(attempts):
        delay = _delay(delays, before.start_ns, after.start_ns)
        if (delay is not None or before.is_error) and after.start_ns - before.end_ns >= ns_min:
            yield Wait(before.end_ns, after.start_ns, delay)
    if attempts and (delay := _delay(delays, attempts[-1].start_ns, parent.end_ns)):
        start_ns = max(attempts[-1].end_ns, delay.time_ns)
        if parent.end_ns - start_ns >= ns_min:
            yield Wait(start_ns, parent.end_ns, delay)


def _delay(delays: Iterable[SpanEvent], start_ns: int, end_ns: int) -> SpanEvent | None:
    return next((delay for delay in delays if start_ns <= delay.time_ns <= end_ns), None)


def _cut(pieces: Iterable[Interval], wait: Wait) -> Iterator[Interval]:
    for start_ns, end_ns in pieces:
        yield max(start_ns, wait.start_ns), min(end_ns, wait.end_ns)


def _without(pieces: Iterable[Interval], wait: Wait) -> Iterator[Interval]:
    for start_ns, end_ns in pieces:
        yield start_ns, min(end_ns, wait.start_ns)
        yield max(start_ns, wait.end_ns), end_ns


def _filled(pieces: Iterable[Interval]) -> list[Interval]:
    return [(start_ns, end_ns) for start_ns, end_ns in pieces if start_ns < end_ns]


def _shares(rows: Iterable[Row]) -> dict[str, float]:
    """What the time of the critical path was spent on, the longest first."""
    spent: dict[str, int] = {}
    for row in rows:
        for start_ns, end_ns in row.path:
            told = spent_on(row.span, start_ns, end_ns) if row.span is not None else [(WAITING, end_ns - start_ns)]
            for what, length in told:
                spent[what] = spent.get(what, 0) + length
    return {what: length / 1e9 for what, length in sorted(spent.items(), key=lambda item: (-item[1], item[0]))}
