"""The report: one page that compares runs, in words, numbers and charts. It reads the log and nothing else.

Invariants:
    the page is one file, opens without a network, and is there whole or not at all;
    the same runs give the same bytes.
"""

import importlib
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from eventflow.errors import UsageError
from eventflow.log.runs import RunInfo, find_run

if TYPE_CHECKING:
    import duckdb

    from analysis.page import Card

CHARTS = (
    "time_per_stage",
    "memory_per_stage",
    "progress_over_time",
    "memory_over_time",
    "request_durations",
    "failures_by_cause",
)


def write_report(store: Path, runs: Sequence[str], path: Path) -> Path:
    """Write the report of these runs, which may still be going on, and return its path.

    Args:
        store: the store.
        runs: names of runs, as `find_run` takes them.
        path: the HTML file; one that is there is replaced.

    Raises:
        MissingExtra: the packages for charts are not installed.
        UnknownRun: no run, or more than one, has such a name.
        UsageError: none of the runs has an event yet.
        StoreError: a run cannot be read.
        OSError: the file cannot be written.
    """
    from analysis.comparison import comparison, run_buttons
    from analysis.labels import labelled
    from analysis.page import Page, join, write
    from analysis.settings import settings_and_machine
    from analysis.summary import RUNS, headline, sentences
    from eventflow.log.sql import connect

    folders = {folder.run: folder for folder in (find_run(store, run) for run in runs)}
    with closing(connect(store, list(folders))) as connection:
        labels, rows = labelled(connection, RUNS)
        if not rows:
            raise UsageError("there is no event to report on yet", "try again when a run has begun")
        cards = [_card(connection, name) for name in CHARTS]
        causes = _causes(connection)
    infos = {run: folder.info() for run, folder in folders.items()}
    shown = {label.run for label in labels}
    page = Page(
        title=f"eventflow: {', '.join(label.text for label in labels[:6])}",
        headline=headline(rows),
        said=sentences(rows, causes, [run for run in infos if run not in shown]),
        kind=_kind([infos[label.run] for label in labels]),
        before=join(run_buttons(labels), comparison(labels, rows)),
        cards=cards,
        after=settings_and_machine([(label.text, infos[label.run]) for label in labels]),
    )
    write(path, page)
    return path


def _card(connection: "duckdb.DuckDBPyConnection", name: str) -> "Card":
    from analysis.page import Card, embeddable

    module = importlib.import_module(f"analysis.{name}")
    chart = module.chart(connection)
    return Card(module.TITLE, module.CAPTION, module.NOTHING if chart is None else embeddable(chart))


def _causes(connection: "duckdb.DuckDBPyConnection") -> list[tuple[str, int]]:
    statement = """
        SELECT error, count(*) AS n FROM requests WHERE state = 'failed' GROUP BY error ORDER BY n DESC, error
    """
    return connection.sql(statement).fetchall()


def _kind(infos: Sequence[RunInfo]) -> str:
    """How many runs these are, and of when."""
    times = sorted(datetime.fromisoformat(info.created) for info in infos)
    count = "one run" if len(times) == 1 else f"{len(times)} runs"
    days = list(dict.fromkeys(f"{time.day} {time:%B %Y}" for time in (times[0], times[-1])))
    return f"eventflow · {count}, {' to '.join(days)}"
