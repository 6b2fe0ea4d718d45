"""The origin as a process: quickly there, never there for longer than the one that started it."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from eventflow.errors import UsageError
from eventflow.origin.launch import OriginStartFailed, start_origin
from eventflow.origin.settings import OriginSettings
from tests.unit.origin.talking import get, talk

COMMAND = [sys.executable, "-m", "eventflow", "origin"]


def wait_gone(pid: int) -> None:
    """Return when a process is no more; fail after ten seconds."""
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_ends_with_the_process_that_started_it() -> None:
    """Also after kill -9, when nothing could be cleaned up, and with a client still connected."""
    code = (
        "import time; from eventflow.origin.launch import start_origin\n"
        "from eventflow.origin.settings import OriginSettings\n"
        "with start_origin(OriginSettings()) as origin: print(origin.pid, origin.port, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, port = map(int, parent.stdout.readline().split())
        with socket.create_connection(("127.0.0.1", port)):
            parent.kill()
            wait_gone(pid)


def test_it_ends_with_its_context_although_clients_are_connected() -> None:
    """A kept connection and a stalled one hold nobody up."""
    with contextlib.ExitStack() as stack:
        with start_origin(OriginSettings(files=1, faults={"stall": 1.0}, stall_s=60)) as origin:
            for request in (b"", get(0)):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", origin.port)))
                connection.sendall(request)
            begun = time.monotonic()
        assert time.monotonic() - begun < 4.5  # after five it would have been killed
        wait_gone(origin.pid)


def test_it_listens_on_this_machine_only() -> None:
    """Nobody else reaches it unless asked for."""
    with start_origin(OriginSettings()) as origin:
        listening = [one for one in psutil.Process(origin.pid).net_connections() if one.status == psutil.CONN_LISTEN]
        assert [one.laddr.ip for one in listening] == ["127.0.0.1"]


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counters are reset on this machine, whatever http_proxy says."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert urllib.request.getproxies()["http"]
    with start_origin(OriginSettings()) as origin:
        origin.reset()


def test_settings_that_cannot_be_served_start_nothing() -> None:
    """They are looked at before there is a process."""
    with pytest.raises(UsageError), start_origin(OriginSettings(files=0)):
        pass


def test_a_start_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is not there, or the process ends before it listens."""
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(OriginStartFailed, match="did not start"), start_origin(OriginSettings()):
        pass


@contextlib.contextmanager
def command(*options: str) -> Iterator["subprocess.Popen[str]"]:
    """`eventflow origin` with these options; ended with Ctrl-C, which must be quiet and give status 0."""
    with subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield server
        finally:
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(ValueError):  # a test may have closed the output
                _, err = server.communicate(timeout=10)
                assert (server.returncode, err) == (0, "")


def test_the_command_says_where_it_listens_and_writes_the_list(tmp_path: Path) -> None:
    """One line; Ctrl-C ends it with 0, also with a client; a port in use is an error of one line."""
    manifest = tmp_path / "urls.tsv"
    with command("--files", "3", "--manifest", str(manifest), "--bandwidth", "1MiB/s") as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert "serves 3 files" in line
        port = int(line.split("/")[2].split(":")[1])
        names = [text.split("\t")[1] for text in manifest.read_text().splitlines()]
        assert names == ["000000.bin", "000001.bin", "000002.bin"]
        assert list(tmp_path.iterdir()) == [manifest]
        with socket.create_connection(("127.0.0.1", port)):
            assert talk(port, get(2, "Connection: close\r\n")).status == 200
            again = subprocess.run(
                [*COMMAND, "--port", str(port)], capture_output=True, text=True, check=False, timeout=30
            )
            assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
            assert "(Address already in use): choose another with --host or --port" in again.stderr
            server.send_signal(signal.SIGINT)
            assert server.wait(10) == 0


def test_the_list_can_be_piped_while_the_files_are_served() -> None:
    """Standard output has the list and its end; where the server listens is said on standard error."""
    with subprocess.Popen(
        [*COMMAND, "--files", "2", "--manifest", "-", "--host", "::1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        lines = server.stdout.read().splitlines()
        assert [line.split("\t")[1] for line in lines] == ["000000.bin", "000001.bin"]
        assert server.stderr.readline().startswith("http://[::1]:")
        with urllib.request.urlopen(lines[0].split("\t")[0], timeout=5) as answer:
            assert answer.status == 200
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", ""), "--host is empty"),
        (("--host", "a..b"), "cannot be listened on"),
        (("--manifest", "no-such-folder/urls.tsv"), "cannot be written"),
        (("--manifest", "."), "cannot be written"),
        (("--bandwidth", "0"), "is no bandwidth at all"),
        (("--size-spread", "nan"), "size"),
        (("--faults", "boredom=1%"), "choose from refuse"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_one_line(options: tuple[str, ...], words: str) -> None:
    """And status 2."""
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (2, 1, "")
    assert words in done.stderr
