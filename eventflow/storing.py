"""Putting bytes on disk so that a crash leaves a whole file under its final name, or nothing.

A body goes to a temporary file beside its final place. When it is whole it is handed to one thread per process, which makes everything
that waits durable together: every file's bytes, the renames, then each folder once. The force: an fsync costs milliseconds, and most of
it is shared when many are asked for at once.

Invariants:
    the final name is either absent, the old file, or the new one, whole;
    a future that `FileStore.submit` gave resolves only when the file survives a power cut;
    nothing is written outside the output folder, also not through a symbolic link.
"""

import contextlib
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from hashlib import sha256
from pathlib import Path

from eventflow.disk import Disk
from eventflow.errors import UsageError, name_of
from eventflow.naming import COMPONENT_BYTES_MAX, PART_SUFFIX

BATCH_FILES_MAX = 64
WAITING_FILES_MAX = 256


class Part:
    """A temporary file that is being written. Used by one thread at a time."""

    def __init__(self, descriptor: int, temporary: Path, final: Path, made_folders: tuple[Path, ...]) -> None:
        self.descriptor, self.temporary, self.final, self.made_folders = descriptor, temporary, final, made_folders
        self.bytes = 0
        self._digest = sha256()
        self._open = True

    def write(self, chunk: bytes) -> None:
        """Append a piece. OSError as the disk gives it."""
        view = memoryview(chunk)
        while view:
            view = view[os.write(self.descriptor, view) :]
        self._digest.update(chunk)
        self.bytes += len(chunk)

    def sha256(self) -> str:
        """The digest of what was written so far, 64 hex digits."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self._open:
            self._open = False
            os.close(self.descriptor)

    def discard(self) -> None:
        """Remove the temporary file. Idempotent; does nothing to a file that has its final name."""
        self.close()
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)


class Folder:
    """The output folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """The folder at `path`, made if it is not there.

        Raises:
            UsageError: it cannot be made or written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f".{secrets.token_hex(4)}{PART_SUFFIX}"
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            probe.unlink()
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or str(problem)
            raise UsageError(f"the output folder {name_of(str(path))} cannot be written ({reason})", "name another with --out") from problem
        return cls(path.resolve())

    def begin(self, name: str, tag: str) -> Part:
        """A temporary file in the folder that `name` will be in; `tag` marks whose it is, for `sweep`.

        Raises:
            OSError: it cannot be made; NotADirectoryError where a folder of the name is a file or a symbolic link.
        """
        final = self.path / name
        made = tuple(self._make_folders(final.parent))
        stem = final.name.encode()[: COMPONENT_BYTES_MAX - 60].decode(errors="ignore")
        temporary = final.parent / f".{stem}.{tag}.{secrets.token_hex(4)}{PART_SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return Part(os.open(temporary, flags, 0o666), temporary, final, made)

    def has(self, name: str, size: int) -> bool:
        """Whether a regular file of that size is there."""
        try:
            path = self.path / name
            return path.is_file() and not path.is_symlink() and path.stat().st_size == size
        except (OSError, ValueError):
            return False

    def sweep(self, tag: str) -> int:
        """Remove the temporary files with that tag, left by a process that was killed; gives their number."""
        found = [path for path in self.path.rglob(f".*{PART_SUFFIX}") if f".{tag}." in path.name]
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def _make_folders(self, folder: Path) -> Iterator[Path]:
        for path in reversed([folder, *folder.parents]):
            if path == self.path or self.path not in path.parents:
                continue
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                yield path
            if path.is_symlink() or not path.is_dir():
                raise NotADirectoryError(20, f"{path.name} is not a folder", str(path))


class FileStore:
    """One thread that makes files durable, those that wait together. Safe for several threads.

    Args:
        disk: the operating system, or a test's idea of it.
    """

    def __init__(self, disk: Disk | None = None) -> None:
        self._disk = disk or Disk()
        self._waiting: queue.Queue[_Submitted | None] = queue.Queue(WAITING_FILES_MAX)
        self._thread = threading.Thread(target=self._run, name="eventflow-files", daemon=True)
        self._thread.start()

    def submit(self, part: Part) -> "Future[float]":
        """Make a whole file durable under its final name; the result is how many seconds that took.

        The future fails with the OSError of the disk, the temporary file being removed. Blocks while `WAITING_FILES_MAX` files wait.
        """
        submitted = _Submitted(part)
        self._waiting.put(submitted)
        return submitted.future

    def close(self) -> None:
        """Finish what was submitted, and end the thread. Idempotent."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while True:
            batch, is_last = self._take()
            if batch:
                self._store(batch)
            if is_last:
                return

    def _take(self) -> "tuple[list[_Submitted], bool]":
        """Everything that waits, at least one; and whether the end was among it."""
        batch: list[_Submitted] = []
        item = self._waiting.get()
        while item is not None:
            batch.append(item)
            if len(batch) == BATCH_FILES_MAX:
                return batch, False
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _store(self, batch: "list[_Submitted]") -> None:
        for submitted in batch:
            submitted.attempt(self._sync_and_rename)
        for folder, members in _by_folder(batch).items():
            try:
                self._disk.sync_folder(folder)
            except OSError as problem:
                for member in members:
                    member.error = member.error or problem
        for submitted in batch:
            submitted.resolve()

    def _sync_and_rename(self, part: Part) -> None:
        self._disk.sync(part.descriptor)
        part.close()
        self._disk.rename(part.temporary, part.final)


class _Submitted:
    """A file on its way to the disk."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.future: Future[float] = Future()
        self.error: OSError | None = None
        self._begun_ns = time.perf_counter_ns()

    def attempt(self, act: "Callable[[Part], None]") -> None:
        try:
            act(self.part)
        except OSError as problem:
            self.error = problem

    def resolve(self) -> None:
        if self.error is None:
            self.future.set_result((time.perf_counter_ns() - self._begun_ns) / 1e9)
        else:
            self.part.discard()
            self.future.set_exception(self.error)


def _by_folder(batch: "Iterable[_Submitted]") -> "dict[Path, list[_Submitted]]":
    """The folders whose entries changed, the parents of new folders included, and whose files depend on each."""
    folders: dict[Path, list[_Submitted]] = {}
    for submitted in batch:
        if submitted.error is None:
            for folder in {submitted.part.final.parent, *(made.parent for made in submitted.part.made_folders)}:
                folders.setdefault(folder, []).append(submitted)
    return folders
