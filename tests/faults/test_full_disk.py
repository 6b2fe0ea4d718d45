"""A disk that is full: requests fail one by one, or the run stops in order; with room again, a resume completes it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventflow.naming import PART_SUFFIX
from eventflow.origin.content import content
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings
from stages.registry import STAGES

SETTINGS = OriginSettings(files=40, size=100_000, latency_s=0.005)


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """Four megabytes of files."""
    with start_origin(SETTINGS) as running:
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of two megabytes."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def eventflow(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, the summary, standard error."""
    command = [sys.executable, "-m", "eventflow", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, json.loads(done.stdout), done.stderr


def make_room(folder: Path) -> None:
    """Let the small disk grow."""
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)


def write_list(origin: Origin, path: Path) -> Path:
    """The origin's list."""
    path.write_text("".join(f"{entry.url}\t{entry.name}\t{entry.sha256}\n" for entry in origin.entries()))
    return path


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_full_output_folder_fails_requests_and_a_resume_completes_them(
    stage: str, origin: Origin, small_disk: Path, tmp_path: Path
) -> None:
    """What fits is whole, what does not is DiskFull, nothing half-written is left; with room, the rest is fetched."""
    urls, store = write_list(origin, tmp_path / "urls.tsv"), str(tmp_path / "store")
    out = small_disk / "files"
    status, summary, err = eventflow("run", stage, "--input", str(urls), "--out", str(out), "--store", store)
    assert (status, err, summary["state"]) == (1, "", "completed")
    assert 5 <= summary["completed"] <= 20
    assert summary["completed"] + summary["failed"] == 40
    assert {failure["error"] for failure in summary["failures"]} == {"DiskFull"}
    assert "free some room, then resume" in summary["failures"][0]["message"]
    assert len(list(out.iterdir())) == summary["completed"]
    assert not list(out.rglob(f"*{PART_SUFFIX}"))
    make_room(small_disk)
    status, summary, err = eventflow("resume", "latest", "--store", store)
    assert (status, err, summary["completed"], summary["failed"]) == (0, "", 40, 0)
    for number in range(40):
        assert (out / f"{number:06}.bin").read_bytes() == content(SETTINGS, number)


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_full_store_stops_the_run_in_order_and_a_resume_completes_it(
    stage: str, origin: Origin, small_disk: Path, tmp_path: Path
) -> None:
    """Status 3 and one line that says what to do; the log is good up to there, and nothing acknowledged is lost."""
    urls, out, store = write_list(origin, tmp_path / "urls.tsv"), tmp_path / "files", str(small_disk / "store")
    filler = small_disk / "filler"
    filler.write_bytes(bytes((2 << 20) - (68 << 10)))
    status, summary, err = eventflow("run", stage, "--input", str(urls), "--out", str(out), "--store", store)
    assert (status, summary["state"]) == (3, "failed"), err
    assert err == ""
    assert "free some room" in summary["problem"]
    assert summary["completed"] < 40
    assert not list(out.rglob(f"*{PART_SUFFIX}"))
    verify = subprocess.run(
        [sys.executable, "-m", "eventflow", "verify", "latest", "--store", store],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verify.returncode == 0, verify.stdout
    filler.unlink()
    make_room(small_disk)
    status, resumed, err = eventflow("resume", "latest", "--store", store)
    assert (status, err, resumed["completed"], resumed["failed"]) == (0, "", 40, 0)
