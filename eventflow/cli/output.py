"""What a person or a program reads: consoles, tables and the words for amounts.

Results go to standard output, everything about how it is going to standard error, so that a pipe gets results only.
Colours and moving lines only on a terminal, and never with `NO_COLOR`.
"""

import os
import sys
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 200
DRAWING_WIDTH = 100


def result_console() -> Console:
    """Standard output. Wide in a pipe, so that lines are not wrapped."""
    return Console(
        width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=not sys.stdout.isatty()
    )


def drawing_console() -> Console:
    """Standard output for what is drawn to a width: the terminal's; in a pipe that of COLUMNS, or 100 columns."""
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isascii() and columns.isdecimal() and int(columns) else DRAWING_WIDTH
    return Console(width=None if sys.stdout.isatty() else width, highlight=False)


def is_unicode(console: Console) -> bool:
    """Whether what is printed there may be more than ASCII."""
    return console.encoding.lower().startswith("utf")


def status_console() -> Console:
    """Standard error."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH, highlight=False)


def print_json(value: object) -> None:
    """One JSON value on one line of standard output."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = (), title: str = ""
) -> None:
    """A table: framed on a terminal, tab-separated lines with a header in a pipe.

    `right` names the columns of numbers.
    """
    if not sys.stdout.isatty():
        sys.stdout.write("\t".join(columns) + "\n")
        sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
        return
    result_console().print(table(columns, rows, right=right, title=title))


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = (), title: str = ""
) -> Table:
    """A rich table with the columns of numbers to the right. What looks like markup is shown as it is."""
    right = set(right)
    made = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        made.add_column(Text(column), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made
