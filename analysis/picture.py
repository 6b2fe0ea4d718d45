"""What a chart's module makes: the chart, a sentence on what is seen in it, and the same as a table.

Who cannot see the chart reads the sentence and the table; they are made from the rows that the chart is drawn from.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, TypeVar

import msgspec

from analysis.amounts import number_text
from analysis.appearance import Chart
from analysis.labels import Row

Columns = Mapping[str, str | Callable[[Row], object]]
TABLE_ROWS_MAX = 50
NAMED_MAX = 8
T = TypeVar("T")
UNKNOWN = "–"


class DataName(str):
    """The name of rows, which has them with it. The same rows have the same name.

    Altair copies and checks a chart's rows a dozen times, which takes seconds; a name it only passes on.
    """

    __slots__ = ("rows",)
    rows: Sequence[Row]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "DataName":
        """The name of these rows."""
        name = cls(f"data-{blake2b(msgspec.json.encode(rows), digest_size=8).hexdigest()}")
        name.rows = rows
        return name


class Table(msgspec.Struct, frozen=True):
    """A table of text. The columns from the second on are numbers, or nearly."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A chart with what it says in words. `wide`: it wants the whole width of a page."""

    chart: Chart
    seen: str
    table: Table
    wide: bool = False

    def specification(self) -> dict[str, Any]:
        """The chart as Vega-Lite takes it, with its rows."""
        made: dict[str, Any] = self.chart.to_dict()
        made.pop("config", None)
        return made | {"datasets": {name: list(name.rows) for name in _names(made)}}


def table(rows: Sequence[Row], columns: Columns) -> Table:
    """A table from rows: by its head, the field of each column, or what gives its value.

    Of more rows than people read, some of each label are left out: the first and the last one stay.
    """
    shown = sparse(rows, TABLE_ROWS_MAX)
    cells = (
        tuple(cell(row.get(source) if isinstance(source, str) else source(row)) for source in columns.values())
        for row in shown
    )
    return Table(tuple(columns), tuple(cells))


def sparse(rows: Sequence[Row], rows_max: int) -> list[Row]:
    """At most about so many of the rows, from each label the same number, evenly chosen."""
    if len(rows) <= rows_max:
        return list(rows)
    of_label: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of_label[row["label"]].append(row)
    share = max(2, rows_max // len(of_label))
    return [row for found in of_label.values() for row in evenly(found, share)]


def cell(value: object) -> str:
    """A value as a table shows it.

    >>> [cell(value) for value in (None, 0.123456, 12345, "loop")]
    ['–', '0.123', '12,345', 'loop']
    """
    match value:
        case None:
            return UNKNOWN
        case float():
            return number_text(value)
        case int():
            return f"{value:,}"
    return str(value)


def listing(parts: Sequence[str]) -> str:
    """The parts as a list in a sentence, the last of many left out.

    >>> listing(["a 1", "b 2"])
    'a 1; b 2'
    """
    more = f"; and {len(parts) - NAMED_MAX} more" if len(parts) > NAMED_MAX else ""
    return "; ".join(parts[:NAMED_MAX]) + more


def _names(value: object) -> Iterator[DataName]:
    match value:
        case DataName():
            yield value
        case dict():
            yield from chain.from_iterable(map(_names, value.values()))
        case list():
            yield from chain.from_iterable(map(_names, value))


def evenly(rows: Sequence[T], count: int) -> list[T]:
    """At most so many of the rows, evenly chosen, with the first and the last one."""
    if len(rows) <= count:
        return list(rows)
    return [rows[place * (len(rows) - 1) // (count - 1)] for place in range(count)]
