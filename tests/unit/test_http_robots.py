"""robots.txt by RFC 9309."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.http.robots import (
    BYTES_MAX,
    COMPARED_MAX,
    CRAWL_DELAY_MAX_S,
    STARS_MAX,
    Robots,
    RobotsDisallow,
    RobotsUnavailable,
)

ME = "eventflow/1.0 (+https://example.org/)"


def allows(lines: str, path: str, agent: str = ME) -> bool:
    """Whether a robots.txt of these lines lets this robot fetch that path."""
    return Robots(200, lines.encode()).allows(agent, f"http://example.org{path}")


@pytest.mark.parametrize(
    ("status", "allowed"),
    [(0, False), (500, False), (503, False), (599, False), (301, True), (400, True), (404, True), (410, True)],
)
def test_without_a_robots_txt_the_status_decides(status: int, allowed: bool) -> None:
    """4xx: there is none. 5xx or no answer: nothing may be fetched (RFC 9309 §2.3.1). The body does not count."""
    robots = Robots(status, b"User-agent: *\nDisallow: /\nAllow: /a\nCrawl-delay: 3")
    assert robots.allows(ME, "http://example.org/a") is allowed
    assert robots.allows(ME, "http://example.org/robots.txt")
    assert robots.crawl_delay(ME) is None


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        ("Disallow:", "/a", True),
        ("Disallow: /", "/a", False),
        ("Disallow: /", "/robots.txt", True),
        ("Disallow: /fish", "/fish.html", False),
        ("Disallow: /fish", "/Fish", True),
        ("Disallow: /fish", "/catfish", True),
        ("Disallow: fish", "/fish", True),
        ("Disallow: /fish/", "/fish", True),
        ("Disallow: /*.php", "/a/b.php?c", False),
        ("Disallow: /*.php$", "/a/b.php", False),
        ("Disallow: /*.php$", "/a/b.php?c", True),
        ("Disallow: /*.php$", "/a.php.php", False),
        ("Disallow: /fish*.php", "/fishheads/catfish.php?a", False),
        ("Disallow: /fish*.php", "/Fish.PHP", True),
        ("Disallow: *", "/", False),
        ("Disallow: *b", "/ab", False),
        ("Disallow: /**a", "/xa", False),
        ("Disallow: /a$", "/a", False),
        ("Disallow: /a$", "/ab", True),
        ("Disallow: /a*$", "/ab", False),
        ("Disallow: /ab*b$", "/ab", True),
        ("Disallow: /a*ab$", "/ab", True),
        ("Disallow: /a$b", "/a$b", False),
        ("Disallow: /a$b", "/a", True),
        ("Disallow: /path/file-with-a-%2A.html", "/path/file-with-a-*.html", False),
        ("Disallow: /path/file-with-a-%2A.html", "/path/file-with-a-x.html", True),
        ("Disallow: /path/foo-%24", "/path/foo-$", False),
        ("Disallow: /path/foo-%24", "/path/foo-", True),
        ("Disallow: /foo/bar/ツ", "/foo/bar/%E3%83%84", False),
        ("Disallow: /foo/bar/%e3%83%84", "/foo/bar/%E3%83%84", False),
        ("Disallow: /foo/bar/%62%61%7A", "/foo/bar/baz", False),
        ("Disallow: /foo/bar/baz", "/foo/bar/%62%61%7a", False),
        ("Disallow: /a%2Fb", "/a%2fb", False),
        ("Disallow: /a%2Fb", "/a/b", True),
        ("Disallow: /a?b=https://c", "/a?b=https://c", False),
        ("Disallow: /*http://", "/go?to=http://c", False),
        ("Disallow: /a b", "/a%20b", False),
        ("Allow: /p\nDisallow: /", "/page", True),
        ("Disallow: /\nAllow: /p", "/page", True),
        ("Allow: /folder\nDisallow: /folder", "/folder/page", True),
        ("Allow: /page\nDisallow: /*.htm", "/page.htm", False),
        ("Allow: /page\nDisallow: /*.ph", "/page.php5", True),
        ("Allow: /$\nDisallow: /", "/", True),
        ("Allow: /$\nDisallow: /", "/page.htm", False),
        ("Allow: /example/page/\nDisallow: /example/page/disallowed.gif", "/example/page/disallowed.gif", False),
        ("disALLOW : /a # why", "/a", False),
        ("Disallow /a", "/a", True),
        ("Sitemap: /a\nNoindex: /a", "/a", True),
    ],
)
def test_the_longest_rule_that_matches_decides(rules: str, path: str, allowed: bool) -> None:
    """Of two as long the one that allows. `*` and `$`; octets compared as §2.2.2 says. Most cases are the RFC's."""
    assert allows(f"User-agent: *\n{rules}", path) is allowed


@pytest.mark.parametrize(
    ("lines", "agent", "allowed"),
    [
        ("User-agent: *\nDisallow: /", ME, False),
        ("User-agent: eventflow\nDisallow: /", ME, False),
        ("User-agent: EventFlow/2.0\nDisallow: /", ME, False),
        ("User-agent: event\nDisallow: /", ME, True),
        ("User-agent: eventflow-images\nDisallow: /", ME, True),
        ("User-agent: other\nDisallow: /", ME, True),
        ("User-agent: MJ12bot\nDisallow: /", "MJ12bot/v1.4.8", False),
        ("User-agent: MJ\nDisallow: /", "MJ12bot/v1.4.8", True),
        ("User-agent: *bot\nDisallow: /", "robot", True),
        ("User-agent: *\nDisallow: /\n\nUser-agent: eventflow\nDisallow: /b", ME, True),
        ("User-agent: *\nDisallow: /\n\nUser-agent: eventflow\nDisallow:", ME, True),
        ("User-agent: *\nDisallow: /\n\nUser-agent: eventflow\n", ME, True),
        ("User-agent: a\nUser-agent: eventflow\nDisallow: /", ME, False),
        ("User-agent: eventflow\nSitemap: /s\nUser-agent: b\nDisallow: /", ME, False),
        ("User-agent: eventflow\nCrawl-delay: 1\nUser-agent: b\nDisallow: /", ME, False),
        ("User-agent: eventflow\nAllow: /x\nUser-agent: b\nDisallow: /", ME, True),
        ("User-agent: eventflow\nDisallow: /b\nUser-agent: x\nUser-agent: EVENTFLOW\nDisallow: /a", ME, False),
        ("Disallow: /\nUser-agent: *\nDisallow: /b", ME, True),
        ("User-agent:\nDisallow: /", ME, True),
        ("User-agent: *\nDisallow: /", "", False),
        ("\ufeffUser-agent: *\rDisallow: /\r", ME, False),
        ("User-agent: *\r\nDisallow: /x\x0bDisallow: /\r\n", ME, True),
        ("<html><body>Not found: really</body></html>", ME, True),
        ("", ME, True),
    ],
)
def test_the_group_of_the_product_token_counts(lines: str, agent: str, allowed: bool) -> None:
    """Compared without case, groups of one name merged, `*` for who has none, other records ignored (RFC 9309 §2.2)."""
    assert allows(lines, "/a", agent) is allowed


@pytest.mark.parametrize(
    ("lines", "delay"),
    [
        ("User-agent: *\nCrawl-delay: 2.5", 2.5),
        ("User-agent: *\nCrawl-delay: 10\n\nUser-agent: eventflow\nCrawl-delay: 1", 1.0),
        ("User-agent: *\nCrawl-delay: 10\n\nUser-agent: eventflow\nDisallow: /b", None),
        ("User-agent: eventflow\nCrawl-delay: 3\n\nUser-agent: eventflow\nCrawl-delay: 2", 3.0),
        ("User-agent: *\nCrawl-delay: 86400", CRAWL_DELAY_MAX_S),
        ("User-agent: *\nCrawl-delay: -1", None),
        ("User-agent: *\nCrawl-delay: nan", None),
        ("User-agent: *\nCrawl-delay: 9" + "9" * 400, None),
        ("Crawl-delay: 5", None),
    ],
)
def test_a_crawl_delay_is_heeded_up_to_a_minute(lines: str, delay: float | None) -> None:
    """An extension. What is no number is no delay, and a site cannot stop a run with one."""
    assert Robots(200, lines.encode()).crawl_delay(ME) == delay


def test_half_a_rule_at_the_size_limit_does_not_count() -> None:
    """The limit is 500 KiB (RFC 9309 §2.5); `/private` cut to `/` would forbid the site."""
    head = b"User-agent: *\nDisallow: /early\n"
    tail = b"Disallow: /"
    body = head + b"#" * (BYTES_MAX - len(head) - len(tail) - 1) + b"\n" + tail
    assert len(body) == BYTES_MAX
    cut = Robots(200, body + b"private\n")
    assert cut.allows(ME, "http://example.org/a")
    assert not cut.allows(ME, "http://example.org/early")
    assert not Robots(200, body).allows(ME, "http://example.org/a")


class Weighed(str):
    """Text that counts how many characters are looked at in it, at most."""

    __slots__ = ()
    looked_at = 0

    def find(self, piece: str, start: Any = 0, end: Any = None) -> int:
        """Counts all that may be searched."""
        Weighed.looked_at += max(0, min(len(self), end if end is not None else len(self)) - start)
        return super().find(piece, start, end)

    def startswith(self, prefix: Any, *where: Any) -> bool:
        """Counts the prefix."""
        Weighed.looked_at += len(prefix)
        return super().startswith(prefix, *where)

    def endswith(self, suffix: Any, *where: Any) -> bool:
        """Counts the suffix."""
        Weighed.looked_at += len(suffix)
        return super().endswith(suffix, *where)

    def __lt__(self, other: str) -> bool:
        Weighed.looked_at += min(len(self), len(other))
        return super().__lt__(other)


def filled(line: Callable[[int], bytes]) -> bytes:
    """As many lines as are read of a file, and their head."""
    body, number = bytearray(b"User-agent: *\n"), 0
    while len(body) < BYTES_MAX:
        body += line(number) + b"\n"
        number += 1
    return bytes(body)


URL_LENGTH = 60_000


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(lambda number: b"Disallow: /*b", id="star"),
        pytest.param(lambda number: b"Disallow: /" + b"*a" * 50 + b"*b", id="stars"),
        pytest.param(lambda number: b"Disallow: /" + b"*a" * 50 + b"*b$", id="stars-and-end"),
        pytest.param(lambda number: b"Disallow: /" + b"a" * number + b"*b", id="longer-and-star"),
        pytest.param(lambda number: b"Disallow: /" + b"a" * number + b"b", id="longer"),
        pytest.param(lambda number: b"Disallow: /%d" % number, id="different"),
        pytest.param(lambda number: b"Disallow: /aaaab$" if number else b"Disallow: /*b", id="end"),
        pytest.param(lambda number: b"Disallow: /*" + b"a" * number + b"b", id="star-and-longer"),
    ],
)
def test_whatever_the_file_says_a_long_url_is_not_looked_at_for_long(line: Callable[[int], bytes]) -> None:
    """500 KiB of rules and a URL of 60 000 characters: never one times the other, which were 2 billion characters."""
    rules, _ = Robots(200, filled(line))._asked_of(ME)
    Weighed.looked_at = 0
    assert rules.allows(Weighed("/" + "a" * URL_LENGTH))
    assert 0 < Weighed.looked_at <= STARS_MAX * COMPARED_MAX + BYTES_MAX + 20 * URL_LENGTH


def test_rules_with_stars_count_up_to_a_limit() -> None:
    """The rule that goes beyond it and those behind it are not heeded; rules without `*` always are."""
    lines = ["User-agent: *", *("Disallow: /*x" for _ in range(STARS_MAX - 2)), "Disallow: /*a*a"]
    assert not allows("\n".join(lines), "/aa")
    lines[1:1] = ["Disallow: /*x"]
    assert allows("\n".join([*lines, "Disallow: /*b"]), "/aab")
    assert not allows("\n".join([*lines, "Disallow: /b"]), "/b")


def test_between_stars_the_beginning_of_a_long_url_counts() -> None:
    """And for a rule that says where the end is, the end."""
    far = "a" * COMPARED_MAX
    assert not allows("User-agent: *\nDisallow: /*b", f"/{far[:-2]}b")
    assert allows("User-agent: *\nDisallow: /*b", f"/{far}b")
    assert not allows("User-agent: *\nDisallow: /*b$", f"/{far}b")
    assert not allows(f"User-agent: *\nDisallow: /{far}", f"/{far}b")


def test_a_robots_txt_that_cannot_be_had_says_so() -> None:
    """Why, what it means and what to do; nothing of it where the file was there and forbids (RFC 9309 §2.3.1.4)."""
    forbidden = Robots(200, b"User-agent: *\nDisallow: /").refusal("http://h/a")
    assert isinstance(forbidden, RobotsDisallow)
    assert str(forbidden) == "http://h/a: robots.txt asks to leave it: leave it, or fetch without --robots"
    for asked, why in (
        (Robots(503), "503 Service Unavailable"),
        (Robots(0, problem="connection refused"), "connection refused"),
    ):
        refusal = asked.refusal("http://h/a")
        assert isinstance(refusal, RobotsUnavailable)
        assert str(refusal) == (
            f"http://h/a: robots.txt could not be had ({why}), and then nothing may be fetched (RFC 9309 §2.3.1.4): "
            "resume later, or fetch without --robots"
        )


def test_many_names_and_many_rules_are_not_multiplied() -> None:
    """A file within the size limit may name 14 000 robots for 20 000 rules: memory for the sum, not for the product."""
    names = b"".join(b"User-agent: a%d\n" % number for number in range(14_000))
    body = names + b"Disallow: /\n" * 20_000
    assert len(body) < BYTES_MAX
    tracemalloc.start()
    try:
        robots = Robots(200, body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not robots.allows("a13999", "http://example.org/x")
    assert peak < 64 << 20


@given(body=st.binary(max_size=300), agent=st.text(max_size=10))
def test_any_bytes_are_read(body: bytes, agent: str) -> None:
    """A stranger's file never raises."""
    robots = Robots(200, b"User-agent: *\nDisallow: " + body)
    robots.allows(agent, "http://example.org/a%zz?b=*$")
    robots.crawl_delay(agent)


def _matches_slowly(pattern: str, text: str) -> bool:
    """The definition of `*` and `$`, tried in every way."""
    if not pattern:
        return True
    if pattern == "$":
        return not text
    if pattern[0] == "*":
        return any(_matches_slowly(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return text[:1] == pattern[0] and _matches_slowly(pattern[1:], text[1:])


@given(pattern=st.text("ab*", max_size=7), end=st.sampled_from(["", "$"]), text=st.text("ab", max_size=8))
def test_matching_is_what_the_definition_says(pattern: str, end: str, text: str) -> None:
    """Taking as little as possible for each `*` finds a match if there is any."""
    assert allows(f"User-agent: *\nDisallow: /{pattern}{end}", f"/{text}") is not _matches_slowly(pattern + end, text)


PIECES = st.lists(st.sampled_from(["a", "b", "ab", "*", "%61", "$", "/"]), max_size=6).map("".join)


@given(rules=st.lists(st.tuples(st.booleans(), PIECES), max_size=12), text=st.text("ab$/", max_size=8))
def test_the_rule_that_decides_is_the_one_of_the_definition(rules: list[tuple[bool, str]], text: str) -> None:
    """Each rule tried by itself, the longest of those that match, of two as long the one that allows."""
    lines = [f"{'Allow' if allow else 'Disallow'}: /{pattern}" for allow, pattern in rules]
    best = (-1, True)
    for allow, pattern in rules:
        plain = f"/{pattern.replace('%61', 'a')}"
        inner = plain.removesuffix("$").replace("$", "%24")
        if _matches_slowly(inner + "$" * plain.endswith("$"), f"/{text.replace('$', '%24')}"):
            best = max(best, (len(inner) + plain.endswith("$"), allow))
    assert allows("\n".join(["User-agent: *", *lines]), f"/{text}") is best[1]
