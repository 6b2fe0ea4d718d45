"""SQL over the log: views in an in-memory DuckDB that read the files where they lie, also while they grow.

DuckDB reads the files in each query anew, so nothing is kept in step. Which bytes of which files count is in
loading.py; this is the connection, what it may do, and its answers.

Invariants:
    all queries of one connection see one prefix of each writer's log: what was committed when it was made;
    no query sees part of a line or a line without its commit;
    a committed line that cannot be parsed makes the query fail and is never skipped;
    no query reads another file, reaches the network or loads an extension; what goes through `query` writes none.
"""

import contextlib
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from eventflow.errors import UsageError, name_of
from eventflow.log.loading import load, quoted
from eventflow.log.runs import RunFolder, find_run, list_runs
from eventflow.log.views import VIEWS, Column, View

if TYPE_CHECKING:
    import duckdb

__all__ = ["VIEWS", "Answer", "Column", "View", "connect", "query", "write_parquet"]

_GONE = ("No files found", "Cannot open file", "No such file", ".ndjson/**")
_CONNECT_TRIES = 10
_TIMESTAMPTZ = "TIMESTAMP WITH TIME ZONE"
_EXPLAIN = re.compile(r"\s*EXPLAIN(\s+ANALYZE)?(\s*\([^()]*\))?\s", re.IGNORECASE)
_PIVOT = re.compile(r"\s*(PIVOT|UNPIVOT|SELECT|FROM|WITH)\b", re.IGNORECASE)


def connect(store: Path, runs: Sequence[str] | None = None) -> "duckdb.DuckDBPyConnection":
    """An in-memory database with the views of `VIEWS` over the log: `runs`, `requests`, `events` and others.

    Its configuration is locked: it reads the segments of these runs and no other file, and its time zone is UTC. The
    one thing that DuckDB cannot be kept from is a `COPY` to one of those very segments, by its full path and without
    a temporary file; `query` refuses it.

    Args:
        store: the store; one that is not there has no runs.
        runs: the runs to look at, by name as `find_run` takes it; all of the store if None.

    Raises:
        UnknownRun: no run, or more than one, has such a name.
        StoreError: a `run.json` cannot be read, or the log is damaged.
    """
    return _connect(store, runs, ())


def connect_writing(
    folder: RunFolder, files: Sequence[Path], *, threads: int | None = None
) -> "duckdb.DuckDBPyConnection":
    """A connection to one run that can write these files and no others: for sealing and exporting.

    Memory grows with the threads; all of the machine's if None.
    """
    return _connect(folder.path.parent, [folder.run], files, {} if threads is None else {"threads": str(threads)})


def query(where: "Path | str | RunFolder | duckdb.DuckDBPyConnection", statement: str) -> "Answer":
    """Ask one thing in SQL: the columns at once, the rows as they are taken. It may be asked while runs go on.

    Args:
        where: a store; a run, or its folder; or a connection of `connect`, which is quicker for many questions and
            gives all of them the same moment to look at.
        statement: one statement that reads, over the views of `eventflow sql --views`.

    Raises:
        UsageError: it is not exactly one statement, would do something other than read, or DuckDB does not accept it.
        StoreError: a `run.json` cannot be read, or the log is damaged.

    >>> import tempfile, eventflow
    >>> from eventflow.vocabulary import RunStarted
    >>> run = eventflow.create_run(Path(tempfile.mkdtemp()), stage="serial")
    >>> with eventflow.Recorder(run.log, run.run) as recorder:
    ...     link = recorder.open_stream("run").record(RunStarted(stage="serial", workers=1))
    >>> for stage, state in eventflow.query(run, "SELECT stage, state FROM runs"):
    ...     print(stage, state)
    serial unfinished
    """
    connection = _open(where)
    with _telling_why():
        _require_reading(connection, statement)
        relation = connection.sql(statement)
    return Answer(relation)


def _open(where: "Path | str | RunFolder | duckdb.DuckDBPyConnection") -> "duckdb.DuckDBPyConnection":
    if isinstance(where, str | Path):
        path = Path(where).resolve()
        where = RunFolder(path) if (path / "run.json").is_file() else path
    if isinstance(where, RunFolder):
        return connect(where.path.parent, [where.run])
    return connect(where) if isinstance(where, Path) else where


def _carry_out(_connection: "duckdb.DuckDBPyConnection", work: Callable[[], None]) -> None:
    work()


def write_parquet(
    store: Path,
    statement: str,
    path: Path,
    runs: Sequence[str] | None = None,
    carry_out: Callable[["duckdb.DuckDBPyConnection", Callable[[], None]], None] = _carry_out,
) -> Path:
    """Write the rows of a query as a Parquet file, which is there whole or not at all.

    Args:
        store: the store.
        statement: the query.
        path: the file; one that is there is replaced.
        runs: as `connect`.
        carry_out: is given the connection and the work to do, so that it can be interrupted.

    Raises:
        UsageError: as `query`, or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    with _telling_why(), contextlib.closing(_connect(store, runs, (temporary,))) as connection:
        _require_reading(connection, statement)
        try:
            relation = connection.sql(statement)
            carry_out(connection, lambda: relation.write_parquet(str(temporary.absolute()), use_tmp_file=False))
            temporary.replace(path)
        except OSError as problem:
            raise UsageError(
                f"{name_of(str(path))} cannot be written ({problem.strerror})", "name another file"
            ) from problem
        finally:
            temporary.unlink(missing_ok=True)
    return path


class Answer:
    """The result of a query: `columns` and `types` (DuckDB's names), and the rows, which it can be iterated for."""

    def __init__(self, relation: "duckdb.DuckDBPyRelation") -> None:
        self.columns = tuple(relation.columns)
        self.types = tuple(str(kind) for kind in relation.types)
        self._relation = relation

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.rows()

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows, a thousand at a time. A TIMESTAMP WITH TIME ZONE is an aware datetime in UTC.

        Raises:
            UsageError: DuckDB cannot carry the query out.
        """
        zoned = [place for place, kind in enumerate(self.types) if kind == _TIMESTAMPTZ]
        with _telling_why():
            for row in self._without_zones().iter_rows():
                yield _with_utc(row, zoned) if zoned else row

    def records(self) -> Iterator[dict[str, Any]]:
        """The rows as dicts that JSON can hold: a JSON column as its value, a time as ISO 8601, not-a-number as None.

        A name that two columns have gets a number at its second place: `run`, `run_1`.
        """
        names = _distinct(self.columns)
        for row in self.rows():
            values = (_json_value(value, kind) for value, kind in zip(row, self.types, strict=True))
            yield dict(zip(names, values, strict=True))

    def _without_zones(self) -> "duckdb.DuckDBPyRelation":
        """DuckDB's client hands over times with a zone only if pytz is there; without their zone they are in UTC."""
        if not any(_TIMESTAMPTZ in kind for kind in self.types):
            return self._relation
        plain = (kind.replace(_TIMESTAMPTZ, "TIMESTAMP") for kind in self.types)
        casts = (f"CAST(#{place} AS {kind}) AS c{place}" for place, kind in enumerate(plain, 1))
        return self._relation.project(", ".join(casts))


def _is_gone(problem: Exception) -> bool:
    """Whether a file that was there is not any more: a segment that was sealed meanwhile."""
    return ".ndjson" in str(problem) and any(sign in str(problem) for sign in _GONE)


def _connect(
    store: Path, runs: Sequence[str] | None, writable: Sequence[Path], config: Mapping[str, str] = MappingProxyType({})
) -> "duckdb.DuckDBPyConnection":
    import duckdb

    for _ in range(_CONNECT_TRIES):
        try:
            return _connect_once(store, runs, writable, config)
        except (duckdb.Error, FileNotFoundError) as problem:
            if not _is_gone(problem):
                raise
    raise UsageError("the runs are being sealed", "ask again when that is done")


def _connect_once(
    store: Path, runs: Sequence[str] | None, writable: Sequence[Path], config: Mapping[str, str]
) -> "duckdb.DuckDBPyConnection":
    import duckdb

    folders = list_runs(store) if runs is None else _find_runs(store, runs)
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": str(
                Path(tempfile.gettempdir()) / f"eventflow-{secrets.token_hex(8)}"
            ),  # made if memory is short
            **config,
        }
    )
    try:
        in_place = load(connection, folders)
        allowed = [*in_place, *(str(path.absolute()) for path in writable)]
        connection.execute(f"SET allowed_paths = [{', '.join(map(quoted, allowed))}]")
        connection.execute("SET TimeZone = 'UTC'; SET enable_external_access = false; SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def _find_runs(store: Path, names: Sequence[str]) -> list[RunFolder]:
    """The runs of these names, each once."""
    found = [find_run(store, name) for name in names]
    return list({folder.run: folder for folder in found}.values())


def _require_reading(connection: "duckdb.DuckDBPyConnection", statement: str) -> None:
    """Refuse all but one statement that reads.

    Cases: SELECT in all its forms (FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE); a query with a PIVOT in it, which DuckDB
    takes for several statements; EXPLAIN of one of these, since EXPLAIN ANALYZE carries out what it explains.
    """
    explained = _EXPLAIN.match(statement)
    statements = connection.extract_statements(statement[explained.end() :] if explained else statement)
    if len(statements) != 1:
        raise UsageError(f"there are {len(statements)} statements", "give exactly one")
    kind = statements[0].type.name
    if kind != "SELECT" and not (kind == "MULTI" and _PIVOT.match(statements[0].query)):
        raise UsageError(
            f"{kind} is not a query",
            "only SELECT, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN are allowed: the log is never changed",
        )


@contextlib.contextmanager
def _telling_why() -> Iterator[None]:
    """Turns DuckDB's errors into ours, in one line."""
    import duckdb

    try:
        yield
    except duckdb.Error as problem:
        if _is_gone(problem):
            raise UsageError("the run was sealed while it was being asked", "ask again") from problem
        lines = re.split(r"\n\s*LINE \d+:", str(problem))[0].split("\n")
        reason = " ".join(line.strip() for line in lines if line.strip())
        is_damage = any(sign in reason for sign in ("Malformed JSON", "CSV Error", "is not an event"))
        fix = (
            "check the log with `eventflow verify`"
            if is_damage
            else "`eventflow sql --views` lists the views and their columns"
        )
        raise UsageError(f"the query failed ({reason})", fix) from problem


def _with_utc(row: tuple[Any, ...], zoned: Sequence[int]) -> tuple[Any, ...]:
    values = list(row)
    for place in zoned:
        if values[place] is not None:
            values[place] = values[place].replace(tzinfo=UTC)
    return tuple(values)


def _distinct(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        candidates = (name, *(f"{name}_{number}" for number in range(1, len(names))))
        found.append(next(candidate for candidate in candidates if candidate not in found))
    return found


def _json_value(value: Any, kind: str) -> Any:
    if kind == "JSON" and value is not None:
        return msgspec.json.decode(value)
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return msgspec.to_builtins(value, str_keys=True, enc_hook=str)
