"""The catalogue of runs: found by name, made durably, and not opened by a version that does not know them."""

from pathlib import Path

import pytest

from eventflow.errors import NewerFormat, StoreError, UnknownRun, UsageError
from eventflow.log.format import decode_commit, encode_commit
from eventflow.log.runs import create_run, find_run, list_runs
from eventflow.sources import SeededSources


def test_runs_are_found_by_name_beginning_end_and_latest(tmp_path: Path) -> None:
    """A name that fits several runs, or none, says so."""
    sources = SeededSources(1)
    made = [create_run(tmp_path, stage="loop", sources=sources) for _ in range(3)]
    assert [run.run for run in list_runs(tmp_path)] == sorted(run.run for run in made)
    assert find_run(tmp_path, made[1].run).run == made[1].run
    assert find_run(tmp_path, made[1].run[-4:]).run == made[1].run
    assert find_run(tmp_path, "latest").run == max(run.run for run in made)
    with pytest.raises(UnknownRun, match="fits 3 runs"):
        find_run(tmp_path, made[0].run[:8])
    with pytest.raises(UnknownRun, match="`eventflow runs` lists them"):
        find_run(tmp_path, "nothing")
    assert list_runs(tmp_path / "absent") == []


def test_a_store_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    """One line with the fix."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written.*--store"):
        create_run(tmp_path / "file", stage="serial")


def test_a_newer_format_is_refused_with_the_fix(tmp_path: Path) -> None:
    """In run.json and in a segment."""
    run = create_run(tmp_path / "store", stage="serial")
    path = run.path / "run.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(NewerFormat, match="upgrade eventflow"):
        run.info()
    with pytest.raises(NewerFormat):
        decode_commit(encode_commit(0, -1, b"").replace(b'"format":1', b'"format":2'), "p")
    path.write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        run.info()
