"""Secrets are planted wherever a person or a server can put one; no byte that is exported holds any of them."""

import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.exporting import Exporter
from tests.support.faulty_collector import FaultyCollector

# Each is found only if it stands where it must not, whatever encodes it.
USER, PASSWORD, TOKEN, SIGNATURE = "u5erS3cret", "pa55S3cret", "t0kenS3cret", "s1gnS3cret"
BEARER, COOKIE, ANSWERED, COLLECTORS = "b3arerS3cret", "c00kieS3cret", "answ3rS3cret", "c0llectorS3cret"
SECRETS = (USER, PASSWORD, TOKEN, SIGNATURE, BEARER, COOKIE, ANSWERED, COLLECTORS)
QUERY = f"X-Amz-Signature={SIGNATURE}&sig={SIGNATURE}&access_token={TOKEN}&api_key={TOKEN}&page=2"


class Guarded(BaseHTTPRequestHandler):
    """A server whose answers hold secrets, too."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/moved":
            self._answer(302, Location=f"/there?{QUERY}")
        elif path == "/moved-away":
            self._answer(302, Location=f"http://{USER}:{PASSWORD}@127.0.0.1:9/nobody?{QUERY}#{TOKEN}")
        elif path == "/moved-to-nonsense":
            self._answer(302, Location=f"ftp://{USER}:{PASSWORD}@h/{TOKEN}?token={TOKEN}")
        elif path in {"/401", "/404", "/500"}:
            self._answer(int(path[1:]), **{"WWW-Authenticate": f'Bearer realm="{ANSWERED}"'})
        else:
            self._answer(200)

    def _answer(self, status: int, **headers: str) -> None:
        body = f"the body has {ANSWERED}".encode()
        self.send_response(status, "Because" if status == 200 else None)
        for name, value in {"Set-Cookie": f"session={COOKIE}", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is that of the library
        """Nothing."""


@contextmanager
def guarded() -> Iterator[str]:
    """The server; gives where it listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def urls(host: str) -> list[str]:
    """The same few answers, asked for with credentials and with secret parameters."""
    login = f"{USER}:{PASSWORD}@"
    paths = ("fine", "moved", "moved-away", "moved-to-nonsense", "401", "404", "500")
    return [
        *(f"http://{login}{host}/{path}?{QUERY}#{TOKEN}" for path in paths),
        f"http://{login}127.0.0.1:9/nobody?{QUERY}",
        f"https://{login}{host}/no-tls?{QUERY}",
        f"http://{host}/fine?redirect={quote(f'http://{login}{host}/?token={TOKEN}', safe='')}",
    ]


def forms(secret: str) -> list[bytes]:
    """As it is, and as `Authorization: Basic` has it."""
    basic = b64encode(f"{USER}:{PASSWORD}".encode())
    return [secret.encode(), *([basic, basic.rstrip(b"=")] if secret in {USER, PASSWORD} else [])]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("stage", ["serial", "subprocess", "loop", "director"])
def test_no_exported_byte_holds_a_secret(stage: str, protocol: str, tmp_path: Path) -> None:
    """Credentials, tokens and signatures in URLs, redirects, answers, commands, and for the collector itself.

    Traces, metrics and log records are looked at, byte by byte. Each kind of request was made, and some failed.
    """
    with guarded() as host, FaultyCollector() as server:
        exporter = Exporter(
            tmp_path,
            server.grpc if protocol == "grpc" else server.http,
            "guarded",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{COLLECTORS}",
        )
        (tmp_path / "urls.txt").write_text("\n".join(urls(host)))
        options = ["--retries", "0"] if stage == "director" else []
        if stage == "subprocess":
            options = ["--exec", f"echo -H 'Authorization: Bearer {BEARER}' --token {TOKEN} {{url}} {{path}}"]
        ended = exporter.run("run", stage, "--input", "urls.txt", "--otlp", "--otlp-logs", *options)
    assert ended.status == 1, ended.errors
    assert ended.result["completed"] >= 3
    assert ended.result["failed"] >= 5
    received = server.received
    assert set(received.requests) == {"traces", "metrics", "logs"}
    assert set(received.taken) == {span.key for span in exporter.spans()}
    assert any(COLLECTORS.encode() in head for head in received.heads)
    exported = b"\n".join(received.bodies)
    assert b"REDACTED" in exported
    assert [secret for secret in SECRETS for form in forms(secret) if form in exported] == []


def test_credentials_for_the_collector_are_not_shown(tmp_path: Path) -> None:
    """In its address, which is named when nobody is there, and in its headers."""
    exporter = Exporter(
        tmp_path,
        f"http://{USER}:{PASSWORD}@127.0.0.1:9/otlp?token={TOKEN}",
        "nobody",
        OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{COLLECTORS}",
    )
    with guarded() as host:
        ended = exporter.run("run", "serial", f"http://{host}/fine", "--otlp")
        again = exporter.run("export", "latest", "--to", "otlp")
    assert ended.status == 0
    assert again.status == 3
    kept = [path.read_text(errors="replace") for path in exporter.newest.path.rglob("*") if path.is_file()]
    said = "\n".join([ended.errors, again.errors, str(ended.result), str(again.result), *kept])
    assert "127.0.0.1:9" in said
    assert [secret for secret in SECRETS if secret in said] == []
