"""What is looked at of an event line: the envelope's few fields that matter, and of the payload as little as will do.

Invariants:
    a line that is not an event, or whose payload is not what its type says, raises ValueError.
"""

from collections import Counter
from typing import TypeVar

import msgspec

from eventflow.progress import REQUEST_PREFIX
from eventflow.vocabulary import AttemptStarted

KINDS_MAX = 50
_KIND_SIZE_MAX = 100
_PREFIX_SIZE = len(REQUEST_PREFIX)
StructT = TypeVar("StructT", bound=msgspec.Struct)


class Line(msgspec.Struct, gc=False):
    """An event, as far as it is looked at."""

    time: int
    stream: str
    version: int
    writer: str
    data: msgspec.Raw


class _Queued(msgspec.Struct, gc=False):
    url: str


class _Response(msgspec.Struct, gc=False):
    content_length: int | None = None


class _Body(msgspec.Struct, gc=False):
    bytes: int


decode_line = msgspec.json.Decoder(Line).decode
decode_queued = msgspec.json.Decoder(_Queued).decode
decode_started = msgspec.json.Decoder(AttemptStarted).decode
decode_response = msgspec.json.Decoder(_Response).decode
decode_body = msgspec.json.Decoder(_Body).decode


def payload_of(kind: type[StructT], line: Line) -> StructT:
    """The payload of an event whose type comes seldom."""
    return msgspec.json.decode(line.data, type=kind)


def request_of(stream: str) -> int:
    """The number of the request whose stream it is, -1 for another stream.

    >>> request_of("request-17"), request_of("run")
    (17, -1)
    """
    if stream.startswith(REQUEST_PREFIX):
        number = stream[_PREFIX_SIZE:]
        if number.isdecimal():
            return int(number)
    return -1


def count_kind(counts: Counter[str], kind: str) -> None:
    """One more of a kind. Programs of users may name errors as they like, so the number of kinds is bounded."""
    kind = kind[:_KIND_SIZE_MAX]
    counts[kind if kind in counts or len(counts) < KINDS_MAX else "other"] += 1
