"""Running: from what a person asked for to a run in the store, whichever the stage.

Everything around a stage is here: the run's folder, the recorder, the sampler, signals, the beginning and the end of
the story, the summary. A stage only does the work.

Invariants:
    a run that began has an end event unless the process was killed;
    the summary counts what is durable in the log, nothing else.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from eventflow.errors import StoreError, UsageError, name_of
from eventflow.folder import Folder
from eventflow.interrupts import Interrupts
from eventflow.live_tally import LiveTally
from eventflow.log.runs import RunFolder, create_run
from eventflow.metrics import recorded_by
from eventflow.mirror import mirrored_by
from eventflow.own_tally import OwnTally
from eventflow.progress import FAILURES_KEPT_MAX, Failure, Tally
from eventflow.propagation import Propagation, require_known
from eventflow.recorder import Recorder, Span
from eventflow.redaction import redact_command
from eventflow.request import BadLine, Request, count_requests
from eventflow.resume import Resumption
from eventflow.source import again, copied, fingerprint, from_file, from_urls
from eventflow.story import Interrupted
from eventflow.vocabulary import (
    ProcessStarted,
    RunCompleted,
    RunCounts,
    RunFailed,
    RunInterrupted,
    RunStarted,
    StageCompleted,
    StageStarted,
)
from eventflow.work import Settings, Work
from instrumentation.context import OpenTelemetryContext
from instrumentation.machine import Machine, machine
from instrumentation.sampler import Sampler
from instrumentation.usage import Meter
from stages.registry import find_stage

Watch = Callable[[RunFolder, Tally, int | None], AbstractContextManager[object]]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did, as `run --json` prints it. Sizes in bytes; `failures` are the first twenty."""

    run: str
    stage: str
    state: str
    requests: int
    completed: int
    failed: int
    cancelled: int
    bytes: int
    seconds: float
    requests_per_second: float
    peak_memory_bytes: int
    memory_kind: str
    cpu_seconds: float
    processes_max: int
    energy_joules: float | None
    energy_kind: str | None
    events: int
    events_lost: int
    failures: tuple[Failure, ...] = ()
    problem: str | None = None


def start(
    store: Path,
    settings: Settings,
    *,
    urls: Iterable[str] = (),
    source: str | None = None,
    command: tuple[str, ...] = (),
    labels: dict[str, str] | None = None,
    watch: Watch,
) -> Summary:
    """Begin a run and carry it out. The input is `source` (a path, `-` for standard input) or `urls`.

    Raises:
        UsageError: nothing was done, because something asked for cannot be.
    """
    if settings.propagate:
        require_known(os.environ)
    find_stage(settings.stage).load()  # so that the run begins with its work, not with loading libraries
    items: Iterator[Request | BadLine] = from_file(source) if source else from_urls(urls)
    first = next(items, None)
    if first is None:
        where = name_of(source) if source else "the command line"
        raise UsageError(f"there is no URL in {where}", "give one URL a line, for example https://example.org/a.txt")
    items = chain((first,), items)
    Folder.open(Path(settings.out))  # before there is a run, so that a folder that cannot be used leaves none behind
    total = None
    if source and Path(source).is_file():
        size, modified = fingerprint(Path(source))
        settings = msgspec.structs.replace(
            settings, source=str(Path(source).absolute()), source_size=size, source_mtime_ns=modified
        )
        total = count_requests(source)
    here = machine(store)
    folder = create_run(
        store,
        stage=settings.stage,
        command=command,
        settings=msgspec.to_builtins(_recordable(settings)),
        machine=msgspec.to_builtins(here),
        labels=labels,
    )
    if settings.source is None:
        items = copied(items, folder.path)
    return _Sitting(folder, settings, items, None, watch, total, here).carry_out()


def resume(folder: RunFolder, *, source: str | None = None, program: tuple[str, ...] = (), watch: Watch) -> Summary:
    """Go on with a run that ended early; what is completed and still on disk is not fetched again.

    `source` and `program` are the input and the external program again, where the run could not keep them: if they held
    secrets.

    Raises:
        UsageError: the run is still going on, or its input or program cannot be had.
        StoreError: the run's folder cannot be read.
    """
    if folder.is_live():
        raise UsageError(f"the run {folder.run} is still going on", "wait for it, or stop it with Ctrl-C first")
    try:
        settings = msgspec.convert(folder.info().settings, Settings)
    except msgspec.ValidationError as problem:
        raise StoreError(f"{folder.path / 'run.json'} does not hold a run's settings ({problem})") from problem
    if settings.propagate:
        require_known(os.environ)
    settings = _with_program(settings, program)
    find_stage(settings.stage).load()
    items = again(settings, folder.path, source)
    Folder.open(Path(settings.out))
    resumption = Resumption(folder.log)
    listed = source or settings.source
    total = count_requests(listed) if listed else None
    return _Sitting(folder, settings, items, resumption, watch, total, machine()).carry_out()


def _recordable(settings: Settings) -> Settings:
    """The settings as they may be kept: secrets in the arguments of the external program are not."""
    shown = redact_command(settings.program)
    return msgspec.structs.replace(settings, program=shown, program_kept=shown == settings.program)


def _with_program(settings: Settings, program: tuple[str, ...]) -> Settings:
    """The settings with the program as it is to be run."""
    if program and settings.stage != "subprocess":
        raise UsageError(f"--exec does not go with {settings.stage}", "leave it out")
    if not program and not settings.program_kept:
        raise UsageError("the program's arguments may hold secrets, and are not kept", "give it again with --exec")
    return msgspec.structs.replace(settings, program=program or settings.program, program_kept=True)


class _Sitting:
    """One process's share of a run, from its beginning (or resume) to its end, interrupt or failure."""

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        items: Iterator[Request | BadLine],
        resumption: Resumption | None,
        watch: Watch,
        total: int | None,
        here: Machine,
    ) -> None:
        self._folder, self._settings, self._items = folder, settings, items
        self._resumption, self._watch, self._total, self._here = resumption, watch, total, here
        self._recorder = Recorder(folder.log, folder.run, links=settings.links)
        self._clock = self._recorder.sources.monotonic_ns
        self._begun = self._clock()
        self._work: Work | None = None  # the work that a signal would interrupt
        self._state = "failed"
        self._signal = ""
        self._problem: StoreError | None = None

    def carry_out(self) -> Summary:
        """From the first event to the last. Signals that come after the stage has ended change nothing."""
        root = self._root()
        interrupts = Interrupts(self._cancel, lambda: self._work is not None and not self._work.heeds_signals)
        with interrupts, self._tally() as live:
            try:
                self._work_through(root, live, interrupts)
                self._end(root, live)
            except StoreError as problem:  # the log itself: there is nothing to write the end to
                self._state, self._problem = "failed", self._problem or problem
            tally = live.stop()
        return self._summary(tally)

    def _tally(self) -> LiveTally | OwnTally:
        if find_stage(self._settings.stage).keeps_tally:
            return OwnTally(self._recorder, self._resumption.tally if self._resumption else None)
        return LiveTally(self._folder.log)

    def _work_through(self, root: Span, live: LiveTally | OwnTally, interrupts: Interrupts) -> None:
        try:
            work = self._begin(root)
            if isinstance(live, OwnTally):
                live.watch(work.tally)
                work.report = live.report
            watch = self._watch(self._folder, live.tally, self._total)
            shown = mirrored_by(OpenTelemetryContext())
            with shown, root, watch, recorded_by(self._recorder), self._sampler(root, live):
                self._run_stage(work, interrupts)
        except StoreError as problem:
            self._problem = problem

    def _sampler(self, root: Span, live: LiveTally | OwnTally) -> Sampler:
        meter = Meter(self._here)

        def account(**said: Any) -> None:
            live.record_sample(root, meter.measure(**said))

        return Sampler(partial(live.record_sample, root), account=account)

    def _cancel(self) -> None:
        if self._work is not None:
            self._work.cancel()

    def _root(self) -> Span:
        """The root of a run that somebody's span started is in that one's trace. A resume stays where the run began."""
        handoff = self._resumption.handoff("run") if self._resumption else None
        if handoff:
            return self._recorder.adopt(handoff)
        caller = Propagation(os.environ).caller
        if caller is None:
            return self._recorder.open_stream("run")
        return self._recorder.open_stream("run", trace_id=caller.trace_id, parent_span_id=caller.span_id)

    def _begin(self, root: Span) -> Work:
        settings = self._settings
        root.record(RunStarted(stage=settings.stage, workers=settings.workers, resumed=self._resumption is not None))
        root.record(ProcessStarted(pid=os.getpid(), role="main"))
        span = root.child()
        cause = span.record(StageStarted(stage=settings.stage, workers=settings.workers))
        work = Work(settings, self._recorder, self._folder.log, span, cause, self._items, self._resumption)
        if self._resumption:
            work.folder.sweep(self._folder.run, keep=self._resumption.parts())
        return work

    def _run_stage(self, work: Work, interrupts: Interrupts) -> None:
        stage = find_stage(self._settings.stage)
        begun = self._clock()
        try:
            self._work = work
            stage.load()(work)
            work.span.record(StageCompleted(stage=stage.name, seconds=self._since(begun)))
            self._state = "completed"
        except Interrupted:
            self._state, self._signal = "interrupted", work.signal_name or interrupts.signal_name or "SIGINT"
        finally:
            self._work = None
            work.cancel()
            work.abandon_in_flight()
            work.close()

    def _end(self, root: Span, live: LiveTally | OwnTally) -> None:
        self._recorder.flush()
        counts = msgspec.structs.asdict(self._counts(live.stop()))
        if self._state == "completed":
            root.record(RunCompleted(**counts))
        elif self._problem is not None:
            root.record(RunFailed(error=type(self._problem).__name__, message=str(self._problem), **counts))
        else:
            root.record(RunInterrupted(signal=self._signal, **counts))
        self._recorder.close()

    def _counts(self, tally: Tally) -> RunCounts:
        return RunCounts(
            requests=tally.requests,
            completed=tally.completed,
            failed=tally.failed,
            cancelled=tally.cancelled,
            bytes=tally.bytes,
            seconds=self._since(self._begun),
        )

    def _since(self, begun_ns: int) -> float:
        return (self._clock() - begun_ns) / 1e9

    def _summary(self, tally: Tally) -> Summary:
        seconds = self._since(self._begun)
        joules, kind = tally.energy or (None, None)
        return Summary(
            run=self._folder.run,
            stage=self._settings.stage,
            state=self._state,
            requests=tally.requests,
            completed=tally.completed,
            failed=tally.failed,
            cancelled=tally.cancelled,
            bytes=tally.bytes,
            seconds=seconds,
            requests_per_second=tally.completed / seconds if seconds else 0.0,
            peak_memory_bytes=tally.peak_memory_bytes,
            memory_kind=tally.memory_kind,
            cpu_seconds=tally.cpu_seconds,
            processes_max=tally.processes_max,
            energy_joules=joules,
            energy_kind=kind,
            events=tally.events,
            events_lost=tally.events_lost,
            failures=tuple(failure for _, failure in sorted(tally.failures.items()))[:FAILURES_KEPT_MAX],
            problem=str(self._problem) if self._problem else None,
        )
