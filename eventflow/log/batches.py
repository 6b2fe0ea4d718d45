"""Whole batches and torn tails: what of the bytes of a segment counts. Pure functions and one fold over bytes.

Invariants:
    every batch that comes out of a fold continues the chain of the one before it;
    a tail is *torn* only if it is the beginning of what the writer would have written next; any other bytes are damage,
    because a crash cannot have made them out of an append.
"""

import codecs
from collections.abc import Iterator

import msgspec

from eventflow.errors import LogDamaged
from eventflow.log.format import (
    CHAIN_BYTES,
    COMMIT_PREFIX,
    EVENT_PREFIX,
    Place,
    advance,
    batch_bounds,
    decode_commit,
    decode_event,
    encode_commit,
)

_utf8_decoder = codecs.getincrementaldecoder("utf-8")
_FIRST_LETTER = 0x20


class Batch(msgspec.Struct, frozen=True, gc=False):
    """A whole batch that was checked.

    Attributes:
        lines: its event lines, newlines included; empty for the batch that opens or closes a segment.
        count: how many they are.
        place: where the log stands after it.
        end: the offset in the segment of the byte after its commit line.
    """

    lines: bytes
    count: int
    place: Place
    end: int


class BatchFold:
    """The fold over the bytes of one segment.

    Args:
        path: the segment, for messages.
        before: where the writer's log stands before it; None takes the segment's own word for it, which its first line
            gives.
    """

    def __init__(self, path: str, before: Place | None) -> None:
        self.path = path
        self.place = before
        self.offset = 0
        self.is_open = False

    def feed(self, data: bytes | bytearray, size: int) -> Iterator[Batch]:
        """The whole batches at the beginning of `data[:size]`, which is what the segment holds from `offset` on.

        Raises:
            LogDamaged: a batch is not what was committed. Those before it were given.
            NewerFormat: a newer eventflow wrote it.
        """
        start = 0
        for commit_start, end in batch_bounds(data, size):
            with memoryview(data) as view:
                lines, commit_line = bytes(view[start:commit_start]), bytes(view[commit_start:end])
            batch = self._check(lines, commit_line)
            start = end
            yield batch

    def _check(self, lines: bytes, commit_line: bytes) -> Batch:
        count, place = commit_of(commit_line, self.path, self.offset)
        if not self.is_open:
            self._check_opening(lines, count, place)
        elif self.place is not None and place.chain != advance(self.place.chain, lines):
            raise self._damaged("the bytes are not those that were committed")
        elif self.place is not None and not (count == lines.count(b"\n") == place.seq - self.place.seq):
            raise self._damaged(f"the commit line counts {count} events up to {place.seq}, which is not so")
        self.place = place
        self.is_open = True
        self.offset += len(lines) + len(commit_line)
        return Batch(lines, count, place, self.offset)

    def _check_opening(self, lines: bytes, count: int, found: Place) -> None:
        if lines or count:
            raise self._damaged("it does not begin with a commit line")
        if self.place is not None and found != self.place:
            raise self._damaged("it does not follow the segment before it, or is of another run or writer")

    def _damaged(self, problem: str) -> LogDamaged:
        return damaged_at(self.path, self.offset, problem)


def commit_of(line: bytes, path: str, offset: int) -> tuple[int, Place]:
    """What a commit line says, newline included: how many events its batch has, and where the log stands after it.

    Only the one spelling that is ever written is taken, so that no bit of the line can change unseen.

    Args:
        line: the line.
        path: the segment, for messages.
        offset: what to name in it if the line is damaged: where its batch begins.

    Raises:
        LogDamaged: it is no commit line.
        NewerFormat: a newer eventflow wrote it.
    """
    try:
        commit = decode_commit(line, path)
        place = Place(bytes.fromhex(commit.chain), commit.seq)
    except ValueError as problem:
        raise damaged_at(path, offset, f"the commit line cannot be read ({problem})") from problem
    if len(place.chain) != CHAIN_BYTES or line != encode_commit(commit.count, place.seq, place.chain):
        raise damaged_at(path, offset, "the commit line is not as it was written")
    return commit.count, place


def damaged_at(path: str, offset: int, problem: str) -> LogDamaged:
    """The damage, with the line in which that byte stands."""
    return LogDamaged(path, offset, line_number(path, offset), problem)


class Tail(msgspec.Struct, frozen=True):
    """What stands after the last whole batch of a segment.

    `events` were written whole and never acknowledged. `problem` says why a crash cannot have left these bytes; None if
    the tail is torn.
    """

    bytes: int = 0
    events: int = 0
    problem: str | None = None


def judge_tail(tail: bytes, place: Place, *, is_open: bool) -> Tail:
    """Whether the bytes after the last whole batch are what a crash leaves behind.

    A crash leaves the beginning of what was being written: whole event lines that continue the log, then part of a
    line, and where the file system had made room already, zeros up to the end.

    Args:
        tail: these bytes.
        place: where the log stands before them.
        is_open: whether the segment has its first commit line.
    """
    *lines, rest = tail.rstrip(b"\0").split(b"\n")
    problem = None if is_open or not lines else "it does not begin with a commit line"
    for number, line in enumerate(lines, 1):
        problem = problem or _problem_of_line(line, place.seq + number)
    written = b"".join(line + b"\n" for line in lines)
    chain = advance(place.chain, written) if is_open else place.chain
    commit = encode_commit(len(lines), place.seq + len(lines), chain)
    if not problem and not (commit.startswith(rest) or (is_open and _can_begin_event(rest))):
        problem = "the line at its end is neither an event nor the commit of what stands before it"
    return Tail(len(tail), len(lines), problem)


def line_number(path: str, offset: int) -> int:
    """The line, from 1, in which that byte of a file stands. 0 if the file cannot be read."""
    count = 1
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (the path is only a name here)
            while offset > 0 and (block := file.read(min(offset, 1 << 20))):
                count += block.count(b"\n")
                offset -= len(block)
    except OSError:
        return 0
    return count


def _problem_of_line(line: bytes, seq: int) -> str | None:
    if line.startswith(COMMIT_PREFIX):
        return "a commit line does not fit what stands before it"
    try:
        found = decode_event(line).seq
    except (ValueError, RecursionError) as problem:
        return f"a line is not an event ({problem})"
    return None if found == seq else f"event {found} stands in the place of {seq}"


def _can_begin_event(rest: bytes) -> bool:
    """Whether an event line can begin like this: with its first field, all of it text, perhaps up to half a letter."""
    if not rest.startswith(EVENT_PREFIX):
        return EVENT_PREFIX.startswith(rest)
    try:
        _utf8_decoder().decode(rest)
    except UnicodeDecodeError:
        return False
    return min(rest) >= _FIRST_LETTER
