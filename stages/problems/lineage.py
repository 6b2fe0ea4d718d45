"""The stage lineage: from a file on the disk back to the line of the list and the run, over nothing but links."""

from collections.abc import Iterator
from pathlib import Path

from eventflow.event import Payload, StoredEvent
from eventflow.origin_events import ConnectionOpened, ConnectionTaken
from eventflow.quantities import format_duration, format_size
from eventflow.vocabulary import (
    AttemptFailed,
    AttemptResponse,
    FileStored,
    ProcessStarted,
    RequestDelayed,
    RequestQueued,
    RunStarted,
    StageStarted,
    decode_payload,
)
from stages.problems.director import SETTINGS
from stages.problems.scene import Scene
from stages.problems.shown import Shown


def whole_chain(scene: Scene) -> Shown:
    """Follow the links of the file that took the most tries."""
    source = scene.list_of(scene.origin(SETTINGS))
    ran = scene.run_stage("lineage", source, "--concurrency", "2")
    stored = [event for event in ran.events if event.type == "file.stored"]
    by_id = {event.id: event for event in ran.events}
    last = max(stored, key=lambda event: event.version)
    chain = list(_back(last, by_id))
    queued = next(payload for event in chain if isinstance(payload := decode_payload(event), RequestQueued))
    line = source.read_text().splitlines()[queued.number]
    before = [event for event in _ancestors(last, by_id) if event.stream not in (last.stream, "run")]
    return Shown(
        facts={
            "steps": len(chain),
            "tries": sum(event.type == "attempt.started" for event in chain),
            "first_event": chain[-1].type,
            "line_number": queued.number + 1,
            "line_is_the_request": line.split("\t")[0] == queued.url,
            "other_requests_before": len({event.stream for event in before}),
        },
        seen=(
            f"{len(chain)} events, from the file back over their links (eventflow run lineage):",
            *(text for event in chain if (text := _said(event, by_id, source))),
        ),
        why="Each event names those that caused it, with their spans, so the chain goes through tries, waits, "
        f"redirects, kept connections and processes. Behind this file stand {len({event.stream for event in before})} "
        "other requests, whose connections it used.",
        next="It is the last rung. eventflow sql has the links as a view; the same ids are those of OpenTelemetry.",
    )


def _back(event: StoredEvent, by_id: dict[str, StoredEvent]) -> Iterator[StoredEvent]:
    """The chain of first causes."""
    yield event
    while event.links:
        event = by_id[event.links[0].id]
        yield event


def _ancestors(event: StoredEvent, by_id: dict[str, StoredEvent]) -> list[StoredEvent]:
    """Everything that led to it."""
    found, left = {event.id: event}, [event]
    while left:
        for link in left.pop().links:
            if link.id not in found:
                found[link.id] = by_id[link.id]
                left.append(by_id[link.id])
    return list(found.values())


def _said(event: StoredEvent, by_id: dict[str, StoredEvent], source: Path) -> str:
    """The event in words, where it says something new."""
    match decode_payload(event):
        case FileStored(name=name, bytes=size):
            return f"{name}, {format_size(size)}, is on the disk"
        case RequestQueued(number=number, url=url):
            return f"← {event.stream}: line {number + 1} of {source.name}: {url}"
        case StageStarted(stage=stage):
            return f"← the stage {stage}"
        case ProcessStarted(pid=pid, role=role):
            return f"← process {pid} ({role})"
        case RunStarted():
            return f"← the run {event.run}"
        case payload:
            return _said_of_try(payload, event.stream, [by_id[link.id].stream for link in event.links[1:]])


def _said_of_try(payload: Payload | None, stream: str, others: list[str]) -> str:
    """The same for what happens between a request's start and its end; `others` are the further causes."""
    match payload:
        case AttemptResponse(status=status):
            return f"← the server answered with status {status}"
        case ConnectionTaken(connection=connection):
            user = "it had used itself" if others == [stream] else f"{', '.join(others)} had used"
            return f"← over connection {connection}, which {user} before"
        case ConnectionOpened(connection=connection):
            return f"← over connection {connection}, opened for it"
        case RequestDelayed(seconds=seconds):
            return f"← after a wait of {format_duration(seconds)}"
        case AttemptFailed(message=message):
            return f"← because a try had failed: {message}"
        case _:
            return ""
