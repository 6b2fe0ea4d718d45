"""robots.txt, for those who ask for it (RFC 9309). Pure: whoever has fetched the file says what came.

The file is written by a stranger and read before each request, so reading it and matching are linear: a rule is not
turned into a regular expression, since a few `*` would make one take for ever.

Two texts match if their octets do. What is not ASCII is compared percent-encoded, what is unreserved is compared
decoded, and reserved characters as they are written: `%2F` is not `/` (RFC 9309 §2.2.2, RFC 3986 §6.2.2).

Invariants:
    the longest rule that matches decides, and of two as long the one that allows;
    a robots.txt that is not there allows everything, one that cannot be had allows nothing but itself.
"""

import re
from collections.abc import Iterator

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


class Robots:
    """What an origin asks of robots.

    Args:
        status: of the response, after redirects; 0: there was none. 2xx: `body` counts; 3xx (they did not end) and 4xx:
            there is no robots.txt, so everything is allowed; 5xx and 0: nothing is (RFC 9309 §2.3.1).
        body: what it said, of which the whole lines of the first 500 KiB count. Any bytes are read without an error.
    """

    __slots__ = ("_answer", "_delays", "_groups")

    def __init__(self, status: int, body: bytes = b"") -> None:
        self._groups: dict[str, list[_Rule]] = {}
        self._delays: dict[str, float] = {}
        self._answer = None if 200 <= status < 300 else 300 <= status < 500
        if self._answer is None:
            self._read(body)
            for rules in self._groups.values():
                rules.sort(key=lambda rule: (-rule.length, not rule.allows))

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
        rules = self._groups.get(self._group(user_agent), ())
        return next((rule.allows for rule in rules if rule.matches(target)), True)

    def crawl_delay(self, user_agent: str) -> float | None:
        """The seconds to leave between two requests, at most a minute. Not in the RFC, but common."""
        return self._delays.get(self._group(user_agent))

    def _group(self, user_agent: str) -> str:
        """The name of the group that is for this robot; groups of one name were made one (RFC 9309 §2.2.1)."""
        token = _TOKEN.match(user_agent)
        name = token[0].lower() if token else ""
        return name if name in self._groups else "*"

    def _read(self, body: bytes) -> None:
        names: list[str] = []
        is_open = False  # a rule of the group has come: the next user-agent begins another
        for key, value in _fields(body):
            if key == "user-agent":
                names = [] if is_open else names
                is_open = False
                token = _TOKEN.match(value)
                names.append(token[0].lower() if token else "")
                self._groups.setdefault(names[-1], [])
            elif key in ("allow", "disallow"):
                is_open = True
                for name in names if value else ():
                    self._groups[name].append(_Rule(value, key == "allow"))
            elif key == "crawl-delay" and _DELAY.fullmatch(value):
                # It ends no list of names: what is not in the RFC must not change what is (§2.2.4).
                for name in names:
                    self._delays[name] = max(self._delays.get(name, 0.0), min(CRAWL_DELAY_MAX_S, float(value)))


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
