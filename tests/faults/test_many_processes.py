"""T13, T14, T16: several processes and one log: each has a writer, any number read, no event is missing or twice."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventflow.errors import LogBusy, UsageError
from eventflow.log.appending import Appender
from eventflow.log.following import EventTail, Subscription
from eventflow.log.layout import LOCK_NAME
from eventflow.log.reader import RunTail, read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.segment import LogWriter
from eventflow.log.sql import connect, query
from tests.faults import killed
from tests.scripted_log import Ledger, check_all, check_chain, check_sql
from tests.warm_process import Child, WarmProcess


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    """Processes that write and read."""
    with WarmProcess("tests.faults.killed") as process:
        yield process


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run in a new store."""
    return create_run(tmp_path / "store", stage="serial")


# ------------------------------------------------------------------------------------------------------------------ T13


def test_a_second_process_is_refused_until_the_first_is_killed(warm: WarmProcess, run: RunFolder) -> None:
    """T13: refused while it lives, also when it is stopped; let in at once when it is gone; nothing is recovered."""
    child = warm.start(killed.append, run=str(run.path), writer="w")
    child.wait_told(7)
    for _ in range(3):
        with pytest.raises(LogBusy):
            LogWriter(run.log, run.run, "w")
    child.kill(signal.SIGSTOP)
    with pytest.raises(LogBusy):
        Appender(run.log, "w")
    ledger = Ledger(run, "w")
    ledger.enter(child.killed())
    LogWriter(run.log, run.run, "w").close()
    check_all(run, [ledger])


@pytest.mark.parametrize(
    "left",
    [b"", b"1\n", f"{os.getpid()}\n".encode(), b"\0" * 4096],
    ids=["empty", "another process", "this process", "zeros"],
)
def test_a_lock_file_without_a_lock_is_no_obstacle(run: RunFolder, left: bytes) -> None:
    """T13: whatever a dead process, or another program, has left in it; also if its number is used again."""
    (run.log / "w").mkdir()
    (run.log / "w" / LOCK_NAME).write_bytes(left)
    LogWriter(run.log, run.run, "w").close()
    (run.path / "projections").mkdir()
    (run.path / "projections" / "n.lock").write_bytes(left)
    Subscription(run.path, "n").close()


@pytest.mark.parametrize("kind", ["recorder", "appender", "subscription"])
def test_a_lock_ends_with_its_process_though_a_forked_child_lives(warm: WarmProcess, run: RunFolder, kind: str) -> None:
    """T13: the child has the parent's descriptors, and a lock lives as long as one of them."""
    parent = warm.start(killed.hold, run=str(run.path), kind=kind)
    (child,) = parent.wait_told(1)
    try:
        time.sleep(0.05)  # the child forgets what it has inherited when it begins to run
        with pytest.raises(LogBusy):
            take(run, kind)
        parent.kill()
        until = time.monotonic() + 10
        while Path(f"/proc/{parent.pid}/status").read_text().find("\nState:\tZ") < 0:
            assert time.monotonic() < until
            time.sleep(0.001)
        take(run, kind)
    finally:
        os.kill(child, signal.SIGKILL)
        parent.wait()


def take(run: RunFolder, kind: str) -> None:
    """Take the lock, and give it back."""
    if kind == "subscription":
        Subscription(run.path, "n").close()
    else:
        LogWriter(run.log, run.run, "w").close()


def test_a_forked_child_cannot_append_to_its_parents_log(warm: WarmProcess, run: RunFolder) -> None:
    """T13: two processes with one chain would tear it; the child is refused and the parent goes on."""
    child = warm.start(killed.append_in_fork, run=str(run.path))
    assert child.wait() == 0
    assert child.told == ["LogClosed", "ended"]
    ledger = Ledger(run, "w")
    ledger.acknowledged = ledger.submitted = 2
    check_all(run, [ledger])


# ------------------------------------------------------------------------------------------------------------------ T14


def write_at_once(warm: WarmProcess, run: RunFolder, batches: int) -> dict[str, Child]:
    """Start two appenders and two recorders with small segments."""
    return {
        f"w{number}": warm.start(
            work, run=str(run.path), writer=f"w{number}", seed=number, batches=batches, segment_bytes_max=6_000
        )
        for number, work in enumerate([killed.append, killed.record] * 2)
    }


def check_written(run: RunFolder, writers: dict[str, Child]) -> dict[str, int]:
    """Every event of each writer is there, in its order. Gives how many."""
    ledgers = []
    for name, child in writers.items():
        assert child.wait() == 0
        ledgers.append(Ledger(run, name))
        ledgers[-1].enter(child.told)
    check_all(run, ledgers)
    return {ledger.writer: ledger.acknowledged for ledger in ledgers}


def test_readers_miss_nothing_while_several_processes_write(warm: WarmProcess, run: RunFolder) -> None:
    """T14: by follow in another process, by two kinds of tails and by SQL: each event once, in its writer's order.

    A batch is of one writer, and no two interleave, since each writer has a file of its own.
    """
    writers = write_at_once(warm, run, 60)
    follower = warm.start(killed.follow_all, run=str(run.path), writers=len(writers))
    events, lines, sql = EventTail(run.log), RunTail(run.log), 0
    followed: dict[str, list[int]] = {}
    raw: list[bytes] = []
    for turn in range(10_000):
        is_over = not any(is_alive(child) for child in writers.values())
        for event in events.poll():
            followed.setdefault(event.writer, []).append(event.seq)
        raw += (line for batch in lines.poll() for line in batch)
        if turn % 20 == 0:
            connection = connect(run.path.parent)
            rows = connection.execute("SELECT writer, count(*), max(seq) + 1 FROM events GROUP BY writer").fetchall()
            connection.close()
            assert all(count == end for _, count, end in rows)
            assert sum(count for _, count, _ in rows) >= sql
            sql = sum(count for _, count, _ in rows)
        if is_over:
            break
        time.sleep(0.002)
    counts = check_written(run, writers)
    assert {writer: list(range(count)) for writer, count in counts.items()} == followed
    assert len(raw) == len(set(raw)) == sum(counts.values())
    assert follower.wait() == 0
    assert (follower.told[0], follower.told[-1]) == ("ready", "end")
    for writer, count in counts.items():
        assert [seq for name, seq in follower.told[1:-1] if name == writer] == list(range(count))


def is_alive(child: Child) -> bool:
    """Whether a process has not ended."""
    child.listen(0.0001)
    return not child.is_over


def test_readers_miss_nothing_while_segments_are_sealed(warm: WarmProcess, run: RunFolder) -> None:
    """T14: a reader that meets a segment in one form and then in the other takes every event once."""
    writers = write_at_once(warm, run, 25)
    sealer = warm.start(killed.seal, run=str(run.path))
    events, subscription = EventTail(run.log), Subscription(run.path, "n")
    followed: dict[str, list[int]] = {}
    subscribed: dict[str, list[int]] = {}
    sealed, is_over = 0, False
    while not (is_over and len(sealer.told) > 4):
        is_over = not any(is_alive(child) for child in writers.values())
        sealer.listen(0.01)
        for event in events.poll():
            followed.setdefault(event.writer, []).append(event.seq)
        for event in subscription.poll():
            subscribed.setdefault(event.writer, []).append(event.seq)
        subscription.save()
        sealed = len(sealer.told)
    sealer.killed()
    assert sealed > 4
    counts = check_written(run, writers)
    for event in events.poll():
        followed.setdefault(event.writer, []).append(event.seq)
    for event in subscription.poll():
        subscribed.setdefault(event.writer, []).append(event.seq)
    expected = {writer: list(range(count)) for writer, count in counts.items()}
    assert followed == expected == subscribed
    subscription.close()


def sealed_meanwhile(warm: WarmProcess, run: RunFolder, look: Callable[[int], None]) -> None:
    """Look at a run of many segments again and again while another process seals it."""
    events = sum(check_written(run, write_at_once(warm, run, 12)).values())
    sealer = warm.start(killed.seal, run=str(run.path), rounds=1)
    looks = 0
    while is_alive(sealer):
        look(events)
        looks += 1
    assert sealer.wait() == 0
    assert looks > 3
    assert len(sealer.told) > 8


def test_verify_finds_every_event_while_segments_are_sealed(warm: WarmProcess, run: RunFolder) -> None:
    """T14: a file that is gone because another one has its events is no damage; so for a reader that goes on midway."""

    def look(events: int) -> None:
        assert check_chain(run) == events
        assert len(list(EventTail(run.log, after={"w0": 20, "w1": 30}).poll())) == events - 21 - 31

    sealed_meanwhile(warm, run, look)


def test_sql_sees_every_event_while_segments_are_sealed(warm: WarmProcess, run: RunFolder) -> None:
    """T14, T21: every event, each once; or, where a file was removed between connecting and asking, to ask again."""
    answers = 0

    def look(events: int) -> None:
        nonlocal answers
        try:
            assert list(query(run, "SELECT count(*), count(DISTINCT id) FROM events").rows()) == [(events, events)]
        except UsageError as problem:
            assert problem.fix.startswith("ask again")  # noqa: PT017
        else:
            answers += 1

    sealed_meanwhile(warm, run, look)
    assert answers


# ------------------------------------------------------------------------------------------------------------------ T16


@pytest.mark.parametrize("seed", range(2))
def test_processes_that_append_to_one_list_lose_and_repeat_nothing(
    warm: WarmProcess, run: RunFolder, seed: int
) -> None:
    """T16: each version once, each value once and where its process was told, though processes are killed.

    Of two values of one process the one that was acknowledged first stands first: by construction every history is
    linearizable, since the place of a value in the list is the moment at which it took effect.
    """
    choose, count = random.Random(seed), 12
    names = [f"p{number}" for number in range(3)]
    arguments = {"run": str(run.path), "stream": "list", "count": count}
    children = {name: warm.start(killed.append_to_list, writer=name, **arguments) for name in names}
    told: dict[str, dict[int, int]] = {name: {} for name in names}
    for _ in range(6):
        name = choose.choice(names)
        children[name].listen(choose.random() * 0.05)
        take_in(told[name], children[name].killed())
        children[name] = warm.start(killed.append_to_list, writer=name, **arguments)
    for name, child in children.items():
        assert child.wait() == 0
        take_in(told[name], child.told)
    events = sorted(read_events(run.log, streams=["list"]), key=lambda event: event.version)
    assert [event.version for event in events] == list(range(len(names) * count))
    assert len({event.id for event in events}) == len(events)
    for name in names:
        script = Ledger(run, name).script
        mine = [event for event in events if event.writer == name]
        assert [event.id for event in mine] == [script.id_of(number) for number in range(count)]
        assert {number: event.seq for number, event in enumerate(mine)} == told[name]
    assert check_chain(run) == len(events)
    check_sql(run, len(events))


def take_in(places: dict[int, int], told: list[list[int]]) -> None:
    """What a process was told about the places of its values: told twice, it is the same."""
    for number, seq in told:
        assert places.setdefault(number, seq) == seq
