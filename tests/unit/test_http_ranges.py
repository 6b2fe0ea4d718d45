"""Resuming by the rules: what is asked, and what each answer allows. A changed entity is never glued to an old part."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.http.ranges import (
    AlreadyWhole,
    Append,
    AskAgain,
    ContentRange,
    Judgement,
    Partial,
    Refuse,
    StartOver,
    Unsatisfied,
    judge,
    parse_content_range,
    range_headers,
)

MODIFIED = "Mon, 23 Nov 2026 10:00:00 GMT"
PART = Partial(have=100, etag='"a1"', last_modified=MODIFIED, date="Mon, 23 Nov 2026 10:00:00 GMT", length=200)
DATED = Partial(have=100, last_modified=MODIFIED, date="Mon, 23 Nov 2026 10:01:00 GMT", length=200)
CHUNKED = Partial(have=100, etag='"a1"')
REST = {"content-range": "bytes 100-199/200", "etag": '"a1"', "content-length": "100"}
TAG = {"etag": '"a1"'}


def rest(**changed: str | None) -> dict[str, str]:
    """A right answer's headers, but for these; None takes one away."""
    headers = REST | {name.replace("_", "-"): value for name, value in changed.items() if value is not None}
    return {name: value for name, value in headers.items() if changed.get(name.replace("-", "_"), "") is not None}


@pytest.mark.parametrize(
    ("partial", "sent"),
    [
        (PART, ((b"range", b"bytes=100-"), (b"if-range", b'"a1"'))),
        (CHUNKED, ((b"range", b"bytes=100-"), (b"if-range", b'"a1"'))),
        (Partial(200, etag='"a1"', length=200), ((b"range", b"bytes=200-"), (b"if-range", b'"a1"'))),
        (Partial(1, etag='""'), ((b"range", b"bytes=1-"), (b"if-range", b'""'))),
        (Partial(1, etag='"\xe9"'), ((b"range", b"bytes=1-"), (b"if-range", b'"\xe9"'))),
        (Partial(1, etag='"W/a"'), ((b"range", b"bytes=1-"), (b"if-range", b'"W/a"'))),
        (DATED, ((b"range", b"bytes=100-"), (b"if-range", MODIFIED.encode()))),
        (Partial(0, etag='"a1"'), ()),
        (Partial(-1, etag='"a1"'), ()),
        (Partial(201, etag='"a1"', length=200), ()),
        (Partial(100), ()),
        (Partial(100, etag='W/"a1"'), ()),
        (Partial(100, etag='w/"a1"'), ()),
        (Partial(100, etag="a1"), ()),
        (Partial(100, etag=""), ()),
        (Partial(100, etag='"a"b"'), ()),
        (Partial(100, etag='"a b"'), ()),
        (Partial(100, etag='"a", "b"'), ()),
        (Partial(100, etag='"a\r\nx-evil: 1"'), ()),
        (Partial(100, etag='"a"\n'), ()),
        (Partial(100, etag='"\u20ac"'), ()),
        (
            Partial(100, etag='"' + "a" * 1022 + '"'),
            ((b"range", b"bytes=100-"), (b"if-range", b'"%s"' % (b"a" * 1022))),
        ),
        (Partial(100, etag='"' + "a" * 1023 + '"'), ()),
        (Partial(100, last_modified=MODIFIED), ()),
        (Partial(100, last_modified=MODIFIED, date=MODIFIED), ()),
        (Partial(100, last_modified=MODIFIED, date="Mon, 23 Nov 2026 10:00:59 GMT"), ()),
        (Partial(100, last_modified=MODIFIED, date="Mon, 23 Nov 2026 09:00:00 GMT"), ()),
        (Partial(100, last_modified=MODIFIED, date="yesterday"), ()),
        (Partial(100, last_modified="Monday, 23-Nov-26 10:00:00 GMT", date="Mon, 23 Nov 2026 11:00:00 GMT"), ()),
        (Partial(100, last_modified="Mon Nov 23 10:00:00 2026", date="Mon, 23 Nov 2026 11:00:00 GMT"), ()),
        (Partial(100, last_modified="Tue, 31 Feb 2026 10:00:00 GMT", date="Mon, 23 Nov 2026 11:00:00 GMT"), ()),
        (Partial(100, last_modified="Tue, 03 Foo 2026 10:00:00 GMT", date="Mon, 23 Nov 2026 11:00:00 GMT"), ()),
        (Partial(100, last_modified="Tue, 03 Feb 2026 25:00:00 GMT", date="Mon, 23 Nov 2026 11:00:00 GMT"), ()),
        (Partial(100, etag='W/"a1"', last_modified=MODIFIED, date="Mon, 23 Nov 2026 11:00:00 GMT"), ()),
    ],
)
def test_only_a_strong_validator_asks_for_a_range(partial: Partial, sent: tuple[tuple[bytes, bytes], ...]) -> None:
    """Range comes with If-Range, a strong ETag or a date that is strong; where there is none, nothing is asked."""
    assert range_headers(partial) == sent


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bytes 0-0/1", ContentRange(0, 0, 1)),
        ("bytes 100-199/200", ContentRange(100, 199, 200)),
        ("bytes 100-199/*", ContentRange(100, 199, None)),
        ("BYTES  1-2/3 ", ContentRange(1, 2, 3)),
        ("bytes 0-999999999999999998/999999999999999999", ContentRange(0, 10**18 - 2, 10**18 - 1)),
        ("bytes */200", Unsatisfied(200)),
        ("bytes */0", Unsatisfied(0)),
        ("bytes */*", Unsatisfied(None)),
        ("", None),
        ("bytes", None),
        ("bytes=0-0/1", None),
        ("bytes: 0-0/1", None),
        ("items 0-0/1", None),
        ("bytes 0-0", None),
        ("bytes 0-/1", None),
        ("bytes -0/1", None),
        ("bytes 2-1/3", None),
        ("bytes 0-1/1", None),
        ("bytes 5-6/3", None),
        ("bytes 0-0/1, bytes 0-0/1", None),
        ("bytes 0-0/1,2-2/3", None),
        ("bytes +0-0/1", None),
        ("bytes 0 - 0 / 1", None),
        ("bytes 0x0-0x1/2", None),
        ("bytes ٠-٠/١", None),
        ("bytes 0-0/1\n", None),
        ("bytes 0-" + "9" * 19 + "/*", None),
        ("bytes 0-0/" + "9" * 5000, None),
    ],
)
def test_content_range(text: str, said: ContentRange | Unsatisfied | None) -> None:
    """RFC 9110 §14.4: an invalid range is no range, and no number is too large for what stores it."""
    assert parse_content_range(text) == said


ANSWERS: list[tuple[Partial | None, int, dict[str, str], Judgement]] = [
    # The rest, as it was asked for.
    (PART, 206, REST, Append(100, 100)),
    (PART, 206, rest(content_length=None), Append(100, 100)),
    (PART, 206, rest(content_range="bytes 100-199/*"), Append(100, 100)),
    (PART, 206, rest(content_encoding="identity"), Append(100, 100)),
    (PART, 206, rest(content_encoding=""), Append(100, 100)),
    (PART, 206, rest(last_modified="Tue, 24 Nov 2026 10:00:00 GMT"), Append(100, 100)),
    (PART, 206, rest(content_type="text/plain"), Append(100, 100)),
    (CHUNKED, 206, REST, Append(100, 100)),
    (DATED, 206, rest(etag=None), Append(100, 100)),
    (DATED, 206, rest(etag=None, last_modified=MODIFIED), Append(100, 100)),
    (
        Partial(100, etag='"a1"', content_encoding="x-gzip, GZIP"),
        206,
        rest(content_encoding="X-gzip,gzip"),
        Append(100, 100),
    ),
    (Partial(100, etag='"a1"', content_encoding="gzip"), 206, REST, Append(100, 100)),
    # Another range.
    (PART, 206, rest(content_range="bytes 0-199/200"), AskAgain("206 begins at 0, not at 100")),
    (PART, 206, rest(content_range="bytes 99-199/200"), AskAgain("206 begins at 99, not at 100")),
    (PART, 206, rest(content_range="bytes 101-199/200"), AskAgain("206 begins at 101, not at 100")),
    (PART, 206, rest(content_range="bytes 100-149/200"), AskAgain("206 ends at 149, not at the end")),
    (PART, 206, rest(content_range="bytes 100-149/*"), AskAgain("206 ends at 149, not at the end")),
    (PART, 206, rest(content_range="bytes 100-250/*"), AskAgain("206 ends at 250, not at the end")),
    (CHUNKED, 206, rest(content_range="bytes 100-149/200"), AskAgain("206 ends at 149, not at the end")),
    (CHUNKED, 206, rest(content_range="bytes 100-199/*"), AskAgain("206 ends at 199, not at the end")),
    # No range at all.
    (PART, 206, rest(content_range=None), AskAgain("206 without a valid Content-Range")),
    (PART, 206, rest(content_range=""), AskAgain("206 without a valid Content-Range")),
    (PART, 206, rest(content_range="bytes 100-99/200"), AskAgain("206 without a valid Content-Range")),
    (PART, 206, rest(content_range="bytes 100-199/50"), AskAgain("206 without a valid Content-Range")),
    (PART, 206, rest(content_range="bytes 100-200/200"), AskAgain("206 without a valid Content-Range")),
    (PART, 206, rest(content_range="bytes */200"), AskAgain("206 without a valid Content-Range")),
    (PART, 206, rest(content_range="items 100-199/200"), AskAgain("206 without a valid Content-Range")),
    (
        PART,
        206,
        rest(content_range="bytes 100-199/200, bytes 100-199/200"),
        AskAgain("206 without a valid Content-Range"),
    ),
    (PART, 206, rest(content_type="multipart/byteranges; boundary=x"), AskAgain("206 in several parts")),
    (
        PART,
        206,
        rest(content_range=None, content_type="Multipart/ByteRanges;boundary=x"),
        AskAgain("206 in several parts"),
    ),
    # Another entity.
    (PART, 206, rest(etag='"a2"'), AskAgain("another ETag")),
    (PART, 206, rest(etag='W/"a1"'), AskAgain("another ETag")),
    (PART, 206, rest(etag='"A1"'), AskAgain("another ETag")),
    (PART, 206, rest(etag="a1"), AskAgain("another ETag")),
    (PART, 206, rest(etag='"a1", "a1"'), AskAgain("another ETag")),
    (PART, 206, rest(etag=""), AskAgain("another ETag")),
    (PART, 206, rest(etag=None), AskAgain("206 without the ETag that the entity had")),
    (PART, 206, rest(etag=None, last_modified="Tue, 24 Nov 2026 10:00:00 GMT"), AskAgain("another Last-Modified")),
    (DATED, 206, REST, AskAgain("another ETag")),
    (DATED, 206, rest(etag=None, last_modified="Mon, 23 Nov 2026 10:00:01 GMT"), AskAgain("another Last-Modified")),
    (PART, 206, rest(content_range="bytes 100-200/201"), AskAgain("complete length 201, and it was 200")),
    (PART, 206, rest(content_range="bytes 100-199/300"), AskAgain("complete length 300, and it was 200")),
    # Other bytes of the same entity.
    (PART, 206, rest(content_encoding="gzip"), AskAgain("another Content-Encoding")),
    (PART, 206, rest(content_encoding="identity, br"), AskAgain("another Content-Encoding")),
    (
        Partial(100, etag='"a1"', content_encoding="gzip"),
        206,
        rest(content_encoding="identity"),
        AskAgain("another Content-Encoding"),
    ),
    # Other bytes than were promised.
    (PART, 206, rest(content_length="99"), AskAgain("Content-Length is not that of the range")),
    (PART, 206, rest(content_length="200"), AskAgain("Content-Length is not that of the range")),
    (PART, 206, rest(content_length="100, 100"), AskAgain("Content-Length is not that of the range")),
    (PART, 206, rest(content_length=""), AskAgain("Content-Length is not that of the range")),
    (PART, 206, rest(content_length="+100"), AskAgain("Content-Length is not that of the range")),
    # The whole entity, whether a range was asked for or not, and whatever it says beside it.
    (PART, 200, {"content-length": "200", "etag": '"a2"'}, StartOver(200)),
    (PART, 200, REST, StartOver(100)),
    (PART, 200, {}, StartOver(None)),
    (PART, 203, {"content-length": "0"}, StartOver(0)),
    (None, 200, {"content-length": "7"}, StartOver(7)),
    (None, 200, {"content-length": "seven"}, StartOver(None)),
    (None, 200, {"content-length": "9" * 5000}, StartOver(None)),
    (None, 204, {}, StartOver(None)),
    (Partial(100), 200, {"content-length": "7"}, StartOver(7)),
    # Nothing is missing.
    (Partial(200, etag='"a1"', length=200), 416, {"content-range": "bytes */200"}, AlreadyWhole()),
    (CHUNKED, 416, {"content-range": "bytes */100"}, AlreadyWhole()),
    (CHUNKED, 416, TAG | {"content-range": "bytes */100"}, AlreadyWhole()),
    (Partial(200, last_modified=MODIFIED, date=DATED.date), 416, {"content-range": "bytes */200"}, AlreadyWhole()),
    # There is another entity.
    (PART, 416, {"content-range": "bytes */50"}, AskAgain("416, complete length 50, and 100 bytes are here")),
    (PART, 416, {"content-range": "bytes */200"}, AskAgain("416, complete length 200, and 100 bytes are here")),
    (PART, 416, {"content-range": "bytes */100"}, AskAgain("416, complete length 100, and 100 bytes are here")),
    (CHUNKED, 416, {"content-range": "bytes */100", "etag": '"a2"'}, AskAgain("another ETag")),
    (CHUNKED, 416, {"content-range": "bytes */100", "etag": 'W/"a1"'}, AskAgain("another ETag")),
    (CHUNKED, 416, {"content-range": "bytes */*"}, AskAgain("416 does not say the complete length")),
    (CHUNKED, 416, {"content-range": "bytes 0-99/100"}, AskAgain("416 does not say the complete length")),
    (CHUNKED, 416, {}, AskAgain("416 does not say the complete length")),
    # What nobody asked for.
    (None, 206, REST, Refuse("206 although no range was asked for")),
    (None, 206, rest(content_range="bytes 0-199/200"), Refuse("206 although no range was asked for")),
    (None, 416, {"content-range": "bytes */0"}, Refuse("416 although no range was asked for")),
    (Partial(100), 206, REST, Refuse("206 although no range was asked for")),
    (Partial(100, etag='W/"a1"'), 206, rest(etag='W/"a1"'), Refuse("206 although no range was asked for")),
    (Partial(0, etag='"a1"'), 206, REST, Refuse("206 although no range was asked for")),
    (PART, 304, TAG, Refuse("status 304 brings no entity")),
    (PART, 412, {}, Refuse("status 412 brings no entity")),
    (PART, 503, {}, Refuse("status 503 brings no entity")),
    (PART, 100, {}, Refuse("status 100 brings no entity")),
]


@pytest.mark.parametrize(("partial", "status", "headers", "judgement"), ANSWERS)
def test_each_answer_has_its_judgement(
    partial: Partial | None, status: int, headers: dict[str, str], judgement: Judgement
) -> None:
    """The table of answers: only the very rest of the very entity continues a part."""
    assert judge(partial, status, headers) == judgement


TAGS = st.sampled_from(['"a1"', '"a2"', 'W/"a1"', "a1", ""])
NUMBERS = st.integers(min_value=0, max_value=12)
RANGES = st.one_of(
    st.builds("bytes {}-{}/{}".format, NUMBERS, NUMBERS, st.one_of(NUMBERS, st.just("*"))),
    st.builds("bytes */{}".format, NUMBERS),
    st.text(max_size=20),
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "etag": TAGS,
        "content-range": RANGES,
        "content-length": st.builds(str, NUMBERS),
        "content-encoding": st.sampled_from(["gzip", "identity", ""]),
        "content-type": st.sampled_from(["text/plain", "multipart/byteranges"]),
    },
)
PARTS = st.builds(Partial, NUMBERS, etag=st.none() | TAGS, length=st.none() | NUMBERS)


@given(PARTS, st.sampled_from([200, 206, 416]), HEADERS)
def test_what_is_appended_makes_the_entity_whole(part: Partial, status: int, headers: dict[str, str]) -> None:
    """Whatever a server says: a part is continued only by a 206 of the same ETag, at its end, and up to the length."""
    match judge(part, status, headers):
        case Append(at, length):
            assert status == 206
            assert part.etag == headers["etag"] == '"a1"' or part.etag == headers["etag"] == '"a2"'
            assert at == part.have > 0
            assert length > 0
            assert part.length in (None, at + length)
            assert headers["content-range"].startswith(f"bytes {at}-{at + length - 1}/")
            assert headers.get("content-length", str(length)) == str(length)
        case AlreadyWhole():
            assert headers["content-range"] == f"bytes */{part.have}"
            assert part.length in (None, part.have)


@given(st.none() | PARTS.filter(lambda part: not range_headers(part)), st.integers(100, 599), HEADERS)
def test_a_request_without_range_is_never_asked_again(part: Any, status: int, headers: dict[str, str]) -> None:
    """There is no circle of asking again: without Range the whole entity comes, or the attempt fails."""
    assert isinstance(judge(part, status, headers), StartOver | Refuse)


@given(st.text(max_size=60))
def test_parsing_never_raises(text: str) -> None:
    """Any text is a range or is none."""
    parse_content_range(text)
    range_headers(Partial(1, etag=text))
    range_headers(Partial(1, last_modified=text, date=MODIFIED))
