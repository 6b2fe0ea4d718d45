"""What is said to a request: pure, so every rule of HTTP and every fault is looked at without a server."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.origin.answer import (
    BODY_FAULTS,
    LAST_MODIFIED,
    Ending,
    Request,
    answer_file,
    file_number,
    wanted_range,
)
from eventflow.origin.content import content
from eventflow.origin.settings import Fault, OriginSettings

SETTINGS = OriginSettings(files=10, size=1_000, retry_after_s=7)
WHOLE = content(SETTINGS, 3)
GET, HEAD = Request(b"GET", b"/files/000003.bin"), Request(b"HEAD", b"/files/000003.bin")


def promised(head: bytes) -> int:
    """The Content-Length in a head."""
    return int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])


@pytest.mark.parametrize("size", [0, 1, 1_000, 300_000])
@pytest.mark.parametrize("fault", [None, *Fault], ids=str)
def test_a_body_is_as_long_as_its_head_says_unless_that_is_the_fault(fault: Fault | None, size: int) -> None:
    """A short body and a wrong length promise more than comes, a stall brings nothing, the others keep their word."""
    answer = answer_file(OriginSettings(size=size), GET, 3, fault)
    body = b"".join(answer.body)
    assert len(body) == answer.length
    if fault in (Fault.RESET, Fault.REFUSE):
        assert (answer.head, answer.ending) == (b"", Ending.RESET)
        return
    difference = promised(answer.head) - len(body)
    expected = {
        Fault.STALL: size,
        Fault.SHORT_BODY: max(1, size - size // 2),
        Fault.WRONG_LENGTH: 1,
    }
    assert difference == expected.get(fault, 0) if fault else difference == 0
    endings = {Fault.STALL: Ending.STALLED, Fault.SHORT_BODY: Ending.CLOSED, Fault.WRONG_LENGTH: Ending.CLOSED}
    assert answer.ending is (endings.get(fault, Ending.KEPT) if fault else Ending.KEPT)


def test_wrong_bytes_are_all_wrong() -> None:
    """As many as there should be, and each another one."""
    body = b"".join(answer_file(SETTINGS, GET, 3, Fault.WRONG_BYTES).body)
    assert len(body) == len(WHOLE)
    assert all(found != right for found, right in zip(body, WHOLE, strict=True))


def test_a_short_body_is_the_beginning_and_can_be_gone_on_with() -> None:
    """The head has the ETag, and a range from where it broke off with If-Range gives the rest."""
    broken = answer_file(SETTINGS, GET, 3, Fault.SHORT_BODY)
    got = b"".join(broken.body)
    etag = broken.head.split(b"ETag: ")[1].split(b"\r\n")[0].decode()
    rest = answer_file(SETTINGS, GET._replace(range=f"bytes={len(got)}-", if_range=etag), 3, None)
    assert rest.head.startswith(b"HTTP/1.1 206 ")
    assert got + b"".join(rest.body) == WHOLE


def test_an_etag_means_the_same_bytes() -> None:
    """Another seed, file or size has another."""
    settings = [OriginSettings(seed=seed, size=size) for seed, size in itertools.product((1, 2), (500, 501))]
    heads = {answer_file(one, HEAD, number, None).head for one in settings for number in (1, 2)}
    assert len({head.split(b"ETag: ")[1].split(b"\r\n")[0] for head in heads}) == 8


@pytest.mark.parametrize("fault", [None, *sorted(BODY_FAULTS)], ids=str)
def test_head_is_get_without_a_body(fault: Fault | None) -> None:
    """RFC 9110 §9.3.2; no body, so no fault of a body, and the connection can be kept."""
    answer, good = answer_file(SETTINGS, HEAD, 3, fault), answer_file(SETTINGS, GET, 3, None)
    assert (answer.head, b"".join(answer.body), answer.ending) == (good.head, b"", Ending.KEPT)


def test_errors_are_whole_answers() -> None:
    """500, and 503 with Retry-After: a head that promises nothing."""
    assert answer_file(SETTINGS, GET, 3, Fault.ERROR).head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    unavailable = answer_file(SETTINGS, GET, 3, Fault.UNAVAILABLE)
    assert unavailable.head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 7\r\n" in unavailable.head


def test_a_client_that_wants_to_close_is_closed() -> None:
    """Whatever the answer is, and told so where it is one."""
    for fault in (None, Fault.ERROR, Fault.UNAVAILABLE, Fault.WRONG_BYTES):
        answer = answer_file(SETTINGS, GET._replace(kept=False), 3, fault)
        assert answer.ending is Ending.CLOSED
        assert b"\r\nConnection: close\r\n" in answer.head


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=500-", 500, 1_000),
        ("bytes=-10", 990, 1_000),
        ("bytes=-5000", 0, 1_000),
        ("bytes=999-5000", 999, 1_000),
        ("Bytes = 0-0", 0, 1),
    ],
)
def test_a_range_is_that_part(text: str, start: int, end: int) -> None:
    """RFC 9110 §14.1.2."""
    answer = answer_file(SETTINGS, GET._replace(range=text), 3, None)
    assert answer.head.startswith(b"HTTP/1.1 206 Partial Content\r\n")
    assert f"\r\nContent-Range: bytes {start}-{end - 1}/1000\r\n".encode() in answer.head
    assert b"".join(answer.body) == WHOLE[start:end]


@pytest.mark.parametrize("text", ["bytes=1000-", "bytes=5000-6000", "bytes=-0", "bytes=5-4"])
def test_a_range_that_is_not_there_says_how_long_the_file_is(text: str) -> None:
    """RFC 9110 §15.5.17."""
    answer = answer_file(SETTINGS, GET._replace(range=text), 3, None)
    assert answer.head.startswith(b"HTTP/1.1 416 Range Not Satisfiable\r\n")
    assert b"\r\nContent-Range: bytes */1000\r\n" in answer.head


@pytest.mark.parametrize(
    "text", ["", "bytes", "bytes=", "bytes=-", "bytes=x-y", "bytes=1-2,4-5", "lines=1-2", "bytes=²-", "bytes=٣-"]
)
def test_a_range_that_is_none_is_passed_over(text: str) -> None:
    """The whole file, as for a client that knows no ranges."""
    assert wanted_range(GET._replace(range=text), 1_000, '"e"') == (0, 1_000, 200)


def test_if_range_guards_against_another_file() -> None:
    """A part only of the very file that the client has the beginning of (RFC 9110 §13.1.5); and only for GET."""
    part = GET._replace(range="bytes=5-9")
    for guard, status in (("", 206), ('"e"', 206), (LAST_MODIFIED, 206), ('"other"', 200), ('W/"e"', 200)):
        assert wanted_range(part._replace(if_range=guard), 1_000, '"e"')[2] == status
    assert wanted_range(part._replace(method=b"HEAD"), 1_000, '"e"')[2] == 200


@given(st.text(), st.integers(0, 10**6))
def test_any_range_gives_a_part_of_the_file(text: str, size: int) -> None:
    """Or all of it, or none; and never an error."""
    for wanted in (text, f"bytes={text}", f"bytes={text}-"):
        start, end, status = wanted_range(GET._replace(range=wanted), size, '"e"')
        assert 0 <= start <= end <= size
        assert status in (200, 206, 416)
        assert status != 206 or start < end


@pytest.mark.parametrize(
    ("target", "number"),
    [
        (b"/files/000003.bin", 3),
        (b"/files/000003.bin?again=1", 3),
        (b"/files/000010.bin", None),
        (b"/files/x.bin", None),
        (b"/files/.bin", None),
        (b"/files/-1.bin", None),
        (b"/files/3", None),
        (b"3.bin", None),
        (b"/files/../etc/passwd", None),
        (b"/files/" + b"1" * 5_000 + b".bin", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_target_is_a_file_or_is_not(target: bytes, number: int | None) -> None:
    """Only what the list has."""
    assert file_number(target, 10) == number
