"""Cases of answers and connections: what is refused, what is bounded, and that the next request is not answered by it.

Rules are of RFC 9112 where only a section is named.
"""

from tests.hostile.server import (
    BODY,
    Case,
    Close,
    Fails,
    Reset,
    Script,
    Stored,
    answer,
    at_first,
    in_one_packet,
    on,
    raw,
)
from tests.hostile_server import endless, pause, slowly

CHUNKED = raw("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
_ABC = CHUNKED + b"3\r\nabc\r\n"
_EVIL = answer(b"evil")
_HINTS = raw("HTTP/1.1 103 Early Hints", "Link: </a>")

# What a connection holds behind a response is no response (§9.2); each connection of these stays open.
POISON = {
    "second-response": Case("§9.2: what nobody asked for is no response", Stored(), ((answer() + _EVIL,),)),
    "second-response-in-a-record": Case(
        "§9.2, where TLS has received it and nobody has decrypted it", Stored(), ((in_one_packet(answer(), _EVIL),),)
    ),
    "second-response-chunked": Case(
        "§9.2, behind a chunked body", Stored(b"abc"), ((_ABC + b"0\r\n\r\n" + _EVIL, b""),)
    ),
    "second-response-behind-nothing": Case("§9.2, behind an empty body", Stored(b""), ((answer(b"") + _EVIL,),)),
    "second-response-behind-a-large-body": Case(
        "§9.2, where the body is read past the reader", Stored(BODY * 600), ((answer(BODY * 600) + _EVIL,),)
    ),
    "close-in-a-trailer": Case(
        "RFC 9110 §6.5.1: a trailer says nothing about the connection",
        Stored(b"abc"),
        ((_ABC + b"0\r\nConnection: close\r\n\r\n",),),
    ),
    "half-a-response-behind": Case("§9.2", Stored(), ((answer() + _EVIL[:20],),)),
    "line-ends-behind": Case("§2.2: old servers send an empty line more", Stored(), ((answer() + b"\r\n\r\n",),)),
    "garbage-behind": Case("§9.2", Stored(), ((answer() + b"\x00\xff garbage",),)),
    "longer-than-said": Case("§6.3: Content-Length counts", Stored(BODY[:9]), ((answer(BODY, length=9),),)),
    "body-of-204": Case("§6.3: a 204 has none", Stored(b""), ((answer(b"evil", status="204 No Content"),),)),
    "body-of-304": Case("§6.3: a 304 has none", Fails("BadResponse"), ((answer(_EVIL, status="304 Not Modified"),),)),
    "204-with-chunks": Case(
        "§6.3: a 204 has none, whatever its coding",
        Stored(b""),
        ((raw("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked", body=b"4\r\nevil\r\n0\r\n\r\n"),),),
    ),
    "refused-and-kept": Case(
        "§6.3: after two lengths nobody knows where the next response begins",
        Fails("BadResponse"),
        ((raw("HTTP/1.1 200 OK", "Content-Length: 3", "Content-Length: 30", body=b"abc" + _EVIL),),),
    ),
    "a-404-and-more": Case("§9.2", Fails("ClientStatus"), ((answer(b"no", status="404 Not Found") + _EVIL,),)),
    "asked-to-close": Case("§9.6: `close` counts, open or not", Stored(), ((answer(BODY, "Connection: close"),),)),
    "keep-alive-and-close": Case("§9.6", Stored(), ((answer(BODY, "Connection: keep-alive, close"),),)),
    "close-in-two-lines": Case("§9.6", Stored(), ((answer(BODY, "Connection: a", "Connection: CLOSE"),),)),
    "1.0-and-open": Case("§9.3: 1.0 closes", Stored(), ((answer().replace(b"HTTP/1.1", b"HTTP/1.0"),),)),
    "answer-without-request": Case(
        "§9.2: a whole response comes with the connection, before anything was asked",
        Stored(b"early"),
        ((Close,),),
        greeting=answer(b"early"),
    ),
}


def _at_first(ending: type[Exception]) -> dict[str, Script]:
    """The next request is not answered at first."""
    return {"/next": (at_first(ending), answer(b"/next"))}


# Kept connections die at any time (§9.5); a GET that was not answered is sent again over a new one (§9.3.1).
STALE = {
    "stale-closed": Case(
        "§9.3.1: closed without an answer",
        Stored(),
        ((answer(),),),
        more=_at_first(Close),
    ),
    "stale-reset": Case("§9.3.1: reset without an answer", Stored(), ((answer(),),), more=_at_first(Reset)),
    "closed-behind-the-answer": Case("§9.5", Stored(), ((answer(), Close),)),
    "reset-behind-the-answer": Case("§9.5", Stored(), ((answer(), Reset),)),
}

# What never ends is refused while it is small (CWE-400, RFC 9110 §17.5).
ENDLESS = {
    "reason-for-ever": Case("CWE-400", Fails("HeadTooLarge"), ((on(endless(b"HTTP/1.1 200 ", b"b" * 4096)),),)),
    "name-for-ever": Case("CWE-400", Fails("HeadTooLarge"), ((on(endless(b"HTTP/1.1 200 OK\r\nA", b"b" * 4096)),),)),
    "line-ends-for-ever": Case("§2.2, CWE-400", Fails("HeadTooLarge"), ((on(endless(b"", b"\r\n" * 2048)),),)),
    "trailer-for-ever": Case("CWE-400", Fails("HeadTooLarge"), ((on(endless(_ABC + b"0\r\nA: ", b"b" * 4096)),),)),
    "trailer-name-for-ever": Case("CWE-400", Fails("HeadTooLarge"), ((on(endless(_ABC + b"0\r\nA", b"b" * 4096)),),)),
    "extension-for-ever": Case("§7.1.1", Fails("HeadTooLarge"), ((on(endless(_ABC + b"3;a=", b"b" * 4096)),),)),
    "zeros-for-ever": Case("§7.1", Fails("HeadTooLarge"), ((on(endless(_ABC, b"0" * 4096)),),)),
    "extensions-and-hardly-a-byte": Case(
        "§7.1.1, CVE-2023-39326: 16 KiB are sent for each byte of a body that has no end",
        Fails("HeadTooLarge"),
        ((on(endless(CHUNKED, b"1;a=" + b"b" * 16384 + b"\r\nx\r\n")),),),
    ),
    "hints-now-and-then": Case(
        "RFC 9110 §15.2: an interim response is no answer, so the time for it runs on",
        Fails("TimedOut"),
        (tuple(_HINTS if place % 2 else on(pause(b"", seconds=0.2)) for place in range(20)),),
        attempts=None,
    ),
    "16-interim-responses": Case("RFC 9110 §15.2: any number may come", Stored(), ((_HINTS * 16 + answer(),),)),
    "17-interim-responses": Case("… but not without end", Fails("HeadTooLarge"), ((_HINTS * 17 + answer(),),)),
    "interim-and-no-more": Case("RFC 9110 §15.2", Fails("ConnectionLost"), ((_HINTS, Close),), attempts=None),
    "extension-of-50-kib": Case(
        "§7.1.1: an extension is skipped",
        Stored(b"abc"),
        ((CHUNKED + b"3;a=" + b"b" * 51200 + b"\r\nabc\r\n0\r\n\r\n",),),
    ),
    "chunks-of-one-byte": Case(
        "§7.1: wasteful is not wrong", Stored(b"x" * 60000), ((CHUNKED + b"1\r\nx\r\n" * 60000 + b"0\r\n\r\n",),)
    ),
    "trailer-behind-much": Case(
        "§7.1.2: a trailer is dropped, wherever it stands in a read",
        Stored(BODY * 200),
        ((CHUNKED + b"32000\r\n" + BODY * 200 + b"\r\n0\r\nServer-Timing: a\r\n\r\n",),),
    ),
}

# Forms of a head.
HEADS = {
    "lower-case-http": Case("§2.3: the name is case-sensitive", Fails("BadResponse"), ((answer().lower(),),)),
    "empty-reply": Case("§9.6: closed without an answer", Fails("ConnectionLost"), ((Close,),), attempts=None),
    "reason-empty": Case(
        "§4: it may be empty", Stored(b"abc"), ((raw("HTTP/1.1 200 ", "Content-Length: 3", body=b"abc"),),)
    ),
    "nul-in-reason": Case("§4: a client ignores it", Stored(), ((answer(status="200 O\0K"),),)),
    "two-etags": Case(
        "RFC 9110 §5.3: not a list, so it means nothing", Stored(), ((answer(BODY, 'ETag: "a"', 'ETag: "b"'),),)
    ),
    "recorded-headers-of-60-kib": Case(
        "what is recorded of a response is as long as it likes, and can be read again",
        Stored(),
        ((answer(BODY, f'ETag: "{"a" * 30000}"', f"Content-Type: {chr(0xE9) * 30000}"),),),
    ),
    "two-types": Case("RFC 9110 §8.3", Stored(), ((answer(BODY, "Content-Type: a/b", "Content-Type: c/d"),),)),
    "two-codings": Case(
        "§6.1: chunked twice, in two headers",
        Fails("BadResponse"),
        ((raw("HTTP/1.1 200 OK", *["Transfer-Encoding: chunked"] * 2, body=b"3\r\nabc\r\n0\r\n\r\n"),),),
    ),
    "coding-behind-chunked": Case(
        "§6.1: chunked must be the last",
        Fails("BadResponse"),
        ((raw("HTTP/1.1 200 OK", "Transfer-Encoding: chunked, gzip", body=b"3\r\nabc\r\n0\r\n\r\n"),),),
    ),
    "coding-hidden-by-a-control": Case(
        "§11.2: `\\vchunked` is chunked to some readers and nothing to others",
        Fails("BadResponse"),
        ((raw("HTTP/1.1 200 OK", "Transfer-Encoding:\vchunked", body=b"3\r\nabc\r\n0\r\n\r\n"),),),
    ),
    "length-of-two-numbers": Case(
        "§6.3", Fails("BadResponse"), ((raw("HTTP/1.1 200 OK", "Content-Length: 3 3", body=b"abc"),),)
    ),
    "length-of-5000-digits": Case(
        "§6.3: zeros before a number",
        Stored(b"abc"),
        ((raw("HTTP/1.1 200 OK", f"Content-Length: {3:05000}", body=b"abc"),),),
    ),
    "length-in-full-width": Case(
        "§6.3: only ASCII digits are digits",
        Fails("BadResponse"),
        ((raw("HTTP/1.1 200 OK", "Content-Length: \xef\xbc\x93", body=b"abc"),),),
    ),
    "length-with-tabs": Case(
        "§5.1: blanks around", Stored(b"abc"), ((raw("HTTP/1.1 200 OK", "Content-Length:\t3\t ", body=b"abc"),),)
    ),
    "chunk-size-0x": Case("§7.1", Fails("BadResponse"), ((CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",),)),
    "chunk-size-capitals": Case("§7.1", Stored(b"0123456789"), ((CHUNKED + b"00A\r\n0123456789\r\n0\r\n\r\n",),)),
    "chunk-size-blank": Case("§7.1: smuggling", Fails("BadResponse"), ((CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",),)),
    "chunks-with-bare-lf": Case("§7.1: smuggling", Fails("BadResponse"), ((CHUNKED + b"3\nabc\n0\n\n",),)),
    "folded-first": Case("§5.2", Fails("BadResponse"), ((raw("HTTP/1.1 200 OK", " A: b", "Content-Length: 0"),),)),
    "name-with-8-bits": Case("§5.1: a name is a token", Fails("BadResponse"), ((answer(BODY, "caf\xe9: b"),),)),
    "control-in-value": Case("RFC 9110 §5.5", Fails("BadResponse"), ((answer(BODY, "A: b\x01c"),),)),
    "129-headers": Case("a limit of ours", Fails("HeadTooLarge"), ((answer(BODY, *["A: b"] * 128),),)),
    "128-headers": Case("… and what it leaves", Stored(), ((answer(BODY, *["A: b"] * 127),),)),
    "status-20": Case("§4: three digits", Fails("BadResponse"), ((answer(status="20 OK"),),)),
    "205-with-a-body": Case("§6.3: 205 is not among those without", Stored(), ((answer(status="205 Reset"),),)),
    "299": Case("RFC 9110 §15: an unknown 2xx is like 200", Stored(), ((answer(status="299 Odd"),),)),
    "499": Case("RFC 9110 §15: an unknown 4xx is like 400", Fails("ClientStatus"), ((answer(status="499 Odd"),),)),
    "slowly-but-surely": Case(
        "what comes within its time is good", Stored(b"abc"), ((on(slowly(answer(b"abc"), 0.004)),),)
    ),
}

ANSWERING = {**POISON, **STALE, **ENDLESS, **HEADS}
