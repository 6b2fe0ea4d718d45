"""Whatever a server does over several requests, each file is its own, or fails as the table says, and nothing leaks."""

import json
import os
import ssl
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from eventflow.event import Payload
from eventflow.log.reader import read_events
from eventflow.log.runs import list_runs
from eventflow.naming import name_problem, safe_name
from eventflow.vocabulary import AttemptFailed, AttemptResponse, AttemptStarted, RequestFailed, decode_payload
from tests.hostile.answering import ANSWERING, CHUNKED, POISON, STALE
from tests.hostile.going_on import GOING_ON
from tests.hostile.misleading import MISLEADING, NAMES
from tests.hostile.server import (
    BODY,
    Case,
    Close,
    Fails,
    Goodbye,
    Origin,
    Step,
    Stored,
    answer,
    on,
    origins,
    raw,
    redirect,
)
from tests.hostile_server import endless, pause, slowly

CASES = {**ANSWERING, **GOING_ON, **MISLEADING}
OPTIONS = ["--retries", "2", "--timeout", "1s", "--max-size", "16MiB", "--decode", "--concurrency", "1", "--json"]
SECRET = "hush-hush"
NEXT = "/next"


class Outcome:
    """One run of cases: for each of them its own request, and then another one to the same origin."""

    def __init__(
        self,
        folder: Path,
        cases: dict[str, Case],
        *options: str,
        stage: str = "director",
        contexts: dict[str, ssl.SSLContext] | None = None,
        trusted: Path | None = None,
    ) -> None:
        contexts = contexts or {}
        self.folder, self.files, self.names = folder, folder / "files", list(cases)
        with origins(cases, contexts) as served:
            self.origins: dict[str, Origin] = served
            lines = []
            for name, case in cases.items():
                place = f"{'https' if name in contexts else 'http'}://{case.login}127.0.0.1:{served[name].port}"
                lines += [f"{place}{case.path}\t{name}", f"{place.replace(case.login, '')}{NEXT}\t{name}.next"]
            (folder / "list").write_text("\n".join(lines) + "\n")
            places = ["-i", str(folder / "list"), "--out", str(self.files), "--store", str(folder / "store")]
            done = subprocess.run(
                [sys.executable, "-m", "eventflow", "run", stage, *places, *OPTIONS, *options],
                capture_output=True,
                text=True,
                check=False,
                timeout=100,
                env={**os.environ, **({"SSL_CERT_FILE": str(trusted)} if trusted is not None else {})},
            )
        self.status, self.told = done.returncode, done.stdout + done.stderr
        self.errors, self.summary = done.stderr, json.loads(done.stdout)
        (self.run,) = list_runs(folder / "store")
        self.stories: dict[str, list[Payload]] = defaultdict(list)
        for event in read_events(self.run.log):
            self.stories[event.stream].append(decode_payload(event))

    def story(self, name: str, *, is_next: bool = False) -> list[Payload]:
        """What happened to the request of a case."""
        return self.stories[f"request-{2 * self.names.index(name) + is_next}"]

    def stored(self, name: str) -> bytes | None:
        """The file."""
        path = self.files / name
        return path.read_bytes() if path.exists() else None

    def require(self, name: str, case: Case) -> None:
        """It became what it must."""
        end = self.story(name)[-1]
        if isinstance(case.must, Fails):
            assert isinstance(end, RequestFailed), case.rule
            assert (end.error, self.stored(name)) == (case.must.error, None), (case.rule, end.message)
        else:
            assert not isinstance(end, RequestFailed), (case.rule, end)
            assert self.stored(name) == case.must.body, case.rule


@pytest.fixture(scope="module", params=["director", "lineage"])
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run of all cases."""
    return Outcome(tmp_path_factory.mktemp("exchanges"), CASES, stage=request.param)


@pytest.mark.parametrize("name", CASES)
def test_each_case_ends_as_it_must(name: str, outcome: Outcome) -> None:
    """The body of this very request, or the error that says what was wrong, after as many tries as that is worth."""
    case = CASES[name]
    outcome.require(name, case)
    asked = outcome.origins[name].asked_for(case.path)
    assert case.attempts in (None, len(asked)), (case.rule, [one.head for one in asked])
    if case.ranges:
        assert tuple(one.header("Range") for one in asked) == case.ranges, case.rule
        assert all((one.header("Range") is None) == (one.header("If-Range") is None) for one in asked), case.rule
    if case.waits_s:
        assert asked[1].at_s - asked[0].at_s >= case.waits_s, case.rule


@pytest.mark.parametrize("name", CASES)
def test_the_next_request_gets_its_own_answer(name: str, outcome: Outcome) -> None:
    """What one response was does not change the next one, on the same connection or another (RFC 9112 §9.2)."""
    assert outcome.stored(f"{name}.next") == NEXT.encode(), outcome.story(name, is_next=True)[-1]


@pytest.mark.parametrize("name", STALE)
def test_a_dead_connection_is_no_failure(name: str, outcome: Outcome) -> None:
    """A kept connection that turns out to be dead is replaced, and that is no try (RFC 9112 §9.3.1)."""
    story = outcome.story(name, is_next=True)
    assert not [event for event in story if isinstance(event, AttemptFailed)]
    assert len([event for event in story if isinstance(event, AttemptStarted)]) == 1
    assert {asked.connection for asked in outcome.origins[name].asked} == {0, 1}


@pytest.mark.parametrize("name", ["asked-to-close", "keep-alive-and-close", "close-in-two-lines", "1.0-and-open"])
def test_close_is_heeded(name: str, outcome: Outcome) -> None:
    """After `close` nothing more is asked on a connection, though the server leaves it open (RFC 9112 §9.6)."""
    assert [(asked.connection, asked.turn) for asked in outcome.origins[name].asked] == [(0, 0), (1, 0)]


def test_a_good_connection_is_kept(outcome: Outcome) -> None:
    """That nothing is poisoned is not because nothing is kept."""
    for name in ("16-interim-responses", "128-headers", "chunks-of-one-byte", "trailer-behind-much", "gzip-in-members"):
        assert [(asked.connection, asked.turn) for asked in outcome.origins[name].asked] == [(0, 0), (0, 1)]


def test_credentials_stay_with_their_origin(outcome: Outcome) -> None:
    """Another origin is sent none, neither those of the list nor those of a Location (RFC 9110 §15.4)."""
    for asked in outcome.origins["elsewhere"].asked + outcome.origins["send-back"].asked:
        assert asked.header("Authorization") is None, asked
    first, second = outcome.origins["to-same-origin"].asked[:2]
    assert first.header("Authorization") == second.header("Authorization") != None  # noqa: E711
    sent = {asked.path: asked.header("Authorization") for asked in outcome.origins["there-and-back"].asked}
    assert sent["/it"] is not None
    assert sent["/back"] is None
    assert outcome.origins["to-other-host-same-port"].asked_for("/d")[0].header("Authorization") is None


def test_no_secret_is_told(outcome: Outcome) -> None:
    """Credentials, queries and headers of servers are neither in the log nor on the screen."""
    assert SECRET in (outcome.folder / "list").read_text()
    assert SECRET not in outcome.told
    written = [path for path in (outcome.folder / "store").rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_a_server_gives_is_made_safe(name: str, outcome: Outcome) -> None:
    """It is recorded as a plain name, or not at all, and the file keeps the name of the list."""
    _, wanted = NAMES[name]
    (response,) = (event for event in outcome.story(name) if isinstance(event, AttemptResponse))
    assert response.suggested_name == wanted
    if wanted is not None:
        assert name_problem(wanted) is None
        assert safe_name(wanted) == wanted


def test_nothing_else_is_left(outcome: Outcome) -> None:
    """The run ends in order; only the good files are there, none of them outside; memory stays small."""
    assert (outcome.status, outcome.errors, outcome.summary["state"]) == (1, "", "completed")
    good = {name for name, case in CASES.items() if isinstance(case.must, Stored)} | {f"{name}.next" for name in CASES}
    there = {str(path.relative_to(outcome.files)) for path in outcome.files.rglob("*")}
    kept = {name for name in there if name.startswith((".206-for-ever-wrong.", ".cut-for-ever."))}  # for a resume
    assert len(kept) == 2
    assert there - kept == good
    assert {path.name for path in outcome.folder.iterdir()} == {"files", "store", "list"}
    assert outcome.summary["peak_memory_bytes"] < 150 << 20


_LATE = Fails("DeadlinePassed")
DEADLINE = {
    "zeros": Case("RFC 9112 §7.1", _LATE, ((CHUNKED, *[on(slowly(b"0" * 8, 0.05))] * 8),)),
    "body": Case("no rate is too low", _LATE, ((answer(b"", length=99), *[on(slowly(b"x" * 8, 0.05))] * 8),)),
    "silence": Case("no wait is too long", _LATE, ((on(pause(b"", seconds=3)),),)),
    "large": Case("the same", _LATE, ((answer(BODY * 300, length=10 << 20), on(pause(b"", seconds=3))),)),
}
WAITING = {
    "waiting": Case(
        "the server says when to come again, which would be too late",
        _LATE,
        ((answer(b"", "Retry-After: 2", status="503 Busy"),), (answer(),)),
    )
}
DEADLINE_ONLY = ["--request-deadline", "1s", "--timeout", "1min", "--min-rate", "0"]


def test_a_deadline_ends_what_nothing_else_does(tmp_path: Path) -> None:
    """With every other limit out of the way, --request-deadline is one."""
    outcome = Outcome(tmp_path, DEADLINE, *DEADLINE_ONLY)
    for name, case in DEADLINE.items():
        outcome.require(name, case)


def test_a_deadline_ends_a_wait_between_tries(tmp_path: Path) -> None:
    """A request that has to wait for longer than it may take has failed."""
    Outcome(tmp_path, WAITING, *DEADLINE_ONLY).require("waiting", WAITING["waiting"])


def _robots(rule: str, must: Stored | Fails, *script: Step) -> Case:
    return Case(rule, must, ((answer(),),), attempts=None, more={"/robots.txt": script})


_LEFT, _UNKNOWN = Fails("RobotsDisallow"), Fails("RobotsUnavailable")
ROBOTS = {
    "robots-forbids": _robots("RFC 9309 §2.2.2", _LEFT, answer(b"User-agent: *\nDisallow: /it")),
    "robots-503": _robots("§2.3.1.4: unreachable", _UNKNOWN, answer(status="503 Busy")),
    "robots-closed": _robots("§2.3.1.4", _UNKNOWN, Close),
    "robots-silent": _robots("§2.3.1.4", _UNKNOWN, on(pause(b"", seconds=1.6))),
    "robots-malformed": _robots("§2.3.1.4", _UNKNOWN, raw("HTTP/1.1 200 OK", "Content-Length: 3, 4", body=b"abc")),
    "robots-404": _robots("§2.3.1.3: there is none", Stored(), answer(status="404 Not Found")),
    "robots-to-itself": _robots("§2.3.1.2: five redirects, then there is none", Stored(), redirect("/robots.txt")),
    "robots-to-file": _robots("§2.3.1.2", Stored(), redirect("file:///etc/passwd")),
    "robots-noise": _robots("§2.3: what is malformed is skipped", Stored(), answer(bytes(range(256)) * 99)),
    "robots-for-ever": _robots(
        "§2.5: 500 KiB count", Stored(), on(endless(raw("HTTP/1.1 200 OK"), b"Allow: /\n" * 999))
    ),
    "robots-huge": _robots(
        "§2.5", Stored(), on(endless(raw("HTTP/1.1 200 OK", "Content-Length: 99999999"), b"#\n" * 9999))
    ),
    "robots-stars": _robots("CWE-1333", Stored(), answer(b"User-agent: *\nDisallow: /" + b"*a" * 9999 + b"$")),
}


def test_no_robots_txt_can_stop_a_run(tmp_path: Path) -> None:
    """It is asked for once, and whatever comes, the requests go on or are left, as RFC 9309 says."""
    outcome = Outcome(tmp_path, ROBOTS, "--robots")
    for name, case in ROBOTS.items():
        outcome.require(name, case)
        assert outcome.stored(f"{name}.next") == (None if case.must == _UNKNOWN else NEXT.encode()), name
        asked = len(outcome.origins[name].asked_for("/robots.txt"))
        assert asked == (6 if name == "robots-to-itself" else 1), name


def _certificate(folder: Path, name: str, address: str, *, begin: str = "", end: str = "") -> ssl.SSLContext:
    """A certificate of its own making, for some time; made now, with a key that nobody keeps."""
    (folder / "ca.cnf").write_text(CA.format(folder=folder, address=address))
    (folder / "index").write_text("")
    (folder / "serial").write_text("01\n")
    key, request, path = (folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
    times = ["-startdate", begin or "20200101000000Z", "-enddate", end or "20991231000000Z"]
    files = ["-keyfile", str(key), "-in", str(request), "-out", str(path)]
    for arguments in (
        ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)],
        ["req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-out", str(request)],
        ["ca", "-batch", "-notext", "-selfsign", "-config", str(folder / "ca.cnf"), *files, *times],
    ):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return context


CA = """[ca]
default_ca = one
[one]
database = {folder}/index
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = names
x509_extensions = more
[names]
commonName = supplied
[more]
subjectAltName = {address}
"""

CERTIFICATES = {
    "expired": ("IP:127.0.0.1", "20200101000000Z", "20200201000000Z", "expired"),
    "not-yet": ("IP:127.0.0.1", "20980101000000Z", "20991231000000Z", "not yet valid"),
    "wrong-host": ("DNS:example.org", "", "", "mismatch"),
    "untrusted": ("IP:127.0.0.1", "", "", "self"),
}
TLS = {
    **POISON,
    **STALE,
    "to-plain": Case("RFC 9110 §15.4", Fails("BadRedirect"), ((redirect("http://127.0.0.1:{to-plain}/"),),)),
    "to-tls": Case("RFC 9110 §15.4", Stored(b"/there"), ((redirect("https://127.0.0.1:{kept}/there"),),)),
    "kept": Case("RFC 9112 §9.3", Stored(), ((answer(),),)),
    "cut-off": Case("RFC 9112 §9.8", Fails("ConnectionLost"), ((answer(length=9999), Close),), attempts=None),
    "without-a-length": Case("RFC 9112 §9.8", Stored(), ((raw("HTTP/1.1 200 OK", body=BODY), Goodbye),)),
    "without-a-length-cut-off": Case(
        "RFC 9112 §9.8: complete only if TLS ended, or whoever is between us could cut it",
        Fails("ConnectionLost"),
        ((raw("HTTP/1.1 200 OK", body=BODY), Close),),
        attempts=None,
    ),
}
PLAIN = {"to-tls"}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The same over TLS, and certificates that are wrong although their makers are trusted."""
    folder = tmp_path_factory.mktemp("secure")
    keys = folder / "keys"
    keys.mkdir()
    good = _certificate(keys, "good", "IP:127.0.0.1")
    contexts = {name: good for name in TLS if name not in PLAIN}
    for name, (address, begin, end, _) in CERTIFICATES.items():
        contexts[name] = _certificate(keys, name, address, begin=begin, end=end)
    trusted, makers = keys / "trusted", ["good", *CERTIFICATES]
    makers.remove("untrusted")
    trusted.write_text("".join((keys / f"{name}.pem").read_text() for name in makers))
    rejected = Case("RFC 9110 §4.3.4", Fails("CertificateRejected"), ((answer(),),), attempts=0)
    (folder / "run").mkdir()
    return Outcome(folder / "run", TLS | dict.fromkeys(CERTIFICATES, rejected), contexts=contexts, trusted=trusted)


@pytest.mark.part("openssl")
@pytest.mark.parametrize("name", TLS)
def test_tls_is_no_less_safe(name: str, secure: Outcome) -> None:
    """Over TLS as well each request gets its own answer, on kept connections too."""
    secure.require(name, TLS[name])
    assert secure.stored(f"{name}.next") == NEXT.encode(), secure.story(name, is_next=True)[-1]


@pytest.mark.part("openssl")
@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_that_does_not_check_ends_it(name: str, secure: Outcome) -> None:
    """Nothing is asked of whoever cannot prove who they are, and nobody tries again."""
    (end,) = (event for event in secure.story(name) if isinstance(event, RequestFailed))
    assert end.error == "CertificateRejected"
    assert CERTIFICATES[name][3] in end.message
    assert secure.origins[name].asked == []
    assert secure.stored(name) is None


@pytest.mark.part("openssl")
def test_a_tls_connection_is_kept(secure: Outcome) -> None:
    """That nothing is poisoned is not because nothing is kept."""
    kept = secure.origins["kept"]
    assert kept.connections == 1
    assert len(kept.asked) == 3
