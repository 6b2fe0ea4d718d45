"""Reading a sealed segment: the same batches, out of a Parquet file.

A sealed segment has one row for each event, with the envelope in typed columns, and does not repeat the line: it is
built again from the columns. Sealing compares the two and keeps in the column `line` the few that come out differently
(unknown fields, odd spelling), so every line can be had byte for byte, and so can the chain.

The metadata of the file (`eventflow`, JSON) says where the log stands before and after it, and how many batches it has:
the empty ones have no row.

Invariants:
    no batch is given before the whole segment was checked against the chain in its metadata.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from eventflow.errors import LogDamaged, NewerFormat
from eventflow.log.batches import Batch
from eventflow.log.format import FORMAT, Place, advance

METADATA_KEY = "eventflow"

LINK_TEXT = """'{"id":"' || link.id || '","trace_id":"' || link.trace_id || '","span_id":"' || link.span_id || '"}'"""
LINE_TEXT = f"""
    '{{"id":"' || id || '","type":"' || type || '","time":' || time || ',"run":"' || run || '","stream":"' || stream
    || '","version":' || version || ',"writer":"' || writer || '","seq":' || seq || ',"trace_id":"' || trace_id
    || '","span_id":"' || span_id || '","data":' || data
    || CASE WHEN parent_span_id IS NULL THEN '' ELSE ',"parent_span_id":"' || parent_span_id || '"' END
    || CASE WHEN len(links) = 0 THEN ''
       ELSE ',"links":[' || array_to_string(list_transform(links, lambda link: {LINK_TEXT}), ',') || ']' END
    || '}}'
"""
"""SQL: the line of an event, from its columns. NULL where a column that every event has is not there."""


class SealedBounds(msgspec.Struct, frozen=True):
    """What the metadata of a sealed segment says. Chains are 64 hex digits."""

    format: int
    chain_before: str
    seq_before: int
    chain: str
    seq: int
    batches: int

    @property
    def first(self) -> Place:
        """Where the log stands before it."""
        return Place(bytes.fromhex(self.chain_before), self.seq_before)

    @property
    def last(self) -> Place:
        """Where the log stands after it."""
        return Place(bytes.fromhex(self.chain), self.seq)


def sealed_bounds(path: Path) -> SealedBounds:
    """The metadata of a sealed segment.

    Raises:
        LogDamaged: it is not one.
        NewerFormat: a newer eventflow wrote it.
    """
    import duckdb

    statement = f"SELECT value FROM parquet_kv_metadata($path) WHERE key::VARCHAR = '{METADATA_KEY}'"  # noqa: S608
    with duckdb.connect() as connection:
        try:
            ((value,),) = connection.execute(statement, {"path": _exactly(path)}).fetchall()
            bounds = msgspec.json.decode(value, type=SealedBounds)
        except (duckdb.Error, ValueError) as problem:
            raise _damaged(path, f"its metadata cannot be read ({_first_line(problem)})") from problem
    if bounds.format > FORMAT:
        raise NewerFormat(str(path), bounds.format, FORMAT)
    return bounds


def read_sealed(path: Path, before: Place | None = None) -> Iterator[Batch]:
    """All batches of a sealed segment, the empty ones too. Memory: the segment's lines, 64 MiB for one of usual size.

    Args:
        path: `<store>/<run>/log/<writer>/<number>.parquet`.
        before: where the log stands before it; None: as its metadata says.

    Raises:
        LogDamaged: the events are not those that were committed; none is given.
    """
    bounds = sealed_bounds(path)
    if before is not None and before != bounds.first:
        raise _damaged(path, "it does not follow the segment before it, or is of another run or writer")
    lines = _lines_by_batch(path)
    place, batches = bounds.first, [Batch(b"", 0, bounds.first, 0)]
    for number in range(1, bounds.batches):
        count, text = lines.get(number, (0, b""))
        place = Place(advance(place.chain, text), place.seq + count)
        batches.append(Batch(text, count, place, 0))
    if place != bounds.last or sum(batch.count for batch in batches) != sum(count for count, _ in lines.values()):
        raise _damaged(path, "the events are not those that were committed")
    yield from batches


def _lines_by_batch(path: Path) -> dict[int, tuple[int, bytes]]:
    """By the number of the batch: how many events, and their lines."""
    import duckdb

    statement = f"""
        SELECT batch, count(*), string_agg(coalesce(line, {LINE_TEXT}) || chr(10), '' ORDER BY seq)
        FROM read_parquet($path) GROUP BY batch
    """  # noqa: S608  (constants of this module)
    with duckdb.connect() as connection:
        try:
            rows = connection.execute(statement, {"path": _exactly(path)}).fetchall()
        except duckdb.Error as problem:
            raise _damaged(path, f"it cannot be read ({_first_line(problem)})") from problem
    return {batch: (count, text.encode()) for batch, count, text in rows}


def _exactly(path: Path) -> str:
    """The path so that DuckDB takes it for itself and not for a pattern. A file that exists is never a pattern."""
    return str(path.absolute())


def _damaged(path: Path, problem: str) -> LogDamaged:
    return LogDamaged(str(path), 0, 1, problem)


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]
