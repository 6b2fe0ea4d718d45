"""`eventflow export --to otlp`: the log of a run to an OpenTelemetry collector.

It is also the process that `eventflow run --otlp` starts beside the run, and then tells it how it is going through a
socket, a JSON object a line: see `eventflow.cli.otlp_beside`.
"""

import contextlib
import gc
import hashlib
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from eventflow.cli.output import print_json, status_console
from eventflow.errors import EventflowError, LogBusy, MissingExtra, StoreError, UsageError
from eventflow.log.following import Subscription
from eventflow.log.runs import RunFolder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from instrumentation.otlp.exporting import Exporting, Outcome
    from instrumentation.otlp.sending import Progress
    from instrumentation.otlp.settings import Settings

STOP = b"stop\n"
_BUSY_SECONDS = 15.0
_GARBAGE_THRESHOLD = 50_000
_FAULT, _INTERRUPTED = 3, 130

_PANEL = "For OpenTelemetry"
SampleOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="Which traces: errors, slow, slow=2s, a share such as 1%, in any combination. Default: all.",
        rich_help_panel=_PANEL,
    ),
]
LogsOption = Annotated[
    bool, typer.Option("--otlp-logs", help="Send the events as log records, too.", rich_help_panel=_PANEL)
]


class Report(msgspec.Struct, kw_only=True):
    """What the process beside a run says of itself."""

    pid: int
    where: str = ""
    sent: int = 0
    spans: int = 0
    log_records: int = 0
    waiting: int = 0
    refused: int = 0
    unsupported: dict[str, str] = {}  # which signals are not taken, and where
    problem: str | None = None
    is_over: bool = False


def otlp_settings(sample: str | None, *, logs: bool) -> "Settings":
    """What the options and the environment ask for.

    Raises:
        UsageError: it cannot be, or it is nothing.
        MissingExtra: the SDK is not installed.
    """
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
        raise MissingExtra("OTLP needs the OpenTelemetry SDK", "pip install 'eventflow[telemetry]'")
    from instrumentation.otlp.settings import read_settings
    from instrumentation.traces.sampling import parse_policy

    policy = parse_policy(sample) if sample is not None else None
    settings = read_settings(os.environ, policy=policy, logs=logs)
    if settings is None:
        raise UsageError("OTEL_SDK_DISABLED is true, so nothing may be exported", "unset it")
    if not settings.protocols:
        raise UsageError("every exporter is switched off (OTEL_TRACES_EXPORTER=none and so on)", "leave one on")
    return settings


def export_otlp(
    folder: RunFolder, *, follow: bool, sample: str | None, logs: bool, beside: int | None = None, json: bool = False
) -> NoReturn:
    """Send a run to a collector, and leave with an exit status.

    Raises:
        UsageError, StoreError: see `otlp_settings` and `Exporting.carry_out`.
    """
    settings = otlp_settings(sample, logs=logs)
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 100)  # spans are made and gone, and none of them is part of a cycle
    if beside is not None:
        _export_beside(folder, settings, socket.socket(fileno=beside))
    console = status_console()
    with (
        console.status("sending …") as status,
        _subscription(folder, settings, wait_s=0) if follow else contextlib.nullcontext() as place,
    ):

        def show(progress: "Progress") -> None:
            problem = f" · {progress.problem}" if progress.problem else ""
            status.update(f"{progress.sent:,} sent, {progress.waiting:,} on their way{problem}")

        exporting = _exporting(folder, settings, place, show, follow=follow)
        interrupted = _stop_on_signals(exporting)
        try:
            outcome = exporting.carry_out()
        except FileNotFoundError as gone:
            raise StoreError(f"{gone.filename} is gone: restore the run's folder from a copy") from gone
    if json:
        print_json(outcome)
    else:
        for line in _describe(outcome, folder, settings, follow=follow):
            console.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(_INTERRUPTED if interrupted.is_set() else _FAULT if outcome.left else 1 if outcome.refused else 0)


def _describe(outcome: "Outcome", folder: RunFolder, settings: "Settings", *, follow: bool) -> list[str]:
    lines = [f"{folder.run}: {sent_words(outcome.sent, outcome.spans, outcome.log_records)} sent to {_where(settings)}"]
    if outcome.unsampled:
        lines[0] += f"; {outcome.unsampled:,} spans left out by sampling"
    if not follow and folder.is_live():
        lines[0] += "; the run goes on, and --follow goes on with it"
    if outcome.sent:
        lines += [unsupported_words(kind, settings.endpoints[kind]) for kind in outcome.unsupported]
    if outcome.refused:
        lines.append(f"eventflow: {outcome.refused:,} were refused for good; the log has them")
    if outcome.left:
        at_least = f"at least {outcome.left:,}" if outcome.sent else "everything"
        lines.append(f"eventflow: {at_least} is not sent: {outcome.problem}")
    return lines


def sent_words(sent: int, spans: int, records: int) -> str:
    """What was sent, in words.

    >>> sent_words(1_237, 1_200, 35)
    '1,200 spans, 35 log records and metrics'
    """
    words = [f"{spans:,} spans"] if spans or not records else []
    words += [f"{records:,} log records"] if records else []
    return ", ".join(words) + (" and metrics" if sent > spans + records else "")


def unsupported_words(kind: str, where: str) -> str:
    """That a signal has no place, and how to say that this is known."""
    return f"{kind} are not taken at {where}: OTEL_{kind.upper()}_EXPORTER=none does not offer them"


def _where(settings: "Settings") -> str:
    return next(iter(settings.endpoints.values()))


def _exporting(
    folder: RunFolder, settings: "Settings", place: Subscription | None, report: Any, *, follow: bool
) -> "Exporting":
    from instrumentation.otlp.exporting import Exporting

    return Exporting(folder, settings, subscription=place, follow=follow, report=report)


def _subscription(folder: RunFolder, settings: "Settings", *, wait_s: float) -> Subscription:
    """The checkpoint for this export: another collector, tenant or sampling has its own.

    One process at a time has it.
    """
    asked = [
        (name, value)
        for name, value in os.environ.items()
        if name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith(("ENDPOINT", "HEADERS"))
    ]
    same = repr((sorted(settings.endpoints.items()), settings.policy, sorted(asked)))
    where = hashlib.blake2b(same.encode(errors="surrogateescape"), digest_size=4).hexdigest()
    until = time.monotonic() + wait_s
    while True:
        try:
            return Subscription(folder.path, f"otlp-{where}")
        except LogBusy:
            if time.monotonic() >= until:
                raise
        time.sleep(0.2)


def _stop_on_signals(exporting: "Exporting") -> threading.Event:
    interrupted = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        interrupted.set()
        exporting.stop()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    return interrupted


def _export_beside(folder: RunFolder, settings: "Settings", run: socket.socket) -> NoReturn:
    """Follow a run for the run: with what it leaves of the machine, and reporting to it."""
    _step_back()
    last = Report(pid=os.getpid(), where=_where(settings))
    _tell(run, last)

    def report(progress: "Progress") -> None:
        last.sent, last.waiting, last.refused = progress.sent, progress.waiting, progress.refused
        last.problem = progress.problem
        _tell(run, last)

    try:
        with _subscription(folder, settings, wait_s=_BUSY_SECONDS) as place:
            exporting = _exporting(folder, settings, place, report, follow=True)
            _stop_on_signals(exporting)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run
            threading.Thread(target=_heed, args=(run, exporting), name="eventflow-otlp-heed", daemon=True).start()
            outcome = exporting.carry_out()
        last.sent, last.waiting, last.refused = outcome.sent, outcome.left, outcome.refused
        last.spans, last.log_records = outcome.spans, outcome.log_records
        last.problem = outcome.problem
        last.unsupported = {kind: settings.endpoints[kind] for kind in outcome.unsupported}
    except EventflowError as problem:
        last.problem = str(problem)
    last.is_over = True
    _tell(run, last)
    sys.stdout.flush()
    os._exit(0)  # threads that wait for a collector are not waited for


def _step_back() -> None:
    """Take only the processor time that nobody else wants.

    Nice alone would do for the share, but whoever wants a core back waits then until this one's turn is over.
    """
    with contextlib.suppress(OSError):
        os.nice(19)
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _tell(run: socket.socket, report: Report) -> None:
    with contextlib.suppress(OSError):  # the run is gone
        run.sendall(msgspec.json.encode(report) + b"\n")


def _heed(run: socket.socket, exporting: "Exporting") -> None:
    """Stop when the run says so. When it only goes away it was killed, and its story is told to the end."""
    heard = b""
    with contextlib.suppress(OSError):
        while piece := run.recv(64):
            heard = (heard + piece)[-len(STOP) :]
            if heard == STOP:
                exporting.stop()
                return
