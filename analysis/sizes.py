"""Runs of several sizes: what each cost, by stage and number of requests.

Only runs that came to their end count: the time of half a run says nothing about the whole.
"""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from analysis.amounts import MIB
from analysis.appearance import place
from analysis.labels import Label, Row, rows

if TYPE_CHECKING:
    import duckdb

_LINE = (1, 0)


def sized(connection: "duckdb.DuckDBPyConnection") -> tuple[list[Label], list[Row]]:
    """A row for each run that completed, smaller ones first, and a label for each stage: here its runs share one.

    Columns: run, label and stage, size (the number of requests), and the figures of the view `runs`.
    """
    statement = """
        SELECT
            * EXCLUDE (started_at, ended_at), requests AS size, requests_per_second AS rate,
            peak_memory_bytes / $mib AS mib
        FROM runs
        WHERE state = 'completed' AND requests > 0 AND seconds > 0
        ORDER BY size, run
    """
    found = [row | {"label": row["stage"]} for row in rows(connection, statement, {"mib": MIB})]
    stages = sorted({row["stage"] for row in found}, key=place)
    return [Label("", stage, stage, _LINE) for stage in stages], found


def by_size(found: Sequence[Row]) -> dict[int, dict[str, list[Row]]]:
    """The rows by size, and those of a size by stage; small sizes first, stages in the order of the ladder."""
    made: dict[int, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(found, key=lambda row: (row["size"], place(row["stage"]))):
        made[row["size"]][row["stage"]].append(row)
    return made


def largest_common(found: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of the largest size at which the most stages were run, by stage."""
    sizes = by_size(found)
    return sizes[max(sizes, key=lambda size: (len(sizes[size]), size))] if sizes else {}


def representatives(found: Sequence[Row]) -> list[str]:
    """Of each stage the run that stands for it: at its largest size, the one in the middle by time."""
    chosen = []
    for stage in sorted({row["stage"] for row in found}, key=place):
        largest = max(row["size"] for row in found if row["stage"] == stage)
        there = sorted(
            (row for row in found if row["stage"] == stage and row["size"] == largest),
            key=lambda row: (row["seconds"], row["run"]),
        )
        chosen.append(there[(len(there) - 1) // 2]["run"])
    return chosen


def middle(found: Sequence[Row], field: str) -> float | None:
    """The median of a figure, of those rows that have it."""
    values = [row[field] for row in found if row.get(field) is not None]
    return median(values) if values else None


def spread(found: Sequence[Row], field: str) -> tuple[float, float] | None:
    """The lowest and the highest, of those rows that have the figure."""
    values = [row[field] for row in found if row.get(field) is not None]
    return (min(values), max(values)) if values else None


def typical(found: Sequence[Row]) -> list[Row]:
    """A row for each stage at the largest common size, with the columns of a run's row: the medians of its runs.

    What became of the requests is that of the run with the most failures, since a median would hide them.
    """
    counts = ("workers", "bytes", "events")
    figures = ("seconds", "rate", "cpu_seconds", "energy_joules")
    made = []
    for stage, there in largest_common(found).items():
        row: Row = {"run": there[0]["run"], "label": stage, "stage": stage, "state": "completed", "runs": len(there)}
        row |= {"requests": there[0]["size"], "memory": middle(there, "peak_memory_bytes")}
        row |= {"kind": (there[0]["memory_kind"] or "").upper()}
        row |= {field: middle(there, field) for field in figures}
        worst = max(there, key=lambda row: row["failed"] + row["cancelled"])
        row |= {field: worst[field] for field in ("completed", "failed", "cancelled")}
        made.append(row | {field: round(middle(there, field) or 0) for field in counts})
    return made
