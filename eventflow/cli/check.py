"""`eventflow verify` and `eventflow doctor`: is the log what was written, and what does this machine offer."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from eventflow.cli.options import JsonOption, RunArgument, StoreOption
from eventflow.cli.output import print_json, print_table
from eventflow.log.layout import segment_paths
from eventflow.log.runs import RunFolder, find_run, store_path
from eventflow.log.verify import SegmentReport, verify_run
from eventflow.quantities import format_size

_MARKS = {"ok": "ok", "warn": "warn", "missing": "missing"}


def verify(name: RunArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """Check every batch of a run against its hash chain. Exit status 3 if anything is not what was written.

    Example: eventflow verify latest
    """
    folder = find_run(store_path(store), name)
    folder.info()
    reports = _verify(folder, quiet=json)
    if json:
        print_json(
            {"run": folder.run, "segments": reports, "damaged": sum(report.damage is not None for report in reports)}
        )
    else:
        _describe(folder, reports)
    raise typer.Exit(3 if any(report.damage for report in reports) else 0)


def doctor(
    store: StoreOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where files would go.")] = Path("files"),
    json: JsonOption = False,
) -> None:
    """Say what this machine offers, what it lacks and how to mend it.

    Example: eventflow doctor
    """
    from instrumentation.machine import diagnose

    findings = diagnose(store_path(store), out)
    if json:
        print_json(findings)
        return
    rows = ((finding.name, _MARKS[finding.state], finding.detail, finding.fix or "") for finding in findings)
    print_table(("what", "state", "found", "to mend it"), rows)


def _verify(folder: RunFolder, *, quiet: bool) -> list[SegmentReport]:
    from eventflow.cli.progress_bar import open_bytes_bar

    total = sum(path.stat().st_size for path in segment_paths(folder.log))
    with open_bytes_bar(folder.run, total, shown=not quiet and sys.stderr.isatty()) as advance:
        return list(verify_run(folder.log, folder.run, advance))


def _describe(folder: RunFolder, reports: list[SegmentReport]) -> None:
    for report in reports:
        if report.damage:
            sys.stdout.write(f"damaged: {report.damage}\n")
        elif report.torn_bytes:
            sys.stdout.write(
                f"torn: {report.path}: the last {report.torn_bytes} bytes, {report.torn_events} whole events in them, "
                "were never acknowledged and do not count; nothing is lost\n"
            )
    good = sum(not report.damage for report in reports)
    events, size = sum(report.events for report in reports), sum(report.bytes for report in reports)
    counted = f"{good} of {len(reports)} segments good, {events} good events, {format_size(size)}"
    sys.stdout.write(f"{folder.run}: {counted}\n")
