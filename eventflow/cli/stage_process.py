"""`eventflow run` in a process of its own: what `demo` and `sweep` measure is what a user would get."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from eventflow.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stages.running import Summary


PROGRAM = (sys.executable, "-m", "eventflow")
"""This program, in another process."""


def run_command(
    stage: str,
    urls: Path,
    store: Path,
    out: Path,
    *,
    timeout: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> list[str]:
    """The command that runs a stage over a list and prints its summary as JSON."""
    command = [*PROGRAM, "run", stage, "--json"]
    command += ["--input", str(urls), "--out", str(out), "--store", str(store)]
    if timeout is not None:
        command += ["--timeout", timeout]
    for key, value in (labels or {}).items():
        command += ["--label", f"{key}={value}"]
    return command


def read_summary(stage: str, answer: bytes, status: int) -> "Summary":
    """The summary that the command has printed.

    Raises:
        StoreError: there is none, because the process did not come that far.
    """
    from stages.running import Summary

    try:
        return msgspec.json.decode(answer, type=Summary)
    except msgspec.MsgspecError as problem:
        raise StoreError(f"the stage {stage} ended with status {status}: see its message above") from problem


def program_name() -> str:
    """How the person can call this program from here: it may be in a virtual environment that is not activated."""
    here = Path(sys.argv[0])
    if here.name != "eventflow":
        return f"{Path(sys.executable).name} -m eventflow"
    found = shutil.which("eventflow")
    if found and here.exists() and Path(found).samefile(here):
        return "eventflow"
    return shlex.quote(os.path.relpath(here))
