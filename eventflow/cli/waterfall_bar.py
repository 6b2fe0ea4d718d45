"""A bar of a waterfall: where on the time axis something was, in the cells of a line. Pure.

What is on the critical path is solid, the rest is a thin line. Edges are drawn to an eighth of a cell where the glyphs
allow it: left edges to a half, since the blocks that end at the right come in halves and eighths only.

Invariants:
    a bar is exactly as wide as it was asked to be;
    whatever happened is seen: nothing is shorter than the thinnest sign.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

_PARTS = 8
LINES = "─╴╶-"
"""The signs for what is not on the critical path."""

_LEFT = " ▏▎▍▌▋▊▉█"

Eighths = tuple[int, int]


class Axis(NamedTuple):
    """A stretch of time, and how many cells it takes."""

    start_ns: int
    end_ns: int
    width: int

    def eighths(self, start_ns: int, end_ns: int) -> Eighths:
        """Where an interval lies, in eighths of a cell: at least one, and within the axis."""
        length, size = max(1, self.end_ns - self.start_ns), self.width * _PARTS
        begin = min(size - 1, max(0, (start_ns - self.start_ns) * size // length))
        end = min(size, max(begin + 1, round((end_ns - self.start_ns) * size / length)))
        return begin, end


def bar(axis: Axis, start_ns: int, end_ns: int, path: Iterable[tuple[int, int]], *, is_ascii: bool) -> str:
    """The bar of something that lasted so long, and was on the critical path in these stretches of it."""
    whole = axis.eighths(start_ns, end_ns)
    pieces = list(path)
    eighth_ns = (axis.end_ns - axis.start_ns) / (axis.width * _PARTS)
    large = [piece for piece in pieces if piece[1] - piece[0] >= eighth_ns]
    solid = [axis.eighths(*piece) for piece in large or (pieces if sum(whole) == 0 or whole[1] - whole[0] == 1 else [])]
    return "".join(_cell(place * _PARTS, whole, solid, is_ascii=is_ascii) for place in range(axis.width))


def dotted(axis: Axis, start_ns: int, end_ns: int, *, is_ascii: bool) -> str:
    """The bar of a wait: whole cells, another sign."""
    begin, end = axis.eighths(start_ns, end_ns)
    first = begin // _PARTS
    count = max(1, (end + _PARTS // 2) // _PARTS - first)
    return " " * first + ("." if is_ascii else "░") * count + " " * (axis.width - first - count)


def _cell(begin: int, whole: Eighths, solid: Sequence[Eighths], *, is_ascii: bool) -> str:
    """Cases: the critical path goes through this cell; the bar does; neither."""
    inside = [part for piece in solid if (part := _within(begin, piece))]
    if inside:
        low, high = min(part[0] for part in inside), max(part[1] for part in inside)
        return "#" if is_ascii else _block(low, high)
    part = _within(begin, whole)
    if part is None:
        return " "
    return "-" if is_ascii else _line(*part)


def _within(begin: int, piece: Eighths) -> Eighths | None:
    """What part of a cell an interval takes, from 0 to 8."""
    low, high = max(piece[0] - begin, 0), min(piece[1] - begin, _PARTS)
    return (low, high) if low < high else None


def _block(low: int, high: int) -> str:
    """Cases: from the left edge, where there is a sign for each eighth; to the right edge; in the middle."""
    if low == 0:
        return _LEFT[high]
    if high == _PARTS:
        return "█" if low <= 1 else "▐" if low <= 5 else "▕"
    if high - low >= _PARTS // 2:
        return "▌" if low + high < _PARTS else "▐"
    return "▏" if low + high <= _PARTS // 2 else "▕" if low + high >= _PARTS * 3 // 2 else "│"


def _line(low: int, high: int) -> str:
    if high - low > _PARTS // 2 or (low < _PARTS // 2 < high):
        return "─"
    return "╴" if high <= _PARTS // 2 else "╶"
