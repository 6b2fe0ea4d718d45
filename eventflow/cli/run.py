"""`eventflow run` and `eventflow resume`."""

import os
import shlex
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from eventflow.cli.options import JsonOption, RunArgument, StoreOption
from eventflow.cli.otlp import LogsOption, SampleOption
from eventflow.cli.otlp_beside import Beside, beside
from eventflow.cli.output import print_json, status_console
from eventflow.cli.progress_view import watch_nothing, watch_run
from eventflow.errors import UsageError, name_of
from eventflow.log.recovery import recover_run
from eventflow.log.runs import find_run, store_path
from eventflow.propagation import parse_origin
from eventflow.quantities import format_duration, format_energy, format_size, parse_duration, parse_size
from eventflow.redaction import redact_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from eventflow.work import Settings
    from stages.running import Summary, Watch

_LEAVE_SECONDS = 1.0
_DIRECTED = ("director", "lineage")
_DIRECTED_OPTIONS = (
    "concurrency",
    "retries",
    "rate",
    "max_size",
    "min_rate",
    "deadline_s",
    "request_deadline_s",
    "decode",
    "robots",
)
_CONCURRENCY_MAX = 1024
LABEL_CHARACTERS_MAX = 200
_EXIT = {"failed": 3, "interrupted": 130}

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
LiveOption = Annotated[
    bool, typer.Option("--live", help="Show it on the whole screen, as `eventflow top` does; `q` goes back to a line.")
]
_PANEL = "For the director and lineage stages"
ConcurrencyOption = Annotated[
    str, typer.Option(metavar="N|auto", help="Requests in flight to one origin; auto finds it.", rich_help_panel=_PANEL)
]
RetriesOption = Annotated[int, typer.Option(min=0, max=100, help="How often to try again.", rich_help_panel=_PANEL)]
RateOption = Annotated[
    float | None, typer.Option(min=0.001, help="Requests a second to one origin.", rich_help_panel=_PANEL)
]
MaxSizeOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="The largest body to take.", rich_help_panel=_PANEL)
]
MinRateOption = Annotated[
    str, typer.Option(metavar="SIZE", help="The fewest bytes a second to put up with.", rich_help_panel=_PANEL)
]
DeadlineOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="How long the run may take.", rich_help_panel=_PANEL)
]
RequestDeadlineOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="How long one request may take.", rich_help_panel=_PANEL)
]
DecodeOption = Annotated[
    bool, typer.Option("--decode", help="Store bodies without their Content-Encoding.", rich_help_panel=_PANEL)
]
RobotsOption = Annotated[bool, typer.Option("--robots", help="Heed robots.txt.", rich_help_panel=_PANEL)]


StageArgument = Annotated[
    str, typer.Argument(help="How to run: serial, threads, processes, subprocess, loop, director or lineage.")
]
UrlsArgument = Annotated[list[str] | None, typer.Argument(metavar="[URL]...", help="What to fetch.")]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input", "-i", metavar="FILE|-", help="A list: a URL a line, or URL<TAB>name<TAB>sha256, or JSON lines."
    ),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the files go.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", "-w", min=1, max=10_000, help="How many at once; for the director, in how many processes."
    ),
]
ExecOption = Annotated[
    str | None,
    typer.Option(
        "--exec", metavar="COMMAND", help="For subprocess: run on each file. {path}, {name}, {url} are filled in."
    ),
]
TimeoutOption = Annotated[str, typer.Option(help="How long to wait for a connection or for the next bytes.")]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="What you call this run by, for queries. May be repeated."),
]
PropagateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--propagate",
        metavar="ORIGIN|all",
        help="Send traceparent to https://host[:port]: ids of the span that asks. May be repeated.",
        rich_help_panel="For OpenTelemetry",
    ),
]
OtlpOption = Annotated[
    bool | None,
    typer.Option(
        "--otlp/--no-otlp",
        help="Send traces and metrics to an OpenTelemetry collector, http://localhost:4318 unless "
        "OTEL_EXPORTER_OTLP_ENDPOINT says so; if that is set, this is on.",
        rich_help_panel="For OpenTelemetry",
    ),
]
UserAgentOption = Annotated[str | None, typer.Option(metavar="TEXT", help="Who you are, to the server.")]


def run(
    stage: StageArgument,
    urls: UrlsArgument = None,
    source: InputOption = None,
    out: OutOption = Path("files"),
    workers: WorkersOption = None,
    program: ExecOption = None,
    timeout: TimeoutOption = "30s",
    user_agent: UserAgentOption = None,
    propagate: PropagateOption = None,
    concurrency: ConcurrencyOption = "auto",
    retries: RetriesOption = 4,
    rate: RateOption = None,
    max_size: MaxSizeOption = None,
    min_rate: MinRateOption = "64 B",
    deadline: DeadlineOption = None,
    request_deadline: RequestDeadlineOption = None,
    decode: DecodeOption = False,
    robots: RobotsOption = False,
    label: LabelOption = None,
    otlp: OtlpOption = None,
    sample: SampleOption = None,
    otlp_logs: LogsOption = False,
    store: StoreOption = None,
    live: LiveOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch, verify and store many things, in one stage of the ladder.

    Example: eventflow run director --input urls.txt --out files/
    """
    from eventflow.work import USER_AGENT, Settings
    from stages.registry import find_stage
    from stages.running import start

    _check_input(urls, source)
    chosen = find_stage(stage)
    settings = Settings(
        stage=stage,
        workers=workers or chosen.workers,
        out=str(out.absolute()),
        program=_program(stage, program),
        timeout_s=parse_duration(timeout),
        user_agent=_user_agent(user_agent) if user_agent is not None else USER_AGENT,
        propagate=tuple(dict.fromkeys(map(parse_origin, propagate or ()))),
        concurrency=_concurrency(concurrency),
        retries=retries,
        rate=rate,
        max_size=parse_size(max_size) if max_size is not None else None,
        min_rate=parse_size(min_rate),
        deadline_s=parse_duration(deadline) if deadline is not None else None,
        request_deadline_s=parse_duration(request_deadline) if request_deadline is not None else None,
        decode=decode,
        robots=robots,
    )
    _check_stage(settings, source)
    watch = _watch(live=live, json=json, quiet=quiet, source=source)
    export = beside(wanted=otlp, sample=sample, logs=otlp_logs)
    summary = start(
        store_path(store),
        settings,
        urls=urls or (),
        source=source,
        command=redact_command(("eventflow", *sys.argv[1:])),
        labels=_labels(label or ()),
        watch=export.around(watch) if export else watch,
    )
    finish(summary, json=json, quiet=quiet, export=export)


def resume(
    name: RunArgument,
    source: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="FILE", help="The list again, where the run could not keep it."),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option("--exec", metavar="COMMAND", help="For subprocess: the program again, where it held secrets."),
    ] = None,
    otlp: OtlpOption = None,
    sample: SampleOption = None,
    otlp_logs: LogsOption = False,
    store: StoreOption = None,
    live: LiveOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Go on with a run after a crash, Ctrl-C or failures. What is completed is not fetched again.

    Example: eventflow resume latest
    """
    from stages.running import resume as go_on

    watch = _watch(live=live, json=json, quiet=quiet, source=source)
    export = beside(wanted=otlp, sample=sample, logs=otlp_logs)
    folder = find_run(store_path(store), name)
    torn = recover_run(folder.log)
    if torn.bytes and not quiet:
        status_console().print(
            f"cut from the log: {torn.bytes} bytes, {torn.events} whole events in them, that were never acknowledged",
            markup=False,
        )
    argv = _program("subprocess", program) if program else ()
    watch = export.around(watch) if export else watch
    summary = go_on(folder, source=source, program=argv, watch=watch)
    finish(summary, json=json, quiet=quiet, export=export)


def finish(summary: "Summary", *, json: bool, quiet: bool, export: Beside | None = None) -> NoReturn:
    """Say what the run did, wait for its export, and leave with its exit status.

    A thread that is still blocked in a read, after an interrupt, is not waited for.
    """
    if json:
        print_json(summary)
    elif not quiet:
        _describe(summary)
    if summary.problem and not json:
        status_console().print(f"eventflow: {summary.problem}", style="red", markup=False, soft_wrap=True)
    status = _EXIT.get(summary.state, 1 if summary.failed or summary.completed < summary.requests else 0)
    sys.stdout.flush()
    if export is not None:
        export.finish(quiet=quiet or json)
    sys.stderr.flush()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(_LEAVE_SECONDS)
            if thread.is_alive():
                os._exit(status)
    raise typer.Exit(status)


def _watch(*, live: bool, json: bool, quiet: bool, source: str | None) -> "Watch":
    """How the run is shown while it goes on."""
    if live and (json or quiet):
        raise UsageError(f"--live does not go with {'--json' if json else '--quiet'}", "leave one of them out")
    if live and source == "-" and sys.stdin.isatty():
        raise UsageError("--live takes the keys that the list is typed with", "give the list as a file or by a pipe")
    if live:
        from eventflow.cli.live_run import watch_live

        return watch_live
    return watch_nothing if json or quiet else watch_run


def _check_input(urls: list[str] | None, source: str | None) -> None:
    if bool(urls) == bool(source):
        raise UsageError(
            "nothing to fetch" if not urls else "both URLs and --input", "give URLs, or a list with --input FILE"
        )


def _check_stage(settings: "Settings", source: str | None) -> None:
    """Options that a stage does not know are refused, not ignored."""
    if settings.stage == "serial" and settings.workers != 1:
        raise UsageError("serial has one worker", "leave --workers out, or choose another stage")
    if settings.stage in _DIRECTED:
        if settings.workers > 1 and (source is None or not Path(source).is_file()):
            raise UsageError("several workers need the list as a file", "give it with --input FILE, or use --workers 1")
        return
    plain = type(settings)(stage="", workers=1, out="")
    for name in _DIRECTED_OPTIONS:
        if getattr(settings, name) != getattr(plain, name):
            option = f"--{name.removesuffix('_s').replace('_', '-')}"
            raise UsageError(f"{option} does not go with {settings.stage}", "use `eventflow run director`")


def _concurrency(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= _CONCURRENCY_MAX):
        raise UsageError(
            f"--concurrency {name_of(text)} is no number of requests", f"give 1 to {_CONCURRENCY_MAX}, or auto"
        )
    return int(text)


def _labels(given: Iterable[str]) -> dict[str, str]:
    """Labels by key; the last one of a key counts.

    >>> _labels(["sweep=a", "requests=10"])
    {'sweep': 'a', 'requests': '10'}
    """
    labels = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (equals and key.strip() and text.isprintable() and len(text) <= LABEL_CHARACTERS_MAX):
            raise UsageError(
                f"{name_of(text)} is no label",
                f"give KEY=VALUE, one line, {LABEL_CHARACTERS_MAX} characters at most",
            )
        shown, _, hidden = redact_command((f"{key.strip()}={value.strip()}",))[0].partition("=")
        labels[shown] = hidden
    return labels


def _user_agent(text: str) -> str:
    if not text or not text.isprintable() or not text.isascii():
        raise UsageError(f"{name_of(text)} cannot be a User-Agent", "give plain ASCII text")
    return text


def _program(stage: str, command: str | None) -> tuple[str, ...]:
    """The argument list of the external program; only the subprocess stage has one."""
    from eventflow.engines.program import check_program

    if stage != "subprocess":
        if command:
            raise UsageError(f"--exec does not go with {stage}", "use `eventflow run subprocess`")
        return ()
    try:
        argv = tuple(shlex.split(command)) if command is not None else ("sha256sum", "{path}")
    except ValueError as problem:
        raise UsageError(f"--exec cannot be read ({problem})", "close every quote") from problem
    check_program(argv)
    return argv


def _describe(summary: "Summary") -> None:
    console = status_console()
    shown = summary.failures
    for failure in shown:
        console.print(f"failed: {failure.message}", style="red", markup=False, soft_wrap=True)
    if summary.failed > len(shown):
        query = f"FROM requests SELECT url, message WHERE state = 'failed' AND run = '{summary.run}'"
        console.print(
            f'… and {summary.failed - len(shown)} more: eventflow sql "{query}"', markup=False, soft_wrap=True
        )
    parts = [f"{summary.completed} of {summary.requests} completed", f"{summary.failed} failed"]
    if summary.cancelled:
        parts.append(f"{summary.cancelled} cancelled")
    parts += [
        format_size(summary.bytes),
        f"{format_duration(summary.seconds)} ({summary.requests_per_second:,.0f} requests/s)",
        f"peak memory {format_size(summary.peak_memory_bytes)} ({summary.memory_kind.upper()})",
        f"CPU {format_duration(summary.cpu_seconds)}",
    ]
    if summary.energy_joules is not None:
        parts.append(f"energy {format_energy(summary.energy_joules)} ({summary.energy_kind})")
    console.print(f"{summary.run}: {', '.join(parts)}", markup=False, soft_wrap=True)
    if summary.state == "interrupted":
        console.print(f"interrupted; go on with: eventflow resume {summary.run}", markup=False, soft_wrap=True)
    elif summary.failed:
        console.print(f"try the failed ones again with: eventflow resume {summary.run}", markup=False, soft_wrap=True)
