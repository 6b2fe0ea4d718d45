"""What must hold after a power cut, and what is known outside of the machine to hold it against: the oracles O1 to O8.

The events are those of `tests.scripted_log`, of one writer.
"""

import random
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from eventflow.errors import LogDamaged
from eventflow.log.appending import Appender
from eventflow.log.following import EventTail, Subscription
from eventflow.log.format import Place, first_place
from eventflow.log.layout import LOCK_NAME, segment_paths
from eventflow.log.reader import WriterTail, read_events
from eventflow.log.recovery import examine, set_aside
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.seal import seal_run
from eventflow.log.segment import SEGMENT_BYTES_MAX, LogWriter
from eventflow.log.verify import verify_run
from eventflow.sources import SeededSources
from tests.power_cut import Cut
from tests.recording_disk import Machine, ProcessDisk
from tests.scripted_log import Script

WRITER, OTHER = "w", "v"


class Known(NamedTuple):
    """What is known outside of the machine at some moment.

    The run that was made; how many events were acknowledged, and how many may have been submitted; where batches may
    end; where the log stood at the last acknowledgement; how far a subscription was saved.
    """

    run: str = ""
    acknowledged: int = 0
    submitted: int = 0
    ends: frozenset[int] = frozenset((0,))
    place: Place | None = None
    saved: int = -1


class World:
    """A machine, and what was known outside of it after each call to its disk.

    Attributes:
        begin: the number of steps before which its power is not cut.
    """

    def __init__(self, root: Path, known: Known) -> None:
        self.root, self.machine, self.begin = root, Machine(root), 0
        self.history = [(0, known)]

    @property
    def known(self) -> Known:
        """What is known now."""
        return self.history[-1][1]

    @property
    def run(self) -> RunFolder:
        """The run."""
        return RunFolder(self.root / "store" / self.known.run)

    def note(self, **changes: Any) -> None:
        """Something is known from now on."""
        self.history.append((len(self.machine.steps), self.known._replace(**changes)))

    def at(self, step: int) -> Known:
        """What was known when that many calls were done."""
        return [known for done, known in self.history if done <= step][-1]

    def opened(self, writer: LogWriter) -> None:
        """A log that is open shows its events to readers: they count as acknowledged."""
        count, known = writer.seq + 1, self.known
        assert known.acknowledged <= count <= known.submitted
        assert count in known.ends
        self.note(acknowledged=count, submitted=count, ends=frozenset((count,)))

    def submit(self, count: int) -> int:
        """So many events are about to be written. Gives the number of the first."""
        first = self.known.acknowledged
        self.note(submitted=first + count, ends=frozenset((first, first + count)))
        return first

    def acknowledged(self, writer: LogWriter) -> None:
        """All that was submitted is acknowledged."""
        count = writer.seq + 1
        self.note(acknowledged=count, submitted=count, ends=frozenset((count,)), place=writer._place)


def write(world: World, disk: ProcessDisk, chance: random.Random, segment_bytes_max: int, batches: int = 4) -> None:
    """A process opens the log, appends batches and closes it."""
    script = Script(world.known.run, WRITER)
    with Appender(world.run.log, WRITER, disk=disk, segment_bytes_max=segment_bytes_max) as appender:
        world.opened(appender._writer)
        for _ in range(batches):
            count = chance.randint(1, 4)
            first = world.submit(count)
            appender.append([script.event(number) for number in range(first, first + count)])
            world.acknowledged(appender._writer)


def new_world(root: Path) -> World:
    """A machine with an empty run, all of it durable."""
    root.mkdir()
    run = create_run(root / "store", stage="serial", sources=SeededSources(1), disk=ProcessDisk(Machine(root)))
    return World(root, Known(run.run))


class Reading(NamedTuple):
    """What a reader got of a writer's log: the lines, where batches stand, and the damage that it met at last."""

    lines: list[bytes]
    places: list[Place]
    damage: LogDamaged | None


def read(run: RunFolder, writer: str = WRITER) -> Reading:
    """Read a writer's log until its end or damage."""
    lines: list[bytes] = []
    places = [first_place(run.run, writer)]
    tail = WriterTail(run.log / writer)
    try:
        for batch in tail.poll():
            lines += batch.lines.splitlines()
            places.append(batch.place)
        tail.require_torn_only()
    except LogDamaged as damage:
        return Reading(lines, places, damage)
    return Reading(lines, places, None)


def check_readable(run: RunFolder, known: Known, reading: Reading) -> int:
    """O1 to O4: what was acknowledged is there, and nothing that was not submitted. Gives the number of events."""
    script, count = Script(run.run, WRITER), len(reading.lines)
    assert known.acknowledged <= count <= known.submitted
    assert count in known.ends
    assert reading.lines == [script.line(number) for number in range(count)]
    assert known.place is None or known.place in reading.places, "the head that was kept outside is not in the log"
    events: list[str] = []
    with suppress(LogDamaged):
        events.extend(event.id for event in EventTail(run.log).poll())
    assert events == [script.id_of(number) for number in range(count)]
    return count


def check_survived(cut: Cut, known: Known, seed: int, cuts: int) -> None:
    """All oracles on what a power cut left, which is cut again that many times while it is recovered."""
    run = RunFolder(cut.root / "store" / known.run)
    world = World(cut.root, known)
    if not (run.log / WRITER).is_dir():
        assert known.acknowledged == 0
    else:
        reading = read(run)
        check_readable(run, known, reading)
        if reading.damage is not None:
            check_refused(world, cut, reading.damage)
            return
    chance = random.Random(f"{seed} {cuts} again")
    check_goes_on(world, chance)
    if cuts:
        after = chance.randrange(len(world.machine.steps) + 1)
        again = world.machine.cut(cut.root.with_name(f"cut-{cuts}"), seed, after)
        check_survived(again, world.at(after), seed, cuts - 1)


def check_goes_on(world: World, chance: random.Random) -> None:
    """O5 and O8: open, append, close; open again: the same, and a log that verifies."""
    write(world, ProcessDisk(world.machine), chance, 1_500, batches=1)
    before = examine(world.run.log / WRITER)
    write(world, ProcessDisk(world.machine), chance, 1_500, batches=0)
    assert examine(world.run.log / WRITER) == before
    assert [report.damage or report.torn_bytes for report in reports(world.run)] == [0] * len(reports(world.run))
    assert sum(report.events for report in reports(world.run)) == world.known.acknowledged


def reports(run: RunFolder) -> list[Any]:
    """What `verify` says."""
    return list(verify_run(run.log, run.run))


def check_refused(world: World, cut: Cut, damage: LogDamaged) -> None:
    """Only what was mangled is refused. Another writer goes on; a repair loses nothing that was acknowledged."""
    run, known = world.run, world.known
    assert Path(damage.path) in cut.mangled, "a beginning of what was written was taken for damage"
    before = Path(damage.path).read_bytes()
    disk = ProcessDisk(world.machine)
    with pytest.raises(LogDamaged, match=str(damage.path)):
        Appender(run.log, WRITER, disk=disk)
    assert Path(damage.path).read_bytes() == before
    event = msgspec.structs.replace(Script(run.run, OTHER).event(0), time=1)
    with Appender(run.log, OTHER, disk=disk) as appender:
        appender.append([event])
    assert len(read(run, OTHER).lines) == 1
    check_given_before_damage(run, known)
    lock = disk.lock(run.log / WRITER / LOCK_NAME)
    aside = set_aside(run.log / WRITER, disk)
    disk.close(lock)
    assert aside is not None
    assert Path(aside.path).read_bytes() == before[damage.offset :]
    reading = read(run)
    assert reading.damage is None
    assert len(list(read_events(run.log))) == len(reading.lines) + 1
    write(world, disk, random.Random(1), SEGMENT_BYTES_MAX, batches=1)
    assert not [report for report in reports(run) if report.damage]


def check_given_before_damage(run: RunFolder, known: Known) -> None:
    """A reader of the whole run is given what was acknowledged before the damage is raised."""
    given: set[str] = set()
    script = Script(run.run, WRITER)
    with pytest.raises(LogDamaged):
        given.update(event.id for event in read_events(run.log))
    assert {script.id_of(number) for number in range(known.acknowledged)} <= given


def check_sealed(cut: Cut, known: Known, *, goes_on: bool) -> None:
    """No moment of sealing has anything to lose; it can be begun again; then all NDJSON is gone, and nothing else."""
    run = RunFolder(cut.root / "store" / known.run)
    reading, script = read(run), Script(run.run, WRITER)
    assert reading.damage is None
    assert reading.lines == [script.line(number) for number in range(known.acknowledged)]
    if not goes_on:
        return
    list(seal_run(run, disk=ProcessDisk(Machine(cut.root))))
    assert check_readable(run, known, read(run)) == known.acknowledged
    assert {path.suffix for path in segment_paths(run.log)} == {".parquet"}


def check_checkpoint(cut: Cut, known: Known, seed: int, cuts: int) -> None:
    """A subscription's place is whole, not behind what was saved, and not ahead of the log; then all other oracles."""
    run = RunFolder(cut.root / "store" / known.run)
    machine = Machine(cut.root)
    subscription = Subscription(run.path, "billing", disk=ProcessDisk(machine))
    place = subscription._saved.get(WRITER, -1)
    events: list[int] = []
    with suppress(LogDamaged):
        events.extend(event.seq for event in subscription.poll())
    subscription.close()
    lines = read(run).lines if (run.log / WRITER).is_dir() else []
    assert known.saved <= place < len(lines) or place == known.saved == -1
    assert events == list(range(place + 1, len(lines)))
    check_survived(cut, known, seed, cuts)
