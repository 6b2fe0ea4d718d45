"""What a collector's answer to an export means, and the one line that says so to a person."""

import re
from typing import Literal, NamedTuple

Verdict = Literal["taken", "again", "refused", "too large", "unsupported", "left out"]

_START = "start a collector there, or set OTEL_EXPORTER_OTLP_ENDPOINT to where one is"
_OTHER_PORT = "HTTP is usually on port 4318, gRPC on 4317: change the port or OTEL_EXPORTER_OTLP_PROTOCOL"
_CREDENTIALS = "set OTEL_EXPORTER_OTLP_HEADERS"
_WAIT = "it is tried again"
_USER = re.compile(r"[^\s/@]+@")


class Answer(NamedTuple):
    """What became of an export.

    `again`: the same may be taken later. `refused`: this, and perhaps only a part of it, is not liked. `unsupported`:
    nothing of its kind is taken there. `left out`: it was not sent, and will not be. `after_s` is how long
    the collector wants to be left alone.
    """

    verdict: Verdict
    problem: str = ""
    fix: str = ""
    after_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.problem}: {self.fix}"


TAKEN = Answer("taken")
LEFT_OUT = Answer("left out")


def of_status(endpoint: str, status: int, text: str) -> Answer:
    """The answer that an HTTP status other than 200 is; `text` is the beginning of its body."""
    match status:
        case 400 if "HTTPS server" in text:
            return Answer("again", f"{endpoint} speaks TLS only", "write https:// in OTEL_EXPORTER_OTLP_ENDPOINT")
        case 401 | 403 | 407:
            return Answer("again", f"{endpoint} wants other credentials (status {status})", _CREDENTIALS)
        case 404 | 405 | 501:
            return Answer("unsupported", f"{endpoint} takes no such data (status {status})", "check the path and port")
        case 413:
            return Answer("too large", f"{endpoint} finds the export too large", _WAIT)
        case 408 | 429 | 502 | 503 | 504:
            return Answer("again", f"{endpoint} is overloaded or not ready (status {status})", _WAIT)
        case _ if 300 <= status < 400:
            return Answer("again", f"{endpoint} sends on to another address (status {status})", "give that address")
        case _ if status < 500:
            return Answer("refused", f"{endpoint} refuses what is sent (status {status}{_said(text)})", _WAIT)
    return Answer("again", f"{endpoint} fails (status {status})", _WAIT)


def of_encoding(endpoint: str) -> Answer:
    """The SDK did not send it: its request would be larger than 64 MiB, or cannot be encoded."""
    return Answer("too large", f"what goes to {endpoint} is too large, or cannot be encoded", "it is sent in pieces")


def of_content(endpoint: str) -> Answer:
    """It answered 200, and not as OTLP says."""
    return Answer("again", f"{endpoint} answers, but is no collector", "check the port and path")


def of_partial(endpoint: str, rejected: int, text: str) -> Answer:
    """It took a part. OTLP does not say which, so all of it is sent again: with the same ids, that is harmless."""
    return Answer("refused", f"{endpoint} refused {rejected} of what was sent{_said(text)}", _WAIT)


def of_failure(endpoint: str, text: str) -> Answer:
    """There was no answer; `text` is what the library said, of which the words that tell the reason are looked for."""
    for words, problem, fix in _FAILURES:
        if any(word.lower() in text.lower() for word in words):
            return Answer("again", f"{endpoint} {problem}", fix)
    return Answer("again", f"{endpoint} cannot be reached{_said(text)}", _START)


_FAILURES = (
    (
        ("certificate verify failed", "certificate_verify_failed"),
        "has a certificate that is not trusted",
        "set OTEL_EXPORTER_OTLP_CERTIFICATE to the file of its CA",
    ),
    (
        ("wrong version number", "wrong_version_number", "record layer failure", "packet length too long"),
        "does not speak TLS",
        "write http:// in place of https://",
    ),
    (
        ("handshake", "ssl", "tls"),
        "and this side do not agree on TLS",
        "check http:// or https:// and the certificates",
    ),
    (
        ("http1.x server", "http2", "parsing http/2", "badstatusline", "bad status line", "unparseable"),
        "speaks another protocol",
        _OTHER_PORT,
    ),
    (("refused",), "has nobody listening", _START),
    (("name resolution", "not known", "dns", "nodename"), "has a host that is not known", "check the name"),
    (("timed out", "timeout", "deadline"), "does not answer in time", _WAIT),
    (
        ("reset", "disconnected", "aborted", "closed", "broken pipe", "eof"),
        "closes the connection without an answer",
        _OTHER_PORT,
    ),
    (("invalid url", "invalid schema", "failed to parse"), "is no address", "give http://HOST:4318"),
)


def of_grpc(endpoint: str, code: str, details: str) -> Answer:
    """The answer that a status of gRPC other than OK is."""
    match code:
        case "UNIMPLEMENTED":
            return Answer("unsupported", f"{endpoint} takes no such data", "check the port")
        case "UNAUTHENTICATED" | "PERMISSION_DENIED":
            return Answer("again", f"{endpoint} wants other credentials", _CREDENTIALS)
        case "INVALID_ARGUMENT" | "FAILED_PRECONDITION":
            return Answer("refused", f"{endpoint} refuses what is sent{_said(details)}", _WAIT)
        case "RESOURCE_EXHAUSTED" if "larger than max" in details:
            return Answer("too large", f"{endpoint} finds the export too large", _WAIT)
        case "RESOURCE_EXHAUSTED":
            return Answer("again", f"{endpoint} is overloaded", _WAIT)
        case "DEADLINE_EXCEEDED":
            return of_failure(endpoint, "deadline")
    return of_failure(endpoint, details)


def _said(text: str) -> str:
    """What somebody else said, in a line, without what may be credentials in an address."""
    line = _USER.sub("REDACTED@", " ".join(text.split()))[:120]
    return f", {line}" if line and line.isprintable() else ""
