"""What one attempt is to do, and how it may turn out well."""

import msgspec

from eventflow.http.ranges import Partial, range_headers
from eventflow.http.url import Destination
from eventflow.part import Part
from eventflow.vocabulary import PartKept

REDIRECTS = frozenset((301, 302, 303, 307, 308))


class Arrived(msgspec.Struct, frozen=True):
    """The body is there: in memory, or in a part."""

    body: bytes | None
    part: Part | None
    bytes: int
    has_size: bool
    is_resumed: bool
    decoded: str | None


class Redirected(msgspec.Struct, frozen=True):
    """The answer leads elsewhere. `location` may hold secrets."""

    status: int
    location: str


class EnoughError(Exception):
    """The rest of a body that nobody wants is not worth reading."""


class Errand(msgspec.Struct, frozen=True):
    """What one try is to do.

    Attributes:
        destination, target: where to, and what for, secrets included.
        shown: the redacted URL.
        name: the final name of the file.
        kept: what an earlier attempt left.
        authorization: the header of that name, None for what the URL says.
        deadline_ns: when it must have ended, by the monotonic clock.
    """

    destination: Destination
    target: str
    shown: str
    name: str
    kept: PartKept | None
    authorization: str | None
    deadline_ns: int | None

    def request(self, headers: bytes, partial: Partial | None) -> bytes:
        """The request as it is sent. `headers` are those before the errand's own, `partial` what is there."""
        lines = [f"GET {self.target} HTTP/1.1\r\n".encode("ascii"), headers]
        authorization = self.authorization or self.destination.authorization
        if authorization is not None:
            lines.append(f"Authorization: {authorization}\r\n".encode("latin-1"))
        if partial is not None:
            lines += [name + b": " + value + b"\r\n" for name, value in range_headers(partial)]
        lines.append(b"\r\n")
        return b"".join(lines)
