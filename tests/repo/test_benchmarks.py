"""Benchmarks are programs that can be read by their `--help`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if not path.name.startswith("_"))


def test_there_are_benchmarks() -> None:
    """`make bench` has something to run."""
    assert PROGRAMS


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_a_benchmark_explains_itself(program: Path) -> None:
    """Each program in benchmarks/ answers `--help`, quickly and without running anything."""
    result = subprocess.run(
        [sys.executable, program, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout.lower()
