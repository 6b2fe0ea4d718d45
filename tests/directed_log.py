"""A run of the director that never ran: connections, retries, redirects and limits, from a seed, in milliseconds.

Invariants:
    the same seed gives the same events.
"""

import random
from pathlib import Path

from eventflow.log.runs import RunFolder, create_run
from eventflow.origin_events import ConnectionOpened, ConnectionTaken, LimitChanged
from eventflow.recorder import Recorder, Span
from eventflow.sources import SeededSources
from eventflow.vocabulary import (
    AttemptBody,
    AttemptCompleted,
    AttemptFailed,
    AttemptRedirected,
    AttemptResponse,
    AttemptSent,
    AttemptStarted,
    RequestCompleted,
    RequestDelayed,
    RequestFailed,
    RequestQueued,
    RequestStarted,
    RunStarted,
)
from tests.synthetic_log import START_NS

HOSTS = ("a.example.org", "b.example.org", "c.example.org")
TRIES_MAX = 3
FAILURES = (("TimedOut", "nothing arrived", None), ("ServerStatus", "503 Service Unavailable", 503))


class Directed:
    """One request after the other; each host gets slower to connect to, and the last one is never reached."""

    def __init__(self, recorder: Recorder, seed: int) -> None:
        self._recorder, self._chance = recorder, random.Random(seed)
        self._kept: set[str] = set()
        self._opened = 0

    def request(self, number: int) -> None:
        """From queued to its end: perhaps redirected to the next host, perhaps tried again."""
        chance, root = self._chance, self._recorder.open_stream(f"request-{number}")
        root.record(RequestQueued(number=number, url=f"https://{HOSTS[number % 3]}/{number}", name=str(number)))
        root.child().record(RequestStarted(wait_seconds=chance.random()))
        sent = 0
        for tries in range(TRIES_MAX):
            host = HOSTS[number % 3]
            if host != HOSTS[2] and chance.random() < 0.3:
                host = HOSTS[0]
                self._attempt(root, sent, HOSTS[number % 3], "redirected")
                sent += 1
            outcome = "failed" if host == HOSTS[2] or chance.random() < 0.3 else "completed"
            self._attempt(root, sent, host, outcome)
            sent += 1
            if outcome == "completed":
                root.record(RequestCompleted(name=str(number), bytes=7, seconds=chance.random()))
                return
            if tries + 1 < TRIES_MAX:
                root.record(RequestDelayed(seconds=chance.random(), reason="back-off"))
        root.record(RequestFailed(error="TimedOut", message="nothing arrived", seconds=chance.random()))

    def limits(self, count: int) -> None:
        """Two processes' worth of limits for the first two hosts."""
        streams = [(host, self._recorder.open_stream(f"origin-https://{host}-{w}")) for host in HOSTS[:2] for w in "vw"]
        for _ in range(count):
            host, span = self._chance.choice(streams)
            limit, seconds = self._chance.randrange(1, 64), self._chance.random()
            span.record(LimitChanged(origin=f"https://{host}", limit=limit, in_flight=1, latency_seconds=seconds))

    def _attempt(self, root: Span, number: int, host: str, outcome: str) -> None:
        chance, span = self._chance, root.child()
        span.record(AttemptStarted(server_address=host, server_port=443, resend_count=number))
        seconds = chance.random()
        if host == HOSTS[2]:
            span.record(AttemptFailed(error="ConnectRefused", message="connection refused", seconds=seconds))
            return
        self._connect(span, host)
        span.record(AttemptSent(seconds=seconds / 4))
        error, message, status = chance.choice(FAILURES)
        if outcome == "failed":
            span.record(AttemptFailed(error=error, message=message, seconds=seconds, status=status))
        elif outcome == "redirected":
            span.record(AttemptResponse(status=302, seconds=seconds / 2))
            span.record(AttemptRedirected(status=302, url=f"https://{HOSTS[0]}/x", seconds=seconds))
        else:
            span.record(AttemptResponse(status=200, seconds=seconds / 2))
            span.child().record(AttemptBody(bytes=7, seconds=seconds / 2))
            span.record(AttemptCompleted(seconds=seconds))

    def _connect(self, span: Span, host: str) -> None:
        slow = HOSTS.index(host) + 1
        if host in self._kept and self._chance.random() < 0.7:
            span.record(ConnectionTaken(connection=f"w-{self._opened}", requests=1, idle_seconds=0.1))
            return
        self._opened += 1
        self._kept.add(host)
        dns, connect, tls = (slow * self._chance.random() for _ in range(3))
        span.child().record(
            ConnectionOpened(
                connection=f"w-{self._opened}",
                address="192.0.2.1",
                port=443,
                dns_seconds=dns,
                connect_seconds=connect,
                tls_seconds=tls,
            )
        )


def write_directed_run(store: Path, *, requests: int = 60, seed: int = 1, limits: int = 40) -> RunFolder:
    """Play a run and record it."""
    sources = SeededSources(seed, START_NS)
    folder = create_run(store, stage="lineage", sources=sources)
    with Recorder(folder.log, folder.run, sources=sources) as recorder:
        recorder.open_stream("run").record(RunStarted(stage="lineage", workers=1))
        directed = Directed(recorder, seed)
        for number in range(requests):
            directed.request(number)
        directed.limits(limits)
    return folder
