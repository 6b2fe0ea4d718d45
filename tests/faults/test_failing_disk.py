"""T8 and T9: any call to the disk may fail, at any time, once or for good, and nothing that was acknowledged is lost.

A scripted piece of work is done once to count its calls; then again for each call and each way in which it can fail.
Then the power goes, or there is room again and the work goes on. In `make test` the errors take turns;
EVENTFLOW_CRASH_POINTS=all takes each of them at every call.
"""

import errno
import itertools
import os
import random
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from eventflow.disk import Disk
from eventflow.errors import EventflowError, LogClosed, LogWriteFailed, StoreError, UsageError
from eventflow.log.appending import Appender
from eventflow.log.following import Subscription
from eventflow.log.recovery import examine, recover_run
from eventflow.log.runs import create_run
from eventflow.log.segment import LogWriter
from eventflow.recorder import Recorder
from eventflow.sources import SeededSources
from tests.faults.survivors import WRITER, Known, World, check_goes_on, check_survived, new_world, read
from tests.recording_disk import Fault, ProcessDisk
from tests.scripted_log import Script

FULL = (errno.ENOSPC, errno.EDQUOT)
CODES = {
    "write_all": (*FULL, errno.EFBIG, errno.EIO),
    "sync": (errno.EIO, errno.EDQUOT),
    "close": (errno.EIO,),
    "create": (errno.ENOSPC, errno.EMFILE, errno.EROFS),
    "create_folder": (errno.EDQUOT, errno.EACCES),
    "open": (errno.EMFILE, errno.EACCES),
    "open_lock": (errno.ENFILE, errno.EROFS),
    "take_lock": (errno.ENOLCK,),
    "release_lock": (errno.EIO,),
    "truncate": (errno.EIO,),
    "rename": (errno.ENOSPC, errno.EROFS),
    "remove": (errno.EIO,),
    "sync_folder": (errno.EIO, errno.EMFILE),
}
CUTS = 2
ALL_CODES = os.environ.get("EVENTFLOW_CRASH_POINTS") == "all"
BROKEN = {
    "full": (frozenset(("write_all", "create", "create_folder", "rename", "sync")), errno.ENOSPC),
    "gone": (frozenset(CODES), errno.EIO),
}


def work(world: World, disk: ProcessDisk) -> None:
    """Everything that the log does with a disk: make a run, write, begin segments, recover, save a place."""
    if not world.known.run:
        sources = SeededSources(len(list(world.root.glob("store/*"))))
        run = create_run(world.root / "store", stage="serial", sources=sources, disk=disk)
        world.note(run=run.run)
    write(world, disk, segment_bytes_max=1_000)
    tear(world)
    write(world, disk, segment_bytes_max=1 << 20)
    tear(world)
    recover_run(world.run.log, disk)
    for _ in range(2):
        with Subscription(world.run.path, "billing", disk=disk) as subscription:
            places = [event.seq for event in subscription.poll()]
        world.note(saved=max([world.known.saved, *places]))
        write(world, disk, segment_bytes_max=1 << 20)
        leave_behind(world.run.path / "projections" / ".billing.json.new", world)


def write(world: World, disk: ProcessDisk, segment_bytes_max: int) -> None:
    """A process opens the log, appends three batches, one of them with an expected version, and closes it."""
    script = Script(world.known.run, WRITER)
    with Appender(world.run.log, WRITER, disk=disk, segment_bytes_max=segment_bytes_max) as appender:
        world.opened(appender._writer)
        for expected in (False, True, False):
            first = world.submit(2)
            events = [script.event(number) for number in range(first, first + 2)]
            try:
                appender.append(events, first - 1 if expected else None)
            except LogWriteFailed:
                check_dead(appender._writer, disk)
                raise
            world.acknowledged(appender._writer)


def check_dead(writer: LogWriter, disk: ProcessDisk) -> None:
    """A failed writer has cut its file back, if that can be done, and touches the disk no more."""
    if writer._failed is None:  # it was not the writer that failed, but the lock of those that expect a version
        return
    assert disk.fault is not None
    if "truncate" not in disk.fault.calls:
        assert examine(writer.folder).tail.bytes == 0
    calls = len(disk.log)
    for _ in range(2):
        with pytest.raises(LogWriteFailed) as again:
            writer.append(b'{"id":"0"}\n', 1)
        assert again.value is writer._failed
    writer.close()
    assert len(disk.log) == calls
    assert writer._descriptor is None
    assert writer._lock is None


def tear(world: World) -> None:
    """A process died while it wrote."""
    script, first = Script(world.known.run, WRITER), world.known.acknowledged
    found = examine(world.run.log / WRITER)
    if found.tail.bytes:
        return  # another one did so before it
    segment = world.run.log / WRITER / f"{found.number:08}.ndjson"
    disk = ProcessDisk(world.machine)
    descriptor = disk.open(segment) if segment.exists() else disk.create(segment)
    if os.fstat(descriptor).st_size:
        world.submit(2)
        disk.write_all(descriptor, script.line(first) + b"\n" + script.line(first + 1)[:100])
        world.note(submitted=first, ends=frozenset((first,)))
    disk.close(descriptor)


def leave_behind(path: Path, world: World) -> None:
    """A process died while it replaced a file."""
    disk = ProcessDisk(world.machine)
    descriptor = disk.create(path)
    disk.write_all(descriptor, b"{")
    disk.close(descriptor)


def counted(tmp_path: Path) -> dict[str, int]:
    """How often the work makes each call."""
    (tmp_path / "counted").mkdir()
    world = World(tmp_path / "counted", Known())
    disk = ProcessDisk(world.machine)
    work(world, disk)
    return dict(disk.calls)


def faults(call: str, count: int) -> Iterator[Fault]:
    """Each of the calls, once and from then on, writes short or not, with the errors by turns, or with each of them."""
    ways = list(itertools.product((False, True), (False, True) if call == "write_all" else (False,)))
    for number in range(count):
        for place, (is_lasting, is_short) in enumerate(ways):
            turn = CODES[call][(number + place) % len(CODES[call])]
            for code in CODES[call] if ALL_CODES else (turn,):
                yield Fault(frozenset((call,)), number, code, is_lasting, is_short)


@pytest.mark.parametrize("call", CODES)
def test_any_call_may_fail(call: str, tmp_path: Path) -> None:
    """T8, T9: n = 1…N for each call; O1 to O5 after a power cut and when the disk works again."""
    count = counted(tmp_path)[call]
    assert count > 0
    for number, fault in enumerate(faults(call, count)):
        root = tmp_path / str(number)
        root.mkdir()
        try:
            check_fault(World(root, Known()), fault, number)
        except BaseException as error:
            error.add_note(f"the {fault.number}. {call} failed: {fault}")
            raise


@pytest.mark.parametrize("state", BROKEN)
def test_the_disk_may_be_full_or_gone_from_any_call_on(state: str, tmp_path: Path) -> None:
    """T8, T9, lasting, and of all calls at once: not even the cutting back works on a disk that is gone."""
    calls, code = BROKEN[state]
    counts = counted(tmp_path)
    for number in range(sum(counts[call] for call in calls)):
        root = tmp_path / str(number)
        root.mkdir()
        fault = Fault(calls, number, code, is_lasting=True, is_short=number % 2 == 0)
        try:
            check_fault(World(root, Known()), fault, number)
        except BaseException as error:
            error.add_note(f"from call {number} on: {fault}")
            raise


def check_fault(world: World, fault: Fault, number: int) -> None:
    """Do the work until it fails, cut the power in a few ways, and go on with it."""
    disk = ProcessDisk(world.machine, fault=fault)
    try:
        work(world, disk)
    except EventflowError as failure:
        check_message(failure, world.root)
    else:  # nothing hung on that call: what was acknowledged is looked for below
        assert world.known.acknowledged == world.known.submitted
    assert disk.has_failed
    assert disk.open_count == 0, "a descriptor, or a lock, is left"
    assert disk.retried_syncs == 0
    known = world.known
    for seed in range(CUTS if known.run else 0):
        target = world.root.with_name(f"{world.root.name}-{seed}")
        check_survived(world.machine.cut(target, number * CUTS + seed), known, seed, 0)
    disk.kill()
    (world.root / "store" / known.run / "projections" / ".billing.json.new").unlink(missing_ok=True)
    work(world, ProcessDisk(world.machine))
    check_goes_on(world, random.Random(number))


def check_message(failure: EventflowError, root: Path) -> None:
    """Our own error, in one line, with the path, what the system said and what to do."""
    assert isinstance(failure, LogWriteFailed | UsageError)
    text = str(failure)
    assert "\n" not in text
    assert str(root / "store") in text
    assert "free some room" in text or "make room" in text
    assert isinstance(failure.__cause__, OSError)
    assert str(failure.__cause__.strerror) in text


def record(recorder: Recorder, world: World, batches: int) -> None:
    """Record and flush."""
    script = Script(world.known.run, WRITER)
    span = recorder.adopt(script.handoff(0))
    for _ in range(batches):
        first = world.submit(3)
        for number in range(first, first + 3):
            span.record(script.payload(number))
        recorder.flush()
        world.acknowledged(recorder._writer)


@pytest.mark.parametrize("call", ["write_all", "sync", "close", "create", "sync_folder"])
def test_a_recorder_whose_disk_fails_says_so_and_stops(call: str, tmp_path: Path) -> None:
    """T8, T9: `flush` raises what is not durable, then `record` does, `close` ends, and no thread is left behind."""
    clean = new_world(tmp_path / "clean")
    disk = ProcessDisk(clean.machine)
    tell(clean, disk)
    for number, fault in enumerate(faults(call, disk.calls[call])):
        world = new_world(tmp_path / str(number))
        disk = ProcessDisk(world.machine, fault=fault)
        try:
            tell(world, disk)
        except LogWriteFailed as failure:
            check_message(failure, world.root)
        assert disk.retried_syncs == 0
        check_survived(world.machine.cut(tmp_path / f"{number}-cut", number), world.known, number, 0)
        check_goes_on(world, random.Random(number))


def tell(world: World, disk: ProcessDisk) -> None:
    """Record some batches with a recorder that is closed then; after a failure it is as it must be."""
    script = Script(world.known.run, WRITER)
    recorder = Recorder(world.run.log, world.known.run, sources=script, disk=disk, batch_seconds_max=None)
    recorder._writer._segment_bytes_max = 2_000
    try:
        record(recorder, world, 4)
    except StoreError:
        check_stopped(recorder, script)
        raise
    finally:
        with suppress(StoreError):
            recorder.close()
        assert not recorder._thread.is_alive()
    with pytest.raises(LogClosed):
        recorder.open_stream("other").record(script.payload(0))


def check_stopped(recorder: Recorder, script: Script) -> None:
    """Whoever records or flushes is told the same, every time."""
    assert recorder.failure is not None
    for _ in range(2):
        with pytest.raises(LogWriteFailed) as failure:
            recorder.open_stream("other").record(script.payload(0))
        assert failure.value is recorder.failure
        with pytest.raises(LogWriteFailed):
            recorder.flush(10)


def test_the_real_disk_syncs_what_the_model_takes_for_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T8: one fdatasync of the file, one fsync of the folder; an error is passed on, and nothing is retried."""
    synced: list[int] = []
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    disk, path = Disk(), tmp_path / "file"
    descriptor = disk.create(path)
    disk.write_all(descriptor, b"x")
    disk.sync(descriptor)
    disk.sync_folder(tmp_path)
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]

    def fail(_descriptor: int) -> None:
        synced.append(0)
        raise OSError(errno.EIO, "no")

    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="no"):
        disk.sync(descriptor)
    with pytest.raises(OSError, match="no"):
        disk.sync_folder(tmp_path)
    assert synced[2:] == [0, 0]
    disk.close(descriptor)


def test_the_real_disk_goes_on_after_a_short_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T9: a write that takes less than it was given is gone on with until all is written, or it fails."""
    write_some = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write_some(descriptor, bytes(data[:7])))
    disk, path = Disk(), tmp_path / "file"
    descriptor = disk.create(path)
    disk.write_all(descriptor, b"a line of thirty-two characters.")
    disk.close(descriptor)
    assert path.read_bytes() == b"a line of thirty-two characters."


def test_a_file_that_may_not_grow_is_cut_back_and_gone_on_with(tmp_path: Path) -> None:
    """T9: EFBIG of a real file system, which takes a part of the write first."""
    world = new_world(tmp_path / "world")
    script, log = Script(world.known.run, WRITER), world.run.log
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Appender(log, WRITER) as appender:
        path = appender._writer.path
        appender.append([script.event(0)])
        good = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) + 100, hard))
        try:
            with pytest.raises(LogWriteFailed, match="File too large"):
                appender.append([script.event(1)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == good
    with Appender(log, WRITER) as appender:
        assert appender.torn.bytes == 0
        appender.append([script.event(1)])
    assert read(world.run).lines == [script.line(0), script.line(1)]
