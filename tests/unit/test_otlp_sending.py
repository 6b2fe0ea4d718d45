"""Sending until it is taken: order of the checkpoint, back-pressure, refusals, and what an answer means."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from instrumentation.otlp import answers
from instrumentation.otlp.answers import TAKEN, Answer
from instrumentation.otlp.sending import BATCHES_MAX, Load, Sending

AGAIN = Answer("again", "it is down", "wait")
REFUSED = Answer("refused", "it does not like that", "wait")


class Collector:
    """What the loads are sent to: `judge` says what becomes of each."""

    def __init__(self, judge: Callable[[Sequence[Any]], Answer] = lambda _items: TAKEN) -> None:
        self.judge = judge
        self.taken: list[Any] = []
        self.tries = 0
        self._lock = threading.Lock()

    def send(self, items: Sequence[Any]) -> Answer:
        """Take them, or not."""
        answer = self.judge(items)
        with self._lock:
            self.tries += 1
            if answer is TAKEN:
                self.taken += items
        return answer

    def sending(self, senders: int = 2) -> Sending:
        """Threads that send here."""
        return Sending(lambda _note: ((self.send,), lambda: None), senders)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow one another quickly."""
    monkeypatch.setattr("instrumentation.otlp.sending.WAIT_SECONDS_MAX", 0.005)


def load(*items: object, at: int = 0) -> Load:
    """A load of one part."""
    return Load((items,), {"w": at})


def test_everything_is_taken_and_the_position_is_the_last() -> None:
    """Ten loads arrive, and then the position is that of the tenth."""
    collector = Collector()
    sending = collector.sending()
    for number in range(10):
        assert sending.offer(load(number, at=number), 5)
    assert sending.wait(5)
    assert sending.position == {"w": 9}
    assert sorted(collector.taken) == list(range(10))
    sending.close()


def test_the_position_waits_for_the_slowest() -> None:
    """While the first load is not taken, the second one's position is not said, though it is taken."""
    go = threading.Event()

    def judge(items: Sequence[Any]) -> Answer:
        if items[0] == 0:
            go.wait(5)
        return TAKEN

    collector = Collector(judge)
    sending = collector.sending()
    assert sending.offer(load(0, at=0), 5)
    assert sending.offer(load(1, at=1), 5)
    deadline = time.monotonic() + 5
    while 1 not in collector.taken and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sending.position is None
    go.set()
    assert sending.wait(5)
    assert sending.position == {"w": 1}
    sending.close()


def test_what_is_not_taken_is_sent_again() -> None:
    """A collector that is down for a while loses nothing and gets nothing twice."""
    answers_left = [AGAIN] * 7

    def judge(_items: Sequence[Any]) -> Answer:
        return answers_left.pop() if answers_left else TAKEN

    collector = Collector(judge)
    sending = collector.sending()
    for number in range(4):
        assert sending.offer(load(number, at=number), 5)
    assert sending.wait(5)
    assert sorted(collector.taken) == [0, 1, 2, 3]
    assert sending.progress().problem is None
    sending.close()


def test_there_is_no_room_while_the_collector_is_down() -> None:
    """At most `BATCHES_MAX` loads are in memory; the problem is told; closing loses none of what the log has."""
    collector = Collector(lambda _items: AGAIN)
    sending = collector.sending()
    assert [sending.offer(load(number), 0.02) for number in range(BATCHES_MAX + 2)] == [True] * BATCHES_MAX + [
        False
    ] * 2
    assert sending.progress().problem == "it is down: wait"
    assert sending.progress().waiting == BATCHES_MAX
    sending.close()
    assert sending.position is None


def test_what_is_refused_alone_is_given_up_and_the_rest_taken() -> None:
    """One bad thing among a hundred: 99 are taken, it is counted, and the position goes on."""

    def judge(items: Sequence[Any]) -> Answer:
        return REFUSED if 57 in items else TAKEN

    collector = Collector(judge)
    sending = collector.sending()
    assert sending.offer(load(*range(100), at=5), 5)
    assert sending.wait(10)
    assert sorted(collector.taken) == [n for n in range(100) if n != 57]
    assert sending.progress().refused == 1
    assert sending.position == {"w": 5}
    sending.close()


@pytest.mark.parametrize("bad", [{0}, {99}, {0, 1, 2, 50, 98, 99}], ids=str)
def test_what_is_refused_holds_up_nothing_else(bad: set[int]) -> None:
    """Wherever they are: the others are taken, also those of one load whose first thing is refused."""
    collector = Collector(lambda items: REFUSED if bad & set(items) else TAKEN)
    sending = collector.sending(1)
    assert sending.offer(load(*range(100), at=5), 5)
    assert sending.wait(10)
    assert sorted(collector.taken) == [n for n in range(100) if n not in bad]
    assert sending.progress().refused == len(bad)
    assert sending.position == {"w": 5}
    sending.close()


def test_what_cannot_be_made_is_told_and_holds_up_nothing() -> None:
    """An exception while one thing is encoded is that thing's, and no thread dies of it."""

    def judge(items: Sequence[Any]) -> Answer:
        if 3 in items:
            raise TypeError("three")
        return TAKEN

    collector = Collector(judge)
    sending = collector.sending(1)
    assert sending.offer(load(*range(8), at=1), 5)
    assert sending.offer(load(9, at=2), 5)
    assert sending.wait(10)
    assert sorted(collector.taken) == [0, 1, 2, 4, 5, 6, 7, 9]
    assert sending.position == {"w": 2}
    sending.close()


def test_what_is_left_out_is_done_and_not_counted() -> None:
    """What the collector has no place for does not hold the position back, and is not said to be sent."""
    collector = Collector(lambda _items: answers.LEFT_OUT)
    sending = collector.sending()
    assert sending.offer(load(1, 2, at=4), 5)
    assert sending.wait(5)
    assert (sending.position, sending.progress().sent) == ({"w": 4}, 0)
    sending.close()


def test_who_refuses_everything_is_broken() -> None:
    """Nothing is given up while nothing at all is taken."""
    collector = Collector(lambda _items: REFUSED)
    sending = collector.sending()
    assert sending.offer(load(1, 2, 3), 5)
    assert not sending.wait(0.5)
    assert sending.progress().refused == 0
    assert collector.tries > 10
    sending.close()


def test_what_is_too_large_is_halved() -> None:
    """Until the collector takes it."""

    def judge(items: Sequence[Any]) -> Answer:
        return Answer("too large", "too large", "wait") if len(items) > 10 else TAKEN

    collector = Collector(judge)
    sending = collector.sending()
    assert sending.offer(load(*range(100)), 5)
    assert sending.wait(5)
    assert sorted(collector.taken) == list(range(100))
    assert sending.progress().refused == 0
    sending.close()


def test_a_load_of_nothing_is_done() -> None:
    """So that the position can move on."""
    sending = Collector().sending()
    assert sending.offer(load(at=3), 5)
    assert sending.wait(5)
    assert sending.position == {"w": 3}
    sending.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ConnectionError ... [Errno 111] Connection refused", "nobody listening"),
        ("SSLError CERTIFICATE_VERIFY_FAILED self-signed", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ("SSLError [SSL: WRONG_VERSION_NUMBER] wrong version number", "does not speak TLS"),
        ("Failed to resolve: Name or service not known", "host that is not known"),
        ("ReadTimeout read timed out", "in time"),
        ("('Connection aborted.', RemoteDisconnected('closed'))", "closes the connection"),
        ("BadStatusLine", "another protocol"),
        ("InvalidURL Failed to parse", "no address"),
        ("something new", "cannot be reached"),
    ],
)
def test_what_a_failure_means(text: str, words: str) -> None:
    """One line, with what to do."""
    answer = answers.of_failure("http://c", text)
    assert words in str(answer)
    assert answer.verdict == "again"
    assert "\n" not in str(answer)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (301, "again"),
        (400, "refused"),
        (401, "again"),
        (404, "unsupported"),
        (413, "too large"),
        (422, "refused"),
        (429, "again"),
        (500, "again"),
        (503, "again"),
    ],
)
def test_what_a_status_means(status: int, verdict: str) -> None:
    """What can be taken later, what cannot, and what is not taken at all."""
    assert answers.of_status("http://c", status, "text\nof two lines").verdict == verdict
    assert "\n" not in str(answers.of_status("http://c", status, "text\nof two lines"))


@pytest.mark.parametrize(
    ("code", "details", "verdict"),
    [
        ("UNAVAILABLE", "failed to connect: Connection refused", "again"),
        ("UNIMPLEMENTED", "unknown service", "unsupported"),
        ("UNAUTHENTICATED", "", "again"),
        ("INVALID_ARGUMENT", "bad", "refused"),
        ("RESOURCE_EXHAUSTED", "message larger than max (5 vs. 4)", "too large"),
        ("RESOURCE_EXHAUSTED", "slow down", "again"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", "again"),
        ("UNAVAILABLE", "Trying to connect an http1.x server", "again"),
    ],
)
def test_what_a_code_of_grpc_means(code: str, details: str, verdict: str) -> None:
    """The same for gRPC."""
    assert answers.of_grpc("http://c", code, details).verdict == verdict


def test_plain_http_to_a_tls_port_is_recognised() -> None:
    """Go's servers answer with a status and a sentence."""
    answer = answers.of_status("http://c", 400, "Client sent an HTTP request to an HTTPS server.\n")
    assert "https://" in str(answer)


def test_what_others_say_is_told_without_logins() -> None:
    """gRPC repeats the address that it was given, login and all."""
    answer = answers.of_grpc("http://c", "UNAVAILABLE", "errors resolving user:S3KRET@10.0.0.1:4317: no such thing")
    assert "S3KRET" not in str(answer)
