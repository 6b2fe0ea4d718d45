"""Bad input through the command line: one line that says the fix, the right exit status, no traceback, nothing lost.

Status 2 and no run where the command is wrong; status 1 where one request of the list is.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventflow.origin.content import content
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings

SETTINGS = OriginSettings(files=6, size=3_000)


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A good server."""
    with start_origin(SETTINGS) as running:
        yield running


def eventflow(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[str]:
    """The command as a user types it."""
    done = subprocess.run(
        [sys.executable, "-m", "eventflow", *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "missing.txt"], "'missing.txt'"),
        (["--input", "."], "folder"),
        (["--input", "missing\n.txt"], "missing"),
        (["--input", "empty.txt"], "there is no URL in 'empty.txt': give one URL a line"),
        (["--input", "comments.txt"], "there is no URL"),
        (["--input", "-"], "there is no URL in '-'"),
        ([], "nothing to fetch: give URLs, or a list with --input FILE"),
        (["http://127.0.0.1/", "--input", "good.txt"], "both URLs and --input"),
        (["--input", "good.txt", "--out", "empty.txt"], "is a file"),
        (["--input", "good.txt", "--out", "empty.txt/below"], "below"),
        (["--input", "good.txt", "--out", "/proc/no"], "/proc/no"),
        (["--input", "good.txt", "--store", "empty.txt"], "--store"),
        (["--input", "good.txt", "--store", "/proc/no"], "--store"),
        (["--input", "good.txt", "--workers", "0"], "workers"),
        (["--input", "good.txt", "--workers", "many"], "workers"),
        (["--input", "good.txt", "--timeout", "soon"], "'soon' is not a duration: write 20ms"),
    ],
)
def test_a_wrong_command_is_one_line_and_leaves_nothing_behind(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    """Status 2, what is wrong and what to do, no traceback, no run."""
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "comments.txt").write_text("# nothing\n\n   \n# here\n")
    (tmp_path / "good.txt").write_text("http://127.0.0.1:1/x\n")
    done = eventflow(tmp_path, "run", "threads", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert ": " in done.stderr.removeprefix("eventflow: ")
    assert not list(tmp_path.glob(".eventflow/*"))


def test_lines_that_are_no_requests_fail_and_the_others_go_on(origin: Origin, tmp_path: Path) -> None:
    """Each with its number and its reason; a line of ten megabytes is not read into memory or into the log."""
    entries = list(origin.entries())
    lines = [
        entries[0].url.encode(),
        b"ftp://127.0.0.1/x",
        b"file:///etc/passwd",
        b"not a url",
        b"http:///nothing",
        b"http://127.0.0.1:99999/x",
        b"http://127.0.0.1/\xff\xfe",
        b"x" * (10 << 20),
        f"{entries[1].url}\t../escape".encode(),
        f"{entries[1].url}\t/etc/escape".encode(),
        f"{entries[1].url}\tname\tnot-a-digest".encode(),
        b'{"name":"no url"}',
        b'{"url":',
        f'{{"url":"{entries[2].url}","name":"from-json.bin","sha256":"{entries[2].sha256}"}}'.encode(),
    ]
    (tmp_path / "list.txt").write_bytes(b"\n".join(lines) + b"\n")
    done = eventflow(tmp_path, "run", "loop", "--input", "list.txt", "--json")
    summary: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert (summary["requests"], summary["completed"], summary["failed"]) == (14, 2, 12)
    messages = {failure["number"]: failure["message"] for failure in summary["failures"]}
    assert sorted(messages) == list(range(1, 13))
    assert {failure["error"] for failure in summary["failures"]} == {"InvalidRequest"}
    assert all("\n" not in message and len(message) < 600 for message in messages.values())
    assert "http" in messages[1]
    assert "UTF-8" in messages[6]
    assert "KiB" in messages[7]
    assert ".." in messages[8]
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["000000.bin", "from-json.bin"]
    assert not (tmp_path / "escape").exists()
    assert sum(path.stat().st_size for path in tmp_path.glob(".eventflow/**/*") if path.is_file()) < 200_000


def test_credentials_are_nowhere(origin: Origin, tmp_path: Path) -> None:
    """Not on the screen, in the store, in a file name or in the report; the request itself has them."""
    entry = next(origin.entries())
    url = entry.url.replace("http://", "http://alice:hunter2@") + "?token=s3cr3t"
    failing = "http://alice:hunter2@127.0.0.1:1/x?sig=s3cr3t"
    (tmp_path / "list.txt").write_text(f"{url}\n{failing}\n")
    for arguments in (["--input", "list.txt"], [url, failing], ["--input", "-"]):
        done = eventflow(tmp_path, "run", "serial", *arguments, given=f"{url}\n{failing}\n".encode())
        assert done.returncode == 1
        assert "hunter2" not in done.stdout + done.stderr
        assert "s3cr3t" not in done.stdout + done.stderr
        assert "REDACTED:REDACTED@127.0.0.1:1" in done.stderr
    assert eventflow(tmp_path, "report", "latest").returncode == 0
    events = eventflow(tmp_path, "events", "latest").stdout
    (tmp_path / "list.txt").unlink()
    for path in tmp_path.rglob("*"):
        assert "hunter2" not in path.name
        assert "s3cr3t" not in path.name
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
            assert b"s3cr3t" not in path.read_bytes(), path
    assert "hunter2" not in events
    assert (tmp_path / "files" / "000000.bin").read_bytes() == content(SETTINGS, 0)


def test_the_same_url_or_name_twice_gives_two_files(origin: Origin, tmp_path: Path) -> None:
    """Nothing is overwritten: the later ones get their number, the same on every run."""
    entries = list(origin.entries())
    lines = [entries[0].url, entries[0].url, f"{entries[1].url}\tsame.bin", f"{entries[2].url}\tsame.bin"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    for out in ("one", "two"):
        done = eventflow(tmp_path, "run", "threads", "--input", "list.txt", "--out", out, "--json")
        assert (done.returncode, json.loads(done.stdout)["completed"]) == (0, 4)
        names = sorted(path.name for path in (tmp_path / out).iterdir())
        assert names == ["000000.bin", "000000~1.bin", "same.bin", "same~3.bin"]
        assert (tmp_path / out / "same~3.bin").read_bytes() == content(SETTINGS, 2)


@pytest.mark.parametrize("command", ["verify", "resume", "events", "report"])
def test_an_unknown_run_is_a_usage_error(command: str, tmp_path: Path) -> None:
    """With the command that lists them."""
    done = eventflow(tmp_path, command, "nothing")
    assert done.returncode == 2
    assert (
        done.stderr
        == "eventflow: no run 'nothing' in .eventflow: `eventflow runs` lists them, --store names another folder\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "subprocess", "http://127.0.0.1:1/", "--exec", "no-such-program {path}"],
            "'no-such-program' was not found",
        ),
        (["run", "subprocess", "http://127.0.0.1:1/", "--exec", ""], "--exec is empty"),
        (["run", "rocket", "http://127.0.0.1:1/"], "no stage 'rocket': choose one of serial"),
        (["sql", "SELEKT 1"], "SELEKT"),
        (["sql", "COPY (SELECT 1) TO 'x.csv'"], "not a query"),
    ],
)
def test_other_wrong_commands(arguments: list[str], message: str, tmp_path: Path) -> None:
    """One line, status 2."""
    done = eventflow(tmp_path, *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_is_no_error(origin: Origin, tmp_path: Path) -> None:
    """`eventflow events latest | head -1` says nothing on standard error."""
    eventflow(tmp_path, "run", "threads", *(entry.url for entry in origin.entries()))
    for arguments in ("events latest", "runs", "sql 'FROM events'", "sql --views", "doctor"):
        command = f"{sys.executable} -m eventflow {arguments} | head -1"
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False, timeout=60)
        assert done.stderr == b""
        assert done.stdout.count(b"\n") == 1
