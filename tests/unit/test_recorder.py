"""The recorder.

One call an event, group commit, a barrier, bounded memory, and nothing acknowledged after a failure.
"""

import os
import threading
from itertools import pairwise
from pathlib import Path

import pytest
import trio

import eventflow.recorder as recorder_module
from eventflow.errors import LogClosed, LogWriteFailed, NoActiveSpan
from eventflow.event import StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.recorder import Recorder, current_span, record
from eventflow.sources import SeededSources
from eventflow.vocabulary import AttemptCompleted, StageStarted
from tests.odd_disks import FullDisk, HeldDisk

SAID = AttemptCompleted(seconds=1.0)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run."""
    return create_run(tmp_path / "store", stage="serial")


def events(run: RunFolder) -> list[StoredEvent]:
    """All committed events."""
    return list(read_events(run.log))


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
