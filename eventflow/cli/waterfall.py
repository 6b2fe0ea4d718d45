"""A trace as lines of text: a tree of spans with a bar for each on one time axis, for a terminal of any width. Pure.

Invariants:
    no line is wider than it was asked to be;
    texts from the log are made harmless before they are shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from eventflow.cli.top_text import cut_end, harmless
from eventflow.cli.trace_rows import WAIT, Interval, Part, Row, Wait
from eventflow.cli.trace_words import UNICODE_MARKS, Marks, details_of, format_time, label_of, reason_of
from eventflow.cli.waterfall_bar import LINES, Axis, bar, dotted

_DIM = "bright_black"
_STYLES = {
    WAIT: "yellow",
    "queue": "bright_black",
    "attempt": "cyan",
    "connect": "magenta",
    "body": "blue",
    "verify": "yellow",
    "store": "green",
    "program": "bright_magenta",
}
BAD = {"failed": "bold red", "interrupted": "bold yellow", "cancelled": "yellow"}
"""How what did not end well is coloured, by its state."""

KEPT = "\xa0"
"""A space at which no line ends."""

TITLE = "title"
"""The kind of a line that is a heading of those below it."""

_TREES = {"|": "│ ", "+": "├╴", "L": "└╴", " ": "  "}
_TREES_ASCII = {"|": "| ", "+": "|-", "L": "`-", " ": "  "}
_LABEL_SHARE_MAX = 0.3
_BAR_SHARE_MIN = 0.36
_BAR_MIN = 8
_MIDDLE_FROM = 36
_SHARES_SHOWN = 6
_SHARE_MIN = 0.005


class Shown(NamedTuple):
    """How it is to look; `outside`: what spans of other traces are called, by their ids."""

    width: int
    marks: Marks = UNICODE_MARKS
    outside: Mapping[str, str] = {}


class Line(NamedTuple):
    """Something with a bar, in words. `state` colours it; `kind` colours the bar where the state does not."""

    label: str
    start_ns: int
    end_ns: int
    time: str
    kind: str
    state: str = "completed"
    path: Sequence[Interval] = ()
    facts: Sequence[str] = ()
    message: str = ""
    number: str = ""
    causes: str = ""
    indent: int = 0


class _Widths(NamedTuple):
    number: int
    causes: int
    label: int
    bar: int
    time: int
    facts: int


def waterfall(part: Part, shown: Shown) -> list[Text]:
    """One part of a trace, below a line with the times of its axis."""
    return draw(lines_of(part, shown), (part.start_ns, part.end_ns), shown)


def lines_of(part: Part, shown: Shown) -> list[Line]:
    """The rows of a part in words."""
    return [_line(row, part, shown) for row in part.rows]


def draw(lines: Sequence[Line], axis: Interval, shown: Shown, title: str = "step") -> list[Text]:
    """Lines with bars on one time axis, from and to in Unix nanoseconds, and a heading above them."""
    widths = _widths(lines, shown.width, len(title))
    drawn = [_heading(widths, (axis[1] - axis[0]) / 1e9, shown.marks, title)]
    for line in lines:
        if line.kind == TITLE:
            drawn += [Text(), Text(harmless(line.label, shown.marks.glyphs), style="bold")]
            continue
        drawn.append(_drawn(line, Axis(*axis, widths.bar), widths, shown.marks))
        if line.message:
            margin = " " * min(shown.width // 2, _before_label(widths) + line.indent)
            message = harmless(line.message, shown.marks.glyphs)
            drawn.append(
                Text(cut_end(margin + message, shown.width, shown.marks.glyphs), style=BAD.get(line.state, _DIM))
            )
    for text in drawn:
        text.rstrip()
        text.truncate(shown.width)
    return drawn


def summary(part: Part, marks: Marks) -> str:
    """What the time of the critical path was spent on: the largest shares, and how much is left; empty of no time.

    Spaces that belong to a number are `KEPT`.
    """
    whole = sum(part.shares.values())
    if not whole:
        return ""
    shares = [(what, seconds / whole) for what, seconds in part.shares.items()]
    shown = [(what, share) for what, share in shares[:_SHARES_SHOWN] if share >= _SHARE_MIN]
    rest = 1 - sum(share for _, share in shown)
    if rest >= _SHARE_MIN:
        shown.append(("the rest", rest))
    words = [f"{share:.0%} {harmless(what, marks.glyphs)}".replace("%", " %") for what, share in shown]
    return f"of {format_time(whole, marks).replace(' ', KEPT)}: {', '.join(word.replace(' ', KEPT) for word in words)}"


def legend(marks: Marks) -> str:
    """What the signs mean; spaces as in `summary`."""
    solid, line, wait = ("#", "-", ".") if marks.glyphs.is_ascii else ("█", "─", "░")
    signs = ((solid, "critical path: what the end waited for"), (line, "not waited for"), (wait, "nothing was done"))
    words = (*signs, (marks.back, "what led to it"))
    return "  ".join(f"{sign} {word}".replace(" ", KEPT) for sign, word in words)


def _line(row: Row, part: Part, shown: Shown) -> Line:
    marks = shown.marks
    trees = _TREES_ASCII if marks.glyphs.is_ascii else _TREES
    tree = "".join(trees[letter] for letter in row.tree)
    what = row.what
    time = format_time((what.end_ns - what.start_ns) / 1e9, marks)
    if isinstance(what, Wait):
        facts = reason_of(what.delay, marks) if what.delay is not None else []
        return Line(f"{tree}wait", what.start_ns, what.end_ns, time, WAIT, path=row.path, facts=facts)
    goes_on = what is part.root and part.goes_on
    return Line(
        label=tree + label_of(what),
        start_ns=what.start_ns,
        end_ns=what.end_ns,
        time=f"{time}+" if goes_on else time,
        kind=what.step,
        state=what.state,
        path=row.path,
        facts=["goes on"] if goes_on else details_of(what, marks, _outside(row, shown)),
        message=without_url(what.message, str(what.attributes.get("url.full", ""))),
        number=str(row.number),
        causes=",".join(map(str, row.causes)),
        indent=len(tree),
    )


def without_url(message: str, url: str) -> str:
    """A request's failure without the URL that it begins with: that stands beside it.

    >>> without_url("http://h/a: 404 Not Found", "http://h/a")
    '404 Not Found'
    """
    return message.removeprefix(f"{url}: ")


def _outside(row: Row, shown: Shown) -> list[str]:
    """Whose spans of other traces led to it."""
    names = (shown.outside.get(link.span_id, f"trace {link.trace_id[:8]}") for link in row.outside)
    return list(dict.fromkeys(names))


def _widths(lines: Sequence[Line], width: int, title: int) -> _Widths:
    """The bars take what the words leave, and at least their share."""
    lines = [line for line in lines if line.kind != TITLE]
    number = max((len(line.number) for line in lines), default=0)
    causes = max((len(line.causes) for line in lines), default=0)
    label = max([title, *(cell_len(line.label) for line in lines)])
    label = min(label, max(title, int(width * _LABEL_SHARE_MAX)))
    time = max([4, *(cell_len(line.time) for line in lines)])
    facts = max((cell_len("  ".join(line.facts)) for line in lines), default=0)
    left = width - sum(size + 1 for size in (number, causes, label, time) if size)
    least = min(max(_BAR_MIN, int(width * _BAR_SHARE_MIN)), left)
    facts = max(0, min(facts, left - least - 2))
    return _Widths(number, causes, label, max(1, left - facts - (2 if facts else 0)), time, facts)


def _before_label(widths: _Widths) -> int:
    return sum(size + 1 for size in (widths.number, widths.causes) if size)


def _heading(widths: _Widths, seconds: float, marks: Marks, title: str) -> Text:
    text = Text(style=_DIM)
    if widths.number:
        text.append("#".rjust(widths.number) + " ")
    if widths.causes:
        text.append(_sized(marks.back, widths.causes) + " ")
    text.append(_sized(title, widths.label) + " ").append(_scale(widths.bar, seconds, marks))
    return text.append(" " + "time".rjust(widths.time))


def _scale(width: int, seconds: float, marks: Marks) -> str:
    """The times of the axis: at its ends, and in the middle where there is room."""
    end = format_time(seconds, marks)
    scale = "0" + end.rjust(width - 1)
    if width >= _MIDDLE_FROM:
        middle = format_time(seconds / 2, marks)
        place = (width - len(middle)) // 2
        scale = scale[:place] + middle + scale[place + len(middle) :]
    return _sized(scale, width)


def _drawn(line: Line, axis: Axis, widths: _Widths, marks: Marks) -> Text:
    glyphs = marks.glyphs
    style = BAD.get(line.state, "")
    text = Text()
    if widths.number:
        text.append(line.number.rjust(widths.number) + " ", style=_DIM)
    if widths.causes:
        text.append(_sized(cut_end(line.causes, widths.causes, glyphs), widths.causes) + " ", style=_DIM)
    label = harmless(line.label, glyphs)
    text.append(_sized(cut_end(label, widths.label, glyphs), widths.label) + " ", style=style or "default")
    if line.kind == WAIT:
        shape = dotted(axis, line.start_ns, line.end_ns, is_ascii=glyphs.is_ascii)
    else:
        shape = bar(axis, line.start_ns, line.end_ns, line.path, is_ascii=glyphs.is_ascii)
    colour = style or _STYLES.get(line.kind, "default")
    for sign, same in groupby(shape, key=lambda sign: sign in LINES):
        text.append("".join(same), style=_DIM if sign else colour)
    text.append(" ")
    text.append(line.time.rjust(widths.time), style="bold" if line.path else _DIM)
    if widths.facts:
        facts = harmless("  ".join(fact for fact in line.facts if fact), glyphs)
        text.append("  ").append(cut_end(facts, widths.facts, glyphs), style=style or _DIM)
    return text


def _sized(text: str, width: int) -> str:
    return set_cell_size(text, width)


def texts(lines: Iterable[str], marks: Marks, style: str = "") -> list[Text]:
    """Plain lines, made harmless."""
    return [Text(harmless(line, marks.glyphs), style=style) for line in lines]
