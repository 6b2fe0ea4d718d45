"""`eventflow seal` and `eventflow repair`: making a run small, and making a damaged one writable."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from eventflow.cli.options import JsonOption, RunArgument, StoreOption
from eventflow.cli.output import print_json
from eventflow.disk import Disk
from eventflow.errors import LogBusy, LogWriteFailed, name_of
from eventflow.log.layout import LOCK_NAME, segment_paths, writer_folders
from eventflow.log.recovery import SetAside, set_aside
from eventflow.log.runs import RunFolder, find_run, list_runs, store_path
from eventflow.quantities import format_count, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from eventflow.log.seal import SegmentSealed


def seal(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="The runs. Default: all that nobody writes to.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the NDJSON where it is, too.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Turn the log of finished runs into Parquet: about a sixth of the size, and SQL finds things at once.

    Every other command reads it as before. It can be interrupted at any moment; what a run still writes is left alone.

    Example: eventflow seal latest
    """
    folder = store_path(store)
    finished = () if names else (run for run in list_runs(folder) if not run.is_live())
    runs = [*(find_run(folder, name) for name in names or ()), *finished]
    results = {run.run: _seal(run, keep=keep) for run in runs}
    if json:
        print_json([{"run": run, "segments": segments} for run, segments in results.items()])
        return
    for run, segments in results.items():
        sys.stdout.write(f"{run}: {_sizes(segments)}\n")
    if not results:
        sys.stdout.write(f"{name_of(str(folder))} has no finished run\n")


def repair(name: RunArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """Set the damaged end of a log aside, into a file beside it, so that the rest can be read and written again.

    A torn end needs no repair. This is for bytes that no crash leaves behind, where no copy can be had: it gives up
    events that may have been acknowledged. `eventflow verify` says beforehand which.

    Example: eventflow repair latest
    """
    run, disk = find_run(store_path(store), name), Disk()
    found = [repaired for folder in writer_folders(run.log) if (repaired := _repair(folder, disk))]
    if json:
        print_json({"run": run.run, "set_aside": found})
        return
    for part in found:
        events = format_count(part.events)
        sys.stdout.write(f"{part.segment}: {format_size(part.bytes)} with {events} events set aside in {part.path}\n")
    if not found:
        sys.stdout.write(f"{run.run}: nothing to repair\n")


def _seal(run: RunFolder, *, keep: bool) -> list["SegmentSealed"]:
    from eventflow.cli.progress_bar import open_bytes_bar
    from eventflow.log.seal import seal_run

    total = sum(path.stat().st_size for path in segment_paths(run.log) if path.suffix == ".ndjson")
    with open_bytes_bar(run.run, total, shown=sys.stderr.isatty()) as advance:
        return list(seal_run(run, keep=keep, progress=advance))


def _sizes(segments: list["SegmentSealed"]) -> str:
    if not segments:
        return "nothing to seal"
    before, after = sum(part.bytes_before for part in segments), sum(part.bytes_after for part in segments)
    events = format_count(sum(part.events for part in segments))
    return f"{events} events, {format_size(before)} became {format_size(after)} ({after / before:.0%})"


def _repair(folder: Path, disk: Disk) -> SetAside | None:
    try:
        lock = disk.lock(folder / LOCK_NAME)
    except BlockingIOError as problem:
        raise LogBusy(str(folder)) from problem
    try:
        return set_aside(folder, disk)
    except OSError as problem:
        raise LogWriteFailed(str(folder), problem.strerror or str(problem)) from problem
    finally:
        disk.unlock(lock)
