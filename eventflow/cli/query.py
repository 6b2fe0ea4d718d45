"""`eventflow sql` and `eventflow report`: questions and pictures, from the log."""

import contextlib
import csv
import sys
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from eventflow.cli.options import StoreOption
from eventflow.cli.output import print_json, print_table
from eventflow.errors import UsageError, name_of
from eventflow.log.runs import find_run, list_runs, store_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from eventflow.log.sql import Answer

ROWS_SHOWN_MAX = 1_000
RUNS_COMPARED_MAX = 20


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="[SELECT]", help="The statement; without it, from standard input.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="For parquet: where to write it.")
    ] = None,
    views: Annotated[bool, typer.Option("--views", help="List the views and their columns.")] = False,
    store: StoreOption = None,
) -> None:
    """Ask the events of all runs in SQL (DuckDB), also while a run is going on.

    Views: runs, requests, attempts, samples, events.

    Example: eventflow sql "SELECT stage, seconds, completed FROM runs"
    """
    from eventflow.log.sql import connect, write_parquet
    from eventflow.log.sql import query as ask
    from eventflow.log.views import VIEWS

    if views:
        rows = [(view.name, column.name, column.type, column.description) for view in VIEWS for column in view.columns]
        print_table(("view", "column", "type", "what"), rows)
        return
    if query is None:
        if sys.stdin.isatty():
            raise UsageError("no statement", 'give one, for example eventflow sql "SELECT * FROM runs", or --views')
        query = sys.stdin.read()
    if form is Format.PARQUET and out is None:
        raise UsageError("parquet needs a file", "name it with --out FILE.parquet")
    folder = store_path(store)
    if form is Format.PARQUET and out is not None:
        write_parquet(folder, query, out)
    else:
        with contextlib.closing(connect(folder)) as connection:
            _print(ask(connection, query), form)


def report(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="The runs to compare. Default: the newest twenty.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the page.")] = Path(
        "report.html"
    ),
    store: StoreOption = None,
) -> None:
    """Write one self-contained page of charts about one run or several.

    Example: eventflow report latest -o report.html
    """
    from analysis.report import write_report

    folder = store_path(store)
    runs = [find_run(folder, name).run for name in names or _newest(folder)]
    try:
        written = write_report(folder, runs, out)
    except OSError as problem:
        raise UsageError(
            f"{name_of(str(out))} cannot be written ({problem.strerror})", "name another file with --out"
        ) from problem
    sys.stdout.write(f"{written.absolute()}\n")


def _newest(store: Path) -> list[str]:
    runs = [folder.run for folder in list_runs(store)[-RUNS_COMPARED_MAX:]]
    if not runs:
        raise UsageError(
            f"there is no run in {name_of(str(store))}", "make one with `eventflow run`, or name a --store"
        )
    return runs


def _print(answer: "Answer", form: Format) -> None:
    if form is Format.JSON:
        print_json(list(answer.records()))
    elif form is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows(answer.rows())
    else:
        rows = answer.rows()
        shown = [[_text(value) for value in row] for row in islice(rows, ROWS_SHOWN_MAX)]
        right = [name for name, kind in zip(answer.columns, answer.types, strict=True) if kind.startswith(_NUMBERS)]
        print_table(answer.columns, shown, right=right)
        if next(rows, None) is not None:
            sys.stderr.write(f"only the first {ROWS_SHOWN_MAX} rows are shown: --format csv gives all\n")


_NUMBERS = ("BIGINT", "INTEGER", "HUGEINT", "DOUBLE", "FLOAT", "DECIMAL", "UBIGINT", "SMALLINT", "TINYINT")


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
