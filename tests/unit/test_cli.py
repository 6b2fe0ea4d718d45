"""The commands: what they print for people, in a pipe and on a terminal, and for programs."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventflow.cli.main import main
from eventflow.log.runs import find_run, list_runs
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings

FILES = 12


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A server on which one file in four fails."""
    with start_origin(OriginSettings(files=FILES, size=2_000, faults={"500": 0.25}, seed=3)) as running:
        yield running


class Ran:
    """A folder with a store in it, and the command line run inside this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.store = folder, folder / ".eventflow"
        self._capsys, self._monkeypatch = capsys, monkeypatch
        monkeypatch.chdir(folder)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        self._monkeypatch.setattr(sys, "argv", ["eventflow", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, out, err


@pytest.fixture
def ran(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ran:
    """A working folder."""
    return Ran(tmp_path, capsys, monkeypatch)


@pytest.fixture
def one_run(ran: Ran, origin: Origin) -> dict[str, Any]:
    """One run of the loop over the origin's files."""
    origin.reset()
    (ran.folder / "urls.tsv").write_text("".join(f"{e.url}\t{e.name}\t{e.sha256}\n" for e in origin.entries()))
    status, out, err = ran("run", "loop", "--input", "urls.tsv", "--json")
    assert (status, err) == (1, "")
    summary: dict[str, Any] = json.loads(out)
    return summary


def test_json_has_the_promised_names(one_run: dict[str, Any]) -> None:
    """The object that programs rely on."""
    promised = "run stage requests completed failed cancelled bytes seconds requests_per_second"
    measured = "peak_memory_bytes cpu_seconds energy_joules events events_lost"
    assert set(f"{promised} {measured}".split(" ")) <= set(one_run)
    assert 0 < one_run["failed"] < FILES == one_run["requests"] == one_run["completed"] + one_run["failed"]


def test_a_run_says_its_energy_and_where_it_is_from(ran: Ran, one_run: dict[str, Any]) -> None:
    """Measured or modelled, never without that word; the views say the same, and so does the summary for people."""
    assert one_run["energy_joules"] > 0
    assert one_run["energy_kind"] in ("measured", "modelled")
    told = json.loads(ran("sql", "--format", "json", "SELECT energy_joules, energy_kind FROM runs")[1])
    assert told == [{"energy_joules": pytest.approx(one_run["energy_joules"]), "energy_kind": one_run["energy_kind"]}]
    assert f" J ({one_run['energy_kind']})" in ran("run", "loop", "http://127.0.0.1:1/")[2]


def test_a_run_keeps_its_labels(ran: Ran) -> None:
    """They are in run.json and can be asked for; the last one of a key counts."""
    labels = ("--label", "try=1", "--label", "for=me = you", "--label", "try=2")
    assert ran("run", "loop", "http://127.0.0.1:1/", "--quiet", *labels)[0] == 1
    (run,) = list_runs(ran.store)
    assert run.info().labels == {"try": "2", "for": "me = you"}
    assert ran("sql", "--format", "csv", "SELECT labels['try'] AS try FROM runs")[1] == "try\n2\n"


def test_a_program_with_a_secret_is_given_again(ran: Ran, origin: Origin) -> None:
    """Its arguments are kept without the secret, so a resume asks for them; with them it goes on."""
    origin.reset()
    (ran.folder / "urls.tsv").write_text("".join(f"{entry.url}\n" for entry in origin.entries()))
    program = "sh -c 'test $1 = --token=hunter2' upload --token=hunter2"
    ran("run", "subprocess", "--input", "urls.tsv", "--exec", program, "--quiet")
    assert b"hunter2" not in b"".join(path.read_bytes() for path in ran.store.rglob("*") if path.is_file())
    status, _, err = ran("resume", "latest")
    assert (status, "give it again with --exec" in err) == (2, True)
    ran(
        "run",
        "subprocess",
        "--input",
        "urls.tsv",
        "--exec",
        "sh -c 'true http://h/; exit 1 #x'",
        "--quiet",
        "--out",
        "b",
    )
    assert ran("resume", "latest")[0] == 2  # what was cut off behind the # is missing, too
    first = list_runs(ran.store)[0].run
    origin.reset()
    assert ran("resume", first, "--exec", program, "--quiet")[0] in (0, 1)
    count = f"SELECT count(*) AS n FROM requests WHERE error = 'ProgramFailed' AND run = '{first}'"
    assert ran("sql", "--format", "csv", count)[1] == "n\n0\n"


@pytest.mark.parametrize("label", ["alone", "=value", "two\n=lines", "x=" + "y" * 200])
def test_what_is_no_label_is_refused(ran: Ran, label: str) -> None:
    """The message says the form, and there is no run."""
    status, _, err = ran("run", "loop", "http://127.0.0.1:1/", "--label", label)
    assert status == 2
    assert "give KEY=VALUE" in err
    assert list_runs(ran.store) == []


def test_a_run_for_people_lists_the_failures_and_what_to_do(ran: Ran, origin: Origin, one_run: dict[str, Any]) -> None:
    """Each failure one line, then the totals, then the next command; all of it on standard error."""
    origin.reset()
    status, out, err = ran("run", "serial", "--input", "urls.tsv", "--out", "again")
    lines = err.splitlines()
    assert (status, out) == (1, "")
    assert sum(line.startswith("failed: http://127.0.0.1") for line in lines) == one_run["failed"]
    assert "500 Internal Server Error: it is the server's fault: resume when the server is well" in err
    assert f"{one_run['completed']} of {FILES} completed, {one_run['failed']} failed" in lines[-2]
    assert lines[-1].startswith("try the failed ones again with: eventflow resume ")


def test_many_failures_are_not_all_listed(ran: Ran) -> None:
    """The first twenty, and the query for the rest."""
    (ran.folder / "urls.txt").write_text("".join(f"http://127.0.0.1:1/{number}\n" for number in range(30)))
    status, _, err = ran("run", "threads", "--input", "urls.txt")
    assert status == 1
    assert err.count("connection refused") == 20
    query = err.split('… and 10 more: eventflow sql "')[1].split('"')[0]
    assert len(json.loads(ran("sql", "--format", "json", query)[1])) == 30


def test_quiet_says_nothing(ran: Ran, origin: Origin, one_run: dict[str, Any]) -> None:
    """Not even about failures: the status tells."""
    origin.reset()
    assert ran("run", "threads", "--input", "urls.tsv", "--quiet") == (1, "", "")


def test_urls_on_the_command_line_are_kept_for_a_resume_without_their_secrets(ran: Ran, origin: Origin) -> None:
    """What came from the command line or a pipe is copied into the run's folder, redacted."""
    entry = next(origin.entries())
    secret = entry.url.replace("http://", "http://user:hunter2@")
    assert ran("run", "serial", entry.url, secret, "--json")[0] in (0, 1)
    store = b"".join(path.read_bytes() for path in ran.store.rglob("*") if path.is_file())
    assert b"hunter2" not in store
    (run,) = list_runs(ran.store)
    for path in (ran.folder / "files").iterdir():
        path.unlink()
    status, out, _ = ran("resume", run.run, "--json")
    summary = json.loads(out)
    assert status == 1
    assert [failure["number"] for failure in summary["failures"]] == [1]
    assert "credentials were not kept; give the list again with --input" in summary["failures"][0]["message"]
    (ran.folder / "list.txt").write_text(f"{entry.url}\n{secret}\n")
    origin.reset()
    assert json.loads(ran("resume", run.run, "--input", "list.txt", "--json")[1])["requests"] == 2


def test_runs_and_their_states(ran: Ran, one_run: dict[str, Any]) -> None:
    """A line a run for people, an object for programs; a store without runs is empty and no error."""
    status, out, _ = ran("runs")
    header, line = (text.split("\t") for text in out.splitlines())
    assert status == 0
    assert (header[0], line[0], line[1], line[2]) == ("run", one_run["run"], "loop", "completed")
    (found,) = json.loads(ran("runs", "--json")[1])
    assert (found["requests"], found["completed"], found["state"]) == (FILES, one_run["completed"], "completed")
    assert ran("runs", "--store", "nowhere", "--json") == (0, "[]\n", "")


def test_a_run_that_nobody_writes_to_and_that_has_no_end_was_killed(ran: Ran, one_run: dict[str, Any]) -> None:
    """Its end is cut off here, as a kill does."""
    (path,) = find_run(ran.store, one_run["run"]).log.rglob("*.ndjson")
    lines = path.read_bytes().splitlines(keepends=True)
    commits = [place for place, line in enumerate(lines) if line.startswith(b'{"commit"')]
    path.write_bytes(b"".join(lines[: commits[-3] + 1]))
    assert json.loads(ran("runs", "--json")[1])[0]["state"] == "killed"


def test_events_are_chosen_by_stream_and_type(ran: Ran, one_run: dict[str, Any]) -> None:
    """For people a line each, for programs the event itself; following a run that ended gives all and ends."""
    _, out, _ = ran("events", "latest", "--stream", "request-0")
    types = [line.split()[3] for line in out.splitlines()]
    assert types[:3] == ["request.queued", "request.started", "attempt.started"]
    _, out, _ = ran("events", "latest", "--type", "request.failed", "--json")
    assert {json.loads(line)["type"] for line in out.splitlines()} == {"request.failed"}
    _, some, _ = ran("events", "latest", "--type", "request.*", "--follow")
    assert len(some.splitlines()) == 3 * FILES


def test_sql_prints_tables_json_csv_and_parquet(ran: Ran, one_run: dict[str, Any]) -> None:
    """And says what is wrong with a statement."""
    query = "SELECT state, count(*) AS n FROM requests GROUP BY state ORDER BY n DESC"
    assert ran("sql", query)[1].splitlines()[0] == "state\tn"
    assert json.loads(ran("sql", query, "--format", "json")[1])[0] == {"state": "completed", "n": one_run["completed"]}
    assert ran("sql", query, "--format", "csv")[1].splitlines()[1] == f"completed,{one_run['completed']}"
    assert ran("sql", query, "--format", "parquet", "--out", "x.parquet")[0] == 0
    assert (ran.folder / "x.parquet").read_bytes()[:4] == b"PAR1"
    assert ran("sql", query, "--format", "parquet")[0] == 2
    status, _, err = ran("sql", "SELECT nothing FROM nowhere")
    assert status == 2
    assert len(err.splitlines()) == 1
    assert "requests" in ran("sql", "--views")[1]
    assert "only the first" in ran("sql", "SELECT range FROM range(2000)")[2]


def test_verify_says_good_torn_or_damaged(ran: Ran, one_run: dict[str, Any]) -> None:
    """Exit 0, 0 and 3; damage is named by file, byte and line."""
    (path,) = find_run(ran.store, one_run["run"]).log.rglob("*.ndjson")
    good = path.read_bytes()
    status, out, _ = ran("verify", "latest")
    assert (status, "1 of 1 segments good" in out) == (0, True)
    path.write_bytes(good + b'{"id":"half a li')
    status, out, _ = ran("verify", "latest")
    assert (status, "the last 16 bytes, 0 whole events in them, were never acknowledged" in out) == (0, True)
    path.write_bytes(good.replace(b"request-1", b"request-2", 1))
    status, out, _ = ran("verify", "latest")
    assert status == 3
    assert f"damaged: {path.relative_to(ran.folder)}: damaged at byte " in out
    report = json.loads(ran("verify", "latest", "--json")[1])
    assert report["damaged"] == 1
    status, out, _ = ran("runs", "--json")
    assert (status, json.loads(out)[0]["state"]) == (0, "damaged")


def test_a_run_is_sealed_and_a_damaged_one_repaired(ran: Ran, one_run: dict[str, Any]) -> None:
    """Sealing says the sizes; repairing sets aside what verify has named, into a file, and then all is good."""
    assert ran("repair", "latest")[1] == f"{one_run['run']}: nothing to repair\n"
    (path,) = find_run(ran.store, one_run["run"]).log.rglob("*.ndjson")
    path.write_bytes(path.read_bytes() + b"noise\n")
    status, _, error = ran("sql", "FROM runs")
    assert (status, "eventflow repair" in error) == (3, True)
    status, out, _ = ran("repair", "latest")
    assert (status, "6 B with 0 events set aside in" in out) == (0, True)
    assert json.loads(ran("repair", "latest", "--json")[1])["set_aside"] == []
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.read_bytes() == b"noise\n"
    status, out, _ = ran("seal")
    assert (status, "became" in out) == (0, True)
    assert "nothing to seal" in ran("seal", "latest")[1]
    assert json.loads(ran("seal", "--json")[1]) == [{"run": one_run["run"], "segments": []}]
    assert ran("verify", "latest")[0] == 0
    assert json.loads(ran("runs", "--json")[1])[0]["completed"] == one_run["completed"]


def test_doctor_names_what_is_there_and_how_to_mend_the_rest(ran: Ran) -> None:
    """For people and for programs."""
    assert "python\tok" in ran("doctor")[1]
    assert {finding["state"] for finding in json.loads(ran("doctor", "--json")[1])} <= {"ok", "warn", "missing"}


def test_demo_compares_stages_and_writes_the_report(ran: Ran) -> None:
    """The table, the report's path, commands to go on with; JSON for programs."""
    status, out, _ = ran("demo", "--requests", "5", "--stages", "serial,loop", "--latency", "1ms", "--out", "r.html")
    assert status == 0
    assert "peak memory" in out
    assert str(ran.folder / "r.html") in out
    assert out.count("  eventflow ") == 5
    assert (ran.folder / "r.html").stat().st_size > 100_000
    status, out, _ = ran("demo", "--requests", "3", "--stages", "serial", "--faults", "0%", "--json")
    assert [(stage["stage"], stage["completed"]) for stage in json.loads(out)["stages"]] == [("serial", 3)]


def test_the_command_line_explains_its_errors_in_one_line(ran: Ran) -> None:
    """Wrong commands, options and values: status 2, what is wrong and where help is; no traceback."""
    for arguments in (
        ("nonsense",),
        ("run", "serial", "http://127.0.0.1:1/x", "--nonsense"),
        ("run", "serial"),
        ("run", "rocket", "http://127.0.0.1:1/x"),
        ("run", "serial", "http://127.0.0.1:1/x", "--workers", "4"),
        ("run", "loop", "http://127.0.0.1:1/x", "--exec", "true"),
        ("run", "subprocess", "http://127.0.0.1:1/x", "--exec", "'"),
        ("events", "no-such-run"),
        ("demo", "--stages", "rocket"),
        ("origin", "--faults", "boredom=1%"),
    ):
        status, out, err = ran(*arguments)
        assert (status, out) == (2, ""), arguments
        assert len(err.splitlines()) == 1, err
        assert err.startswith("eventflow: ")
    assert not ran.store.exists()


def terminal(*arguments: str, columns: int = 100) -> str:
    """What a terminal of that width shows."""
    try:
        leader, follower = pty.openpty()
    except OSError as missing:  # a container without /dev/pts
        pytest.skip(f"no terminal can be made here: {missing}")
    environment = os.environ | {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "30"}
    command = [sys.executable, "-m", "eventflow", *arguments]
    shown = b""
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
    ) as process:
        os.close(follower)
        while True:
            piece = b""
            with contextlib.suppress(OSError):  # what Linux says when the other side is closed
                piece = os.read(leader, 65_536)
            if not piece:
                break
            shown += piece
        process.wait()
    with contextlib.suppress(OSError):
        os.close(leader)
    return shown.decode()


def test_a_terminal_gets_bars_tables_and_colours_unless_it_says_no(
    ran: Ran, one_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moving bar for a run, a framed table for a query; no colours with NO_COLOR."""
    shown = terminal("run", "threads", "--input", "urls.tsv", "--out", "third")
    assert "━" in shown
    assert "\x1b[3" in shown
    assert "┃" in terminal("runs")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in terminal("run", "threads", "--input", "urls.tsv", "--out", "fourth")


def test_a_long_run_in_a_pipe_says_now_and_then_how_far_it_is(
    ran: Ran, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of plain text, without a terminal to move on."""
    monkeypatch.setattr("eventflow.cli.progress_view._LINE_SECONDS", 0.1)
    with start_origin(OriginSettings(files=10, size=100, latency_s=0.1)) as slow:
        (ran.folder / "slow.txt").write_text("".join(f"{entry.url}\n" for entry in slow.entries()))
        status, _, err = ran("run", "serial", "--input", "slow.txt")
    assert status == 0
    assert " of 10 done, 0 failed, " in err


def test_a_report_is_about_all_runs_unless_some_are_named(ran: Ran, one_run: dict[str, Any]) -> None:
    """And a store without runs says so."""
    status, out, _ = ran("report", "--out", "all.html")
    assert (status, out) == (0, f"{ran.folder / 'all.html'}\n")
    assert one_run["run"] in (ran.folder / "all.html").read_text()
    status, _, err = ran("report", "--store", "nowhere")
    assert (status, len(err.splitlines())) == (2, 1)
