"""Spans as the rows of a waterfall, and the rows as lines of text."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from eventflow.cli.trace_rows import WAITING, Part, Wait, parts_of
from eventflow.cli.trace_words import ASCII_MARKS, UNICODE_MARKS, Marks, format_time
from eventflow.cli.waterfall import Shown, legend, summary, waterfall
from eventflow.cli.waterfall_bar import Axis, bar, dotted
from instrumentation.traces import FinishedSpan, SpanLink
from tests.made_spans import OTHER_TRACE, at, attempt, delay, span, tried_twice

NAMES = {"elsewhere": "request-7"}


def drawn(part: Part, width: int = 100, marks: Marks = UNICODE_MARKS) -> list[str]:
    """The lines of a part as a person sees them."""
    return [line.plain for line in waterfall(part, Shown(width, marks, NAMES))]


def label(spans: list[FinishedSpan]) -> list[tuple[str, str]]:
    """The tree and the step of each row."""
    return [(row.tree, row.span.step if row.span else "wait") for part in parts_of(spans) for row in part.rows]


def test_a_retry_reads_from_top_to_bottom() -> None:
    """Steps in order, the wait between attempts, links by number, the other user of the connection by name."""
    (part,) = parts_of(tried_twice())
    assert drawn(part) == [
        "# ← step     0              50 ms          100 ms   time",
        "1   request  ───────────────────────────────────▐ 100 ms",
        "2 1 ├╴queue  ███▋                                  10 ms",
        "3 2 ├╴GET       ▐███▎                              10 ms  503  h.example:443",
        "      503 Service Unavailable",
        "    ├╴wait          ░░░░░░░░░░░                    30 ms  Retry-After of 30 ms",
        "4 3 ├╴GET                      ███████▎──────╴     40 ms  200  attempt 2  ← request-7 on connection…",
        "5   │ └╴body                          ███████▍     20 ms  2.0 KiB",
        "6 4 ├╴verify                                 │    1.0 ms",
        "7 6 └╴store                                  ▕██▋ 8.0 ms  a.bin",
    ]


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Every sign has a plain one."""
    (part,) = parts_of(tried_twice())
    lines = drawn(part, 140, ASCII_MARKS)
    assert all(line.isascii() for line in [*lines, legend(ASCII_MARKS).replace("\xa0", " ")])
    assert lines[4] == "      503 Service Unavailable"
    assert "<- request-7 on connection w-0" in lines[6]


def test_each_moment_is_on_the_critical_path_of_one_row() -> None:
    """A wait has the time of its parent, which then does not have it."""
    (part,) = parts_of(tried_twice())
    pieces = sorted(piece for row in part.rows for piece in row.path)
    assert (pieces[0][0], pieces[-1][1]) == (at(0), at(100))
    assert all(before[1] == after[0] for before, after in pairwise(pieces))
    (wait,) = [row for row in part.rows if isinstance(row.what, Wait)]
    assert wait.path == [(at(20), at(50))]
    assert part.critical_ns["request"] == 31_000_000


def test_the_summary_says_what_was_waited_for() -> None:
    """The shares are those of the critical path, the largest first; they add up."""
    (part,) = parts_of(tried_twice())
    assert part.shares == pytest.approx(
        {
            WAITING: 0.03,
            "waiting for the server": 0.028,
            "body": 0.02,
            "queue": 0.01,
            "store": 0.008,
            "before it is sent": 0.002,
            "between steps": 0.001,
            "verify": 0.001,
        }
    )
    assert summary(part, UNICODE_MARKS).replace("\xa0", " ") == (
        "of 100 ms: 30 % waiting to try again, 28 % waiting for the server, 20 % body, 10 % queue, 8 % store, "
        "2 % before it is sent, 2 % the rest"
    )
    assert summary(parts_of([span("request", 0, 0)])[0], UNICODE_MARKS) == ""


def test_a_body_that_broke_off_is_told_from_an_answer_that_was_refused() -> None:
    """Time after the headers of a failed attempt: lost bytes, or the server's explanation; without any: no answer."""
    told = {"eventflow.attempt.response_seconds": 0.01, "http.response.status_code": 200}
    spans = [
        attempt(1, 0, 50, "queue", state="failed", message="nothing arrived", attributes=told),
        attempt(2, 50, 90, "get-1", state="failed", attributes=told | {"http.response.status_code": 503}),
        attempt(3, 90, 100, "get-2", state="failed", attributes={}),
        span("request", 0, 100, state="failed"),
    ]
    spans[2] = msgspec.structs.replace(spans[2], attributes={})
    shares = parts_of(spans)[0].shares
    assert {what: round(seconds * 1000) for what, seconds in shares.items()} == {
        "a body that broke off": 40,
        "reading the answer": 30,
        "waiting for the server": 18,
        "no answer": 10,
        "before it is sent": 2,
    }


def test_a_resumed_story_has_parts_with_axes_of_their_own() -> None:
    """Between two parts may lie a night. Numbers go on, and a link leads back to the part before."""
    night = 36_000_000.0
    spans = [
        span("queue", 0, 10, "request"),
        span("request", 0, 50, state="interrupted"),
        span("request", night, night + 20, "request", ["request"], span_id="again"),
        span("store", night + 5, night + 10, "again"),
    ]
    first, second = parts_of(spans)
    assert (first.seconds, second.seconds) == (0.05, 0.02)
    assert [row.number for row in second.rows] == [3, 4]
    assert second.rows[0].causes == [1]
    assert drawn(first)[1].endswith("interrupted")


def test_what_goes_on_hangs_below_what_stands_for_it() -> None:
    """While a run goes on, spans are there whose parents have not ended."""
    spans = [span("queue", 0, 10, "request"), span("connect", 12, 20, "get-1")]
    (part,) = parts_of(spans)
    assert part.goes_on
    assert label(spans) == [("", "request"), ("+", "queue"), ("L", "connect")]
    assert drawn(part)[1].endswith("20 ms+  goes on")
    assert part.spans[0].parent_span_id is not None


def test_a_wait_that_was_cut_off_is_shown() -> None:
    """The request was cancelled while it waited; a wait that was too short to be seen is not shown."""
    spans = [
        attempt(1, 0, 10, "queue", state="failed"),
        attempt(2, 10.1, 20, "get-1", state="failed"),
        span("request", 0, 90, state="cancelled", events=(delay(21, 5.0, "back-off"),)),
    ]
    assert label(spans) == [("", "request"), ("+", "attempt"), ("+", "attempt"), ("L", "wait")]
    assert any("back-off of 5.00 s" in line for line in drawn(parts_of(spans)[0]))


def test_what_is_not_known_says_what_its_event_said() -> None:
    """Events of one's own have a row, too; and a link to a trace that nobody knows has its id."""
    own = span("image", 0, 5, attributes={"eventflow.image.width": 80}, links=(SpanLink(OTHER_TRACE, "x", "y"),))
    (part,) = parts_of([own])
    assert drawn(part)[1].endswith("width 80  ← trace bbbbbbbb")


@given(
    width=st.integers(20, 240),
    message=st.text(max_size=300),
    name=st.text(max_size=80),
    marks=st.sampled_from([UNICODE_MARKS, ASCII_MARKS]),
)
def test_no_line_is_too_wide_and_no_control_gets_through(width: int, message: str, name: str, marks: Marks) -> None:
    """Whatever a server or a list calls things."""
    spans = [
        *tried_twice(),
        span("program", 99, 99.5, "request", span_id="p", name=name, message=message, state="failed"),
        span("image", 99.5, 99.6, "p", span_id="i", name=name, attributes={"eventflow.image.text": message}),
    ]
    for line in waterfall(parts_of(spans)[0], Shown(width, marks)):
        assert cell_len(line.plain) <= width
        assert line.plain.isprintable()
        assert line.plain.isascii() or not marks.glyphs.is_ascii


@given(st.data())
def test_a_bar_has_its_width_and_is_seen(data: st.DataObject) -> None:
    """Wherever it lies, within the axis or not, and however short it is."""
    width = data.draw(st.integers(1, 60))
    axis = Axis(at(0), at(data.draw(st.integers(0, 1000))), width)
    start, end = sorted(data.draw(st.tuples(st.integers(-100, 1100), st.integers(-100, 1100))))
    cut = data.draw(st.integers(start, end))
    is_ascii = data.draw(st.booleans())
    for drawn_bar in (
        bar(axis, at(start), at(end), [(at(start), at(cut))], is_ascii=is_ascii),
        bar(axis, at(start), at(end), [], is_ascii=is_ascii),
        dotted(axis, at(start), at(end), is_ascii=is_ascii),
    ):
        assert len(drawn_bar) == width
        assert drawn_bar.strip()
        assert drawn_bar.isascii() or not is_ascii


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 80, "██████████"),
        (0, 9, "█▏        "),
        (4, 16, "▐█        "),
        (7, 8, "▕         "),
        (3, 5, "│         "),
        (0, 1, "▏         "),
        (79, 80, "         ▕"),
    ],
)
def test_bars_are_drawn_to_an_eighth_of_a_cell(start: int, end: int, expected: str) -> None:
    """Right edges to an eighth, left edges to a half."""
    axis = Axis(at(0), at(80), 10)
    assert bar(axis, at(start), at(end), [(at(start), at(end))], is_ascii=False) == expected


def test_times_are_short() -> None:
    """Down to a microsecond, without a sign that ASCII lacks where there is only ASCII."""
    assert [format_time(each, ASCII_MARKS) for each in (0, 2e-6, 0.0004, 1.5)] == ["0", "2 us", "400 us", "1.50 s"]
