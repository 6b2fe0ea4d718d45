"""`eventflow export`: what a run recorded, for other systems."""

from pathlib import Path
from typing import Annotated

import typer

from eventflow.cli.export_files import Target, export_file
from eventflow.cli.options import JsonOption, RunArgument, StoreOption
from eventflow.cli.otlp import LogsOption, SampleOption, export_otlp
from eventflow.cli.output import print_json
from eventflow.cli.whole_file import STANDARD_OUTPUT
from eventflow.errors import UsageError
from eventflow.log.runs import find_run, store_path


def export(
    name: RunArgument,
    to: Annotated[Target, typer.Option("--to", help="The format.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE|-", help="Where to; - is standard output. Default: <run>.<ending>."),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(metavar="VIEW", help="For parquet: a view of `eventflow sql --views`. Default: events."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="For otlp: until the run is over, from where the last one was.")
    ] = False,
    sample: SampleOption = None,
    otlp_logs: LogsOption = False,
    beside: Annotated[int | None, typer.Option(hidden=True)] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Send a run to an OpenTelemetry collector, or write it as a file in the format of another tool.

    otlp: its traces to a collector (OTEL_EXPORTER_OTLP_ENDPOINT). otlp-json: the same as a file, which Jaeger's page
    opens. perfetto: the whole run for ui.perfetto.dev, with its processes, connections and memory. cloudevents: the
    events, one a line. parquet: the events as a table, or another view.

    Files need no collector and no network. One that is there is replaced when the new one is whole. Of a run that goes
    on it is what is there so far.

    Example: eventflow export latest --to otlp

    Example: eventflow export latest --to perfetto

    Example: eventflow export latest --to otlp-json -o traces.json

    Example: eventflow export latest --to parquet --view spans

    Example: eventflow export latest --to cloudevents -o - | head
    """
    folder = find_run(store_path(store), name)
    if to is Target.OTLP:
        if out is not None or view is not None:
            raise UsageError(
                "otlp is sent, and no file is written", "leave --out and --view out, or say --to otlp-json"
            )
        export_otlp(folder, follow=follow, sample=sample, logs=otlp_logs, beside=beside, json=json)
    if follow or sample is not None or otlp_logs:
        raise UsageError(f"--follow, --sample and --otlp-logs are not for {to}", "leave them out, or say --to otlp")
    try:
        path = export_file(folder, to, out, view)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if path == STANDARD_OUTPUT:
        return
    if json:
        print_json({"run": folder.run, "format": to, "path": str(path.absolute())})
    else:
        typer.echo(path.absolute())
