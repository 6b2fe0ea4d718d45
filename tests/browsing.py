"""What the tests of reports do with a browser: open a page, wait, and ask what is seen."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome

from docs.make_screenshots import set_scheme, set_width, wait_drawn

WAIT_SECONDS_MAX = 10.0

TEXTS_THAT_OVERLAP = """
    const boxes = [...document.querySelectorAll(".chart svg")].map(svg => [...svg.querySelectorAll("text")]
        .filter(text => text.textContent && getComputedStyle(text).opacity !== "0")
        .map(text => [text.textContent, text.getBoundingClientRect()]));
    const before = (a, b) => a.right <= b.left + 1 || a.bottom <= b.top + 2;
    const apart = (a, b) => before(a, b) || before(b, a);
    return boxes.flatMap(texts => texts.flatMap(([one, a], place) =>
        texts.slice(place + 1).filter(([_, b]) => !apart(a, b)).map(([other]) => `${one} / ${other}`)));
"""
TEXTS_CUT_OFF = """
    return [...document.querySelectorAll(".chart")].flatMap(chart => {
        const room = chart.getBoundingClientRect();
        return [...chart.querySelectorAll("text")].filter(text => {
            const box = text.getBoundingClientRect();
            return box.width && (box.left < room.left - 1 || box.right > room.right + 1);
        }).map(text => text.textContent);
    });
"""
CHART_SIZES = """
    return [...document.querySelectorAll(".chart")].map(chart => {
        const svg = chart.querySelector("svg");
        const box = svg ? svg.getBoundingClientRect() : {width: 0, height: 0};
        return [box.width, box.height, chart.querySelectorAll("path").length];
    });
"""


def show(chrome: Chrome, page: Path, scheme: str = "light", width: int = 1280) -> None:
    """Open a page and wait until its charts are drawn. What the browser has noted before is forgotten."""
    set_scheme(chrome, scheme)
    set_width(chrome, width)
    for log in ("browser", "performance"):
        chrome.get_log(log)
    chrome.get(page.absolute().as_uri())
    wait_drawn(chrome, scheme)


def complaints(chrome: Chrome) -> list[str]:
    """The warnings and errors on the console since the page was opened."""
    entries: list[dict[str, Any]] = chrome.get_log("browser")
    return [entry["message"] for entry in entries if entry["level"] in {"WARNING", "SEVERE"}]


def requested(chrome: Chrome) -> list[str]:
    """The addresses that were asked for since the page was opened."""
    entries: list[dict[str, Any]] = chrome.get_log("performance")
    messages = [json.loads(entry["message"])["message"] for entry in entries]
    sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [message["params"]["request"]["url"] for message in sent]


def wait_for(condition: Callable[[], bool]) -> None:
    """Return when it holds.

    Raises:
        TimeoutError: it does not hold within ten seconds.
    """
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
