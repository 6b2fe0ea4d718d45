"""Names that work on every disk; `tests/property/test_naming.py` says that no two are the same."""

import os
import sys
from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.errors import InvalidRequest
from eventflow.naming import PART_SUFFIX, Names, _Keys, name_from_url, name_problem, safe_name

URL = "https://me:s3cret@example.org/a.txt"


def take_all(*wanted: str | None, url: str = "https://example.org/a.txt") -> list[str]:
    """The names of requests 0, 1, 2 and so on."""
    names = Names()
    return [names.take(number, name, url) for number, name in enumerate(wanted)]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/a/b.txt", "b.txt"),
        ("https://example.org/a/b.txt?x=/c.txt#/d.txt", "b.txt"),
        ("https://example.org", "index.html"),
        ("https://example.org/", "index.html"),
        ("https://example.org/a/", "index.html"),
        ("https://example.org?x=/y", "index.html"),
        ("https://example.org/a/..", "index.html"),
        ("https://example.org/%2e%2e", "index.html"),
        ("https://example.org/caf%C3%A9.txt", "café.txt"),
        ("https://example.org/%252e%252e", "%2e%2e"),
        ("https://example.org/..%2f..%2fetc%2fpasswd", "_._.._etc_passwd"),
        ("https://example.org/a%00b", "a_b"),
        ("https://example.org/%ff", "\ufffd"),
        ("https://example.org/a%5Cb", "a_b"),
        ("https://example.org/.bashrc", "_bashrc"),
        ("https://example.org/a.txt;token=s3cret", "a.txt;token=REDACTED"),
        ("https://me:s3cret@example.org", "index.html"),
        ("//example.org/a", "a"),
        ("nonsense", "nonsense"),
    ],
)
def test_names_from_urls(url: str, name: str) -> None:
    """The last segment of the path, decoded once, without what is dangerous or secret in it."""
    assert name_from_url(url) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "_"),
        (".", "_"),
        ("..", "_"),
        ("a/b\\c", "a_b_c"),
        ("a\x00b\nc\x7fd\x9be", "a_b_c_d_e"),
        ('<>:"|?*', "_______"),
        ("con", "_con"),
        ("NUL.tar.gz", "_NUL.tar.gz"),
        ("COM¹", "_COM¹"),
        ("com10", "com10"),
        ("a.", "a"),
        ("a. .", "a"),
        (" a ", "a"),
        ("x\u202etxt.exe", "x_txt.exe"),
        ("a\ud800", "a_"),
        ("a\u061cb\u200ec\u2066d", "a_b_c_d"),
        ("pay\xadpal\u2060.txt\u3164", "pay_pal_.txt_"),
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645\u06cc\u200c\u062e\u0648"),
        ("\U0001f468\u200d\U0001f469 \u2764\ufe0f", "\U0001f468\u200d\U0001f469 \u2764\ufe0f"),
        (f"a{PART_SUFFIX}", "a.eventflow-par_"),
        (f"a{PART_SUFFIX.upper()}", "a.EVENTFLOW-PAR_"),
        ("a" * 300, "a" * 255),
        ("a" * 300 + ".jpeg", "a" * 250 + ".jpeg"),
        ("a" * 300 + ".tar.gz", "a" * 248 + ".tar.gz"),
        ("ä" * 200 + ".txt", "ä" * 125 + ".txt"),
        ("😀" * 100, "😀" * 63),
        ("a" * 254 + ". b", "a" * 254),
        ("a" * 240 + f"{PART_SUFFIX}and more", "a" * 240 + ".eventflow-par_"),
    ],
)
def test_names_are_made_safe(text: str, name: str) -> None:
    """What some disk refuses or misreads is replaced; a long name is cut at a character, before its extension."""
    assert safe_name(text) == name


SEEN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
JOINERS = {0x200C, 0x200D}


def test_no_character_that_is_not_seen_is_left_in_a_name() -> None:
    """All of category Cf but joiners and those that are seen; the twelve that turn text around are among them."""
    unseen = [code for code in range(sys.maxunicode) if category(chr(code)) == "Cf"]
    assert len(unseen) > 150
    assert {code for code in unseen if safe_name(f"a{chr(code)}b") != "a_b"} == SEEN | JOINERS
    assert {0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)} <= {*unseen} - SEEN - JOINERS


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../a", "leads out"),
        ("a/../b", "leads out"),
        ("./a", "leads out"),
        ("..", "leads out"),
        ("/etc/passwd", "absolute"),
        ("C:/a", "absolute"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("", "empty part"),
        ("a\\b", "backslash"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\x85b", "control character"),
        ("a\u202eb", "control character"),
        ("a\ud800", "control character"),
        ("CON", "device"),
        ("a/nul.txt", "device"),
        ("a/aux/b", "device"),
        ("COM1 .txt", "device"),
        ("a.", "dot or a space"),
        ("a /b", "dot or a space"),
        ("a" * 256, "longer than 255 bytes"),
        ("ä" * 128, "longer than 255 bytes"),
        ("/".join(["a" * 250] * 5), "longer than 1024 bytes"),
        (f"a{PART_SUFFIX}", "reserved"),
        (f"a/B{PART_SUFFIX.upper()}/c", "reserved"),
        (".eventflow/run/log", "reserved"),
        (".Event\u200dFlow/x", "reserved"),
    ],
)
def test_unsafe_names_of_a_list_are_refused(name: str, problem: str) -> None:
    """A name that a list gives is used as it is or refused with the reason: nobody is surprised by another name."""
    assert problem in (name_problem(name) or "")
    if name:
        with pytest.raises(InvalidRequest, match=problem) as caught:
            Names().take(0, name, URL)
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a", "a/b/c.txt", ".hidden", "...a", "a b", "ä/日本", "com10", "a:b", "~a", "-rf", "a" * 255]
)
def test_safe_names_of_a_list_are_kept(name: str) -> None:
    """A name that is safe stays as it is."""
    assert name_problem(name) is None
    assert take_all(name) == [name]


def test_a_mirror_in_the_place_of_the_name_shows_no_secret() -> None:
    """The second field of other tools' lists is a mirror's URL: refused, its password not shown."""
    with pytest.raises(InvalidRequest) as caught:
        Names().take(0, "http://me:hunter2@example.org/a", URL)
    assert "hunter2" not in str(caught.value)


def test_a_refused_name_takes_nothing() -> None:
    """A name that was refused leaves its place to others."""
    names = Names()
    with pytest.raises(InvalidRequest):
        names.take(0, "a/../b", URL)
    assert names.take(1, "a", URL) == "a"


def test_the_number_tells_requests_apart() -> None:
    """The first has the name, the others get their number in the input, before the extension."""
    assert take_all(None, None, None) == ["a.txt", "a~1.txt", "a~2.txt"]
    assert take_all("x.tar.gz", "x.tar.gz", ".x", ".x") == ["x.tar.gz", "x~1.tar.gz", ".x", ".x~3"]


def test_names_that_some_disk_takes_for_one_are_told_apart() -> None:
    """Case, normal forms and invisible letters do not make two names."""
    assert take_all("Straße", "STRASSE") == ["Straße", "STRASSE~1"]
    assert take_all("caf\u00e9", "cafe\u0301", "CAFÉ") == ["caf\u00e9", "cafe\u0301~1", "CAFÉ~2"]
    assert take_all("a", "a\u200d") == ["a", "a\u200d~1"]
    assert take_all("A/x", "a/X") == ["A/x", "a/X~1"]


def test_names_that_differ_stay_where_the_disk_tells_them_apart() -> None:
    """Where case counts, a list's README and readme keep their names; one name twice is still told apart."""
    names = Names(ignore_case=False)
    wanted = ["README", "readme", "caf\u00e9", "cafe\u0301", "README", "readme/x", "Readme/x"]
    taken = [names.take(number, name, URL) for number, name in enumerate(wanted)]
    assert taken == ["README", "readme", "caf\u00e9", "cafe\u0301", "README~4", "readme~5/x", "Readme/x"]


def test_a_suffixed_name_may_be_taken_too() -> None:
    """A list may already hold the name with the suffix: then another number is put to it."""
    assert take_all("a~2.txt", "a.txt", "a.txt") == ["a~2.txt", "a.txt", "a~2~2.txt"]
    assert take_all("a~3.txt", "a~3~2.txt", "a.txt", "a.txt") == ["a~3.txt", "a~3~2.txt", "a.txt", "a~3~3.txt"]


def test_a_file_and_a_folder_are_told_apart() -> None:
    """A file does not take the name of another's folder, nor a folder that of a file, whichever comes first."""
    assert take_all("a/b", "a", "A") == ["a/b", "a~1", "A~2"]
    assert take_all("a", "a/b", "a/b/c", "a/b") == ["a", "a~1/b", "a~2/b/c", "a~3/b"]
    assert take_all("x/a.d", "x/a.d/b", "x/a~1.d") == ["x/a.d", "x/a~1.d/b", "x/a~1~2.d"]


def test_a_long_name_keeps_its_number() -> None:
    """The suffix fits into 255 bytes, and two long names stay two."""
    long = "ä" * 125 + ".txt"
    first, second, third = take_all(long, long, "ä" * 125 + "b.txt")
    assert first == long
    assert second == "ä" * 124 + "~1.txt"
    assert len(second.encode()) <= 255
    assert third not in (first, second)


def test_a_path_too_long_to_be_told_apart_is_refused() -> None:
    """Where 1024 bytes have no room for the suffix the request fails, rather than write another's file."""
    path = "/".join(["a" * 200] * 5) + "/" + "b" * 19
    assert len(path) == 1024
    names = Names()
    names.take(0, path, URL)
    with pytest.raises(InvalidRequest, match="too long to be told apart"):
        names.take(1, path, URL)


def test_every_name_can_be_made(tmp_path: Path) -> None:
    """What `Names` gives can be a file on this disk."""
    wanted = ["a/b", "a", "CAFÉ", "café", "x" * 255, "x" * 255, None, None, "日" * 85, "a/b/c"]
    taken = take_all(*wanted, url="https://example.org/" + "%F0%9F%98%80" * 90)
    for name in taken:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(tmp_path / name, os.O_CREAT | os.O_EXCL))
    assert len(set(taken)) == len(wanted)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_numbers_that_agree_in_part_are_told_apart(parts: list[tuple[int, int, int]]) -> None:
    """The set that names are remembered in is a set, also where shard, middle or rest of two numbers are the same."""
    keys, seen = _Keys(), set[int]()
    for shard, middle, rest in parts:
        key = rest << 42 | middle << 10 | shard
        assert (key in keys) == (key in seen)
        assert keys.add(key) == (key not in seen)
        seen.add(key)
        assert all(one in keys for one in seen)
