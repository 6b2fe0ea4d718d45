"""Redaction: URLs and commands as they may be shown, logged and stored.

Everything that a person gave us passes through here before it reaches an event, a message or a file. The forces: a list of downloads is
full of presigned URLs and `user:password@`, many of them mistyped, and an event is kept for ever. So when in doubt, what may be a secret
goes, although a harmless word is lost with it.

Invariants:
    nothing here raises, whatever the text; the time is linear in its length;
    two URLs that differ only in a secret have the same redacted URL; redacting twice changes nothing more.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

REDACTED = "REDACTED"

# OpenTelemetry's list (semantic conventions, `url.full`: X-Amz-Signature, X-Amz-Credential, X-Amz-Security-Token, AWSAccessKeyId, Signature,
# sig, X-Goog-Signature) and what is commonly secret beside it, compared without case and punctuation. `code` is not in it: an OAuth code is
# spent within a minute, while lists of country, product and error codes are common. Page and continuation tokens grant nothing.
_SECRET_NAME = re.compile(
    r"sig|key|auth|pass|pwd|jwt|cookie|setcookie"
    r"|.*(?:secret|password|passwd|passphrase|signature|credentials?|authorization|sessionid|sessid|oauth"
    r"|(?:api|access|secret|private|shared|account)key|accesskeyid|(?<!page)(?<!continuation)token)",
)
_PUNCTUATION = re.compile(r"[^a-z0-9]+")
_PLAIN = re.compile(r"[^@?#;]*")
_SCHEME = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]{2,}")
_SLASHES = re.compile(r"[/\\]{2,}")
_AUTHORITY = re.compile(r"[^/\\?#]*")
_PATH = re.compile(r"[^?#]*")
_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::[0-9]*)?")
_PARAMETER = re.compile(r"[?;&]([^=?;&]*)=")
_NESTED_MAX = 3

_SEPARATOR = re.compile(r"[=:]")
_NAME_BEFORE = re.compile(r"([\w.\[\]-]+)[\"']?\s*\Z")
_NAME_WINDOW = 64
_BEARER = re.compile(r"\bbearer\s+", re.IGNORECASE)
_LOGIN = re.compile(r"[^\s/:@=]+:[^\s/@]+@")
_LOGIN_OPTIONS = ("-u", "-U", "--user", "--proxy-user")
_SCHEME_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-"


def redact_url(url: str) -> str:
    """The URL without its secrets: credentials and secret parameters say `REDACTED`, the fragment is gone. Never raises.

    Credentials are what every client takes for them (the authority up to its last `@`), and also what can only be meant as such in a URL
    that is malformed: a raw `@` or `/` in a password, a missing scheme. URLs inside the URL are treated alike.

    >>> redact_url("https://me:p@ss@example.org/a?X-Amz-Signature=1f2e&page=2#top")
    'https://REDACTED:REDACTED@example.org/a?X-Amz-Signature=REDACTED&page=2'
    """
    return _redact(url, _NESTED_MAX)


def has_secrets(url: str) -> bool:
    """Whether `redact_url` would take more than the fragment from it.

    >>> has_secrets("https://example.org/a?token=1"), has_secrets("https://example.org/a#b")
    (True, False)
    """
    return redact_url(url) != url.partition("#")[0]


def redact_command(argv: Sequence[str]) -> tuple[str, ...]:
    """An argument list as it may be recorded: URLs are redacted, and so is what follows a name that looks secret.

    An argument that holds `name=` or `name:` keeps what stands before the value and loses the rest; an option of such a name hides the
    argument after it. Never raises.

    >>> redact_command(["curl", "-H", "Authorization: Bearer x", "--token", "y", "http://me:z@h/"])
    ('curl', '-H', 'Authorization: REDACTED', '--token', 'REDACTED', 'http://REDACTED:REDACTED@h/')
    """
    shown: list[str] = []
    before = ""
    for argument in argv:
        hidden = _hides_next(before) or (before in _LOGIN_OPTIONS and ":" in argument)
        shown.append(REDACTED if hidden else _redact_argument(argument))
        before = "" if hidden else argument
    return tuple(shown)


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(_PUNCTUATION.sub("", unquote(name).lower())) is not None


def _redact(url: str, nested: int) -> str:
    if _PLAIN.fullmatch(url):
        return url
    scheme = _SCHEME.match(url)
    start = scheme.end() if scheme else 0
    url = _redact_login(url, start)
    # A URL inside a URL (an archive's, a proxy's, a doubled scheme) begins with slashes too.
    while (slashes := _SLASHES.search(url, start)) and url.find("@", slashes.end()) >= 0:
        start = slashes.end()
        url = _redact_login(url, start)
    return _redact_parameters(url.partition("#")[0], nested)


def _redact_login(url: str, start: int) -> str:
    """Redact the credentials of the authority that begins at `start`.

    The cases: an authority with `@` has credentials, and a further `@` in the path may end them, since a raw `/` is mistyped more easily
    than a path has an `@`; an authority that is no host and port, with an `@` anywhere after it, is the beginning of a broken password;
    any other authority has none.
    """
    authority = _end(_AUTHORITY, url, start)
    if url.find("@", start, authority) >= 0:
        end = url.rfind("@", start, _end(_PATH, url, start))
    elif _HOST_AND_PORT.fullmatch(url, start, authority):
        return url
    else:
        end = url.rfind("@", start)
    if end <= start:
        return url
    shown = f"{REDACTED}:{REDACTED}" if url.find(":", start, end) >= 0 else REDACTED
    return url[:start] + shown + url[end:]


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _redact_parameters(url: str, nested: int) -> str:
    first, *others = url.split("&")
    return "".join([_redact_parameter(first, nested), *(_redact_parameter(f"&{piece}", nested) for piece in others)])


def _redact_parameter(piece: str, nested: int) -> str:
    """Redact what stands between two `&`. After a secret name nothing is kept, because `;` and `?` may be part of its value."""
    for parameter in _PARAMETER.finditer(piece):
        if _is_secret(parameter[1]) or _is_secret_url(piece[parameter.end() :], nested):
            return piece[: parameter.end()] + REDACTED
    return piece


def _is_secret_url(value: str, nested: int) -> bool:
    """Whether a value is a percent-encoded URL with secrets of its own."""
    if not nested or "%" not in value:
        return False
    url = unquote(value)
    return ("//" in url or "%" in url) and _redact(url, nested - 1) != url.partition("#")[0]


def _hides_next(option: str) -> bool:
    return option.startswith("-") and not _SEPARATOR.search(option) and _is_secret(option)


def _redact_argument(argument: str) -> str:
    if _LOGIN.match(argument):
        argument = redact_url(argument)
    elif "://" in argument:
        before = argument[: argument.find("://")].rstrip(_SCHEME_LETTERS)
        argument = before + redact_url(argument[len(before) :])
    for option in _LOGIN_OPTIONS:
        if argument.startswith(option) and ":" in argument:
            return option + REDACTED
    ends = (separator.end() for separator in _SEPARATOR.finditer(argument) if _is_assignment(argument, separator))
    bearer = _BEARER.search(argument)
    end = min((*ends, bearer.end() if bearer else len(argument)))
    if end == len(argument):
        return argument
    blank = " " if argument[end].isspace() else ""
    return f"{argument[:end]}{blank}{REDACTED}"


def _is_assignment(argument: str, separator: re.Match[str]) -> bool:
    """Whether a secret-looking name stands before the separator, and a value that is not yet redacted after it."""
    # The window keeps this linear for an argument of a megabyte; a longer name is known by its end.
    name = _NAME_BEFORE.search(argument[max(0, separator.start() - _NAME_WINDOW) : separator.start()])
    value = argument[separator.end() : separator.end() + len(REDACTED) + 1]
    return name is not None and _is_secret(name[1]) and value.rstrip("&") != REDACTED and not value.startswith("//")
