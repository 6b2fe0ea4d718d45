"""When a recorder makes numbers and lines: late for brief events, at once for others, and never after its end."""

import contextlib
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from msgspec import inspect as kinds

import eventflow.recorder as recorder_module
from eventflow.errors import EventTooLarge, LogClosed, LogWriteFailed
from eventflow.event import Payload, StoredEvent
from eventflow.intake import NO_LINK
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.recorder import Recorder
from eventflow.vocabulary import AttemptCompleted, FileStored, decode_payload, payload_types
from tests.odd_disks import FullDisk, HeldDisk

SAID = AttemptCompleted(seconds=1.0)
PLAIN = (kinds.IntType, kinds.FloatType, kinds.StrType, kinds.BoolType, kinds.NoneType, kinds.LiteralType)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run."""
    return create_run(tmp_path / "store", stage="serial")


def events(run: RunFolder) -> list[StoredEvent]:
    """All committed events."""
    return list(read_events(run.log))


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
            recorder._set_must_look()  # what the last step of `_look_after` does
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
    for field in kinds.type_info(kind).fields:  # type: ignore[attr-defined]
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
