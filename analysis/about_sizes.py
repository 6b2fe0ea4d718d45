"""What a report says in words about runs of several sizes: pure functions from rows to sentences."""

from collections.abc import Sequence

from analysis.amounts import count_text
from analysis.labels import Row
from analysis.sizes import by_size, largest_common, middle
from analysis.summary import RUNS_NAMED_MAX


def about_sizes(found: Sequence[Row], begun: Sequence[Row]) -> list[str]:
    """What the table is of, which stage was fastest at which sizes, and which runs are in no chart by size.

    Args:
        found: rows of `sized`.
        begun: all runs that have begun, with their states.
    """
    there = largest_common(found)
    size = next(iter(there.values()))[0]["size"]
    counts = sorted({len(rows) for rows in there.values()})
    many = f"{counts[0]} to {counts[-1]} runs" if len(counts) > 1 else count_text(counts[0], "run")
    said = [f"The table has the medians of {many} of each stage with {count_text(size, 'request')}."]
    if any(row.get("failed") or row.get("cancelled") for rows in there.values() for row in rows):
        said.append("How many were completed and how many failed is that of the stage's worst run.")
    said += _missing_stages(found, there, size)
    said += _fastest(found)
    said += _unfinished(begun)
    empty = sum(row["state"] == "completed" and not row["requests"] for row in begun)
    if empty:
        said.append(f"{count_text(empty, 'run')} had no request to carry out.")
    return said


def _missing_stages(found: Sequence[Row], there: dict[str, list[Row]], size: int) -> list[str]:
    missing = list(dict.fromkeys(row["stage"] for row in found if row["stage"] not in there))
    return [f"Not run with {count_text(size, 'request')}: {', '.join(missing)}."] if missing else []


def _unfinished(begun: Sequence[Row]) -> list[str]:
    others = [f"{row['stage']} {row['run']} ({row['state']})" for row in begun if row["state"] != "completed"]
    if not others:
        return []
    its, are = ("its", "is") if len(others) == 1 else ("their", "are")
    more = f" and {len(others) - RUNS_NAMED_MAX} more" if len(others) > RUNS_NAMED_MAX else ""
    named = f"{', '.join(others[:RUNS_NAMED_MAX])}{more}"
    return [f"{count_text(len(others), 'run')} did not come to {its} end and {are} in no chart by size: {named}."]


def _fastest(found: Sequence[Row]) -> list[str]:
    """Which stage was fastest from which size on. Sizes with one stage only tell nothing."""
    turns: list[tuple[str, int]] = []
    for size, stages in by_size(found).items():
        if len(stages) > 1:
            best = min(stages, key=lambda stage: middle(stages[stage], "seconds") or 0)
            if not turns or turns[-1][0] != best:
                turns.append((best, size))
    if len(turns) < 2:
        return []
    parts = [f"{turns[0][0]} was fastest with few requests"]
    parts += [f"{stage} from {size:,} on" for stage, size in turns[1:]]
    return [f"{', '.join(parts)}."] if len(parts) <= 4 else []
