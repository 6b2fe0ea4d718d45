"""Decoding bodies: the same bytes however they were split, an error for whatever is not whole, and no bomb goes off."""

import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from random import Random

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.errors import BadEncoding, ExpandsTooMuch
from eventflow.http.decoding import PIECE_BYTES_MAX, DecodingLimits, accept_encoding, decoder

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

URL = "https://example.org/a"
LIMITS = DecodingLimits()
ANY_SIZE = DecodingLimits(ratio_max=1e9)
TEXT = b"".join(b"line %d of a text that repeats itself\n" % (number % 97) for number in range(3000))
NOISE = Random(5).randbytes(40_000)
ZEROS = bytes(3 * 1024 * 1024)


def raw_deflate(data: bytes) -> bytes:
    """Deflate without the zlib format around it."""
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


def brotli_fast(data: bytes) -> bytes:
    """Brotli that does not take a second for a megabyte."""
    return bytes(brotli.compress(data, quality=1))


ENCODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
ENCODERS |= {"br": brotli_fast, "zstd": zstd.compress}
STREAMS: list[tuple[str, Callable[[bytes], bytes]]] = [*ENCODERS.items(), ("deflate", raw_deflate)]


def encode(content_encoding: str, data: bytes) -> bytes:
    """The body with these codings applied, the first first."""
    for name in content_encoding.split(","):
        data = ENCODERS[name.strip()](data)
    return data


def feed(content_encoding: str, pieces: Iterable[bytes], limits: DecodingLimits = LIMITS) -> Iterator[bytes]:
    """What comes out, piece by piece, and the end is said."""
    decoding = decoder(content_encoding, limits, URL)
    for piece in pieces:
        yield from decoding.feed(piece)
    decoding.finish()


def decode(content_encoding: str, *pieces: bytes, limits: DecodingLimits = LIMITS) -> bytes:
    """All that comes out."""
    return b"".join(feed(content_encoding, pieces, limits))


@pytest.mark.parametrize("number", range(len(STREAMS)))
@pytest.mark.parametrize("data", [b"", b"a", TEXT, NOISE, ZEROS], ids=["empty", "byte", "text", "noise", "zeros"])
def test_each_coding_gives_back_the_bytes(number: int, data: bytes) -> None:
    """What was encoded comes back, fed at once and byte for byte."""
    name, encoder = STREAMS[number]
    body = encoder(data)
    assert decode(name, body, limits=ANY_SIZE) == data
    if len(body) < 20_000:
        assert decode(name, *(body[place : place + 1] for place in range(len(body))), limits=ANY_SIZE) == data


@pytest.mark.parametrize("number", range(len(STREAMS)))
def test_the_end_of_a_piece_may_be_anywhere(number: int) -> None:
    """A body that ends just after a full piece is whole: nothing stays inside the decoder, not even the end itself."""
    name, encoder = STREAMS[number]
    for more in (0, 1, 2, 20, 100, 242, 243, 244, 258, 500):
        data = bytes(PIECE_BYTES_MAX + more)
        assert decode(name, encoder(data)) == data


@pytest.mark.parametrize("first", [b"\x00", b"\x01", b"\x08", b"\x98"])
def test_raw_deflate_is_told_from_the_zlib_format(first: bytes) -> None:
    """Each kind of stored block, of each length: only what is a zlib header in all three ways is taken for one."""
    lookalikes = 0
    for length in range(256):
        block = first + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little") + NOISE[:length]
        body = block if first == b"\x01" else block + b"\x01\0\0\xff\xff"
        if first == b"\x08" and int.from_bytes(body[:2]) % 31 == 0:
            lookalikes += 1  # no encoder sets that bit of padding
        else:
            assert decode("deflate", body) == NOISE[:length]
    assert lookalikes == (8 if first == b"\x08" else 0)


@pytest.mark.parametrize(
    ("content_encoding", "codings"),
    [
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("X-GZIP", "gzip"),
        (" gzip ", "gzip"),
        ("\tbr\t", "br"),
        ("identity,gzip", "gzip"),
        ("gzip, Identity", "gzip"),
        (",gzip,,", "gzip"),
        ("gzip, br", "gzip,br"),
        ("br,gzip", "br,gzip"),
        ("zstd,deflate , x-gzip", "zstd,deflate,gzip"),
        ("gzip,gzip,gzip,identity", "gzip,gzip,gzip"),
    ],
)
def test_codings_are_taken_away_from_the_last_to_the_first(content_encoding: str, codings: str) -> None:
    """Case, blanks, empty elements, `identity` and the alias `x-gzip` make no difference (RFC 9110 §8.4, §5.6.1)."""
    assert decode(content_encoding, encode(codings, TEXT)) == TEXT


@pytest.mark.parametrize("content_encoding", ["", "identity", " , Identity,"])
def test_without_a_coding_the_bytes_are_left_alone(content_encoding: str) -> None:
    """Identity gives what it is fed, in pieces of a bounded size as well."""
    assert decode(content_encoding, b"", TEXT, NOISE) == TEXT + NOISE
    assert max(map(len, feed(content_encoding, [ZEROS]))) == PIECE_BYTES_MAX


@pytest.mark.parametrize(
    ("content_encoding", "problem"),
    [
        ("compress", "'compress' is not known"),
        ("gzip;q=1", "'gzip;q=1' is not known"),
        ("gzip br", "'gzip br' is not known"),
        ("gzip, aes128gcm", "'aes128gcm' is not known"),
        ("*", "'*' is not known"),
        ("x\x1b[2J", "not known"),
        ("z" * 10_000, "not known"),
        ("gzip,gzip,gzip,gzip", "4 codings"),
        (",".join(["br"] * 1000), "1000 codings"),
    ],
)
def test_what_cannot_be_decoded_is_refused_at_once(content_encoding: str, problem: str) -> None:
    """An unknown coding, or a chain that is too long, is an error before a byte is read, in one short line."""
    with pytest.raises(BadEncoding) as caught:
        decoder(content_encoding, LIMITS, URL)
    assert problem in str(caught.value)
    assert caught.value.url == URL
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("content_encoding", [*ENCODERS, "gzip,br", "zstd,gzip"])
def test_an_empty_body_is_empty(content_encoding: str) -> None:
    """Servers send no byte for no content, whatever the header says; a piece without bytes is nothing."""
    assert decode(content_encoding) == b""
    assert decode(content_encoding, b"", b"") == b""
    assert decode(content_encoding, b"", encode(content_encoding, TEXT), b"") == TEXT


@pytest.mark.parametrize("number", range(len(STREAMS)))
def test_a_body_that_ends_early_is_an_error(number: int) -> None:
    """Cut after any byte: an error at the end, and what came out before is the beginning of the right bytes."""
    name, encoder = STREAMS[number]
    data = TEXT[:300] + NOISE[:200]
    body = encoder(data)
    for cut in range(1, len(body)):
        given: list[bytes] = []
        with pytest.raises(BadEncoding, match="ends early"):
            given.extend(feed(name, [body[:cut]]))
        assert data.startswith(b"".join(given))


@pytest.mark.parametrize("content_encoding", ["gzip,br", "br,zstd", "zstd,deflate,gzip"])
def test_a_chain_that_ends_early_is_an_error(content_encoding: str) -> None:
    """The outer coding may be whole and the inner one not."""
    *inner, outer = content_encoding.split(",")
    body = ENCODERS[outer](encode(",".join(inner), TEXT)[:-1])
    with pytest.raises(BadEncoding, match="ends early"):
        decode(content_encoding, body)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(
    "junk", [b"<!DOCTYPE html>", b"\xff" * 20, b"\x1f\x8b\xff" + bytes(20)], ids=["html", "ff", "gz"]
)
def test_a_body_in_no_coding_at_all_is_an_error(name: str, junk: bytes) -> None:
    """A header that lies, as of a page of errors, fails and names the coding."""
    with pytest.raises(BadEncoding, match=f"the {name} body"):
        decode(name, junk)


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
def test_a_wrong_check_is_an_error(name: str) -> None:
    """The check sum at the end counts, also when all bytes came out before."""
    body = (
        zstd.compress(TEXT, options={zstd.CompressionParameter.checksum_flag: 1})
        if name == "zstd"
        else encode(name, TEXT)
    )
    # In gzip the length stands after the check sum.
    place = -8 if name == "gzip" else -1
    wrong = bytearray(body)
    wrong[place] ^= 1
    with pytest.raises(BadEncoding, match="malformed"):
        decode(name, bytes(wrong))


def test_gzip_members_and_their_padding() -> None:
    """RFC 1952 §2.2: members follow one another; zeros after them are padding, and they may be split anywhere."""
    body = gzip.compress(b"a") + bytes(700) + gzip.compress(b"") + gzip.compress(b"b") + bytes(20_000)
    assert decode("gzip", body) == b"ab"
    assert decode("gzip", *(body[place : place + 1] for place in range(len(body)))) == b"ab"
    with pytest.raises(BadEncoding):
        decode("gzip", bytes(1) + gzip.compress(b"a"))


def test_zstd_frames_and_skippable_ones() -> None:
    """RFC 8878 §3: frames follow one another, and a skippable one has no content."""
    skippable = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    body = skippable + zstd.compress(b"a") + skippable + zstd.compress(b"b")
    assert decode("zstd", body) == b"ab"
    assert decode("zstd", *(body[place : place + 1] for place in range(len(body)))) == b"ab"


@pytest.mark.parametrize("number", range(len(STREAMS)))
@pytest.mark.parametrize("junk", [b"x", b"\x1f", b"\0x", b"junk" * 10])
def test_bytes_after_the_end_are_an_error(number: int, junk: bytes) -> None:
    """Nothing that was sent is left out without a word, in the same piece or in the next one."""
    name, encoder = STREAMS[number]
    body = encoder(TEXT)
    for pieces in ([body + junk], [body, junk], [body, junk[:1], junk[1:]]):
        with pytest.raises(BadEncoding, match=f"the {name} body"):
            decode(name, *pieces)


def test_a_zstd_window_over_eight_mebibytes_is_refused() -> None:
    """RFC 9659: a window decides how much memory a decoder takes, and a stranger does not."""
    parameter = zstd.CompressionParameter.window_log
    for window_log, fine in ((23, True), (24, False)):
        compressor = zstd.ZstdCompressor(options={parameter: window_log})
        body = compressor.compress(TEXT) + compressor.flush()
        if fine:
            assert decode("zstd", body) == TEXT
        else:
            with pytest.raises(BadEncoding, match="memory"):
                decode("zstd", body)


@pytest.mark.parametrize("content_encoding", [*ENCODERS, "gzip,gzip", "br,br", "zstd,zstd,zstd"])
def test_a_bomb_stops_early_in_little_memory(content_encoding: str) -> None:
    """A body that expands 200 times is stopped at the limit, in small pieces, and memory stays bounded."""
    body = encode(content_encoding, bytes(64 * 1024 * 1024))
    out = 0
    tracemalloc.start()
    try:
        with pytest.raises(ExpandsTooMuch, match="more than 200 times") as caught:  # noqa: PT012
            for piece in feed(content_encoding, [body]):
                assert len(piece) <= PIECE_BYTES_MAX
                out += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert out <= max(LIMITS.free_bytes, LIMITS.ratio_max * len(body))
    assert peak < 4 * 1024 * 1024
    assert caught.value.url == URL


def test_ten_gigabytes_in_ten_megabytes() -> None:
    """A bomb of 10 MB that would be 10 GB is stopped after its first bytes; the rest is not even looked at."""
    deflater = zlib.compressobj(9, wbits=31)
    start = b"".join(deflater.compress(bytes(1024 * 1024)) for _ in range(64))
    body = start * 170  # not whole, which is no matter here
    decoding = decoder("gzip", LIMITS, URL)
    with pytest.raises(ExpandsTooMuch):
        list(decoding.feed(body))
    assert len(body) > 10_000_000
    assert decoding.bytes_in <= 16 * 1024
    assert decoding.bytes_out <= LIMITS.ratio_max * decoding.bytes_in + PIECE_BYTES_MAX


def test_a_bomb_in_the_middle_of_a_chain() -> None:
    """A coding between the first and the last may expand with no byte at the end: it is stopped as well."""
    nothing = gzip.compress(b"") * 500_000
    with pytest.raises(ExpandsTooMuch, match="the zstd body"):
        decode("gzip,zstd", zstd.compress(nothing))


def test_many_members_without_content() -> None:
    """A megabyte of empty members is nothing, in linear time."""
    assert decode("gzip", gzip.compress(b"") * 50_000) == b""
    assert decode("zstd", zstd.compress(b"") * 50_000) == b""


def test_a_small_body_may_expand_freely() -> None:
    """Under `free_bytes` the ratio does not count; one byte more, and it does."""
    body = gzip.compress(bytes(LIMITS.free_bytes))
    assert len(body) * LIMITS.ratio_max < LIMITS.free_bytes
    assert decode("gzip", body) == bytes(LIMITS.free_bytes)
    with pytest.raises(ExpandsTooMuch):
        decode("gzip", gzip.compress(bytes(LIMITS.free_bytes + 1)))


@pytest.mark.parametrize("content_encoding", [*ENCODERS, "gzip,br"])
def test_the_number_of_bytes_is_limited(content_encoding: str) -> None:
    """`bytes_max` bytes may come out, and not one more; what came before the error is the beginning of the bytes."""
    body = encode(content_encoding, NOISE)
    assert decode(content_encoding, body, limits=DecodingLimits(bytes_max=len(NOISE))) == NOISE
    with pytest.raises(ExpandsTooMuch, match=f"more than {len(NOISE) - 1} bytes"):
        decode(content_encoding, body, limits=DecodingLimits(bytes_max=len(NOISE) - 1))


def test_a_text_is_no_bomb() -> None:
    """What compresses well, and is common, is under the ratio: JSON with long keys that repeat."""
    rows = b"".join(b'{"identifier":%d,"measured_temperature_celsius":%d}\n' % (n, n % 40) for n in range(100_000))
    for name in ENCODERS:
        assert decode(name, encode(name, rows)) == rows


def test_the_numbers_of_bytes_are_known() -> None:
    """What was taken and what came out can be asked for: an event says both."""
    decoding = decoder("gzip", LIMITS, URL)
    body = gzip.compress(TEXT)
    assert b"".join(decoding.feed(body)) == TEXT
    assert (decoding.bytes_in, decoding.bytes_out) == (len(body), len(TEXT))
    plain = decoder("", LIMITS, URL)
    assert list(plain.feed(b"abc")) == [b"abc"]
    assert (plain.bytes_in, plain.bytes_out) == (3, 3)


def test_what_is_not_read_is_not_lost_silently() -> None:
    """A caller that leaves pieces unread has a mistake, and hears of it at the next call."""
    for call in (lambda made: made.finish(), lambda made: made.feed(b"")):
        decoding = decoder("gzip", LIMITS, URL)
        next(decoding.feed(gzip.compress(ZEROS[: 2 * PIECE_BYTES_MAX])))
        with pytest.raises(RuntimeError, match="not read"):
            call(decoding)


def test_only_what_can_be_decoded_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its package a coding is not offered, and when it comes all the same it is an error, not a crash."""
    assert accept_encoding() == "gzip, deflate, br, zstd"
    for module in ("brotli", "backports.zstd", "compression.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    assert accept_encoding() == "gzip, deflate"
    for name in ("br", "zstd"):
        with pytest.raises(BadEncoding, match="not known here"):
            decoder(name, LIMITS, URL)


def test_a_brotli_without_limits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 1.2 one call may give a gigabyte: better no brotli than that."""
    monkeypatch.setattr(brotli, "Decompressor", object)
    assert accept_encoding() == "gzip, deflate, zstd"


BODIES = [
    ("gzip", gzip.compress(TEXT) + bytes(9) + gzip.compress(b"") + gzip.compress(NOISE), TEXT + NOISE),
    ("deflate", zlib.compress(TEXT), TEXT),
    ("deflate", raw_deflate(NOISE), NOISE),
    ("br", brotli_fast(ZEROS), ZEROS),
    ("zstd", zstd.compress(TEXT) + zstd.compress(NOISE), TEXT + NOISE),
    ("zstd", zstd.compress(ZEROS), ZEROS),
    ("gzip, br", encode("gzip,br", TEXT), TEXT),
    ("br, zstd, gzip", encode("br,zstd,gzip", NOISE), NOISE),
]


@given(st.sampled_from(BODIES), st.lists(st.floats(0, 1), max_size=12))
def test_how_a_body_is_split_makes_no_difference(body: tuple[str, bytes, bytes], cuts: list[float]) -> None:
    """For any split of the body the decoded bytes are the same, in pieces of a bounded size."""
    content_encoding, data, decoded = body
    places = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
    pieces = (data[start:end] for start, end in pairwise(places))
    given = list(feed(content_encoding, pieces, ANY_SIZE))
    assert b"".join(given) == decoded
    assert all(0 < len(piece) <= PIECE_BYTES_MAX for piece in given)


@given(st.sampled_from(BODIES), st.floats(0, 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_body_is_an_error_or_was_not_damaged(body: tuple[str, bytes, bytes], at: float, put: bytes) -> None:
    """Whatever bytes are put over a body, nothing but the two expected errors is raised, and no piece is too large."""
    content_encoding, data, _ = body
    place = int(at * len(data))
    with suppress(BadEncoding, ExpandsTooMuch):
        for piece in feed(content_encoding, [data[:place] + put + data[place + len(put) :]]):
            assert 0 < len(piece) <= PIECE_BYTES_MAX


@given(st.text(max_size=20) | st.lists(st.sampled_from([*ENCODERS, "identity", "", " "])).map(",".join), st.binary())
def test_any_header_and_any_bytes(content_encoding: str, data: bytes) -> None:
    """No header and no body does more than fail with an expected error."""
    with suppress(BadEncoding, ExpandsTooMuch):
        decode(content_encoding, data)
