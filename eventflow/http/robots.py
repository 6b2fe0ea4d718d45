"""robots.txt, for those who ask for it (RFC 9309).

Invariants:
    the longest rule that matches decides, and of two as long the one that allows;
    a robots.txt that is not there allows everything, one that cannot be had allows nothing.
"""

import re
from functools import lru_cache
from urllib.parse import unquote

from eventflow.errors import RequestError
from eventflow.http.url import split_url

BYTES_MAX = 500 << 10
_TOKEN = re.compile(r"[A-Za-z_-]+")
_DELAY_MAX_SECONDS = 60.0
_Rule = tuple[bool, str]


class RobotsDisallow(RequestError):
    """The origin's robots.txt asks not to fetch it, and --robots was given."""

    fix = "leave it, or fetch without --robots"


class Robots:
    """What an origin asks of robots.

    Args:
        status: of the response; 0: there was none.
        body: what it said, of which 500 KiB count.
    """

    def __init__(self, status: int, body: bytes = b"") -> None:
        self._groups: dict[str, list[_Rule]] = {}
        self._delays: dict[str, float] = {}
        self._allows_all = 400 <= status < 500
        self._allows_none = not self._allows_all and not 200 <= status < 300
        if not self._allows_all and not self._allows_none:
            self._read(body[:BYTES_MAX].decode(errors="replace"))

    def allows(self, user_agent: str, url: str) -> bool:
        """Whether a robot may fetch it."""
        target = unquote(split_url(url)[1])
        if self._allows_all or self._allows_none or target == "/robots.txt":
            return self._allows_all or target == "/robots.txt"
        rules = self._groups.get(self._group(user_agent), [])
        found = [(len(path), allow) for allow, path in rules if _pattern(path).match(target)]
        return max(found)[1] if found else True

    def crawl_delay(self, user_agent: str) -> float | None:
        """The seconds to leave between two requests, at most a minute. Not in the RFC, but common."""
        return self._delays.get(self._group(user_agent))

    def _group(self, user_agent: str) -> str:
        token = _TOKEN.match(user_agent)
        name = token[0].lower() if token else ""
        return name if name in self._groups else "*"

    def _read(self, text: str) -> None:
        names: list[str] = []
        is_open = False  # a line of the group has come: the next user-agent begins another
        for line in text.removeprefix("\ufeff").splitlines():
            key, _, value = line.partition("#")[0].partition(":")
            key, value = key.strip().lower(), value.strip()
            if key == "user-agent":
                names = [] if is_open else names
                is_open = False
                token = _TOKEN.match(value)
                names.append("*" if value == "*" else token[0].lower() if token else "")
                self._groups.setdefault(names[-1], [])
            elif key in ("allow", "disallow", "crawl-delay"):
                is_open = True
                self._add(names, key, value)

    def _add(self, names: list[str], key: str, value: str) -> None:
        for name in names:
            if key != "crawl-delay":
                if value:
                    self._groups[name].append((key == "allow", unquote(value)))
            elif re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value):
                self._delays[name] = min(_DELAY_MAX_SECONDS, float(value))


@lru_cache(maxsize=4096)
def _pattern(path: str) -> re.Pattern[str]:
    """A rule's path: `*` is anything, `$` at its end is the end."""
    end = r"\Z" if path.endswith("$") else ""
    return re.compile(
        ".*".join(re.escape(piece) for piece in re.split(r"\*+", path.removesuffix("$"))) + end, re.DOTALL
    )
