"""The live view beside real runs, and the pieces that it is made of."""

import random
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventflow.errors import LogDamaged
from eventflow.event import Event
from eventflow.live.ends import Ends, Stand
from eventflow.live.series import STEPS_MAX, Amounts, Course, Level
from eventflow.live.tail import LineTail
from eventflow.live.view import LiveView
from eventflow.log.appending import Appender
from eventflow.log.runs import RunFolder, create_run
from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings
from eventflow.progress import Tally
from eventflow.vocabulary import RequestStarted
from tests.directing import Sitting
from tests.scripted_view import SECOND, START, seen, view_of
from tests.synthetic_log import resume_run, write_run

WRITERS = 80


@pytest.fixture(scope="module")
def directed(tmp_path_factory: pytest.TempPathFactory) -> list[list[bytes]]:
    """The batches of a real run of the director over a server with every kind of fault."""
    folder = tmp_path_factory.mktemp("directed")
    faults = dict.fromkeys(("reset", "500", "503", "short-body", "wrong-bytes", "refuse"), 0.06)
    with start_origin(OriginSettings(files=80, size=3_000, latency_s=0.002, faults=faults, seed=5)) as origin:
        lines = [f"{entry.url}\t{entry.name}\t{entry.sha256}" for entry in origin.entries()]
        sitting = Sitting(folder, lines, timeout_s=1.0, retries=2)
        sitting.direct()
    return list(LineTail(sitting.run.log).poll())


@given(data=st.data())
@settings(max_examples=60)
def test_counts_add_up_on_any_prefix_of_a_real_run(directed: list[list[bytes]], data: st.DataObject) -> None:
    """Those that have not ended and those that have are all that were seen, and as many as the tally counts."""
    lines = [line for batch in directed for line in batch]
    prefix = lines[: data.draw(st.integers(0, len(lines)))]
    view, tally = view_of(*prefix), Tally()
    tally.feed(prefix)
    shown = seen(view, is_live=data.draw(st.booleans()))
    ended = shown.completed + shown.failed + shown.cancelled
    assert sum(shown.states.values()) + ended + shown.unfinished == shown.requests == tally.requests
    assert (shown.completed, shown.failed) == (tally.completed, tally.failed)
    assert shown.events == len(prefix)
    assert shown.events_malformed == 0
    assert len(view.fold.flights) == sum(shown.states.values())


@given(seed=st.integers(0, 2**32), kept=st.integers(0, 2**16))
@settings(max_examples=60)
def test_any_order_of_a_real_run_gives_the_same_counts(directed: list[list[bytes]], seed: int, kept: int) -> None:
    """Also one that no log has: within one sitting, order does not matter to what is counted."""
    lines = [line for batch in directed for line in batch]
    random.Random(seed).shuffle(lines)
    prefix = lines[: kept % (len(lines) + 1)]
    view, tally = view_of(*prefix), Tally()
    tally.feed(prefix)
    shown = seen(view)
    ended = shown.completed + shown.failed + shown.cancelled
    assert sum(shown.states.values()) + ended + shown.unfinished == shown.requests
    assert (shown.completed, shown.failed) == (tally.completed, tally.failed)


def interleaved(logs: Sequence[Sequence[bytes]], chance: random.Random) -> Iterator[bytes]:
    """All lines, each log's in its order."""
    left = [list(reversed(log)) for log in logs if log]
    while left:
        log = chance.choice(left)
        yield log.pop()
        left = [log for log in left if log]


@pytest.mark.parametrize("stage", ["serial", "threads", "processes"])
def test_runs_that_were_killed_and_resumed_count_as_the_tally_does(stage: str, tmp_path: Path) -> None:
    """Over all sittings, in whatever order the logs of the writers are read."""
    folder = write_run(tmp_path, stage, requests=120, failure_share=0.2, stop_seconds=0.4, killed=True)
    resume_run(folder, requests=120, stop_seconds=0.3)
    resume_run(folder, requests=120, start_ns=START + 7_200 * SECOND)
    tally, logs = Tally(), []
    for writer in sorted(path for path in folder.log.iterdir() if path.is_dir()):
        lines = [line for path in sorted(writer.glob("*.ndjson")) for line in path.read_bytes().splitlines()]
        logs.append([line for line in lines if line.startswith(b'{"id"')])
        tally.feed(logs[-1])
    in_order = LiveView(folder.run, stage)
    for batch in LineTail(folder.log).poll():
        in_order.feed(batch)
    for seed in range(10):
        view = LiveView(folder.run, stage)
        view.feed(list(interleaved(logs, random.Random(seed))))
        for shown in (seen(view, is_live=False), seen(in_order, is_live=False)):
            assert (shown.state, shown.requests, shown.resumed) == ("completed", tally.requests, True)
            assert (shown.completed, shown.failed, shown.cancelled) == (tally.completed, tally.failed, tally.cancelled)
            assert (shown.unfinished, sum(shown.states.values())) == (0, 0)


# -------------------------------------------------------------------------------------------------------- the pieces


def test_ends_hold_any_number() -> None:
    """Four bytes a request where numbers are dense, and no more than a page for one that stands alone."""
    ends = Ends()
    assert ends.get(10**18) == (Stand.UNSEEN, -1)
    ends.set(10**18, Stand.FAILED, 12)
    ends.set(3, Stand.COMPLETED, 0)
    assert (ends.get(10**18), ends.get(3), ends.get(4)) == (
        (Stand.FAILED, 12),
        (Stand.COMPLETED, 0),
        (Stand.UNSEEN, -1),
    )


@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 1000)), max_size=200))
def test_a_course_keeps_the_sum_in_bounded_steps(noted: list[tuple[int, int]]) -> None:
    """Whatever the order; what comes before the begin counts there."""
    course = Course(sums=True)
    for second, amount in noted:
        course.note(second * SECOND, amount)
    steps = course.steps(100_000 * SECOND)
    assert len(steps) <= STEPS_MAX
    assert sum(steps) * course.step_seconds == pytest.approx(sum(amount for _, amount in noted))


def test_amounts_are_of_their_second() -> None:
    """What is too old to be asked about only counts in the total."""
    amounts = Amounts()
    amounts.add(100 * SECOND, 4)
    amounts.add(101 * SECOND, 6)
    amounts.add(1 * SECOND, 1)
    assert amounts.total == 11
    assert amounts.recent(102 * SECOND, 99 * SECOND) == [0.0, 4.0, 6.0]
    assert amounts.per_second(102 * SECOND, 2, 0) == 5.0
    assert amounts.per_second(102 * SECOND, 2, 102 * SECOND) == 0.0
    assert amounts.recent(500 * SECOND, 0) == [0.0] * 60


def test_a_level_is_as_it_was_until_it_changes() -> None:
    """Over the last minute, and from the beginning."""
    level = Level()
    level.note(100 * SECOND, 8)
    level.note(103 * SECOND, 4)
    assert level.recent(104 * SECOND) == [8.0, 8.0, 8.0, 4.0, 4.0]
    assert level.recent(900 * SECOND) == [4.0] * 60
    assert level.whole(104 * SECOND) == [8.0, 8.0, 8.0, 4.0, 4.0]
    assert len(level.whole(10_000 * SECOND)) <= STEPS_MAX


# ---------------------------------------------------------------------------------------------------------- the tail


def script_of(folder: RunFolder, writer: str, *seconds: int) -> None:
    """A writer's log, each event a batch of its own, at these seconds."""
    started = RequestStarted(wait_seconds=0.0)
    with Appender(folder.log, writer) as appender:
        for number, second in enumerate(seconds):
            time = START + second * SECOND
            ids = (str(uuid.uuid4()), started.TYPE, time, folder.run, writer, number, writer, number, "t", "s")
            appender.append([Event(*ids, started)], number - 1)


def times(batches: Iterable[list[bytes]]) -> list[int]:
    """The seconds of all lines."""
    return [(msgspec.json.decode(line)["time"] - START) // SECOND for batch in batches for line in batch]


def test_the_lines_of_all_writers_come_in_the_order_of_time(tmp_path: Path) -> None:
    """At first all that is there, then what came since, each once."""
    folder = create_run(tmp_path, stage="processes")
    tail = LineTail(folder.log)
    assert times(tail.poll()) == []
    script_of(folder, "aaaaaaaa", 1, 4, 5)
    script_of(folder, "bbbbbbbb", 0, 2, 3, 6)
    assert times(tail.poll()) == [0, 1, 2, 3, 4, 5, 6]
    assert times(tail.poll()) == []
    script_of(folder, "cccccccc", 7)
    assert times(tail.poll()) == [7]


def test_damage_of_one_writer_hides_nothing_of_the_others(tmp_path: Path) -> None:
    """It is raised when all that can be had was given, each time."""
    folder = create_run(tmp_path, stage="processes")
    script_of(folder, "aaaaaaaa", 1, 4)
    script_of(folder, "bbbbbbbb", 0, 2, 3)
    (segment,) = (folder.log / "aaaaaaaa").glob("*.ndjson")
    data = bytearray(segment.read_bytes())
    data[-200] ^= 1
    segment.write_bytes(data)
    tail, given = LineTail(folder.log), list[list[bytes]]()
    with pytest.raises(LogDamaged, match="aaaaaaaa"):
        given.extend(tail.poll())
    assert times(given) == [0, 1, 2, 3]
    with pytest.raises(LogDamaged):
        list(tail.poll())


READER = """
import resource, sys
from pathlib import Path
from eventflow.live.tail import LineTail

tail = LineTail(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
print(sum(len(batch) for batch in tail.poll()))
"""


def test_a_run_of_very_many_writers_needs_few_descriptors(tmp_path: Path) -> None:
    """They are read one after the other, since each has a file open while it is read."""
    folder = create_run(tmp_path, stage="processes")
    for number in range(WRITERS):
        script_of(folder, f"{number:08x}", number)
    command = [sys.executable, "-c", READER, str(folder.log), str(WRITERS // 2)]
    reader = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (reader.stdout.strip(), reader.stderr) == (str(WRITERS), "")


def test_the_rest_takes_as_long_as_the_last_half_minute_says() -> None:
    """What ended before a resume says nothing about it; without anything that ended nobody knows."""
    ended, second = Amounts(), 1_000_000_000
    assert ended.seconds_for(10, 40 * second, 20 * second) is None
    for at in (*range(10, 20), *range(30, 40)):
        ended.add(at * second, 2)
    assert ended.seconds_for(30, 40 * second, 30 * second) == 15.0
    assert ended.seconds_for(-1, 40 * second, 30 * second) == 0.0
