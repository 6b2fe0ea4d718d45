"""T2: a process that is killed before, in the middle of or after any call to its disk loses nothing acknowledged.

The points are not named in the product: the disk that it is given knows them all. So each workload is run once to count
calls, and then once for every one of them; for sealing, which takes a second, in `make test` for some of them only, and
for all with EVENTFLOW_CRASH_POINTS=all. A kill keeps what the kernel was told; power cuts are another test.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventflow.errors import LogDamaged
from eventflow.log.appending import Appender
from eventflow.log.following import EventTail, Subscription
from eventflow.log.layout import segment_name
from eventflow.log.recovery import examine, recover_run
from eventflow.log.runs import RunFolder, create_run, list_runs
from eventflow.log.seal import seal_run
from tests.dying_disk import AFTER, BEFORE, crash_points
from tests.faults import killed
from tests.scripted_log import Ledger, check_all, check_recovery, lines_of
from tests.warm_process import Child, WarmProcess

ALL_POINTS = os.environ.get("EVENTFLOW_CRASH_POINTS") == "all"
SQL_EVERY = 25  # O6 takes a hundred times what the other oracles take
WORK = {"batches": 4, "segment_bytes_max": 3_500, "seed": 3}
WRITERS = [killed.append, killed.record]


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    """Processes to be killed."""
    with WarmProcess("tests.faults.killed") as process:
        yield process


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run in a new store."""
    return create_run(tmp_path / "store", stage="serial")


def calls_of(child: Child) -> list[str]:
    """The calls to the disk that a process made which was let live."""
    assert child.wait() == 0
    told, calls = child.told[-1]
    assert told == "calls"
    return list(calls)


def copied(run: RunFolder, name: str) -> RunFolder:
    """A copy of a run, in a store of its own."""
    store = run.path.parents[1] / name
    return RunFolder(shutil.copytree(run.path, store / run.run))


def test_the_points_of_a_writer_are_all_there(warm: WarmProcess, run: RunFolder) -> None:
    """The workload passes through every kind of step that T2 names, segment creation and recovery among them."""
    calls = calls_of(warm.start(killed.append, run=str(run.path), writer="w", **WORK))
    assert set(calls) == {"create_folder", "sync_folder", "lock", "create", "write_all", "sync", "close"}
    assert calls.count("create") >= 3
    torn = Ledger(run, "w")
    torn.acknowledged = len(lines_of(run.log / "w"))
    with examine_path(run).open("ab") as file:
        file.write(torn.torn(700))
    calls = calls_of(warm.start(killed.append, run=str(run.path), writer="w", **WORK))
    assert {"open", "truncate"} <= set(calls)


def examine_path(run: RunFolder, writer: str = "w") -> Path:
    """The segment with which a writer's log goes on."""
    return run.log / writer / segment_name(examine(run.log / writer).number)


@pytest.mark.parametrize("work", WRITERS)
def test_a_writer_killed_at_any_call_keeps_what_was_acknowledged(
    warm: WarmProcess, run: RunFolder, work: Callable[..., None]
) -> None:
    """O1 to O6 and O8, after a kill at every call: opening, first line, each batch, each new segment, closing."""
    calls = calls_of(warm.start(work, run=str(copied(run, "counted").path), writer="w", **WORK))
    for place, (number, moment) in enumerate(crash_points(calls)):
        found = copied(run, f"{number} {moment}")
        ledger = Ledger(found, "w")
        child = warm.start(work, run=str(found.path), writer="w", die_at=number, moment=moment, **WORK)
        assert child.wait() == -9
        ledger.enter(child.told)
        events = check_all(found, [ledger], sql=ALL_POINTS or place % SQL_EVERY == 0)
        assert len(list(EventTail(found.log).poll())) == events
        check_recovery(ledger)
        shutil.rmtree(found.path)


def crashed(warm: WarmProcess, run: RunFolder, **work: int) -> Ledger:
    """A log that a crash has left with a torn tail, in its last segment."""
    child = warm.start(killed.append, run=str(run.path), writer="w", **WORK | work)
    assert child.wait() == 0
    ledger = Ledger(run, "w")
    ledger.enter(child.told[:-1])
    ledger.check()
    with examine_path(run).open("ab") as file:
        file.write(ledger.torn(700))
    return ledger


def test_a_recovery_killed_at_any_call_is_begun_again(warm: WarmProcess, run: RunFolder) -> None:
    """O8, also when the recovery of the killed recovery is killed, and so on: nothing acknowledged is cut, ever."""
    before = crashed(warm, run)
    work = {"writer": "w", **WORK, "batches": 1}
    calls = calls_of(warm.start(killed.append, run=str(copied(run, "counted").path), **work))
    begun = calls.index("write_all") + 1
    assert "truncate" in calls[:begun]
    for number, moment in crash_points(calls[:begun]):
        found = copied(run, f"{number} {moment}")
        ledger = Ledger(found, "w")
        ledger.acknowledged = ledger.submitted = before.acknowledged
        for again in (number, number, number + 1, 2):
            child = warm.start(killed.append, run=str(found.path), die_at=again, moment=moment, **work)
            assert child.wait() == -9 or "calls" in child.told[-1]  # with nothing to cut there are fewer calls
            ledger.enter(child.told)
            check_all(found, [ledger], sql=ALL_POINTS)
        assert recover_run(found.log).problem is None
        check_recovery(ledger)
        shutil.rmtree(found.path)


def test_what_a_killed_writer_left_is_durable_before_it_counts(warm: WarmProcess, run: RunFolder) -> None:
    """It may have died before the fsync of its last batch, or of the name of its segment.

    Whoever appends the same again is told that it is there, so the one who opens the log makes it so.
    """
    calls_of(warm.start(killed.append, run=str(run.path), writer="w", **WORK))
    calls = calls_of(warm.start(killed.append, run=str(run.path), writer="w", **WORK))
    opening = calls[calls.index("open") : calls.index("write_all")]
    assert opening[:4] == ["open", "sync", "close", "sync_folder"]


def test_a_checkpoint_is_whole_wherever_its_process_was_killed(warm: WarmProcess, run: RunFolder) -> None:
    """T2: what was saved does not come again, what was not does, and nobody reads a half-written file."""
    with Appender(run.log, "w") as appender:
        script = Ledger(run, "w").script
        for number in range(20):
            appender.append([script.event(number)])
    calls = calls_of(warm.start(killed.save_checkpoints, run=str(copied(run, "counted").path), name="n"))
    assert {"rename", "create", "sync_folder"} <= set(calls)
    for number, moment in crash_points(calls):
        found = copied(run, f"{number} {moment}")
        saved = -1
        for again in (number, max(2, number - 3), None):
            child = warm.start(killed.save_checkpoints, run=str(found.path), name="n", die_at=again, moment=moment)
            assert child.wait() == (0 if again is None else -9) or again is not None
            saved = check_checkpoints(child.told, saved)
            check_checkpoint_file(found, saved)
        with Subscription(found.path, "n") as subscription:
            rest = [event.seq for event in subscription.poll()]
        assert rest == list(range(saved + 1, 20))
        shutil.rmtree(found.path)


def check_checkpoints(told: list[list[object]], saved: int) -> int:
    """What one process took goes on from what was saved before. Gives what is certainly saved now."""
    expected: int | None = None
    for what, value in told:
        if what == "open":
            assert isinstance(value, dict)
            opened = value.get("w", -1)
            assert opened >= saved
            saved, expected = opened, opened + 1
        elif what == "seen":
            assert isinstance(value, list)
            assert value[0][1] == expected
            expected = value[0][1] + 1
        elif what == "saved":
            assert isinstance(value, dict)
            saved = value["w"]
            assert saved + 1 == expected
    return saved


def check_checkpoint_file(run: RunFolder, saved: int) -> None:
    """The file is whole, and says what was saved, or more if the process was killed before it could tell."""
    path = run.path / "projections" / "n.json"
    if path.exists() or saved >= 0:
        assert json.loads(path.read_text())["position"]["w"] >= saved


def sealing_points(calls: list[str]) -> list[tuple[int, str]]:
    """Where a process that seals is killed: around each kind of call for the second segment; with the setting, at all.

    Each takes a second.
    """
    if ALL_POINTS:
        return crash_points(calls)
    begin = calls.index("create", calls.index("remove"))
    return [
        (number, moment)
        for number, moment in crash_points(calls)
        if begin <= number <= calls.index("sync_folder", calls.index("remove", begin))
        and (calls[number], moment) not in {("create", BEFORE), ("close", BEFORE), ("close", AFTER)}
    ]


def test_sealing_killed_at_any_call_leaves_every_event_in_one_form(warm: WarmProcess, run: RunFolder) -> None:
    """Killed while it writes, syncs, names or removes: the log reads the same, and sealing again ends it."""
    ledger = crashed(warm, run, batches=3)
    counted = copied(run, "counted")
    calls = calls_of(warm.start(killed.seal, run=str(counted.path), rounds=1))
    assert {"rename", "remove", "truncate", "sync_folder"} <= set(calls)
    assert not list(counted.log.rglob("*.ndjson"))
    for number, moment in sealing_points(calls):
        found = copied(run, f"{number} {moment}")
        assert warm.start(killed.seal, run=str(found.path), rounds=1, die_at=number, moment=moment).wait() == -9
        sealed = Ledger(found, "w")
        sealed.acknowledged = sealed.submitted = ledger.acknowledged
        check_all(found, [sealed])
        list(seal_run(found))
        assert not [path for path in found.path.rglob("*") if path.name.endswith((".new", ".ndjson"))]
        check_recovery(sealed)
        shutil.rmtree(found.path)


@pytest.fixture(params=[0, 1, 40, -1])
def begun(warm: WarmProcess, run: RunFolder, request: pytest.FixtureRequest) -> Ledger:
    """A log whose writer was killed while it began a segment: the file is empty, or has part of its first line."""
    ledger = crashed(warm, run)
    recover_run(run.log)
    path = examine_path(run)
    first_line = path.read_bytes().splitlines(keepends=True)[-1]
    assert b'"count":0,' in first_line
    path.with_name(segment_name(int(path.stem) + 1)).write_bytes(first_line[: request.param])
    return ledger


def test_a_segment_that_was_only_begun_is_no_damage(begun: Ledger) -> None:
    """Every reader takes it for torn, SQL too, and its writer goes on with it."""
    check_all(begun.run, [begun])
    check_recovery(begun)


def test_a_segment_that_was_only_begun_does_not_hinder_sealing(begun: Ledger) -> None:
    """There is nothing in it to seal."""
    list(seal_run(begun.run))
    check_all(begun.run, [begun])
    check_recovery(begun)


def test_a_run_killed_while_it_is_made_is_there_whole_or_not_at_all(warm: WarmProcess, tmp_path: Path) -> None:
    """Half a run is not listed and is in nobody's way."""
    store = tmp_path / "a" / "store"
    calls = calls_of(warm.start(killed.make_run, store=str(store)))
    assert {"create_folder", "create", "rename", "sync_folder"} <= set(calls)
    shutil.rmtree(store.parent)
    for number, moment in crash_points(calls):
        child = warm.start(killed.make_run, store=str(store), die_at=number, moment=moment)
        assert child.wait() == -9
        runs = list_runs(store)
        assert {name for _, name in child.told} <= {run.run for run in runs}
        for run in runs:
            assert run.info().stage == "serial"
            ledger = Ledger(run, "w")
            check_recovery(ledger)
        assert create_run(store, stage="loop").info().stage == "loop"
        shutil.rmtree(store.parent)


def test_a_repair_killed_at_any_call_loses_no_byte(warm: WarmProcess, run: RunFolder) -> None:
    """The damaged end is in the segment or in the file beside it, or in both, and the repair can be begun again."""
    crashed(warm, run)
    recover_run(run.log)
    path = examine_path(run)
    with path.open("ab") as file:
        file.write(b"damage\n")
    damaged = path.read_bytes()
    with pytest.raises(LogDamaged):
        examine(path.parent)
    calls = calls_of(warm.start(killed.repair, folder=str(copied(run, "counted").log / "w")))
    assert {"rename", "truncate"} <= set(calls)
    for number, moment in crash_points(calls):
        found = copied(run, f"{number} {moment}").log / "w"
        assert warm.start(killed.repair, folder=str(found), die_at=number, moment=moment).wait() == -9
        assert warm.start(killed.repair, folder=str(found)).wait() == 0
        (kept,) = [entry for entry in found.iterdir() if ".damaged-" in entry.name and not entry.name.startswith(".")]
        assert (found / path.name).read_bytes() + kept.read_bytes() == damaged
        shutil.rmtree(found.parents[1])
