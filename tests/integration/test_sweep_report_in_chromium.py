"""The report of runs of several sizes as people use it: axes that are chosen, brushing, printing, drawing on demand."""

import base64
import itertools
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from analysis.report import BY_SIZE, IN_RUNS, write_report
from docs.make_screenshots import set_width, wait_drawn
from eventflow.log.runs import list_runs
from tests.browsing import CHART_SIZES, TEXTS_CUT_OFF, TEXTS_THAT_OVERLAP, complaints, show, wait_for
from tests.synthetic_log import PROFILES, START_NS, write_run

CHARTS = (*BY_SIZE, *IN_RUNS)
DRAWN = "return document.querySelectorAll('.chart svg').length"
FIRST_PAINT = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
PAINT_MS_MAX = 2_000


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two runs of each stage and size."""
    folder = tmp_path_factory.mktemp("sweep")
    moments = itertools.count(START_NS, 10**10)
    for size, seed, stage in itertools.product((1, 6, 30, 150), (1, 2), PROFILES):
        write_run(folder / "store", stage, requests=size, seed=seed, start_ns=next(moments))
    return write_report(folder / "store", [run.run for run in list_runs(folder / "store")], folder / "report.html")


def place(name: str) -> str:
    """The selector of a chart."""
    return f"#chart-{CHARTS.index(name)}"


def texts(chrome: Chrome, name: str) -> list[str]:
    """The texts in a chart."""
    found: list[str] = chrome.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(text => text.textContent)", f"{place(name)} text"
    )
    return found


def shapes(chrome: Chrome, name: str, kind: str = "symbol") -> list[str]:
    """Where the marks of a kind in a chart are, and how they look."""
    found: list[str] = chrome.execute_script(
        """return [...document.querySelectorAll(arguments[0])].map(
            mark => mark.getAttribute("transform") + mark.getAttribute("d") + mark.getAttribute("opacity"))""",
        f"{place(name)} .mark-{kind}:not(.role-legend-symbol) path",
    )
    return found


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_drawn(chrome: Chrome, report: Path, scheme: str, width: int) -> None:
    """All charts are drawn, no text is cut off or covered, and the console is silent."""
    show(chrome, report, scheme, width)
    assert complaints(chrome) == []
    sizes = chrome.execute_script(CHART_SIZES)
    assert len(sizes) == len(CHARTS)
    assert all(drawn_width > width / 4 and height > 50 and paths > 5 for drawn_width, height, paths in sizes)
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    assert chrome.execute_script(TEXTS_CUT_OFF) == []
    assert chrome.execute_script(TEXTS_THAT_OVERLAP) == []


def test_it_is_painted_soon(chrome: Chrome, report: Path) -> None:
    """The words and the table are there within two seconds, before any chart is."""
    times = []
    for _ in range(3):
        show(chrome, report)
        times.append(chrome.execute_script(FIRST_PAINT))
    assert min(times) < PAINT_MS_MAX


def test_charts_are_drawn_when_they_are_needed(chrome: Chrome, report: Path) -> None:
    """With no time to spare, only charts in view are drawn; then one that is scrolled to; printing draws all."""
    script = chrome.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": "window.requestIdleCallback = () => 0"}
    )
    try:
        set_width(chrome, 1280, 900)
        chrome.get(report.absolute().as_uri())
        wait_for(lambda: bool(chrome.execute_script(DRAWN)))
        assert chrome.execute_script(DRAWN) < len(CHARTS) / 2
        last = f"{place(CHARTS[-1])} svg"
        assert not chrome.find_elements(By.CSS_SELECTOR, last)
        chrome.execute_script("scrollTo(0, document.querySelector(arguments[0]).offsetTop)", place(CHARTS[-1]))
        wait_for(lambda: bool(chrome.find_elements(By.CSS_SELECTOR, last)))
        assert chrome.execute_script(DRAWN) < len(CHARTS)
        chrome.execute_script("dispatchEvent(new Event('beforeprint'))")
        wait_for(lambda: chrome.execute_script(DRAWN) == len(CHARTS))
    finally:
        chrome.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_it_can_be_printed_at_once(chrome: Chrome, report: Path) -> None:
    """A page that is printed as soon as it is opened has all its charts on paper, and no closed table or control."""
    chrome.get(report.absolute().as_uri())
    printed = base64.b64decode(chrome.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert chrome.execute_script(DRAWN) == len(CHARTS)
    assert printed.startswith(b"%PDF")
    wait_drawn(chrome, "light")
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = (
            "return [...document.querySelectorAll('.controls, .card > details')].filter(one => one.offsetHeight).length"
        )
        assert chrome.execute_script(shown) == 0
    finally:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_axes_can_be_chosen(chrome: Chrome, report: Path) -> None:
    """Choosing a figure moves the dots and names the axis; switching to a linear axis changes its labels."""
    show(chrome, report)
    card = chrome.find_element(By.CSS_SELECTOR, place("explore")).find_element(By.XPATH, "..")
    across, up = (Select(one) for one in card.find_elements(By.CSS_SELECTOR, "select"))
    assert {"number of requests", "requests per second"} <= set(texts(chrome, "explore"))
    for axis, choice in ((across, "time (seconds)"), (up, "peak memory (MiB)")):
        before = shapes(chrome, "explore")
        axis.select_by_visible_text(choice)
        wait_for(lambda choice=choice: choice in texts(chrome, "explore"))  # type: ignore[misc]
        wait_for(lambda before=before: shapes(chrome, "explore") != before)  # type: ignore[misc]
    before_texts = texts(chrome, "explore")
    card.find_element(By.CSS_SELECTOR, "input[type=checkbox]").click()
    wait_for(lambda: texts(chrome, "explore") != before_texts)
    assert complaints(chrome) == []


def test_speed_can_be_shown_as_time(chrome: Chrome, report: Path) -> None:
    """The chart of speed shows seconds instead of requests per second when that is chosen."""
    show(chrome, report)
    assert "requests per second" in texts(chrome, "speed")
    before = shapes(chrome, "speed", "line")
    card = chrome.find_element(By.CSS_SELECTOR, place("speed")).find_element(By.XPATH, "..")
    card.find_elements(By.CSS_SELECTOR, "input[type=radio]")[1].click()
    wait_for(lambda: "time (seconds)" in texts(chrome, "speed"))
    assert shapes(chrome, "speed", "line") != before
    assert complaints(chrome) == []


def test_an_interval_of_the_overview_shows_its_requests(chrome: Chrome, report: Path) -> None:
    """Marking part of the overview leaves the requests that ended in it; a double click brings back all."""
    show(chrome, report)
    everything = len(shapes(chrome, "requests_over_time"))
    chart = chrome.find_element(By.CSS_SELECTOR, f"{place('requests_over_time')} svg")
    chrome.execute_script("arguments[0].scrollIntoView()", chart)
    left, down = -chart.size["width"] // 4, -chart.size["height"] // 2 + 60
    ActionChains(chrome).move_to_element_with_offset(chart, left, down).click_and_hold().move_by_offset(
        chart.size["width"] // 6, 5
    ).release().perform()
    wait_for(lambda: 0 < len(shapes(chrome, "requests_over_time")) < everything)
    ActionChains(chrome).move_to_element_with_offset(chart, left + 5, down).double_click().perform()
    wait_for(lambda: len(shapes(chrome, "requests_over_time")) == everything)
    assert complaints(chrome) == []


def test_a_button_chooses_the_run_that_is_looked_into(chrome: Chrome, report: Path) -> None:
    """Pressing a stage's button makes it stand out, and shows its run where one run is shown at a time."""
    show(chrome, report)
    chrome.execute_script("document.querySelector('[data-run=loop]').click()")
    for name in ("gantt", "memory_per_process", "requests_over_time"):
        card = chrome.find_element(By.CSS_SELECTOR, place(name)).find_element(By.XPATH, "..")
        wait_for(
            lambda card=card: (  # type: ignore[misc]
                Select(card.find_element(By.CSS_SELECTOR, "select")).first_selected_option.text == "loop"
            )
        )
    assert complaints(chrome) == []


def test_each_chart_is_there_in_words(chrome: Chrome, report: Path) -> None:
    """Beside each chart there are a sentence for screen readers and a table, with a head and a name for each row."""
    show(chrome, report)
    roles = chrome.execute_script("return [...document.querySelectorAll('.chart')].map(chart => chart.role)")
    assert set(roles) == {"img"}
    labels, tables = chrome.execute_script("""
        const charts = [...document.querySelectorAll(".chart")];
        return [charts.map(chart => chart.getAttribute("aria-label")), charts.map(chart => {
            const table = chart.parentElement.querySelector("details table");
            return ["thead th[scope=col]", "tbody th[scope=row]"].map(what => table.querySelectorAll(what).length);
        })];
    """)
    assert all(len(label) > 30 for label in labels)
    assert all(columns >= 2 and 1 <= rows <= 50 for columns, rows in tables)
