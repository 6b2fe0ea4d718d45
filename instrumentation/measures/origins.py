"""What the director says of origins: how much each may be asked at once, and whether it is left alone.

Each process has limits of its own, so these are put into the book of whoever said them.
"""

from urllib.parse import urlsplit

import msgspec

from eventflow.event import StoredEvent
from eventflow.origin_events import BreakerClosed, BreakerOpened, LimitChanged
from instrumentation.measures import instruments
from instrumentation.measures.book import Book
from instrumentation.measures.point import Key

_PORTS = {"http": 80, "https": 443}


def limit_changed(book: Book, event: StoredEvent) -> None:
    """So many requests may be in flight now."""
    changed = msgspec.json.decode(event.data, type=LimitChanged)
    book.set(instruments.LIMIT, origin_key(changed.origin), changed.limit)


def breaker_opened(book: Book, event: StoredEvent) -> None:
    """The origin is left alone."""
    key = origin_key(msgspec.json.decode(event.data, type=BreakerOpened).origin)
    book.set(instruments.BREAKER, key, 1)
    book.add(instruments.OPENINGS, key)


def breaker_closed(book: Book, event: StoredEvent) -> None:
    """It answers again."""
    book.set(instruments.BREAKER, origin_key(msgspec.json.decode(event.data, type=BreakerClosed).origin), 0)


def origin_key(origin: str) -> Key:
    """The attributes of an origin; of one that is none, its text as the address.

    >>> origin_key("https://example.org")
    (('server.address', 'example.org'), ('server.port', 443), ('url.scheme', 'https'))
    >>> origin_key("http://[::1]:8080")
    (('server.address', '::1'), ('server.port', 8080), ('url.scheme', 'http'))
    """
    try:
        parts = urlsplit(origin)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if host is None:
        return ((instruments.ADDRESS, origin),)
    return (
        (instruments.ADDRESS, host),
        (instruments.PORT, port if port is not None else _PORTS.get(scheme, 0)),
        (instruments.SCHEME, scheme),
    )
