"""Cases of being led astray: redirects, encodings, and names.

Rules are of RFC 9110 where only a section is named.
"""

import gzip
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import brotli
from backports import zstd

from tests.hostile.server import BODY, Case, Fails, Stored, Visit, answer, redirect

_HOST = "http://127.0.0.1:{elsewhere}"


def _step(visit: Visit) -> None:
    """`/1` leads to `/2`, and so on up to the number in the query."""
    path, _, last = visit.head.split(b" ")[1].decode().partition("?")
    number = int(path[1:])
    visit.connection.sendall(redirect(f"/{number + 1}?{last}") if number < int(last) else answer())


def _chain(length: int) -> dict[str, Any]:
    paths = [f"/{number}?{length}" for number in range(length + 1)]
    return {"tries": ((_step,),), "path": paths[0], "more": dict.fromkeys(paths[1:], (_step,))}


def _to(location: str, must: Stored | Fails, rule: str = "§10.2.2", status: str = "302 Found", **more: Any) -> Case:
    return Case(rule, must, ((redirect(location, status),),), **more)


_BAD = Fails("BadRedirect")
REDIRECTS = {
    "elsewhere": Case("where others lead", Stored(), ((answer(),),)),
    "to-another-origin": _to(
        f"{_HOST}/a", Stored(b"/a"), "§15.4: Authorization stays with its origin", login="me:hush-hush@"
    ),
    "to-login-in-location": _to("http://evil:hush-hush@127.0.0.1:{elsewhere}/b", Stored(b"/b"), "RFC 3986 §7.5"),
    "to-query": _to(f"{_HOST}/c?token=hush-hush", Stored(b"/c?token=hush-hush"), "a query may be a secret"),
    "to-same-origin": _to("/there", Stored(b"/there"), "§15.4: Authorization may come along", login="me:hush-hush@"),
    "there-and-back": _to(
        "http://127.0.0.1:{send-back}/it?to-there-and-back",
        Stored(b"/back"),
        "§15.4: what was dropped is not taken up again",
        login="me:hush-hush@",
    ),
    "send-back": Case(
        "the other half of it",
        Stored(b"/c"),
        ((redirect(f"{_HOST}/c"),),),
        more={"/it?to-there-and-back": (redirect("http://127.0.0.1:{there-and-back}/back"),)},
    ),
    "to-other-host-same-port": _to(
        "http://localhost:{to-other-host-same-port}/d", Stored(b"/d"), login="me:hush-hush@"
    ),
    "without-scheme": _to("//127.0.0.1:{elsewhere}/e", Stored(b"/e"), "RFC 3986 §4.2"),
    "query-only": _to("?q", Stored(b"/it?q"), "RFC 3986 §5.2.2"),
    "dots": _to("a/../../../../f", Stored(b"/f"), "RFC 3986 §5.2.4"),
    "307": _to("/g", Stored(b"/g"), "§15.4.8", status="307 Temporary Redirect"),
    "308": _to("/h", Stored(b"/h"), "§15.4.9", status="308 Permanent Redirect"),
    "303": _to("/i", Stored(b"/i"), "§15.4.4", status="303 See Other"),
    "8-bit-location": _to("/caf\xe9 \xfc", Stored(b"/caf%E9%20%FC"), "RFC 3986 §2.1: encoded, octet by octet"),
    "with-fragment": _to("/j#top", Stored(b"/j"), "§10.2.2: a fragment is not sent"),
    "to-file": _to("file:///etc/passwd", _BAD, "§4.2: http and https only"),
    "to-javascript": _to("javascript:alert(1)", _BAD),
    "to-data": _to("data:text/plain,evil", _BAD),
    "to-ftp": _to("ftp://127.0.0.1/a", _BAD),
    "to-capitals": _to("FILE:///etc/passwd", _BAD, "RFC 3986 §3.1: a scheme has no case"),
    "to-backslash": _to("http://127.0.0.1:{elsewhere}\\@evil.example/", _BAD, "readers differ in where its host ends"),
    "to-port-0": _to("http://127.0.0.1:0/", _BAD),
    "to-port-99999": _to("http://127.0.0.1:99999/", _BAD),
    "to-short-address": _to("http://127.1:{elsewhere}/", _BAD, "RFC 3986 §7.4: resolvers differ in what it is"),
    "to-number": _to("http://2130706433:{elsewhere}/", _BAD, "RFC 3986 §7.4"),
    "to-no-host": _to("http:///it", _BAD),
    "to-no-slashes": _to("http:it", _BAD),
    "to-tab": _to("/a\tb", _BAD, "RFC 3986 §2"),
    "to-itself-with-fragment": _to("/it#a", Fails("TooManyRedirects"), "§15.4: a circle"),
    "to-circle": Case("§15.4", Fails("TooManyRedirects"), ((redirect("/a"),),), more={"/a": (redirect("/it"),)}),
    "chain-of-20": Case("a limit of ours", Stored(), **_chain(20)),
    "chain-of-21": Case("… and what is over it", Fails("TooManyRedirects"), **_chain(21)),
    "to-60-kib": _to("/" + "a" * 60000, Stored(b"/" + b"a" * 60000), "RFC 9110 §4.1: at least 8000 octets"),
    "two-locations": Case(
        "§5.3: not a list, so it leads to neither",
        Stored(b"/a,%20/b"),
        ((redirect("/a", "302 Found", "Location: /b"),),),
    ),
    "305": _to("/a", Fails("BadResponse"), "§15.4.6: deprecated", status="305 Use Proxy"),
}

_HALF = len(BODY) // 2
# A frame that says it needs 128 MiB to be decoded (RFC 8878 §3.1.1.1.2), and one block that is not compressed.
_WIDE = b"\x28\xb5\x2f\xfd\x00\x88" + (len(BODY) << 3 | 1).to_bytes(3, "little") + BODY


def _coded(coding: str, body: bytes, must: Stored | Fails, rule: str = "§8.4.1") -> Case:
    return Case(rule, must, ((answer(body, f"Content-Encoding: {coding}"),),))


def _bomb(coding: str, encode: Callable[[bytes], bytes]) -> Case:
    """Made once, and not before it is asked for, since that takes a while: perhaps longer than the client waits."""
    made = cache(lambda: answer(encode(bytes(32 << 20)), f"Content-Encoding: {coding}"))

    def send(visit: Visit) -> None:
        visit.connection.sendall(made())

    rule = "CWE-409: data that expands without measure"
    return Case(rule, Fails("ExpandsTooMuch"), ((send,),), attempts=None)


_BROKEN = Fails("BadEncoding")
ENCODINGS = {
    "gzip-bomb": _bomb("gzip", gzip.compress),
    "gzip-gzip-bomb": _bomb("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
    "zstd-bomb": _bomb("zstd", zstd.compress),
    "br-bomb": _bomb("br", lambda body: brotli.compress(body, quality=2)),
    "deflate-bomb": _bomb("deflate", zlib.compress),
    "zstd-window": _coded("zstd", _WIDE, _BROKEN, "RFC 9659: a window of at most 8 MiB"),
    "zstd": _coded("zstd", zstd.compress(BODY), Stored(), "RFC 8878"),
    "zstd-truncated": _coded("zstd", zstd.compress(BODY)[:-5], _BROKEN),
    "br": _coded("br", brotli.compress(BODY), Stored(), "RFC 7932"),
    "br-truncated": _coded("br", brotli.compress(BODY)[:-2], _BROKEN),
    "x-gzip": _coded("x-gzip", gzip.compress(BODY), Stored(), "§8.4.1.3: the same"),
    "gzip-capitals": _coded("GZip", gzip.compress(BODY), Stored(), "§8.4.1: a coding has no case"),
    "gzip-in-members": _coded(
        "gzip", gzip.compress(BODY[:_HALF]) + gzip.compress(BODY[_HALF:]), Stored(), "RFC 1952 §2.2"
    ),
    "gzip-wrong-sum": _coded("gzip", gzip.compress(BODY)[:-8] + bytes(8), _BROKEN, "RFC 1952 §2.3.1"),
    "gzip-of-nothing": _coded("gzip", gzip.compress(b""), Stored(b"")),
    "raw-deflate": _coded("deflate", zlib.compress(BODY)[2:-4], Stored(), "§8.4.1.2: some servers leave zlib's out"),
    "identity": _coded("identity", BODY, Stored()),
    "two-codings-in-lines": Case(
        "§5.3: a list in two lines",
        Stored(),
        ((answer(gzip.compress(zlib.compress(BODY)), "Content-Encoding: deflate", "Content-Encoding: gzip"),),),
    ),
}


def _named(disposition: str) -> Case:
    return Case("RFC 6266 §4.3, RFC 8187", Stored(), ((answer(BODY, f"Content-Disposition: {disposition}"),),))


# What a server calls it, and what is recorded of that; the file has the name of the list.
NAMES: dict[str, tuple[Case, str | None]] = {
    "name-plain": (_named("attachment; filename=a.txt"), "a.txt"),
    "name-quoted": (_named('attachment; filename="a;b \\"c.txt"'), "a;b _c.txt"),
    "name-traversal": (_named('attachment; filename="../../etc/passwd"'), "passwd"),
    "name-backslashes": (_named('attachment; filename="..\\..\\boot.ini"'), "boot.ini"),
    "name-absolute": (_named("attachment; filename=/etc/passwd"), "passwd"),
    "name-dots": (_named("attachment; filename=.."), None),
    "name-device": (_named("attachment; filename=NUL"), "_NUL"),
    "name-device-with-end": (_named("attachment; filename=com1.txt"), "_com1.txt"),
    "name-stream": (_named("attachment; filename=a.txt:evil"), "a.txt_evil"),
    "name-empty": (_named('attachment; filename=""'), None),
    "name-huge": (_named("attachment; filename=" + "a" * 5000 + ".txt"), "a" * 251 + ".txt"),
    "name-8187": (_named("attachment; filename*=UTF-8''caf%C3%A9.txt"), "caf\xe9.txt"),
    "name-8187-traversal": (_named("attachment; filename*=UTF-8''..%2F..%2Fpasswd"), "passwd"),
    "name-8187-nul": (_named("attachment; filename*=UTF-8''a%00b.txt"), "a_b.txt"),
    "name-8187-latin": (_named("attachment; filename*=ISO-8859-1''caf%E9.txt"), "caf\xe9.txt"),
    "name-8187-first": (_named("attachment; filename=a.txt; filename*=UTF-8''b.txt"), "b.txt"),
    "name-8187-broken": (_named("attachment; filename=a.txt; filename*=UTF-8''%zz"), "a.txt"),
    "name-2047": (_named('attachment; filename="=?utf-8?B?Y2Fmw6kudHh0?="'), "caf\xe9.txt"),
    "name-2047-traversal": (_named('attachment; filename="=?utf-8?Q?..=2F..=2Fpasswd?="'), "passwd"),
    "name-8-bit": (_named('attachment; filename="caf\xc3\xa9.txt"'), "caf\xe9.txt"),
    "name-backwards": (_named("attachment; filename*=UTF-8''a%E2%80%AEtxt.exe"), "a_txt.exe"),
    "name-twice": (_named("attachment; filename=a.txt; filename=b.txt"), "a.txt"),
    "name-nowhere": (_named("attachment"), None),
}

MISLEADING = {**REDIRECTS, **ENCODINGS, **{name: case for name, (case, _) in NAMES.items()}}
