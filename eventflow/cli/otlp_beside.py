"""`run --otlp`: a process beside the run that follows its log and sends it to a collector.

It is no child of the run but an orphan, since the memory and CPU time of a run's children are counted as the run's own.
The two are joined by a pair of sockets. Whatever happens to it or to the collector, the run goes on; what was not sent
is in the log.
"""

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec

from eventflow.cli.otlp import STOP, Report, otlp_settings, sent_words, unsupported_words
from eventflow.cli.output import status_console
from eventflow.errors import UsageError
from eventflow.log.runs import RunFolder, store_path
from eventflow.progress import Tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stages.running import Watch

_STOP_SECONDS = 4.0
_TRIED_AGAIN = ": it is tried again"
# Starting it takes a second of processor time, which the run should not miss: it steps back before, not only then.
_ORPHAN = 'if command -v nice >/dev/null; then set -- nice -n 19 "$@"; fi; "$@" &'


class Beside:
    """The export beside one run.

    Args:
        sample, logs: as the options of those names.

    Raises:
        UsageError, MissingExtra: what is asked for cannot be.
    """

    def __init__(self, sample: str | None, *, logs: bool) -> None:
        otlp_settings(sample, logs=logs)
        self._arguments = [*(["--sample", sample] if sample is not None else []), *(["--otlp-logs"] if logs else [])]
        self._ours: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._report: Report | None = None
        self._again = ""
        self._is_stopped = False

    def around(self, watch: "Watch") -> "Watch":
        """The same watch, which also starts the export."""

        @contextmanager
        def both(folder: RunFolder, tally: Tally, total: int | None) -> Iterator[None]:
            self._begin(folder)
            with watch(folder, tally, total):
                yield

        return both

    def finish(self, *, quiet: bool) -> None:
        """Wait until everything is sent or nothing is taken any more, and say what came of it. Ctrl-C ends it."""
        if self._thread is None or self._ours is None:
            return
        console = status_console()
        try:
            shown: AbstractContextManager[Any] = (
                contextlib.nullcontext() if quiet else console.status("sending spans …")
            )
            with shown as status:
                while self._thread.is_alive():
                    self._thread.join(0.1)
                    if status is not None and self._report is not None:
                        status.update(_line(self._report))
        except KeyboardInterrupt:
            self._is_stopped = True
            with contextlib.suppress(OSError):
                self._ours.sendall(STOP)
            self._thread.join(_STOP_SECONDS)
        problem = self._problem()
        for line in [f"eventflow: {problem}"] if problem else [] if quiet else self._success():
            console.print(line, markup=False, soft_wrap=True)

    def _begin(self, folder: RunFolder) -> None:
        self._ours, theirs = socket.socketpair()
        arguments = ["export", folder.run, "--to", "otlp", "--follow", *self._arguments]
        store = [] if folder.path.parent == store_path(None) else ["--store", str(folder.path.parent)]
        self._again = shlex.join(["eventflow", *arguments, *store])
        command = [sys.executable, "-P", "-m", "eventflow", *arguments]
        command += ["--store", str(folder.path.parent.absolute()), "--beside", str(theirs.fileno())]
        with theirs, contextlib.suppress(OSError):
            subprocess.run(  # noqa: S603  (our own program)
                ["/bin/sh", "-c", _ORPHAN, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # Ctrl-C in the terminal is for the run
                check=False,
            )
        self._thread = threading.Thread(target=self._listen, args=(self._ours,), name="eventflow-otlp", daemon=True)
        self._thread.start()

    def _listen(self, ours: socket.socket) -> None:
        with contextlib.suppress(OSError), ours.makefile("rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    self._report = msgspec.json.decode(line, type=Report)

    def _problem(self) -> str | None:
        """What went wrong and how to mend it, in one line; nothing is ever lost."""
        report = self._report
        if report is not None and report.is_over and not (report.waiting or report.problem):
            return f"{report.where} refused {report.refused:,} for good; the log has them" if report.refused else None
        if self._is_stopped:
            why = "stopped by Ctrl-C"
        elif report is None:
            why = "the export did not start"
        else:
            why = report.problem or "the export was killed"
        what = "not everything was sent" if report is not None and report.sent else "nothing was sent"
        return (
            f"{what} to the collector: {why.removesuffix(_TRIED_AGAIN)}; nothing is lost, send it with: {self._again}"
        )

    def _success(self) -> Iterator[str]:
        report = self._report
        if report is not None:
            yield f"{sent_words(report.sent, report.spans, report.log_records)} sent to {report.where}"
            yield from (unsupported_words(*kind) for kind in report.unsupported.items())


def _line(report: Report) -> str:
    problem = f" · {report.problem}" if report.problem else ""
    return f"{report.sent:,} sent, {report.waiting:,} on their way{problem}"


def beside(*, wanted: bool | None, sample: str | None, logs: bool) -> Beside | None:
    """The export that the options ask for, or the environment where they say nothing.

    Raises:
        UsageError, MissingExtra: see `Beside`.
    """
    from instrumentation.otlp.settings import is_asked_for, is_disabled

    if wanted is False or (wanted is None and not is_asked_for(os.environ)):
        if sample is not None or logs:
            raise UsageError("--sample and --otlp-logs are about the export", "give --otlp as well")
        return None
    if is_disabled(os.environ):
        _tell_none("OTEL_SDK_DISABLED is true")
        return None
    try:
        return Beside(sample, logs=logs)
    except UsageError as problem:
        if wanted or sample is not None:
            raise
        # Somebody set a variable for everything on this machine: no reason not to do the work.
        _tell_none(f"{problem} (asked for by OTEL_EXPORTER_OTLP_ENDPOINT; --no-otlp is quiet)")
        return None


def _tell_none(why: str) -> None:
    status_console().print(f"eventflow: no traces are sent: {why}", markup=False, soft_wrap=True)
