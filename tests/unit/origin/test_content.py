"""The bytes of the files follow from the seed and the number, so tests and clients can make them again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.origin.content import PIECE_BYTES, POOL_BYTES, checksum, content, file_name, pieces
from eventflow.origin.settings import OriginSettings, file_size


def test_content_follows_from_seed_and_number_alone() -> None:
    """Sizes, bytes and digests repeat; another seed or file has others."""
    one, other = (OriginSettings(size=5_000, size_spread=0.5, seed=seed) for seed in (1, 2))
    assert content(one, 3) == content(one, 3)
    assert len(content(one, 3)) == file_size(one, 3)
    assert len({checksum(one, 3), checksum(one, 4), checksum(other, 3)}) == 3
    assert content(OriginSettings(size=0), 0) == b""
    assert file_name(17) == "000017.bin"


def test_no_two_files_are_alike() -> None:
    """Also small ones: what is stored under a wrong name is seen."""
    settings = OriginSettings(size=16)
    assert len({content(settings, number) for number in range(5_000)}) == 5_000


@pytest.mark.parametrize("seed", [0, 1, -1, 2**70])
def test_the_bytes_are_the_same_in_every_release(seed: int) -> None:
    """The list that somebody kept is right as long as its seed is: these digests must never change."""
    known = {
        0: "c80925a62f060e3a",
        1: "426c1f8469fbedaf",
        -1: "28cf54d17034eda8",
        2**70: "1b9b999cbf712536",
    }
    assert checksum(OriginSettings(size=10_000, seed=seed), 5)[:16] == known[seed]


@given(st.integers(0, 3 * POOL_BYTES), st.data())
def test_any_part_is_that_part_of_the_whole(size: int, data: st.DataObject) -> None:
    """From any place to any other, in bounded pieces; none of them empty; beyond the end there is nothing."""
    settings = OriginSettings(size=size)
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size + 100))
    found = list(pieces(settings, 7, start, end))
    assert b"".join(found) == content(settings, 7)[start:end]
    assert all(0 < len(piece) <= PIECE_BYTES for piece in found)
