"""What a connection reads: which bytes of which files are the events of its runs.

DuckDB reads a file to its end or not at all, and a segment that is being written, or was torn by a crash, ends in bytes
of any kind. So segments that end with a commit and cannot grow any more are read in place, in parallel, and so are
sealed ones; of the others the committed lines are copied into memory when the connection is made, at most one segment
(64 MiB) for each process that writes or crashed.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eventflow.errors import StoreError
from eventflow.log.format import COMMIT_PREFIX, LINE_BYTES_MAX
from eventflow.log.layout import SegmentFile, is_locked, list_segments, require_gapless, writer_folders
from eventflow.log.reader import SegmentTail, place_after, wanted_lines
from eventflow.log.runs import RunFolder
from eventflow.log.settled import SETTLED_VIEWS, is_settled, view_path, views_text

if TYPE_CHECKING:
    import duckdb

_END_BYTES = 1024
_COLUMNS = {
    "type": "VARCHAR",  # first, as in views.sql
    "id": "VARCHAR",
    "time": "BIGINT",
    "run": "VARCHAR",
    "stream": "VARCHAR",
    "version": "BIGINT",
    "writer": "VARCHAR",
    "seq": "BIGINT",
    "trace_id": "VARCHAR",
    "span_id": "VARCHAR",
    "parent_span_id": "VARCHAR",
    "links": "STRUCT(id VARCHAR, trace_id VARCHAR, span_id VARCHAR)[]",
    "data": "JSON",
}


class _Segments(NamedTuple):
    """The segments of a run: sealed; whole, and of no writer that lives; and those that may grow or are torn."""

    sealed: list[str]
    whole: list[str]
    moving: list[SegmentTail]


def load(connection: "duckdb.DuckDBPyConnection", folders: Sequence[RunFolder]) -> list[str]:
    """Make the views over some runs. Returns the files that they read in place.

    Raises:
        StoreError: a `run.json` cannot be read, or the log is damaged.
    """
    connection.execute("CREATE SCHEMA log; CREATE SCHEMA made")
    connection.execute("CREATE TABLE log.stages (run VARCHAR, stage VARCHAR, labels MAP(VARCHAR, VARCHAR))")
    connection.execute("CREATE TABLE log.copied (line VARCHAR)")
    whole, sealed, over, settled = list[str](), list[str](), list[str](), list[RunFolder]()
    with connection.appender("log.stages") as stages, connection.appender("log.copied") as copied:
        for folder in folders:
            info = folder.info()
            stages.append_row(folder.run, info.stage, info.labels)
            found = _sort_segments(folder)
            whole += found.whole
            if is_settled(folder):
                settled.append(folder)
                over += found.sealed
            else:
                sealed += found.sealed
            for line in _committed_lines(found.moving):
                copied.append_row(line)
    connection.execute(f"CREATE VIEW log.committed AS FROM log.copied UNION ALL {lines_in_place(whole)}")
    connection.execute(f"CREATE VIEW log.sealed AS {_sealed_events(sealed)}")
    connection.execute(f"CREATE VIEW log.settled AS {_sealed_events(over)}")
    connection.execute(views_text())
    kept = _read_kept_views(connection, settled)
    return [*whole, *sealed, *over, *kept]


def lines_in_place(paths: Sequence[str]) -> str:
    """A query for the lines of these files, commit lines included. A path that exists is never taken for a pattern."""
    if not paths:
        return "SELECT NULL::VARCHAR AS line WHERE false"
    options = {
        "columns": "{'line': 'VARCHAR'}",
        "delim": "chr(1)",
        "quote": "''",
        "escape": "''",
        "new_line": r"'\n'",
        "header": "false",
        "auto_detect": "false",
        "max_line_size": 2 * LINE_BYTES_MAX,
        "buffer_size": 8 * LINE_BYTES_MAX,  # for each thread; DuckDB's choice takes 70 MB more and is no faster
    }
    arguments = ", ".join([_list(paths), *(f"{name} = {value}" for name, value in options.items())])
    return f"SELECT line FROM read_csv({arguments})"  # noqa: S608  (paths are quoted; a view has no parameters)


def quoted(text: str) -> str:
    """The text as SQL writes it.

    Raises:
        StoreError: it is a path that is not UTF-8, which DuckDB cannot be given.
    """
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise StoreError(f"DuckDB takes no path that is not UTF-8, as {text!a}: rename that folder")
    return "'" + text.replace("'", "''") + "'"


def _list(paths: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, paths))}]"


def _sealed_events(paths: Sequence[str]) -> str:
    if not paths:
        columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _COLUMNS.items())
        return f"SELECT {columns} WHERE false"
    columns = ", ".join(f"{name}::{kind} AS {name}" for name, kind in _COLUMNS.items())
    return f"SELECT {columns} FROM read_parquet({_list(paths)})"  # noqa: S608  (paths are quoted)


def _read_kept_views(connection: "duckdb.DuckDBPyConnection", settled: Sequence[RunFolder]) -> list[str]:
    """Add the files of settled runs to the views that they are of."""
    kept: list[str] = []
    for view in SETTLED_VIEWS if settled else ():
        paths = [str(view_path(folder, view).absolute()) for folder in settled]
        kept += paths
        name, order = ("log.sittings", "") if view == "sittings" else (view, "ORDER BY run" if view == "runs" else "")
        rows = f"FROM made.{view} UNION ALL BY NAME FROM read_parquet({_list(paths)})"
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS FROM ({rows}) {order}")
    return kept


def ends_with_commit(tail: bytes) -> bool:
    r"""Whether the last bytes of a segment are a whole commit line and the newline before it.

    >>> ends_with_commit(b'}\n{"commit":{"count":1}}\n'), ends_with_commit(b'}\n{"commit":{"count":1}}\n{"id":')
    (True, False)
    """
    return tail.endswith(b"\n") and tail[tail.rfind(b"\n", 0, -1) :].startswith(b"\n" + COMMIT_PREFIX)


def _sort_segments(folder: RunFolder) -> _Segments:
    """How each segment is to be read.

    A writer's lock is taken before its first byte is written and held for as long as a segment may grow. So what ended
    whole and is of a writer that does not live *afterwards* is done with; of one that lives, all but the last one is.
    """
    found = _Segments([], [], [])
    for writer in writer_folders(folder.log):
        segments = list_segments(writer)
        require_gapless(writer, segments)
        ends = {segment.number: _ends_whole(segment) for segment in segments}
        may_grow = is_locked(writer)
        before = None
        for segment in segments:
            if segment.is_sealed:
                found.sealed.append(str(segment.path.absolute()))
            elif ends[segment.number] and not (may_grow and segment is segments[-1]):
                found.whole.append(str(segment.path.absolute()))
            else:
                found.moving.append(SegmentTail(segment.path.absolute(), place_after(before) if before else None))
            before = segment
    return found


def _ends_whole(segment: SegmentFile) -> bool:
    return segment.is_sealed or ends_with_commit(_end(segment.path))


def _end(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        return file.read(_END_BYTES)


def _committed_lines(segments: Sequence[SegmentTail]) -> Iterator[str]:
    for reading in segments:
        for batch in reading.poll():
            for line in wanted_lines(batch, -1):
                try:
                    yield line.decode()
                except UnicodeDecodeError as error:
                    raise reading.damaged("it is not UTF-8") from error
        if (problem := reading.tail().problem) and not is_locked(reading.path.parent):
            raise reading.damaged(problem)
