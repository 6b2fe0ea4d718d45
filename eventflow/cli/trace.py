"""`eventflow trace`: a run as a waterfall in the terminal, or the whole story of one request."""

import os
import shlex
from typing import Annotated

import typer

from eventflow.cli.options import JsonOption, RunArgument, StoreOption
from eventflow.log.runs import find_run, store_path
from eventflow.redaction import redact_url


def trace(
    name: RunArgument,
    request: Annotated[
        str | None,
        typer.Option(
            "--request",
            "-r",
            metavar="R",
            help="A request: its number, file, URL, stream (request-17) or trace id.",
        ),
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show where the time went: every step as a bar on one time axis, what led to it, and the critical path.

    Without --request it shows the run, the requests that failed and the slowest, and one of them step by step. It works
    while the run goes on, too; what has not ended is then left out. Solid bars are the critical path: at each moment
    the one step that the end waited for. `←` gives the number of the step that led to this one.

    --json prints one object: `run`, `stage`, `requests_by_state` (how many; null with --request), `requests` (those
    that were asked for, or the failed and the slowest) and `traces` (of the run and its processes). Each has `stream`,
    `trace_id`, `parts` (`critical_path` says what was waited for, in seconds) and `spans`: all that is known of them,
    and `seconds`, `own_seconds` (without its children), `critical_seconds`, `on_critical_path` and the number of the
    `part`.

    Example: eventflow trace latest

    Example: eventflow trace latest --request 17
    """
    from eventflow.cli.stage_process import program_name

    if request is not None and "://" in request:
        request = redact_url(request)  # as the log has it
    from eventflow.cli.trace_overview import print_overview, print_requests, print_traces

    folder = find_run(store_path(store), name)
    folder.info()
    again = f"{program_name()} trace {shlex.quote(name)}"
    if store is not None and os.environ.get("EVENTFLOW_STORE") != str(store):
        again += f" --store {shlex.quote(str(store))}"
    if json:
        print_traces(folder, request)
    elif request is None:
        print_overview(folder, again)
    else:
        print_requests(folder, request, again)
