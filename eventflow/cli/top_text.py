"""The small pieces of a full-screen view: lines of fixed width, tables of one line a row, sparklines. Pure.

Invariants:
    nothing here is wider than it was asked to be, in cells of a terminal;
    no character that a terminal would obey comes out of `harmless`.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from eventflow.quantities import format_count, format_size

_GAP = 2
_TITLE = "bold bright_black"
_ASCII_SPARKS = " .:-=+*#"


class Glyphs(NamedTuple):
    """The characters that are not letters."""

    sparks: str
    bar: str
    rest: str
    dot: str
    cut: str
    is_ascii: bool


UNICODE = Glyphs("▁▂▃▄▅▆▇█", "━", "─", "●", "…", is_ascii=False)
ASCII = Glyphs(_ASCII_SPARKS, "#", "-", "*", "~", is_ascii=True)


class Column(NamedTuple):
    """A column of a table.

    `keep` says how late it is left out where there is no room; `flex`: it takes a share of what the others leave, and
    at least `least` cells.
    """

    title: str
    keep: int
    right: bool = False
    flex: int = 0
    least: int = 8
    style: str = ""
    cut: Literal["end", "middle"] = "end"


def harmless(text: str, glyphs: Glyphs) -> str:
    """The text with everything escaped that is no visible character.

    That is control characters, those that turn the writing direction, and what this terminal cannot show.
    """
    if text.isprintable() and (text.isascii() or not glyphs.is_ascii):
        return text
    return "".join(
        letter
        if letter.isprintable() and (letter.isascii() or not glyphs.is_ascii)
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def cut_end(text: str, width: int, glyphs: Glyphs) -> str:
    """The beginning of a text that is too long."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + glyphs.cut if width > 0 else ""


def cut_middle(text: str, width: int, glyphs: Glyphs) -> str:
    """The beginning and the end: of a URL, the end says more."""
    if cell_len(text) <= width:
        return text
    head = max(0, (width - 1) * 2 // 5)
    tail = max(0, width - 1 - head)
    begin = len(text)
    while begin > 0 and (size := cell_len(text[begin - 1])) <= tail:
        begin, tail = begin - 1, tail - size
    return set_cell_size(text, head) + glyphs.cut + text[begin:] if width > 0 else ""


def sparkline(values: Sequence[float], width: int, glyphs: Glyphs, *, squeeze: bool) -> str:
    """The values as little bars from 0 to the highest. What is too long is squeezed, or only its end is shown."""
    if not values or width <= 0:
        return ""
    if len(values) > width:
        values = _squeezed(values, width) if squeeze else values[-width:]
    top = max(values)
    steps = len(glyphs.sparks) - 1
    if top <= 0:
        return glyphs.sparks[0] * len(values)
    return "".join(glyphs.sparks[min(steps, max(0, round(value / top * steps)))] for value in values)


def format_rate(rate: float) -> str:
    """A rate for people.

    >>> format_rate(0), format_rate(4.16), format_rate(5869.2)
    ('0', '4.2', '5 869')
    """
    return f"{rate:.1f}" if 0.05 <= rate < 9.95 else format_count(round(rate))


def format_brief(seconds: float) -> str:
    """A duration for people, in few letters.

    >>> format_brief(0.0215), format_brief(4.96), format_brief(24), format_brief(754), format_brief(7500)
    ('22 ms', '5.0 s', '24 s', '12m34s', '2h05m')
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def format_part(size: int, whole: int | None) -> str:
    """How much of something is there.

    >>> format_part(1 << 20, 4718592), format_part(512, 2048), format_part(300, None)
    ('1.0 of 4.5 MiB', '512 B of 2.0 KiB', '300 B')
    """
    have = format_size(size)
    if whole is None:
        return have
    all_of_it = format_size(whole)
    amount, _, unit = have.partition(" ")
    return f"{amount if all_of_it.endswith(f' {unit}') else have} of {all_of_it}"


def bar(share: float, width: int, glyphs: Glyphs, style: str) -> Text:
    """How much is done."""
    done = min(width, max(0, round(share * width)))
    return Text(glyphs.bar * done, style=style).append(glyphs.rest * (width - done), style="bright_black")


def table(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int, glyphs: Glyphs) -> list[Text]:
    """A heading and one line for each row. Columns for which there is no room are left out, the least wanted first."""
    places = _fitting(columns, rows, width)
    widths = _widths([columns[place] for place in places], [[row[place] for place in places] for row in rows], width)
    titles = [columns[place].title for place in places]
    shown = [columns[place] for place in places]
    heading = _row([Text(title, style=_TITLE) for title in titles], shown, widths, glyphs)
    return [heading, *(_row([row[place] for place in places], shown, widths, glyphs) for row in rows)]


def flow(items: Iterable[Text], width: int, gap: int = _GAP) -> list[Text]:
    """Pieces one after the other, in as many lines as it takes."""
    lines: list[Text] = []
    for item in items:
        if lines and lines[-1].cell_len + gap + item.cell_len <= width:
            lines[-1].append(" " * gap).append_text(item)
        else:
            lines.append(item.copy())
    for line in lines:
        line.truncate(width)
    return lines


def spread(left: Text, right: Text, width: int) -> Text:
    """One line with something at each end; the right one goes if there is no room for both."""
    room = width - left.cell_len - right.cell_len
    if room < 1:
        left.truncate(width)
        return left
    return left.append(" " * room).append_text(right)


def _squeezed(values: Sequence[float], width: int) -> list[float]:
    bounds = [place * len(values) // width for place in range(width + 1)]
    return [max(values[begin:end]) for begin, end in pairwise(bounds)]


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int) -> list[int]:
    """The places of the columns that there is room for, in their order; at least one."""
    places = sorted(range(len(columns)), key=lambda place: -columns[place].keep)
    while len(places) > 1:
        needed = sum(
            columns[place].least if columns[place].flex else _content(columns[place], [row[place] for row in rows])
            for place in places
        )
        if needed + _GAP * (len(places) - 1) <= width:
            break
        places.pop()
    return sorted(places)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int) -> list[int]:
    contents = [_content(column, [row[place] for row in rows]) for place, column in enumerate(columns)]
    left = width - _GAP * (len(columns) - 1)
    left -= sum(size for size, column in zip(contents, columns, strict=True) if not column.flex)
    shares = sum(column.flex for column in columns)
    widths = []
    for content, column in zip(contents, columns, strict=True):
        size = content
        if column.flex:  # the last of them gets what is left
            size = max(0, min(content, left * column.flex // shares))
            left, shares = left - size, shares - column.flex
        widths.append(min(size, width))
    return widths


def _content(column: Column, cells: Iterable[str | Text]) -> int:
    return max([cell_len(column.title), *(_cells(cell) for cell in cells)])


def _cells(cell: str | Text) -> int:
    return cell.cell_len if isinstance(cell, Text) else cell_len(cell)


def _row(cells: Sequence[str | Text], columns: Sequence[Column], widths: Sequence[int], glyphs: Glyphs) -> Text:
    line = Text()
    for place, (cell, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        if isinstance(cell, Text):
            text = cell.copy()
            text.truncate(width)
        else:
            shorten = cut_middle if column.cut == "middle" else cut_end
            text = Text(shorten(cell, width, glyphs), style=column.style)
        padding = " " * (width - text.cell_len)
        is_last = place == len(cells) - 1
        line.append(" " * _GAP if place else "").append(padding if column.right else "")
        line.append_text(text).append("" if column.right or is_last else padding)
    return line
