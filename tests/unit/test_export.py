"""`eventflow export` to files: where they are, what is in them, what is refused."""

import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec
import pytest
from typer.testing import CliRunner, Result

from eventflow.cli.main import app, main
from eventflow.cli.whole_file import write_pieces
from eventflow.errors import EventflowError, LogDamaged, UsageError
from eventflow.event import Payload
from eventflow.log.layout import segment_paths
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.seal import seal_run
from eventflow.log.sql import VIEWS, query
from eventflow.recorder import Recorder
from eventflow.request import Request
from eventflow.sources import SeededSources
from eventflow.vocabulary import (
    AttemptFailed,
    AttemptStarted,
    RequestFailed,
    RequestQueued,
    RequestStarted,
    RunStarted,
)
from instrumentation.traces import read_spans
from tests.support.perfetto_trace import Trace
from tests.synthetic_log import START_NS, write_run

FORMATS = ("otlp-json", "perfetto", "cloudevents", "parquet")
ENDINGS = ("otlp.json", "perfetto-trace", "cloudevents.ndjson", "parquet")
SECRETS = ("hunter2", "s3cr3t", "AKIAEXAMPLE")


def export(store: Path, *arguments: str) -> Result:
    """What the command does."""
    return CliRunner().invoke(app, ["export", "--store", str(store), *arguments])


def refused(result: Result) -> str:
    """Why it did not: in one line."""
    assert isinstance(result.exception, EventflowError), result.output
    message = str(result.exception)
    assert "\n" not in message
    return message


def rows_of(path: Path) -> list[tuple[object, ...]]:
    """The events in a Parquet file, in their order; times as text."""
    asked = "SELECT * REPLACE (time::VARCHAR AS time) FROM read_parquet($path) ORDER BY writer, seq"
    return duckdb.execute(asked, {"path": str(path)}).fetchall()


@pytest.fixture
def run(store: Path) -> RunFolder:
    """A run with failures."""
    return write_run(store, "loop", requests=30, failure_share=0.3)


@pytest.mark.parametrize(("to", "ending"), list(zip(FORMATS, ENDINGS, strict=True)))
def test_where_it_is_by_default(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, ending: str
) -> None:
    """In the working folder, by the name of the run; the path is printed, and nothing else is left there."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    done = export(run.path.parent, "latest", "--to", to)
    path = folder / f"{run.run}.{ending}"
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{path}\n", "")
    assert list(folder.iterdir()) == [path]
    as_json = export(run.path.parent, "latest", "--to", to, "--json")
    assert json.loads(as_json.stdout) == {"run": run.run, "format": to, "path": str(path)}


@pytest.mark.parametrize("to", FORMATS)
def test_standard_output_has_the_same_bytes(run: RunFolder, tmp_path: Path, to: str) -> None:
    """With -o - there is nothing but the export on standard output."""
    path = tmp_path / "file"
    assert export(run.path.parent, "latest", "--to", to, "-o", str(path)).exit_code == 0
    piped = export(run.path.parent, "latest", "--to", to, "-o", "-")
    assert piped.stdout_bytes == path.read_bytes()


@pytest.mark.parametrize("to", FORMATS)
def test_a_sealed_run_is_the_same(run: RunFolder, tmp_path: Path, to: str) -> None:
    """The form in which the log is kept makes no difference."""
    before, after = tmp_path / "before", tmp_path / "after"
    export(run.path.parent, run.run, "--to", to, "-o", str(before))
    list(seal_run(run))
    export(run.path.parent, run.run, "--to", to, "-o", str(after))
    if to == "parquet":
        assert rows_of(before) == rows_of(after)
    else:
        assert before.read_bytes() == after.read_bytes()


@pytest.mark.parametrize("view", [view.name for view in VIEWS])
def test_each_view_as_parquet(run: RunFolder, tmp_path: Path, view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows and its types, those of this run only, compressed with zstd."""
    store = run.path.parent
    write_run(store, "serial", requests=5, start_ns=START_NS - 10**12)
    monkeypatch.chdir(tmp_path)
    done = export(store, run.run, "--to", "parquet", "--view", view)
    path = Path(done.stdout.strip())
    assert path.name == (f"{run.run}.parquet" if view == "events" else f"{run.run}.{view}.parquet")
    asked = query(run, f"FROM {view}")
    table = duckdb.read_parquet(str(path))
    assert (tuple(table.columns), tuple(map(str, table.types))) == (asked.columns, asked.types)
    ((count,),) = duckdb.execute(f"SELECT count(*) FROM read_parquet('{path}')").fetchall()
    assert count == len(list(asked))
    codecs = duckdb.execute(f"SELECT DISTINCT compression FROM parquet_metadata('{path}')").fetchall()
    assert codecs == ([("ZSTD",)] if count else [])


def test_a_file_that_is_there_is_replaced(run: RunFolder, tmp_path: Path) -> None:
    """As `eventflow report` does it; a symbolic link stays one; a link that leads nowhere is followed."""
    path, link = tmp_path / "out", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    assert export(run.path.parent, "latest", "--to", "cloudevents", "-o", str(link)).exit_code == 0
    assert link.is_symlink()
    assert path.read_text().startswith('{"specversion"')


@pytest.mark.parametrize("to", FORMATS)
def test_a_pipe_is_written_to(run: RunFolder, tmp_path: Path, to: str) -> None:
    """What is no file, as /dev/stdout and /dev/null, is never replaced."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
        done = export(run.path.parent, "latest", "--to", to, "-o", str(fifo))
        heard, _ = reader.communicate()
    assert done.exit_code == 0
    assert len(heard) > 1000
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.parametrize("to", FORMATS)
def test_where_it_cannot_be_written(run: RunFolder, tmp_path: Path, to: str) -> None:
    """A folder, and a folder that is not there: named, with what to do. Nothing is left."""
    folder = tmp_path / "folder"
    folder.mkdir()
    store = run.path.parent
    problem = refused(export(store, "latest", "--to", to, "-o", str(folder)))
    assert problem == f"'{folder}' cannot be written (Is a directory): name another file with --out"
    problem = refused(export(store, "latest", "--to", to, "-o", str(folder / "none" / "file")))
    assert "cannot be written (No such file or directory)" in problem
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_a_full_disk(run: RunFolder, tmp_path: Path, to: str) -> None:
    """One line, no part of the file, and what was there before is still there."""
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "out").write_text("old")

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    command = [sys.executable, "-m", "eventflow", "export", "latest", "--to", to, "-o", str(folder / "out")]
    command += ["--store", str(run.path.parent)]
    done = subprocess.run(command, preexec_fn=little_room, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    why = f"'{folder / 'out'}' cannot be written (File too large): make room, or name a file elsewhere with --out"
    assert done.stderr.splitlines()[0] == f"eventflow: {why}"  # coverage, where it runs, has no room either
    assert [path.name for path in folder.iterdir()] == ["out"]
    assert (folder / "out").read_text() == "old"


@pytest.mark.parametrize("to", FORMATS)
def test_a_damaged_log(run: RunFolder, tmp_path: Path, to: str) -> None:
    """The damage is named and no file is written."""
    (segment,) = segment_paths(run.log)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    done = export(run.path.parent, "latest", "--to", to, "-o", str(tmp_path / "out"))
    assert isinstance(done.exception, LogDamaged)
    assert list(tmp_path.glob("*out*")) == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--to", "perfetto", "--view", "spans"), "--view is for tables: leave it out, or say --to parquet"),
        (("--to", "parquet", "--view", "nothing"), "there is no view 'nothing': there are runs, requests, attempts"),
        (("--to", "parquet", "--follow"), "--follow, --sample and --otlp-logs are not for parquet"),
        (
            ("--to", "otlp", "-o", "x"),
            "otlp is sent, and no file is written: leave --out and --view out, or say --to otlp-json",
        ),
    ],
)
def test_what_does_not_fit(run: RunFolder, arguments: tuple[str, ...], problem: str) -> None:
    """Options that mean nothing together are refused."""
    assert refused(export(run.path.parent, "latest", *arguments)).startswith(problem)


@pytest.mark.parametrize("arguments", [["--to", "otpl"], []])
def test_a_format_that_is_not_there(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The formats are listed, also when none is named; in one line."""
    monkeypatch.setattr(sys, "argv", ["eventflow", "export", "latest", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("eventflow: ")
    assert all(name in line for name in ("otlp,", *FORMATS)) or "'otlp', " in line


def test_a_run_that_goes_on(store: Path, sources: SeededSources, tmp_path: Path) -> None:
    """What is there so far, and it says so. Nothing is taken for interrupted."""
    folder = create_run(store, stage="serial", sources=sources)
    with Recorder(folder.log, folder.run, sources=sources) as recorder:
        recorder.open_stream("run").record(RunStarted(stage="serial", workers=1))
        root = recorder.open_stream("request-0")
        root.record(RequestQueued(number=0, url="http://a/", name="a"))
        root.child().record(RequestStarted(wait_seconds=0.5))
        recorder.flush()
        done = export(store, "latest", "--to", "otlp-json", "-o", str(tmp_path / "out"))
        assert done.stderr == (
            f"{folder.run} goes on: this is what was there; spans that have not ended are not in it\n"
        )
        (resource_spans,) = json.loads((tmp_path / "out").read_bytes())["resourceSpans"]
        assert [span["name"] for span in resource_spans["scopeSpans"][0]["spans"]] == ["queue"]
        assert Trace(export(store, "latest", "--to", "perfetto", "-o", "-").stdout_bytes).slices == []


def test_a_killed_run(store: Path, tmp_path: Path) -> None:
    """What was open is interrupted, and an error."""
    run = write_run(store, "threads", requests=60, stop_seconds=0.08, killed=True)
    export(store, "latest", "--to", "otlp-json", "-o", str(tmp_path / "out"))
    exported = json.loads((tmp_path / "out").read_bytes())["resourceSpans"]
    spans = [one for each in exported for one in each["scopeSpans"][0]["spans"]]
    killed = [one for one in spans if one["status"].get("message") == "killed"]
    expected = [one for one in read_spans(run) if one.state == "interrupted"]
    assert 0 < len(killed) == len(expected) < len(spans)


def write_secrets(store: Path, sources: SeededSources) -> RunFolder:
    """A run whose list, redirects and failures are full of secrets, as they reach the recorder."""
    folder = create_run(store, stage="serial", sources=sources, labels={"note": "plain"})
    url = (
        "https://me:hunter2@example.org/a?X-Amz-Signature=s3cr3t&token=s3cr3t&AWSAccessKeyId=AKIAEXAMPLE&page=2#s3cr3t"
    )
    with Recorder(folder.log, folder.run, sources=sources) as recorder:
        recorder.open_stream("run").record(RunStarted(stage="serial", workers=1))
        root = recorder.open_stream("request-0")
        root.record(RequestQueued(number=0, url=Request(0, url, "a").redacted_url, name="a"))
        root.child().record(RequestStarted(wait_seconds=0.5))
        attempt = root.child()
        attempt.record(AttemptStarted(server_address="example.org", server_port=443))
        attempt.record(AttemptFailed(error="TimedOut", message="nothing arrived", seconds=1.0))
        root.record(RequestFailed(error="TimedOut", message="nothing arrived", seconds=1.0))
    return folder


@pytest.mark.parametrize("to", FORMATS)
def test_no_secret_is_in_any_byte(store: Path, sources: SeededSources, tmp_path: Path, to: str) -> None:
    """The URL is there, and what is secret in it is not."""
    write_secrets(store, sources)
    export(store, "latest", "--to", to, "-o", str(tmp_path / "out"))
    data = (tmp_path / "out").read_bytes()
    if to == "parquet":
        data = str(rows_of(tmp_path / "out")).encode()
    assert b"https://REDACTED:REDACTED@example.org/a" in data
    assert not [secret for secret in SECRETS if secret.encode() in data]


class OwnHappened(Payload, frozen=True, kw_only=True):
    """An event of one's own."""

    TYPE = "own.happened"
    value: int


def test_events_of_ones_own(store: Path, sources: SeededSources, tmp_path: Path) -> None:
    """They are in every format, whether this process knows their type or not."""
    folder = create_run(store, stage="serial", sources=sources)
    with Recorder(folder.log, folder.run, sources=sources) as recorder:
        recorder.open_stream("own-1").record(OwnHappened(value=17))
    for to in FORMATS:
        assert export(store, "latest", "--to", to, "-o", str(tmp_path / to)).exit_code == 0
    assert msgspec.json.decode((tmp_path / "cloudevents").read_bytes())["type"] == "dev.eventflow.own.happened"
    (own,) = Trace((tmp_path / "perfetto").read_bytes()).slices
    assert (own.category, own.said["eventflow.own.value"]) == ("own", 17)


def test_a_run_without_events(store: Path, sources: SeededSources, tmp_path: Path) -> None:
    """Every format of nothing is whole."""
    create_run(store, stage="serial", sources=sources)
    for to in FORMATS:
        assert export(store, "latest", "--to", to, "-o", str(tmp_path / to)).exit_code == 0
    assert json.loads((tmp_path / "otlp-json").read_bytes()) == {"resourceSpans": []}
    assert rows_of(tmp_path / "parquet") == []


def failing(problem: BaseException) -> Callable[[], object]:
    """Pieces that end in an error."""

    def pieces() -> object:
        yield b"one"
        raise problem

    return pieces


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), LogDamaged("a", 1, 1, "torn"), UsageError("a", "b")])
def test_a_file_is_whole_or_not_there(tmp_path: Path, problem: BaseException) -> None:
    """Whatever ends the writing, what was there before is there, and nothing beside it."""
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(problem)):
        write_pieces(path, failing(problem)())  # type: ignore[arg-type]
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
