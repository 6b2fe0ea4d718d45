"""Opening a writer's log again after its process ended, in whatever way.

Only the last segment that was begun is looked at: those before it were closed when it was. What the crash left behind
the last commit was never acknowledged and is cut; anything that a crash cannot have left is damage, and then nothing is
touched.

Invariants:
    recovery can be killed at any point and begun again: it cuts a file to a size that it finds out anew, and syncs;
    no byte that a commit line covers is ever cut.
"""

import contextlib
import itertools
from pathlib import Path

import msgspec

from eventflow.disk import Disk
from eventflow.errors import LogDamaged, LogWriteFailed
from eventflow.log.batches import Tail
from eventflow.log.following import lower_checkpoints
from eventflow.log.format import EVENT_PREFIX, Place, first_place
from eventflow.log.layout import LOCK_NAME, SegmentFile, list_segments, require_gapless, segment_name, writer_folders
from eventflow.log.reader import SegmentTail, place_after, place_before
from eventflow.log.sealed import sealed_bounds


class Recovered(msgspec.Struct, frozen=True):
    """Where a log goes on.

    Attributes:
        place: where it stands.
        number: of the segment to go on with.
        size: what of that segment is whole, in bytes; 0: it has to be begun.
        tail: what stood after that and was cut.
    """

    place: Place
    number: int = 0
    size: int = 0
    tail: Tail = Tail()


def examine(folder: Path) -> Recovered:
    """Where the log of a writer goes on. Changes nothing.

    Raises:
        LogDamaged: it is not what was written, or ends in bytes that no crash leaves behind.
        NewerFormat: a newer eventflow wrote it.
    """
    segments = list_segments(folder)
    require_gapless(folder, segments)
    if not segments:
        return Recovered(first_place(folder.parents[1].name, folder.name))
    last = segments[-1]
    if last.is_sealed:
        return Recovered(sealed_bounds(last.path).last, last.number + 1)
    before = _place_at_end(folder, segments[:-1])
    reading = SegmentTail(last.path, before)
    for _ in reading.poll():
        pass
    tail = reading.tail()
    if tail.problem:
        raise reading.damaged(tail.problem)
    if not reading.fold.is_open and segments[:-1]:
        _check_whole(segments[-2])
    return Recovered(reading.fold.place or before, last.number, reading.fold.offset, tail)


def recover(folder: Path, disk: Disk) -> Recovered:
    """Bring the log of a writer to where it can be appended to. The caller has the writer's lock.

    What is whole counts from now on, though its writer may have died before the fsync of the segment or of its folder,
    so it is made durable here.

    Raises:
        LogDamaged: as `examine`; nothing was changed.
        OSError: the tail could not be cut, or the segment not be made durable.
    """
    found = examine(folder)
    path = folder / segment_name(found.number)
    if path.is_file():
        descriptor = disk.open(path)
        try:
            if found.tail.bytes:
                disk.truncate(descriptor, found.size)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        disk.sync_folder(folder)
    return found


def recover_run(log: Path, disk: Disk | None = None) -> Tail:
    """Cut the torn tails of all writers of a run that do not live any more. Gives what was cut, added up.

    Raises:
        LogDamaged: as `examine`; of that writer's log nothing was changed.
        LogWriteFailed: a tail could not be cut.
    """
    disk = disk or Disk()
    tails: list[Tail] = []
    for folder in writer_folders(log):
        try:
            lock = disk.lock(folder / LOCK_NAME)
        except BlockingIOError:
            continue
        except OSError as problem:
            raise LogWriteFailed(str(folder), problem.strerror or str(problem)) from problem
        try:
            tails.append(recover(folder, disk).tail)
        except OSError as problem:
            raise LogWriteFailed(str(folder), problem.strerror or str(problem)) from problem
        finally:
            disk.unlock(lock)
    return Tail(sum(tail.bytes for tail in tails), sum(tail.events for tail in tails))


class SetAside(msgspec.Struct, frozen=True):
    """What a repair took out of a segment: into which file, how many bytes, and how many lines with events."""

    segment: str
    path: str
    bytes: int
    events: int


def set_aside(folder: Path, disk: Disk) -> SetAside | None:
    """Take the damaged end of a writer's last segment out of the log and keep it in a file beside it.

    This gives up events that may have been acknowledged, so only a person decides it. The caller has the writer's lock.
    Subscriptions that have had some of them go back to the last one that is left, or what is written in their places
    would be passed over.

    Raises:
        LogDamaged: the damage is not in the last segment, so what follows it would be lost, too; nothing was changed.
        OSError: the disk failed; the segment is as it was, or cut.
    """
    try:
        examine(folder)
    except LogDamaged as damage:
        segments = list_segments(folder)
        if damage.path != str(segments[-1].path) and place_before(segments[-1]) is None:
            unbegun = segments.pop().path  # it holds nothing, and its first line can only follow what is good
            if damage.path == str(segments[-1].path):
                disk.remove(unbegun)
                disk.sync_folder(folder)
        path = segments[-1].path
        if damage.path != str(path) or path.suffix != ".ndjson":
            raise
        size, seq = _good_part(folder, segments)
        lower_checkpoints(folder.parents[1], folder.name, seq, disk)
        end = path.read_bytes()[size:]
        kept = _name_for(path.with_name(f"{path.name}.damaged-{size}"), end)
        descriptor = disk.open(path)
        try:
            disk.replace_file(kept, end)
            disk.truncate(descriptor, size)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        return SetAside(str(path), str(kept), len(end), end.count(b"\n" + EVENT_PREFIX) + end.startswith(EVENT_PREFIX))
    return None


def _good_part(folder: Path, segments: list[SegmentFile]) -> tuple[int, int]:
    """How many bytes of the last of these segments are good, and the `seq` of the last event there or before."""
    before = _place_at_end(folder, segments[:-1])
    reading = SegmentTail(segments[-1].path, before)
    with contextlib.suppress(LogDamaged):
        for _ in reading.poll():
            pass
    return reading.fold.offset, before.seq if reading.fold.offset == 0 else (reading.fold.place or before).seq


def _name_for(path: Path, data: bytes) -> Path:
    """The path, or with a number behind it, under which there is no file yet but one of just these bytes."""
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(2))
    return next(name for name in itertools.chain([path], names) if not name.exists() or name.read_bytes() == data)


def _check_whole(segment: SegmentFile) -> None:
    """Check the segment before one that was not begun: nothing else says yet that its last batch is what was written.

    Raises:
        LogDamaged: it is not.
    """
    if not segment.is_sealed:
        reading = SegmentTail(segment.path, place_before(segment))
        for _ in reading.poll():
            pass
        if reading.tail().bytes:
            raise reading.damaged("bytes without a commit stand in a segment that is followed by another")


def _place_at_end(folder: Path, segments: list[SegmentFile]) -> Place:
    """Where the log stands after these segments. The last one says so itself; its chain is checked by `verify`."""
    if not segments:
        return first_place(folder.parents[1].name, folder.name)
    place = place_after(segments[-1])
    if place is None:
        raise LogDamaged(str(segments[-1].path), 0, 1, "it does not end with a commit line, and another one follows it")
    return place
