"""Options that several commands share, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="DIR", envvar="EVENTFLOW_STORE", help="Folder of the runs. Default: .eventflow here."
    ),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name, the beginning or end of one, or `latest`.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
