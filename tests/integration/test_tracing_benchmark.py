"""The benchmark of tracing, with few requests: every mode runs, and it says itself whether all spans arrived."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "benchmarks" / "tracing.py"


MODES = ("no recording", "events", "events + projection", "OpenTelemetry SDK")


def run_benchmark(*arguments: str, folder: Path, **settings: str) -> str:
    """Run it to its end, with these environment variables; what it prints."""
    result = subprocess.run(
        [sys.executable, PROGRAM, *arguments, "--repeat", "1"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder)} | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.part("otelcol")
def test_every_mode_is_measured_and_every_span_arrives(tmp_path: Path) -> None:
    """Each mode has its row, and of so few spans neither projection nor SDK loses one, by the collector's count."""
    said = run_benchmark("--requests", "60", "--scenario", "latency", folder=tmp_path)
    assert "failed" not in said
    rows = {
        mode: row[1].split()
        for mode in MODES
        if (row := re.search(rf"^  {re.escape(mode)} {{2,}}(.*)$", said, re.MULTILINE))
    }
    assert set(rows) == set(MODES)
    for mode in ("events + projection", "OpenTelemetry SDK"):
        spans, missing = rows[mode][-2:]
        assert int(spans) >= 6 * 60
        assert missing == "0"


@pytest.mark.part("otelcol")
def test_a_run_is_exported_and_counted(tmp_path: Path) -> None:
    """The export of a run says its rate and its memory, and that the collector got each span once."""
    said = run_benchmark("--project", "50", folder=tmp_path)
    assert "all arrived once" in said
    assert re.search(r"[\d,]+ spans/s; goal: 10,000: (reached|missed)", said)
    assert re.search(r"\d+ MiB; goal: 150: (reached|missed)", said)


def test_costs_are_measured_without_a_collector(tmp_path: Path) -> None:
    """Where there is no collector, the part is named, and what needs none is measured."""
    folders = os.environ["PATH"].split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if not Path(folder, "otelcol").exists())
    said = run_benchmark(
        "--requests", "50", "--scenario", "cost", folder=tmp_path, PATH=path, EVENTFLOW_PARTS=str(tmp_path)
    )
    assert "tests/parts/build otelcol" in said
    assert re.search(r"SDK spans, discarded .*x$", said, re.MULTILINE)
