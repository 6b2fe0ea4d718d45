"""robots.txt by RFC 9309."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.http.robots import BYTES_MAX, CRAWL_DELAY_MAX_S, Robots

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


def test_a_hostile_rule_takes_no_longer_than_others() -> None:
    """Many `*` in one rule: matching is linear. As a regular expression this would not end within a human life."""
    rule = b"User-agent: *\nDisallow: /" + b"*a" * 500 + b"*b$"
    assert Robots(200, rule).allows(ME, "http://example.org/" + "a" * 5_000)


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
