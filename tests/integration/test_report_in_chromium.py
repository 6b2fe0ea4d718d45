"""A report as people see it: in a browser, from a file, without a network."""

import json
import shutil
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from analysis import failures_by_cause, progress_over_time
from analysis.program import draw
from analysis.report import IN_RUNS, OF_RUNS, write_report
from docs.make_screenshots import picture, set_scheme, set_width, terminal_picture, wait_drawn
from eventflow.log.runs import list_runs
from tests.browsing import CHART_SIZES, TEXTS_CUT_OFF, TEXTS_THAT_OVERLAP, complaints, requested, show, wait_for
from tests.synthetic_log import START_NS, write_ladder, write_run

FIXTURES = Path(__file__).parents[1] / "fixtures" / "format-1"
HOSTILE = "https://example.org/{}?</script><script>hacked=1</script><img src=x onerror=hacked=1>&lt;'\"\u2028"
STRONG_LINES = """
    return [...document.querySelectorAll("#chart-3 .mark-line path")]
        .filter(line => Number(line.getAttribute("opacity") ?? 1) > 0.5).length;
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a run of each stage, and one that was interrupted and met hostile URLs and messages."""
    folder = tmp_path_factory.mktemp("a report's #1 & <only> folder")
    store = folder / "store"
    write_ladder(store)
    plan = {"seed": 2, "urls": HOSTILE.format, "failure_share": 0.3, "stop_seconds": 0.5, "start_ns": START_NS - 10**12}
    write_run(store, "threads", **plan)
    return write_report(store, [run.run for run in list_runs(store)], folder / "report.html")


@pytest.mark.parametrize("width", [1280, 900, 420, 340])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_drawn(chrome: Chrome, report: Path, scheme: str, width: int) -> None:
    """All charts are drawn, no text is cut off or covered, the console is silent, and nothing else is loaded."""
    show(chrome, report, scheme, width)
    assert complaints(chrome) == []
    assert [url for url in requested(chrome) if not url.startswith(("data:", "blob:"))] == [report.absolute().as_uri()]
    sizes = chrome.execute_script(CHART_SIZES)
    assert len(sizes) == len({*OF_RUNS, "tradeoff", *IN_RUNS})
    assert all(drawn_width > width / 4 and height > 50 and paths > 5 for drawn_width, height, paths in sizes)
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    assert chrome.execute_script(TEXTS_CUT_OFF) == []
    assert chrome.execute_script(TEXTS_THAT_OVERLAP) == []


@pytest.mark.parametrize("requests", [0, 1, 2])
def test_little_to_show(chrome: Chrome, tmp_path: Path, requests: int) -> None:
    """Of no, one or two requests there is a page: charts of what there is, words for the rest, no complaint."""
    write_run(tmp_path / "store", "loop", requests=requests, failure_share=0.0)
    page = write_report(tmp_path / "store", ["latest"], tmp_path / "report.html")
    show(chrome, page, width=420)
    assert complaints(chrome) == []
    assert chrome.execute_script(TEXTS_THAT_OVERLAP) == []
    assert bool(chrome.find_elements("css selector", ".nothing")) or requests


def test_an_old_run_beside_a_new_one(chrome: Chrome, tmp_path: Path) -> None:
    """A run of which less is known than today is shown beside one of today without a complaint."""
    write_run(tmp_path / "store", "loop", requests=20)
    for run in (FIXTURES / "closed").iterdir():
        shutil.copytree(run, tmp_path / "store" / run.name)
    runs = [run.run for run in list_runs(tmp_path / "store")]
    show(chrome, write_report(tmp_path / "store", runs, tmp_path / "report.html"))
    assert complaints(chrome) == []
    chrome.execute_script("document.querySelector('[data-run=serial]').click()")
    wait_for(lambda: chrome.execute_script("return document.querySelector('[data-run=serial]').ariaPressed") == "true")
    assert complaints(chrome) == []


def test_what_the_log_says_is_text(chrome: Chrome, report: Path) -> None:
    """A URL or message with HTML in it adds no element and runs no script; it can be read as it is."""
    show(chrome, report)
    assert chrome.execute_script("return [typeof hacked, document.images.length, document.scripts.length]") == [
        "undefined", 0, 3
    ]  # fmt: skip
    page = chrome.execute_script("return JSON.parse(document.getElementById('page').textContent)")
    assert "</script><script>hacked=1</script>" in json.dumps(page)


def test_the_policy_holds(chrome: Chrome, report: Path) -> None:
    """Even a script that got into the page could neither be run nor load anything."""
    show(chrome, report)
    violated = chrome.execute_async_script("""
        const done = arguments[0], found = [];
        document.addEventListener("securitypolicyviolation", event => {
            found.push(event.effectiveDirective);
            if (found.length === 3) done(found.sort());
        });
        const script = document.createElement("script");
        script.textContent = "hacked = 1";
        document.body.append(script);
        fetch("http://127.0.0.1:9/").catch(() => 0);
        document.body.append(Object.assign(new Image(), {src: "http://127.0.0.1:9/a.png"}));
    """)
    assert violated == ["connect-src", "img-src", "script-src-elem"]
    assert chrome.execute_script("return typeof hacked") == "undefined"


def test_it_follows_the_colour_scheme(chrome: Chrome, report: Path) -> None:
    """When the person's scheme changes, page and charts change with it, without being loaded again."""
    seen = []
    show(chrome, report)
    for scheme in ("light", "dark", "light"):
        set_scheme(chrome, scheme)
        wait_drawn(chrome, scheme)
        seen.append(
            chrome.execute_script("""
            const colour = (selector, property) => getComputedStyle(document.querySelector(selector))[property];
            return [colour("body", "backgroundColor"), colour("#chart-0 .mark-rect path", "fill"),
                    colour("#chart-0 .role-axis-label text", "fill"), colour(".key", "color")];
        """)
        )
    light, dark, again = seen
    assert light == again
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert complaints(chrome) == []


def test_it_follows_the_width(chrome: Chrome, report: Path) -> None:
    """When the window gets narrower, the charts do, too."""
    show(chrome, report)
    set_width(chrome, 420)
    wait_for(lambda: all(width <= 420 for width, _, _ in chrome.execute_script(CHART_SIZES)))
    wait_for(lambda: bool(chrome.execute_script("return document.documentElement.scrollWidth <= 420")))


def test_a_run_can_stand_out(chrome: Chrome, report: Path) -> None:
    """Pressing a run's button fades the lines of the others in the charts, pressing it again brings them back."""
    show(chrome, report)
    assert chrome.execute_script(STRONG_LINES) == 6
    for pressed, strong in (("true", 1), ("false", 6)):
        chrome.execute_script("document.querySelector('[data-run=loop]').click()")
        wait_for(lambda strong=strong: chrome.execute_script(STRONG_LINES) == strong)  # type: ignore[misc]
        assert chrome.execute_script("return document.querySelector('[data-run=loop]').ariaPressed") == pressed
    assert complaints(chrome) == []


def test_a_tooltip_shows_text(chrome: Chrome, report: Path) -> None:
    """A tooltip shows a message of the log as text, hostile or not."""
    show(chrome, report)
    chrome.execute_script("""
        for (const bar of document.querySelectorAll("#chart-9 .mark-rect path")) {
            const {left, top, width, height} = bar.getBoundingClientRect();
            const place = {bubbles: true, clientX: left + width / 2, clientY: top + height / 2};
            for (const kind of ["pointerover", "mouseover", "pointermove", "mousemove"]) {
                bar.dispatchEvent(new (kind.startsWith("p") ? PointerEvent : MouseEvent)(kind, place));
            }
            if (document.querySelector("#vg-tooltip-element")?.textContent.includes("onerror")) break;
        }
    """)
    text = chrome.execute_script("return document.querySelector('#vg-tooltip-element').innerText")
    assert "<img src=x onerror=hacked=1>" in text
    assert chrome.execute_script("return [typeof hacked, document.images.length]") == ["undefined", 0]
    assert complaints(chrome) == []


def test_without_javascript(chrome: Chrome, report: Path) -> None:
    """Where scripts are switched off, the numbers are there, and a sentence that says why the charts are not."""
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chrome.get(report.absolute().as_uri())
        text = chrome.find_element("tag name", "body").text
    finally:
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "The charts need JavaScript" in text
    assert "subprocess" in text


def test_a_chart_by_itself(chrome: Chrome, tmp_path: Path) -> None:
    """A chart's own HTML file is drawn in the same way, with a legend."""
    run = write_run(tmp_path / "store", "loop", failure_share=0.2)
    for module in (progress_over_time, failures_by_cause):
        out = tmp_path / "chart.html"
        draw(module, tmp_path / "store", [run.run], out)
        show(chrome, out)
        assert complaints(chrome) == []
        ((width, height, _),) = chrome.execute_script(CHART_SIZES)
        assert width > 400
        assert height > 50
        assert chrome.execute_script("return document.querySelectorAll('.role-legend-label').length") == 1


def test_pictures_for_the_documents(chrome: Chrome, report: Path, tmp_path: Path) -> None:
    """`docs/make_screenshots.py` takes the whole page, and draws a terminal with its colours."""
    data = picture(chrome, report, "dark", tmp_path / "report-dark.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20]) == 1280
    assert int.from_bytes(data[20:24]) > 1500
    drawing = terminal_picture("\x1b[31mred\x1b[0m text", "eventflow", tmp_path / "terminal.svg").read_text(
        encoding="utf-8"
    )
    assert drawing.startswith("<svg")
    assert "red" in drawing
