"""Sealing: a finished segment becomes a Parquet file of a fraction of its size, in which DuckDB finds things at once.

It is done by a process of its own, never by the one that writes, and can be killed at any point and begun again. The
new file is made under a temporary name, synced, read back and held against the chain; only then it gets its name, and
only when that is durable the old file is removed.

Invariants:
    at every moment each segment is there whole, in one form or in both, which say the same byte for byte;
    what somebody writes to is left alone.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from eventflow.disk import Disk
from eventflow.errors import LogBusy, LogWriteFailed, StoreError
from eventflow.log.format import FORMAT, Place
from eventflow.log.layout import LOCK_NAME, SegmentFile, list_segments, sealed_name, segment_name, writer_folders
from eventflow.log.loading import lines_in_place, quoted
from eventflow.log.reader import SegmentTail, place_before
from eventflow.log.recovery import recover
from eventflow.log.runs import RunFolder
from eventflow.log.sealed import LINE_TEXT, METADATA_KEY, SealedBounds, read_sealed
from eventflow.log.settled import SETTLED_VIEWS, is_settled, settled_path, settled_state, view_path
from eventflow.log.sql import connect_writing

if TYPE_CHECKING:
    import duckdb

_ENVELOPE = """{
    "id": "VARCHAR", "type": "VARCHAR", "time": "BIGINT", "run": "VARCHAR", "stream": "VARCHAR", "version": "BIGINT",
    "writer": "VARCHAR", "seq": "BIGINT", "trace_id": "VARCHAR", "span_id": "VARCHAR", "parent_span_id": "VARCHAR",
    "links": [{"id": "VARCHAR", "trace_id": "VARCHAR", "span_id": "VARCHAR"}], "data": "JSON"
}"""
_COLUMNS = "id, type, time, run, stream, version, writer, seq, trace_id, span_id, parent_span_id, links, data"


class SegmentSealed(msgspec.Struct, frozen=True):
    """A segment that was sealed: the new file, the events in it, and the sizes before and after, in bytes."""

    path: str
    events: int
    bytes_before: int
    bytes_after: int


def seal_run(
    folder: RunFolder,
    *,
    keep: bool = False,
    disk: Disk | None = None,
    progress: Callable[[int], None] = lambda _bytes: None,
) -> Iterator[SegmentSealed]:
    """Seal all segments of a run that nobody writes to any more, one after the other.

    Args:
        folder: the run.
        keep: leave the NDJSON where it is, too.
        disk: the operating system, or a test's idea of it.
        progress: is told the bytes of each segment when it is done.

    Raises:
        LogBusy: another process is sealing this run.
        LogDamaged: a segment is damaged; it stays as it is, and so do those after it.
        LogWriteFailed: there is no room, or the disk fails; the segments stay as they are.
    """
    disk = disk or Disk()
    try:
        turn = disk.lock(folder.path / "seal.lock")
    except BlockingIOError as problem:
        raise LogBusy(str(folder.path / "seal.lock")) from problem
    except OSError as problem:
        raise LogWriteFailed(str(folder.path), problem.strerror or str(problem)) from problem
    try:
        for writer in writer_folders(folder.log):
            for sealed in _seal_writer(writer, disk, keep=keep):
                progress(sealed.bytes_before)
                yield sealed
        _settle(folder, disk)
    except OSError as problem:
        raise LogWriteFailed(str(folder.log), problem.strerror or str(problem)) from problem
    finally:
        disk.close(turn)


def _seal_writer(folder: Path, disk: Disk, *, keep: bool) -> Iterator[SegmentSealed]:
    segments = list_segments(folder)
    lock = _lock_or_none(folder, disk)
    try:
        if lock is None:
            segments = segments[:-1]
        elif segments and not (segments[-1].is_sealed or recover(folder, disk).size):
            disk.remove(segments.pop().path)  # begun and never written: there is nothing to keep
            disk.sync_folder(folder)
        for segment in segments:
            if not segment.is_sealed:
                yield _seal_segment(segment, disk)
            if not keep:
                _remove_live(folder, segment.number, disk)
    finally:
        if lock is not None:
            disk.close(lock)


def _lock_or_none(folder: Path, disk: Disk) -> int | None:
    """The lock of a writer's log; None if somebody writes to it."""
    try:
        return disk.lock(folder / LOCK_NAME)
    except BlockingIOError:
        return None


def _seal_segment(segment: SegmentFile, disk: Disk) -> SegmentSealed:
    """Make, sync, check and name the sealed form of a segment."""
    bounds, last_seqs = _examine(segment)
    target = segment.path.with_name(sealed_name(segment.number))
    events = 0

    def fill(path: Path) -> None:
        nonlocal events
        _write_events(segment.path, path, bounds, last_seqs)
        events = sum(batch.count for batch in read_sealed(path, bounds.first))

    _make_file(target, disk, fill)
    return SegmentSealed(str(target), events, segment.path.stat().st_size, target.stat().st_size)


def _make_file(target: Path, disk: Disk, fill: Callable[[Path], None]) -> None:
    """Make a file that is there whole or not at all: filled and synced under another name, then named, durably."""
    temporary = temporary_of(target)
    if temporary.exists() or temporary.is_symlink():  # whoever made it was killed
        disk.remove(temporary)
    descriptor = disk.create(temporary)
    try:
        fill(temporary)
        disk.sync(descriptor)
        disk.rename(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        disk.close(descriptor)
    disk.sync_folder(target.parent)


def _examine(segment: SegmentFile) -> tuple[SealedBounds, list[tuple[int, int]]]:
    """Check a whole segment. Gives its bounds, and for each batch with events its number and last `seq`."""
    first = place_before(segment)
    reading = SegmentTail(segment.path, first)
    last_seqs, batches = [], 0
    for batch in reading.poll():
        if batch.count:
            last_seqs.append((batches, batch.place.seq))
        batches += 1
    place = reading.fold.place
    if first is None or place is None or reading.tail().bytes:
        raise reading.damaged("bytes without a commit stand in a segment that is closed")
    return _bounds(first, place, batches), last_seqs


def _bounds(first: Place, last: Place, batches: int) -> SealedBounds:
    return SealedBounds(FORMAT, first.chain.hex(), first.seq, last.chain.hex(), last.seq, batches)


def _remove_live(folder: Path, number: int, disk: Disk) -> None:
    """Remove the NDJSON of a segment whose sealed form is durable."""
    path = folder / segment_name(number)
    if path.exists() and (folder / sealed_name(number)).exists():
        disk.sync_folder(folder)  # a sealing that was killed may have named the one and not synced its name
        disk.remove(path)
        disk.sync_folder(folder)


def _settle(folder: RunFolder, disk: Disk) -> None:
    """Write the views of a run that is sealed wholly, so that they need not be computed again."""
    state = settled_state(folder)
    if state is None or is_settled(folder):
        return
    projections = folder.path / "projections"
    if not projections.is_dir():
        disk.create_folder(projections)
        disk.sync_folder(folder.path)
    settled_path(folder).unlink(missing_ok=True)
    paths = {view: view_path(folder, view) for view in SETTLED_VIEWS}
    temporaries = [temporary_of(path) for path in paths.values()]
    with contextlib.closing(connect_writing(folder, temporaries)) as connection:
        for view, path in paths.items():
            _make_file(path, disk, partial(_copy, connection, f"FROM made.{view}"))
    disk.replace_file(settled_path(folder), msgspec.json.encode(state) + b"\n")


def temporary_of(path: Path) -> Path:
    """The name that a file has until it is whole."""
    return path.with_name(f".{path.name}.new")


def _copy(connection: "duckdb.DuckDBPyConnection", query: str, target: Path, metadata: str = "") -> None:
    """Write the rows of a query as a Parquet file."""
    import duckdb

    options = f"FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false{metadata}"
    try:
        connection.execute(f"COPY ({query}) TO {quoted(str(target.absolute()))} ({options})")
    except duckdb.Error as problem:
        reason = str(problem).partition("\n")[0]
        if isinstance(problem, duckdb.IOException):
            raise LogWriteFailed(str(target), reason) from problem
        raise StoreError(f"{target} cannot be made ({reason}): check the run with `eventflow verify`") from problem


def _write_events(source: Path, target: Path, bounds: SealedBounds, last_seqs: list[tuple[int, int]]) -> None:
    import duckdb

    metadata = msgspec.json.encode(bounds).decode()
    with duckdb.connect() as connection:
        _load_batches(connection, bounds.seq_before + 1, last_seqs)
        _copy(connection, _events_of(source), target, f", KV_METADATA {{{METADATA_KEY}: {quoted(metadata)}}}")


def _load_batches(connection: "duckdb.DuckDBPyConnection", first_seq: int, last_seqs: list[tuple[int, int]]) -> None:
    """The number of the batch of each `seq`: a table to join by equality, of which DuckDB always makes a good plan."""
    connection.execute(
        """
        CREATE TABLE batches AS
        SELECT batch, unnest(range(first_seq, last_seq + 1)) AS seq
        FROM (SELECT unnest($batches::INTEGER[]) AS batch, unnest($firsts::BIGINT[]) AS first_seq,
                     unnest($lasts::BIGINT[]) AS last_seq)
        """,
        {
            "batches": [batch for batch, _ in last_seqs],
            "firsts": [first_seq, *(last_seq + 1 for _, last_seq in last_seqs[:-1])],
            "lasts": [last_seq for _, last_seq in last_seqs],
        },
    )


def _events_of(source: Path) -> str:
    """SQL: the events of a segment with their columns, each with the number of its batch.

    They lie in the order of their stories, since that is how they are asked for and where neighbours are alike.
    """
    return f"""
        SELECT batch, {_COLUMNS}, CASE WHEN line IS DISTINCT FROM ({LINE_TEXT}) THEN line END AS line
        FROM (
            SELECT * REPLACE (coalesce(links, []) AS links) FROM (SELECT line, unnest(event) FROM (
                SELECT line, json_transform(line, '{_ENVELOPE}') AS event
                FROM ({lines_in_place([str(source.absolute())])}) WHERE NOT starts_with(line, '{{"commit":')
            ))
        ) AS events
        JOIN batches USING (seq)
        ORDER BY stream, seq
    """  # noqa: S608  (constants of this module, and quoted paths)
