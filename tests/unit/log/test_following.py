"""Followers and subscriptions: every event once, soon, in its writer's order; and a place that outlives its reader."""

import contextlib
import json
import statistics
import threading
import time
from pathlib import Path

import msgspec
import pytest

from eventflow.errors import LogBusy, LogClosed, NewerFormat, StoreError, UsageError
from eventflow.event import StoredEvent
from eventflow.log.appending import Appender
from eventflow.log.following import EventTail, Subscription, follow
from eventflow.log.layout import list_segments
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.seal import seal_run
from tests.scripted_log import Script

TYPES = ("attempt.started", "attempt.completed", "request.failed")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run in a new store."""
    return create_run(tmp_path / "store", stage="serial")


def write(run: RunFolder, count: int, writer: str = "w", batch: int = 3, segment_bytes_max: int = 4_000) -> None:
    """Append that many events of three streams and three types, in small segments."""
    with Appender(run.log, writer, segment_bytes_max=segment_bytes_max) as appender:
        script, first = Script(run.run, writer), appender._writer.seq + 1
        events = [
            msgspec.structs.replace(script.event(n), stream=f"s{n % 3}", type=TYPES[n // 3 % 3])
            for n in range(first, first + count)
        ]
        for start in range(0, count, batch):
            appender.append(events[start : start + batch])


def seqs(events: object) -> list[int]:
    """The places of events."""
    return [event.seq for event in events]  # type: ignore[attr-defined]


@pytest.mark.parametrize("sealed", [False, True])
def test_a_tail_begins_anywhere(run: RunFolder, sealed: bool) -> None:
    """T14: from every position, also inside a batch, at the end of a segment and beyond the end of the log."""
    write(run, 40)
    assert len(list_segments(run.log / "w")) > 3
    if sealed:
        list(seal_run(run))
    for after in range(-1, 42, 5 if sealed else 1):
        tail = EventTail(run.log, after={"w": after, "unknown": 7})
        assert seqs(tail.poll()) == list(range(after + 1, 40))
        assert tail.position == {"w": max(after, 39), "unknown": 7}
        assert seqs(tail.poll()) == []


def test_a_tail_takes_what_is_asked_for(run: RunFolder) -> None:
    """By stream, by type, by the beginning of a type, and by both; its position moves on over what it left out."""
    write(run, 30)
    every = list(EventTail(run.log).poll())

    def chosen(**given: list[str]) -> list[StoredEvent]:
        tail = EventTail(run.log, **given)  # type: ignore[arg-type]
        found = list(tail.poll())
        assert tail.position == {"w": 29}
        return found

    assert chosen(streams=["s1"]) == [event for event in every if event.stream == "s1"]
    assert chosen(streams=["s1", "s2"]) == [event for event in every if event.stream in {"s1", "s2"}]
    assert chosen(types=["request.failed"]) == [event for event in every if event.type == "request.failed"]
    assert chosen(types=["attempt."]) == [event for event in every if event.type.startswith("attempt.")]
    assert chosen(types=["attempt"]) == chosen(streams=["s"]) == []
    assert chosen(streams=["s0"], types=["attempt.started"]) == [
        event for event in every if event.stream == "s0" and event.type == "attempt.started"
    ]


def test_a_tail_that_is_left_midway_goes_on_there(run: RunFolder) -> None:
    """Every event once, wherever the loop over a poll is left, also in the middle of a batch."""
    write(run, 20, batch=7)
    tail, seen = EventTail(run.log), []
    for count in range(1, 30):
        for place, event in enumerate(tail.poll(), 1):
            seen.append(event.seq)
            if place == count % 4 + 1:
                break
    assert seen == list(range(20))


def test_what_several_writers_wrote_comes_in_the_order_of_time(run: RunFolder) -> None:
    """So a run that is over is told as it went; also when the loop is left midway, each event comes once."""
    for writer, shift in (("a", 0), ("b", 1), ("c", 2)):
        with Appender(run.log, writer) as appender:
            script = Script(run.run, writer)
            events = [msgspec.structs.replace(script.event(n), time=10 * n + shift) for n in range(12)]
            for start in range(0, 12, 5):
                appender.append(events[start : start + 5])
    assert [event.time for event in EventTail(run.log).poll()] == [
        10 * n + shift for n in range(12) for shift in range(3)
    ]
    tail, seen = EventTail(run.log), []
    for count in range(1, 30):
        for place, event in enumerate(tail.poll(), 1):
            seen.append((event.writer, event.seq))
            assert tail.position[event.writer] == event.seq
            if place == count % 4 + 1:
                break
    assert sorted(seen) == [(writer, seq) for writer in "abc" for seq in range(12)]


def test_a_tail_meets_segments_that_are_sealed_on_the_way(run: RunFolder) -> None:
    """Before, in and after its place; each event once."""
    tail, seen = EventTail(run.log), list[int]()
    for turn in range(4):
        write(run, 15)
        events = tail.poll()
        seen += (next(events).seq, next(events).seq)
        list(seal_run(run))
        seen += seqs(events)
        if turn % 2:
            seen += seqs(tail.poll())
    seen += seqs(tail.poll())
    assert seen == list(range(60))


def test_follow_gives_an_event_within_milliseconds_and_ends_with_the_writers(run: RunFolder) -> None:
    """From durable to the reader: 50 ms are promised; what is asserted is loose, since the machine may be busy."""
    delays = []
    with Appender(run.log, "w") as appender:
        script = Script(run.run, "w")
        came: dict[int, float] = {}

        def read() -> None:
            for event in follow(run.log):
                came[event.seq] = time.perf_counter()

        thread = threading.Thread(target=read)
        thread.start()
        for number in range(20):
            appender.append([script.event(number)])
            durable = time.perf_counter()
            until = durable + 10
            while number not in came and time.perf_counter() < until:
                time.sleep(0.001)
            delays.append(came[number] - durable)
            time.sleep(0.001 * (number % 7))
    thread.join(10)
    assert not thread.is_alive()
    assert statistics.median(delays) < 2


def test_follow_of_a_run_that_nobody_writes_gives_what_is_there(run: RunFolder) -> None:
    """And ends; from a position, too, and with a filter."""
    assert list(follow(run.log)) == []
    write(run, 9)
    assert seqs(follow(run.log)) == list(range(9))
    assert seqs(follow(run.log, after={"w": 3}, streams=["s1"])) == [4, 7]


def test_a_subscription_goes_on_where_it_was_saved(run: RunFolder) -> None:
    """What was given before `save` does not come again; what was not saved comes again: at least once."""
    write(run, 10)
    subscription = Subscription(run.path, "p.1")
    events = subscription.poll()
    assert seqs(next(events) for _ in range(4)) == [0, 1, 2, 3]
    subscription.save()
    assert next(events).seq == 4
    subscription.close()
    write(run, 5)
    with Subscription(run.path, "p.1") as again:
        assert seqs(again.poll()) == list(range(4, 15))
    with Subscription(run.path, "p.1") as at_end, Subscription(run.path, "other") as other:
        assert seqs(at_end.poll()) == []
        assert seqs(other.follow()) == list(range(15))


def test_an_event_whose_handling_fails_comes_again(run: RunFolder) -> None:
    """The one that was given last is not done when the block ends with an error; those before it are."""
    write(run, 6)
    with contextlib.suppress(ZeroDivisionError), Subscription(run.path, "p") as subscription:
        for event in subscription.poll():
            assert 1 / (3 - event.seq) > 0
    with Subscription(run.path, "p") as again:
        assert seqs(again.poll()) == [3, 4, 5]


def test_a_filtered_subscription_saves_its_place_among_all_events(run: RunFolder) -> None:
    """So what it does not want is not read again."""
    write(run, 30)
    with Subscription(run.path, "p", streams=["s1"], types=["attempt."]) as subscription:
        assert seqs(subscription.poll()) == [1, 4, 10, 13, 19, 22, 28]
    assert json.loads((run.path / "projections" / "p.json").read_text())["position"] == {"w": 29}


def test_a_checkpoint_never_goes_backwards(run: RunFolder) -> None:
    """A reader that was given the file of an older one, or nothing new, does not overwrite what counts."""
    write(run, 10)
    with Subscription(run.path, "p") as subscription:
        list(subscription.poll())
    path = run.path / "projections" / "p.json"
    before = path.read_bytes()
    with Subscription(run.path, "p") as again:
        again._tail.position["w"] = 3
        again.save()
        assert path.read_bytes() == before
    assert path.read_bytes() == before


def test_a_name_is_for_one_reader(run: RunFolder) -> None:
    """T13: refused while another one has it; and nothing is saved once it was given up."""
    write(run, 3)
    subscription = Subscription(run.path, "p")
    with pytest.raises(LogBusy):
        Subscription(run.path, "p")
    list(subscription.poll())
    subscription.close()
    subscription.close()
    with pytest.raises(LogClosed):
        subscription.save()
    Subscription(run.path, "p").close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "-x", "é", "a b", "x" * 101, "a\n"])
def test_a_name_that_is_no_file_name_is_refused(run: RunFolder, name: str) -> None:
    """No name reaches out of the folder."""
    with pytest.raises(UsageError, match="cannot name a subscription"):
        Subscription(run.path, name)


def test_a_checkpoint_that_cannot_be_read_is_named_and_nothing_is_guessed(run: RunFolder) -> None:
    """Rubbish, and a newer format: the message says what to do; the name is free again."""
    folder = run.path / "projections"
    folder.mkdir()
    for rubbish in (b"", b"{}", b'{"format":1,"name":"p","position":{"w":"x"}}', b"\0" * 64):
        (folder / "p.json").write_bytes(rubbish)
        with pytest.raises(StoreError, match=r"p\.json cannot be read .*: remove it, and every event comes once more"):
            Subscription(run.path, "p")
    (folder / "p.json").write_text('{"format":2,"name":"p","position":{}}')
    with pytest.raises(NewerFormat, match="upgrade eventflow"):
        Subscription(run.path, "p")
    (folder / "p.json").unlink()
    Subscription(run.path, "p").close()
