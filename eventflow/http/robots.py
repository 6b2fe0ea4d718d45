"""robots.txt, for those who ask for it (RFC 9309). Pure: whoever has fetched the file says what came.

The file is written by a stranger and asked before each try, so what that can cost is bounded. It is read once; many
names share one list of rules. No rule is made a regular expression, since a few `*` would make one take for ever. The
rules that begin as a URL does are found at once; of those, only the ones with a `*` are tried, until one matches that
no other outdoes. For one robot they count until there are `STARS_MAX` `*` in them, and what is between two `*` must be
in the first `COMPARED_MAX` octets of the URL's path and query: that is `STARS_MAX` searches of `COMPARED_MAX` octets at
most, about 10 ms.

Two texts match if their octets do. What is not ASCII is compared percent-encoded, what is unreserved is compared
decoded, and reserved characters as they are written: `%2F` is not `/` (RFC 9309 §2.2.2, RFC 3986 §6.2.2).

Invariants:
    the longest rule that matches decides, and of two as long the one that allows (lengths of what is compared);
    a robots.txt that is not there allows everything, one that cannot be had allows nothing but itself.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from eventflow.errors import RequestError
from eventflow.http.url import split_url
from eventflow.statuses import said

BYTES_MAX = 500 << 10
CRAWL_DELAY_MAX_S = 60.0
STARS_MAX = 1024
COMPARED_MAX = 4096

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2; a name ends at the `/` before its version
_LINE_END = re.compile(r"\r\n?|\n")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|[^\x21-\x7e]")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_NO_RULE = (-1, True)  # a rank that any rule has more of
_DELAY = re.compile(r"[0-9]{1,6}(?:\.[0-9]{0,6})?")


class RobotsDisallow(RequestError):
    """The origin's robots.txt asks not to fetch it, and --robots was given."""

    fix = "leave it, or fetch without --robots"


class RobotsUnavailable(RequestError):
    """The origin's robots.txt could not be had, which means that nothing may be fetched, and --robots was given."""

    fix = "resume later, or fetch without --robots"


class _Rule:
    """One path of robots.txt: what it begins with, what follows after each `*`, whether it says where the end is.

    Attributes:
        rank: its length and whether it allows: the greatest of those that match decides.
        stars: how many searches it may take.
    """

    __slots__ = ("first", "is_anchored", "rank", "rest", "stars")

    def __init__(self, path: str, allows: bool) -> None:
        path = _normal(path)
        self.is_anchored = path.endswith("$")
        # A `$` that is not the last character stands for itself, as `%24` does.
        text = path.removesuffix("$").replace("$", "%24")
        self.rank = len(text) + self.is_anchored, allows
        self.first, *rest = text.split("*")
        if rest:
            *middle, last = rest
            rest = [*filter(None, middle), last]  # `**` is `*`
        if rest == [""] and not self.is_anchored:
            rest = []  # `/a*` is `/a`
        self.rest, self.stars = rest, len(rest)

    def matches(self, target: str) -> bool:
        """Whether a target that begins with `first` matches.

        Take for each `*` as little as possible: if that does not match, nothing does.
        """
        *middle, last = self.rest
        place = len(self.first)
        for piece in middle:
            found = target.find(piece, place, COMPARED_MAX)
            if found < 0:
                return False
            place = found + len(piece)
        if self.is_anchored:
            return len(target) - len(last) >= place and target.endswith(last)
        return target.find(last, place, COMPARED_MAX) >= 0


class _Beginning:
    """What begins with one text: the best rule that ends there, and those that go on behind a `*`, the best first.

    Attributes:
        rank: of the best rule without `*` that ends here or earlier.
        above: the longest other beginning that this one begins with.
    """

    __slots__ = ("above", "rank", "stars", "text")

    def __init__(self, text: str) -> None:
        self.text, self.rank = text, _NO_RULE
        self.above: _Beginning | None = None
        self.stars: list[_Rule] = []


class _Rules:
    """The rules of one robot, so that a target finds its own.

    Args:
        rules: in the order of the file.
    """

    __slots__ = ("_beginnings", "_exact", "_texts")

    def __init__(self, rules: Iterable[_Rule]) -> None:
        self._exact: dict[str, tuple[int, bool]] = {}
        found: dict[str, _Beginning] = {}
        stars = 0
        for rule in rules:
            stars += rule.stars
            if not rule.stars and rule.is_anchored:
                self._exact[rule.first] = max(rule.rank, self._exact.get(rule.first, _NO_RULE))
                continue
            if rule.stars and stars > STARS_MAX:
                continue
            beginning = found.get(rule.first) or found.setdefault(rule.first, _Beginning(rule.first))
            if rule.stars:
                beginning.stars.append(rule)
            else:
                beginning.rank = max(rule.rank, beginning.rank)
        self._texts = sorted(found)
        self._beginnings = [found[text] for text in self._texts]
        self._nest()

    def allows(self, target: str) -> bool:
        """What the best rule that matches says; without one, yes."""
        best = self._exact.get(target, _NO_RULE)
        place = bisect_right(self._texts, target)
        beginning = self._beginnings[place - 1] if place else None
        while beginning is not None and not target.startswith(beginning.text):
            beginning = beginning.above
        if beginning is not None:
            best = max(best, beginning.rank)
        while beginning is not None:
            for rule in beginning.stars:
                if rule.rank <= best:
                    break
                if rule.matches(target):
                    best = rule.rank
                    break
            beginning = beginning.above
        return best[1]

    def _nest(self) -> None:
        """Sorted, a text comes behind all that it begins with, and before all others that do not begin with it."""
        open_: list[_Beginning] = []
        for beginning in self._beginnings:
            beginning.stars.sort(key=lambda rule: rule.rank, reverse=True)
            while open_ and not beginning.text.startswith(open_[-1].text):
                open_.pop()
            if open_:
                beginning.above = open_[-1]
                beginning.rank = max(beginning.rank, open_[-1].rank)
            open_.append(beginning)


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


_Merged = tuple[_Rules, float | None]


class Robots:
    """What an origin asks of robots.

    Args:
        status: of the response, after redirects; 0: there was none. 2xx: `body` counts; 3xx (they did not end) and 4xx:
            there is no robots.txt, so everything is allowed; 5xx and 0: nothing is (RFC 9309 §2.3.1).
        body: what it said, of which the whole lines of the first 500 KiB count. Any bytes are read without an error.
        problem: why there was no answer, in a few words; with a status it follows from that.

    Attributes:
        problem: why it could not be had, None where it could or where there is none.
    """

    __slots__ = ("_answer", "_groups", "_merged", "problem")

    def __init__(self, status: int, body: bytes = b"", problem: str = "no answer") -> None:
        self._groups: dict[str, list[tuple[_Group, int]]] = {}  # and which name of the group it is, from 0
        self._merged: dict[str, _Merged] = {}  # by the names that somebody asked for
        self._answer = None if 200 <= status < 300 else 300 <= status < 500
        self.problem = (said(status) if status else problem) if self._answer is False else None
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
        return self._asked_of(user_agent)[0].allows(target.replace("*", "%2A").replace("$", "%24"))

    def refusal(self, url: str) -> RobotsDisallow | RobotsUnavailable:
        """The error of a request that it does not allow. `url` is redacted."""
        if self.problem is None:
            return RobotsDisallow(url, "robots.txt asks to leave it")
        why = "and then nothing may be fetched (RFC 9309 §2.3.1.4)"
        return RobotsUnavailable(url, f"robots.txt could not be had ({self.problem}), {why}")

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
    """The rules of several groups, and the longest delay."""
    places: dict[_Group, int] = {}
    for group, place in named:
        places.setdefault(group, place)  # it may be named twice in one group; the first has all the delays
    delays = [delay for group, place in places.items() for names, delay in group.delays if names > place]
    return _Rules(rule for group in places for rule in group.rules), max(delays, default=None)


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
