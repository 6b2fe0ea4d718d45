"""What `eventflow top` shows: a snapshot as lines of text, for a terminal of any size. Pure.

Invariants:
    no line is wider and, where a height is given, there are exactly as many lines as asked for;
    texts from the log are made harmless before they are shown.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from rich.text import Text

from eventflow.cli.top_sections import error_section, flight_section, origin_section, process_section
from eventflow.cli.top_text import UNICODE, Glyphs, bar, flow, format_brief, format_rate, harmless, sparkline, spread
from eventflow.live.snapshot import Order, Snapshot
from eventflow.quantities import format_count, format_size

_BLIND = ("queued", "starting", "requesting", "receiving", "processing")
_SEEING = ("queued", "delayed", "starting", "connecting", "awaiting answer", "answering", "receiving", "processing")
_DIRECTED = ("director", "lineage")
_SHORT = {"awaiting answer": "awaiting"}
_STATE_STYLES = {
    "running": "green",
    "completed": "bold green",
    "interrupted": "bold yellow",
    "failed": "bold red",
    "killed": "bold red",
    "damaged": "bold red",
    "starting": "bright_black",
}
_ORDERS = {"age": "oldest first", "stuck": "longest in their state first", "slow": "slowest bodies first"}
_DIM = "bright_black"
_SILENT_SECONDS = 3.0
_ROWS_OF_ALL = 10
_BAR_MIN = 8
_TWO_LINES = 16
_KINDS_SHOWN = 3


class Look(msgspec.Struct, frozen=True):
    """How it is to look. Without a height it is as long as it is, with ten rows of everything.

    `keys`: there is somebody who can press them. `is_reading`: the log was not read to its end yet.
    """

    width: int
    height: int | None = None
    glyphs: Glyphs = UNICODE
    order: Order = "age"
    keys: bool = False
    is_reading: bool = False


def frame(seen: Snapshot, look: Look) -> list[Text]:
    """The whole view, from its first line to its last."""
    places = _places(seen, look)
    top = [*_header(seen, look), *([Text(), *places] if places else [])]
    footer = _footer(seen, look)
    room = None if look.height is None else look.height - len(top) - len(footer)
    body = [line for section in _sections(seen, look, room) for line in (Text(), *section)]
    lines = [*top, *body]
    if look.height is not None:
        lines = lines[: max(0, look.height - len(footer))]
        lines += [Text()] * (look.height - len(lines) - len(footer))
    lines = [*lines, *footer][: look.height]
    for line in lines:
        line.truncate(look.width)
    return lines


# -------------------------------------------------------------------------------------------------------------- header


def _header(seen: Snapshot, look: Look) -> list[Text]:
    width = look.width
    state = Text(f"{look.glyphs.dot} {seen.state}", style=_STATE_STYLES[seen.state])
    if look.is_reading:
        state = Text(f"{look.glyphs.dot} reading its log", style="yellow")
    title = Text().append(harmless(seen.run, look.glyphs), style="bold").append("  ").append_text(state)
    if seen.events:
        title.append(f"  {format_brief(seen.seconds)}{' since it was resumed' if seen.resumed else ''}")
    title.append(f"  {harmless(seen.stage, look.glyphs)}", style=_DIM)
    moment = datetime.fromtimestamp(seen.time / 1e9, UTC).astimezone()
    lines = [spread(title, Text(f"{moment:%H:%M:%S}", style=_DIM), width), _progress(seen, look)]
    lines += flow(_counts(seen, look), width)
    lines += flow(_rates(seen, look), width, 3)
    lines += flow(_machine(seen, look), width, 3)
    if seen.problem is not None:
        lines.append(Text(harmless(seen.problem, look.glyphs), style="red"))
    if seen.events_lost or seen.events_malformed:
        lost, malformed = format_count(seen.events_lost), format_count(seen.events_malformed)
        lines.append(Text(f"{lost} events lost, {malformed} cannot be read", style="bold red"))
    return lines


def _progress(seen: Snapshot, look: Look) -> Text:
    ended = seen.completed + seen.failed + seen.cancelled
    total = seen.total if seen.total is not None else seen.requests if seen.state == "completed" else None
    if total is None:
        return Text(f"{format_count(ended)} of {format_count(seen.requests)} that were read so far ended")
    share = min(1.0, ended / total) if total else 1.0
    text = f"{format_count(ended)} of {format_count(total)}  {int(share * 100)} %"
    if seen.seconds_left is not None:
        text += f"  {format_brief(seen.seconds_left)} left"
    room = look.width - len(text) - 2
    if room < _BAR_MIN:
        return Text(text, style="bold")
    return bar(share, room, look.glyphs, _STATE_STYLES[seen.state]).append(f"  {text}", style="bold")


def _counts(seen: Snapshot, look: Look) -> list[Text]:
    pieces = [
        _pair("done", format_count(seen.completed), "green" if seen.completed else _DIM),
        _pair("failed", format_count(seen.failed), "bold red" if seen.failed else _DIM),
    ]
    if seen.request_errors:
        kinds = list(seen.request_errors.items())[:_KINDS_SHOWN]
        shown = ", ".join(f"{harmless(kind, look.glyphs)} {format_count(count)}" for kind, count in kinds)
        pieces[-1].append(f" ({shown})", style="red")
    if seen.cancelled:
        pieces.append(_pair("cancelled", format_count(seen.cancelled), "yellow"))
    if seen.unfinished:
        pieces.append(_pair("unfinished", format_count(seen.unfinished), "yellow"))
    pieces.append(_pair("events", format_count(seen.events), ""))
    pieces[-1].append(f" ({format_rate(seen.events_per_second)}/s)", style=_DIM)
    return pieces


def _rates(seen: Snapshot, look: Look) -> list[Text]:
    requests = _pair("requests", f"{format_rate(seen.requests_per_second)}/s", "bold")
    received = _pair("received", f"{format_size(seen.bytes_per_second)}/s", "bold")
    received.append(f" of {format_size(seen.bytes)}", style=_DIM)
    return [
        _with_sparks(requests, seen.courses.requests, "green", seen, look),
        _with_sparks(received, seen.courses.bytes, "blue", seen, look),
    ]


def _machine(seen: Snapshot, look: Look) -> list[Text]:
    if not seen.machine.memory_bytes:
        return []
    memory = _pair("memory", format_size(seen.machine.memory_bytes), "bold")
    memory.append(f" peak {format_size(seen.machine.peak_memory_bytes)}", style=_DIM)
    cpu = _pair("CPU", f"{seen.machine.cpu * 100:.0f} %", "bold")
    workers = _pair("workers", format_count(seen.workers), "bold")
    if len(seen.machine.processes) > 1:
        workers.append(f" ({len(seen.machine.processes)} processes)", style=_DIM)
    return [_with_sparks(memory, seen.machine.course, "magenta", seen, look), cpu, workers]


def _with_sparks(text: Text, course: Sequence[float], style: str, seen: Snapshot, look: Look) -> Text:
    cells = max(6, min(40, (look.width - 56) // 2))
    sparks = sparkline(course, cells, look.glyphs, squeeze=seen.courses.whole)
    return text.append(" ").append(sparks, style=style) if sparks else text


def _pair(label: str, value: str, style: str) -> Text:
    return Text(f"{label} ", style=_DIM).append(value, style=style or "default")


# ---------------------------------------------------------------------------------------------------------- the states


def _places(seen: Snapshot, look: Look) -> list[Text]:
    """Where the requests are, in two lines if there is room: the names above, the numbers below."""
    if seen.courses.whole and not any(seen.states.values()):
        return []
    names = _SEEING if seen.stage in _DIRECTED else _BLIND
    pairs = [(_SHORT.get(name, name), format_count(seen.states[name]), bool(seen.states[name])) for name in names]
    widths = [max(len(name), len(count)) for name, count, _ in pairs]
    for gap in (2, 1):
        if sum(widths) + gap * (len(widths) - 1) <= look.width:
            above, below = Text(), Text()
            for (name, count, is_some), width in zip(pairs, widths, strict=True):
                above.append(f"{name.upper():>{width}}{' ' * gap}", style=f"bold {_DIM}")
                below.append(f"{count:>{width}}{' ' * gap}", style="bold cyan" if is_some else _DIM)
            above.rstrip()
            below.rstrip()
            return [above, below]
    return flow([_pair(name, count, "bold cyan" if is_some else _DIM) for name, count, is_some in pairs], look.width)


# -------------------------------------------------------------------------------------------------------- the sections


def _sections(seen: Snapshot, look: Look, room: int | None) -> list[list[Text]]:
    wanted = {
        "origins": len(seen.origins),
        "processes": len(seen.machine.processes) if len(seen.machine.processes) > 1 else 0,
        "flights": len(seen.flights),
        "errors": len(seen.last_errors),
    }
    rows = share_out(wanted, room) if room is not None else {name: min(n, _ROWS_OF_ALL) for name, n in wanted.items()}
    sections = []
    if rows["origins"]:
        sections.append(origin_section(seen, rows["origins"], look.width, look.glyphs))
    if rows["processes"]:
        sections.append(process_section(seen, rows["processes"], look.width, look.glyphs))
    if rows["flights"]:
        sections.append(flight_section(seen, rows["flights"], look.width, look.glyphs))
    if rows["errors"]:
        sections.append(error_section(seen, rows["errors"], look.width, look.glyphs))
    return sections


_TURNS = ("origins", "flights", "errors", "origins", "flights", "flights", "processes")
_FIRST = ("origins", "flights", "errors", "processes")


def share_out(wanted: dict[str, int], room: int) -> dict[str, int]:
    """How many rows each section gets. One costs two lines more: an empty one and its heading.

    >>> share_out({"origins": 2, "flights": 50, "errors": 9, "processes": 0}, 16)
    {'origins': 2, 'flights': 5, 'errors': 3, 'processes': 0}
    """
    rows = dict.fromkeys(_FIRST, 0)
    for name in _FIRST:
        if wanted[name] and room >= 3:
            rows[name], room = 1, room - 3
    while room > 0:
        before = room
        for name in _TURNS:
            if 0 < rows[name] < wanted[name] and room > 0:
                rows[name], room = rows[name] + 1, room - 1
        if room == before:
            break
    return rows


# -------------------------------------------------------------------------------------------------------------- footer


def _footer(seen: Snapshot, look: Look) -> list[Text]:
    note = Text()
    if seen.state == "running" and seen.silent_seconds >= _SILENT_SECONDS:
        note.append(f"no event for {format_brief(seen.silent_seconds)}", style="yellow")
    elif seen.state in ("killed", "interrupted", "failed"):
        note.append(f"go on with: eventflow resume {harmless(seen.run, look.glyphs)}", style="yellow")
    elif seen.state == "completed" and seen.failed:
        note.append(f"try the failed ones again: eventflow resume {harmless(seen.run, look.glyphs)}", style="yellow")
    if not look.keys:
        return [note] if note.plain else []
    keys = Text(" q ", style="reverse").append(" leave  ")
    keys.append(" o ", style="reverse").append(f" {_ORDERS[look.order]}")
    if look.width > keys.cell_len + note.cell_len:
        return [spread(keys, note, look.width)]
    return [note, keys] if look.height is None or look.height >= _TWO_LINES else [keys]
