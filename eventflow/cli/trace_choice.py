"""Which requests of a run `eventflow trace` shows: those that somebody names, or those that are worth a look.

It asks the log in SQL, so a run of any size is chosen from in bounded memory.

Invariants:
    whatever a person copies from another command's output names a request: number, stream, file, URL, trace id.
"""

import contextlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from eventflow.errors import EventflowError, UsageError, name_of
from eventflow.log.loading import quoted
from eventflow.log.runs import RunFolder
from eventflow.log.sql import connect, query
from eventflow.progress import request_number
from eventflow.quantities import format_count
from instrumentation.traces.span import SpanLink

PICKS = 5
"""How many requests of a kind are shown."""

_FITTING_SHOWN = 3
_MATCHES_MAX = 1_000
_IN_ORDER = ("completed", "failed", "cancelled", "started", "queued")
_STATES = ("failed", "started", "cancelled")
_TRACE_ID = re.compile(r"[0-9a-fA-F]{8,32}")


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    """A request: what the view `requests` says of it.

    `start_ns` is when it was taken up, or queued; `end_ns` None if it has not ended, both Unix nanoseconds; `seconds`
    from when it was taken up to its end. `of_state` and `of_all`: how many there are in its state, and in all.
    """

    number: int
    stream: str
    url: str
    name: str
    state: str
    message: str
    attempts: int
    seconds: float | None
    start_ns: int
    end_ns: int | None
    bytes: int | None
    slow_rank: int = 0
    state_rank: int = 0
    of_state: int = 0
    of_all: int = 0

    def for_programs(self) -> dict[str, Any]:
        """What a program may want to know of it beside its spans."""
        names = ("number", "stream", "url", "name", "state", "message", "attempts", "bytes")
        return {name: getattr(self, name) for name in names}


class Picks(msgspec.Struct, frozen=True):
    """The requests of a run that are worth a look. `counts`: how many are in each state."""

    requests: int
    counts: dict[str, int]
    by_state: dict[str, list[Pick]]
    slowest: list[Pick]

    @property
    def shown(self) -> list[Pick]:
        """All of them, each once, those that went wrong first."""
        every = [*(pick for picks in self.by_state.values() for pick in picks), *self.slowest]
        return list({pick.stream: pick for pick in every}.values())


_COLUMNS = """
    number, stream, url, name, state, coalesce(message, '') AS message, attempts, seconds,
    epoch_ns(coalesce(started_at, queued_at)) AS start_ns, epoch_ns(ended_at) AS end_ns, bytes,
"""
_RANKS = f"""
    SELECT {_COLUMNS}
        row_number() OVER (ORDER BY seconds DESC NULLS LAST, number) AS slow_rank,
        row_number() OVER (PARTITION BY state ORDER BY kind_rank, number) AS state_rank,
        count(*) OVER (PARTITION BY state) AS of_state,
        count(*) OVER () AS of_all
    FROM (SELECT *, row_number() OVER (PARTITION BY state, error ORDER BY number) AS kind_rank FROM requests)
    QUALIFY slow_rank <= {PICKS} AND seconds IS NOT NULL OR state <> 'completed' AND state_rank <= {PICKS}
    ORDER BY slow_rank
"""  # noqa: S608  (constants of this module)


def pick(folder: RunFolder) -> Picks:
    """The slowest requests of a run, and some of each way to end otherwise than completed: of each error one first."""
    found = [msgspec.convert(row, Pick) for row in _ask(folder, _RANKS)]
    counts = {pick.state: pick.of_state for pick in found}
    requests = found[0].of_all if found else 0
    counts["completed"] = requests - sum(count for state, count in counts.items() if state != "completed")
    by_state = {
        state: sorted((pick for pick in found if pick.state == state), key=lambda pick: pick.state_rank)[:PICKS]
        for state in _STATES
        if state in counts
    }
    slowest = [pick for pick in found if pick.slow_rank <= PICKS and pick.seconds is not None]
    return Picks(requests, {state: counts[state] for state in _IN_ORDER if counts.get(state)}, by_state, slowest)


class Story(msgspec.Struct, frozen=True):
    """A stream that is neither a request's nor the run's own. `of_all`: how many such there are."""

    stream: str
    start_ns: int
    end_ns: int
    events: int
    of_all: int


def pick_stories(folder: RunFolder) -> list[Story]:
    """The longest of the stories that a program of one's own told."""
    prefixes = ("request-", "process-", "origin-")
    others = " AND ".join(f"NOT starts_with(stream, '{prefix}')" for prefix in prefixes)
    statement = f"""
        SELECT stream, min(time_ns) AS start_ns, max(time_ns) AS end_ns, count(*) AS events, count(*) OVER () AS of_all
        FROM events WHERE stream <> 'run' AND {others}
        GROUP BY stream ORDER BY end_ns - start_ns DESC, stream LIMIT {PICKS}
    """  # noqa: S608  (constants of this module)
    return [msgspec.convert(row, Story) for row in _ask(folder, statement)]


def list_requests(folder: RunFolder, streams: Sequence[str]) -> list[Pick]:
    """The requests of these streams, in the order of the input."""
    names = ", ".join(map(quoted, streams))
    columns = _COLUMNS.strip().rstrip(",")
    rows = _ask(folder, f"SELECT {columns} FROM requests WHERE stream IN ({names}) ORDER BY number")  # noqa: S608  (quoted)
    return [msgspec.convert(row, Pick) for row in rows]


def stream_of(text: str) -> str | None:
    """The stream that a number or a stream's own name means; None: the log has to be asked.

    >>> stream_of("17"), stream_of("request-17"), stream_of("a.bin")
    ('request-17', 'request-17', None)
    """
    if text.isascii() and text.isdecimal():
        return f"request-{int(text)}"
    return text if request_number(text) is not None or text == "run" else None


def find_streams(folder: RunFolder, text: str) -> list[str]:
    """The streams that somebody may mean by a file's name, a URL without its secrets, a stream or a trace id.

    They come in the order in which they began: several where a URL was asked for more than once, a thousand at most.

    Raises:
        UsageError: nothing fits.
    """
    asked = quoted(text)
    conditions = [
        f"stream = {asked}",
        f"type = 'request.queued' AND (data->>'url' = {asked} OR data->>'name' = {asked})",
    ]
    if _TRACE_ID.fullmatch(text):
        conditions.append(f"starts_with(trace_id, lower({asked}))")
    where = " OR ".join(f"({condition})" for condition in conditions)
    order = f"GROUP BY stream ORDER BY min(time_ns), stream LIMIT {_MATCHES_MAX}"
    if rows := _ask(folder, f"SELECT stream FROM events WHERE {where} {order}"):  # noqa: S608  (quoted)
        return [str(row["stream"]) for row in rows]
    raise _unknown(folder, text)


def name_spans(folder: RunFolder, links: Sequence[SpanLink]) -> dict[str, str]:
    """Whose spans these are to which others are linked: their streams, by span id. Of a damaged log: nothing."""
    ids = ", ".join(quoted(link.span_id) for link in links)
    if not ids:
        return {}
    columns = "span_id, any_value(stream) AS stream"
    with contextlib.suppress(EventflowError):
        rows = _ask(folder, f"SELECT {columns} FROM events WHERE span_id IN ({ids}) GROUP BY 1")  # noqa: S608  (quoted)
        return {row["span_id"]: row["stream"] for row in rows}
    return {}


def _unknown(folder: RunFolder, text: str) -> UsageError:
    """No request is called that. It says which come near, or which there are."""
    like = f"(contains(data->>'url', {quoted(text)}) OR contains(data->>'name', {quoted(text)}))"
    asked = "SELECT DISTINCT stream FROM events WHERE type = 'request.queued'"
    near = _ask(folder, f"{asked} AND {like}") if text else []
    streams = sorted((str(row["stream"]) for row in near), key=lambda stream: (len(stream), stream))
    if streams:
        shown = ", ".join(streams[:_FITTING_SHOWN]) + (", …" if len(streams) > _FITTING_SHOWN else "")
        many = f"{format_count(len(streams))} have it" if len(streams) > 1 else "one has it"
        return UsageError(f"no request is called {name_of(text)}", f"{many} in its URL or name: {shown}")
    (row,) = _ask(folder, "SELECT count(DISTINCT stream) AS count FROM events WHERE type = 'request.queued'")
    count = int(row["count"])
    there = (
        f"there are {format_count(count)}, by number from 0, by file, URL or trace id" if count else "there are none"
    )
    return UsageError(
        f"no request {name_of(text)} in {folder.run}", f'{there}; `eventflow sql "FROM requests"` lists them'
    )


def _ask(folder: RunFolder, statement: str) -> list[dict[str, Any]]:
    with contextlib.closing(connect(folder.path.parent, [folder.run])) as connection:
        return list(query(connection, statement).records())
