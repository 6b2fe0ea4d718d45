"""`eventflow demo`: the same downloads in every stage, side by side, on a server of our own. No network, one minute.

Each stage runs as `eventflow run` in a process of its own, so what is measured is what a user would get, and this
process only follows the logs.
"""

import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from eventflow.cli.options import JsonOption, StoreOption
from eventflow.cli.output import print_json, result_console, status_console, table
from eventflow.cli.progress_view import progress_bar
from eventflow.cli.stage_process import program_name, read_summary, run_command
from eventflow.errors import EventflowError, MissingExtra, UsageError
from eventflow.live_tally import LiveTally
from eventflow.log.runs import list_runs, store_path
from eventflow.quantities import (
    format_count,
    format_duration,
    format_energy,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from eventflow.origin.launch import Origin
    from stages.running import Summary

_APPEAR_SECONDS_MAX = 30.0
_LOOK_SECONDS = 0.05


def demo(
    context: typer.Context,
    requests: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many files to fetch in each stage.")] = 200,
    size: Annotated[str, typer.Option(help="Their size, about.")] = "64KiB",
    latency: Annotated[str, typer.Option(help="The server's median latency.")] = "20ms",
    faults: Annotated[str, typer.Option(help="The share of requests that fail, in eight ways.")] = "2%",
    stages: Annotated[
        str, typer.Option(help="Which stages, in order.")
    ] = "serial,threads,processes,subprocess,loop,director,lineage",
    seed: Annotated[int, typer.Option(help="The server's choices follow from it.")] = 1,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The report.")] = Path("demo-report.html"),
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Run the same downloads in every stage, compare them, and write a report. Or show the problem of a stage.

    Example: eventflow demo --requests 500 --latency 50ms

    Example: eventflow demo problem lost-error
    """
    if context.invoked_subcommand is not None:
        return
    from eventflow.origin.launch import start_origin
    from eventflow.origin.settings import OriginSettings, even_faults
    from stages.registry import find_stage

    chosen = [find_stage(name.strip()).name for name in stages.split(",")]
    share = parse_share(faults)
    settings = OriginSettings(
        files=requests,
        size=parse_size(size),
        size_spread=0.3,
        latency_s=parse_duration(latency),
        latency_spread=0.3,
        faults=even_faults(share),
        stall_s=2.0,
        seed=seed,
    )
    folder = store_path(store)
    status_console().print(
        f"{requests} files of about {size}, {latency} away, {faults} failing on purpose, in {len(chosen)} stages",
        highlight=False,
    )
    with tempfile.TemporaryDirectory(prefix="eventflow-demo-") as work, start_origin(settings) as origin:
        summaries = list(_run_stages(chosen, origin, folder, Path(work), requests))
    if json:
        print_json({"stages": summaries, "report": _report(folder, summaries, out)})
        return
    _compare(summaries)
    _suggest(_report(folder, summaries, out), summaries[-1].run, store)


def _run_stages(stages: Iterable[str], origin: "Origin", store: Path, work: Path, requests: int) -> "Iterator[Summary]":
    urls = work / "urls.tsv"
    urls.write_text("".join(f"{entry.url}\t{entry.name}\t{entry.sha256}\n" for entry in origin.entries()))
    for stage in stages:
        origin.reset()
        yield _run_stage(stage, urls, store, work / stage, requests)


def _run_stage(stage: str, urls: Path, store: Path, out: Path, requests: int) -> "Summary":
    before = {folder.run for folder in list_runs(store)}
    command = run_command(stage, urls, store, out, timeout="1s")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            with _progress(stage, store, before, process, requests):
                answer, _ = process.communicate()
        except BaseException:
            process.terminate()
            raise
    return read_summary(stage, answer, process.returncode)


@contextmanager
def _progress(
    stage: str, store: Path, before: set[str], process: "subprocess.Popen[bytes]", requests: int
) -> Iterator[None]:
    """Follow the log of the run that the other process makes: any process can."""
    log = _wait_run(store, before, process)
    if log is None:
        yield
        return
    with LiveTally(log) as live, progress_bar(f"{stage:<10}", live.tally, requests):
        yield


def _wait_run(store: Path, before: set[str], process: "subprocess.Popen[bytes]") -> Path | None:
    for _ in range(int(_APPEAR_SECONDS_MAX / _LOOK_SECONDS)):
        for folder in list_runs(store):
            if folder.run not in before:
                return folder.log
        try:
            process.wait(_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return None
    return None


def _report(store: Path, summaries: "list[Summary]", out: Path) -> str | None:
    try:
        from analysis.report import write_report

        return str(write_report(store, [summary.run for summary in summaries], out).absolute())
    except MissingExtra as missing:
        status_console().print(str(missing), markup=False)
    except (EventflowError, OSError) as problem:
        raise UsageError(f"the report could not be written ({problem})", "name another file with --out") from problem
    return None


def _compare(summaries: "list[Summary]") -> None:
    columns = ("stage", "time", "requests/s", "peak memory", "CPU", "energy", "processes", "completed", "failed")
    rows = [
        (
            summary.stage,
            format_duration(summary.seconds),
            f"{summary.requests_per_second:,.0f}",
            format_size(summary.peak_memory_bytes),
            format_duration(summary.cpu_seconds),
            "–" if summary.energy_joules is None else format_energy(summary.energy_joules),
            format_count(summary.processes_max),
            format_count(summary.completed),
            format_count(summary.failed),
        )
        for summary in summaries
    ]
    console = result_console()
    console.print()
    console.print(table(columns, rows, right=columns[1:], title="The same downloads, in every stage"))
    kinds = ", ".join(sorted({summary.memory_kind.upper() for summary in summaries}))
    energy = " and ".join(sorted({summary.energy_kind or "unknown" for summary in summaries}))
    console.print(
        f"Peak memory is the sum over all processes ({kinds}), energy is {energy}. The failures were asked for.",
        style="dim",
    )


def _suggest(report: str | None, run: str, store: Path | None) -> None:
    console = result_console()
    if report:
        console.print(f"\nReport: {report}", markup=False, soft_wrap=True)
    console.print("\nNext:", markup=False)
    program, option = program_name(), f" --store {shlex.quote(str(store))}" if store else ""
    query = "FROM requests SELECT error, count(*) WHERE state = 'failed' GROUP BY error"
    for arguments, comment in (
        (f"trace {run}{option}", "where the time went, and one request step by step"),
        (f'sql "{query}"{option}', "why some failed"),
        ("demo problem", "what each stage is bad at, seen by running it"),
        ("sweep --requests 1,10,...,1000", "the same over growing numbers of requests"),
        ("run director --input urls.txt --out files/", "your own list, one URL a line"),
    ):
        console.print(f"  {program} {arguments}", markup=False, soft_wrap=True)
        console.print(f"      {comment}", style="dim", markup=False, soft_wrap=True)
