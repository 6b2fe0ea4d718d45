"""Sealed segments are as hard to change unseen as live ones: by the chain, not by what Parquet says of itself."""

from pathlib import Path

import duckdb
import pytest

from eventflow.errors import LogDamaged
from eventflow.event import StoredEvent
from eventflow.log.appending import Appender
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.seal import seal_run
from eventflow.log.sealed import METADATA_KEY
from eventflow.log.verify import verify_run
from tests.scripted_log import Script


@pytest.fixture
def sealed(tmp_path: Path) -> RunFolder:
    """A run of ten events in batches of two, in one sealed segment."""
    run = create_run(tmp_path / "store", stage="serial")
    with Appender(run.log, "w") as appender:
        script = Script(run.run, "w")
        for first in range(0, 10, 2):
            appender.append([script.event(first), script.event(first + 1)], first - 1)
    list(seal_run(run))
    return run


def rewrite(path: Path, query: str) -> None:
    """Put other rows under the same metadata: a Parquet file that is whole and says nothing of it."""
    other = path.with_name("other")
    with duckdb.connect() as connection:
        metadata = connection.execute(
            f"SELECT value FROM parquet_kv_metadata('{path}') WHERE key::VARCHAR = '{METADATA_KEY}'"
        ).fetchall()[0][0]
        value = metadata.decode().replace("'", "''")
        connection.execute(f"COPY ({query}) TO '{other}' (FORMAT parquet, KV_METADATA {{{METADATA_KEY}: '{value}'}})")
    other.replace(path)


@pytest.mark.parametrize(
    "query",
    [  # rows are those of the file
        "SELECT * REPLACE (CASE WHEN seq = 4 THEN '{}' ELSE data END AS data) FROM rows",
        "SELECT * REPLACE (CASE WHEN seq = 4 THEN [] ELSE links END AS links) FROM rows",
        "SELECT * REPLACE (time + (seq = 4)::BIGINT AS time) FROM rows",
        "SELECT * REPLACE (CASE WHEN seq = 4 THEN batch + 1 ELSE batch END AS batch) FROM rows",
        "SELECT * REPLACE (CASE seq WHEN 4 THEN 5 WHEN 5 THEN 4 ELSE seq END AS seq) FROM rows",
        "SELECT * FROM rows WHERE seq <> 4",
        "SELECT * FROM rows WHERE seq < 8",
        "SELECT * FROM rows UNION ALL FROM rows WHERE seq = 4",
        "SELECT * REPLACE (CASE WHEN seq = 4 THEN NULL ELSE type END AS type) FROM rows",
    ],
)
def test_no_event_of_a_sealed_segment_can_be_changed_unseen(sealed: RunFolder, query: str) -> None:
    """T10: changed, dropped, doubled or moved: nothing of the segment is given, and `verify` names the file."""
    path = sealed.log / "w" / "00000000.parquet"
    rewrite(path, f"FROM read_parquet('{path}')")
    assert [report.damage for report in verify_run(sealed.log, sealed.run)] == [None]
    rewrite(path, query.replace("FROM rows", f"FROM read_parquet('{path}')"))
    given: list[StoredEvent] = []
    with pytest.raises(LogDamaged, match=r"00000000\.parquet: damaged"):
        given += read_events(sealed.log)
    assert given == []
    (report,) = verify_run(sealed.log, sealed.run)
    assert str(path) in (report.damage or "")
