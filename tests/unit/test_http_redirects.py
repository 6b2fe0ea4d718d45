"""Where redirects lead: the grammar of RFC 3986, the rules of RFC 9110, and nothing that a stranger can trick."""

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventflow.http.redirects import (
    REDIRECTS_MAX,
    URL_CHARACTERS_MAX,
    BadRedirect,
    TooManyRedirects,
    Trail,
    follow,
)
from eventflow.http.url import split_url
from eventflow.request import Request, read_requests

BASE = "http://a/b/c/d;p?q"


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g/"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y", "http://a/b/c/g?y"),
        ("#s", "http://a/b/c/d;p?q#s"),
        ("g#s", "http://a/b/c/g#s"),
        ("g?y#s", "http://a/b/c/g?y#s"),
        (";x", "http://a/b/c/;x"),
        ("g;x", "http://a/b/c/g;x"),
        ("g;x?y#s", "http://a/b/c/g;x?y#s"),
        ("", "http://a/b/c/d;p?q"),
        (".", "http://a/b/c/"),
        ("./", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../..", "http://a/"),
        ("../../", "http://a/"),
        ("../../g", "http://a/g"),
        ("../../../g", "http://a/g"),
        ("../../../../g", "http://a/g"),
        ("/./g", "http://a/g"),
        ("/../g", "http://a/g"),
        ("g.", "http://a/b/c/g."),
        (".g", "http://a/b/c/.g"),
        ("g..", "http://a/b/c/g.."),
        ("..g", "http://a/b/c/..g"),
        ("./../g", "http://a/b/g"),
        ("./g/.", "http://a/b/c/g/"),
        ("g/./h", "http://a/b/c/g/h"),
        ("g/../h", "http://a/b/c/h"),
        ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
        ("g;x=1/../y", "http://a/b/c/y"),
        ("g?y/./x", "http://a/b/c/g?y/./x"),
        ("g?y/../x", "http://a/b/c/g?y/../x"),
        ("g#s/../x", "http://a/b/c/g#s/../x"),
    ],
)
def test_relative_references_are_resolved_by_rfc_3986(reference: str, target: str) -> None:
    """The examples of RFC 3986 §5.4, an empty path written as a slash."""
    assert follow(BASE, reference).url == target


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("http://a/b", "https://c/d", "https://c/d"),
        ("https://a/b", "//c/d", "https://c/d"),
        ("http://a/b", "HTTPS://C/d", "https://C/d"),
        ("http://a", "b", "http://a/b"),
        ("http://a?q", "", "http://a/?q"),
        ("http://a/b", "?", "http://a/b?"),
        ("http://a/b", "//c?d", "http://c/?d"),
        ("http://a/b", "/c//d", "http://a/c//d"),
        ("http://a/b", " \t/c ", "http://a/c"),
        ("http://a/b", "/c d", "http://a/c%20d"),
        ("http://a/b", "/100%", "http://a/100%"),
        ("http://a/b", "/%2e%2E/c", "http://a/%2e%2E/c"),
        ("http://a/b", "/\xc3\xa9?\xe9", "http://a/%C3%A9?%E9"),
        ("http://a/b", "/\u20ac", "http://a/%E2%82%AC"),
        ("http://a/b", '/<"{}|\\^`>', "http://a/%3C%22%7B%7D%7C%5C%5E%60%3E"),
        ("http://a/b", "/\\c/", "http://a/%5Cc/"),
        ("http://a/b", "http://m\xc3\xbcnchen.example/", "http://xn--mnchen-3ya.example/"),
        ("http://a/b", "http://[::1]:8080/c", "http://[::1]:8080/c"),
        ("http://a/b", "http://127.0.0.1:/c", "http://127.0.0.1/c"),
        ("http://a/b", "http://c:00080/d", "http://c:80/d"),
        ("http://a/b#top", "/c", "http://a/c#top"),
        ("http://a/b#top", "/c#", "http://a/c#"),
        ("http://a/b", "http://me:pw@c/d", "http://c/d"),
        ("http://me:pw@a/b", "/c", "http://a/c"),
    ],
)
def test_what_comes_out_is_an_ascii_url_without_credentials(url: str, location: str, target: str) -> None:
    """Octets that a URL cannot have are encoded, a fragment is inherited (RFC 9110 §10.2.2), credentials are not."""
    assert follow(url, location).url == target


@pytest.mark.parametrize(
    "location",
    [
        "http://a/c",
        "http:c",
        "https:/c",
        "https:c",
        "https:",
        "ftp://a/b",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:,x",
        "mailto:a@b",
        "https://",
        "https:///b",
        "https://:443/",
        "https://a:0/",
        "https://a:65536/",
        "https://a:x/",
        "https://a:1:2/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://[v1.x]/",
        "https://1.2.3.400/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://a b/",
        "https://a..b/",
        "https://-a/",
        "https://%61/",
        "https://a\\@b/",
        "https://a\\b/",
        "https://\xff/",
        "//\x00/",
        "/a\x00b",
        "/a\rb",
        "/a\nb",
        "/a\tb",
        "/a\n",
        "/a\x7fb",
        "/" + "a" * URL_CHARACTERS_MAX,
        "/" + "\xe9" * (URL_CHARACTERS_MAX // 2),
    ],
)
def test_what_is_no_http_url_or_leads_down_from_https_is_refused(location: str) -> None:
    """Only http and https, never from https to http, no control characters, no host that two would read otherwise."""
    with pytest.raises(BadRedirect):
        follow("https://a/b", location)


@pytest.mark.parametrize(
    ("url", "location", "same"),
    [
        ("http://a/b", "/c", True),
        ("http://a/b", "http://A:80/c", True),
        ("https://a/b", "https://a:443/c", True),
        ("http://me:pw@a/b", "http://a/c", True),
        ("http://a/b", "http://you:pw@a/c", True),
        ("http://a/b", "https://a/c", False),
        ("http://a/b", "http://a:8080/c", False),
        ("http://a/b", "http://b.a/c", False),
        ("http://a/b", "//a@b/c", False),
    ],
)
def test_same_origin_is_scheme_host_and_port(url: str, location: str, same: bool) -> None:
    """Credentials may come along only if all three are the same (RFC 9110 §4.3.1, RFC 6454 §4)."""
    assert follow(url, location).same_origin is same


@given(
    location=st.text(st.characters(max_codepoint=0x17F), max_size=60)
    | st.text(st.sampled_from("/.:@#?[]\\ahtps \xe9%0"), max_size=30).map(lambda text: f"//{text}")
)
def test_any_location_is_followed_to_a_sane_url_or_refused(location: str) -> None:
    """Whatever a server writes: an ASCII URL whose host every parser reads alike and that is stable, or BadRedirect."""
    try:
        url = follow("https://me:secret@a.example/b?c", location).url
    except BadRedirect:
        return
    parts = urlsplit(url)
    assert parts.scheme == "https"
    assert parts.username is None
    assert url.isascii()
    assert not set(url) & set(" \t\r\n\0\\")
    assert split_url(url)[0].origin.host == parts.hostname
    assert follow("https://a.example/", url).url == url


PIECES = ["http:", "https:", "file:", "//", "/", "..", "?", "#", "@", ":", "80", "[", "]", "::1", "127.0.0.1", "1"]
PIECES += ["a", "b.c", "a:99999", "a:0/", "xn--", "-", "_", "%41", "%", "\\", " ", "\t", "\x85", "\xa0", "\xad"]
PIECES += ["\xe9", "\xc3\xbc", "\u3002"]


@given(
    location=st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    prefix=st.sampled_from(["", "//", "http://", "https://"]),
    base=st.sampled_from(["http://a/b/c?q", "https://me:pw@a.example/x#f"]),
)
@example(location="a:99999", prefix="//", base="http://a/b")
@example(location="a:0/", prefix="//", base="http://a/b")
def test_where_a_redirect_leads_could_stand_in_a_list(location: str, prefix: str, base: str) -> None:
    """A stranger's Location gets no further than a line of the list would, and needs no more correction than one."""
    try:
        url = Trail(base).follow(302, prefix + location).url
    except (BadRedirect, TooManyRedirects):
        return
    (item,) = read_requests([url.encode()])
    assert isinstance(item, Request)
    assert item.url == url


@pytest.mark.parametrize("location", ["gopher://me:hunter2@x/?token=hunter2", "http://x:hunter2@\\/", "\0hunter2"])
def test_no_error_holds_a_secret(location: str) -> None:
    """Neither the credentials of where it came from nor anything of where it leads."""
    with pytest.raises(BadRedirect) as caught:
        follow("https://me:hunter2@a/b?token=hunter2", location)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 300, 304, 305, 306, 399])
def test_other_statuses_are_not_followed(status: int) -> None:
    """300 is a choice, 304 no redirect, 305 a proxy and deprecated (RFC 9110 §15.4)."""
    with pytest.raises(BadRedirect, match=str(status)):
        Trail("http://a/").follow(status, "/b")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_needs_a_location(status: int) -> None:
    """The five are followed for GET, and without Location there is nowhere to go."""
    assert Trail("http://a/").follow(status, "b").url == "http://a/b"
    with pytest.raises(BadRedirect, match="where"):
        Trail("http://a/").follow(status, None)


@pytest.mark.parametrize(
    ("start", "locations"),
    [
        ("http://a/b", [""]),
        ("http://a/b", ["#c"]),
        ("http://me:pw@a/b", ["http://a/b"]),
        ("http://a/b", ["http://A:80/b"]),
        ("http://a/b", ["/c", "/d", "/c#e"]),
        ("http://a", ["/b", "/"]),
    ],
)
def test_a_circle_is_found_when_it_closes(start: str, locations: list[str]) -> None:
    """The same URL again, as a server sees it: without fragment and credentials, the default port written or not."""
    trail = Trail(start)
    for location in locations[:-1]:
        trail.follow(302, location)
    with pytest.raises(TooManyRedirects, match="circle"):
        trail.follow(302, locations[-1])


def test_another_query_is_no_circle() -> None:
    """Servers count tries and pass tokens in the query."""
    trail = Trail("http://a/b")
    assert [trail.follow(302, f"?{number}").url for number in range(3)] == [f"http://a/b?{n}" for n in range(3)]


def test_a_chain_ends_at_the_limit() -> None:
    """So many are followed, and not one more."""
    trail = Trail("http://a/")
    for number in range(REDIRECTS_MAX):
        trail.follow(302, f"/{number}")
    with pytest.raises(TooManyRedirects, match="more than 20"):
        trail.follow(302, "/last")


def test_each_step_of_a_trail_is_relative_to_the_one_before() -> None:
    """Back at the first origin, it is still another origin than that of the step before: credentials stay dropped."""
    trail = Trail("http://a/x/")
    assert trail.follow(302, "http://b/y/").same_origin is False
    step = trail.follow(302, "z")
    assert (step.url, step.same_origin) == ("http://b/y/z", True)
    assert trail.follow(302, "http://a/back").same_origin is False
