"""T3, T4, T5, T10, T11, T20, T22: a log that was cut, flipped, zeroed, moved or filled, at every place.

What was acknowledged is read, or the damage is named; never anything else, and never less in silence.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eventflow.errors import EventTooLarge, LogDamaged, NewerFormat, StoreError
from eventflow.log.format import LINE_BYTES_MAX, batch_bounds
from eventflow.log.layout import segment_paths
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.verify import verify_run
from eventflow.recorder import Recorder
from eventflow.vocabulary import RequestFailed
from tests.unsynced_log import UnsyncedDisk, line, opened, write


def torn_bytes(run: RunFolder) -> int:
    """What is cut when the log is opened."""
    with closing(opened(run)) as writer:
        return writer.torn.bytes


def seqs(run: RunFolder) -> list[int]:
    """What is read, up to the damage if there is some."""
    found: list[int] = []
    try:
        found.extend(event.seq for event in read_events(run.log))
    except LogDamaged:
        found.append(-1)
    return found


def damage(run: RunFolder) -> str | None:
    """The first damage that verify finds."""
    return next((report.damage for report in verify_run(run.log, run.run) if report.damage), None)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run."""
    return create_run(tmp_path, stage="s", disk=UnsyncedDisk())


@pytest.mark.parametrize("closed", [True, False])
def test_t3_a_log_cut_at_any_byte_has_every_batch_before_the_cut(run: RunFolder, *, closed: bool) -> None:
    """Readers, verify and recovery agree on it, and it can be gone on with."""
    write(run, (1, 2, 1), closed=True, segment_bytes_max=300)
    write(run, (2, 1), closed=closed)
    *before, path = segment_paths(run.log)
    assert len(before) >= 2
    whole = path.read_bytes()
    ends = [end for _, end in batch_bounds(whole, len(whole))]
    counts = [whole[:end].count(b'{"id"') for end in ends]
    total = sum(data.read_bytes().count(b'{"id"') for data in before)
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        expected = total + max((count for end, count in zip(ends, counts, strict=True) if end <= cut), default=0)
        (*_, report) = verify_run(run.log, run.run)
        good = max((end for end in ends if end <= cut), default=0)
        assert (seqs(run), report.damage, report.torn_bytes) == (list(range(expected)), None, cut - good)
        writer = opened(run)
        assert (writer.seq, writer.torn.bytes) == (expected - 1, cut - good)
        writer.append(line(run, expected), 1)
        writer.close()
        if cut % 9 == 0:
            assert torn_bytes(run) == 0
            assert (seqs(run), damage(run)) == (list(range(expected + 1)), None)


@pytest.mark.parametrize("closed", [True, False])
def test_t10_a_flipped_bit_is_found_by_whoever_opens_the_log(run: RunFolder, *, closed: bool) -> None:
    """Damage is never taken for a torn tail: verify and readers name it, and the log is refused for writing.

    Here every eleventh bit, with files; `test_damage.py` flips all of them.
    """
    write(run, (1, 2), closed=closed)
    (path,) = segment_paths(run.log)
    whole = path.read_bytes()
    ends = [end for _, end in batch_bounds(whole, len(whole))]
    for bit in range(0, len(whole) * 8, 11):
        place = bit // 8
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit % 8
        path.write_bytes(flipped)
        found = damage(run) or ""
        batch = max((end for end in ends if end <= place), default=0)
        assert f"damaged at byte {batch}, line {whole[:batch].count(10) + 1}: " in found or "upgrade" in found, bit
        given: list[int] = []
        with pytest.raises((LogDamaged, NewerFormat)):
            given.extend(event.seq for event in read_events(run.log))
        assert given == list(range(whole[:batch].count(b'{"id"')))
        with pytest.raises((LogDamaged, NewerFormat)):
            opened(run)
        assert path.read_bytes() == flipped


def sectors(whole: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """The log with one of its sectors zeroed, filled and garbled."""
    noise = random.Random(size)
    for start in range(0, len(whole), size):
        end = min(start + size, len(whole))
        for content in (bytes(end - start), b"\xff" * (end - start), noise.randbytes(end - start)):
            yield start, whole[:start] + content + whole[end:]


@pytest.mark.parametrize("size", [512, 4096])
def test_t4_a_lost_sector_is_damage_or_looks_like_the_end_of_a_write(run: RunFolder, size: int) -> None:
    """In the middle always damage. The zeroed end of a log may look torn; then all batches before it are there."""
    write(run, (2, 2, 2, 2), closed=True, text="x" * 1_500)
    (path,) = segment_paths(run.log)
    whole = path.read_bytes()
    last = [end for _, end in batch_bounds(whole, len(whole))][-3]
    for start, changed in sectors(whole, size):
        path.write_bytes(changed)
        found, read = damage(run), seqs(run)
        if start + size <= last or changed[-1] != 0:
            assert found, start
        if found:
            assert read[-1] == -1
        assert read in [[*range(count), *end] for count in range(0, 9, 2) for end in ((), (-1,))]
        assert found or len(read) >= 6


def test_t4_zeros_behind_the_end_are_room_that_the_file_system_made(run: RunFolder) -> None:
    """Nothing is lost, and opening takes them away."""
    write(run, (2, 1), closed=False)
    (path,) = segment_paths(run.log)
    whole = path.read_bytes()
    for count in (1, 511, 512, 5_000):
        path.write_bytes(whole + bytes(count))
        assert (seqs(run), damage(run)) == ([0, 1, 2], None)
        assert torn_bytes(run) == count
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"count":2', b'"count":1000000000000000000000'),
        (b'"count":2', b'"count":-2'),
        (b'"count":2', b'"count":0'),
        (b'"seq":1,"chain"', b'"seq":9223372036854775807,"chain"'),
        (b'"seq":1,"chain"', b'"seq":-1,"chain"'),
        (b'"chain":"', b'"chain":"00'),
        (b'"chain":"', b'"chain":"zz'),
        (b'"chain":"', b'"chains":"'),
        (b'{"commit":{', b'{"commit":[{'),
        (b'{"commit":{"format":1', b'{"commit":{"format":99'),
        (b'{"id"', b"9" * 3_000_000 + b'{"id"'),
        (b'{"id"', b'{"id":' + b"[" * 100_000),
    ],
)
def test_t5_absurd_numbers_and_lines_are_damage(run: RunFolder, old: bytes, new: bytes) -> None:
    """Of any size: nothing is allocated because a number says so."""
    write(run, (2, 1), closed=True)
    (path,) = segment_paths(run.log)
    whole = path.read_bytes()
    place = whole.rindex(old)
    path.write_bytes(whole[:place] + new + whole[place + len(old) :])
    assert damage(run)
    with pytest.raises((LogDamaged, NewerFormat)):
        list(read_events(run.log))
    with pytest.raises((LogDamaged, NewerFormat)):
        opened(run)


CHANGES: dict[str, Callable[[list[Path]], object]] = {
    "missing": lambda paths: paths[1].unlink(),
    "the last one missing, and its number used again": lambda paths: paths[2].rename(paths[3]),
    "doubled": lambda paths: shutil.copy(paths[0], paths[1]),
    "swapped": lambda paths: (paths[1].rename("x"), paths[2].rename(paths[1]), Path("x").rename(paths[2])),
    "cut": lambda paths: paths[1].write_bytes(paths[1].read_bytes()[:-1]),
    "emptied": lambda paths: paths[1].write_bytes(b""),
    "grown": lambda paths: paths[1].write_bytes(paths[1].read_bytes() + b'{"id":"'),
    "a batch twice": lambda paths: paths[1].write_bytes(paths[1].read_bytes() + b"".join(batch(paths[1]))),
    "a batch less": lambda paths: paths[1].write_bytes(paths[1].read_bytes().replace(b"".join(batch(paths[1])), b"")),
    "two lines exchanged": lambda paths: paths[1].write_bytes(exchange(paths[1])),
}


def batch(path: Path) -> list[bytes]:
    """The lines of the batch that a segment begins with after its opening."""
    lines = path.read_bytes().splitlines(keepends=True)
    return lines[1 : 2 + next(place for place, line in enumerate(lines[1:]) if line.startswith(b'{"commit"'))]


def exchange(path: Path) -> bytes:
    """The segment with its first two events in the other order."""
    first, second, *_ = batch(path)
    return path.read_bytes().replace(first + second, second + first)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_t11_segments_and_batches_in_the_wrong_place_are_found(
    run: RunFolder, change: Callable[[list[Path]], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Missing, doubled, swapped, cut, grown: by verify, and by whoever reads."""
    monkeypatch.chdir(tmp_path)
    write(run, (2,) * 4, closed=True, segment_bytes_max=300)
    assert damage(run) is None
    change(segment_paths(run.log))
    assert damage(run)
    assert seqs(run)[-1] == -1


def test_t20_opening_looks_at_the_last_segment_only(run: RunFolder) -> None:
    """Damage in an earlier one does not hinder it, because it is not read: verify finds that."""
    write(run, (2,) * 6, closed=True, segment_bytes_max=300)
    first, *_ = segment_paths(run.log)
    first.write_bytes(first.read_bytes().replace(b'"a.b"', b'"a.c"', 1))
    writer = opened(run)
    writer.append(line(run, 12), 1)
    writer.close()
    assert damage(run)


@pytest.mark.parametrize("size", [0, 1, LINE_BYTES_MAX // 2, LINE_BYTES_MAX - 400])
def test_t22_events_of_any_size_up_to_the_limit(run: RunFolder, size: int) -> None:
    """They are read back as they were, and by verify; the one that is too large is refused and leaves no trace."""
    with Recorder(run.log, run.run) as recorder:
        span = recorder.open_stream("s")
        span.record(RequestFailed(error="E", message="x" * size, seconds=0))
        with pytest.raises(EventTooLarge, match=r"limit is 1048576: put the bulk into a file"):
            span.record(RequestFailed(error="E", message="x" * LINE_BYTES_MAX, seconds=0))
        with pytest.raises(TypeError):
            span.record(RequestFailed(error="E", message=object(), seconds=0))  # type: ignore[arg-type]
        span.record(RequestFailed(error="E", message="after", seconds=0))
    assert [(event.version, event.seq) for event in read_events(run.log)] == [(0, 0), (1, 1)]
    assert damage(run) is None


def test_messages_name_file_byte_and_line_far_into_a_file(run: RunFolder) -> None:
    """Beyond the first megabyte, too; and say what to do."""
    write(run, (40,) * 3, closed=True, text="y" * 20_000)
    (path,) = segment_paths(run.log)
    whole = path.read_bytes()
    offset = [end for _, end in batch_bounds(whole, len(whole))][2]
    path.write_bytes(whole[: offset + 9_000] + b"z" + whole[offset + 9_001 :])
    number = whole[:offset].count(b"\n") + 1
    with pytest.raises(StoreError) as caught:
        list(read_events(run.log))
    assert str(caught.value).startswith(f"{path}: damaged at byte {offset}, line {number}: ")
    assert str(caught.value).endswith("restore the file from a copy, or set its end aside with `eventflow repair`")
