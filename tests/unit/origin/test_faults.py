"""Each fault as a client meets it, over a raw socket; the same ones in any order and at any concurrency."""

import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventflow.origin.content import content
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import Fault, OriginSettings, decide
from tests.unit.origin.talking import Said, get, has_body, talk

SIZE = 10_000
LARGE = 2_000_000


def one_fault(fault: Fault, *, size: int = SIZE, bandwidth: int | None = None) -> OriginSettings:
    """Every try fails in one way."""
    return OriginSettings(files=2, size=size, faults={fault: 1.0}, stall_s=0.3, retry_after_s=7, bandwidth=bandwidth)


def test_refused_is_refused_by_the_system() -> None:
    """Nothing listens at the file's address; the rest of the server is there."""
    with start_origin(one_fault(Fault.REFUSE)) as origin:
        entry = next(origin.entries())
        port = int(entry.url.split(":")[2].split("/")[0])
        assert port != origin.port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        assert talk(origin.port, b"GET /manifest.tsv HTTP/1.0\r\n\r\n").body.startswith(entry.tsv())


def test_a_reset_is_a_rst() -> None:
    """Not an orderly end, and not a byte of an answer."""
    with start_origin(one_fault(Fault.RESET)) as origin:
        assert talk(origin.port, get(0)) == Said(b"", "reset")


def test_a_stall_is_silence_after_the_headers_then_the_end() -> None:
    """For as long as was asked for; what the client says meanwhile is not answered."""
    with start_origin(one_fault(Fault.STALL)) as origin:
        begun = time.monotonic()
        said = talk(origin.port, get(0) + get(1))
        assert time.monotonic() - begun >= 0.3
        assert (said.status, said.fields["content-length"], said.body, said.end) == (200, str(SIZE), b"", "closed")


@pytest.mark.parametrize("size", [SIZE, LARGE])
def test_a_short_body_ends_in_the_middle(size: int) -> None:
    """Half of what was promised, right so far, then an orderly end."""
    with start_origin(one_fault(Fault.SHORT_BODY, size=size)) as origin:
        said = talk(origin.port, get(0))
        assert (said.status, said.fields["content-length"], said.end) == (200, str(size), "closed")
        assert said.body == content(origin.settings, 0)[: size // 2]


@pytest.mark.parametrize(("size", "bandwidth"), [(SIZE, None), (LARGE, None), (LARGE, 10_000_000)])
def test_a_wrong_length_promises_a_byte_too_much(size: int, bandwidth: int | None) -> None:
    """All of the file comes, however large it is and slow it goes, and one byte never."""
    with start_origin(one_fault(Fault.WRONG_LENGTH, size=size, bandwidth=bandwidth)) as origin:
        said = talk(origin.port, get(0))
        assert (said.status, said.fields["content-length"], said.end) == (200, str(size + 1), "closed")
        assert said.body == content(origin.settings, 0)


def test_errors_and_wrong_bytes_leave_the_connection_usable() -> None:
    """500, 503 with Retry-After and the right number of the wrong bytes are whole answers: the next one follows."""
    for fault, status in ((Fault.ERROR, 500), (Fault.UNAVAILABLE, 503), (Fault.WRONG_BYTES, 200)):
        with start_origin(one_fault(fault)) as origin:
            said = talk(origin.port, get(0) + get(1, "Connection: close\r\n"))
            assert (said.status, said.data.count(b"HTTP/1.1 %d " % status), said.end) == (status, 2, "closed")
            assert said.fields.get("retry-after") == ("7" if fault is Fault.UNAVAILABLE else None)
            assert content(origin.settings, 0)[100:200] not in said.data
            assert len(said.body) > 2 * SIZE or status != 200


def test_a_request_for_the_head_alone_cannot_break_the_connection() -> None:
    """HEAD of a file whose bodies go wrong, then GET: the GET is what follows the head."""
    with start_origin(one_fault(Fault.WRONG_BYTES)) as origin:
        said = talk(origin.port, get(0).replace(b"GET", b"HEAD") + get(1, "Connection: close\r\n"))
        assert said.body.startswith(b"HTTP/1.1 200 OK\r\n")


def first_tries(origin: Origin, order: list[int], workers: int) -> dict[int, tuple[bytes, str]]:
    """What comes of one request for each file, in an order and with so many at once."""

    def try_file(number: int) -> tuple[bytes, str]:
        said = talk(origin.port, get(number), enough=_whole)
        return said.data, said.end

    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(order, pool.map(try_file, order), strict=True))


def _whole(data: bytes) -> bool:
    """An answer is whole when as much came as was promised."""
    head = data.partition(b"\r\n\r\n")[0]
    return b"Content-Length: " in head and has_body(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))(data)


def test_any_order_and_concurrency_meets_the_same_faults() -> None:
    """The first tries after a reset are the first tries again, and each is what the settings decide."""
    faults: dict[str, float] = {fault: 0.1 for fault in Fault if fault is not Fault.REFUSE}
    settings = OriginSettings(files=60, size=2_000, faults=faults, stall_s=0.05, seed=9)
    order = list(range(60))
    with start_origin(settings) as origin:
        in_order = first_tries(origin, order, workers=1)
        second = first_tries(origin, order, workers=4)
        origin.reset()
        random.Random(1).shuffle(order)
        assert first_tries(origin, order, workers=16) == in_order
    decided = [decide(settings, number, 0).fault for number in range(60)]
    assert set(decided) == {None, *faults}
    good = [number for number in range(60) if in_order[number][0].endswith(content(settings, number))]
    assert good == [number for number in range(60) if decided[number] in (None, Fault.WRONG_LENGTH)]
    assert second != in_order
