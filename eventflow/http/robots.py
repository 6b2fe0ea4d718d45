"""robots.txt, for those who ask for it (RFC 9309). Pure: whoever has fetched the file says what came.

The file is written by a stranger and read before each request, so reading it and matching are linear: a rule is not
turned into a regular expression, since a few `*` would make one take for ever, and many names share one list of rules.

Two texts match if their octets do. What is not ASCII is compared percent-encoded, what is unreserved is compared
decoded, and reserved characters as they are written: `%2F` is not `/` (RFC 9309 §2.2.2, RFC 3986 §6.2.2).

Invariants:
    the longest rule that matches decides, and of two as long the one that allows;
    a robots.txt that is not there allows everything, one that cannot be had allows nothing but itself.
"""

import re
from collections.abc import Iterable, Iterator

from eventflow.errors import RequestError
from eventflow.http.url import split_url

BYTES_MAX = 500 << 10
CRAWL_DELAY_MAX_S = 60.0

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2; a name ends at the `/` before its version
_LINE_END = re.compile(r"\r\n?|\n")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|[^\x21-\x7e]")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_DELAY = re.compile(r"[0-9]{1,6}(?:\.[0-9]{0,6})?")


class RobotsDisallow(RequestError):
    """The origin's robots.txt asks not to fetch it, and --robots was given."""

    fix = "leave it, or fetch without --robots"


class _Rule:
    """One path of robots.txt: what it begins with, what follows after each `*`, whether it says where the end is."""

    __slots__ = ("allows", "first", "is_anchored", "length", "rest")

    def __init__(self, path: str, allows: bool) -> None:
        path = _normal(path)
        self.allows, self.length = allows, len(path)
        self.is_anchored = path.endswith("$")
        # A `$` that is not the last character stands for itself, as `%24` does.
        self.first, *self.rest = path.removesuffix("$").replace("$", "%24").split("*")

    def matches(self, target: str) -> bool:
        """Take for each `*` as little as possible: if that does not match, nothing does."""
        if not target.startswith(self.first):
            return False
        place = len(self.first)
        if not self.rest:
            return not self.is_anchored or place == len(target)
        *middle, last = self.rest
        for piece in middle:
            found = target.find(piece, place)
            if found < 0:
                return False
            place = found + len(piece)
        if self.is_anchored:
            return len(target) - len(last) >= place and target.endswith(last)
        return target.find(last, place) >= 0


class _Group:
    """What is asked of the robots that were named together.

    A delay is for the names above it only, of which there were `place` at that time. It ends no list of names: what is
    not in the RFC must not change what is (RFC 9309 §2.2.4).
    """

    __slots__ = ("delays", "names", "rules")

    def __init__(self) -> None:
        self.names = 0
        self.rules: list[_Rule] = []
        self.delays: list[tuple[int, float]] = []


_Merged = tuple[list[_Rule], float | None]


class Robots:
    """What an origin asks of robots.

    Args:
        status: of the response, after redirects; 0: there was none. 2xx: `body` counts; 3xx (they did not end) and 4xx:
            there is no robots.txt, so everything is allowed; 5xx and 0: nothing is (RFC 9309 §2.3.1).
        body: what it said, of which the whole lines of the first 500 KiB count. Any bytes are read without an error.
    """

    __slots__ = ("_answer", "_groups", "_merged")

    def __init__(self, status: int, body: bytes = b"") -> None:
        self._groups: dict[str, list[tuple[_Group, int]]] = {}  # and which name of the group it is, from 0
        self._merged: dict[str, _Merged] = {}  # by the names that somebody asked for
        self._answer = None if 200 <= status < 300 else 300 <= status < 500
        if self._answer is None:
            self._read(body)

    def allows(self, user_agent: str, url: str) -> bool:
        r"""Whether the robot of that User-Agent header may fetch an ASCII URL with a host.

        >>> Robots(200, b"User-agent: *\nDisallow: /private/").allows("eventflow/1", "http://example.org/private/x")
        False
        """
        target = _normal(split_url(url)[1])
        if target == "/robots.txt":
            return True
        if self._answer is not None:
            return self._answer
        target = target.replace("*", "%2A").replace("$", "%24")
        return next((rule.allows for rule in self._asked_of(user_agent)[0] if rule.matches(target)), True)

    def crawl_delay(self, user_agent: str) -> float | None:
        """The seconds to leave between two requests, at most a minute. Not in the RFC, but common."""
        return self._asked_of(user_agent)[1]

    def _asked_of(self, user_agent: str) -> _Merged:
        """What is for this robot: all groups of one name are one (RFC 9309 §2.2.1)."""
        token = _TOKEN.match(user_agent)
        name = token[0].lower() if token else ""
        name = name if name in self._groups else "*"
        merged = self._merged.get(name)
        if merged is None:
            merged = self._merged[name] = _merge(self._groups.get(name, ()))
        return merged

    def _read(self, body: bytes) -> None:
        group = _Group()  # of nobody: rules before the first name are for no one
        is_open = True  # a rule of the group has come: the next user-agent begins another
        for key, value in _fields(body):
            if key == "user-agent":
                group = _Group() if is_open else group
                is_open = False
                token = _TOKEN.match(value)
                self._groups.setdefault(token[0].lower() if token else "", []).append((group, group.names))
                group.names += 1
            elif key in ("allow", "disallow"):
                is_open = True
                if value:
                    group.rules.append(_Rule(value, key == "allow"))
            elif key == "crawl-delay" and _DELAY.fullmatch(value):
                group.delays.append((group.names, min(CRAWL_DELAY_MAX_S, float(value))))


def _merge(named: Iterable[tuple[_Group, int]]) -> _Merged:
    """The rules of several groups, the one that decides first, and the longest delay."""
    places: dict[_Group, int] = {}
    for group, place in named:
        places.setdefault(group, place)  # it may be named twice in one group; the first has all the delays
    rules = [rule for group in places for rule in group.rules]
    rules.sort(key=lambda rule: (-rule.length, not rule.allows))
    delays = [delay for group, place in places.items() for names, delay in group.delays if names > place]
    return rules, max(delays, default=None)


def _fields(body: bytes) -> Iterator[tuple[str, str]]:
    """The lines `key: value`. Each octet is one character, so that what is not UTF-8 is an octet as well."""
    if len(body) > BYTES_MAX:
        kept = body[:BYTES_MAX]
        body = kept[: max(kept.rfind(b"\n"), kept.rfind(b"\r")) + 1]  # half a rule may forbid the whole site
    for line in _LINE_END.split(body.removeprefix(b"\xef\xbb\xbf").decode("latin-1")):
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip(" \t").lower(), value.strip(" \t")


def _normal(text: str) -> str:
    return _ESCAPE.sub(_normal_escape, text)


def _normal_escape(found: re.Match[str]) -> str:
    text = found[0]
    if len(text) == 1:
        return f"%{ord(text):02X}"
    character = chr(int(text[1:], 16))
    return character if _UNRESERVED.fullmatch(character) else text.upper()
