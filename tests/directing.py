"""The director in the test's own process: one run of it, and what it leaves behind."""

import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from eventflow.director.loop import run_director
from eventflow.disk import Disk
from eventflow.event import Payload
from eventflow.folder import Folder
from eventflow.folder_disk import FolderDisk
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.recorder import Recorder
from eventflow.request import read_requests
from eventflow.resume import Resumption
from eventflow.vocabulary import RunStarted, StageStarted, decode_payload
from eventflow.work import Settings, Work


class Sitting:
    """A director that was not started yet.

    Args:
        folder: where store and files go.
        lines: the input.
        disk: the output folder's; None: the real one.
        log_disk: the log's.
        before: the sitting of which this one is the resume.
        settings: see `eventflow.work.Settings`.

    Attributes:
        work: what the director works through.
        left: how many tasks more than before there were when it had ended.
    """

    def __init__(
        self,
        folder: Path,
        lines: list[str],
        *,
        disk: FolderDisk | None = None,
        log_disk: Disk | None = None,
        before: "Sitting | None" = None,
        **settings: Any,
    ) -> None:
        chosen = Settings(stage="lineage", workers=1, out=str(folder / "files"), **settings)
        self.run: RunFolder = before.run if before is not None else create_run(folder / "store", stage="lineage")
        self.files, self.left = folder / "files", -1
        self.recorder = Recorder(self.run.log, self.run.run, disk=log_disk)
        resumption = Resumption(self.run.log) if before is not None else None
        handoff = resumption.handoff("run") if resumption is not None else None
        root = self.recorder.adopt(handoff) if handoff is not None else self.recorder.open_stream("run")
        root.record(RunStarted(stage="lineage", workers=1))
        cause = root.record(StageStarted(stage="lineage", workers=1))
        items = read_requests([line.encode() for line in lines])
        self.work = Work(chosen, self.recorder, self.run.log, root, cause, items, resumption)
        self.work.folder = Folder.open(self.files, disk=disk)

    def direct(self, stop: Callable[[trio.CancelScope], Awaitable[None]] | None = None) -> None:
        """Run it to its end; `stop` is a task beside it that may cancel it."""
        try:
            trio.run(self._direct, stop)
        finally:
            self.work.close()
            self.recorder.close()

    def events(self, *kinds: type[Payload]) -> list[Any]:
        """What the log says, of these types."""
        payloads = [decode_payload(event) for event in read_events(self.run.log)]
        return [payload for payload in payloads if not kinds or isinstance(payload, kinds)]

    async def _direct(self, stop: Callable[[trio.CancelScope], Awaitable[None]] | None) -> None:
        before = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                if stop is not None:
                    nursery.start_soon(stop, scope)
                await run_director(self.work, reads_inline=True)
            nursery.cancel_scope.cancel()
        self.left = trio.lowlevel.current_statistics().tasks_living - before


class Left:
    """What this process has now, to be compared with what it has later: descriptors and threads.

    Args:
        apart_from: folders that may be open, as long as their owners live.
    """

    def __init__(self, *apart_from: Path) -> None:
        self._apart_from = {str(path) for path in apart_from}
        self._descriptors, self._threads = self._open(), _threads()

    def check(self) -> None:
        """Raise AssertionError if there is more now."""
        more = self._open() - self._descriptors
        assert not more, more
        assert not _threads() - self._threads

    def _open(self) -> Counter[str]:
        """What is open; sockets and pipes without their numbers."""
        found = Counter[str]()
        for entry in os.scandir("/proc/self/fd"):
            try:
                target = str(Path(entry.path).readlink())
            except OSError:
                continue  # the descriptor of this very list
            if target not in self._apart_from:
                found[target.partition(":[")[0]] += 1
        return found


def _threads() -> set[str]:
    """All but trio's, which wait some seconds for more work before they end."""
    return {thread.name for thread in threading.enumerate() if "trio" not in thread.name.lower()}
