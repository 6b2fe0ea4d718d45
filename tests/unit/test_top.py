"""`eventflow top` without a terminal: what it prints in a pipe and for programs, and how its frames are drawn."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from eventflow.cli.main import main
from eventflow.cli.top_frame import Look, frame, share_out
from eventflow.cli.top_text import (
    ASCII,
    UNICODE,
    Column,
    Glyphs,
    cut_end,
    cut_middle,
    flow,
    format_brief,
    format_part,
    format_rate,
    harmless,
    sparkline,
    table,
)
from eventflow.live.snapshot import Snapshot
from eventflow.log.layout import segment_paths
from eventflow.measuring_events import ProcessReading, ProcessSampled
from eventflow.origin_events import BreakerOpened, LimitChanged
from eventflow.vocabulary import (
    AttemptFailed,
    AttemptProgressed,
    ProcessStarted,
    RequestDelayed,
    RequestFailed,
    RequestQueued,
    RunStarted,
)
from tests.scripted_view import ATTEMPT, COMPLETED, RESPONSE, Script, seen, view_of
from tests.synthetic_log import write_run

ESCAPE = "\x1b[31mred\x9b2J\u202e"


class Ran:
    """The command line, run inside this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        self._monkeypatch.setattr(sys, "argv", ["eventflow", *(() if "run" in arguments else ("top",)), *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, out, err


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ran:
    """The command, to be called."""
    return Ran(capsys, monkeypatch)


def test_a_pipe_gets_one_plain_frame(ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a RUN it is the newest one; no line is wider than COLUMNS, and there is no escape in it."""
    write_run(tmp_path, "serial", requests=20, start_ns=1_795_438_000_000_000_000)
    folder = write_run(tmp_path, "threads", requests=200, failure_share=0.1)
    monkeypatch.setenv("COLUMNS", "72")
    status, out, err = ran("--store", str(tmp_path))
    assert (status, err) == (0, "")
    assert out.startswith(f"{folder.run}  ● completed")
    assert "200 of 200  100 %" in out
    assert "https://files.exampl" in out
    assert "FAILED TRIES" in out
    assert "\x1b" not in out
    assert max(cell_len(line) for line in out.splitlines()) <= 72
    assert ran(folder.run[-4:], "--once", "--store", str(tmp_path))[1] == out
    monkeypatch.setenv("COLUMNS", "many")
    assert 72 < max(cell_len(line) for line in ran("--store", str(tmp_path))[1].splitlines()) <= 100


def test_json_is_one_line_that_does_nothing_to_a_terminal(ran: Ran, tmp_path: Path) -> None:
    """The names that programs rely on; of a run that has ended there is one line, with --once or without."""
    write_run(tmp_path, "threads", requests=50, failure_share=0.2, urls=lambda n: f"https://h.example/{n}é\x9b2J")
    status, out, err = ran("--json", "--store", str(tmp_path))
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert out.isascii()
    shown: dict[str, Any] = json.loads(out)
    promised = "run stage state requests total completed failed states bytes requests_per_second bytes_per_second"
    assert set(f"{promised} seconds_left flights origins last_errors machine courses".split(" ")) <= set(shown)
    assert (shown["state"], shown["requests"]) == ("completed", 50)
    assert "é\x9b2J" in shown["last_errors"][0]["url"]


def test_a_killed_run_says_how_to_go_on(ran: Ran, tmp_path: Path) -> None:
    """With what was in flight when it was killed."""
    folder = write_run(tmp_path, "threads", requests=200, stop_seconds=0.2, killed=True)
    status, out, _ = ran("--store", str(tmp_path))
    assert status == 0
    assert "● killed" in out
    assert "requesting" in out
    assert f"eventflow resume {folder.run}" in out


def test_what_is_wrong_is_one_line_and_a_status(ran: Ran, tmp_path: Path) -> None:
    """A run that is not there, an interval that cannot be; damage is shown, and is the store's fault."""
    status, _, err = ran("--store", str(tmp_path))
    assert (status, err.count("\n"), err.startswith("eventflow: no run 'latest' in ")) == (2, 1, True)
    folder = write_run(tmp_path, "serial", requests=20)
    status, _, err = ran("nonsense", "--store", str(tmp_path))
    assert (status, err.count("\n")) == (2, 1)
    status, _, err = ran("--interval", "1us", "--store", str(tmp_path))
    assert (status, err) == (2, "eventflow: --interval '1us' is too short: give 50ms or more\n")
    (segment,) = segment_paths(folder.log)
    data = segment.read_bytes()
    segment.write_bytes(data[: len(data) // 2] + b"X" + data[len(data) // 2 + 1 :])
    status, out, err = ran("--store", str(tmp_path))
    assert status == 3
    assert "● damaged" in out
    assert err.startswith("eventflow: ")
    assert str(segment) in err


@pytest.mark.parametrize("other", ["--quiet", "--json"])
def test_live_does_not_go_with_showing_nothing(ran: Ran, tmp_path: Path, other: str) -> None:
    """It is refused before anything is done."""
    status, _, err = ran("run", "serial", "http://h.example/", "--live", other, "--store", str(tmp_path / "store"))
    assert (status, err) == (2, f"eventflow: --live does not go with {other}: leave one of them out\n")
    assert not (tmp_path / "store").exists()


def test_an_empty_run_has_not_started(ran: Ran, tmp_path: Path) -> None:
    """Between the making of its folder and its first event."""
    folder = write_run(tmp_path, "serial", requests=1)
    for segment in segment_paths(folder.log):
        segment.unlink()
    status, out, _ = ran("--store", str(tmp_path))
    assert (status, "● starting" in out) == (0, True)


# ------------------------------------------------------------------------------------------------------------ drawing


def busy(text: str = "") -> Snapshot:
    """A snapshot with something in every part; `text` is in each text of the log."""
    script = Script()
    name = "http://h.example"
    lines = [
        script.run(RunStarted(stage="director", workers=2)),
        script.run(ProcessStarted(pid=1, role="main")),
        script.run(
            ProcessSampled(
                memory_bytes=1 << 26,
                memory_kind="pss",
                cpu_seconds=1.0,
                processes=(ProcessReading(1, 1 << 25, 0.5, 4), ProcessReading(2, 1 << 25, 0.5, 4)),
                sampling_seconds=0.0,
            )
        ),
        script.line("origin-1", LimitChanged(origin=name, limit=8, in_flight=1)),
        script.line("origin-1", BreakerOpened(origin=name + text, seconds=60.0)),
    ]
    for number in range(40):
        url = f"http://h{number % 9}.example/a/long/path/{text}/{number:06}.bin"
        stream = f"request-{number}"
        lines.append(script.line(stream, RequestQueued(number=number, url=url, name="n")))
        lines.append(script.line(stream, ATTEMPT, number / 10))
        if number % 4 == 1:
            lines.append(script.line(stream, RESPONSE, 5.0))
            lines.append(script.line(stream, AttemptProgressed(bytes=100 * number, seconds=1.0), 6.0))
        elif number % 4 == 2:
            lines.append(script.line(stream, AttemptFailed(error=f"E{text}", message=f"no {text}", seconds=1.0), 5.0))
            lines.append(script.line(stream, RequestDelayed(seconds=9.0, reason=f"why {text}"), 5.0))
        elif number % 8 == 3:
            lines.append(script.line(stream, RequestFailed(error=f"E{text}", message=f"no {text}", seconds=1.0), 5.0))
        elif number % 8 == 7:
            lines.append(script.line(stream, COMPLETED, 6.0))
    view = view_of(*lines, total=50)
    return seen(view, 7.0, rows=50, problem=text or None)


def plain(lines: list[Text]) -> list[str]:
    """Without colours."""
    return [line.plain for line in lines]


def test_a_terminal_of_80_by_24_shows_every_part() -> None:
    """Header, states, hosts, processes, requests, errors, keys: 24 lines, none wider than 80."""
    lines = plain(frame(busy(), Look(80, 24, keys=True)))
    assert len(lines) == 24
    text = "\n".join(lines)
    for part in ("● running", "10 of 50  20 %", "DELAYED", "HOST", "PROCESS", "AGE", "FAILED TRIES", " q  leave"):
        assert part in text, part
    assert max(map(cell_len, lines)) <= 80


@given(width=st.integers(1, 220), height=st.one_of(st.none(), st.integers(1, 80)), keys=st.booleans(), data=st.data())
@settings(max_examples=80)
def test_a_frame_fits_whatever_the_size(width: int, height: int | None, keys: bool, data: st.DataObject) -> None:
    """No line is wider than the terminal, there are as many as it has, and no text of the log can steer it."""
    text = data.draw(st.sampled_from(["", ESCAPE, "漢字" * 20, "e\u0301\u200d🙂", "\n\r\t"]) | st.text(max_size=30))
    glyphs = data.draw(st.sampled_from([UNICODE, ASCII]))
    look = Look(width, height, glyphs, data.draw(st.sampled_from(["age", "stuck", "slow"])), keys)
    lines = plain(frame(busy(text), look))
    assert height is None or len(lines) == height
    for line in lines:
        assert cell_len(line) <= width
        assert line.isprintable()
        assert line.isascii() or not glyphs.is_ascii


def test_control_characters_are_shown_and_not_obeyed() -> None:
    """Escapes, C1 controls, line ends, and what turns the direction of writing."""
    assert harmless("http://é漢🙂/", UNICODE) == "http://é漢🙂/"
    assert harmless("a\x1b[2Jb\x9b\n\u202e", UNICODE) == r"a\x1b[2Jb\x9b\n\u202e"
    assert harmless("é\udc80", ASCII) == r"\xe9\udc80"


def test_a_silent_run_and_lost_events_are_told() -> None:
    """A run that says nothing for some seconds hangs, or its machine does; events must never be lost."""
    shown = seen(view_of(*Script().request(0, ATTEMPT)), 12.0)
    assert "no event for 12 s" in "\n".join(plain(frame(shown, Look(80, 24, keys=True))))
    odd = view_of(*Script().request(0), b'{"id":"01a2087f-7a22-7201-9ebf-ec1123af1f82","type":"run.started"}')
    assert "1 cannot be read" in "\n".join(plain(frame(seen(odd), Look(80))))


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_texts_that_are_too_long_are_cut(glyphs: Glyphs) -> None:
    """At their end, or in their middle; wide letters are never halved."""
    for text in ("abcdefghij", "漢字漢字漢字漢字", ""):
        for width in range(20):
            for cut in (cut_end, cut_middle):
                short = cut(text, width, glyphs)
                assert cell_len(short) <= width
                assert short == text or cell_len(text) > width
    assert cut_middle("http://h/000001.bin", 12, UNICODE) == "http…001.bin"


def test_sparklines_go_from_zero_to_the_highest() -> None:
    """Recent values are cut at the left, whole courses squeezed."""
    assert sparkline([0, 1, 2, 4], 10, UNICODE, squeeze=False) == "▁▃▅█"
    assert sparkline([9, 9, 0, 1], 2, UNICODE, squeeze=False) == "▁█"
    assert sparkline([9, 9, 0, 1], 2, UNICODE, squeeze=True) == "█▂"
    assert sparkline([0, 0], 5, ASCII, squeeze=False) == "  "
    assert sparkline([], 5, UNICODE, squeeze=False) == ""


def test_columns_without_room_are_left_out_the_least_wanted_first() -> None:
    """The rest keeps its order, and the flexible one takes what is left."""
    columns = [Column("NUMBER", keep=1, right=True), Column("URL", keep=9, flex=1), Column("STATE", keep=5)]
    rows = [["1", "http://example.org/long", "running"]]
    shown = {width: plain(table(columns, rows, width, UNICODE)) for width in (50, 24, 17, 8)}
    assert shown[50] == ["NUMBER  URL                      STATE", "     1  http://example.org/long  running"]
    assert shown[24] == ["URL              STATE", "http://example…  running"]
    assert shown[17] == ["URL       STATE", "http://…  running"]
    assert shown[8] == ["URL", "http://…"]
    assert plain(flow([Text("one"), Text("two"), Text("three")], 9)) == ["one  two", "three"]


def test_rows_are_shared_out() -> None:
    """Each part that has something gets a row first; nobody gets more than there is."""
    assert share_out({"origins": 9, "flights": 9, "errors": 9, "processes": 9}, 6) == {
        "origins": 1, "flights": 1, "errors": 0, "processes": 0,
    }  # fmt: skip
    rows = share_out({"origins": 2, "flights": 50, "errors": 3, "processes": 0}, 40)
    assert rows == {"origins": 2, "flights": 29, "errors": 3, "processes": 0}
    assert sum(rows.values()) + 2 * 3 == 40


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (format_brief(0.9996), "1.0 s"),
        (format_brief(9.96), "10 s"),
        (format_brief(59.6), "1m00s"),
        (format_brief(7199), "1h59m"),
        (format_rate(0.04), "0"),
        (format_rate(9.96), "10"),
        (format_part(1 << 20, 1 << 30), "1.0 MiB of 1.0 GiB"),
        (format_part(1 << 20, 4718592), "1.0 of 4.5 MiB"),
    ],
)
def test_amounts_are_brief(shown: str, wanted: str) -> None:
    """In few letters, and never two units too far."""
    assert shown == wanted
