"""T19: what an old version wrote is read for ever, and what a newer one wrote is refused."""

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventflow.errors import NewerFormat
from eventflow.event import Event
from eventflow.log.appending import Appender
from eventflow.log.following import Subscription
from eventflow.log.layout import segment_paths, writer_folders
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, list_runs
from eventflow.log.seal import seal_run
from eventflow.log.sql import connect, query
from eventflow.log.verify import verify_run
from eventflow.vocabulary import RunStarted, decode_payload
from tests.fixtures.make_format_1 import NAMES, Content, content_of

FIXTURES = Path(__file__).parents[2] / "fixtures" / "format-1"
DIGEST = "e5ad9b1011529de9a759c2dfe34841987b89bff12289d5fe270f2b0e8417ac29"
EXPECTED = msgspec.json.decode((FIXTURES / "expected.json").read_bytes(), type=dict[str, Content])


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a fixture."""
    return str(request.param)


@pytest.fixture
def run(name: str, tmp_path: Path) -> RunFolder:
    """A copy of its run."""
    shutil.copytree(FIXTURES / name, tmp_path / name)
    (found,) = list_runs(tmp_path / name)
    return found


def test_a_store_of_format_1_is_read_as_it_was_written(run: RunFolder, name: str) -> None:
    """Line by line, byte for byte, and verify finds it good."""
    assert content_of(run) == EXPECTED[name]
    assert [report.damage for report in verify_run(run.log, run.run) if report.damage] == []
    for event in read_events(run.log):
        decode_payload(event)


def test_a_store_of_format_1_is_asked_in_sql(run: RunFolder, name: str) -> None:
    """DuckDB counts what was written."""
    connection = connect(run.path.parent)
    ((count,),) = query(connection, "SELECT count(*) FROM events").rows()
    assert count == sum(EXPECTED[name].events.values())


def test_a_store_of_format_1_is_gone_on_with_and_sealed(run: RunFolder, name: str) -> None:
    """Each writer's log takes another event, and the run can be sealed; nothing that was there changes."""
    for folder in writer_folders(run.log):
        with Appender(run.log, folder.name) as appender:
            what = RunStarted(stage="s", workers=1)
            appender.append([Event("i" * 36, what.TYPE, 1, "", "new", 0, "", 0, "t" * 32, "s" * 16, what)])
    list(seal_run(run))
    found, expected = content_of(run), EXPECTED[name]
    assert found.events == {writer: count + 1 for writer, count in expected.events.items()}
    assert {path.suffix for path in segment_paths(run.log)} == {".parquet"}


def test_a_subscription_of_format_1_goes_on_where_it_was(tmp_path: Path) -> None:
    """Four events were done."""
    shutil.copytree(FIXTURES / "subscribed", tmp_path / "s")
    (run,) = list_runs(tmp_path / "s")
    with Subscription(run.path, "mailer") as subscription:
        count = sum(EXPECTED["subscribed"].events.values())
        assert [event.seq for event in subscription.poll()] == list(range(4, count))


@pytest.mark.parametrize("what", ["run", "segment", "checkpoint"])
def test_what_a_newer_version_wrote_is_refused(tmp_path: Path, what: str) -> None:
    """With what to do, and without a change to it."""
    shutil.copytree(FIXTURES / "subscribed", tmp_path / "s")
    (run,) = list_runs(tmp_path / "s")
    paths = {
        "run": run.path / "run.json",
        "segment": segment_paths(run.log)[0],
        "checkpoint": run.path / "projections" / "mailer.json",
    }
    openings: dict[str, Callable[[], object]] = {
        "run": run.info,
        "segment": lambda: Appender(run.log, writer_folders(run.log)[0].name),
        "checkpoint": lambda: Subscription(run.path, "mailer"),
    }
    data = re.sub(rb'"format":( ?)1', rb'"format":\g<1>2', paths[what].read_bytes())
    paths[what].write_bytes(data)
    with pytest.raises(NewerFormat, match="has format 2, this eventflow reads up to 1: upgrade eventflow"):
        openings[what]()
    assert paths[what].read_bytes() == data


def test_the_stores_of_format_1_are_those_that_were_made_once() -> None:
    """That this version opens what an old one wrote is only shown by what an old one wrote: no byte of it changes."""
    digest = hashlib.sha256()
    for path in sorted(path for name in NAMES for path in (FIXTURES / name).rglob("*") if path.is_file()):
        digest.update(path.relative_to(FIXTURES).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    assert digest.hexdigest() == DIGEST
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < 100_000
