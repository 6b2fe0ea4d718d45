"""The tables of `eventflow top`: origins, processes, requests in flight, errors. Pure."""

from datetime import UTC, datetime

from rich.text import Text

from eventflow.cli.top_text import (
    Column,
    Glyphs,
    cut_end,
    format_brief,
    format_part,
    format_rate,
    harmless,
    sparkline,
    table,
)
from eventflow.live.snapshot import ErrorLine, FlightLine, OriginLine, Snapshot
from eventflow.quantities import format_count, format_size

_DIM = "bright_black"
_LIMIT_CELLS = 24
_LIMIT_SHARE = 8
_PLACE_STYLES = {"delayed": "yellow", "receiving": "green", "processing": "green"}
_OLD_SECONDS = 10.0
_OUTCOMES = {"retry": Text("again", style="yellow"), "failed": Text("failed", style="bold red"), "": Text("")}

_ORIGIN_COLUMNS = (
    Column("HOST", keep=9, flex=1, least=22),
    Column("IN FLIGHT", keep=8, right=True),
    Column("LIMIT", keep=3),
    Column("QUEUED", keep=4, right=True),
    Column("REQ/S", keep=7, right=True),
    Column("BYTES/S", keep=6, right=True),
    Column("ATTEMPTS", keep=2, right=True),
    Column("ERRORS", keep=5, right=True),
    Column("BREAKER", keep=8),
)
_PROCESS_COLUMNS = (
    Column("PROCESS", keep=9, right=True),
    Column("ROLE", keep=5),
    Column("MEMORY", keep=8, right=True),
    Column("CPU", keep=7, right=True),
    Column("THREADS", keep=3, right=True),
    Column("IN FLIGHT", keep=6, right=True),
)
_FLIGHT_COLUMNS = (
    Column("AGE", keep=8, right=True),
    Column("STATE", keep=7),
    Column("FOR", keep=4, right=True),
    Column("TRY", keep=5, right=True),
    Column("RECEIVED", keep=3, right=True),
    Column("BYTES/S", keep=2, right=True),
    Column("URL", keep=9, flex=1, least=16, cut="middle"),
)
_ERROR_COLUMNS = (
    Column("TIME", keep=4, style=_DIM),
    Column("", keep=6),
    Column("ERROR", keep=7, style="red"),
    Column("MESSAGE", keep=8, flex=1, least=16),
    Column("URL", keep=3, flex=1, least=16, style=_DIM, cut="middle"),
)


def origin_section(seen: Snapshot, rows: int, width: int, glyphs: Glyphs) -> list[Text]:
    """The origins that have the most to do."""
    shown = seen.origins[:rows]
    has_limits = any(origin.limits for origin in shown)
    has_breakers = any(origin.breaker_seconds is not None for origin in shown)
    columns = [
        column
        for column in _ORIGIN_COLUMNS
        if (has_limits or column.title != "LIMIT") and (has_breakers or column.title != "BREAKER")
    ]
    titles = [column.title for column in columns]
    cells = []
    for origin in shown:
        cell = _origin_cells(origin, seen, min(_LIMIT_CELLS, width // _LIMIT_SHARE), glyphs)
        cells.append([cell[title] for title in titles])
    lines = table(columns, cells, width, glyphs)
    hidden = seen.origins_known - len(cells)
    if hidden > 0 and lines[0].cell_len + 12 < width:
        lines[0].append(f"  {format_count(hidden)} more", style=_DIM)
    return lines


def _origin_cells(origin: OriginLine, seen: Snapshot, limit_cells: int, glyphs: Glyphs) -> dict[str, str | Text]:
    limit = f"/{format_count(origin.limit)}" if origin.limit is not None else ""
    sparks = sparkline(origin.limits, limit_cells, glyphs, squeeze=seen.courses.whole)
    breaker = Text()
    if origin.breaker_seconds:
        breaker = Text(f"open {format_brief(origin.breaker_seconds)}", style="bold red")
    elif origin.breaker_seconds is not None:
        breaker = Text("probing", style="yellow")
    return {
        "HOST": harmless(origin.origin, glyphs),
        "IN FLIGHT": Text(f"{format_count(origin.in_flight)}{limit}", style="bold cyan" if origin.in_flight else ""),
        "LIMIT": Text(sparks, style="cyan"),
        "QUEUED": format_count(origin.queued),
        "REQ/S": Text(format_rate(origin.attempts_per_second), style="bold"),
        "BYTES/S": format_size(origin.bytes_per_second),
        "ATTEMPTS": format_count(origin.attempts),
        "ERRORS": Text(format_count(origin.errors), style="red" if origin.errors else _DIM),
        "BREAKER": breaker,
    }


def process_section(seen: Snapshot, rows: int, width: int, glyphs: Glyphs) -> list[Text]:
    """The processes, where there are several."""
    cells = [
        (
            str(process.pid),
            harmless(process.role, glyphs),
            format_size(process.memory_bytes),
            f"{process.cpu * 100:.0f} %",
            str(process.threads),
            format_count(process.in_flight),
        )
        for process in seen.machine.processes[:rows]
    ]
    return table(_PROCESS_COLUMNS, cells, width, glyphs)


def flight_section(seen: Snapshot, rows: int, width: int, glyphs: Glyphs) -> list[Text]:
    """The requests that were begun and have not ended."""
    has_bodies = any(flight.bytes for flight in seen.flights[:rows])
    columns = [column for column in _FLIGHT_COLUMNS if has_bodies or column.title not in ("RECEIVED", "BYTES/S")]
    titles = [column.title for column in columns]
    cells = []
    for flight in seen.flights[:rows]:
        cell = _flight_cells(flight, glyphs)
        cells.append([cell[title] for title in titles])
    return table(columns, cells, width, glyphs)


def _flight_cells(flight: FlightLine, glyphs: Glyphs) -> dict[str, str | Text]:
    state = flight.state
    if state == "delayed":
        state = f"again in {format_brief(flight.wait_seconds)}" if flight.wait_seconds else "waits its turn"
    is_old = flight.age_seconds >= _OLD_SECONDS
    return {
        "AGE": Text(format_brief(flight.age_seconds), style="bold yellow" if is_old else ""),
        "STATE": Text(state, style=_PLACE_STYLES.get(flight.state, "cyan")),
        "FOR": format_brief(flight.state_seconds),
        "TRY": Text(str(flight.attempt or ""), style="yellow" if flight.attempt > 1 else ""),
        "RECEIVED": format_part(flight.bytes, flight.length) if flight.bytes else "",
        "BYTES/S": format_size(flight.bytes_per_second) if flight.bytes_per_second else "",
        "URL": _address(flight.url, glyphs) or f"request {flight.number}",
    }


def error_section(seen: Snapshot, rows: int, width: int, glyphs: Glyphs) -> list[Text]:
    """How many attempts failed in which way, then the last ones."""
    title = Text("FAILED TRIES", style=f"bold {_DIM}")
    for kind, count in seen.attempt_errors.items():
        title.append(f"  {harmless(kind, glyphs)} ").append(format_count(count), style="yellow")
    title.truncate(width)
    cells = [_error_cells(error, glyphs) for error in seen.last_errors[:rows]]
    return [title, *table(_ERROR_COLUMNS, cells, width, glyphs)[1:]]


def _address(url: str, glyphs: Glyphs) -> str:
    """A URL without what says little."""
    return harmless(url.removeprefix("http://").removeprefix("https://"), glyphs)


def _error_cells(error: ErrorLine, glyphs: Glyphs) -> tuple[str | Text, ...]:
    moment = datetime.fromtimestamp(error.time / 1e9, UTC).astimezone()
    return (
        f"{moment:%H:%M:%S}",
        _OUTCOMES[error.outcome],
        cut_end(harmless(error.error, glyphs), 24, glyphs),
        harmless(error.message, glyphs),
        _address(error.url, glyphs),
    )
