"""The words and numbers around the charts of a report."""

from collections.abc import Sequence
from datetime import datetime

from analysis.about_sizes import about_sizes
from analysis.cards import Group
from analysis.comparison import comparison, run_buttons
from analysis.contents import Contents, Kind
from analysis.honesty import honesty
from analysis.labels import labels, rows
from analysis.markup import join
from analysis.page import Page
from analysis.settings import settings_and_machine
from analysis.sizes import sized
from analysis.summary import headline, sentences
from eventflow.log.runs import RunInfo


def front_page(found: Contents, groups: Sequence[Group], sweep: str) -> Page:
    """The page of a report, with its charts."""
    infos = found.material.infos
    begun = rows(found.material.connection, "SELECT run, stage, state, requests, failed FROM runs")
    unseen = [run for run in infos if run not in {row["run"] for row in begun}]
    said = sentences(found.rows, _causes(found), unseen, found.material.left_out, begun=begun)
    if found.kind is not Kind.RUNS:
        said = [*about_sizes(sized(found.material.connection)[1], begun), *said]
    looked_into = [(label.text, infos[label.run]) for label in labels(found.inner) if label.run in infos]
    return Page(
        title=f"eventflow: {sweep or ', '.join(label.text for label in found.labels[:6])}",
        headline=headline(found.rows),
        said=said,
        kind=_kind([infos[row["run"]] for row in begun], sweep),
        before=join(run_buttons(found.labels), comparison(found.labels, found.rows)),
        groups=groups,
        after=join(honesty(found, begun), settings_and_machine(looked_into)),
    )


def _causes(found: Contents) -> list[tuple[str, int]]:
    statement = """
        SELECT error, count(*) AS n FROM requests WHERE state = 'failed' GROUP BY error ORDER BY n DESC, error
    """
    return found.material.connection.sql(statement).fetchall()


def _kind(infos: Sequence[RunInfo], sweep: str) -> str:
    """How many runs these are, and of when."""
    times = sorted(time for info in infos if (time := _time(info.created)) is not None)
    count = "one run" if len(infos) == 1 else f"{len(infos):,} runs"
    if not times:
        return f"eventflow · {count}"
    days = list(dict.fromkeys(f"{time.day} {time:%B %Y}" for time in (times[0], times[-1])))
    of = f"sweep {sweep} · " if sweep else ""
    return f"eventflow · {of}{count}, {' to '.join(days)}"


def _time(text: str) -> datetime | None:
    """The time that a run.json names; None if it is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
