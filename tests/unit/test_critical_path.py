"""The critical path: what the end waited for, at each moment."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from instrumentation.traces import FinishedSpan
from instrumentation.traces.critical_path import OVERLAP_NS_MAX, critical_path, own_nanoseconds
from tests.made_spans import at, span, tried_twice


def path(spans: list[FinishedSpan], root: FinishedSpan) -> list[tuple[str, float, float]]:
    """The critical path in milliseconds after the start."""
    return [
        (piece.span_id, (piece.start_ns - at(0)) / 1e6, (piece.end_ns - at(0)) / 1e6)
        for piece in critical_path(spans, root)
    ]


@st.composite
def trees(draw: st.DrawFn) -> list[FinishedSpan]:
    """Spans of any times below one root, which need not lie within their parents' times."""
    begin, end = sorted(draw(st.tuples(st.integers(0, 300), st.integers(0, 300))))
    made = [span("request", begin, end, span_id="0")]
    for number in range(1, draw(st.integers(1, 12))):
        start, end = sorted(draw(st.tuples(st.integers(-50, 350), st.integers(-50, 350))))
        parent = str(draw(st.integers(0, number - 1)))
        made.append(span("step", start / 2, end / 2, parent, span_id=str(number)))
    return made


@given(trees(), st.randoms(use_true_random=False))
def test_the_pieces_cover_the_root_exactly(spans: list[FinishedSpan], chance: object) -> None:
    """Without gap or overlap, whatever the children's times; and in whichever order they are given."""
    root = spans[0]
    pieces = critical_path(spans, root)
    if root.start_ns == root.end_ns:
        assert pieces == []
        return
    assert (pieces[0].start_ns, pieces[-1].end_ns) == (root.start_ns, root.end_ns)
    assert all(before.end_ns == after.start_ns for before, after in pairwise(pieces))
    assert all(piece.start_ns < piece.end_ns for piece in pieces)
    known = {each.span_id: each for each in spans}
    assert all(known[piece.span_id].start_ns <= piece.start_ns for piece in pieces)
    assert all(piece.end_ns <= known[piece.span_id].end_ns for piece in pieces)
    chance.shuffle(spans)  # type: ignore[attr-defined]
    assert critical_path(spans, root) == pieces


@given(trees())
def test_nobody_is_at_work_by_himself_for_longer_than_he_is_at_work(spans: list[FinishedSpan]) -> None:
    """A span's own time is its time without its children's, never less than nothing."""
    own = own_nanoseconds(spans)
    assert set(own) == {each.span_id for each in spans}
    assert all(0 <= own[each.span_id] <= each.end_ns - each.start_ns for each in spans)


def test_steps_one_after_the_other_are_all_on_it() -> None:
    """And what lies between them is the enclosing span's own."""
    spans = tried_twice()
    assert path(spans, spans[-1]) == [
        ("queue", 0, 10),
        ("get-1", 10, 20),
        ("request", 20, 50),
        ("get-2", 50, 70),
        ("body", 70, 90),
        ("verify", 90, 91),
        ("store", 91, 99),
        ("request", 99, 100),
    ]
    own = own_nanoseconds(spans)
    assert {name: own[name] / 1e6 for name in ("request", "get-2", "body")} == {"request": 31, "get-2": 20, "body": 20}


def test_of_two_at_once_the_later_end_counts() -> None:
    """Nobody waited for the other: it was still at work when the one began that the end waited for."""
    root = span("request", 0, 100)
    first, second = span("a", 0, 60, "request"), span("b", 40, 90, "request")
    assert path([root, first, second], root) == [("request", 0, 40), ("b", 40, 90), ("request", 90, 100)]


def test_clocks_may_differ_a_little() -> None:
    """Two steps that overlap by no more than clocks differ are one after the other."""
    root, little = span("request", 0, 100), OVERLAP_NS_MAX / 1e6
    first, second = span("a", 0, 50 + little, "request"), span("b", 50, 100, "request")
    assert path([first, second], root) == [("a", 0, 50), ("b", 50, 100)]


def test_what_lies_outside_its_parent_does_not_count() -> None:
    """A child is on the path only while its parent is, and one that began after its end is not at all."""
    root = span("request", 0, 100)
    long, late = span("a", -50, 150, "request"), span("b", 120, 130, "request")
    assert path([long, late], root) == [("a", 0, 100)]


def test_a_deep_tree_is_no_problem() -> None:
    """The depth of a tree is bounded by memory, not by Python's stack."""
    spans = [span("s", 0, 5000, str(number - 1) if number else None, span_id=str(number)) for number in range(5000)]
    assert path(spans, spans[0]) == [("4999", 0, 5000)]
