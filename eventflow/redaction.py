"""Redaction: URLs and commands as they may be shown, logged and stored.

Everything that a person gave us passes through here before it reaches an event, a message or a file. The forces: a list
of downloads is full of presigned URLs and `user:password@`, many of them mistyped, and an event is kept for ever. So
when in doubt, what may be a secret goes, although a harmless word is lost with it.

Invariants:
    nothing here raises, whatever the text; the time is linear in its length;
    two URLs that differ only in a secret have the same redacted URL.
"""

import re
import shlex
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

REDACTED = "REDACTED"

# OpenTelemetry's list (semantic conventions, `url.full`: X-Amz-Signature, X-Amz-Credential, X-Amz-Security-Token,
# AWSAccessKeyId, Signature, sig, X-Goog-Signature) and what is commonly secret beside it, compared without case and
# punctuation. `code` is not in it: an OAuth code is spent within a minute, while lists of country, product and error
# codes are common. Page and continuation tokens grant nothing.
_SECRET_NAME = re.compile(
    r"sig|key|auth|pass|pwd|jwt|cookie|setcookie"
    r"|.*(?:secret|password|passwd|passphrase|signature|credentials?|authorization|sessionid|sessid|oauth"
    r"|(?:api|access|secret|private|shared|account)key|accesskeyid|(?<!page)(?<!continuation)token)",
)
_PUNCTUATION = re.compile(r"[^a-z0-9]+")
_PLAIN = re.compile(r"[^@?#;]*")
_SCHEME = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:[/\\]+|[/\\]{2,})")
_SLASHES = re.compile(r"[/\\]{2,}")
_AUTHORITY = re.compile(r"[^/\\?#]*")
_PATH = re.compile(r"[^?#]*")
_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::[0-9]*)?")
_PARAMETER = re.compile(r"[?;&]([^=?;&]*)=([^?;]*)")
_NESTED_MAX = 3

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")
_SEPARATOR = re.compile(r"[=:]")
_NAME_BEFORE = re.compile(r"([\w.\[\]-]+)[\"']?\s*\Z")
_NAME_WINDOW = 64  # characters; a longer name is known by its end, which keeps time and the cache small
_BEARER = re.compile(r"\bbearer(?=\s)", re.IGNORECASE)
_LOGIN = re.compile(r"[^\s/:@=]+:[^\s/@]+@")
_LOGIN_OPTIONS = ("-u", "-U", "--user", "--proxy-user")
_LOGIN_OPTION = re.compile(r"(-[uU]|--user=|--proxy-user=)[^:]*:")
_SCHEME_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-"


def redact_url(url: str) -> str:
    """The URL without its secrets: credentials and secret parameters say `REDACTED`, the fragment is gone.

    Never raises. Credentials are what every client takes for them (the authority up to its last `@`), and also what can
    only be meant as such in a malformed URL: a raw `@` or `/` in a password, a missing scheme. URLs inside the URL are
    treated alike.

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

    An argument that holds `name=` or `name:` keeps what stands before the value and loses the rest; an option of such a
    name hides the argument after it. One that is a command line itself (`sh -c '…'`) is treated as one. Never raises.

    >>> redact_command(["curl", "-H", "Authorization: Bearer x", "--token", "y", "http://me:z@h/"])
    ('curl', '-H', 'Authorization: REDACTED', '--token', 'REDACTED', 'http://REDACTED:REDACTED@h/')
    """
    return _redact_arguments(argv, _NESTED_MAX)


def _redact_arguments(argv: Sequence[str], nested: int) -> tuple[str, ...]:
    shown: list[str] = []
    before = ""
    for argument in argv:
        hidden = _hides_next(before) or (before in _LOGIN_OPTIONS and ":" in argument)
        shown.append(REDACTED if hidden else _redact_command_line(_redact_argument(argument), nested))
        before = "" if hidden else argument
    return tuple(shown)


def _redact_command_line(argument: str, nested: int) -> str:
    """An argument that consists of several words, as the command line that it may be."""
    if not nested or not any(letter.isspace() for letter in argument):
        return argument
    try:
        words = shlex.split(argument)
    except ValueError:  # a quote that is not closed
        words = argument.split()
    shown = _redact_arguments(words, nested - 1)
    return argument if list(shown) == words else shlex.join(shown)


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(_PUNCTUATION.sub("", unquote(name).lower())) is not None


def _redact(url: str, nested: int) -> str:
    if _PLAIN.fullmatch(url):
        return url
    return _redact_parameters(_redact_logins(url).partition("#")[0], nested)


def _redact_logins(url: str) -> str:
    """Redact the credentials of the URL, and of URLs inside it (an archive's, a proxy's, a doubled scheme)."""
    last = url.rfind("@")
    start = _end(_SCHEME, url, 0)
    pieces, done = [], 0
    while start < last:
        end = _login_end(url, start)
        if end > start:
            pieces += [url[done:start], f"{REDACTED}:{REDACTED}" if url.find(":", start, end) >= 0 else REDACTED]
            done = end
        slashes = _SLASHES.search(url, end)
        start = slashes.end() if slashes else last
    return "".join([*pieces, url[done:]])


def _login_end(url: str, start: int) -> int:
    """Where the `@` is that ends the credentials of the authority that begins at `start`; `start` when it has none.

    The cases: an authority with `@` has credentials, and a further `@` in the path may end them, since a raw `/` is
    mistyped more easily than a path has an `@`; an authority that is no host and port, with an `@` anywhere after it,
    is the beginning of a broken password;
    any other authority has none.
    """
    authority = _end(_AUTHORITY, url, start)
    if url.find("@", start, authority) >= 0:
        return url.rfind("@", start, _end(_PATH, url, start))
    if _HOST_AND_PORT.fullmatch(url, start, authority):
        return start
    return max(start, url.rfind("@", start))


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _redact_parameters(url: str, nested: int) -> str:
    first, *others = url.split("&")
    return "".join([_redact_parameter(first, nested), *(_redact_parameter(f"&{piece}", nested) for piece in others)])


def _redact_parameter(piece: str, nested: int) -> str:
    """Redact what stands between two `&`: all that follows a secret name, since `;` and `?` may be in its value."""
    for parameter in _PARAMETER.finditer(piece):
        if _is_secret(parameter[1][-3 * _NAME_WINDOW :]) or _is_secret_url(parameter[2], nested):
            return piece[: parameter.start(2)] + REDACTED
    return piece


def _is_secret_url(value: str, nested: int) -> bool:
    """Whether a value is a URL with secrets of its own, percent-encoded, perhaps more than once."""
    while nested and "%" in value:
        nested -= 1
        value = unquote(value)
        if "//" in value and _redact(value, nested) != value.partition("#")[0]:
            return True
    return False


def _hides_next(argument: str) -> bool:
    """Whether an argument is a secret option, or a header whose value was not quoted together with it."""
    is_name = argument.endswith(":") or (argument.startswith("-") and not _SEPARATOR.search(argument))
    return is_name and _is_secret(argument[-_NAME_WINDOW:])


def _redact_argument(argument: str) -> str:
    if _URL.fullmatch(argument):
        return redact_url(argument)
    if login := _LOGIN_OPTION.match(argument):
        return login[1] + REDACTED
    end = _secret_start(argument)
    kept = _redact_urls(argument[:end])
    if end == len(argument):
        return kept
    return kept + ("" if argument[end - 1] == "=" else " ") + REDACTED


def _secret_start(argument: str) -> int:
    """Where the first value begins that follows a name that looks secret; the argument's length if there is none."""
    ends = (separator.end() for separator in _SEPARATOR.finditer(argument) if _is_assignment(argument, separator))
    bearer = _BEARER.search(argument)
    return min(next(ends, len(argument)), bearer.end() if bearer else len(argument))


def _redact_urls(text: str) -> str:
    if _LOGIN.match(text):
        return redact_url(text)
    if "://" not in text:
        return text
    before = text[: text.find("://")].rstrip(_SCHEME_LETTERS)
    return before + redact_url(text[len(before) :])


def _is_assignment(argument: str, separator: re.Match[str]) -> bool:
    """Whether a secret-looking name stands before the separator."""
    if argument.startswith("://", separator.start()):
        return False
    name = _NAME_BEFORE.search(argument[max(0, separator.start() - _NAME_WINDOW) : separator.start()])
    return name is not None and _is_secret(name[1])
