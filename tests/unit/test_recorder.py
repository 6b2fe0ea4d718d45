"""The recorder.

One call an event, group commit, a barrier, bounded memory, and nothing acknowledged after a failure.
"""

import contextlib
import errno
import os
import sys
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
import trio

import eventflow.recorder as recorder_module
from eventflow.disk import Disk
from eventflow.errors import EventTooLarge, LogClosed, LogWriteFailed, NoActiveSpan
from eventflow.event import Payload, StoredEvent
from eventflow.intake import NO_LINK
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.recorder import Recorder, current_span, record
from eventflow.sources import SeededSources
from eventflow.vocabulary import AttemptCompleted, FileStored, StageStarted, decode_payload, payload_types

SAID = AttemptCompleted(seconds=1.0)
PLAIN = (
    msgspec.inspect.IntType,
    msgspec.inspect.FloatType,
    msgspec.inspect.StrType,
    msgspec.inspect.BoolType,
    msgspec.inspect.NoneType,
    msgspec.inspect.LiteralType,
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run."""
    return create_run(tmp_path / "store", stage="serial")


def events(run: RunFolder) -> list[StoredEvent]:
    """All committed events."""
    return list(read_events(run.log))


class HeldDisk(Disk):
    """A disk whose fsync waits until it is let go; the first one, of the opening, passes."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.syncs = 0

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        if self.syncs > 1:
            self.go.wait(30)
        super().sync(descriptor)


class FullDisk(Disk):
    """A disk that takes the opening and then no more."""

    def __init__(self) -> None:
        self.writes = 0

    def write_all(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        if self.writes > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write_all(descriptor, data)


def test_an_event_is_durable_after_flush_and_not_before_its_fsync(run: RunFolder) -> None:
    """`flush` returns only when the fsync has: that is the meaning of acknowledged."""
    disk = HeldDisk()
    recorder = Recorder(run.log, run.run, disk=disk)
    recorder.open_stream("request-0").record(SAID)
    with pytest.raises(TimeoutError):
        recorder.flush(0.05)
    assert recorder.statistics().durable == 0
    disk.go.set()
    recorder.flush()
    assert recorder.statistics().durable == 1 == len(events(run))
    recorder.close()


def test_an_event_becomes_durable_without_flush_within_milliseconds(run: RunFolder) -> None:
    """Group commit does not wait for more than a moment's company."""
    with Recorder(run.log, run.run) as recorder:
        recorder.open_stream("request-0").record(SAID)
        for _ in range(1000):
            if recorder.statistics().durable:
                break
            threading.Event().wait(0.005)
        assert recorder.statistics().durable == 1


def test_many_events_share_one_fsync(run: RunFolder) -> None:
    """Ten thousand events, and not ten thousand batches."""
    with Recorder(run.log, run.run) as recorder:
        span = recorder.open_stream("request-0")
        for _ in range(10_000):
            span.record(SAID)
        recorder.flush()
        assert recorder.statistics().batches <= 100


def test_threads_share_a_recorder_without_gaps(run: RunFolder) -> None:
    """seq and version stay gapless and in one order whatever the threads do, on own and shared streams."""
    with Recorder(run.log, run.run) as recorder:
        shared = recorder.open_stream("run")

        def work(number: int) -> None:
            own = recorder.open_stream(f"request-{number}")
            for _ in range(500):
                own.record(SAID)
                shared.record(SAID)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = events(run)
    assert [event.seq for event in found] == list(range(6_000))
    for stream in ("run", "request-3"):
        versions = [event.version for event in found if event.stream == stream]
        assert versions == list(range(len(versions)))
        ids = [event.id for event in found if event.stream == stream]
        assert [event.links[0].id for event in found if event.stream == stream and event.links] == ids[:-1]


def test_the_current_span_belongs_to_each_thread_and_task(run: RunFolder) -> None:
    """contextvars: what one task makes current, no other sees; outside, the error says what to do."""
    with Recorder(run.log, run.run) as recorder:

        async def task(number: int) -> None:
            with recorder.open_stream(f"request-{number}") as span:
                await trio.lowlevel.checkpoint()
                assert current_span() is span
                record(SAID)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(task, number)

        trio.run(main)
        with pytest.raises(NoActiveSpan, match="no span is active"):
            record(SAID)
    assert sorted(event.stream for event in events(run)) == sorted(f"request-{number}" for number in range(10))


def test_a_child_span_is_enclosed_and_linked(run: RunFolder) -> None:
    """The parent is the enclosing span; the link is the event before, whatever its span; extra causes come after."""
    with Recorder(run.log, run.run) as recorder:
        other = recorder.open_stream("run").record(SAID)
        root = recorder.open_stream("request-0")
        first = root.record(SAID, other)
        root.child().record(SAID)
    _, one, two = events(run)
    assert [link.id for link in one.links] == [other.id]
    assert [link.id for link in two.links] == [first.id]
    assert two.parent_span_id == one.span_id != two.span_id
    assert two.trace_id == one.trace_id != other.trace_id
    assert one.parent_span_id is None


def test_a_full_queue_makes_the_caller_wait_and_loses_nothing(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-pressure: memory is bounded, and every event arrives when the disk is back."""
    monkeypatch.setattr(recorder_module, "BATCH_BYTES_MAX", 4_000)
    monkeypatch.setattr(recorder_module, "TOGETHER_MAX", 8)
    disk = HeldDisk()
    recorder = Recorder(run.log, run.run, disk=disk)
    span = recorder.open_stream("request-0")
    done = threading.Event()

    def produce() -> None:
        for _ in range(500):
            span.record(SAID)
        done.set()

    thread = threading.Thread(target=produce)
    thread.start()
    assert not done.wait(0.2)
    assert recorder.statistics().recorded < 100
    disk.go.set()
    thread.join(30)
    recorder.close()
    assert recorder.statistics().waiting_max < 100
    assert len(events(run)) == 500


def test_a_full_disk_fails_the_flush_and_every_later_call(run: RunFolder) -> None:
    """Nothing is acknowledged after a failed write; the error says what to do."""
    recorder = Recorder(run.log, run.run, disk=FullDisk())
    span = recorder.open_stream("request-0")
    span.record(SAID)
    with pytest.raises(LogWriteFailed, match=r"No space left on device.*free some room"):
        recorder.flush()
    with pytest.raises(LogWriteFailed):
        span.record(SAID)
    recorder.close()
    assert events(run) == []


def test_a_closed_recorder_refuses_events(run: RunFolder) -> None:
    """Closing is idempotent, and an event after it is an error, not a loss."""
    recorder = Recorder(run.log, run.run)
    span = recorder.open_stream("request-0")
    recorder.close()
    recorder.close()
    with pytest.raises(LogClosed, match="closed"):
        span.record(SAID)


def test_a_forked_child_cannot_write_its_parents_log(run: RunFolder) -> None:
    """The child is told to open its own recorder; the parent goes on, and its lock does not outlive it in the child."""
    recorder = Recorder(run.log, run.run)
    span = recorder.open_stream("request-0")
    span.record(SAID)
    recorder.flush()
    pid = os.fork()
    if pid == 0:
        try:
            span.record(SAID)
        except LogClosed:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    span.record(SAID)
    recorder.close()
    assert [event.seq for event in events(run)] == [0, 1]


def test_a_story_goes_on_in_another_writer(run: RunFolder) -> None:
    """Handed over, the versions stay gapless and the links unbroken."""
    with Recorder(run.log, run.run) as one, Recorder(run.log, run.run) as two:
        root = one.open_stream("request-0")
        root.record(SAID)
        adopted = two.adopt(root.handoff())
        adopted.child().record(SAID)
    first, second = events(run)
    assert (first.version, second.version) == (0, 1)
    assert second.links[0].id == first.id
    assert second.parent_span_id == first.span_id
    assert second.writer != first.writer


def test_deterministic_sources_give_byte_identical_logs(tmp_path: Path) -> None:
    """The same calls, the same bytes: folders, names, batches and chain."""

    def write(store: Path) -> dict[str, bytes]:
        sources = SeededSources(3)
        run = create_run(store, stage="serial", sources=sources)
        with Recorder(run.log, run.run, sources=sources, batch_seconds_max=None) as recorder:
            span = recorder.open_stream("request-0")
            for number in range(20_000):
                span.child().record(StageStarted(stage="s", workers=number))
        return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}

    one, two = write(tmp_path / "a"), write(tmp_path / "b")
    assert one == two
    assert len(one) == 3


class JumpingClock(SeededSources):
    """A wall clock that is set back, stands still, and is ten years ahead."""

    def time_ns(self) -> int:
        self._reads = getattr(self, "_reads", 0) + 1
        return 1_767_225_600_000_000_000 + (5, 3, 3, 315_360_000_000_000_000, 1)[self._reads % 5]


def test_t12_a_clock_that_jumps_changes_no_order(run: RunFolder) -> None:
    """Events come in the order in which they were recorded, whatever the clock says; versions and seq have no gap."""
    with Recorder(run.log, run.run, sources=JumpingClock(4)) as recorder:
        span = recorder.open_stream("request-0")
        for number in range(50):
            span.record(StageStarted(stage="s", workers=number))
    read = events(run)
    assert [event.seq for event in read] == [event.version for event in read] == list(range(50))
    assert any(later.time < event.time for event, later in pairwise(read))
    assert len({event.id for event in read}) == 50


class Noted(Payload, frozen=True, kw_only=True):
    """Somebody's own event: anything may be in it."""

    TYPE: ClassVar[str] = "test.noted"
    what: object


def test_whoever_records_what_json_cannot_hold_learns_it_at_once(run: RunFolder) -> None:
    """Nothing of it is recorded, and the events around it have no gap."""
    with Recorder(run.log, run.run) as recorder:
        span = recorder.open_stream("request-0")
        span.record(SAID)
        with pytest.raises(TypeError, match="object"):
            span.record(Noted(what=object()))
        with pytest.raises(TypeError, match="line break"):
            span.record(Noted(what=msgspec.Raw(b"[1,\n2]")))
        with pytest.raises(EventTooLarge, match="limit is 1048576"):
            span.record(Noted(what="x" * (1 << 20)))
        span.record(Noted(what="fine"))
        span.record(SAID)
    found = events(run)
    assert [event.type for event in found] == ["attempt.completed", "test.noted", "attempt.completed"]
    assert [event.seq for event in found] == [event.version for event in found] == [0, 1, 2]


def test_what_changes_after_it_was_recorded_is_in_the_log_as_it_was(run: RunFolder) -> None:
    """A payload of one's own may hold a list: what is written is what it held when it was recorded."""
    with Recorder(run.log, run.run) as recorder:
        span = recorder.open_stream("request-0")
        span.record(SAID)
        changing: list[object] = [1]
        span.record(Noted(what=changing))
        changing.append(object())
    assert [bytes(event.data) for event in events(run)][1] == b'{"what":[1]}'


def test_long_events_do_not_wait_for_company(run: RunFolder) -> None:
    """Of what is not encoded yet little waits in memory, however long single events are."""
    with Recorder(run.log, run.run, batch_seconds_max=None) as recorder:
        span = recorder.open_stream("request-0")
        for _ in range(20):
            span.record(Noted(what="x" * 500_000))
        assert recorder.statistics().waiting_max <= 3 * 5
    assert len(events(run)) == 20


def test_handing_stories_over_does_not_defeat_back_pressure(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has its number and no line yet counts as waiting, too."""
    monkeypatch.setattr(recorder_module, "BATCH_BYTES_MAX", 4_000)
    disk = HeldDisk()
    recorder = Recorder(run.log, run.run, disk=disk)
    span = recorder.open_stream("request-0")
    versions: list[int] = []

    def produce() -> None:
        for _ in range(2_000):
            span.record(SAID)
            versions.append(span.handoff().version)

    thread = threading.Thread(target=produce)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    assert len(versions) < 400
    disk.go.set()
    thread.join(30)
    recorder.close()
    assert versions == list(range(1, 2_001))
    assert len(events(run)) == 2_000


def test_recording_while_another_thread_closes_is_in_the_log_or_an_error(run: RunFolder) -> None:
    """Whatever the threads do in between, an event for which `record` returned is in the log."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for turn in range(40):
            recorder = Recorder(run.log, run.run)
            told: list[Counter[str]] = []

            def work(number: int, recorder: Recorder = recorder, told: list[Counter[str]] = told) -> None:
                span, count = recorder.open_stream(f"request-{number}"), Counter[str]()
                told.append(count)
                with contextlib.suppress(LogClosed):
                    while True:
                        span.record(SAID if number % 2 else Noted(what=number))
                        count[span.stream.name] += 1
                        span.handoff()

            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            threading.Event().wait(0.002 * (turn % 5))
            recorder.close()
            for thread in threads:
                thread.join(30)
            found = Counter(event.stream for event in events(run) if event.writer == recorder.writer)
            assert found == sum(told, Counter())
            assert recorder.statistics().recorded == recorder.statistics().durable
    finally:
        sys.setswitchinterval(interval)


def test_a_refused_event_leaves_nothing_behind(run: RunFolder) -> None:
    """Neither after the end, nor after a failure, nor if somebody asks for numbers in between."""
    recorder = Recorder(run.log, run.run)
    span = recorder.open_stream("request-0")
    span.record(SAID)
    recorder.close()
    recorder.flush()
    late = (span, SAID, NO_LINK, (), 0)
    recorder._recorded.append(late)  # as a thread does that was not stopped before its next step
    assert span.handoff().version == 1
    with pytest.raises(LogClosed):
        recorder.flush()
    with pytest.raises(LogClosed):
        recorder._look_after(late)
    broken = Recorder(run.log, run.run, disk=FullDisk())
    span = broken.open_stream("request-1")
    span.record(SAID)
    with pytest.raises(LogWriteFailed):
        broken.flush()
    for _ in range(100):
        with pytest.raises(LogWriteFailed):
            span.record(SAID)
    assert [one.statistics().recorded for one in (recorder, broken)] == [1, 1]


def test_a_sleeping_writer_is_woken_whatever_waited_in_between(run: RunFolder) -> None:
    """Also if it fell asleep while the thread that records waited for room and had not the lock yet."""
    with Recorder(run.log, run.run, batch_seconds_max=0.001) as recorder:
        span = recorder.open_stream("request-0")
        while not recorder._is_idle:
            threading.Event().wait(0.001)
        with recorder._lock:
            recorder._block_if_full()  # what the last step of `_look_after` does
        span.record(SAID)
        until = time.monotonic() + 5
        while not recorder.statistics().durable:
            assert time.monotonic() < until
            threading.Event().wait(0.001)


def test_a_text_without_bytes_loses_no_event(run: RunFolder) -> None:
    """A lone surrogate in a brief payload is written as an escape; its neighbours are as they were."""
    with Recorder(run.log, run.run) as recorder:
        span = recorder.open_stream("request-0")
        span.record(FileStored(name="before-\N{LATIN SMALL LETTER E WITH ACUTE}", bytes=1, seconds=0.1))
        span.record(FileStored(name="bad-\udce9", bytes=2, seconds=0.1))
    assert [decode_payload(event) for event in events(run)] == [
        FileStored(name="before-\N{LATIN SMALL LETTER E WITH ACUTE}", bytes=1, seconds=0.1),
        FileStored(name=r"bad-\udce9", bytes=2, seconds=0.1),
    ]


BRIEF = [kind for kind in payload_types().values() if kind.BRIEF]


@pytest.mark.parametrize("kind", BRIEF, ids=lambda kind: kind.TYPE)
def test_a_brief_payload_holds_only_what_cannot_change(kind: type[Payload]) -> None:
    """Numbers, texts and tuples of texts: what is encoded later is what was recorded."""
    for field in msgspec.inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        parts = getattr(field.type, "types", (field.type,))
        for part in parts:
            inner = getattr(part, "item_type", part)
            assert isinstance(inner, PLAIN), f"{field.name}: {inner}"


def test_every_step_of_an_untroubled_request_is_brief() -> None:
    """They are what recording costs; user-defined types are not, unless they say so."""
    assert {kind.TYPE for kind in BRIEF} >= {
        "request.queued", "request.started", "attempt.started", "connection.taken", "attempt.sent", "attempt.response",
        "attempt.body", "attempt.completed", "file.verified", "file.stored", "request.completed",
    }  # fmt: skip
    assert not Noted.BRIEF

    class Longer(FileStored, frozen=True, kw_only=True):
        """A type of one's own that has more to say."""

        TYPE: ClassVar[str] = "test.longer"
        more: list[int]

    assert not Longer.BRIEF
