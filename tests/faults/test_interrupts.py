"""T17: Ctrl-C or no memory at any instant of an append: the writer ends for good, or goes on as if nothing had been.

In no case is half an event in the log, or a batch that was not acknowledged in the middle of it, or a lock left.
"""

import contextlib
import errno
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from eventflow.disk import Disk
from eventflow.errors import LogWriteFailed
from eventflow.event import Payload
from eventflow.log.appending import Appender
from eventflow.log.format import encode_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.segment import LogWriter
from eventflow.recorder import TOGETHER_MAX, Recorder, Span
from eventflow.vocabulary import AttemptCompleted, RequestFailed
from tests.interrupting import interrupted_everywhere
from tests.scripted_log import Ledger, Script, check_chain, check_recovery, lines_of

ERRORS = [KeyboardInterrupt, MemoryError]

# A file that was opened by the very call out of which the error came is closed by the interpreter.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run in a new store."""
    return create_run(tmp_path / "store", stage="serial")


class Attempt:
    """Three appends of two events each to the log of a new writer, of which the second is interrupted."""

    def __init__(self, run: RunFolder, name: str, disk: Disk | None = None) -> None:
        self.ledger = Ledger(run, name)
        self.writer = LogWriter(run.log, run.run, name, disk, segment_bytes_max=1_800)
        self.append()

    def append(self) -> None:
        """Append the next two events."""
        first = self.writer.seq + 1
        self.ledger.submitted = first + 2
        self.writer.append(encode_events([self.ledger.script.event(first), self.ledger.script.event(first + 1)]), 2)
        self.ledger.acknowledged = first + 2

    def end(self) -> bool:
        """Append once more, and check what is in the log. Returns whether the writer had ended for good."""
        assert self.writer.seq + 1 >= self.ledger.acknowledged
        self.ledger.acknowledged = self.writer.seq + 1
        has_ended = False
        try:
            self.append()
        except LogWriteFailed:
            has_ended = True
            with pytest.raises(LogWriteFailed):
                self.append()
        self.writer.close()
        self.ledger.ends = {0, 2, 4, 6}
        self.ledger.check()
        check_chain(self.ledger.run)
        return has_ended


@pytest.mark.parametrize("error", ERRORS)
def test_a_writer_interrupted_anywhere_ends_or_goes_on(run: RunFolder, error: type[BaseException]) -> None:
    """With a new segment begun in the append that is interrupted, or not."""
    attempts: list[Attempt] = []

    def prepare() -> Callable[[], None]:
        attempts.append(Attempt(run, f"w{len(attempts)}"))
        return attempts[-1].append

    ended = []
    for where, came_out in interrupted_everywhere(error, prepare):
        assert came_out, where
        ended.append(attempts[-1].end())
        check_recovery(attempts[-1].ledger)
    assert len(ended) > 40
    assert set(ended) == {True, False}


class FullDisk(Disk):
    """Takes half of the write that is the third, and no more."""

    def __init__(self) -> None:
        self._left = 2

    def write_all(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        self._left -= 1
        if self._left < 0:
            super().write_all(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "injected")
        super().write_all(descriptor, data)


def test_a_writer_interrupted_while_it_fails_has_failed(run: RunFolder) -> None:
    """Ctrl-C on a full disk: whatever was left undone, nothing is written behind half a batch."""
    attempts: list[Attempt] = []

    def prepare() -> Callable[[], None]:
        attempts.append(Attempt(run, f"w{len(attempts)}", FullDisk()))
        return attempt

    def attempt() -> None:
        with contextlib.suppress(LogWriteFailed):
            attempts[-1].append()

    places = 0
    for where, _ in interrupted_everywhere(KeyboardInterrupt, prepare):
        attempts[-1].writer._disk = Disk()
        attempts[-1].end()
        places += 1
        assert where
    assert places > 30


@pytest.mark.parametrize("error", ERRORS)
def test_an_append_interrupted_anywhere_can_be_sent_again(tmp_path: Path, error: type[BaseException]) -> None:
    """T15, T17: by the same appender if it goes on, and by another, which does not wait for a turn that was kept."""
    appenders: list[Appender] = []
    runs: list[RunFolder] = []

    def send(appender: Appender) -> object:
        script = Script(runs[-1].run, "w")
        return appender.append([script.event(1), script.event(2)], 0)

    def prepare() -> Callable[[], object]:
        runs.append(create_run(tmp_path / str(len(runs)), stage="serial"))
        appenders.append(Appender(runs[-1].log, "w", segment_bytes_max=1_800))
        appenders[-1].append([Script(runs[-1].run, "w").event(0)], -1)
        return lambda: send(appenders[-1])

    places = 0
    for where, came_out in interrupted_everywhere(error, prepare):
        assert came_out, where
        begun = time.monotonic()
        with contextlib.suppress(LogWriteFailed):
            assert send(appenders[-1]) == ("w", 1, 2), where
        appenders[-1].close()
        with Appender(runs[-1].log, "w") as appender:
            assert send(appender) == ("w", 1, 2), where
        assert time.monotonic() - begun < 5, f"{where}: the turn was kept"
        ledger = Ledger(runs[-1], "w")
        ledger.acknowledged = ledger.submitted = 3
        ledger.check()
        places += 1
    assert places > 30


@pytest.mark.parametrize("before", [1, TOGETHER_MAX - 1], ids=["one-event", "the-last-of-many"])
@pytest.mark.parametrize("is_brief", [True, False], ids=["brief", "any"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_recorder_interrupted_anywhere_has_the_event_wholly_or_not_at_all(
    run: RunFolder, error: type[BaseException], is_brief: bool, before: int
) -> None:
    """And goes on: what is recorded next becomes durable by itself, in its place. Also where many get their lines."""
    recorders: list[tuple[Recorder, Span]] = []

    def payload(number: int) -> Payload:
        return AttemptCompleted(seconds=number) if is_brief else RequestFailed(error="E", message="", seconds=number)

    def prepare() -> Callable[[], object]:
        script = Script(run.run, f"r{len(recorders)}")
        recorder = Recorder(run.log, run.run, sources=script, batch_seconds_max=0.001 if before == 1 else 0.1)
        span = recorder.adopt(script.handoff(0))
        for number in range(before):
            span.record(payload(number))
        if before == 1:
            recorder.flush()
            while not recorder._is_idle:  # the writer thread sleeps, and has to be woken
                time.sleep(0.001)
        recorders.append((recorder, span))
        return lambda: span.record(payload(before))

    places = 0
    for where, came_out in interrupted_everywhere(error, prepare):
        assert came_out, where
        recorder, span = recorders[-1]
        recorded = recorder.statistics().recorded
        assert span.handoff().version == recorded, where
        for number in range(recorded, before + 3):
            span.record(payload(number))
        until = time.monotonic() + 5
        while recorder.statistics().durable < before + 3:
            assert time.monotonic() < until, f"{where}: nobody woke the writer thread"
            time.sleep(0.0005)
        recorder.close()
        seconds = [json.loads(line)["data"]["seconds"] for line in lines_of(run.log / recorder.writer)]
        assert seconds == list(range(before + 3)), where
        places += 1
    assert places >= (6 if is_brief and before == 1 else 8)
    check_chain(run)


@pytest.mark.trio
@pytest.mark.parametrize("step", ["record", "flush"])
async def test_cancelling_a_task_leaves_a_whole_log(run: RunFolder, step: str) -> None:
    """T17: recording has no checkpoint, so it is never cancelled half-way; a flush in a thread goes on to its end."""
    recorded = 0
    script = Script(run.run, "r")
    with Recorder(run.log, run.run, sources=script) as recorder:
        span = recorder.adopt(script.handoff(0))
        for turn in range(30):
            with trio.move_on_after(turn / 10_000):
                while True:
                    span.record(script.payload(recorded))
                    recorded += 1
                    if step == "flush":
                        await trio.to_thread.run_sync(recorder.flush, abandon_on_cancel=turn % 2 == 0)
                    await trio.lowlevel.checkpoint()
    ledger = Ledger(run, "r", is_recorder=True)
    ledger.acknowledged = ledger.submitted = recorded
    assert recorded >= 30
    ledger.check()
    check_chain(run)
