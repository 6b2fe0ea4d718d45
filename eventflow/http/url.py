"""From a URL to whom to ask, and for what."""

import base64
from functools import lru_cache
from urllib.parse import unquote

import msgspec

from eventflow.http.dialing import Origin


class Destination(msgspec.Struct, frozen=True):
    """The part of a URL before its path. `authorization` is the header that its credentials make (RFC 7617)."""

    origin: Origin
    authorization: str | None


def split_url(url: str) -> tuple[Destination, str]:
    """Where a URL leads, and the target to ask for there (RFC 9112 §3.2.1). It is an ASCII URL with a host.

    >>> split_url("http://me:pw@Example.org:8080?q=1#top")[1]
    '/?q=1'
    """
    slash = url.find("/", url.find("://") + 3)
    if slash >= 0 and "?" not in url[:slash] and "#" not in url:
        return _destination(url[:slash]), url[slash:]
    return _split_oddly(url.partition("#")[0])


def _split_oddly(url: str) -> tuple[Destination, str]:
    """Without a path, or with a fragment, which is never sent."""
    begin = url.find("://") + 3
    end = min((place for mark in "/?" if (place := url.find(mark, begin)) >= 0), default=len(url))
    target = url[end:]
    return _destination(url[:end]), target if target.startswith("/") else f"/{target}"


@lru_cache(maxsize=4096)
def _destination(prefix: str) -> Destination:
    scheme, _, authority = prefix.partition("://")
    scheme = scheme.lower()
    login, _, place = authority.rpartition("@")
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdecimal():
        host, port = place.rstrip(":"), ""
    number = int(port) if port else 443 if scheme == "https" else 80
    return Destination(Origin(scheme, host.strip("[]").lower(), number), _basic(login) if login else None)


def _basic(login: str) -> str:
    name, _, password = login.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
