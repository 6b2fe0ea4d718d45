"""The director in several processes: one run, one story, the same counts as the log."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eventflow.log.reader import RunTail, read_events
from eventflow.log.runs import RunFolder, list_runs
from eventflow.log.verify import verify_run
from eventflow.origin.content import content
from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings, even_faults
from eventflow.progress import Tally

FILES = 200
SETTINGS = OriginSettings(files=FILES, size=5_000, faults=even_faults(0.2), stall_s=5.0, seed=3)


def run(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], int]:
    """Run the command line; its summary and exit status."""
    command = [sys.executable, "-m", "eventflow", *arguments, "--store", str(tmp_path / "store"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.stderr == ""
    return json.loads(done.stdout), done.returncode


def told(folder: RunFolder) -> Tally:
    """What the log says."""
    tally = Tally()
    for lines in RunTail(folder.log).poll():
        tally.feed(lines)
    return tally


def check(summary: dict[str, Any], folder: RunFolder) -> None:
    """The summary, which the processes counted, is what the log gives."""
    tally = told(folder)
    for name in ("requests", "completed", "failed", "cancelled", "bytes", "events", "events_lost"):
        assert summary[name] == getattr(tally, name), name
    assert {failure["number"] for failure in summary["failures"]} <= set(range(FILES + 1))
    assert len(summary["failures"]) == min(summary["failed"], 20)


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("stage", ["director", "lineage"])
def test_the_counts_are_those_of_the_log_also_after_a_resume(stage: str, workers: str, tmp_path: Path) -> None:
    """What is shown comes from the processes themselves, and is what the log gives, before and after a resume."""
    with start_origin(SETTINGS) as origin:
        lines = [f"{entry.url}\t{entry.name}\t{entry.sha256}" for entry in origin.entries()]
        (tmp_path / "urls.tsv").write_text("\n".join([*lines, "no url"]) + "\n")
        options = ["--input", str(tmp_path / "urls.tsv"), "--out", str(tmp_path / "files"), "--timeout", "1s"]
        summary, status = run(tmp_path, "run", stage, "--workers", workers, "--retries", "0", *options)
        (folder,) = list_runs(tmp_path / "store")
        assert (status, summary["requests"], summary["state"]) == (1, FILES + 1, "completed")
        assert summary["failed"] > 5
        check(summary, folder)
        again, _ = run(tmp_path, "resume", "latest")
    assert again["completed"] > summary["completed"]
    check(again, folder)
    assert [report.damage for report in verify_run(folder.log, folder.run) if report.damage] == []
    for number in range(FILES):
        path = tmp_path / "files" / f"{number:06}.bin"
        assert not path.exists() or path.read_bytes() == content(SETTINGS, number)


def test_each_request_belongs_to_one_process(tmp_path: Path) -> None:
    """Which process carries out a request follows from its number; the run's log says when each began and ended."""
    with start_origin(OriginSettings(files=30, size=100)) as origin:
        (tmp_path / "urls.txt").write_text("\n".join(entry.url for entry in origin.entries()) + "\n")
        run(tmp_path, "run", "lineage", "-w", "2", "-i", str(tmp_path / "urls.txt"), "-o", str(tmp_path / "files"))
    (folder,) = list_runs(tmp_path / "store")
    events = list(read_events(folder.log))
    writers = {event.stream: event.writer for event in events if event.stream.startswith("request-")}
    assert len({writers[f"request-{number}"] for number in range(0, 30, 2)}) == 1
    assert len({writers[f"request-{number}"] for number in range(1, 30, 2)}) == 1
    assert len(set(writers.values())) == 2
    types = Counter(event.type for event in events)
    assert (types["process.started"], types["process.exited"]) == (3, 2)
    (stage_started,) = [event for event in events if event.type == "stage.started"]
    begun = [event for event in events if event.stream.startswith("process-")]
    assert [link.id for event in begun for link in event.links] == [stage_started.id] * 2


def test_several_workers_need_a_file(tmp_path: Path) -> None:
    """A pipe cannot be read by each of them: that is said before anything is done."""
    command = [
        sys.executable,
        "-m",
        "eventflow",
        "run",
        "director",
        "-w",
        "2",
        "-i",
        "-",
        "--store",
        str(tmp_path / "s"),
    ]
    done = subprocess.run(command, input="http://127.0.0.1:1/", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "--input FILE" in done.stderr
    assert not (tmp_path / "s").exists()
