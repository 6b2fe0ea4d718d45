"""Opening a log again: how much of it is looked at, what is done about an end that cannot be trusted, and repair."""

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventflow.errors import LogDamaged
from eventflow.log.following import Subscription
from eventflow.log.layout import list_segments, segment_paths
from eventflow.log.reader import SegmentTail, read_events
from eventflow.log.recovery import SetAside, examine, recover, recover_run, set_aside
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.seal import seal_run
from eventflow.log.verify import verify_run
from tests.unsynced_log import WRITER, UnsyncedDisk, line, opened, write

DISK = UnsyncedDisk()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run."""
    return create_run(tmp_path, stage="s", disk=DISK)


def damage(run: RunFolder) -> list[str]:
    """What verify finds."""
    return [report.damage for report in verify_run(run.log, run.run) if report.damage]


def texts(run: RunFolder) -> list[str]:
    """The payloads of all events, in order."""
    return [bytes(event.data).decode() for event in read_events(run.log)]


def change(path: Path, old: bytes, new: bytes) -> int:
    """Damage the last place in a file that reads so; gives its offset."""
    data = path.read_bytes()
    place = data.rindex(old)
    path.write_bytes(data[:place] + new + data[place + len(old) :])
    return place


def bytes_read(act: Callable[[], object]) -> int:
    """How many bytes this process reads from files while it does something."""

    def counted() -> int:
        return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])

    act()
    start = counted()
    between = counted()
    act()
    return counted() - between - (between - start)


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="the kernel does not count")  # noqa: PTH110
@pytest.mark.parametrize("segments", [3, 12])
def test_t20_opening_reads_the_last_segment_and_an_end_of_the_one_before(run: RunFolder, segments: int) -> None:
    """However many segments there are: what recovery reads does not grow with the log."""
    write(run, (100,) * segments, closed=False, text="x" * 100, segment_bytes_max=25_000)
    paths = segment_paths(run.log)
    assert len(paths) == segments + 1
    write(run, (10,), closed=True, text="x" * 100)
    count = bytes_read(lambda: recover(run.log / WRITER, DISK))
    size = paths[-1].stat().st_size
    assert size <= count <= size + 2_000
    assert paths[0].stat().st_size > 10 * 2_000


@pytest.mark.parametrize("batch", [1, 50])
def test_t20_memory_does_not_grow_with_the_segment(run: RunFolder, batch: int) -> None:
    """Opening and reading 12 MiB takes no more than a few blocks, whatever the size of the batches."""
    write(run, (batch,) * (600 // batch), closed=False, text="x" * 20_000)
    (path,) = segment_paths(run.log)
    assert path.stat().st_size > 12_000_000
    reads: tuple[Callable[[], object], ...] = (
        lambda: examine(run.log / WRITER),
        lambda: sum(1 for _ in read_events(run.log)),
        lambda: damage(run),
    )
    for read in reads:
        tracemalloc.start()
        read()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 7_000_000


def test_t5_a_tail_without_an_end_costs_no_more_than_itself(run: RunFolder) -> None:
    """20 MB of zeros, or of one line, behind the last batch: cut, in memory of a few times their size."""
    write(run, (2,), closed=False)
    (path,) = segment_paths(run.log)
    whole = path.read_bytes()
    for tail in (bytes(20_000_000), b'{"id":"' + b"9" * 20_000_000):
        path.write_bytes(whole + tail)
        tracemalloc.start()
        assert recover(run.log / WRITER, DISK).tail.bytes == len(tail)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 6 * len(tail)
        assert path.read_bytes() == whole


def test_o8_recovery_changes_nothing_the_second_time(run: RunFolder) -> None:
    """It says what it cut, once; and who only looks changes nothing at all."""
    write(run, (2, 1), closed=False)
    (path,) = segment_paths(run.log)
    whole = path.read_bytes()
    path.write_bytes(whole + line(run, 3) + line(run, 4) + line(run, 5)[:50] + bytes(700))
    torn = path.read_bytes()
    tail = examine(path.parent).tail
    for _ in range(2):
        assert examine(path.parent).tail == tail
        assert (tail.bytes, tail.events, tail.problem) == (len(torn) - len(whole), 2, None)
        assert path.read_bytes() == torn
    assert recover_run(run.log, DISK) == tail
    assert path.read_bytes() == whole
    assert recover_run(run.log, DISK).bytes == recover(path.parent, DISK).tail.bytes == 0
    assert path.read_bytes() == whole


def test_recovering_a_run_leaves_alone_who_lives(run: RunFolder) -> None:
    """A torn tail of a live writer is the batch that it is writing."""
    writer = opened(run)
    writer.append(line(run, 0), 1)
    with writer.path.open("ab") as file:
        file.write(line(run, 1)[:40])
    before = writer.path.read_bytes()
    assert recover_run(run.log, DISK).bytes == 0
    assert writer.path.read_bytes() == before
    writer.abandon_in_child()
    assert recover_run(run.log, DISK).bytes == 40


@pytest.mark.parametrize("beginning", [b"", bytes(4_096), b'{"commit":{"format":1,"cou'])
@pytest.mark.parametrize("old", [b'"a.b"', b'"count":2', b"}}\n"])
def test_t10_a_segment_that_was_not_begun_does_not_hide_damage_before_it(
    run: RunFolder, beginning: bytes, old: bytes
) -> None:
    """The process died between two segments: the last batch of the first one has to be checked, or it is built upon.

    A repair takes it out and goes on in that segment.
    """
    write(run, (2, 2, 2), closed=False, segment_bytes_max=500)
    *_, before, last = segment_paths(run.log)
    last.write_bytes(beginning)
    assert examine(run.log / WRITER).place.seq == 5
    change(before, old, b"?" * len(old))
    images = {path: path.read_bytes() for path in segment_paths(run.log)}
    with pytest.raises(LogDamaged, match=str(before)):
        opened(run)
    assert {path: path.read_bytes() for path in segment_paths(run.log)} == images
    done = set_aside(run.log / WRITER, DISK)
    assert done is not None
    assert (done.segment, done.events) == (str(before), 2)
    kept = Path(done.path).read_bytes()
    assert before.read_bytes() + kept == images[before]
    write(run, (1,), closed=True)
    assert damage(run) == []
    assert [event.seq for event in read_events(run.log)] == [0, 1, 2, 3, 4]


def test_a_repair_gives_up_only_what_is_damaged_and_keeps_it(run: RunFolder) -> None:
    """In a file beside the segment, which no later repair overwrites."""
    write(run, (1, 2), closed=True)
    (path,) = segment_paths(run.log)
    ends: list[bytes] = []
    for turn in range(3):
        image = path.read_bytes()
        change(path, b'"a.b"', f'"a.{turn}"'.encode())
        with pytest.raises(LogDamaged) as caught:
            opened(run)
        offset = caught.value.offset
        done = set_aside(path.parent, DISK)
        assert done is not None
        ends.append(Path(done.path).read_bytes())
        assert path.read_bytes() == image[:offset]
        assert len(image) == offset + len(ends[-1])
        assert set_aside(path.parent, DISK) is None
        write(run, (2,), closed=True, text=str(turn))
    kept = sorted(path.parent.glob("*.damaged-*"))
    assert sorted(map(Path.read_bytes, kept)) == sorted(ends)
    assert len(list_segments(path.parent)) == 1
    assert (len(texts(run)), damage(run)) == (3, [])


def test_a_repair_that_would_lose_what_is_good_is_refused(run: RunFolder) -> None:
    """Damage in a segment that another one follows: nothing is changed."""
    write(run, (2,) * 4, closed=True, segment_bytes_max=300)
    paths = segment_paths(run.log)
    change(paths[-2], b'"chain":"', b'"chXin":"')
    images = [path.read_bytes() for path in paths]
    with pytest.raises(LogDamaged, match=str(paths[-2])):
        set_aside(run.log / WRITER, DISK)
    assert [path.read_bytes() for path in segment_paths(run.log)] == images


def subscribed(run: RunFolder, name: str) -> Iterator[str]:
    """What a subscription is given now, all of which it then has done."""
    with Subscription(run.path, name, disk=DISK) as subscription:
        for event in subscription.poll():
            yield bytes(event.data).decode()


def test_a_repair_takes_back_the_checkpoints_of_what_it_gives_up(run: RunFolder) -> None:
    """What is written in the places of events that were given up is new to every subscription, and is not passed over.

    A subscription that had not come so far, other writers' places, and files that are no checkpoints stay as they are.
    """
    write(run, (2, 2), closed=False, text="old")
    assert len(list(subscribed(run, "far"))) == 4
    with Subscription(run.path, "near", disk=DISK) as near:
        assert next(near.poll()).seq == 0
        near._tail.position["other"] = 7
    projections = run.path / "projections"
    others = {"near.json": b"", "settled.json": b'{"format":1,"views":"","segments":{}}', "odd.json": b"\0"}
    others["newer.json"] = b'{"format":2,"name":"newer","position":{"w":99}}'
    for name, data in others.items():
        if data:
            (projections / name).write_bytes(data)
    others["near.json"] = (projections / "near.json").read_bytes()
    (path,) = segment_paths(run.log)
    change(path, b'"a.b"', b'"a.c"')
    assert isinstance(set_aside(path.parent, DISK), SetAside)
    assert (projections / "far.json").read_bytes() == b'{"format":1,"name":"far","position":{"w":1}}\n'
    assert {name: (projections / name).read_bytes() for name in others} == others
    write(run, (3,), closed=True, text="new")
    assert list(subscribed(run, "far")) == ['{"x":"new"}'] * 3
    assert list(subscribed(run, "far")) == []


def test_a_repair_of_a_first_segment_gives_up_everything(run: RunFolder) -> None:
    """Also where not even the first line of the log can be read: the log begins anew, the subscriptions, too."""
    write(run, (2,), closed=False, text="old")
    assert len(list(subscribed(run, "p"))) == 2
    (path,) = segment_paths(run.log)
    path.write_bytes(b"?" + path.read_bytes()[1:])
    assert set_aside(path.parent, DISK) is not None
    write(run, (1,), closed=True, text="new")
    assert (list(subscribed(run, "p")), damage(run)) == (['{"x":"new"}'], [])


def test_a_log_goes_on_behind_a_sealed_segment_and_one_that_was_not_begun(run: RunFolder) -> None:
    """The sealed one was checked when it was sealed."""
    write(run, (2,), closed=True)
    list(seal_run(run, disk=DISK))
    (run.log / WRITER / "00000001.ndjson").write_bytes(b'{"commit')
    write(run, (1,), closed=True)
    assert ([event.seq for event in read_events(run.log)], damage(run)) == ([0, 1, 2], [])
    assert [batch.count for batch in SegmentTail(run.log / WRITER / "00000001.ndjson").poll()] == [0, 1, 0]
