"""The charts of a page as cards: title, explanation, the place where it is drawn, and the same as a table."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from analysis.markup import Html, element, join
from analysis.picture import Picture, Table


class Card(msgspec.Struct, frozen=True):
    """A chart with its title and a line of explanation. Where there is no chart, `specification` is a text instead.

    `seen` and `table` say the same in words and numbers. `wide`: it has a row of its own.
    """

    title: str
    caption: str
    specification: dict[str, Any] | str
    seen: str = ""
    table: Table | None = None
    wide: bool = False


class Group(msgspec.Struct, frozen=True):
    """Charts that belong together; with a title they have a heading, and a line of explanation below it."""

    cards: Sequence[Card]
    title: str = ""
    said: str = ""


class Explained(Protocol):
    """What a chart's module says about it."""

    TITLE: str
    CAPTION: str
    NOTHING: str


def card(module: Explained, made: Picture | None, *, title: str | None = None) -> Card:
    """A card for what a chart's module has made, or has not."""
    title = module.TITLE if title is None else title
    if made is None:
        return Card(title, module.CAPTION, module.NOTHING)
    return Card(title, module.CAPTION, embeddable(made), made.seen, made.table, made.wide)


def embeddable(made: Picture) -> dict[str, Any]:
    """A chart's specification as a page needs it: as wide as its place, and without a look of its own.

    Charts that are joined cannot be that by themselves; page.js sees to it.
    """
    specification = made.specification()
    return specification if "vconcat" in specification else specification | {"width": "container"}


def groups_html(groups: Sequence[Group]) -> Html:
    """The cards of all groups, numbered through."""
    numbers = itertools.count()
    return join(*(_group(group, numbers) for group in groups))


def _group(group: Group, numbers: Iterator[int]) -> Html:
    made = [_card(next(numbers), one) for one in group.cards]
    heading = []
    if group.title:
        heading = [element("div", element("h2", group.title), element("p", group.said), class_="heading")]
    return join(*heading, element("div", *made, class_="cards" if len(made) > 1 else "cards single"))


def _card(number: int, one: Card) -> Html:
    if isinstance(one.specification, str):
        content = element("p", one.specification, class_="nothing")
    else:
        height = one.specification.get("height", 0)
        content = join(
            element("div", class_="controls"),
            element("div", id=place_of(number), class_="chart", role="img", aria_label=one.seen,
                    style=f"min-height: {height}px"),
            *([_as_table(one.table)] if one.table else []),
        )  # fmt: skip
    title = [element("h2", one.title)] if one.title else []
    kind = "card across" if one.wide or isinstance(one.specification, str) else "card"
    return element("section", *title, element("p", one.caption, class_="caption"), content, class_=kind)


def _as_table(given: Table) -> Html:
    """The chart's numbers, for who cannot see it, or wants them."""
    head = element("tr", *(element("th", cell, scope="col") for cell in given.head))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
        for row in given.rows
    ]
    numbers = element("table", element("thead", head), element("tbody", *body))
    return element("details", element("summary", "As a table"), element("div", numbers, class_="wide"))


def place_of(number: int) -> str:
    """The id of the place where the chart of a card is drawn."""
    return f"chart-{number}"
