"""The fuzzer of the response reader, over its corpus and for a moment, so that neither is ever out of order."""

import random
from pathlib import Path

import pytest

from eventflow.http.message import HEAD_BYTES_MAX
from tests.fuzz.fuzz_http import (
    CORPUS,
    Answer,
    Violation,
    check,
    check_endless,
    from_text,
    fuzz,
    load,
    read,
    read_with_h11,
    require_equal,
    to_text,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.txt")), ids=lambda path: path.stem)
def test_what_must_hold_for_any_bytes_holds_for_the_corpus(path: Path) -> None:
    """Every split gives one answer, the next response is read on its own, and h11 reads the same."""
    data = from_text(path.read_text(encoding="ascii"))
    assert from_text(to_text(data)) == data
    check(data, random.Random(path.stem))


def test_a_moment_of_fuzzing_finds_nothing() -> None:
    """Two thousand responses of one seed; `fuzz_http.py` goes on for as long as it is told to."""
    outcomes = fuzz(load(CORPUS), 20261123, is_over=lambda count: count >= 2000)
    assert outcomes["taken"] > 100
    assert outcomes["BadResponse"] > 100
    assert outcomes["ShortBody"] > 10
    assert outcomes["HeadTooLarge"] > 5


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"", id="status line"),
        pytest.param(b"HTTP/1.1 200 ", id="reason"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA", id="name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: ", id="value"),
        pytest.param(CHUNKED + b"3;a=", id="extension"),
        pytest.param(CHUNKED + b"0\r\nA", id="name in a trailer"),
        pytest.param(CHUNKED + b"0\r\nA: ", id="value in a trailer"),
    ],
)
def test_nothing_without_end_is_collected(begin: bytes) -> None:
    """A part of a response that never ends is refused while it is small, wherever it stands (CWE-400)."""
    check_endless(begin, b"b")


def test_zeros_before_a_chunks_size_end() -> None:
    """`000…` is a number for as long as it goes on, and brings no body."""
    check_endless(CHUNKED, b"0")


@pytest.mark.parametrize("more", range(-2, 3))
def test_the_limit_of_the_head_does_not_depend_on_its_reads(more: int) -> None:
    """64 KiB are taken and one byte more is not, in whatever reads they come."""
    begin, end = b"HTTP/1.1 204 No Content\r\nA: ", b"\r\n\r\n"
    data = begin + b"b" * (HEAD_BYTES_MAX + more - len(begin) - len(end)) + end
    for size in (len(data), HEAD_BYTES_MAX, 4096, 1):
        answer = read(data[place : place + size] for place in range(0, len(data), size))
        assert answer.error == ("HeadTooLarge" if more > 0 else None)


def test_small_chunks_are_not_taken_for_an_attack() -> None:
    """A byte in a chunk is wasteful and allowed (RFC 9112 §7.1), with a trailer behind a megabyte of them as well."""
    answer = read([CHUNKED + b"1\r\nx\r\n" * 200_000 + b"0\r\nServer-Timing: a\r\n\r\n"])
    assert (answer.error, len(answer.body)) == (None, 200_000)


def test_the_fuzzer_can_find_something() -> None:
    """It is red for answers that differ, for bytes that nobody gets, and its other reader is one that reads."""
    whole = read_with_h11(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
    assert whole == Answer(200, b"abc", None, is_complete=True)
    assert read_with_h11(b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc") is None
    for other in (Answer(200, b"ab", None, is_complete=True), Answer(200, b"abc", None, is_complete=False)):
        with pytest.raises(Violation):
            require_equal(whole, other, "in another way")
