"""Where a redirect leads, and whether to go there (RFC 9110 §15.4).

Invariants:
    http and https only, and never from https to http;
    credentials go to the origin that they were given for and to no other;
    a chain of redirects ends: at the limit, or when a URL comes again.
"""

import re
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from eventflow.errors import BadResponse
from eventflow.http.url import split_url
from eventflow.redaction import redact_url

REDIRECTS_MAX = 20
URL_CHARACTERS_MAX = 64 << 10
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?")


class TooManyRedirects(BadResponse):
    """One redirect after the other, more than the limit, or in a circle."""


class BadRedirect(BadResponse):
    """A redirect that is not followed: to another scheme, from https to http, or to something that is no URL."""

    fix = "open the URL in a browser and see where it leads"


class Redirect(msgspec.Struct, frozen=True):
    """Where to go on, secrets included, and whether credentials may come along."""

    url: str
    same_origin: bool


def follow(url: str, location: str) -> Redirect:
    """Where `location`, as the response to `url` gave it, leads.

    Raises:
        BadRedirect: not to a place where this goes.
    """
    shown = redact_url(url)
    location = location.encode("latin-1", errors="replace").decode(errors="replace").strip(" \t")
    if _CONTROL.search(location) or len(location) > URL_CHARACTERS_MAX:
        raise BadRedirect(shown, "the redirect holds a blank or a control character, or is too long")
    location = _NOT_ASCII.sub(lambda found: quote(found[0]), location)
    try:
        parts = urlsplit(urljoin(url, location))
        port = parts.port
    except ValueError:
        raise BadRedirect(shown, "the redirect leads to something that is no URL") from None
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https"):
        raise BadRedirect(shown, f"the redirect leads to {scheme[:20]}: and only http and https are followed")
    if scheme == "http" and url.lower().startswith("https:"):
        raise BadRedirect(shown, "the redirect leads from https to http")
    place = parts.netloc.rpartition("@")[2]  # credentials that a server makes up are not ours
    if not _HOST.fullmatch(place) or port == 0:
        raise BadRedirect(shown, "the redirect leads to something that is no URL")
    target = parts.path or "/"
    there = f"{scheme}://{place}{target}" + (f"?{parts.query}" if parts.query else "")
    return Redirect(there, split_url(there)[0].origin == split_url(url)[0].origin)


class Trail:
    """The redirects of one request so far.

    Args:
        url: where it began.
    """

    __slots__ = ("_seen", "_url")

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen = {url}

    def follow(self, _status: int, location: str) -> Redirect:
        """Take the next step.

        Raises:
            BadRedirect: it leads to where this does not go.
            TooManyRedirects: it leads in a circle, or there were too many.
        """
        redirect = follow(self._url, location)
        if redirect.url in self._seen:
            raise TooManyRedirects(redact_url(self._url), "the redirects lead in a circle")
        if len(self._seen) > REDIRECTS_MAX:
            raise TooManyRedirects(redact_url(self._url), f"there are more than {REDIRECTS_MAX} redirects")
        self._seen.add(redirect.url)
        self._url = redirect.url
        return redirect
