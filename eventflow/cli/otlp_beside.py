"""`run --otlp`: a process beside the run that follows its log and sends it to a collector.

It is no child of the run but an orphan, since the memory and CPU time of a run's children are counted as the run's own.
The two are joined by a pair of sockets. Whatever happens to it or to the collector, the run goes on; what was not sent
is in the log.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec

from eventflow.cli.otlp import STOP, Report, otlp_settings
from eventflow.cli.output import status_console
from eventflow.errors import UsageError
from eventflow.log.runs import RunFolder
from eventflow.progress import Tally
from eventflow.quantities import format_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stages.running import Watch

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
        self._run = ""

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
            with contextlib.suppress(OSError):
                self._ours.sendall(STOP)
            self._thread.join(2.0)
        for line in self._outcome():
            console.print(line, markup=False, soft_wrap=True)

    def _begin(self, folder: RunFolder) -> None:
        self._run = folder.run
        self._ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "eventflow", "export", folder.run, "--to", "otlp", "--follow"]
        command += ["--store", str(folder.path.parent.absolute()), *self._arguments, "--beside", str(theirs.fileno())]
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

    def _outcome(self) -> Iterator[str]:
        """What a person should know: nothing, if all went well."""
        report = self._report
        again = f"eventflow export {self._run} --to otlp --follow"
        if report is None:
            yield f"eventflow: the export could not be started: nothing is lost, send it with: {again}"
            return
        for kind in report.unsupported:
            yield f"{kind} were not sent: the collector does not take them; OTEL_{kind.upper()}_EXPORTER=none says so"
        if report.refused:
            yield f"eventflow: the collector refused {report.refused} spans for good; the log has them"
        if report.waiting or report.problem or not report.is_over:
            why = report.problem or "it ended early"
            yield f"eventflow: not all spans were sent: {why}"
            yield f"nothing is lost: send the rest with: {again}"


def _line(report: Report) -> str:
    problem = f" · {report.problem}" if report.problem else ""
    return f"{format_count(report.sent)} spans sent, {format_count(report.waiting)} on their way{problem}"


def beside(*, wanted: bool | None, sample: str | None, logs: bool) -> Beside | None:
    """The export that the options ask for, or the environment where they say nothing.

    Raises:
        UsageError, MissingExtra: see `Beside`.
    """
    from instrumentation.otlp.settings import is_asked_for

    if wanted is False or (wanted is None and not is_asked_for(os.environ)):
        if sample is not None or logs:
            raise UsageError("--sample and --otlp-logs are about the export", "give --otlp as well")
        return None
    return Beside(sample, logs=logs)
