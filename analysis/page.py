"""One HTML file that holds everything it shows: text, tables, charts and the programs that draw them.

A report is opened from a disk, mailed, kept for years. Hence no network at all, and what comes from the log (URLs,
messages of servers, names of files) is never trusted: it enters as escaped text or as JSON that cannot end its element.

Invariants:
    the policy of the page allows no request, and no script but those two whose digests it names;
    the same content gives the same bytes;
    the file is there whole or not at all.
"""

import base64
import contextlib
import functools
import hashlib
import html
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from analysis.appearance import Chart, in_dark, theme
from eventflow.errors import MissingExtra

POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


class Card(msgspec.Struct, frozen=True):
    """A chart with its title and a line of explanation. Where there is no chart, `specification` is a text instead."""

    title: str
    caption: str
    specification: dict[str, Any] | str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page: its texts, and HTML from `element` before and after the charts. With `legend`, charts have their own."""

    title: str
    headline: str
    said: Sequence[str] = ()
    kind: str = "eventflow"
    before: Html = Html()
    cards: Sequence[Card] = ()
    after: Html = Html()
    legend: bool = False


def element(name: str, *content: str, **attributes: str | bool) -> Html:
    """An element. Text in it and in its attributes is escaped, `Html` is not; `class_` is `class`, `data_x` `data-x`.

    >>> print(element("p", "a < b", element("b", "!"), class_="x"))
    <p class="x">a &lt; b<b>!</b></p>
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    return Html(f"<{name}{written}>{join(*content)}</{name}>")


def join(*content: str) -> Html:
    """Pieces of content, one after the other: text escaped, `Html` as it is."""
    return Html("".join(piece if isinstance(piece, Html) else html.escape(piece) for piece in content))


def embeddable(chart: Chart) -> dict[str, Any]:
    """A chart's specification as a page needs it: as wide as its place, and without a look of its own."""
    specification = chart.to_dict()
    specification.pop("config", None)
    return specification | {"width": "container"}


def render(page: Page) -> str:
    """The HTML of a page.

    Raises:
        MissingExtra: the package that holds the drawing programs is not installed.
    """
    bundle, program = javascript(), _resource("page.js")
    scripts = " ".join(_digest(script) for script in (bundle, program))
    header = [element("p", page.kind, class_="kind"), element("h1", page.headline)]
    header += [element("p", line, class_="said") for line in page.said]
    return Template(_resource("page.html")).substitute(
        policy=html.escape(POLICY.format(scripts=scripts)),
        title=html.escape(page.title),
        style=_resource("page.css"),
        header=join(*header),
        body=join(page.before, _noscript(), _cards(page.cards), page.after),
        data=json_in_html(_data(page)),
        bundle=bundle,
        program=program,
    )


def write(path: Path, page: Page) -> None:
    """Write a page. Another process sees the old file or the new one, whole, also after a crash.

    Raises:
        MissingExtra: as `render`.
        OSError: the file cannot be written.
    """
    data = render(page).encode()
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@functools.cache
def javascript() -> str:
    """Vega, Vega-Lite and Vega-Embed, once for all charts of a page; it sets `vegaEmbed`."""
    try:
        import vl_convert
    except ImportError as missing:
        raise MissingExtra("the report needs vl-convert-python", "pip install 'eventflow[analysis]'") from missing
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in bundle.lower(), "it would end its element"
    return bundle


def json_in_html(value: object) -> str:
    r"""JSON that can stand in a `<script>`: nothing in it looks like a tag.

    >>> json_in_html("</script><!--")
    '"\\u003c/script\\u003e\\u003c!--"'
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(page: Page) -> dict[str, Any]:
    themes = {name: theme(name) for name in ("light", "dark")}
    if not page.legend:
        for look in themes.values():
            look["legend"] = {"disable": True}
    charts = [
        {"id": _place(number), "specification": card.specification}
        for number, card in enumerate(page.cards)
        if isinstance(card.specification, dict)
    ]
    return {"themes": themes, "in_dark": in_dark(), "charts": charts}


def _cards(cards: Sequence[Card]) -> Html:
    made = [_card(number, card) for number, card in enumerate(cards)]
    return element("div", *made, class_="cards" if len(made) > 1 else "cards single")


def _card(number: int, card: Card) -> Html:
    if isinstance(card.specification, str):
        content = element("p", card.specification, class_="nothing")
    else:
        content = element("div", id=_place(number), class_="chart")
    title = [element("h2", card.title)] if card.title else []
    return element("section", *title, element("p", card.caption, class_="caption"), content, class_="card")


def _place(number: int) -> str:
    return f"chart-{number}"


def _noscript() -> Html:
    return element(
        "noscript",
        element("p", "The charts need JavaScript, which is switched off here; the rest does not.", class_="card"),
    )


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _resource(name: str) -> str:
    return files("analysis").joinpath(name).read_text(encoding="utf-8")
