"""The scene: where a scenario runs, and what is taken away when it is over, however it ends.

Invariants:
    when the scene is left, by its end, an error, Ctrl-C, SIGTERM or SIGHUP, no process, file or cgroup of it is there;
    only in the main thread are signals heeded; those that were ignored before stay so.
"""

import atexit
import os
import secrets
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from stages.problems.programs import MARK, Ended, Running, end_marked

if TYPE_CHECKING:
    from eventflow.origin.launch import Origin
    from eventflow.origin.settings import OriginSettings
    from stages.problems.stage_runs import Ran, RunningStage

_HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Scene:
    """A folder, and processes with a mark, from `with` to its end. Use it once.

    Attributes:
        mark: what every process of the scene carries in its environment.
        ends: what else has to end with the scene.
        environment: what its programs are given besides our own environment.
    """

    def __init__(self) -> None:
        self.mark = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.ends = ExitStack()
        self.environment: dict[str, str] = {}
        self._folder: Path | None = None
        self._before: dict[int, Any] = {}
        self._raises = False
        self._asked = False

    @property
    def folder(self) -> Path:
        """Where the scenario may write, and where its programs run."""
        assert self._folder is not None
        return self._folder

    def program(self, text: str, *arguments: str, limit_s: float) -> Ended:
        """Run a program in Python, as people write it, to its end; it is killed when it takes longer than `limit_s`."""
        return self.start_program(text, *arguments).end(limit_s)

    def start_program(self, text: str, *arguments: str) -> Running:
        """Start a program in Python, as people write it."""
        path = self.folder / "program.py"
        path.write_text(textwrap.dedent(text))
        # Coverage of our own sources does not reach into it; it only would make it slow.
        environment = {name: value for name, value in self._environment().items() if not name.startswith("COVERAGE_")}
        running = Running([sys.executable, str(path), *arguments], self.folder, environment)
        self.ends.callback(running.end)
        return running

    def run_stage(self, stage: str, source: Path, *options: str) -> "Ran":
        """Run a real stage on a list, to its end."""
        return self.start_stage(stage, source, *options).wait()

    def start_stage(self, stage: str, source: Path, *options: str) -> "RunningStage":
        """Start a real stage on a list, with a store and an output folder of its own."""
        number = len(list(self.folder.glob("store-*")))
        store = self.folder / f"store-{number}"
        store.mkdir()
        argv = ["run", stage, "--input", str(source), "--out", str(self.folder / f"files-{number}"), *options]
        return self._eventflow(store, argv)

    def resume(self, stopped: "RunningStage") -> "Ran":
        """`eventflow resume` for a stage that has ended early."""
        return self._eventflow(stopped.store, ["resume", "latest"]).wait()

    def origin(self, settings: "OriginSettings") -> "Origin":
        """A server of files, for as long as the scene lasts."""
        from eventflow.origin.launch import start_origin

        return self.ends.enter_context(start_origin(settings))

    def list_of(self, origin: "Origin") -> Path:
        """The list of its files: URL, name and SHA-256, a line each. A list of the URLs alone is beside it."""
        entries = list(origin.entries())
        (self.folder / "urls.txt").write_text("".join(f"{entry.url}\n" for entry in entries))
        source = self.folder / "urls.tsv"
        source.write_text("".join(f"{entry.url}\t{entry.name}\t{entry.sha256}\n" for entry in entries))
        return source

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _HEEDED:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._on_signal)
        atexit.register(self.close)  # a signal may come between any two lines, also before the first of `__exit__`
        self._folder = Path(tempfile.mkdtemp(prefix="eventflow-problem-"))
        if self._asked:
            self.close()
            raise KeyboardInterrupt
        self._raises = True
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take away what is there. Signals that come meanwhile change nothing. Idempotent."""
        self._raises = False
        try:
            end_marked(self.mark)  # first, so that nothing has to be waited for
            self.ends.close()
        finally:
            end_marked(self.mark)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            while self._before:
                signal.signal(*self._before.popitem())
            atexit.unregister(self.close)

    def _eventflow(self, store: Path, argv: list[str]) -> "RunningStage":
        from stages.problems.stage_runs import RunningStage

        command = [sys.executable, "-m", "eventflow", *argv, "--store", str(store), "--json"]
        stage = RunningStage(command, self.folder, store, self._environment())
        self.ends.callback(stage.process.end)
        return stage

    def _environment(self) -> dict[str, str]:
        """Ours, marked, without a proxy: the servers are on this machine."""
        plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return plain | self.environment | {MARK: self.mark}

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._raises:
            raise KeyboardInterrupt
