"""T6 and T7: whatever a power cut does to what was not synced, nothing that was acknowledged is lost.

Each seed takes one of the workloads, one of its calls, and one of the many things that a disk may hold if the power
goes after that call (`tests.power_cut` says which). Then the real code opens the log, and is cut again while it
recovers it.

EVENTFLOW_SEEDS says how many seeds are tried, 500 if it is not set; EVENTFLOW_SEED=n tries that one alone.
"""

import errno
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from eventflow.errors import LogWriteFailed
from eventflow.log.appending import Appender
from eventflow.log.following import Subscription
from eventflow.log.runs import RunFolder, create_run, list_runs
from eventflow.log.seal import seal_run
from eventflow.log.segment import SEGMENT_BYTES_MAX
from eventflow.recorder import Recorder
from eventflow.sources import SeededSources
from tests.faults.survivors import (
    WRITER,
    Known,
    World,
    check_checkpoint,
    check_goes_on,
    check_sealed,
    check_survived,
    new_world,
    read,
    write,
)
from tests.recording_disk import Fault, Killed, Machine, ProcessDisk
from tests.scripted_log import Script

SEEDS = int(os.environ.get("EVENTFLOW_SEEDS", "500"))
SEED = os.environ.get("EVENTFLOW_SEED")
BLOCK = 50
FOUND = (
    107,  # the folder of checkpoints was taken for durable because it was there
    13_732,  # garbage that is not UTF-8 in a line without its commit was no error of ours
)


def work_append(world: World, chance: random.Random) -> None:
    """One process, one segment."""
    write(world, ProcessDisk(world.machine), chance, SEGMENT_BYTES_MAX)


def work_rotate(world: World, chance: random.Random) -> None:
    """One process, a new segment after each batch or two."""
    write(world, ProcessDisk(world.machine), chance, chance.choice((1, 1_500)))


def work_record(world: World, chance: random.Random) -> None:
    """A recorder and its thread."""
    script = Script(world.known.run, WRITER)
    disk = ProcessDisk(world.machine)
    recorder = Recorder(world.run.log, world.known.run, sources=script, disk=disk, batch_seconds_max=None)
    recorder._writer._segment_bytes_max = 1_500
    span = recorder.adopt(script.handoff(0))
    for _ in range(4):
        count = chance.randint(1, 4)
        first = world.submit(count)
        for number in range(first, first + count):
            span.record(script.payload(number))
        recorder.flush()
        world.acknowledged(recorder._writer)
    recorder.close()


def work_reopen(world: World, chance: random.Random) -> None:
    """Processes that are killed at a call, with what the kernel has kept gone on with by the next, then the power."""
    for _ in range(2):
        disk = ProcessDisk(world.machine, die_at=chance.randrange(25))
        with suppress(Killed):
            write(world, disk, chance, 1_500)
        disk.kill()
    write(world, ProcessDisk(world.machine), chance, 1_500, batches=2)


def work_fail(world: World, chance: random.Random) -> None:
    """A process whose disk fails, and the next one that goes on."""
    call, code = chance.choice((("sync", errno.EIO), ("write_all", errno.ENOSPC), ("sync_folder", errno.EIO)))
    fault = Fault(frozenset((call,)), chance.randrange(9), code, chance.random() < 0.5, chance.random() < 0.5)
    with suppress(LogWriteFailed):
        write(world, ProcessDisk(world.machine, fault=fault), chance, 1_500)
    write(world, ProcessDisk(world.machine), chance, 1_500, batches=2)


def work_checkpoint(world: World, chance: random.Random) -> None:
    """A subscription that saves its place while the log grows; it is killed now and then, and so is the writer."""
    for _ in range(3):
        writer = ProcessDisk(world.machine, die_at=chance.choice((None, chance.randrange(5, 15))))
        with suppress(Killed):
            write(world, writer, chance, 1_500, batches=1)
        writer.kill()
        disk = ProcessDisk(world.machine, die_at=chance.choice((None, chance.randrange(20))))
        with suppress(Killed):
            subscription = Subscription(world.run.path, "billing", disk=disk)
            seen = [event.seq for event in subscription.poll()]
            subscription.save()
            world.note(saved=max([world.known.saved, *seen]))
            subscription.close()
        disk.kill()


def work_seal(world: World, chance: random.Random) -> None:
    """A log is written, then sealed; the process that seals may be killed, and another one goes on."""
    write(world, ProcessDisk(world.machine), chance, 3_000)
    world.begin = len(world.machine.steps)
    for die_at in (chance.choice((None, chance.randrange(16))), None):
        disk = ProcessDisk(world.machine, die_at=die_at)
        with suppress(Killed):
            list(seal_run(world.run, disk=disk))
        disk.kill()


WORK = (work_append, work_rotate, work_record, work_reopen, work_fail, work_checkpoint)


def try_seed(worlds: dict[str, World], work: Callable[..., None], folder: Path, seed: int) -> None:
    """One power cut in one workload. A workload is done once for all the seeds of a block."""
    name = work.__name__
    if name not in worlds:
        worlds[name] = new_world(folder / name)
        work(worlds[name], random.Random(f"{seed // BLOCK} {name}"))
    world = worlds[name]
    after = random.Random(f"{seed} when").randint(world.begin, len(world.machine.steps))
    cuts = folder / f"{name}-{seed}"
    cuts.mkdir()
    try:
        cut = world.machine.cut(cuts / "cut", seed, after)
        check = check_checkpoint if work is work_checkpoint else check_survived
        check(cut, world.at(after), seed, seed % 3)
    except BaseException as error:
        error.add_note(f"to see it again: EVENTFLOW_SEED={seed} pytest {Path(__file__).name}  ({name}, step {after})")
        raise


def blocks() -> list[range]:
    """All seeds, in blocks; or the one that is asked for."""
    wanted = range(SEEDS) if SEED is None else range(int(SEED), int(SEED) + 1)
    return [range(first, min(first + BLOCK, wanted.stop)) for first in range(wanted.start, wanted.stop, BLOCK)]


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_a_power_cut_loses_nothing_that_was_acknowledged(block: range, tmp_path: Path) -> None:
    """T6, T7 with O1 to O5 and O8: each seed is a call after which the power goes, and a choice of what survives."""
    worlds: dict[str, World] = {}
    for seed in block:
        try_seed(worlds, WORK[seed % len(WORK)], tmp_path, seed)


@pytest.mark.parametrize("seed", FOUND)
def test_the_seeds_that_found_something_stay_good(seed: int, tmp_path: Path) -> None:
    """T6: what was found once is not found again."""
    try_seed({}, WORK[seed % len(WORK)], tmp_path, seed)


@pytest.mark.parametrize("variant", range(max(1, SEEDS // 500)))
def test_a_power_cut_while_sealing_loses_nothing(variant: int, tmp_path: Path) -> None:
    """T6, T7: the old form of a segment is removed only when the new one and its name are durable.

    After every call, and in many ways after a file was removed, since then there is something to lose; what is made
    after the segments can be made again, so there a few calls will do.
    """
    world = new_world(tmp_path / "world")
    work_seal(world, random.Random(f"{variant} seal"))
    steps = world.machine.steps
    for after in range(world.begin, len(steps) + 1):
        step = steps[after - 1]
        if after % 8 and any("requests" in name for earlier in steps[:after] for name in earlier.path):
            continue
        for way in range(12 if step.call == "remove" and step.path[-1].endswith(".ndjson") else 1):
            cut = world.machine.cut(tmp_path / f"{after}-{way}", way, after)
            try:
                check_sealed(cut, world.at(after), goes_on=way == after % 15)
            except BaseException as error:
                error.add_note(f"variant {variant}, step {after}, way {way}")
                raise


def test_the_model_leaves_logs_of_every_kind(tmp_path: Path) -> None:
    """What survives is now whole, now torn, now mangled, now gone; else the tests above would prove less than they say.

    The last call before the power cut is the write of a batch, which is acknowledged by the sync that never came.
    """
    world, script = new_world(tmp_path / "world"), Script("r", WRITER)
    disk = ProcessDisk(world.machine)
    with Appender(world.run.log, WRITER, disk=disk) as appender:
        appender.append([script.event(0)])
        before = len(world.machine.steps)
        appender.append([script.event(1), script.event(2)])
        step = world.machine.steps[before]
    assert step.call == "write_all"
    seen: Counter[str] = Counter()
    for seed in range(100):
        cut = world.machine.cut(tmp_path / f"cut-{seed}", seed, before + 1)
        reading = read(RunFolder(cut.root / "store" / world.known.run))
        (path,) = cut.root.rglob("*.ndjson")
        size, whole = path.stat().st_size, step.offset + len(step.data)
        seen["acknowledged" if len(reading.lines) == 3 else "refused" if reading.damage else "torn"] += 1
        seen["cut short" if size < whole else "of full size"] += 1
        seen["mangled"] += bool(cut.mangled)
        assert len(reading.lines) >= 1
    assert min(seen[kind] for kind in ("acknowledged", "refused", "torn", "cut short", "of full size", "mangled")) >= 5
    assert seen["mangled"] >= seen["refused"]
    never_named = new_world(tmp_path / "unnamed")
    ProcessDisk(never_named.machine).create_folder(never_named.run.log / WRITER)
    found = [never_named.machine.cut(tmp_path / f"name-{seed}", seed).root for seed in range(20)]
    assert {bool(list(root.rglob(WRITER))) for root in found} == {True, False}


def make_run(world: World, disk: ProcessDisk, seed: int) -> None:
    """Make a run in a store, and take down its name when it is made."""
    made = create_run(world.root / "store", stage="serial", sources=SeededSources(seed), disk=disk)
    world.note(run=made.run)


@pytest.mark.parametrize("die_at", [None, *range(20)])
def test_a_run_that_was_made_is_there_after_a_power_cut(die_at: int | None, tmp_path: Path) -> None:
    """T6, T7: `create_run` returns when all its folders and `run.json` are durable; before that, no half run is listed.

    A process that was killed while it made one leaves nothing that the next one could take for durable.
    """
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world", Known())
    if die_at is not None:
        dying = ProcessDisk(world.machine, die_at=die_at)
        with suppress(Killed):
            make_run(world, dying, 1)
        dying.kill()
    make_run(world, ProcessDisk(world.machine), 2)
    for after in range(len(world.machine.steps) + 1):
        known = world.at(after)
        for seed in range(4):
            cut = world.machine.cut(tmp_path / f"{after}-{seed}", seed, after)
            runs = list_runs(cut.root / "store")
            assert all(run.info().run == run.run for run in runs)
            if known.run:
                assert known.run in [run.run for run in runs], (after, seed)
                check_goes_on(World(cut.root, known), random.Random(seed))
            else:
                make_run(World(cut.root, Known()), ProcessDisk(Machine(cut.root)), 3)
