"""The catalogue: which runs a store holds, and the folder of each.

A store is a folder; a run is a folder in it. There is no index to keep in step: the folders are the catalogue.

Invariants:
    a run's name sorts by the time at which it was made;
    `run.json` is whole or absent; folders are for their owner only.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from eventflow.disk import Disk
from eventflow.errors import NewerFormat, StoreError, UnknownRun, UsageError, name_of
from eventflow.log.format import FORMAT
from eventflow.log.layout import is_locked, writer_folders
from eventflow.sources import Sources, SystemSources

DEFAULT_STORE = ".eventflow"
_NAME_TRIES = 20


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What ran, as `run.json` keeps it. `command` and `settings` are redacted; `created` is ISO 8601 in UTC.

    `labels` are what its owner calls it by, for queries: a sweep marks its runs so.
    """

    format: int = FORMAT
    run: str
    stage: str
    created: str
    command: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    labels: dict[str, str] = {}


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path.name
        self.log = path / "log"

    def info(self) -> RunInfo:
        """What ran.

        Raises:
            StoreError: `run.json` is missing or is not what eventflow wrote.
            NewerFormat: it was written by a newer eventflow.
        """
        path = self.path / "run.json"
        try:
            info = msgspec.json.decode(path.read_bytes(), type=RunInfo)
        except (OSError, ValueError) as problem:
            raise StoreError(f"{path} cannot be read ({problem}): restore it from a copy") from problem
        if info.format > FORMAT:
            raise NewerFormat(str(path), info.format, FORMAT)
        return info

    def is_live(self) -> bool:
        """Whether a process is writing to this run now: whether any writer's lock is held."""
        return any(is_locked(folder) for folder in writer_folders(self.log))


def store_path(given: Path | None) -> Path:
    """The store to use: the one given, else `EVENTFLOW_STORE`, else `.eventflow` in the working folder."""
    return given or Path(os.environ.get("EVENTFLOW_STORE") or DEFAULT_STORE)


def create_run(
    store: Path,
    *,
    stage: str,
    command: tuple[str, ...] = (),
    settings: dict[str, Any] | None = None,
    machine: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
    sources: Sources | None = None,
    disk: Disk | None = None,
) -> RunFolder:
    """Make the folder of a new run, durably, with its `run.json`.

    Raises:
        UsageError: the store cannot be made or written.
    """
    sources, disk = sources or SystemSources(), disk or Disk()
    created = datetime.fromtimestamp(sources.time_ns() / 1e9, UTC)
    try:
        _make_store(store, disk)
        folder = _make_folder(store, f"{created:%Y%m%d-%H%M%S}", sources, disk)
        disk.create_folder(folder.log)
    except OSError as problem:
        raise _cannot_write(store, problem) from problem
    info = RunInfo(
        run=folder.run,
        stage=stage,
        created=created.isoformat(timespec="microseconds"),
        command=command,
        settings=settings or {},
        machine=machine or {},
        labels=labels or {},
    )
    try:
        disk.replace_file(folder.path / "run.json", msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")
        disk.sync_folder(store)
    except OSError as problem:
        raise _cannot_write(store, problem) from problem
    return folder


def _cannot_write(store: Path, problem: OSError) -> UsageError:
    reason = f"the store {name_of(str(store))} cannot be written ({problem.strerror or problem})"
    return UsageError(reason, "name another folder with --store or EVENTFLOW_STORE, or make room")


def _make_folder(store: Path, moment: str, sources: Sources, disk: Disk) -> RunFolder:
    """A folder that nobody has: several runs may begin in one second."""
    for _ in range(_NAME_TRIES):
        folder = RunFolder(store / f"{moment}-{sources.name_suffix()[:4]}")
        with contextlib.suppress(FileExistsError):
            disk.create_folder(folder.path)
            return folder
    raise FileExistsError(None, "there is no name left for a run that begins in this second")


def _make_store(store: Path, disk: Disk) -> None:
    """The store and the folders above it, each durable in its parent.

    A store that is there may have been made by a process that was killed before it was durable.
    """
    missing = [path for path in (store, *store.parents) if not path.exists()]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            disk.create_folder(path)
        disk.sync_folder(path.parent)
    if not missing:
        with contextlib.suppress(PermissionError):  # who may not look into the parent did not make the store
            disk.sync_folder(store.parent)


def list_runs(store: Path) -> list[RunFolder]:
    """The runs of a store, oldest first. A store that is not there has none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(_runs(store), key=lambda run: run.run)
    return []


def _runs(store: Path) -> Iterator[RunFolder]:
    for path in store.iterdir():
        if path.is_dir() and not path.is_symlink() and (path / "run.json").is_file():
            yield RunFolder(path)


def find_run(store: Path, name: str) -> RunFolder:
    """The run of that name; the beginning or the end of a name is enough where it fits one run; `latest` is the newest.

    Raises:
        UnknownRun: no run fits, or several do.
    """
    runs = list_runs(store)
    if name == "latest" and runs:
        return runs[-1]
    matches = [run for run in runs if run.run == name] or [
        run for run in runs if name and (run.run.startswith(name) or run.run.endswith(name))
    ]
    if len(matches) != 1:
        raise UnknownRun(name, str(store), tuple(run.run for run in matches))
    return matches[0]
