"""T19: what an old version wrote is read for ever, what a newer one wrote is refused, and docs/format.md is true."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventflow.errors import NewerFormat
from eventflow.event import Event
from eventflow.log.appending import Appender
from eventflow.log.following import Subscription
from eventflow.log.format import advance, genesis
from eventflow.log.layout import segment_paths, writer_folders
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, list_runs
from eventflow.log.seal import seal_run
from eventflow.log.sql import connect, query
from eventflow.log.verify import verify_run
from eventflow.vocabulary import RunStarted, decode_payload
from tests.fixtures.make_format_1 import NAMES, Content, content_of

FIXTURES = Path(__file__).parents[2] / "fixtures" / "format-1"
DOCUMENT = Path(__file__).parents[3] / "docs" / "format.md"
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


def read_as_documented(run: RunFolder) -> list[dict[str, Any]]:
    """What the reader of docs/format.md gives, in an interpreter that has no eventflow."""
    (block,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 40
    program = f"{block}\nimport sys\nprint(json.dumps(read_run(pathlib.Path(sys.argv[1]))))"
    command = [sys.executable, "-I", "-S", "-c", program, str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = msgspec.json.decode(done.stdout)
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


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sealed"], indirect=True)
def test_the_reader_in_the_document_reads_what_we_read(run: RunFolder) -> None:
    """Forty lines of Python that know nothing of eventflow."""
    ours = sorted(read_events(run.log), key=lambda event: (event.writer, event.seq))
    assert [(event["id"], event["writer"], event["seq"]) for event in read_as_documented(run)] == [
        (event.id, event.writer, event.seq) for event in ours
    ]


def test_the_example_in_the_document_is_right() -> None:
    """The three digests, computed."""
    text = DOCUMENT.read_text(encoding="utf-8")
    nothing = genesis("20260101-000000-abcd", "w1")
    after = advance(nothing, b'{"id":"019b76da-a800-7000-8000-000000000000","type":"a.b"}\n')
    digests = re.findall(r"^[012]  .*? ([0-9a-f]{64})$", text, re.MULTILINE)
    assert digests == [nothing.hex(), after.hex(), advance(after, b"").hex()]
