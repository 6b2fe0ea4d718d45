"""`eventflow sql` and `eventflow report`: questions and pictures, from the log."""

import contextlib
import enum
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from eventflow.cli.answers import Format, find_recipe, interruptible, print_answer, print_recipes
from eventflow.cli.options import StoreOption
from eventflow.cli.output import print_table
from eventflow.errors import StoreError, UsageError, name_of
from eventflow.log.runs import RunFolder, list_runs, store_path
from eventflow.sweep import WARM_UP

ROWS_SHOWN_MAX = 1_000
RUNS_COMPARED_MAX = 20


class Charts(enum.StrEnum):
    """What charts are written as."""

    HTML = "html"
    PNG = "png"
    SVG = "svg"


def sql(
    query: Annotated[
        str | None,
        typer.Argument(metavar="[SELECT]", help="The statement, or several with `;` between them."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="For parquet: where to write it.")
    ] = None,
    views: Annotated[bool, typer.Option("--views", help="List the views and their columns.")] = False,
    cookbook: Annotated[
        bool, typer.Option("--cookbook", help="List questions that people ask; with the name of one, answer it.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Ask the events of all runs in SQL (DuckDB), also while a run is going on.

    Without a statement it opens a prompt with history and completion (.help lists its commands), or answers the
    statements that come through a pipe. The first one that fails ends it. --views says what can be asked.

    Example: eventflow sql "SELECT stage, seconds, completed FROM runs"

    Example: eventflow sql --cookbook slowest-hosts

    Example: eventflow sql < questions.sql
    """
    if views:
        _print_views()
    elif cookbook and query is None:
        print_recipes()
    else:
        if cookbook and query is not None:
            query = find_recipe(query, "`eventflow sql --cookbook` lists them").statement
        with _hearing_interrupts():
            _answer(query, form, out, store_path(store))


def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN|SWEEP]...", help="The runs to compare, or a sweep. Default: the newest twenty."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PATH", help="The page to write; for png and svg a folder."),
    ] = None,
    form: Annotated[
        Charts, typer.Option("--format", help="One page, or a picture or drawing of each chart.")
    ] = Charts.HTML,
    store: StoreOption = None,
) -> None:
    """Write one self-contained page of charts about one run or several, or about a sweep.

    Runs with different numbers of requests are compared by that number: speed, memory and how time grows. A run that
    cannot be read is named on the page and hides none of the others.

    Example: eventflow report latest -o report.html

    Example: eventflow report latest --format png -o charts
    """
    from analysis.material import asked_runs
    from analysis.report import write_pictures, write_report

    folder = store_path(store)
    runs, sweep = asked_runs(folder, names or _newest(folder))
    out = out or Path("report.html" if form is Charts.HTML else "report")
    try:
        if form is Charts.HTML:
            written = [write_report(folder, runs, out, sweep)]
        else:
            written = write_pictures(folder, runs, out, form.value)
    except OSError as problem:
        raise UsageError(
            f"{name_of(str(out))} cannot be written ({problem.strerror})", "name another place with --out"
        ) from problem
    sys.stdout.write("".join(f"{path.absolute()}\n" for path in written))


def _answer(query: str | None, form: Format, out: Path | None, store: Path) -> None:
    """Cases: a file is asked for; there is nobody to ask back; a person sits at a terminal."""
    if form is Format.PARQUET:
        _write(query, out, store)
    elif query is not None or not sys.stdin.isatty():
        _print_all([query] if query is not None else sys.stdin, form, store)
    elif sys.stdout.isatty():
        from eventflow.cli.prompt import open_prompt

        open_prompt(store, form)
    else:
        raise UsageError("no statement", 'give one, for example eventflow sql "SELECT * FROM runs", or --views')


def _print_all(lines: Iterable[str], form: Format, store: Path) -> None:
    """The answers to all statements, each as soon as it was read. They are about one moment of the store."""
    from eventflow.cli.statements import all_in
    from eventflow.log.sql import connect

    rows_max = ROWS_SHOWN_MAX if form is Format.TABLE else sys.maxsize
    count = 0
    with contextlib.closing(connect(store)) as connection:
        for statement in all_in(lines):
            if count and form is not Format.JSON:
                sys.stdout.write("\n")
            print_answer(connection, statement, form, rows_max=rows_max, advice="--format csv gives all")
            sys.stdout.flush()
            count += 1
    if not count:
        raise UsageError("there is no statement", 'give one, for example "SELECT * FROM runs", or --views')


def _write(query: str | None, out: Path | None, store: Path) -> None:
    from eventflow.cli.statements import all_in
    from eventflow.log.sql import write_parquet

    if out is None:
        raise UsageError("parquet needs a file", "name it with --out FILE.parquet")
    if query is None and sys.stdin.isatty():
        raise UsageError("no statement", "give the one whose rows are to be written")
    statement = ";\n".join(all_in(sys.stdin if query is None else [query]))
    write_parquet(store, statement, out, carry_out=interruptible)


def _print_views() -> None:
    from eventflow.log.views import VIEWS

    rows = [(view.name, column.name, column.type, column.description) for view in VIEWS for column in view.columns]
    print_table(("view", "column", "type", "what"), rows)


@contextlib.contextmanager
def _hearing_interrupts() -> Iterator[None]:
    """DuckDB, asked in the main thread, turns a Ctrl-C into an error of its own."""
    try:
        yield
    except RuntimeError as problem:
        if str(problem) == "Query interrupted":
            raise KeyboardInterrupt from problem
        raise


def _newest(store: Path) -> list[str]:
    """The newest runs, oldest first, without those that only warmed something up."""
    measuring = (folder.run for folder in reversed(list_runs(store)) if not _is_warm_up(folder))
    runs = list(islice(measuring, RUNS_COMPARED_MAX))[::-1]
    if not runs:
        raise UsageError(
            f"there is no run in {name_of(str(store))}", "make one with `eventflow run`, or name a --store"
        )
    return runs


def _is_warm_up(folder: RunFolder) -> bool:
    try:
        return WARM_UP in folder.info().labels
    except StoreError:  # the report names it, with the reason
        return False
