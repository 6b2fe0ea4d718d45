"""`eventflow export`: what a run recorded, for other systems."""

from typing import Annotated

import typer

from eventflow.cli.options import JsonOption, RunArgument, StoreOption
from eventflow.cli.otlp import LogsOption, SampleOption, export_otlp
from eventflow.errors import UsageError
from eventflow.log.runs import find_run, store_path


def export(
    name: RunArgument,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="otlp.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Until the run is over, from where the last one was.")
    ] = False,
    sample: SampleOption = None,
    otlp_logs: LogsOption = False,
    beside: Annotated[int | None, typer.Option(hidden=True)] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Send a run to another system.

    Example: eventflow export latest --to otlp
    """
    folder = find_run(store_path(store), name)
    if to != "otlp":
        raise UsageError(f"{to} is no format", "otlp")
    export_otlp(folder, follow=follow, sample=sample, logs=otlp_logs, beside=beside, json=json)
