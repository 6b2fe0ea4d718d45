"""Cases of trying again: when a server says to wait, and when part of a large body is there already.

Rules are of RFC 9110 where only a section is named.
"""

import time
from email.utils import formatdate
from random import Random

from tests.hostile.server import BODY, Case, Close, Fails, Reset, Script, Stored, Visit, answer, on, raw
from tests.hostile_server import BODY as OTHER_BODY
from tests.hostile_server import pause

LARGE, CHANGED = Random(1).randbytes(600_000), Random(2).randbytes(600_000)
HAVE = 400_000
_REST = f"bytes={HAVE}-"
_ETAG = 'ETag: "one"'
_THERE = f"Content-Range: bytes {HAVE}-{len(LARGE) - 1}/{len(LARGE)}"
_CHUNKED_REST = raw("HTTP/1.1 206 Partial Content", "Transfer-Encoding: chunked", _ETAG, _THERE)
_MODIFIED = ("Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT", "Date: Mon, 01 Jan 2024 01:00:00 GMT")
_SLOWLY: Script = (
    answer(b"", length=300_000),
    *(on(pause(LARGE[place : place + 10_000], seconds=0.1)) for place in range(0, 300_000, 10_000)),
)


def _cut(*headers: str) -> Script:
    """The head of the large body and two thirds of it."""
    return answer(LARGE[:HAVE], *headers, length=len(LARGE)), Close


def _whole(body: bytes = LARGE, *headers: str) -> Script:
    return (answer(body, *headers),)


def _rest(*headers: str, body: bytes = LARGE[HAVE:], length: int | None = None) -> Script:
    return (answer(body, *headers, status="206 Partial Content", length=length),)


def _busy(retry_after: str, status: str = "503 Busy") -> Script:
    return (answer(b"", f"Retry-After: {retry_after}", status=status),)


def _busy_until(visit: Visit) -> None:
    """A date that is more than one second away, and at most three."""
    date = formatdate(int(time.time()) + 3, usegmt=True)
    visit.connection.sendall(answer(b"", f"Retry-After: {date}", status="429 Too Many"))


def _again(rule: str, *tries: Script, body: bytes = LARGE, ranges: tuple[str | None, ...] | None = None) -> Case:
    """The first try is cut off; what comes of it must be whole."""
    wanted = ranges if ranges is not None else (None, _REST, None)[: len(tries)]
    return Case(rule, Stored(body), tries, attempts=len(tries), ranges=wanted)


RANGES = {
    "rest": _again("§14.2: the rest of the same entity", _cut(_ETAG), _rest(_ETAG, _THERE)),
    "rest-by-date": _again("§8.8.2.2: a date is strong after a minute", _cut(*_MODIFIED), _rest(*_MODIFIED, _THERE)),
    "rest-after-reset": _again(
        "§14.2: what had arrived counts, however it ended; the sizes are as they come",
        (answer(LARGE[:HAVE], _ETAG, length=len(LARGE)), Reset),
        _whole(LARGE, _ETAG),
        ranges=(),
    ),
    "rest-in-two": _again(
        "§15.3.7: the rest of the rest",
        _cut(_ETAG),
        (answer(LARGE[HAVE:500_000], _ETAG, _THERE, status="206 Partial Content", length=200_000), Close),
        _rest(_ETAG, "Content-Range: bytes 500000-599999/600000", body=LARGE[500_000:]),
        ranges=(None, _REST, "bytes=500000-"),
    ),
    "range-ignored": _again("§14.2: a server may ignore Range", _cut(_ETAG), _whole(LARGE, _ETAG)),
    "changed": _again("§13.1.5: 200, for it has changed", _cut(_ETAG), _whole(CHANGED, 'ETag: "two"'), body=CHANGED),
    "changed-and-206": _again(
        "§15.3.7.3: another ETag is another entity, and is never glued to the part",
        _cut(_ETAG),
        _rest('ETag: "two"', _THERE, body=CHANGED[HAVE:]),
        _whole(CHANGED, 'ETag: "two"'),
        body=CHANGED,
    ),
    "206-without-etag": _again("§15.3.7: it must have one", _cut(_ETAG), _rest(_THERE), _whole(LARGE, _ETAG)),
    "206-weak-etag": _again(
        "§8.8.1: a weak one says less", _cut(_ETAG), _rest('ETag: W/"one"', _THERE), _whole(LARGE, _ETAG)
    ),
    "206-from-elsewhere": _again(
        "§15.3.7: not the range that was asked for",
        _cut(_ETAG),
        _rest(_ETAG, "Content-Range: bytes 0-199999/600000", body=LARGE[:200_000]),
        _whole(LARGE, _ETAG),
    ),
    "206-shifted-by-one": _again(
        "§15.3.7",
        _cut(_ETAG),
        _rest(_ETAG, "Content-Range: bytes 399999-599999/600000", body=LARGE[399_999:]),
        _whole(LARGE, _ETAG),
    ),
    "206-of-another-length": _again(
        "§14.4: the complete length has changed",
        _cut(_ETAG),
        _rest(_ETAG, "Content-Range: bytes 400000-599999/700000"),
        _whole(LARGE, _ETAG),
    ),
    "206-without-range": _again("§15.3.7", _cut(_ETAG), _rest(_ETAG), _whole(LARGE, _ETAG)),
    "206-in-lines": _again(
        "§14.4: another unit", _cut(_ETAG), _rest(_ETAG, "Content-Range: lines 4-5/6"), _whole(LARGE, _ETAG)
    ),
    "206-overflow": _again(
        "§14.4",
        _cut(_ETAG),
        _rest(_ETAG, "Content-Range: bytes 400000-99999999999999999999/99999999999999999999"),
        _whole(LARGE, _ETAG),
    ),
    "206-multipart": _again(
        "§15.3.7.2: one range is never answered in parts",
        _cut(_ETAG),
        _rest(_ETAG, "Content-Type: multipart/byteranges; boundary=x", body=b"--x\r\n\r\nabc\r\n--x--\r\n"),
        _whole(LARGE, _ETAG),
    ),
    "206-of-another-size": _again(
        "§15.3.7: Content-Length and Content-Range disagree",
        _cut(_ETAG),
        _rest(_ETAG, _THERE, body=LARGE[HAVE:-1]),
        _whole(LARGE, _ETAG),
    ),
    "206-encoded": _again(
        "§8.8.3.3: another encoding is another representation",
        _cut(_ETAG),
        _rest(_ETAG, _THERE, "Content-Encoding: gzip"),
        _whole(LARGE, _ETAG),
    ),
    "416-another-length": _again(
        "§15.5.17: it is shorter now",
        _cut(_ETAG),
        (answer(b"", "Content-Range: bytes */300000", status="416 No"),),
        _whole(LARGE[:300_000], 'ETag: "two"'),
        body=LARGE[:300_000],
    ),
    "416-says-nothing": _again("§15.5.17", _cut(_ETAG), (answer(b"", status="416 No"),), _whole(LARGE, _ETAG)),
    "416-it-is-whole": _again(
        "§15.5.17: only the end of the chunks was missing",
        (raw("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", _ETAG) + b"61A80\r\n" + LARGE[:HAVE] + b"\r\n", Close),
        (answer(b"", "Content-Range: bytes */400000", _ETAG, status="416 No"),),
        body=LARGE[:HAVE],
    ),
    "weak-etag": _again(
        "§13.1.5: no If-Range with a weak validator",
        _cut('ETag: W/"one"', *_MODIFIED),
        _whole(LARGE),
        ranges=(None, None),
    ),
    "etag-without-quotes": _again("§8.8.3: not an ETag", _cut("ETag: one"), _whole(LARGE), ranges=(None, None)),
    "date-too-young": _again(
        "§8.8.2.2: it could change within that second",
        _cut(_MODIFIED[0], "Date: Mon, 01 Jan 2024 00:00:01 GMT"),
        _whole(LARGE),
        ranges=(None, None),
    ),
    "no-validator": _again("§13.1.5", _cut(), _whole(LARGE), ranges=(None, None)),
    "206-with-more": _again(
        "§14.4: chunks bring more than the range",
        _cut(_ETAG),
        (_CHUNKED_REST, b"30D41\r\n", LARGE[HAVE:], b"!\r\n0\r\n\r\n"),
        _whole(LARGE, _ETAG),
        ranges=(),
    ),
    "206-with-less": _again(
        "§14.4: chunks bring less than the range, and end in order",
        _cut(_ETAG),
        (_CHUNKED_REST, b"30000\r\n", LARGE[HAVE:][:0x30000], b"\r\n0\r\n\r\n"),
        _whole(LARGE, _ETAG),
        ranges=(),
    ),
    "cut-for-ever": Case(
        "a limit of ours: a try that leaves no more than it found has brought nothing; three of them are enough",
        Fails("ShortBody"),
        (_cut(_ETAG),),
        attempts=4,
    ),
    "slow-and-steady": Case(
        "a limit of ours: 100 kB a second are more than 64 bytes a second, however they are buffered",
        Stored(LARGE[:300_000]),
        (_SLOWLY,),
    ),
    "206-for-ever-wrong": Case(
        "§15.3.7: a server that cuts the whole and shifts the rest cannot keep us for ever",
        Fails("ShortBody"),
        tuple(
            _rest(_ETAG, "Content-Range: bytes 0-9/600000", body=b"0" * 10) if n % 2 else _cut(_ETAG) for n in range(99)
        ),
        attempts=None,
    ),
}

WAITING = {
    "wait-seconds": Case("§10.2.3: seconds", Stored(), (_busy("1"), (answer(),)), attempts=2, waits_s=1.0),
    "wait-date": Case("§10.2.3: a date", Stored(), ((_busy_until,), (answer(),)), attempts=2, waits_s=1.0),
    "wait-none": Case("§10.2.3", Stored(), (_busy("0"), (answer(),)), attempts=2),
    "wait-past": Case(
        "§10.2.3: it is over", Stored(), (_busy("Mon, 01 Jan 2024 00:00:00 GMT"), (answer(),)), attempts=2
    ),
    "wait-negative": Case("§10.2.3: malformed", Stored(), (_busy("-5", "429 Too Many"), (answer(),)), attempts=2),
    "wait-words": Case("§10.2.3: malformed", Stored(), (_busy("soon"), (answer(),)), attempts=2),
    "wait-twice": Case("§5.3: two of them", Stored(), (_busy("0\r\nRetry-After: 0"), (answer(),)), attempts=2),
    "wait-a-century": Case("a limit of ours: not now", Fails("ServerStatus"), (_busy("3153600000"),)),
    "wait-a-date-of-9999": Case("the same", Fails("ServerStatus"), (_busy("Fri, 31 Dec 9999 23:59:59 GMT"),)),
    "wait-5000-digits": Case(
        "whatever it is, it is no reason to stop", Stored(), (_busy("9" * 5000), (answer(),)), attempts=None
    ),
    "408-and-good": Case("§15.5.9", Stored(), ((answer(status="408 Slow"), Close), (answer(),)), attempts=2),
    "425-and-good": Case("RFC 8470 §5.2", Stored(), ((answer(status="425 Early"),), (answer(),)), attempts=2),
    "501": Case("§15.6.2: it will not be better", Fails("ServerStatus"), ((answer(status="501 No"),),)),
    "401-with-a-challenge": Case(
        "§11.6.1: the credentials were given, and were not good; they are not sent again",
        Fails("ClientStatus"),
        ((answer(b"", 'WWW-Authenticate: Basic realm="hush-hush"', "Set-Cookie: a=hush-hush", status="401 No"),),),
        login="me:hush-hush@",
    ),
    "407": Case("§15.5.8", Fails("ClientStatus"), ((answer(b"", "Proxy-Authenticate: Basic", status="407 No"),),)),
    "short-and-good": Case(
        "RFC 9112 §8", Stored(OTHER_BODY), ((answer(b"", length=9), Close), (answer(OTHER_BODY),)), attempts=2
    ),
    "reset-and-good": Case("§9.2.2: GET is idempotent", Stored(), ((Reset,), (answer(),)), attempts=None),
    "closed-and-good": Case("§9.2.2", Stored(), ((Close,), (answer(BODY),)), attempts=None),
}

GOING_ON = {**RANGES, **WAITING}
