"""A program for `make test`: prints what tests do not reach, and holds the branches of eventflow/ to a limit.

`coverage report --fail-under` counts lines and branches together, which hides branches behind the many lines.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import coverage


def branches(data: coverage.Coverage, pattern: str) -> tuple[int, int]:
    """How many branches the files have that match the pattern, and how many of them were taken."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        data.json_report(include=[pattern], outfile=str(report))
        totals = json.loads(report.read_bytes())["totals"]
    return totals["num_branches"], totals["covered_branches"]


def main() -> int:
    """Print the report. The exit status is 1 where fewer branches than the limit are reached."""
    parser = argparse.ArgumentParser(
        description="Report coverage; fail where too few branches of eventflow/ are reached."
    )
    parser.add_argument("--min-percent", type=float, required=True)
    limit = parser.parse_args().min_percent
    data = coverage.Coverage(messages=False)
    data.load()
    data.report()
    total, taken = branches(data, "eventflow/*")
    percent = 100 * taken / total
    sys.stdout.write(f"branches of eventflow/: {taken} of {total}, {percent:.1f} % (at least {limit:g} % wanted)\n")
    return int(percent < limit)


if __name__ == "__main__":
    sys.exit(main())
