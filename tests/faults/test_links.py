"""T18: a symbolic link that leads out of the store is never followed, wherever in the store it is."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from eventflow.errors import LogWriteFailed, StoreError
from eventflow.log.appending import Appender
from eventflow.log.following import Subscription
from eventflow.log.layout import LOCK_NAME, is_locked, segment_paths
from eventflow.log.recovery import recover_run
from eventflow.log.runs import RunFolder, create_run, list_runs
from eventflow.log.seal import seal_run
from eventflow.log.verify import verify_run
from tests.faults.filled import everything, fill, ids


def link_writer(run: RunFolder, outside: Path) -> Path:
    """The folder of a writer that is a link to one outside."""
    (run.log / "w").symlink_to(outside / "log" / "w")
    return run.log / "w"


def link_log(run: RunFolder, outside: Path) -> Path:
    """The log that is a link to one outside."""
    run.log.rmdir()
    run.log.symlink_to(outside / "log")
    return run.log


def link_lock(run: RunFolder, outside: Path) -> Path:
    """The lock that is a link to a file outside."""
    (run.log / "w").mkdir()
    (run.log / "w" / LOCK_NAME).symlink_to(outside / "log" / "w" / LOCK_NAME)
    return run.log / "w"


def link_segment(run: RunFolder, outside: Path) -> Path:
    """The first segment that is a link to one outside."""
    (run.log / "w").mkdir()
    (run.log / "w" / "00000000.ndjson").symlink_to(outside / "log" / "w" / "00000000.ndjson")
    return run.log / "w"


def link_to_nothing(run: RunFolder, outside: Path) -> Path:
    """The first segment that is a link to a file that is not there, and would be made."""
    (run.log / "w").mkdir()
    (run.log / "w" / "00000000.ndjson").symlink_to(outside / "made")
    return run.log / "w"


@pytest.mark.parametrize("link", [link_writer, link_log, link_lock, link_segment, link_to_nothing])
def test_a_link_out_of_the_store_is_never_followed(link: Callable[[RunFolder, Path], Path], tmp_path: Path) -> None:
    """What a link leads to is not read as part of the run, not locked and not written, by whatever call."""
    outside = create_run(tmp_path / "outside", stage="serial")
    fill(outside)
    (outside.log / "w" / "00000000.ndjson").write_bytes(
        b"torn",
    )
    before = everything(outside.path)
    run = RunFolder(create_run(tmp_path / "store", stage="serial").path)
    link(run, outside.path)
    with pytest.raises(StoreError):
        Appender(run.log, "w")
    assert not segment_paths(run.log)
    assert not is_locked(run.log / "w")
    assert not ids(run)
    assert not list(verify_run(run.log, run.run))
    with suppress(LogWriteFailed):
        recover_run(run.log)
    with suppress(LogWriteFailed):
        list(seal_run(run))
    assert everything(outside.path) == before


def test_a_run_that_is_a_link_is_not_a_run(tmp_path: Path) -> None:
    """A store holds what is in it."""
    outside = create_run(tmp_path / "outside", stage="serial")
    store = tmp_path / "store"
    store.mkdir()
    (store / outside.run).symlink_to(outside.path)
    assert list_runs(store) == []


def test_a_subscription_writes_through_no_link(tmp_path: Path) -> None:
    """Neither the folder of checkpoints, nor one of its files, leads out of the store."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    run = create_run(tmp_path / "store", stage="serial")
    fill(run)
    projections = run.path / "projections"
    projections.symlink_to(outside)
    with pytest.raises(LogWriteFailed):
        Subscription(run.path, "billing")
    projections.unlink()
    projections.mkdir()
    for name in ("a.json", "b.lock", ".c.json.new"):
        (projections / name).symlink_to(outside / "kept")
    with pytest.raises(StoreError):
        Subscription(run.path, "a")
    with pytest.raises(LogWriteFailed):
        Subscription(run.path, "b")
    with Subscription(run.path, "c") as subscription:
        assert len(list(subscription.poll())) == 6
    assert everything(outside) == {"kept": b"kept"}
