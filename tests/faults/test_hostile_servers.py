"""Whatever a server sends, the request ends as the table says, nothing else is touched, and memory stays small."""

import json
import ssl
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from eventflow.event import Payload
from eventflow.log.reader import read_events
from eventflow.log.runs import list_runs
from eventflow.vocabulary import RequestFailed, decode_payload
from tests.hostile_server import BODY, CASES, hostile_server, ok

OPTIONS = ["--retries", "0", "--timeout", "1s", "--max-size", "16MiB", "--decode", "--concurrency", "32", "--json"]


class Outcome:
    """What became of one run."""

    def __init__(self, stage: str, folder: Path, urls: list[str]) -> None:
        self.folder, self.urls = folder, urls
        (folder / "urls.txt").write_text("\n".join(urls) + "\n")
        command = [sys.executable, "-m", "eventflow", "run", stage, "-i", str(folder / "urls.txt"), *OPTIONS]
        places = ["--out", str(folder / "files"), "--store", str(folder / "store")]
        done = subprocess.run([*command, *places], capture_output=True, text=True, check=False, timeout=100)
        self.status, self.errors = done.returncode, done.stderr
        self.summary: dict[str, Any] = json.loads(done.stdout)
        (self.run,) = list_runs(folder / "store")
        self.stories: dict[str, list[Payload]] = defaultdict(list)
        for event in read_events(self.run.log):
            self.stories[event.stream].append(decode_payload(event))

    def end(self, number: int) -> Payload:
        """The last event of a request."""
        return self.stories[f"request-{number}"][-1]


@pytest.fixture(scope="module", params=["director", "lineage"])
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run of all cases."""
    with hostile_server() as port:
        urls = [f"http://127.0.0.1:{port}/{name}" for name in CASES]
        return Outcome(request.param, tmp_path_factory.mktemp("hostile"), urls)


@pytest.mark.parametrize("name", CASES)
def test_each_case_ends_as_it_must(name: str, outcome: Outcome) -> None:
    """The body that HTTP says it is, byte for byte, or the error that says what was wrong."""
    case, number = CASES[name], list(CASES).index(name)
    end, path = outcome.end(number), outcome.folder / "files" / name
    failed = end.error if isinstance(end, RequestFailed) else None
    assert failed == case.error, end
    assert (path.read_bytes() if path.exists() else None) == case.stored


def test_there_are_enough_of_them() -> None:
    """Sixty cases, at least."""
    assert len(CASES) >= 60
    assert all((case.stored is None) != (case.error is None) for case in CASES.values())


def test_nothing_else_is_left(outcome: Outcome) -> None:
    """The run ends in order; only the good files are there, none of them outside; memory stays small."""
    assert (outcome.status, outcome.errors, outcome.summary["state"]) == (1, "", "completed")
    good = sorted(name for name, case in CASES.items() if case.stored is not None)
    assert sorted(path.name for path in (outcome.folder / "files").rglob("*")) == good
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["files", "store", "urls.txt"]
    assert outcome.summary["peak_memory_bytes"] < 150 << 20


def _certificate(folder: Path, name: str, *options: str) -> ssl.SSLContext:
    """A self-signed certificate, made now."""
    key, path = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(path)]
    subprocess.run([*command, *files, *options], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return context


@pytest.mark.part("openssl")
@pytest.mark.parametrize(
    ("name", "options", "trusted", "error"),
    [
        ("good", ["-days", "1", "-subj", "/CN=a", "-addext", "subjectAltName=IP:127.0.0.1"], True, None),
        ("self-signed", ["-days", "1", "-subj", "/CN=a", "-addext", "subjectAltName=IP:127.0.0.1"], False, "self"),
        ("wrong-host", ["-days", "1", "-subj", "/CN=a", "-addext", "subjectAltName=DNS:example.org"], True, "mismatch"),
    ],
)
def test_a_certificate_that_does_not_check_ends_it(
    name: str, options: list[str], trusted: bool, error: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked of a server whose certificate is not for it, or of nobody's making."""
    context = _certificate(tmp_path, name, *options)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / f"{name}.pem"))

    def wrap(plain: Any) -> Any:
        return context.wrap_socket(plain, server_side=True)

    with hostile_server(wrap=wrap) as port:
        outcome = Outcome("director", tmp_path, [f"https://127.0.0.1:{port}/empty"])
    end = outcome.end(0)
    if error is None:
        assert not isinstance(end, RequestFailed), end
    else:
        assert isinstance(end, RequestFailed)
        assert (end.error, error in end.message) == ("CertificateRejected", True)


def test_ipv6(tmp_path: Path) -> None:
    """An address in brackets is an address."""
    try:
        with hostile_server("::1") as port:
            outcome = Outcome("director", tmp_path, [f"http://[::1]:{port}/http-1.0"])
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert (tmp_path / "files" / "http-1.0").read_bytes() == BODY
    assert outcome.status == 0


def test_the_table_makes_responses_by_the_rules() -> None:
    """Where a case does not say otherwise, its response is good HTTP."""
    assert ok(b"abc", "A: b") == b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nA: b\r\n\r\nabc"
