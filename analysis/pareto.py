"""What is worth choosing among: the medians of each stage, and those that nothing beats. Pure functions."""

from collections.abc import Sequence

from analysis.labels import Row
from analysis.sizes import largest_common, middle


def medians(found: Sequence[Row]) -> list[Row]:
    """A row for each stage at the largest common size: the medians of its runs. Stages without memory are left out."""
    measured = [row for row in found if row["mib"]]
    return [
        {
            "label": stage,
            "size": there[0]["size"],
            "runs": len(there),
            "seconds": middle(there, "seconds"),
            "mib": middle(there, "mib"),
            "joules": middle([row | {"joules": row.get("energy_joules")} for row in there], "joules"),
            "kind": there[0].get("energy_kind"),
        }
        for stage, there in largest_common(measured).items()
    ]


def front(points: Sequence[Row], fields: Sequence[str]) -> list[Row]:
    """The Pareto front: the points than which none is better in one field and no worse in the others. Less is better.

    >>> [point["a"] for point in front([{"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 2, "b": 3}], ("a", "b"))]
    [1, 2]
    """
    compared = [field for field in fields if all(point[field] is not None for point in points)]

    def beats(one: Row, other: Row) -> bool:
        pairs = [(one[field], other[field]) for field in compared]
        return all(mine <= theirs for mine, theirs in pairs) and any(mine < theirs for mine, theirs in pairs)

    return [point for point in points if not any(beats(other, point) for other in points)]
