"""Where the names of dots are, so that none covers another: pure functions.

A chart is as wide as its page, so the names have to be apart on a narrow one and on a wide one.
"""

from collections.abc import Sequence
from typing import NamedTuple

WIDTHS = (250, 640, 1020)
CHARACTER_PIXELS = 7.5
LINE_PIXELS = 15
GAP_PIXELS = 18


class Place(NamedTuple):
    """Where a name is: to the `left` or `right` of its dot or in its `center`, and by how many pixels below it."""

    side: str
    down: int


PLACES = (
    *(Place(side, down) for down in (-12, 12, 0) for side in ("right", "left")),
    *(Place("center", down) for down in (-22, 22, -36, 36)),
    *(Place(side, down) for down in (-26, 26, -40, 40) for side in ("right", "left")),
)


class Dot(NamedTuple):
    """A dot's name and place: `across` and `up` from 0 to 1."""

    name: str
    across: float
    up: float


def place_names(dots: Sequence[Dot], height: int) -> dict[str, Place]:
    """A place for each name: the first at which it covers the least, other names, dots or the edge, on all widths."""
    chosen: dict[str, Place] = {}
    for dot in sorted(dots, key=lambda dot: -dot.up):
        chosen[dot.name] = min(PLACES, key=lambda place: _covered(dot, place, dots, chosen, height))
    return chosen


def _covered(dot: Dot, place: Place, dots: Sequence[Dot], chosen: dict[str, Place], height: int) -> int:
    """How much a name would cover there. Another name counts more than a dot."""
    count = 0
    for width in WIDTHS:
        left, top, right, bottom = _box(dot, place, width, height)
        count += 3 * (left < -4 or right > width + 4 or top < -8 or bottom > height)
        names = [_box(other, chosen[other.name], width, height) for other in dots if other.name in chosen]
        rounds = [_round(other, width, height) for other in dots if other is not dot]
        for weight, boxes in ((3, names), (1, rounds)):
            count += weight * sum(left < b[2] and b[0] < right and top < b[3] and b[1] < bottom for b in boxes)
    return count


def _box(dot: Dot, place: Place, width: int, height: int) -> tuple[float, float, float, float]:
    long = CHARACTER_PIXELS * len(dot.name)
    x, y = dot.across * width, (1 - dot.up) * height + place.down
    left = {"right": x + GAP_PIXELS, "left": x - GAP_PIXELS - long, "center": x - long / 2}[place.side]
    return left, y - LINE_PIXELS / 2, left + long, y + LINE_PIXELS / 2


def _round(dot: Dot, width: int, height: int) -> tuple[float, float, float, float]:
    x, y = dot.across * width, (1 - dot.up) * height
    return x - 10, y - 10, x + 10, y + 10
