import re
from pathlib import Path

import duckdb
import pytest

from eventflow.errors import UsageError
from eventflow.log.layout import segment_paths
from eventflow.log.runs import list_runs
from eventflow.log.sql import connect, query
from tests.asking import ask
from tests.synthetic_log import write_run


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run in it, beside another file."""
    folder = tmp_path_factory.mktemp("filled")
    (folder / "other.csv").write_text("a\n1\n")
    return write_run(folder / "store", "serial", requests=2).path.parent


@pytest.fixture(scope="module")
def connection(filled: Path) -> duckdb.DuckDBPyConnection:
    """A connection to that store, for all tests: none of them may change it."""
    return connect(filled)


class TestReadOnly:
    @pytest.mark.parametrize(
        "statement",
        [
            "COPY (SELECT 1) TO '{folder}/out.csv'",
            "COPY (SELECT 1 AS a) TO '{segment}' (FORMAT csv, USE_TMP_FILE false)",
            "EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{segment}' (FORMAT csv, USE_TMP_FILE false)",
            "explain (analyze) COPY (SELECT 1 AS a) TO '{segment}' (FORMAT csv, USE_TMP_FILE false)",
            "/* x */ EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{segment}' (FORMAT csv, USE_TMP_FILE false)",
            "COPY (PIVOT runs ON stage USING sum(bytes)) TO '{segment}' (FORMAT csv, USE_TMP_FILE false)",
            "EXPORT DATABASE '{folder}/out'",
            "ATTACH '{folder}/x.db'",
            "CREATE TABLE mine AS SELECT 1",
            "DELETE FROM log.copied",
            "SET lock_configuration = false",
            "INSTALL httpfs",
            "LOAD httpfs",
            "PRAGMA enable_profiling",
            "CALL enable_logging()",
            "SELECT 1; DROP VIEW runs",
            "",
            "-- nothing",
        ],
    )
    def test_what_does_not_read_is_refused(
        self, filled: Path, connection: duckdb.DuckDBPyConnection, statement: str
    ) -> None:
        """`query` takes one statement, and only one that reads; nothing in the store or beside it is changed."""
        (segment,) = segment_paths(list_runs(filled)[0].log)
        before = {path: path.stat().st_mtime_ns for path in filled.parent.rglob("*")}
        with pytest.raises(UsageError):
            list(query(connection, statement.format(folder=filled.parent, segment=segment)).rows())
        assert {path: path.stat().st_mtime_ns for path in filled.parent.rglob("*")} == before
        assert list(query(connection, "SELECT requests FROM runs").rows()) == [(2,)]

    @pytest.mark.parametrize(
        "statement",
        [
            "FROM read_text('/etc/hostname')",
            "FROM read_csv('{store}/../other.csv')",
            "FROM '{folder}/run.json'",
            "FROM glob('/*')",
            "FROM 'http://127.0.0.1:9/a.csv'",
            "FROM sniff_csv('/etc/passwd')",
            "COPY (SELECT 1) TO '{store}/out.csv'",
            "COPY (SELECT 1) TO '{folder}/log/out.csv'",
            "ATTACH '{store}/x.db'",
            "SET enable_external_access = true",
            "SET allowed_paths = ['/']",
            "INSTALL httpfs",
            "LOAD httpfs",
            "FROM here",
        ],
    )
    def test_a_connection_is_confined(
        self, filled: Path, connection: duckdb.DuckDBPyConnection, statement: str
    ) -> None:
        """DuckDB itself, without `query`, reads no other file, writes none, and cannot be set free."""
        folder = list_runs(filled)[0].path
        here = duckdb.values([42])
        with pytest.raises(duckdb.Error):
            connection.execute(statement.format(store=filled, folder=folder)).fetchall()
        assert here.fetchall() == [(42,)]

    def test_errors_are_one_line(self, filled: Path) -> None:
        """What DuckDB says of a wrong statement is told in one line, with where to look the columns up."""
        with pytest.raises(UsageError) as caught:
            ask(filled, "SELECT stat FROM runs")
        assert "\n" not in str(caught.value)
        assert re.search(r'"stat".*"state".*--views', str(caught.value))

    def test_errors_while_rows_are_taken(self, filled: Path) -> None:
        """An error that shows only with the data is told in the same way."""
        answer = query(connect(filled), "SELECT (url || '')::INTEGER FROM requests")
        with pytest.raises(UsageError, match="Could not convert"):
            list(answer.rows())


def test_no_extension_is_asked_for(filled: Path) -> None:
    """Extensions are neither installed nor loaded on their own."""
    names = (
        "('autoinstall_known_extensions', 'autoload_known_extensions', 'enable_external_access', 'lock_configuration')"
    )
    settings = dict(ask(filled, f"SELECT name, value FROM duckdb_settings() WHERE name IN {names}"))
    assert settings == {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "enable_external_access": "false",
        "lock_configuration": "true",
    }
