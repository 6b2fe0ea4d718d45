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
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from analysis.appearance import in_dark, theme
from analysis.cards import Group, groups_html, place_of
from analysis.markup import Html, element, join, json_in_html
from eventflow.errors import MissingExtra

POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page: its texts, and HTML from `element` before and after the charts. With `legend`, charts have their own."""

    title: str
    headline: str
    said: Sequence[str] = ()
    kind: str = "eventflow"
    before: Html = Html()
    groups: Sequence[Group] = ()
    after: Html = Html()
    legend: bool = False


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
        body=join(page.before, _noscript(), groups_html(page.groups), page.after),
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


def _data(page: Page) -> dict[str, Any]:
    themes = {name: theme(name) for name in ("light", "dark")}
    if not page.legend:
        for look in themes.values():
            look["legend"] |= {"disable": True}
    charts = [
        {"id": place_of(number), "specification": one.specification}
        for number, one in enumerate(one for group in page.groups for one in group.cards)
        if isinstance(one.specification, dict)
    ]
    return {"themes": themes, "in_dark": in_dark(), "charts": charts}


def _noscript() -> Html:
    return element(
        "noscript",
        element("p", "The charts need JavaScript, which is switched off here; the rest does not.", class_="card"),
    )


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _resource(name: str) -> str:
    return files("analysis").joinpath(name).read_text(encoding="utf-8")
