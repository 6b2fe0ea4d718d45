r"""The format of a segment, byte by byte: pure functions over bytes, no files.

A segment is NDJSON. It is a sequence of batches; a batch is its event lines, then one commit line, and counts only when
that line is whole. The first batch of a segment is empty: its commit line says what the chain was when the segment was
opened.

    {"commit":{"format":1,"count":0,"seq":-1,"chain":"…"}}
    {"id":"…","type":"run.started",…}
    {"id":"…","type":"stage.started",…}
    {"commit":{"format":1,"count":2,"seq":1,"chain":"…"}}

The chain is BLAKE2b with a 32-byte digest (RFC 7693) over everything before it in this writer's log:
`chain = blake2b(chain before, as 32 bytes + the batch's event lines, newlines included)`, and before the first event
`blake2b("eventflow log 1\n<run>\n<writer>\n")`, so a batch can be neither changed, moved, dropped nor brought from
another run unseen.

Invariants:
    no line contains a newline byte but the one that ends it (JSON escapes them), so a commit line can be found from
    either end; an event line begins with `{"id":"` and a UUID of 36 characters, then `","type":"`, so its type is at a
    fixed place.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from eventflow.errors import EventTooLarge, NewerFormat
from eventflow.event import Event, Payload, StoredEvent

FORMAT = 1
COMMIT_PREFIX = b'{"commit":'
_COMMIT_START = b"\n" + COMMIT_PREFIX
EVENT_PREFIX = b'{"id":"'
LINE_BYTES_MAX = 1 << 20
CHAIN_BYTES = 32
LINE_BREAK = "an event has a line break outside of its texts, in a msgspec.Raw: give it JSON without line breaks"
TYPE_OFFSET = len(EVENT_PREFIX) + 36 + len('","type":"')

_encoder = msgspec.json.Encoder()
_event_decoder = msgspec.json.Decoder(StoredEvent)


class Commit(msgspec.Struct, frozen=True):
    """The commit line's content.

    How many events the batch has, the writer's last `seq`, the chain after the batch (64 hex digits).
    """

    format: int
    count: int
    seq: int
    chain: str


class _CommitLine(msgspec.Struct, frozen=True):
    commit: Commit


_commit_decoder = msgspec.json.Decoder(_CommitLine)


class Place(NamedTuple):
    """Where a writer's log stands: the chain over everything so far, 32 bytes, and the last event's `seq`."""

    chain: bytes
    seq: int


def first_place(run: str, writer: str) -> Place:
    """Where a log stands that has no event yet."""
    return Place(genesis(run, writer), -1)


def genesis(run: str, writer: str) -> bytes:
    """The chain of a writer that has written nothing, 32 bytes."""
    return blake2b(f"eventflow log {FORMAT}\n{run}\n{writer}\n".encode(), digest_size=CHAIN_BYTES).digest()


def advance(chain: bytes, lines: bytes | bytearray) -> bytes:
    """The chain, 32 bytes, after a batch whose event lines are `lines`."""
    digest = blake2b(chain, digest_size=CHAIN_BYTES)
    digest.update(lines)
    return digest.digest()


def encode_events(events: Sequence[Event[Payload]]) -> bytes:
    """The event lines of a batch."""
    return _encoder.encode_lines(events)


def encode_brief(events: Sequence[Event[Payload]]) -> bytes:
    """The event lines of payloads that were promised to be brief, or whose events passed `require_line`.

    Should a text hold what UTF-8 has no bytes for, a lone surrogate, it is written as an escape: the event counts.

    Raises:
        TypeError: a payload holds something that JSON cannot, against its promise.
    """
    try:
        return encode_events(events)
    except UnicodeEncodeError:
        return encode_events([msgspec.structs.replace(event, data=_escaped(event.data)) for event in events])


def _escaped(payload: Payload) -> Payload:
    texts = {name: text for name, text in msgspec.structs.asdict(payload).items() if isinstance(text, str)}
    plain = {name: text.encode(errors="backslashreplace").decode() for name, text in texts.items()}
    return msgspec.structs.replace(payload, **plain)


def require_line(event: Event[Payload]) -> None:
    """Nothing, if the event can be a line.

    Raises:
        EventTooLarge: it is longer than `LINE_BYTES_MAX`.
        TypeError: the payload holds something that JSON cannot.
    """
    line = _encoder.encode(event)
    if b"\n" in line:
        raise TypeError(LINE_BREAK)
    require_room(event, line)


def require_room(event: Event[Payload], line: bytes) -> None:
    """Nothing, if the event's line, here without its newline, is no longer than a line may be.

    Raises:
        EventTooLarge: it is longer than `LINE_BYTES_MAX`.
    """
    if len(line) >= LINE_BYTES_MAX:
        raise EventTooLarge(event.type, len(line) + 1, LINE_BYTES_MAX)


def encode_commit(count: int, seq: int, chain: bytes) -> bytes:
    """The commit line that ends a batch."""
    return _encoder.encode(_CommitLine(Commit(FORMAT, count, seq, chain.hex()))) + b"\n"


def decode_event(line: bytes) -> StoredEvent:
    """The event of a line.

    Raises:
        ValueError: the line is not an event, as msgspec sees it, or not UTF-8.
    """
    return _event_decoder.decode(line)


def decode_events(lines: bytes) -> list[StoredEvent]:
    """The events of some lines, newlines included.

    Raises:
        ValueError: a line is not an event, as msgspec sees it, or not UTF-8.
    """
    return _event_decoder.decode_lines(lines)


def decode_commit(line: bytes, path: str) -> Commit:
    """The commit of a commit line of the segment `path`.

    Raises:
        NewerFormat: it was written by a newer eventflow.
        ValueError: the line is not a commit, as msgspec sees it, or not UTF-8.
    """
    commit = _commit_decoder.decode(line).commit
    if commit.format > FORMAT:
        raise NewerFormat(path, commit.format, FORMAT)
    return commit


def batch_bounds(data: bytes | bytearray, size: int) -> Iterator[tuple[int, int]]:
    """Where the commit line of each whole batch of `data[:size]`, which begins with one, begins and where it ends."""
    start = 0
    while True:
        is_empty = data.startswith(COMMIT_PREFIX, start, size)
        commit = start if is_empty else data.find(_COMMIT_START, start, size) + 1
        end = data.find(b"\n", commit, size) + 1
        if end == 0 or not (is_empty or commit):
            return
        yield commit, end
        start = end


def type_is(line: bytes, prefix: bytes) -> bool:
    """Whether an event line's type begins with `prefix`, without decoding the line."""
    return line.startswith(prefix, TYPE_OFFSET)
