"""T5, T10, T11: damage of odd kinds, each named with its file, its byte and its line, and never by another's error."""

import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventflow.errors import EventTooLarge, LogDamaged, NewerFormat
from eventflow.event import Event, Payload
from eventflow.log import reader
from eventflow.log.appending import Appender
from eventflow.log.batches import BatchFold, commit_of, judge_tail
from eventflow.log.following import EventTail
from eventflow.log.format import LINE_BYTES_MAX, advance, encode_commit, first_place
from eventflow.log.layout import segment_paths
from eventflow.log.reader import SegmentTail, read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.verify import verify_run
from eventflow.recorder import Recorder
from eventflow.vocabulary import RequestFailed
from tests.scripted_log import Script, check_chain
from tests.unsynced_log import WRITER, UnsyncedDisk, crashed, opened, write

RUN = "20260101-000000-abcd"


class Told(Payload, frozen=True, kw_only=True):
    """A payload that a program hands on as it got it."""

    TYPE = "thing.told"

    what: msgspec.Raw


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run."""
    return create_run(tmp_path, stage="s", disk=UnsyncedDisk())


def damage(run: RunFolder) -> str | None:
    """The first damage that verify finds."""
    return next((report.damage for report in verify_run(run.log, run.run) if report.damage), None)


def whole_log(sizes: tuple[int, ...], *, closed: bool) -> tuple[bytes, list[bytes]]:
    """A segment in memory with batches of these sizes, and its event lines."""
    script, place, count = Script(RUN, WRITER), first_place(RUN, WRITER), 0
    data, lines = encode_commit(0, -1, place.chain), list[bytes]()
    for size in (*sizes, 0) if closed else sizes:
        batch = [script.line(number) + b"\n" for number in range(count, count + size)]
        count += size
        place = place._replace(chain=advance(place.chain, b"".join(batch)))
        data += b"".join(batch) + encode_commit(size, count - 1, place.chain)
        lines += batch
    return data, lines


def judge(data: bytes) -> tuple[bytes, bool, int]:
    """What is read of a segment's bytes, whether damage is named, and how many bytes would be cut as a torn tail."""
    fold, lines = BatchFold("segment", first_place(RUN, WRITER)), b""
    try:
        for batch in fold.feed(data, len(data)):
            lines += batch.lines
        assert fold.place is not None
        tail = judge_tail(data[fold.offset :], fold.place, is_open=fold.is_open)
    except (LogDamaged, NewerFormat):
        return lines, True, 0
    return lines, tail.problem is not None, 0 if tail.problem else tail.bytes


@pytest.mark.parametrize("closed", [True, False])
def test_t10_no_bit_of_a_segment_can_flip_unseen(*, closed: bool) -> None:
    """Not even the case of a digit in a chain; what is read before it is what was written before it, and no less."""
    data, lines = whole_log((1, 2, 1), closed=closed)
    assert judge(data) == (b"".join(lines), False, 0)
    ends = [0, *(found.end() for found in re.finditer(rb'^\{"commit".*\n', data, re.MULTILINE))]
    counts = [len(re.findall(rb'^\{"id', data[:end], re.MULTILINE)) for end in ends]
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        before = max(count for count, end in zip(counts, ends, strict=True) if end <= place // 8)
        assert judge(bytes(flipped)) == (b"".join(lines[:before]), True, 0), place


def test_t10_two_bytes_lost_or_doubled_anywhere_are_found() -> None:
    """So is a piece that is missing, and one that is there twice: a copy that went wrong, not a crash."""
    data, _ = whole_log((1, 2), closed=True)
    for place in range(len(data) - 2):
        assert judge(data[:place] + data[place + 2 :])[1], place
        assert judge(data[: place + 2] + data[place:])[1], place


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "spaces": lambda line: line.replace(b",", b", "),
    "no format": lambda line: line.replace(b'"format":1,', b""),
    "format 0": lambda line: line.replace(b'"format":1', b'"format":0'),
    "a negative format": lambda line: line.replace(b'"format":1', b'"format":-1'),
    "a count with a point": lambda line: line.replace(b'"count":2', b'"count":2.0'),
    "one more field": lambda line: line.replace(b'"seq":1,', b'"seq":1,"more":0,'),
    "capital digits": lambda line: re.sub(rb"[0-9a-f]{64}", lambda found: found[0].upper(), line),
    "a space in the chain": lambda line: re.sub(rb'"chain":"(\w\w)', rb'"chain":"\1 ', line),
    "an escape in the chain": lambda line: re.sub(rb'"chain":"0', rb'"chain":"\\u0030', line),
    "a carriage return": lambda line: line[:-1] + b"\r\n",
    "null": lambda line: b'{"commit":null}\n',
    "a huge count": lambda line: line.replace(b'"count":2', b'"count":' + b"9" * 5_000),
    "a huge chain": lambda line: line.replace(b'"chain":"', b'"chain":"' + b"00" * 1_000_000),
    "a chain of nothing": lambda line: re.sub(rb"[0-9a-f]{64}", b"", line),
    "depth": lambda line: b'{"commit":' + b"[" * 200_000 + b"\n",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_t5_a_commit_line_has_one_spelling(spelling: Callable[[bytes], bytes]) -> None:
    """Whatever else means the same, or is absurd, is damage; a number that is huge makes nothing huge."""
    line = encode_commit(2, 1, bytes(range(32)))
    assert commit_of(line, "p", 0) == (2, (bytes(range(32)), 1))
    assert spelling(line) != line
    with pytest.raises(LogDamaged, match="p: damaged at byte 7, line 0: the commit line"):
        commit_of(spelling(line), "p", 7)


def test_t5_a_deep_line_behind_the_last_batch_is_no_torn_tail() -> None:
    """No crash leaves it, and it does not bring down who judges it."""
    place = first_place(RUN, WRITER)
    head = Script(RUN, WRITER).line(0).partition(b'"data":')[0]
    assert judge_tail(head + b'"data":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n", place, is_open=True).problem
    assert judge_tail(Script(RUN, WRITER).line(0) + b"\n", place, is_open=True).problem is None


@pytest.mark.parametrize("new", [b'"chXin":"', b'"chain":"zz', b'"chain":"0', b'"chain":[', b'"chain":"AA'])
def test_t10_damage_in_the_line_that_ends_a_segment_is_named_by_whoever_looks_there(run: RunFolder, new: bytes) -> None:
    """Opening the last segment takes the word of the one before it; following begins with the word of its own."""
    write(run, (2,) * 4, closed=True, segment_bytes_max=300)
    *_, before, last = segment_paths(run.log)
    good = before.read_bytes()
    offset = good.index(b"\n") + 1  # of the segment's one batch
    place = good.rindex(b'"chain":"')
    before.write_bytes(good[:place] + new + good[place + len(b'"chain":"') :])
    with pytest.raises(LogDamaged, match=rf"{before}: damaged at byte {offset}, line 2: the commit line"):
        opened(run)
    before.write_bytes(good)
    first_line, rest = last.read_bytes().split(b"\n", 1)
    last.write_bytes(first_line.replace(b'"chain":"', new) + b"\n" + rest)
    with pytest.raises(LogDamaged, match=rf"{last}: damaged at byte 0, line 1: the commit line"):
        list(EventTail(run.log, after={WRITER: 7}).poll())


@pytest.mark.parametrize(
    "foreign",
    [b'{"nope":1}\n', b'{"id":"' + b"x" * 36 + b'","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"],
)
def test_a_committed_line_that_is_no_event_is_named_with_its_file_byte_and_line(run: RunFolder, foreign: bytes) -> None:
    """By readers, followers and verify alike: whoever wrote it was no eventflow. What stands before it is given."""
    writer, script = opened(run), Script(run.run, WRITER)
    writer.append(script.line(0) + b"\n", 1)
    offset = writer.path.stat().st_size
    writer.append(foreign, 1)
    writer.close()
    for events in (read_events(run.log), EventTail(run.log).poll()):
        assert next(events).seq == 0
        with pytest.raises(LogDamaged, match=rf"{writer.path}: damaged at byte {offset}, line 4: a line is not an ev"):
            next(events)
    assert f"{writer.path}: damaged at byte {offset}, line 4: a line is not an event" in (damage(run) or "")


@pytest.mark.parametrize("sealed_too", [False, True])
def test_t11_segments_that_are_missing_by_the_million_are_one_finding(run: RunFolder, *, sealed_too: bool) -> None:
    """A stray file with a large number does not make verify count up to it."""
    write(run, (2,), closed=True)
    (path,) = segment_paths(run.log)
    path.with_name("99999998.ndjson").write_bytes(b"")
    if sealed_too:
        path.with_name("99999999.ndjson").write_bytes(b"")
    found = [report.damage or "" for report in islice(verify_run(run.log, run.run), 10)]
    assert len(found) == 3 + sealed_too
    assert "00000001.ndjson: damaged at byte 0, line 1: the segments from 00000001 to 99999997 are missing" in found[1]
    with pytest.raises(LogDamaged, match="from 00000001 to 99999997 are missing"):
        list(read_events(run.log))


@pytest.mark.parametrize("other", ["run", "writer", "both at once"])
def test_t11_a_segment_of_another_run_or_writer_is_not_taken(run: RunFolder, tmp_path: Path, other: str) -> None:
    """Though it is whole, and its events have the right numbers."""
    theirs = create_run(tmp_path / "theirs", stage="s") if other != "writer" else run
    name = "v" if other != "run" else WRITER
    with Appender(theirs.log, name, disk=UnsyncedDisk()) as appender:
        appender.append([Script(theirs.run, name).event(number) for number in range(3)])
    (path,) = segment_paths(theirs.log)
    target = run.log / WRITER / path.name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(path.read_bytes())
    problem = rf"{target}: damaged at byte 0, line 1: it does not follow .*, or is of another run or writer"
    with pytest.raises(LogDamaged, match=problem):
        list(read_events(run.log))
    with pytest.raises(LogDamaged, match=problem):
        opened(run)
    assert re.match(problem, damage(run) or "")


def test_t11_a_batch_that_was_brought_to_another_place_is_not_taken(run: RunFolder) -> None:
    """A batch with its commit line, put before, between or behind others of the same log."""
    write(run, (1, 2, 1, 1), closed=True)
    (path,) = segment_paths(run.log)
    opening, *batches = re.findall(rb'(?:\{"id.*\n)*\{"commit.*\n', path.read_bytes())
    for number, batch in enumerate(batches):
        rest = batches[:number] + batches[number + 1 :]
        for place in range(len(rest) + 1):
            moved = [*rest[:place], batch, *rest[place:]]
            doubled = [*batches[:place], batch, *batches[place:]]
            for changed in (moved, doubled, rest):
                path.write_bytes(opening + b"".join(changed))
                is_whole = changed == batches[: len(changed)]
                assert bool(damage(run)) != is_whole, (number, place)


@pytest.mark.parametrize("what", [b'{\n"a":1}', b"[1,\n2]\n"])
def test_t22_a_payload_with_line_breaks_is_refused_and_leaves_no_trace(run: RunFolder, what: bytes) -> None:
    """It would make two lines of one event, and so damage what is acknowledged. The recorder and the stream go on."""
    told, fine = Told(what=msgspec.Raw(what)), Told(what=msgspec.Raw(b'{ "a":1e16, "\\u00e9":[ ] }'))
    with Recorder(run.log, run.run) as recorder:
        span = recorder.open_stream("s")
        for payload in (fine, told, fine):
            if payload is told:
                with pytest.raises(TypeError, match="has a line break outside of its texts"):
                    span.record(payload)
            else:
                span.record(payload)
    with Appender(run.log, "v") as appender:
        made: list[Event[Payload]] = [Event("i" * 36, Told.TYPE, 1, "", "t", 0, "", 0, "t", "s", told)]
        with pytest.raises(TypeError, match="has a line break outside of its texts"):
            appender.append(made, -1)
        appender.append([msgspec.structs.replace(made[0], data=fine)], -1)
    assert [bytes(event.data) for event in read_events(run.log)] == [b'{"what":{ "a":1e16, "\\u00e9":[ ] }}'] * 3
    assert check_chain(run) == 3


@pytest.mark.parametrize("first", [0, 1, 500_000])
def test_t22_the_longest_line_that_fits_goes_through_the_recorder(run: RunFolder, first: int) -> None:
    """To the byte, alone in its batch or behind others; one byte more is refused and the stream goes on."""

    def failed(size: int) -> RequestFailed:
        return RequestFailed(error="E", message="x" * size, seconds=0)

    with Recorder(run.log, run.run, batch_seconds_max=None) as recorder:
        if first:
            recorder.open_stream("before").record(failed(first))
        span = recorder.open_stream("s")
        with pytest.raises(EventTooLarge) as refused:
            span.record(failed(LINE_BYTES_MAX))
        size = 2 * LINE_BYTES_MAX - refused.value.size
        with pytest.raises(EventTooLarge):
            span.record(failed(size + 1))
        span.record(failed(size))
    longest = max((line for path in segment_paths(run.log) for line in path.read_bytes().splitlines(True)), key=len)
    assert len(longest) == LINE_BYTES_MAX
    assert check_chain(run) == 1 + bool(first)


def test_a_reader_that_meets_its_writers_next_life_between_two_reads_is_not_confused(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T14: a torn tail that it has half read is cut and written over: no damage, and every event once."""
    write(run, (2,), closed=False)
    (path,) = segment_paths(run.log)
    script = Script(run.run, WRITER)
    with path.open("ab") as file:
        file.write(script.line(7)[:300].replace(b"request.failed", b"request.forgot"))
    really, reads = reader._read_into, 0

    def read(*given: Any) -> int:
        nonlocal reads
        reads += 1
        if reads == 2:
            crashed(run, [script.line(2), script.line(3)])
        return really(*given)

    monkeypatch.setattr(reader, "_read_into", read)
    tail = EventTail(run.log)
    assert [event.seq for event in tail.poll()] == [0, 1, 2, 3]
    assert [event.seq for event in tail.poll()] == []


def test_a_follower_sees_what_is_written_over_a_torn_tail_of_the_same_length(run: RunFolder) -> None:
    """T14: the size of a file does not tell everything about it."""
    write(run, (2,), closed=False)
    (path,) = segment_paths(run.log)
    before, script = path.stat().st_size, Script(run.run, WRITER)
    crashed(run, [script.line(2)])
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.truncate(before)
        file.seek(before)
        file.write(script.line(2 + 96)[: size - before])
    tail = EventTail(run.log)
    assert [event.seq for event in tail.poll()] == [0, 1]
    crashed(run, [script.line(2)])
    assert path.stat().st_size == size
    assert [event.seq for event in tail.poll()] == [2]


def test_damage_is_raised_every_time_that_it_is_met(run: RunFolder) -> None:
    """A tail that is asked again does not pass over it, and gives nothing twice."""
    write(run, (1, 1, 1), closed=True)
    (path,) = segment_paths(run.log)
    path.write_bytes(path.read_bytes().replace(b'"seq":1,', b'"seq":7,', 1))
    reading, tail = SegmentTail(path), EventTail(run.log)
    assert next(tail.poll()).seq == 0
    for _ in range(3):
        with pytest.raises(LogDamaged):
            list(reading.poll())
        with pytest.raises(LogDamaged):
            list(tail.poll())
    assert tail.position == {WRITER: 0}
