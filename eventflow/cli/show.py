"""`eventflow runs` and `eventflow events`: what ran, and what happened."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from eventflow.cli.options import JsonOption, RunArgument, StoreOption
from eventflow.cli.output import print_json, print_table
from eventflow.errors import LogDamaged
from eventflow.event import StoredEvent
from eventflow.log import following
from eventflow.log.reader import RunTail, read_events
from eventflow.log.runs import RunFolder, find_run, list_runs, store_path
from eventflow.progress import Tally
from eventflow.quantities import format_count, format_duration, format_size


class RunLine(msgspec.Struct, frozen=True):
    """One run in the list.

    `state` is running, completed, interrupted, failed; killed: no end event, and nobody writes; damaged: counted up to
    the damage.
    """

    run: str
    stage: str
    state: str
    started: str
    seconds: float
    requests: int
    completed: int
    failed: int
    cancelled: int
    bytes: int


def runs(store: StoreOption = None, json: JsonOption = False) -> None:
    """List the runs of the store, oldest first.

    Example: eventflow runs
    """
    lines = [_line(folder) for folder in list_runs(store_path(store))]
    if json:
        print_json(lines)
        return
    columns = ("run", "stage", "state", "time", "requests", "completed", "failed", "cancelled", "bytes")
    rows = (
        (
            line.run,
            line.stage,
            line.state,
            format_duration(line.seconds),
            format_count(line.requests),
            format_count(line.completed),
            format_count(line.failed),
            format_count(line.cancelled),
            format_size(line.bytes),
        )
        for line in lines
    )
    print_table(columns, rows, right=columns[3:])


def events(
    name: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends, or Ctrl-C.")] = False,
    stream: Annotated[str | None, typer.Option(metavar="S", help="Only this stream, such as request-17.")] = None,
    type_name: Annotated[
        str | None, typer.Option("--type", metavar="T", help="Only this type, such as request.failed, or `request.*`.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print the events of a run, by time; only what is durable.

    Example: eventflow events latest --type request.failed
    """
    folder = find_run(store_path(store), name)
    streams = [stream] if stream is not None else []
    types = [type_name.removesuffix("*")] if type_name is not None else []
    read = following.follow if follow else read_events
    try:
        for event in read(folder.log, streams=streams, types=types):
            print_json(event) if json else _print_event(event)
            if follow:
                sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _line(folder: RunFolder) -> RunLine:
    info, tally, state = folder.info(), Tally(), ""
    try:
        for lines in RunTail(folder.log).poll():
            tally.feed(lines)
    except LogDamaged:  # one bad run hides none of the others; `verify` says what is wrong with it
        state = "damaged"
    if not state and tally.run_state == "running" and not folder.is_live():
        state = "killed"
    return RunLine(
        folder.run,
        info.stage,
        state or tally.run_state,
        info.created,
        (tally.last_ns - tally.first_ns) / 1e9,
        tally.requests,
        tally.completed,
        tally.failed,
        tally.cancelled,
        tally.bytes,
    )


def _print_event(event: StoredEvent) -> None:
    moment = datetime.fromtimestamp(event.time / 1e9, UTC).astimezone()
    text = f"{moment:%H:%M:%S.%f} {event.stream:<14} {event.version:>3} {event.type:<18} {bytes(event.data).decode()}"
    sys.stdout.write(text + "\n")
