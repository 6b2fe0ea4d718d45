"""Changes responses at random and reads them in many ways: `python tests/fuzz/fuzz_http.py --seconds 600 --seed 1`.

It begins with the files of `corpus`, each one response, and goes on from every response that made the reader do
something new. What must hold for any bytes is in `check`; the first bytes for which it does not hold are written to a
file, to be added to the corpus, and the exit status is 1. The same seed and corpus give the same responses, in order.
"""

import argparse
import faulthandler
import hashlib
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h11

from eventflow.errors import RequestError
from eventflow.http.message import HEAD_BYTES_MAX, HEADERS_MAX, Head, ResponseReader

CORPUS = Path(__file__).parent / "corpus"
_NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"
_SIZE_MAX = 200_000  # of a changed response
_KEPT_MAX = 4000  # responses that are gone on from
_HANG_SECONDS = 60
_ENDLESS_BYTES = 4 << 20
_TOKENS = [
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"=", b'"', b"\x0b", b"\x7f", b"\xff"),
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\n"),
    *(b"http/1.1", b"HTTP/2.0", b"HTTP/0.9", b" 204 ", b" 304 ", b" 101 ", b" 199 ", b" 600 ", b" 1000 ", b" 206 "),
    *(
        b"Content-Length: 3\r\n",
        b"Content-Length: 0\r\n",
        b"content-length:3,3\r\n",
        b"Content-Length: 9999999999\r\n",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"transfer-encoding:\tchunked\r\n"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"A: b\r\n"),
    *(b"0\r\n\r\n", b"3\r\nabc\r\n", b"fffffffffffffffff\r\n", b"00000003\r\nabc\r\n", b"3;a=b\r\nabc\r\n", b"-1\r\n"),
]


class Violation(AssertionError):
    """Something that must hold for any bytes does not."""


@dataclass(frozen=True)
class Answer:
    """What a reader made of some bytes."""

    status: int | None
    body: bytes
    error: str | None
    is_complete: bool
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Taken:
    """Takes a response down."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.pieces: list[bytes] = []

    def on_head(self, head: Head) -> None:
        if self.head is not None:
            raise Violation("a second head")
        self.head = head

    def on_body(self, piece: bytes) -> None:
        if self.head is None:
            raise Violation("a body before its head")
        self.pieces.append(piece)


def read(pieces: Iterable[bytes], reader: ResponseReader | None = None) -> Answer:
    """Read one response from pieces, the last of which is followed by the end of the connection."""
    reader, taken, error = reader or ResponseReader(), Taken(), None
    reader.begin(taken, "http://h/")
    try:
        for piece in pieces:
            if piece and not reader.is_complete:
                reader.feed(piece)
        if not reader.is_complete:
            reader.end()
    except RequestError as problem:
        error = type(problem).__name__
    head, body = taken.head, b"".join(taken.pieces)
    return Answer(head.status if head else None, body, error, reader.is_complete, tuple(head.raw) if head else ())


def check(data: bytes, random_number: random.Random) -> Answer:
    """What must hold for any bytes.

    Raises:
        Violation: it does not.
    """
    whole = read([data])
    for _ in range(3):
        cuts = sorted(random_number.randrange(len(data) + 1) for _ in range(random_number.randrange(1, 9)))
        pieces = [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]
        require_equal(whole, read(pieces), f"read in pieces of {[len(piece) for piece in pieces]}")
    if len(data) < 2000:
        require_equal(whole, read(data[place : place + 1] for place in range(len(data))), "read byte by byte")
    if len(whole.body) > len(data) or len(whole.headers) > HEADERS_MAX:
        raise Violation(f"{len(whole.body)} bytes and {len(whole.headers)} headers came of {len(data)} bytes")
    if sum(len(name) + len(value) for name, value in whole.headers) > HEAD_BYTES_MAX:
        raise Violation("the headers are larger than their limit")
    if whole.error is None:
        _check_taken(data, whole)
    return whole


def _check_taken(data: bytes, whole: Answer) -> None:
    """Of a response that was taken: it is what another reader makes of it, and the next one is read on its own."""
    if not whole.is_complete:
        raise Violation("neither complete nor an error")
    reader = ResponseReader()
    if read([data], reader) == whole and reader.keeps_alive and not reader.has_surplus:
        require_equal(Answer(200, b"next", None, is_complete=True), read([_NEXT], reader), "the response after it")
    other = read_with_h11(data)
    if other is not None and (other.status, other.body) != (whole.status, whole.body):
        raise Violation(f"h11 reads {other.status} {other.body[:80]!r}, this reads {whole.status} {whole.body[:80]!r}")


def read_with_h11(data: bytes) -> Answer | None:
    """What h11 makes of the same bytes; None if it refuses them."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * HEAD_BYTES_MAX)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    status, body = None, b""
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                return Answer(status, body, None, is_complete=True)
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


def check_endless(begin: bytes, again: bytes) -> None:
    """Whatever is sent again and again without end: it is refused, or it is a body, and then it is handed on.

    Raises:
        Violation: bytes are taken that nobody gets.
    """
    reader, taken, sent, received = ResponseReader(), Taken(), 0, 0
    block = again * (1 + 65536 // len(again))
    reader.begin(taken, "http://h/")
    try:
        reader.feed(begin)
        while sent < _ENDLESS_BYTES and not reader.is_complete:
            reader.feed(block)
            sent += len(block)
            received += sum(map(len, taken.pieces))
            taken.pieces.clear()
            if sent > 64 * received + 3 * (HEAD_BYTES_MAX + len(block)):
                raise Violation(f"{sent} bytes were taken, {received} of them are body, after {begin[-80:]!r}")
    except RequestError:
        pass


def require_equal(one: Answer, other: Answer, how: str) -> None:
    """Two ways to read the same bytes give the same.

    Raises:
        Violation: they do not.
    """
    if (one.status, one.body, one.error, one.is_complete) != (other.status, other.body, other.error, other.is_complete):
        raise Violation(f"{how}: {_shown(other)}, but otherwise {_shown(one)}")


def _shown(answer: Answer) -> str:
    return f"{answer.status} {answer.error} {len(answer.body)} bytes {answer.body[:40]!r}"


class Mutator:
    """Makes new responses of those that it has."""

    def __init__(self, corpus: list[bytes], seed: int) -> None:
        self.corpus, self.random = list(corpus), random.Random(seed)
        changes: list[Callable[[bytearray], None]]
        changes = [self._flip, self._token, self._token, self._delete, self._repeat, self._splice, self._number]
        self._changes = [*changes, *changes, self._swell]

    def make(self) -> bytes:
        """One of them, changed in a few places."""
        data = bytearray(self.random.choice(self.corpus))
        for _ in range(self.random.choice((1, 1, 1, 2, 3, 6))):
            self.random.choice(self._changes)(data)
        return bytes(data[:_SIZE_MAX])

    def _place(self, data: bytearray) -> int:
        return self.random.randrange(len(data) + 1)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self.random.randrange(len(data))] = self.random.randrange(256)

    def _token(self, data: bytearray) -> None:
        place = self._place(data)
        data[place : place + self.random.choice((0, 0, 1, 4))] = self.random.choice(_TOKENS)

    def _delete(self, data: bytearray) -> None:
        place = self._place(data)
        del data[place : place + self.random.randrange(1, 20)]

    def _repeat(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = data[place : place + self.random.randrange(1, 60)] * self.random.randrange(1, 30)

    def _splice(self, data: bytearray) -> None:
        other, place = self.random.choice(self.corpus), self._place(data)
        begin = self.random.randrange(len(other) + 1)
        data[place : place + self.random.randrange(60)] = other[begin : begin + self.random.randrange(300)]

    def _number(self, data: bytearray) -> None:
        found = list(re.finditer(rb"[0-9]+", bytes(data[:4000])))
        if found:
            match = self.random.choice(found)
            near = int(match[0][:18]) + self.random.choice((-1, 1))
            others = (near, 0, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 64, HEAD_BYTES_MAX)
            data[match.start() : match.end()] = b"%d" % self.random.choice(others)

    def _swell(self, data: bytearray) -> None:
        """Near or over a limit."""
        token = self.random.choice((*_TOKENS, b"a", b"0"))
        size = self.random.choice((HEAD_BYTES_MAX, HEAD_BYTES_MAX - len(data), 2 * HEAD_BYTES_MAX, 1000))
        place = self._place(data)
        data[place:place] = token * max(1, (size + self.random.randrange(-3, 4)) // len(token))


def load(folder: Path) -> list[bytes]:
    """The responses of a corpus, in the order of their names."""
    return [from_text(path.read_text(encoding="ascii")) for path in sorted(folder.glob("*.txt"))]


def from_text(text: str) -> bytes:
    r"""The bytes that a file of the corpus stands for: escapes as in Python, and its own line ends stand for nothing.

    >>> from_text("HTTP/1.1 200 OK\\r\\n\\xff")
    b'HTTP/1.1 200 OK\r\n\xff'
    """
    return text.replace("\n", "").encode("ascii").decode("unicode_escape").encode("latin-1")


def to_text(data: bytes) -> str:
    """The reverse of `from_text`."""
    escaped = data.decode("latin-1").encode("unicode_escape").decode("ascii")
    return "\n".join(re.split(r"(?<=\\n)", escaped)) + "\n"


def fuzz(corpus: list[bytes], seed: int, *, is_over: Callable[[int], bool]) -> Counter[str]:
    """Check changed responses until `is_over`, which is given how many they were; counts what became of them.

    Raises:
        Violation: with the bytes as its second argument.
    """
    mutator, outcomes, count = Mutator(corpus, seed), Counter[str](), 0
    seen: set[object] = set()
    while not is_over(count):
        if count % 1000 == 0:
            faulthandler.dump_traceback_later(_HANG_SECONDS, exit=True)
        data = mutator.make()
        try:
            answer = check(data, mutator.random)
            if count % 50 == 0:
                place = mutator.random.randrange(len(data) + 1)
                check_endless(data[:place], data[place : place + 40] or b"\r\n")
        except Exception as problem:
            raise Violation(f"{type(problem).__name__}: {problem}", data) from problem
        outcomes[answer.error or "taken"] += 1
        count += 1
        names = frozenset(name.lower() for name, _ in answer.headers)
        feature = (answer.status, answer.error, answer.is_complete, len(answer.body).bit_length(), names)
        if feature not in seen and len(data) < 4000 and len(mutator.corpus) < _KEPT_MAX:
            seen.add(feature)
            mutator.corpus.append(data)
    faulthandler.cancel_dump_traceback_later()
    return outcomes


def main() -> int:
    """Fuzz for some time."""
    parser = argparse.ArgumentParser(description="Fuzz the reader of HTTP responses.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--findings", type=Path, default=Path())
    options = parser.parse_args()
    begun, corpus = time.monotonic(), load(CORPUS)
    sys.stdout.write(f"seed {options.seed}, {len(corpus)} responses to begin with\n")
    sys.stdout.flush()
    try:
        outcomes = fuzz(corpus, options.seed, is_over=lambda _count: time.monotonic() - begun > options.seconds)
    except Violation as problem:
        what, data = problem.args
        path = options.findings / f"finding-{hashlib.sha256(data).hexdigest()[:12]}.txt"
        path.write_text(to_text(data), encoding="ascii")
        sys.stdout.write(f"{what}\n{len(data)} bytes in {path}: {data[:300]!r}\n")
        return 1
    total, seconds = outcomes.total(), time.monotonic() - begun
    sys.stdout.write(f"{total} responses in {seconds:.0f} s, nothing found: {dict(outcomes.most_common())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
