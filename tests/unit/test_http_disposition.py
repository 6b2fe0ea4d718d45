"""The name that a server suggests: read in all the ways that are written, and never one that does harm."""

from unicodedata import is_normalized

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventflow.http.disposition import SEGMENTS_MAX, suggested_name
from eventflow.naming import NAME_BYTES_MAX, PART_SUFFIX, name_problem, safe_name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        # RFC 6266 §4: tokens, quoted strings, other parameters around them.
        (b"attachment; filename=a.txt", "a.txt"),
        (b'attachment; filename="a.txt"', "a.txt"),
        (b'inline; filename="a b.txt"', "a b.txt"),
        (b'ATTACHMENT;FILENAME="a.txt"', "a.txt"),
        (b'attachment ; filename = "a.txt" ; size=10', "a.txt"),
        (b'attachment; creation-date="x; filename=b"; filename="a.txt"', "a.txt"),
        (b'attachment; xfilename="b"; filename="a.txt"', "a.txt"),
        (b'attachment; filename="a;b,c.txt"', "a;b,c.txt"),
        (b"attachment; filename=''", "''"),
        (b'attachment; filename="a\\"b\\".txt"', "a_b_.txt"),
        (b'filename="a.txt"', "a.txt"),
        (b"attachment; filename=a b.txt ; x=y", "a b.txt"),
        (b'attachment; filename="a.txt"; filename="b.txt"', "a.txt"),
        (b'attachment; filename="a.txt", attachment; filename="b.txt"', "a.txt"),
        (b'attachment; filename="a.txt', "a.txt"),
        (b"attachment;;; ;filename=a.txt;", "a.txt"),
        # RFC 8187, and which of two counts.
        (b"attachment; filename*=UTF-8''caf%C3%A9.txt", "café.txt"),
        (b"attachment; filename*=utf-8'fr'caf%c3%a9.txt", "café.txt"),
        (b"attachment; filename*=ISO-8859-1''caf%E9.txt", "café.txt"),
        (b"attachment; filename*=\"UTF-8''caf%C3%A9.txt\"", "café.txt"),
        (b"attachment; filename=\"b.txt\"; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
        (b"attachment; filename*=UTF-8''a.txt; filename=\"b.txt\"", "a.txt"),
        (b"attachment; filename*=UTF-8''a%20b'c.txt", "a b'c.txt"),
        (b"attachment; filename*=UTF-8''%41%2561", "A%61"),
        (b"attachment; filename*=UTF-8''caf%E9.txt; filename=b.txt", "b.txt"),
        (b"attachment; filename*=UTF-8''a%zz; filename=b.txt", "b.txt"),
        (b"attachment; filename*=UTF-8''a%; filename=b.txt", "b.txt"),
        (b"attachment; filename*=UTF-16''a; filename=b.txt", "b.txt"),
        (b"attachment; filename*=a.txt; filename=b.txt", "b.txt"),
        (b"attachment; filename*=UTF-8'a.txt; filename=b.txt", "b.txt"),
        (b"attachment; filename*=UTF-8''; filename=b.txt", "b.txt"),
        (b"attachment; filename*=UTF-8''..; filename=b.txt", "b.txt"),
        (b"attachment; filename*=UTF-8''a%zz", None),
        (b"attachment; filename*=UTF-8''caf\xc3\xa9.txt", "café.txt"),
        ("attachment; filename*=ISO-8859-1''€.txt; filename=b.txt", "b.txt"),
        # RFC 2231 continuations.
        (b"attachment; filename*0=a; filename*1=b.txt", "ab.txt"),
        (b"attachment; filename*1=b.txt; filename*0=a", "ab.txt"),
        (b"attachment; filename*0*=UTF-8''caf%C3; filename*1*=%A9; filename*2=%41.txt", "café%41.txt"),
        (b"attachment; filename*0=a; filename*2=b.txt", "a"),
        (b"attachment; filename*1=b; filename=c.txt", "c.txt"),
        (b"attachment; filename*0*=UTF-7''a; filename=c.txt", "c.txt"),
        (b"attachment; filename*0=a; filename*1*=%20; filename=c.txt", "c.txt"),
        (b"attachment; filename*0=a; filename*=UTF-8''b; filename=c.txt", "b"),
        # RFC 2047, as browsers tolerate it.
        (b'attachment; filename="=?UTF-8?B?Y2Fmw6kudHh0?="', "café.txt"),
        (b'attachment; filename="=?utf-8?q?caf=C3=A9_1.txt?="', "café 1.txt"),
        (b"attachment; filename==?ISO-8859-1?Q?caf=E9.txt?=", "café.txt"),
        (b'attachment; filename="=?UTF-8?B?Y2Fmw6k?= =?UTF-8?Q?.txt?="', "café.txt"),
        (b'attachment; filename="a=?UTF-8?Q?=C3=A9?=b.txt"', "aéb.txt"),
        (b'attachment; filename="=?UTF-8*fr?Q?=C3=A9?=.txt"', "é.txt"),
        (b'attachment; filename="=?shift_jis?B?k/qWew==?=.txt"', "日本.txt"),
        (b'attachment; filename="=?UTF-8?Q?..=2F..=2Fx.txt?="', "x.txt"),
        (b'attachment; filename="=?UTF-8?B?!?=.txt"', "=_UTF-8_B_!_=.txt"),
        (b'attachment; filename="=?UTF-8?Q?=FF?=.txt"', "=_UTF-8_Q_=FF_=.txt"),
        (b'attachment; filename="=?punycode?Q?a?=.txt"', "=_punycode_Q_a_=.txt"),
        # Escapes in `filename`, and raw bytes.
        (b'attachment; filename="caf%C3%A9%201.txt"', "café 1.txt"),
        (b"attachment; filename=..%2F..%2Fetc%2Fpasswd", "passwd"),
        (b"attachment; filename=a%2500.txt", "a%00.txt"),
        (b'attachment; filename="100%.txt"', "100%.txt"),
        (b'attachment; filename="caf%E9.txt"', "caf%E9.txt"),
        ('attachment; filename="café.txt"'.encode(), "café.txt"),
        ('attachment; filename="café au lait"'.encode().decode("latin-1"), "café au lait"),
        (b'attachment; filename="caf\xe9.txt"', "café.txt"),
        ('attachment; filename="caf\xe9 au lait"', "café au lait"),
        ('attachment; filename="日本.txt"', "日本.txt"),
        ('attachment; filename="cafe\u0301.txt"'.encode(), "café.txt"),
        # Paths and what is dangerous.
        (b'attachment; filename="/etc/passwd"', "passwd"),
        (b'attachment; filename="../../.ssh/authorized_keys"', "authorized_keys"),
        (b'attachment; filename="..\\..\\a.txt"', "a.txt"),
        (b'attachment; filename="..\\\\..\\\\a.txt"', "a.txt"),
        (b'attachment; filename="C:\\temp\\a.txt"', "a.txt"),
        (b'attachment; filename="a\\b/c\\d.txt"', "d.txt"),
        (b'attachment; filename="C:a.txt"', "C_a.txt"),
        (b'attachment; filename="a.txt:stream"', "a.txt_stream"),
        (b'attachment; filename=".bashrc"', "_bashrc"),
        (b'attachment; filename=".eventflow"', "_eventflow"),
        (b'attachment; filename="a.txt. ."', "a.txt"),
        (b'attachment; filename=" a.txt "', "a.txt"),
        (b'attachment; filename="CON"', "_CON"),
        (b'attachment; filename="nul.tar.gz"', "_nul.tar.gz"),
        (b'attachment; filename="COM1"', "_COM1"),
        ("attachment; filename=LPT¹.txt".encode(), "_LPT¹.txt"),
        (b'attachment; filename="a\x00b\x1f\x7f.txt"', "a_b__.txt"),
        (b"attachment; filename*=UTF-8''a%00%0d%0ab.txt", "a___b.txt"),
        (b"attachment; filename*=UTF-8''x%E2%80%AEtxt.exe", "x_txt.exe"),
        (b"attachment; filename*=UTF-8''x%D8%9Ctxt.exe", "x_txt.exe"),
        (b"attachment; filename*=UTF-8''x%E2%81%A6y%E2%80%8F.txt", "x_y_.txt"),
        ("attachment; filename=a\ud800b", "a_b"),
        (b'attachment; filename="a' + PART_SUFFIX.encode() + b'"', "a.eventflow-par_"),
        (b'attachment; filename="' + b"a" * 5000 + b'.txt"', "a" * 251 + ".txt"),
        ('attachment; filename="' + "é" * 5000 + '.tar.gz"', "é" * 124 + ".tar.gz"),
        # Nothing usable.
        (b"", None),
        (b"attachment", None),
        (b"attachment; filename", None),
        (b"attachment; filename=", None),
        (b'attachment; filename=""', None),
        (b'attachment; filename=" "', None),
        (b'attachment; filename="."', None),
        (b'attachment; filename=".."', None),
        (b'attachment; filename="..."', None),
        (b'attachment; filename="a/"', None),
        (b'attachment; filename="a\\"', None),
        (b'attachment; filename="???"', None),
        (b'attachment; filename="\x00"', None),
        (b"attachment; filename*=UTF-8''%E2%80%AE", None),
        (b"\xff\xfe\x00", None),
    ],
)
def test_the_suggested_name(header: bytes | str, name: str | None) -> None:
    """Each way to write a name is read, the best counts, and what is dangerous in it is gone."""
    assert suggested_name(header) == name


@pytest.mark.parametrize(
    ("content_disposition", "content_type", "name"),
    [
        ("", "text/plain; name=a.txt", "a.txt"),
        ("", "text/plain; charset=utf-8; name*=UTF-8''%C3%A9.txt", "é.txt"),
        (b"attachment", b'text/plain; name="../a.txt"', "a.txt"),
        ("attachment; filename=..", "text/plain; name=a.txt", "a.txt"),
        ("attachment; filename=b.txt", "text/plain; name=a.txt", "b.txt"),
        ("attachment; name=c.txt", "text/plain; filename=a.txt", None),
        ("", "text/plain", None),
    ],
)
def test_the_name_of_the_type_is_the_last_resort(
    content_disposition: bytes | str, content_type: bytes | str, name: str | None
) -> None:
    """Content-Type's `name` counts when Content-Disposition has nothing usable."""
    assert suggested_name(content_disposition, content_type) == name


def test_the_segments_of_a_name_are_limited() -> None:
    """A name in a million segments is not put together."""
    header = ";".join(f"filename*{number}=a" for number in range(SEGMENTS_MAX + 10))
    assert suggested_name(header) == "a" * SEGMENTS_MAX


@pytest.mark.parametrize(
    "piece",
    [";", '"', "\\\\", '="', ';a="', ';a=" \\\\" ', "=?a?b?", "?= ", "%2e", " ", "''", "*0*=", "\u0301", "filename="],
)
def test_a_huge_header_costs_linear_time(piece: str) -> None:
    """A megabyte of any piece is read in one pass or so; the square of it would be the time-out's business."""
    for start in ("filename=", 'filename="', "filename*=UTF-8''", "filename*0=a;", ""):
        suggested_name(start + piece * (300_000 // len(piece)))


WORDS = b"filename name * = ; \" \\ / .. %2e %C3%A9 %00 UTF-8'' *0 *1 =?UTF-8?B? =?big5?q? ?= nul ' ,".split()
PIECES = st.sampled_from([*WORDS, b" ", b"\xff", b"\xc3", b"\r\n", b"\xcc\x81", b"a" * 200])
HEADERS = st.binary(max_size=200) | st.lists(PIECES, max_size=20).map(b"".join).map(b"attachment; filename".__add__)


@given(HEADERS, HEADERS)
@example(b"filename*=UTF-8''" + b"a" * 300 + PART_SUFFIX.encode(), b"")
@example(b'filename="' + "\u0958".encode() * 120 + b'.txt"', b"")
def test_whatever_comes_the_name_is_safe(content_disposition: bytes, content_type: bytes) -> None:
    """Any bytes: nothing is raised, and a name is one that naming takes as it is, in NFC and not hidden."""
    name = suggested_name(content_disposition, content_type)
    if name is not None:
        assert name_problem(name) is None
        assert safe_name(name) == name
        assert is_normalized("NFC", name)
        assert "/" not in name
        assert not name.startswith(".")
        assert len(name.encode()) <= NAME_BYTES_MAX


@given(st.text())
def test_any_text_has_a_name_or_none(text: str) -> None:
    """A header that came as text is no more dangerous than bytes."""
    name = suggested_name(f"attachment; filename={text}")
    assert name is None or safe_name(name) == name


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
@example("\u3000")
@example("\xa0nul")
@example("a.\u2003")
@example("\u061ca")
@example("a\u200d\u200cb")
def test_a_well_formed_name_comes_back(text: str) -> None:
    """What RFC 8187 encodes is the name that is read, for every name that is safe and has no blanks around."""
    escaped = "".join(f"%{byte:02X}" for byte in text.encode())
    name = suggested_name(f"attachment; filename*=UTF-8''{escaped}")
    if safe_name(text) == text == text.strip() and is_normalized("NFC", text) and text.strip("_. "):
        assert name == text
