"""Runs that never ran: whole run folders, in the log's format, from a seed.

The tests of everything that reads logs need runs of known content, with failures, cancellations, crashes and samples,
in milliseconds. So requests are played on a clock of their own by a small simulation of workers, and recorded by the
real recorder. Run as a program it fills a store to look at: `python tests/synthetic_log.py STORE`.

Invariants:
    the same seed and arguments give the same events, and so the same answers to every query.
"""

import hashlib
import heapq
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from eventflow import errors
from eventflow.event import Link, Payload
from eventflow.log.runs import RunFolder, create_run
from eventflow.measuring_events import MetricMeasured, ProcessMeasured, ProcessReading, ProcessSampled
from eventflow.recorder import Recorder, Span
from eventflow.resume import Resumption
from eventflow.sources import SeededSources
from eventflow.vocabulary import (
    AttemptBody,
    AttemptCompleted,
    AttemptFailed,
    AttemptResponse,
    AttemptStarted,
    FileStored,
    FileVerified,
    ProcessStarted,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestQueued,
    RequestStarted,
    RunCompleted,
    RunCounts,
    RunInterrupted,
    RunStarted,
    StageCompleted,
    StageStarted,
)

MIB = 1 << 20
START_NS = 1_795_438_800_000_000_000
SAMPLE_SECONDS = 0.05


class Profile(msgspec.Struct, frozen=True):
    """What a stage costs: its workers, processes and memory, and how the load slows a request down."""

    workers: int
    processes: int
    base_mib: float
    worker_mib: float
    start_seconds: float
    slowdown: float = 1.0


PROFILES = {
    "serial": Profile(1, 1, 46, 1, 0.02),
    "threads": Profile(16, 1, 47, 1.1, 0.03, 1.7),
    "processes": Profile(4, 5, 48, 27, 0.35),
    "subprocess": Profile(16, 9, 47, 6, 0.03, 3.1),
    "loop": Profile(32, 1, 49, 0.4, 0.05, 1.9),
}


class Failure(msgspec.Struct, frozen=True):
    """A way to fail: the error's class, what it says, the status if there was a response, how often it is met."""

    kind: type[errors.RequestError]
    what: str
    status: int | None
    weight: int


FAILURES = (
    Failure(errors.ServerStatus, "503 Service Unavailable", 503, 5),
    Failure(errors.ClientStatus, "404 Not Found", 404, 4),
    Failure(errors.TimedOut, "nothing arrived for 30 s", None, 3),
    Failure(errors.ConnectionLost, "the server closed the connection after 1 024 bytes", 200, 2),
    Failure(errors.ChecksumMismatch, "its SHA-256 is 0f4e…, the list says 9b1c…", None, 1),
)


class Clock(SeededSources):
    """Seeded sources whose clock is set from outside, and moves on by a microsecond with each reading."""

    def set(self, now_ns: int) -> None:
        """It is that time now, unless it is later already."""
        self._now_ns = max(self._now_ns, now_ns)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is to be like. `stop_seconds` after its start it is interrupted, or killed."""

    stage: str = "serial"
    requests: int = 200
    seed: int = 1
    failure_share: float = 0.04
    stop_seconds: float | None = None
    killed: bool = False
    start_ns: int = START_NS
    labels: dict[str, str] = {}
    urls: Callable[[int], str] = "https://files.example.org/set/{}.bin".format


class Sitting:
    """One process's share of a run, played."""

    def __init__(self, folder: RunFolder, plan: Plan, resumption: Resumption | None = None) -> None:
        self._folder, self._plan, self._resumption = folder, plan, resumption
        self._profile = PROFILES[plan.stage]
        self._random = random.Random(f"{plan.seed} {plan.stage} {plan.start_ns}")
        self._clock = Clock(self._random.getrandbits(32), plan.start_ns)
        self._recorder = Recorder(folder.log, folder.run, sources=self._clock, batch_seconds_max=None)
        self._begun: dict[int, tuple[float, Span]] = {}
        self._stories: list[tuple[float, int, int, Span, Iterator[float]]] = []
        self._counts = RunCounts()
        self._now = self._next_sample = 0.0

    def play(self) -> None:
        """From run.started to the end, or to where the plan says that it is killed."""
        plan = self._plan
        handoff = self._resumption.handoff("run") if self._resumption else None
        root = self._recorder.adopt(handoff) if handoff else self._recorder.open_stream("run")
        resumed = handoff is not None
        root.record(RunStarted(stage=plan.stage, workers=self._profile.workers, resumed=resumed))
        root.record(ProcessStarted(pid=4000, role="main"))
        stage = root.child()
        cause = stage.record(StageStarted(stage=plan.stage, workers=self._profile.workers))
        self._sample_until(root, self._profile.start_seconds)
        is_stopped = self._play_requests(root, cause)
        if not (is_stopped and plan.killed):
            self._end(root, stage, is_stopped=is_stopped)
        self._recorder.close()

    def _play_requests(self, root: Span, cause: Link) -> bool:
        """Workers take the requests in turn; whatever is next in time goes on. Returns whether the run was stopped."""
        waiting = [
            n
            for n in range(self._plan.requests)
            if not (self._resumption and self._resumption.tally.completed_bytes(n))
        ]
        waiting.reverse()
        while waiting or self._stories:
            while waiting and len(self._stories) < self._profile.workers:
                self._begin(waiting.pop(), cause)
            at, order, number, span, story = heapq.heappop(self._stories)
            self._sample_until(root, min(at, self._plan.stop_seconds or at))
            if self._plan.stop_seconds is not None and at >= self._plan.stop_seconds:
                heapq.heappush(self._stories, (at, order, number, span, story))
                return True
            pause = next(story, None)
            if pause is None:
                del self._begun[number]
            else:
                heapq.heappush(self._stories, (self._now + pause, order, number, span, story))
        return False

    def _begin(self, number: int, cause: Link) -> None:
        handoff = self._resumption.handoff(f"request-{number}") if self._resumption else None
        root = self._recorder.adopt(handoff) if handoff else self._recorder.open_stream(f"request-{number}")
        url = self._plan.urls(number)
        root.record(RequestQueued(number=number, url=url, name=f"set/{number}.bin"), cause)
        self._begun[number] = (self._now, root)
        heapq.heappush(self._stories, (self._now + 0.0002, number, number, root, self._story(number, url, root)))

    def _story(self, number: int, url: str, root: Span) -> Iterator[float]:
        """The events of one request; yields the seconds until the next one."""
        begun, size = self._now, int(self._random.lognormvariate(10.5, 1.2)) + 64
        root.child().record(RequestStarted(wait_seconds=0.0002))
        attempt = root.child()
        attempt.record(AttemptStarted(server_address=urlsplit(url).hostname or "", server_port=443))
        tried = self._now
        response_seconds = self._random.lognormvariate(-3.9, 0.5) * self._profile.slowdown
        failure = self._pick_failure()
        yield response_seconds
        if failure and failure.kind is not errors.ChecksumMismatch:
            if failure.status:
                attempt.record(AttemptResponse(status=failure.status, seconds=self._now - tried))
            problem = failure.kind(url, failure.what)
            attempt.record(
                AttemptFailed(
                    error=failure.kind.__name__, message=failure.what, seconds=self._now - tried, status=failure.status
                )
            )
            self._fail(root, problem, begun)
            return
        attempt.record(AttemptResponse(status=200, seconds=self._now - tried, content_length=size))
        responded = self._now
        yield size / 30e6 * self._profile.slowdown
        attempt.child().record(AttemptBody(bytes=size, seconds=self._now - responded))
        attempt.record(AttemptCompleted(seconds=self._now - tried))
        if failure:
            self._fail(root, failure.kind(url, failure.what), begun)
            return
        digest = hashlib.sha256(url.encode()).hexdigest()
        root.child().record(FileVerified(bytes=size, sha256=digest, seconds=size / 2e9, checks=("size",)))
        yield 0.0015
        root.child().record(FileStored(name=f"set/{number}.bin", bytes=size, seconds=0.0015))
        root.record(RequestCompleted(name=f"set/{number}.bin", bytes=size, seconds=self._now - begun))
        self._count(completed=1, size=size)

    def _pick_failure(self) -> Failure | None:
        if self._random.random() >= self._plan.failure_share:
            return None
        return self._random.choices(FAILURES, [failure.weight for failure in FAILURES])[0]

    def _fail(self, root: Span, problem: errors.RequestError, begun: float) -> None:
        root.record(RequestFailed(error=type(problem).__name__, message=str(problem), seconds=self._now - begun))
        self._count(failed=1)

    def _count(self, completed: int = 0, failed: int = 0, cancelled: int = 0, size: int = 0) -> None:
        before = self._counts
        self._counts = RunCounts(
            requests=before.requests + 1,
            completed=before.completed + completed,
            failed=before.failed + failed,
            cancelled=before.cancelled + cancelled,
            bytes=before.bytes + size,
        )

    def _sample_until(self, root: Span, seconds: float) -> None:
        while self._next_sample <= seconds:
            self._go_to(self._next_sample)
            root.record(self._sample())
            self._next_sample += SAMPLE_SECONDS
        self._go_to(seconds)

    def _sample(self) -> Payload:
        profile, busy = self._profile, len(self._stories)
        warm = min(1.0, self._now / (2 * profile.start_seconds))
        noise = self._random.uniform(0.985, 1.015)
        memory = int((profile.base_mib + warm * profile.worker_mib * busy) * noise * MIB)
        cpu_seconds = self._now * min(1.9, 0.35 * profile.processes)
        readings = tuple(
            ProcessReading(
                4000 + place, memory // profile.processes, cpu_seconds / profile.processes, 2, 60 * MIB, 9 + busy
            )
            for place in range(profile.processes)
        )
        return ProcessSampled(
            memory_bytes=memory, memory_kind="pss", cpu_seconds=cpu_seconds, processes=readings, sampling_seconds=0.0004
        )

    def _end(self, root: Span, stage: Span, *, is_stopped: bool) -> None:
        for begun, story in self._begun.values():
            story.record(RequestCancelled(seconds=self._now - begun))
            self._count(cancelled=1)
        root.record(self._sample())
        self._measure(root)
        counts = msgspec.structs.asdict(self._counts) | {"seconds": self._now}
        if is_stopped:
            root.record(RunInterrupted(signal="SIGINT", **counts))
        else:
            stage.record(StageCompleted(stage=self._plan.stage, seconds=self._now))
            root.record(RunCompleted(**counts))

    def _measure(self, root: Span) -> None:
        """What the run used in all, and a metric of it."""
        cpu_seconds = self._now * min(1.9, 0.35 * self._profile.processes)
        root.record(
            ProcessMeasured(
                seconds=self._now,
                user_seconds=cpu_seconds * 0.75,
                system_seconds=cpu_seconds * 0.25,
                voluntary_switches=20 * self._counts.requests,
                involuntary_switches=self._counts.requests,
                major_faults=0,
                disk_read_bytes=0,
                disk_written_bytes=self._counts.bytes,
                network_received_bytes=self._counts.bytes,
                network_sent_bytes=200 * self._counts.requests,
                samples=int(self._now / SAMPLE_SECONDS),
                sampling_seconds=0.008 * self._now,
                energy_class="server",
                energy_idle_share=0.4,
                energy_server_joules=1.5 * self._now + 2.8 * cpu_seconds,
                energy_desktop_joules=4 * self._now + 5 * cpu_seconds,
            )
        )
        done, metrics = self._counts.completed, self._recorder.open_stream(f"metrics-{self._recorder.writer}")
        metrics.record(MetricMeasured(name="pages.made", kind="counter", count=done, sum=done, min=1, max=1, last=1))

    def _go_to(self, seconds: float) -> None:
        self._now = max(self._now, seconds)
        self._clock.set(self._plan.start_ns + int(self._now * 1e9))


def write_run(store: Path, stage: str = "serial", **plan: object) -> RunFolder:
    """Play a run into the store; the other arguments are the fields of `Plan`."""
    made = msgspec.convert({"stage": stage} | plan, Plan) if "urls" not in plan else Plan(stage=stage, **plan)  # type: ignore[arg-type]
    sources = SeededSources(made.seed * 1000 + list(PROFILES).index(stage), made.start_ns)
    folder = create_run(
        store,
        stage=stage,
        command=("eventflow", "run", stage, "--input", "urls.txt", "--out", "files"),
        settings={"stage": stage, "workers": PROFILES[stage].workers, "timeout_s": 30.0},
        machine={"system": "Linux", "python": "3.11.9", "cpus": 2, "memory_bytes": 8 << 30},
        labels=made.labels,
        sources=sources,
    )
    Sitting(folder, made).play()
    return folder


def resume_run(folder: RunFolder, **plan: object) -> None:
    """Go on with a run, an hour later unless `start_ns` says when."""
    info = folder.info()
    made = Plan(**({"stage": info.stage, "start_ns": START_NS + 3_600_000_000_000} | plan))  # type: ignore[arg-type]
    Sitting(folder, made, Resumption(folder.log)).play()


def write_ladder(store: Path, requests: int = 200) -> list[RunFolder]:
    """One run of each stage, the later ones later."""
    return [
        write_run(store, stage, requests=requests, start_ns=START_NS + place * 60_000_000_000)
        for place, stage in enumerate(PROFILES)
    ]


if __name__ == "__main__":
    for made in write_ladder(Path(sys.argv[1])):
        sys.stdout.write(f"{made.run} {made.info().stage}\n")
