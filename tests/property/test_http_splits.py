"""The reader of responses: however the bytes are split, and whatever they are, it gives one answer, and ends."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.errors import RequestError
from eventflow.http.message import Head, ResponseReader
from tests.hostile_server import CASES

RESPONSES = sorted(case.send for case in CASES.values() if isinstance(case.send, bytes) and len(case.send) < 20_000)
Answer = tuple[int | None, bytes, str | None, bool]


class Collected:
    """Takes a response down."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.body = b""

    def on_head(self, head: Head) -> None:
        self.head = head

    def on_body(self, piece: bytes) -> None:
        assert self.head is not None
        self.body += piece


def read(pieces: list[bytes], *, head_only: bool = False) -> Answer:
    """The status, the body, the error's type and whether the response is whole."""
    reader, collected, error = ResponseReader(), Collected(), None
    reader.begin(collected, "http://h/", head_only=head_only)
    try:
        for piece in pieces:
            if piece and not reader.is_complete:
                reader.feed(piece)
        if not reader.is_complete:
            reader.end()
    except RequestError as problem:
        error = type(problem).__name__
    # What stands behind a response is seen only if it comes in the same read, so that may differ.
    status = collected.head.status if collected.head else None
    return status, collected.body, error, reader.is_complete


@given(st.sampled_from(RESPONSES), st.lists(st.floats(0, 1), max_size=20), st.booleans())
def test_how_a_response_is_split_makes_no_difference(response: bytes, cuts: list[float], head_only: bool) -> None:
    """Every split of a response gives the same status, the same body or the same error, to HEAD as well."""
    places = [0, *sorted(int(cut * len(response)) for cut in cuts), len(response)]
    split = read([response[a:b] for a, b in pairwise(places)], head_only=head_only)
    assert split == read([response], head_only=head_only)


@pytest.mark.parametrize("head_only", [False, True])
def test_byte_by_byte(head_only: bool) -> None:
    """The smallest pieces, for every response of the table."""
    for response in RESPONSES:
        if len(response) < 3000:
            split = read([response[place : place + 1] for place in range(len(response))], head_only=head_only)
            assert split == read([response], head_only=head_only), response[:80]


def test_a_response_to_head_ends_with_its_head() -> None:
    """Whatever its headers promise (RFC 9112 §6.3); what stands behind it makes the connection one that is not kept."""
    for response in RESPONSES:
        head, _, rest = response.partition(b"\r\n\r\n")
        status, body, error, is_whole = read([head + b"\r\n\r\n"], head_only=True)
        if status is not None and error is None:
            assert (body, is_whole) == (b"", True), head
            reader = ResponseReader()
            reader.begin(Collected(), "http://h/", head_only=True)
            reader.feed(response)
            assert reader.has_surplus == bool(rest), response[:80]


@pytest.mark.parametrize("blanks", [" ", "\t", " \t  "])
def test_blanks_around_a_value_are_none_of_it(blanks: str) -> None:
    """In front of it or behind it (RFC 9112 §5); those within it are."""
    collected = Collected()
    reader = ResponseReader()
    reader.begin(collected, "http://h/")
    reader.feed(f"HTTP/1.1 200 OK\r\nA:{blanks}b{blanks}c{blanks}\r\nContent-Length:{blanks}0{blanks}\r\n\r\n".encode())
    assert collected.head is not None
    assert collected.head.headers == {"a": f"b{blanks}c", "content-length": "0"}
    assert reader.is_complete


@given(st.sampled_from(RESPONSES), st.floats(0, 1), st.binary(max_size=12), st.integers(0, 12))
def test_any_bytes_are_a_response_or_an_error_of_ours(response: bytes, at: float, put: bytes, gone: int) -> None:
    """Bytes put in and taken out anywhere: a response, or one of our errors; nothing else is raised."""
    place = int(at * len(response))
    changed = response[:place] + put + response[place + gone :]
    assert read([changed]) == read([changed[: len(changed) // 2], changed[len(changed) // 2 :]])


@given(st.binary(max_size=300))
def test_noise(noise: bytes) -> None:
    """What is no response at all is refused."""
    assert read([noise])[2] is not None or noise.startswith(b"HTTP/1.")
