"""How the process beside a run is started."""

import subprocess
import sys

from eventflow.cli.otlp_beside import _ORPHAN

NICENESS = "import os; print(os.nice(0))"


def start(**environment: str) -> str:
    """Start Python as the export is started; what it prints."""
    command = ["/bin/sh", "-c", _ORPHAN, "sh", sys.executable, "-c", NICENESS]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_export_steps_back_before_it_starts() -> None:
    """Python's start takes a second of processor time: that, too, is only what nobody else wants."""
    assert start(PATH="/usr/bin:/bin") == "19\n"


def test_the_export_starts_where_there_is_no_nice() -> None:
    """It steps back a little later then."""
    assert start(PATH="/nowhere").strip().isdecimal()
