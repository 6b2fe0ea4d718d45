"""Where a redirect leads, and whether to go there (RFC 9110 §15.4). Pure.

Between the attempt, which got a status and a Location, and the next attempt. Location is written by a stranger, and may
try to lead to a place that we read otherwise than whoever checks it: so it is taken apart by the grammar of RFC 3986,
and what the grammar does not have is encoded in a path or query, and refused in a host.

Invariants:
    http and https only, and never from https to http;
    credentials go to the origin that they were given for and to no other, and those of a Location to none;
    what comes out is an ASCII URL without blanks, control characters and credentials;
    a chain of redirects ends: at the limit, or when a URL comes again;
    no error holds a secret of either URL.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote

import msgspec

from eventflow.errors import BadResponse, name_of
from eventflow.http.url import split_url
from eventflow.redaction import redact_url

REDIRECTS_MAX = 20
URL_CHARACTERS_MAX = 64 << 10
FOLLOWED = frozenset((301, 302, 303, 307, 308))  # not 300 (a choice), 304 (no redirect), 305 (a proxy: deprecated)

# RFC 3986 appendix B, with names. It fits any text without a line end.
_PARTS = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLACE = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\.?\Z){_LABEL}(?:\.{_LABEL})*\.?")
# Resolvers and browsers take `1`, `0x7f.1` and `127.1` for addresses, each in its own way; only four numbers are clear.
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
# Reserved and unreserved characters and `%` stay; blanks, quotes, backslashes and what is not ASCII are encoded.
_KEPT = "!#$%&'()*+,/:;=?@[]~"


class TooManyRedirects(BadResponse):
    """One redirect after the other, more than the limit, or in a circle."""


class BadRedirect(BadResponse):
    """A redirect that is not followed: to another scheme, from https to http, or to something that is no URL."""

    fix = "open the URL in a browser and see where it leads"


class Redirect(msgspec.Struct, frozen=True):
    """Where to go on, secrets included, and whether credentials may come along. The fragment is never sent."""

    url: str
    same_origin: bool


def follow(url: str, location: str) -> Redirect:
    """Where `location`, as the response to `url` gave it, leads.

    It is relative to `url` (RFC 3986 §5.2), has its fragment if it has none of its own (RFC 9110 §10.2.2), and each of
    its characters is an octet, as header values are read.

    Raises:
        BadRedirect: not to a place where this goes. It names the redacted `url`.

    >>> follow("https://me:pw@example.org/a/b?c", "../d e").url
    'https://example.org/d%20e'
    """
    shown = redact_url(url)
    text = location.strip(" \t")
    if len(text) > URL_CHARACTERS_MAX or _CONTROL.search(text):
        raise BadRedirect(shown, "the redirect holds a control character, or is too long")
    old, new = _split(url), _split(text)
    scheme = (new["scheme"] or old["scheme"] or "").lower()
    if scheme not in ("http", "https"):
        raise BadRedirect(shown, f"the redirect leads to {name_of(scheme[:20])}, and only http and https are followed")
    if scheme == "http" and (old["scheme"] or "").lower() == "https":
        raise BadRedirect(shown, "the redirect leads from https to http")
    if new["scheme"] is not None and new["authority"] is None:
        raise BadRedirect(shown, "the redirect leads to something that is no URL")
    authority = new["authority"] if new["authority"] is not None else old["authority"] or ""
    path, query = _resolve(old, new)
    fragment = new["fragment"] if new["fragment"] is not None else old["fragment"]
    there = f"{scheme}://{_place(authority, shown)}{_encoded(path)}"
    there += f"?{_encoded(query)}" if query is not None else ""
    there += f"#{_encoded(fragment)}" if fragment is not None else ""
    if len(there) > URL_CHARACTERS_MAX:
        raise BadRedirect(shown, "the redirect holds a control character, or is too long")
    return Redirect(there, split_url(there)[0].origin == split_url(url)[0].origin)


class Trail:
    """The redirects of one request so far. `follow` gives the origin of a step in respect to the step before it.

    Args:
        url: where it began.
    """

    __slots__ = ("_seen", "_url")

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen = {_identity(url)}

    def follow(self, status: int, location: str | None) -> Redirect:
        """Take the next step.

        Raises:
            BadRedirect: it leads to where this does not go, or nowhere, or the status is none that is followed.
            TooManyRedirects: it leads in a circle, or there were too many.
        """
        if status not in FOLLOWED or location is None:
            what = f"the status {status} is not followed" if location is not None else "the redirect says not where to"
            raise BadRedirect(redact_url(self._url), what)
        redirect = follow(self._url, location)
        identity = _identity(redirect.url)
        if identity in self._seen:
            raise TooManyRedirects(redact_url(self._url), "the redirects lead in a circle")
        if len(self._seen) > REDIRECTS_MAX:
            raise TooManyRedirects(redact_url(self._url), f"there are more than {REDIRECTS_MAX} redirects")
        self._seen.add(identity)
        self._url = redirect.url
        return redirect


def _identity(url: str) -> tuple[object, str]:
    """What a server sees of a URL, but for the credentials."""
    destination, target = split_url(url)
    return destination.origin, target


def _split(text: str) -> re.Match[str]:
    parts = _PARTS.fullmatch(text)
    assert parts is not None
    return parts


def _resolve(old: re.Match[str], new: re.Match[str]) -> tuple[str, str | None]:
    """Path and query of a reference (RFC 3986 §5.2.2), where the old URL has a host."""
    path: str = new["path"]
    if new["authority"] is None and not path:
        return old["path"] or "/", new["query"] if new["query"] is not None else old["query"]
    if new["authority"] is None and not path.startswith("/"):
        path = (old["path"].rpartition("/")[0] or "") + "/" + path
    return _without_dots(path) or "/", new["query"]


def _without_dots(path: str) -> str:
    """RFC 3986 §5.2.4 for a path that is empty or begins with a slash."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in (".", ".."):
        kept.append("")
    return "".join(f"/{segment}" for segment in kept)


def _encoded(text: str) -> str:
    if text.isascii():
        return quote(text, safe=_KEPT)
    try:
        octets = text.encode("latin-1")
    except UnicodeEncodeError:
        octets = text.encode(errors="replace")  # no header has such characters; a URL of ours is ASCII
    return quote(octets, safe=_KEPT)


def _place(text: str, shown: str) -> str:
    """Host and port of an authority, checked, as DNS and the Host header know them."""
    # Browsers take a backslash for a slash: in `good\@bad` one client would see `good` and another one `bad`.
    parts = _PLACE.fullmatch(text.rpartition("@")[2]) if "\\" not in text else None
    try:
        if parts is None or not (not parts["port"] or 1 <= int(parts["port"]) <= 65535):
            raise AddressValueError
        host = _host(parts["host"])
    except AddressValueError:
        raise BadRedirect(shown, "the redirect leads to something that is no URL") from None
    return f"{host}:{int(parts['port'])}" if parts["port"] else host


def _host(text: str) -> str:
    """Raises AddressValueError where it is no host."""
    if text.startswith("[") and "%" not in text:  # a zone means something on one machine only
        IPv6Address(text[1:-1])
    elif _ENDS_IN_NUMBER.fullmatch(text):
        IPv4Address(text)
    elif not text.isascii():
        return _punycode(text)
    elif not _HOST.fullmatch(text):
        raise AddressValueError
    return text


def _punycode(host: str) -> str:
    import httpx  # for names that are not ASCII only, since it takes a while to load

    try:
        return httpx.URL(f"http://{host.encode('latin-1').decode()}/").raw_host.decode()
    except (httpx.InvalidURL, UnicodeError):
        raise AddressValueError from None
