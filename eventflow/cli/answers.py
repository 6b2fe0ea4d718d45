"""Answers of `eventflow sql` as a person or a program reads them, at the prompt and in a pipe.

DuckDB holds on to the thread that asks it, and a Ctrl-C may not be heard there for as long as the query takes. So
queries run in a thread of their own while the main one waits, and a Ctrl-C interrupts the connection.
"""

import contextlib
import csv
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from enum import StrEnum
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from rich.cells import cell_len

from eventflow.cli.output import print_json, print_table, result_console, status_console
from eventflow.errors import UsageError, name_of
from eventflow.log.sql import query

if TYPE_CHECKING:
    import duckdb

    from eventflow.log.cookbook import Recipe

T = TypeVar("T")

CELL_WIDTH_MIN = 22
"""A longer text may be folded to this width; where even that is too wide, columns are left out."""

_ROWS_AT_ONCE = 10_000
_PATIENCE_SECONDS = 1.0
_PLAN = ("explain_key", "explain_value")
_NUMBERS = ("BIGINT", "INTEGER", "HUGEINT", "DOUBLE", "FLOAT", "DECIMAL", "UBIGINT", "SMALLINT", "TINYINT")
_CONTROLS = {code: ascii(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\n"}


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    LINE = "line"
    PARQUET = "parquet"


def print_answer(
    connection: "duckdb.DuckDBPyConnection", statement: str, form: Format, *, rows_max: int, advice: str
) -> int:
    """Ask, and print the answer on standard output. A Ctrl-C stops it within a moment. Returns how many rows it showed.

    Args:
        connection: as `eventflow.log.sql.connect` gives it; it can be used again, also after a Ctrl-C.
        statement: one that reads.
        form: anything but PARQUET.
        rows_max: at most so many rows are printed. Where there are more, standard error says so, and `advice`.
        advice: how to get them all.

    Raises:
        UsageError: as `query`.
        KeyboardInterrupt: it was stopped.
    """
    answer = interruptible(connection, lambda: query(connection, statement))
    if form is Format.JSON:
        records = _in_pieces(connection, answer.records())
        shown = list(islice(records, rows_max))
        print_json(shown)
        count, is_cut = len(shown), next(records, None) is not None
    else:
        rows = _in_pieces(connection, answer.rows())
        counted = _Counted(islice(rows, rows_max))
        _PRINTERS[form](answer.columns, answer.types, counted)
        count, is_cut = counted.count, next(rows, None) is not None
    if is_cut:
        sys.stdout.flush()
        sys.stderr.write(f"only the first {rows_max} rows are shown: {advice}\n")
    return count


def interruptible(connection: "duckdb.DuckDBPyConnection", work: Callable[[], T]) -> T:
    """What `work` gives; it uses this connection and nothing else does. On a terminal, one that takes long says so.

    It is called in the main thread.

    Raises:
        KeyboardInterrupt: Ctrl-C. The work has ended then, and the connection is free again.
    """
    news: SimpleQueue[str] = SimpleQueue()
    with _interrupts_as(news) as stops, ThreadPoolExecutor(1, "query") as pool:
        future = pool.submit(work)
        future.add_done_callback(lambda _: news.put("done"))
        _wait_for(news)
        while not future.done():  # more than once, since between two steps of the work there is nothing to interrupt
            connection.interrupt()
            wait([future], timeout=0.05)
    if stops:
        raise KeyboardInterrupt
    return future.result()


def find_recipe(name: str, fix: str) -> "Recipe":
    """The recipe of this name.

    Raises:
        UsageError: there is none; it ends with `fix`.
    """
    from eventflow.log.cookbook import RECIPES

    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    raise UsageError(f"there is no recipe {name_of(name)}", fix)


def print_recipes() -> None:
    """The names of the recipes and the questions that they answer."""
    from eventflow.log.cookbook import RECIPES

    print_table(("recipe", "question"), [(recipe.name, recipe.question) for recipe in RECIPES])


def columns_that_fit(widths: Sequence[int], width: int) -> int:
    """How many columns, from the left, a framed table has room for, texts folded to `CELL_WIDTH_MIN`; 1 at least.

    >>> columns_that_fit([20, 5, 200], 80), columns_that_fit([20, 5, 200], 50), columns_that_fit([99], 10)
    (3, 2, 1)
    """
    taken = 1
    for count, needed in enumerate(widths):
        taken += min(needed, CELL_WIDTH_MIN) + 3
        if taken > width:
            return max(count, 1)
    return len(widths)


def text_of(value: object) -> str:
    r"""A value as one cell: NULL is nothing, numbers have six digits at least, and nothing in it steers a terminal.

    >>> [text_of(value) for value in (None, True, 0.1234567, 12345678.9, [1], "\x1b[2J")]
    ['', 'true', '0.123457', '12345679', '[1]', '\\x1b[2J']
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.0f}" if 999_999.5 <= abs(value) < 1e15 else f"{value:.6g}"
    if isinstance(value, list | tuple | dict):
        value = msgspec.json.encode(msgspec.to_builtins(value, str_keys=True, enc_hook=str)).decode()
    return str(value).translate(_CONTROLS)


class _Counted:
    """Rows, and how many of them were taken."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        self._rows, self.count = rows, 0

    def __iter__(self) -> Iterator[Sequence[Any]]:
        for row in self._rows:
            self.count += 1
            yield row


@contextlib.contextmanager
def _interrupts_as(news: "SimpleQueue[str]") -> Iterator[list[str]]:
    """Within, a Ctrl-C is news and an entry in the list, and no exception at any line. An ignored one stays so."""
    stops: list[str] = []

    def take(*_: object) -> None:
        stops.append("stop")
        news.put("stop")  # this queue is made for handlers: it may be interrupted in the middle of itself

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, take)
    try:
        yield stops
    finally:
        signal.signal(signal.SIGINT, before)


def _wait_for(news: "SimpleQueue[str]") -> None:
    try:
        news.get(timeout=_PATIENCE_SECONDS)
    except Empty:
        waiting = status_console().status("still working; Ctrl-C stops it")
        with waiting if sys.stderr.isatty() else contextlib.nullcontext():
            news.get()


def _in_pieces(connection: "duckdb.DuckDBPyConnection", rows: Iterator[T]) -> Iterator[T]:
    while piece := interruptible(connection, lambda: list(islice(rows, _ROWS_AT_ONCE))):
        yield from piece


def _print_csv(columns: Sequence[str], _: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def _print_lines(columns: Sequence[str], _: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A line for each value, names to the right, and an empty line between two rows."""
    width = max(map(len, columns))
    for place, row in enumerate(rows):
        sys.stdout.write("\n" if place else "")
        sys.stdout.writelines(f"{name:>{width}} = {text_of(value)}\n" for name, value in zip(columns, row, strict=True))


def _print_table(columns: Sequence[str], types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table; on a terminal with as many columns as it has room for, a single row that is too wide as lines."""
    if tuple(columns) == _PLAN:  # DuckDB has drawn it already
        sys.stdout.writelines(f"{line.rstrip()}\n" for _, plan in rows for line in text_of(plan).split("\n"))
        return
    cells = [[text_of(value) for value in row] for row in rows]
    right = [name for name, kind in zip(columns, types, strict=True) if kind.startswith(_NUMBERS)]
    if not sys.stdout.isatty():
        print_table(columns, cells, right=right)
        return
    widths = [max(_width(text) for text in column) for column in zip(columns, *cells, strict=True)]
    count = columns_that_fit(widths, result_console().width)
    if count < len(columns) and len(cells) == 1:
        _print_lines(columns, types, cells)
        return
    print_table(columns[:count], [row[:count] for row in cells], right=right)
    if count < len(columns):
        sys.stdout.flush()
        sys.stderr.write(
            f"{count} of {len(columns)} columns fit: name the ones that you want, or take the format `line`\n"
        )


def _width(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


_PRINTERS = {Format.CSV: _print_csv, Format.LINE: _print_lines, Format.TABLE: _print_table}
