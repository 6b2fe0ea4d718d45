"""Ranges: what to ask when part of a body is there, and what the answer allows. Pure.

Between the director, which knows from the log what part of a body is on the disk, and the transport. The force: the
bytes that come must continue *those* bytes. Servers answer with another range, with a changed entity, with several
ranges at once or with all of it, and most downloaders glue whatever comes to what they have.

What identifies an entity is its strong validator (RFC 9110 §8.8.1): an ETag without `W/`; or a Last-Modified, but only
when there is no ETag of any kind (§13.1.5) and the answer's Date is at least 60 seconds later. §8.8.2.2 asks for "at
least one second" *and* that the two clocks can be trusted to agree; we cannot know that they do, so the 60 seconds of
RFC 7232 §2.2.2, which absorb a clock that is a little wrong, are what we take.

Invariants:
    a request for a range has If-Range with a strong validator, or it is no request for a range;
    `Append` is only for a 206 that says exactly the range that was asked for, of an entity with the same validator,
    encoding and complete length. Whatever else a server says about itself leads to `StartOver`, `AskAgain`, `Refuse`;
    `AskAgain` and `Refuse` cannot follow each other for ever: a request without Range is only refused.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

import msgspec

MODIFIED_BEFORE_DATE_S = 60
VALIDATOR_BYTES_MAX = 1024  # a longer one would be sent back in each request; servers limit a request's head at 8 KiB

# RFC 9110 §8.8.3: etagc is any visible character but the quote, or obs-text.
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
# §5.6.7. The obsolete forms would have to be sent back in this form, and a server may compare the text.
_IMF_FIXDATE = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
# 18 digits: below 2**63, so that a log, a database and lseek take it.
_CONTENT_RANGE = re.compile(
    r"bytes +(?:([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)|\*/([0-9]{1,18}|\*))", re.IGNORECASE
)
_LENGTH = re.compile(r"[0-9]{1,18}")


class Partial(msgspec.Struct, frozen=True):
    """The part of a body that is on the disk, and what the answer that brought it said.

    Args:
        have: bytes on the disk, as they were sent: a part that was decoded cannot be continued.
        etag: the header ETag.
        last_modified: the header Last-Modified.
        date: the header Date.
        length: the complete length, in bytes, if it was known.
        content_encoding: the header Content-Encoding.
    """

    have: int
    etag: str | None = None
    last_modified: str | None = None
    date: str | None = None
    length: int | None = None
    content_encoding: str | None = None


class ContentRange(msgspec.Struct, frozen=True):
    """The bytes `first` to `last`, both counted from 0 and both inclusive, of `complete` bytes, None when unknown."""

    first: int
    last: int
    complete: int | None


class Unsatisfied(msgspec.Struct, frozen=True):
    """No byte of the range is there; the entity has `complete` bytes, None when unknown."""

    complete: int | None


class Append(msgspec.Struct, frozen=True):
    """The body continues the part: write at offset `at`; `length` bytes come, and then it is whole."""

    at: int
    length: int


class StartOver(msgspec.Struct, frozen=True):
    """The whole entity comes: cut the part to nothing. `length` bytes come, None when unknown."""

    length: int | None


class AlreadyWhole(msgspec.Struct, frozen=True):
    """Nothing was missing: the part is the entity."""


class AskAgain(msgspec.Struct, frozen=True):
    """Nothing can be said about the part: drop it and ask for the whole entity, without Range."""

    reason: str


class Refuse(msgspec.Struct, frozen=True):
    """The answer makes no sense for what was asked: the attempt failed."""

    reason: str


Judgement = Append | StartOver | AlreadyWhole | AskAgain | Refuse


def range_headers(partial: Partial) -> tuple[tuple[bytes, bytes], ...]:
    """Range and If-Range that ask for the rest of the part; empty when it must be started over (RFC 9110 §13.1.5).

    It is empty when there is nothing to save, no strong validator, or more than the entity had.

    >>> range_headers(Partial(100, etag='"a1"', length=200))
    ((b'range', b'bytes=100-'), (b'if-range', b'"a1"'))
    >>> range_headers(Partial(100, etag='W/"a1"'))
    ()
    """
    validator = strong_validator(partial)
    if validator is None or partial.have <= 0 or (partial.length is not None and partial.have > partial.length):
        return ()
    return (b"range", b"bytes=%d-" % partial.have), (b"if-range", validator.encode("latin-1"))


def strong_validator(partial: Partial) -> str | None:
    """What names this very entity, byte for byte, as If-Range takes it; None if nothing does (RFC 9110 §8.8.1)."""
    if partial.etag is not None:
        strong = len(partial.etag) <= VALIDATOR_BYTES_MAX and _STRONG_ETAG.fullmatch(partial.etag)
        return partial.etag if strong else None
    modified, date = _parsed_date(partial.last_modified), _parsed_date(partial.date)
    if modified is None or date is None or (date - modified).total_seconds() < MODIFIED_BEFORE_DATE_S:
        return None
    return partial.last_modified


def parse_content_range(text: str) -> ContentRange | Unsatisfied | None:
    """What a Content-Range header says; None if it is malformed, invalid or in another unit (RFC 9110 §14.4).

    >>> parse_content_range("bytes 100-199/200"), parse_content_range("bytes */200")
    (ContentRange(first=100, last=199, complete=200), Unsatisfied(complete=200))
    """
    match = _CONTENT_RANGE.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    first, last, complete, whole = match.groups()
    if whole is not None:
        return Unsatisfied(_number(whole))
    found = ContentRange(int(first), int(last), _number(complete))
    if found.first > found.last or (found.complete is not None and found.last >= found.complete):
        return None
    return found


def judge(partial: Partial | None, status: int, headers: Mapping[str, str]) -> Judgement:
    """What to do with an answer's body (RFC 9110 §14, §15.3.7, §15.5.17).

    Args:
        partial: the part whose `range_headers` were sent; None if there is none. When those are empty, no range was
            asked for, and that is taken into account.
        status: the answer's.
        headers: the answer's, names in lower case, several of one name joined by a comma.
    """
    if 200 <= status < 300 and status != 206:
        return StartOver(_length(headers))
    if status not in (206, 416):
        return Refuse(f"status {status} brings no entity")
    if partial is None or not range_headers(partial):
        return Refuse(f"{status} although no range was asked for")
    changed = _changed(partial, headers)
    if changed:
        return AskAgain(changed)
    given = parse_content_range(headers.get("content-range", ""))
    return _judge_unsatisfied(partial, given) if status == 416 else _judge_partial(partial, given, headers)


def _judge_unsatisfied(partial: Partial, given: ContentRange | Unsatisfied | None) -> Judgement:
    if not isinstance(given, Unsatisfied) or given.complete is None:
        return AskAgain("416 does not say the complete length")
    if given.complete != partial.have or partial.length not in (None, partial.have):
        return AskAgain(f"416, complete length {given.complete}, and {partial.have} bytes are here")
    return AlreadyWhole()


def _judge_partial(partial: Partial, given: ContentRange | Unsatisfied | None, headers: Mapping[str, str]) -> Judgement:
    # An answer to one range is never in parts (§15.3.7.2), so we have no reader for them.
    if headers.get("content-type", "").strip(" \t").lower().startswith("multipart/byteranges"):
        return AskAgain("206 in several parts")
    if not isinstance(given, ContentRange):
        return AskAgain("206 without a valid Content-Range")
    if given.first != partial.have:
        return AskAgain(f"206 begins at {given.first}, not at {partial.have}")
    if partial.length is not None and given.complete not in (None, partial.length):
        return AskAgain(f"complete length {given.complete}, and it was {partial.length}")
    complete = partial.length if given.complete is None else given.complete
    if complete is None or given.last + 1 != complete:
        return AskAgain(f"206 ends at {given.last}, not at the end")
    length = complete - partial.have
    if "content-length" in headers and _length(headers) != length:
        return AskAgain("Content-Length is not that of the range")
    # §15.3.7: an ETag MUST be in the 206 if it would be in the 200. A server that leaves it out may have ignored
    # If-Range as well, and then nothing would say that the entity is the same.
    if partial.etag is not None and "etag" not in headers:
        return AskAgain("206 without the ETag that the entity had")
    return Append(partial.have, length)


def _changed(partial: Partial, headers: Mapping[str, str]) -> str | None:
    """Which header says that this is not the entity that the part is of; None if none does."""
    etag = headers.get("etag")
    if etag is not None and etag.strip(" \t") != partial.etag:
        return "another ETag"
    # With the same strong ETag its time does not matter: two servers of one site may differ in it.
    modified = headers.get("last-modified") if etag is None else None
    if None not in (modified, partial.last_modified) and modified != partial.last_modified:
        return "another Last-Modified"
    encoding = headers.get("content-encoding")
    if encoding is not None and _codings(encoding) != _codings(partial.content_encoding or ""):
        return "another Content-Encoding"
    return None


def _codings(content_encoding: str) -> list[str]:
    return [
        coding for part in content_encoding.lower().split(",") if (coding := part.strip(" \t")) not in ("", "identity")
    ]


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "").strip(" \t")
    return int(text) if _LENGTH.fullmatch(text) else None


def _number(text: str) -> int | None:
    return None if text == "*" else int(text)


def _parsed_date(text: str | None) -> datetime | None:
    if text is None or not _IMF_FIXDATE.fullmatch(text):
        return None
    try:
        return parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None  # 31 February, 25 o'clock
