"""What one attempt is to do, and how it may turn out well."""

import msgspec

from eventflow.folder import Part
from eventflow.http.url import Destination
from eventflow.vocabulary import PartKept


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
