"""The reader of responses: however the bytes are split, and whatever they are, it gives one answer, and ends."""

from itertools import pairwise

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


def read(pieces: list[bytes]) -> Answer:
    """The status, the body, the error's type and whether the connection can be used again."""
    reader, collected, error = ResponseReader(), Collected(), None
    reader.begin(collected, "http://h/")
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


@given(st.sampled_from(RESPONSES), st.lists(st.floats(0, 1), max_size=20))
def test_how_a_response_is_split_makes_no_difference(response: bytes, cuts: list[float]) -> None:
    """Every split of a response gives the same status, the same body or the same error."""
    places = [0, *sorted(int(cut * len(response)) for cut in cuts), len(response)]
    assert read([response[a:b] for a, b in pairwise(places)]) == read([response])


def test_byte_by_byte() -> None:
    """The smallest pieces, for every response of the table."""
    for response in RESPONSES:
        if len(response) < 3000:
            assert read([response[place : place + 1] for place in range(len(response))]) == read([response]), response[
                :80
            ]


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
