import base64
import hashlib
import html
import itertools
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis import appearance, page
from analysis.appearance import DARK, LADDER, LIGHT, OTHER, PARTS
from analysis.latency_phases import PHASES
from analysis.markup import Html, element, json_in_html
from analysis.memory_per_process import ROLES
from analysis.page import Page, render
from analysis.report import IN_RUNS, OF_RUNS, write_report
from analysis.requests_over_time import OUTCOMES
from analysis.settings import facts, flat
from analysis.summary import headline, sentences
from eventflow.errors import MissingExtra, UnknownRun, UsageError
from eventflow.log.runs import create_run, list_runs
from tests.synthetic_log import PROFILES, write_ladder, write_run

HOSTILE = "https://h/{}</script><script>alert(1)</script><!--&\u2028'\""


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run of each stage."""
    store = tmp_path_factory.mktemp("ladder") / "store"
    write_ladder(store)
    return store


# How colours look to people who lack one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
CONES = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}


def linear(colour: str) -> list[float]:
    """Linear RGB from a hex colour (IEC 61966-2-1)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one_colour: str, other: str) -> float:
    """WCAG's contrast ratio."""
    weights = (0.2126, 0.7152, 0.0722)
    low, high = sorted(sum(map(float.__mul__, weights, linear(colour))) for colour in (one_colour, other))
    return (high + 0.05) / (low + 0.05)


def oklab(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Oklab from linear RGB (Ottosson 2020), in which distances are about as large as they look."""
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.793617785 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.428592205 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.808675766 * short,
    )


def difference(one_colour: str, other: str, cones: str) -> float:
    """How far apart two colours look, in hundredths of Oklab."""
    seen = [
        oklab(*(min(1, max(0, sum(map(float.__mul__, map(float, row), linear(colour))))) for row in CONES[cones]))
        for colour in (one_colour, other)
    ]
    return 100 * math.dist(*seen)


class TestColours:
    @pytest.mark.parametrize(("palette", "surface"), [(LIGHT, "#FFFFFF"), (DARK, "#16191F")], ids=["light", "dark"])
    def test_they_stand_out(self, palette: dict[str, str], surface: str) -> None:
        """Every colour has a contrast of 3 or more with the cards' background."""
        assert surface.lower() in page._resource("page.css")
        assert not {stage: colour for stage, colour in palette.items() if contrast(colour, surface) < 2.95}

    @pytest.mark.parametrize("cones", CONES)
    @pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
    def test_they_can_be_told_apart(self, palette: dict[str, str], cones: str) -> None:
        """With any kind of colour blindness the local stages are clearly different, and all stages are different."""
        for stages, least in ((LADDER[:5], 10), (LADDER, 5)):
            pairs = itertools.combinations(stages, 2)
            assert not [pair for pair in pairs if difference(palette[pair[0]], palette[pair[1]], cones) < least]

    @pytest.mark.parametrize("cones", CONES)
    @pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
    def test_the_parts_of_a_run_can_be_told_apart(self, palette: dict[str, str], cones: str) -> None:
        """With any kind of colour blindness phases, outcomes and roles that are shown together are different."""
        stage_of = {colour: stage for stage, colour in LIGHT.items()}
        for together in (PHASES, OUTCOMES, ROLES):
            shown = [palette[stage_of[PARTS[part]]] for part in together if part != "request"]
            assert not [pair for pair in itertools.combinations(shown, 2) if difference(*pair, cones) < 5]

    def test_every_colour_has_one_for_the_dark(self) -> None:
        """The page can repaint every colour, each into another."""
        assert set(LIGHT) == set(DARK) == {*LADDER, OTHER}
        assert len(set(appearance.in_dark().values())) == len(LIGHT)


def run_row(label: str, **values: Any) -> dict[str, Any]:
    """A row of the view `runs`, as the report reads it."""
    row = {"label": label, "state": "completed", "seconds": 2.0, "requests": 10, "completed": 10, "failed": 0}
    return row | {"rate": 5.0, "memory": 50 << 20, "kind": "PSS", "cancelled": 0} | values


class TestWords:
    @pytest.mark.parametrize(
        ("runs", "expected"),
        [
            ([run_row("loop")], "loop completed 10 requests in 2 s, 5 a second"),
            ([run_row("loop", requests=1, completed=1)], "loop completed 1 request in 2 s, 5 a second"),
            ([run_row("loop", completed=8)], "loop completed 8 of 10 requests in 2 s, 5 a second"),
            (
                [run_row("loop", state="unfinished", completed=3)],
                "loop has completed 3 of 10 requests after 2 s and is unfinished",
            ),
            (
                [run_row("serial", seconds=9.0), run_row("loop")],
                "loop was fastest: 10 requests in 2 s, 4.5 times as fast as serial",
            ),
            (
                [run_row("serial"), run_row("loop", requests=99, rate=9.0)],
                "loop completed the most requests per second: 9",
            ),
            (
                [run_row("serial"), run_row("loop", state="failed", rate=None)],
                "serial completed the most requests per second: 5",
            ),
        ],
    )
    def test_the_headline(self, runs: list[dict[str, Any]], expected: str) -> None:
        """The headline says what was found, and compares by time only what can be."""
        assert headline(runs) == expected

    def test_the_sentences(self) -> None:
        """Memory, failures, unfinished and unseen runs are each told in a sentence, if there is something to tell."""
        runs = [run_row("serial"), run_row("loop", memory=99 << 20, failed=3, state="interrupted", requests=20)]
        assert sentences(runs, [("TimedOut", 2), ("ShortBody", 1)], ["r-1"]) == [
            "serial took the least memory, 50 MiB; loop the most, 99 MiB.",
            "3 of 30 requests failed, most often with TimedOut (2).",
            "Did not come to its end: loop (interrupted).",
            "The runs had different numbers of requests, so compare rates rather than times.",
            "Not shown, since nothing is recorded of it yet: r-1.",
        ]
        assert sentences([run_row("loop", memory=None)], [], [], [("r-2", "it is torn")]) == [
            "Memory and CPU were not measured in loop.",
            "No request failed.",
            "Not shown, since it cannot be read: r-2 (it is torn).",
        ]

    def test_facts_that_are_the_same_stand_once(self) -> None:
        """What all runs share is a list, what differs is a table with a row for each run."""
        one_run, other = {"cpus": "2", "workers": "1"}, {"cpus": "2", "workers": "16", "extra": "<b>"}
        assert facts([("a", one_run)]) == "<dl><dt>cpus</dt><dd>2</dd><dt>workers</dt><dd>1</dd></dl>"
        both = facts([("a", one_run), ("b", other)])
        assert both.count("cpus") == 1
        assert "<td>–</td>" in both
        assert "<td>&lt;b&gt;</td>" in both

    def test_facts_have_units(self) -> None:
        """Sizes and durations get units; numbers, truth values, lists and what is not known are written out."""
        given = {"limit_bytes": None, "sync_seconds": 0.00025, "timeout_s": 30, "pss": True, "program": ["gzip", "-k"]}
        assert flat(given | {"at_ns": 17, "a": {"b": 1, "c": 2}, "odd_bytes": "many"}) == {
            "limit": "–",
            "sync": "0.00025 s",
            "timeout": "30 s",
            "pss": "yes",
            "program": "gzip -k",
            "a": "b 1, c 2",
            "odd": "many",
        }


class Tags(HTMLParser):
    """The tags of a page, and the content of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


class TestPage:
    def test_a_report_of_all_stages(self, ladder: Path, tmp_path: Path) -> None:
        """The report is one file with all charts, which names no other; the same runs give the same bytes."""
        runs = [run.run for run in list_runs(ladder)]
        first = write_report(ladder, runs, tmp_path / "a.html").read_text(encoding="utf-8")
        assert first == write_report(ladder, runs[::-1], tmp_path / "b.html").read_text(encoding="utf-8")
        found = Tags(first)
        data = json.loads(found.scripts[0])
        assert len(data["charts"]) == len({*OF_RUNS, "tradeoff", *IN_RUNS})
        assert first.count("<summary>As a table</summary>") == first.count('role="img"') == len(data["charts"])
        assert re.findall(r"</svg>(\w+)</th>", first) == list(PROFILES)
        targets = [value for _, attributes in found.tags for key, value in attributes.items() if key in {"src", "href"}]
        assert targets == ["data:,"]
        assert 2_500_000 > len(first) > 500_000
        assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.html", "b.html"]

    def test_the_policy_names_the_scripts(self, ladder: Path, tmp_path: Path) -> None:
        """The page's policy allows its two programs by their digests, and nothing from elsewhere."""
        found = Tags(write_report(ladder, ["latest"], tmp_path / "a.html").read_text(encoding="utf-8"))
        policy = next(attributes["content"] or "" for _, attributes in found.tags if "http-equiv" in attributes)
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found.scripts[1:]]
        assert rules["script-src"] == " ".join(f"'sha256-{digest}'" for digest in digests)
        assert rules["default-src"] == "'none'"
        assert "http" not in policy

    def test_hostile_text_stays_text(self, store: Path, tmp_path: Path) -> None:
        """HTML in URLs, messages, settings or names adds no element to the page."""
        folder = write_run(store, "serial", requests=20, failure_share=0.5, urls=HOSTILE.format)
        info = json.loads((folder.path / "run.json").read_text())
        info |= {"command": [HOSTILE], "settings": {HOSTILE: HOSTILE}, "stage": f"mine{HOSTILE}"}
        (folder.path / "run.json").write_text(json.dumps(info))
        text = write_report(store, ["latest"], tmp_path / "a.html").read_text(encoding="utf-8")
        found = Tags(text)
        assert [tag for tag, _ in found.tags].count("script") == len(found.scripts) == 3
        assert "<script>alert" not in text
        assert html.escape(HOSTILE) in text

    def test_a_live_run_has_a_report(self, store: Path, tmp_path: Path) -> None:
        """Of a run that goes on or was killed there is a report; a run that has not begun is named in it."""
        write_run(store, "threads", stop_seconds=0.2, killed=True)
        waiting = create_run(store, stage="loop")
        runs = [run.run for run in list_runs(store)]
        text = write_report(store, runs, tmp_path / "a.html").read_text(encoding="utf-8")
        assert "and is unfinished" in text
        assert f"nothing is recorded of it yet: {waiting.run}." in text
        with pytest.raises(UsageError, match="no event"):
            write_report(store, [waiting.run], tmp_path / "b.html")
        with pytest.raises(UnknownRun):
            write_report(store, ["2001"], tmp_path / "b.html")
        assert not (tmp_path / "b.html").exists()

    def test_a_failed_write_changes_nothing(self, ladder: Path, tmp_path: Path) -> None:
        """Where the file cannot be written, the error is the operating system's, and no other file is left."""
        (tmp_path / "a.html").mkdir()
        with pytest.raises(OSError, match="Is a directory"):
            write_report(ladder, ["latest"], tmp_path / "a.html")
        assert [path.name for path in tmp_path.iterdir()] == ["a.html"]

    def test_elements_escape(self) -> None:
        """Text and attributes are escaped, HTML is not, and JSON cannot end its element."""
        assert element("a", "<", Html("<b>"), title='"', hidden=True, class_="x", data_y="&", lang=False) == (
            '<a title="&quot;" hidden class="x" data-y="&amp;">&lt;<b></a>'
        )
        assert not re.search(r"[<>&\u2028]", json_in_html(HOSTILE))
        assert json.loads(json_in_html(HOSTILE)) == HOSTILE
        assert "<h1>&lt;b&gt;</h1>" in render(Page(title="<b>", headline="<b>"))

    def test_without_the_extra(self) -> None:
        """Without Altair, the error says what to install."""
        program = (
            "import sys; sys.modules['altair'] = None\n"
            "from pathlib import Path\n"
            "from analysis.report import write_report\n"
            "try: write_report(Path('.'), [], Path('x.html'))\n"
            "except Exception as error: print(type(error).__name__, error)\n"
        )
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert result.stdout == f"{MissingExtra.__name__} the report needs altair: pip install 'eventflow[analysis]'\n"
