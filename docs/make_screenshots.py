"""Makes the pictures of the documents: `eventflow demo`, `top` and `trace` as drawings, and the report.

    python docs/make_screenshots.py -o docs/images/
    python docs/make_screenshots.py --only top
    python docs/make_screenshots.py --only trace
    python docs/make_screenshots.py --page ladder.html -o docs/images/

The report, in light and dark, needs Chromium and its driver (`apt install chromium chromium-driver`).
"""

import argparse
import contextlib
import io
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

from eventflow.origin.launch import start_origin
from eventflow.origin.settings import OriginSettings

CHROMIUM = "/usr/bin/chromium"
DRIVER = "/usr/bin/chromedriver"
WIDTH_PIXELS = 1280
HEIGHT_PIXELS_MAX = 2400
SECONDS_MAX = 30
TOP_SECONDS = 14
TOP_COLUMNS = 110
TRACE_COLUMNS = 120
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


@contextlib.contextmanager
def browser(
    *, chromium: str = CHROMIUM, driver: str = DRIVER, logs: dict[str, str] | None = None
) -> Iterator[webdriver.Chrome]:
    """A Chromium without a window and with a profile of its own. `logs` are what it keeps, as `goog:loggingPrefs`."""
    with tempfile.TemporaryDirectory(prefix="eventflow-chromium-", ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = chromium
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", logs or {})
        chrome = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield chrome
        finally:
            chrome.quit()


def set_scheme(chrome: webdriver.Chrome, scheme: str) -> None:
    """Let pages believe that the person prefers `light` or `dark`."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def set_width(chrome: webdriver.Chrome, width: int, height: int = 900) -> None:
    """Give pages this much room, in pixels."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait_drawn(chrome: webdriver.Chrome, scheme: str) -> None:
    """Return when all charts of a report are drawn in that scheme."""
    WebDriverWait(chrome, SECONDS_MAX, poll_frequency=0.05).until(
        lambda page: page.execute_script("return document.documentElement.dataset.drawn") == scheme
    )


def picture(chrome: webdriver.Chrome, report: Path, scheme: str, out: Path, width: int = WIDTH_PIXELS) -> Path:
    """A picture of the page's beginning, as PNG: as many whole rows of charts as `HEIGHT_PIXELS_MAX` has room for."""
    set_scheme(chrome, scheme)
    set_width(chrome, width)
    chrome.get(report.absolute().as_uri())
    wait_drawn(chrome, scheme)
    height = chrome.execute_script(
        """
        const ends = [...document.querySelectorAll("section")].map(one => one.offsetTop + one.offsetHeight + 16);
        return Math.max(...ends.filter(end => end <= arguments[0]), 900);
        """,
        HEIGHT_PIXELS_MAX,
    )
    set_width(chrome, width, height)
    out.write_bytes(chrome.get_screenshot_as_png())
    return out


def terminal_picture(output: str, title: str, out: Path, columns: int = 110) -> Path:
    """What a command printed, colours and all (ANSI escapes), as a terminal drawn in SVG."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(output), soft_wrap=True)
    drawing = console.export_svg(title=title)
    drawing = re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL)  # they would be loaded from a server
    out.write_text("".join(f"{line.rstrip()}\n" for line in drawing.splitlines()), encoding="utf-8")
    return out


def demo(folder: Path) -> tuple[str, Path]:
    """Run the demo; gives what it prints, with colours, and its report."""
    command = [sys.executable, "-m", "eventflow", "demo", "--out", "demo-report.html"]
    colours = os.environ | {"FORCE_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=colours, capture_output=True, text=True, check=True)
    return done.stdout.replace(f"{folder}/", ""), folder / "demo-report.html"


def top(folder: Path) -> str:
    """What `eventflow top` shows of a run of the director, after some seconds. One server is slow, one fails."""
    failing = {"500": 0.02, "short-body": 0.02, "stall": 0.01, "reset": 0.01, "refuse": 0.005}
    slow = OriginSettings(files=700, size=400_000, size_spread=1, latency_s=0.08, bandwidth=300_000, concurrency=64)
    bad = OriginSettings(
        files=2500, size=60_000, size_spread=1.2, latency_s=0.2, latency_spread=0.5, concurrency=24, faults=failing
    )
    command = [sys.executable, "-m", "eventflow"]
    with start_origin(bad) as first, start_origin(slow) as second:
        lines = [
            f"{entry.url}\t{name}/{entry.name}"
            for name, one in (("a", first), ("b", second))
            for entry in one.entries()
        ]
        random.Random(1).shuffle(lines)
        (folder / "urls.tsv").write_text("\n".join(lines))
        run = subprocess.Popen(
            [*command, "run", "director", "-i", "urls.tsv", "--timeout", "3s", "--quiet"], cwd=folder
        )
        time.sleep(TOP_SECONDS)
        colours = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(TOP_COLUMNS)}
        shown = subprocess.run([*command, "top"], cwd=folder, env=colours, capture_output=True, text=True, check=True)
        run.terminate()
        run.wait()
    return shown.stdout


def trace(folder: Path) -> str:
    """What `eventflow trace` shows of a request that was tried again, over a connection that another had before."""
    failing = {"500": 0.04, "503": 0.04, "short-body": 0.04}
    with start_origin(
        OriginSettings(
            files=40,
            size=400_000,
            size_spread=0.6,
            latency_s=0.12,
            latency_spread=0.5,
            bandwidth=2_000_000,
            faults=failing,
        )
    ) as origin:
        (folder / "urls.txt").write_text("".join(f"{entry.url}\n" for entry in origin.entries()))
        command = [sys.executable, "-m", "eventflow"]
        subprocess.run([*command, "run", "lineage", "-i", "urls.txt", "--quiet"], cwd=folder, check=True)
        select = (
            "SELECT number FROM requests WHERE attempts BETWEEN 2 AND 3 ORDER BY attempts DESC, wait_seconds LIMIT 1"
        )
        asked = subprocess.run([*command, "sql", select], cwd=folder, capture_output=True, text=True, check=True)
    number = asked.stdout.splitlines()[-1]
    colours = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(TRACE_COLUMNS)}
    return subprocess.run(
        [*command, "trace", "latest", "--request", number],
        cwd=folder,
        env=colours,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def both_schemes(chrome: webdriver.Chrome, report: Path, folder: Path, name: str, width: int) -> None:
    """Pictures of a page in light and in dark."""
    for scheme in ("light", "dark"):
        picture(chrome, report, scheme, folder / f"{name}-{scheme}.png", width)


def main() -> None:
    """Write demo.svg, top.svg, trace.svg, report-light.png and report-dark.png."""
    parser = argparse.ArgumentParser(description="Run the demo and take pictures of its end and its report.")
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/images"), help="the folder for the pictures")
    parser.add_argument("--width", type=int, default=WIDTH_PIXELS, help="the width of the page, in pixels")
    parser.add_argument(
        "--only", choices=["top", "trace", "report"], help="make this one; the first two need no browser"
    )
    parser.add_argument("--page", type=Path, help="take pictures of this report instead, by its name")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.page:
        with browser() as chrome:
            both_schemes(chrome, given.page, given.out, given.page.stem, given.width)
        return
    if given.only in (None, "trace"):
        with tempfile.TemporaryDirectory(prefix="eventflow-pictures-") as folder:
            terminal_picture(trace(Path(folder)), "eventflow trace", given.out / "trace.svg", columns=TRACE_COLUMNS)
    if given.only in (None, "top"):
        with tempfile.TemporaryDirectory(prefix="eventflow-pictures-") as folder:
            terminal_picture(top(Path(folder)), "eventflow top", given.out / "top.svg", columns=TOP_COLUMNS)
    if given.only in ("top", "trace"):
        return
    with tempfile.TemporaryDirectory(prefix="eventflow-pictures-") as folder, browser() as chrome:
        output, report = demo(Path(folder))
        if given.only != "report":
            terminal_picture(output, "make demo", given.out / "demo.svg", columns=96)
        both_schemes(chrome, report, given.out, "report", given.width)


if __name__ == "__main__":
    main()
