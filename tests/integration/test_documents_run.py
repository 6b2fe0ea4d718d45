"""Every command that README and docs show is run, in the order in which it is shown, as a reader would.

Python blocks and links are checked in tests/repo/test_documents.py, options in tests/repo/test_command_line.py.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
# These install or run everything; .ci/run does the same in a fresh clone.
RUN_BY_CI = {"make demo": "make -C", "make test": "make test", "pip install .": "pip install . with nothing else"}


def commands(path: Path) -> list[str]:
    """The lines behind a `$` in the console blocks of a document."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if commands(path)], ids=lambda path: path.name)
def test_the_commands_of_a_document_work(path: Path, tmp_path: Path) -> None:
    """Each ends with 0, or 1 where requests fail; what is in the background ends with the test."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    with start_origin(OriginSettings(files=20, size=5_000)) as origin:
        (tmp_path / "urls.txt").write_text("".join(f"{entry.url}\n" for entry in origin.entries()))
        lines = [line for line in commands(path) if line.split("  #")[0].strip() not in RUN_BY_CI]
        script = "set -m\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n" + "".join(_guarded(line) for line in lines)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr


def _guarded(line: str) -> str:
    if line.rstrip().endswith("&"):
        # The servers of the documents write their list when they listen.
        return f"{line}\nfor _ in $(seq 300); do [ -s urls.tsv ] && break; sleep 0.1; done\n"
    return f"{line}\nstatus=$?; [ $status -le 1 ] || {{ echo 'failed: '{_quoted(line)} $status; exit 9; }}\n"


def _quoted(line: str) -> str:
    return "'" + line.replace("'", "'\\''") + "'"


def test_what_is_left_out_here_is_run_by_ci() -> None:
    """The commands that this module does not run are in .ci/run."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(words in script for words in RUN_BY_CI.values())


def test_the_table_of_what_stages_see_names_the_vocabulary() -> None:
    """docs/events.md speaks of every event type that a request's story can have, and of no other."""
    from eventflow.vocabulary import payload_types

    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:request|attempt|file|process)\.[a-z]+)`", text))
    known = {name for name in payload_types() if name.split(".")[0] in ("request", "attempt", "file", "process")}
    assert named == known - {"process.sampled", "process.measured"}
