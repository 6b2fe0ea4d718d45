"""Lanes and rows: what overlaps in time is never on one track, and as few tracks are taken as can be."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from instrumentation.formats.lanes import Bar, Lanes, rows
from instrumentation.traces import FinishedSpan, SpanEvent
from tests.support.spans import span

TIMES = st.tuples(st.integers(0, 40), st.integers(0, 15)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def most_at_once(intervals: list[tuple[int, int]]) -> int:
    """How many overlap at the busiest moment. One that ends when another begins does not overlap it."""
    return max((sum(1 for start, end in intervals if start <= moment < end) for moment in range(60)), default=0)


@given(st.lists(TIMES))
def test_no_two_in_a_lane_overlap(intervals: list[tuple[int, int]]) -> None:
    """In whatever order they come."""
    lanes = Lanes()
    taken: dict[int, list[tuple[int, int]]] = {}
    for interval in intervals:
        taken.setdefault(lanes.take(*interval), []).append(interval)
    for lane in taken.values():
        assert all(first[1] <= second[0] for first, second in pairwise(lane))
    assert set(taken) == set(range(len(taken)))


@given(st.lists(TIMES.filter(lambda times: times[0] < times[1])))
def test_as_few_lanes_as_can_be(intervals: list[tuple[int, int]]) -> None:
    """In the order in which they end there are as many lanes as intervals at once."""
    lanes = Lanes()
    taken = {lanes.take(*interval) for interval in sorted(intervals, key=lambda times: times[1])}
    assert len(taken) == most_at_once(intervals)


@given(st.lists(TIMES), st.lists(st.integers(0, 55)))
def test_the_edges_of_a_row_nest(intervals: list[tuple[int, int]], moments: list[int]) -> None:
    """They come by time, each end closes what began last, and every bar is there once with its times."""
    bars = [Bar(*times, span(number, *times)) for number, times in enumerate(intervals)]
    bars += [Bar(at, at, SpanEvent("moment", at)) for at in moments]
    found: list[tuple[int, int, str]] = []
    for row in rows(bars):
        assert [edge.time_ns for edge in row] == sorted(edge.time_ns for edge in row)
        stack: list[Bar] = []
        for edge in row:
            if edge.bar is None:
                bar = stack.pop()
                assert edge.time_ns == bar.end_ns
                assert not stack or bar.end_ns <= stack[-1].end_ns
            else:
                bar = edge.bar
                assert edge.time_ns == bar.start_ns
                if isinstance(bar.what, FinishedSpan):
                    stack.append(bar)
            if edge.bar is None or not isinstance(bar.what, FinishedSpan):
                found.append((bar.start_ns, bar.end_ns, type(bar.what).__name__))
        assert not stack
    assert sorted(found) == sorted((bar.start_ns, bar.end_ns, type(bar.what).__name__) for bar in bars)


def test_a_story_is_one_row() -> None:
    """A request with its steps, each after the other, needs no second row; what encloses another is given first."""
    root, attempt, body, store = span(1, 0, 9), span(2, 0, 5), span(3, 4, 5), span(4, 5, 9)
    bars = [Bar(one.start_ns, one.end_ns, one) for one in (root, attempt, body, store)]
    (row,) = rows(bars)
    assert [edge.bar and edge.bar.what for edge in row] == [root, attempt, body, None, None, store, None, None]


def test_what_does_not_nest_is_beside() -> None:
    """Steps that overlap are both there, from their starts to their ends."""
    first, second = span(1, 0, 5), span(2, 3, 8)
    bars = [Bar(one.start_ns, one.end_ns, one) for one in (first, second)]
    assert [[edge.bar and edge.bar.what for edge in row] for row in rows(bars)] == [[first, None], [second, None]]
