"""What the processes do that are killed: they write, read and seal logs, and tell what was acknowledged.

Each function is run by `tests.warm_process`. All events are those of `tests.scripted_log`.
"""

import os
import random
import time
from pathlib import Path
from typing import Any

import msgspec

from eventflow.errors import LogBusy, StoreError, WrongVersion
from eventflow.log.appending import Appender
from eventflow.log.following import Subscription, follow
from eventflow.log.layout import writer_folders
from eventflow.log.recovery import set_aside
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.seal import seal_run
from eventflow.log.segment import SEGMENT_BYTES_MAX
from eventflow.recorder import Recorder
from tests.dying_disk import BEFORE, DyingDisk
from tests.scripted_log import Script
from tests.warm_process import Tell

FOREVER = 1 << 30
_SEEN_MAX = 20


def append(
    tell: Tell,
    run: str,
    writer: str,
    seed: int = 0,
    batches: int = FOREVER,
    segment_bytes_max: int = SEGMENT_BYTES_MAX,
    die_at: int | None = None,
    moment: str = BEFORE,
) -> None:
    """Append batches with the expected version, after sending the first one twice.

    Tells `["open", events]`, then `["try", end]` and `["ack", end]` for each batch, at last `["calls", names]`.
    """
    disk, choose = DyingDisk(die_at, moment), random.Random(seed)
    folder = RunFolder(Path(run))
    with _patiently(lambda: Appender(folder.log, writer, disk=disk, segment_bytes_max=segment_bytes_max)) as appender:
        script, end = Script(folder.run, writer), appender._writer.seq + 1
        tell(["open", end])
        for number in range(batches):
            first, end = end, end + choose.randint(1, 9)
            events = [script.event(place) for place in range(first, end)]
            tell(["try", end])
            appended = appender.append(events, first - 1)
            assert appended == (writer, first, end - 1)
            tell(["ack", end])
            if number == 0:
                assert appender.append(events, first - 1) == appended
    tell(["calls", disk.calls])


def record(
    tell: Tell,
    run: str,
    writer: str,
    seed: int = 0,
    batches: int = FOREVER,
    segment_bytes_max: int = SEGMENT_BYTES_MAX,
    die_at: int | None = None,
    moment: str = BEFORE,
) -> None:
    """Record events; a flush now and then acknowledges, or in every second process what the recorder says is durable.

    Tells what `append` tells, but an acknowledgement may be of part of what was tried.
    """
    disk, choose = DyingDisk(die_at, moment), random.Random(seed)
    folder, script = RunFolder(Path(run)), Script(Path(run).name, writer)
    is_flushing = choose.random() < 0.5 or batches < FOREVER
    recorder = _patiently(
        lambda: Recorder(
            folder.log, folder.run, sources=script, disk=disk, batch_seconds_max=0.001 if batches == FOREVER else None
        )
    )
    with recorder:
        recorder._writer._segment_bytes_max = segment_bytes_max
        opened = end = script.next = recorder._writer.seq + 1
        tell(["open", opened])
        span = recorder.adopt(script.handoff(opened))
        for _ in range(batches):
            count = choose.randint(1, 9) if batches < FOREVER else choose.randint(1, 40)
            tell(["try", end + count])
            for number in range(end, end + count):
                span.record(script.payload(number))
            end += count
            if is_flushing:
                recorder.flush()
                tell(["ack", end])
            else:
                tell(["ack", opened + recorder.statistics().durable])
    tell(["calls", disk.calls])


def _patiently(make: Any) -> Any:
    """A process that seals may hold the lock for a moment."""
    until = time.monotonic() + 20
    while True:
        try:
            return make()
        except LogBusy:
            if time.monotonic() > until:
                raise


def subscribe(tell: Tell, run: str, name: str, seed: int = 0) -> None:
    """Be a subscription for ever. Tells `["seen", [[writer, seq, id], …]]`, and `["saved", position]`."""
    choose = random.Random(seed)
    with Subscription(Path(run), name) as subscription:
        tell(["open", dict(subscription._saved)])
        while True:
            seen = []
            for event in subscription.follow(0.005):
                seen.append((event.writer, event.seq, event.id))
                if len(seen) == _SEEN_MAX or choose.random() < 0.05:
                    tell(["seen", seen])
                    seen = []
                    if choose.random() < 0.3:
                        subscription.save()
                        tell(["saved", dict(subscription._saved)])
            tell(["seen", seen])
            time.sleep(0.005)


def save_checkpoints(tell: Tell, run: str, name: str, die_at: int | None = None, moment: str = BEFORE) -> None:
    """Take five events and save, three times. Tells as `subscribe`, at last `["calls", names]`."""
    disk = DyingDisk(die_at, moment)
    with Subscription(Path(run), name, disk=disk) as subscription:
        tell(["open", dict(subscription._saved)])
        for _ in range(3):
            for number, event in enumerate(subscription.poll(), 1):
                tell(["seen", [(event.writer, event.seq, event.id)]])
                if number == 5:
                    break
            subscription.save()
            tell(["saved", dict(subscription._saved)])
    tell(["calls", disk.calls])


def seal(tell: Tell, run: str, die_at: int | None = None, moment: str = BEFORE, rounds: int = FOREVER) -> None:
    """Seal what can be sealed, again and again. Tells `["sealed", name]`, at last `["calls", names]`."""
    disk = DyingDisk(die_at, moment)
    for _ in range(rounds):
        for sealed in seal_run(RunFolder(Path(run)), disk=disk):
            tell(["sealed", Path(sealed.path).name])
        if rounds > 1:
            time.sleep(0.02)
    tell(["calls", disk.calls])


def make_run(tell: Tell, store: str, die_at: int | None = None, moment: str = BEFORE) -> None:
    """Make a run. Tells `["made", name]`, then `["calls", names]`."""
    disk = DyingDisk(die_at, moment)
    tell(["made", create_run(Path(store), stage="serial", disk=disk).run])
    tell(["calls", disk.calls])


def repair(tell: Tell, folder: str, die_at: int | None = None, moment: str = BEFORE) -> None:
    """Set the damaged end of a writer's log aside. Tells `["calls", names]`."""
    disk = DyingDisk(die_at, moment)
    set_aside(Path(folder), disk)
    tell(["calls", disk.calls])


def hold(tell: Tell, run: str, kind: str) -> None:
    """Open a log, or take a subscription's name, and fork; both processes stay. Tells the number of the child."""
    folder = RunFolder(Path(run))
    held: Any
    if kind == "recorder":
        held = Recorder(folder.log, folder.run, sources=Script(folder.run, "w"))
    elif kind == "appender":
        held = Appender(folder.log, "w")
    else:
        held = Subscription(folder.path, "n")
    child = os.fork()
    if child:
        tell(child)
    time.sleep(60)
    held.close()


def append_in_fork(tell: Tell, run: str) -> None:
    """Append, fork, and let the child try to append, too. Tells what comes of it, then the parent appends again."""
    folder, script = RunFolder(Path(run)), Script(Path(run).name, "w")
    with Appender(folder.log, "w") as appender:
        appender.append([script.event(0)])
        if (child := os.fork()) == 0:
            try:
                appender.append([script.event(1)])
                tell("appended")
            except StoreError as refused:
                tell(type(refused).__name__)
            appender.close()
            os._exit(0)
        os.waitpid(child, 0)
        appender.append([script.event(1)])
        tell("ended")


def append_to_list(tell: Tell, run: str, writer: str, stream: str, count: int) -> None:
    """Append `count` values to the list that a stream is, each at its end, wherever that is by then.

    What a process of this name may have appended before it was killed is sent again. Tells `[number, seq]` of each
    value when it is there.
    """
    folder = RunFolder(Path(run))
    script = Script(folder.run, writer)
    with _patiently(lambda: Appender(folder.log, writer, segment_bytes_max=4_000)) as appender:
        for number in range(count):
            version, place = -1, None
            while place is None:
                event = msgspec.structs.replace(script.event(number), stream=stream, version=version + 1)
                try:
                    place = appender.append([event], version)
                except WrongVersion as moved_on:
                    version = moved_on.actual
            tell([number, place.last_seq])


def follow_all(tell: Tell, run: str, writers: int) -> None:
    """Follow a run from before its beginning to its end. Tells `[writer, seq]` of every event."""
    folder = RunFolder(Path(run))
    while len(writer_folders(folder.log)) < writers or not folder.is_live():
        time.sleep(0.001)
    tell("ready")
    for event in follow(folder.log, period_seconds=0.002):
        tell([event.writer, event.seq])
    tell("end")
