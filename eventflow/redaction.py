"""Taking the secrets out of what is about to be recorded, shown or named. Pure, and never raises.

Invariants:
    no credential of a URL and no value of a key that looks secret is in the result, whatever the input.
"""

import re
from collections.abc import Iterable
from urllib.parse import unquote

REDACTED = "REDACTED"

# The keys that OpenTelemetry redacts by default (semantic conventions for HTTP, `url.full`), and those that people put secrets under.
_SECRET_KEYS = frozenset(
    """x-amz-signature x-amz-credential x-amz-security-token awsaccesskeyid signature sig x-goog-signature x-goog-credential
    token access_token refresh_token id_token auth authorization api_key apikey api-key key password passwd pwd secret client_secret
    session sessionid jwt""".split()
)
_SECRET_OPTION = re.compile(
    r"(?i)^(--?[\w-]*(?:token|secret|password|passwd|auth|api-?key|credential|header|cookie)[\w-]*|[\w-]*(?:token|secret|password|api_?key)[\w-]*)(=|$)"
)
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*:")


def redact_url(url: str) -> str:
    """The URL without credentials, secret values of its query, and fragment.

    >>> redact_url("https://user:pw@example.org/a?sig=1&page=2#top")
    'https://REDACTED:REDACTED@example.org/a?sig=REDACTED&page=2'
    """
    text = url.split("#", 1)[0]
    text, mark, query = text.partition("?")
    return _redact_userinfo(text) + mark + _redact_query(query)


def has_secrets(url: str) -> bool:
    """Whether redacting the URL takes more out of it than a fragment."""
    return redact_url(url) != url.split("#", 1)[0]


def redact_command(argv: Iterable[str]) -> tuple[str, ...]:
    """A command's arguments without secrets: URLs redacted, and the values of options whose names speak of secrets."""
    redacted: list[str] = []
    hide_next = False
    for argument in argv:
        option = _SECRET_OPTION.match(argument)
        if hide_next:
            redacted.append(REDACTED)
        elif option and option[2]:
            redacted.append(f"{option[1]}={REDACTED}")
        else:
            redacted.append(_redact_urls_in(argument))
        hide_next = bool(option and not option[2] and argument.startswith("-") and not hide_next)
    return tuple(redacted)


def _redact_urls_in(argument: str) -> str:
    return redact_url(argument) if "@" in argument or "://" in argument else argument


def _redact_userinfo(text: str) -> str:
    """Everything up to the last `@` of the authority is userinfo: a password may itself hold `@`, `/` or `:`.

    A URL whose path holds an `@` after a `/` is common (`/@scope/pkg`), so there only what stands before the first slash of the path
    counts, unless a password with a slash can be seen (`user:p/w@host`).
    """
    scheme = _SCHEME.match(text)
    start = scheme.end() if scheme and text[scheme.end() :].startswith("/") else 0
    while start < len(text) and text[start] in "/\\":
        start += 1
    end = min((place for place in (text.find("/", start), text.find("\\", start)) if place >= 0), default=len(text))
    at = text.rfind("@", start, end)
    if at < 0:
        later = text.find("@", end)
        if later < 0 or not re.match(r"[^/@]*:\D", text[start:end]):
            return text
        at = later
    userinfo = text[start:at]
    return text[:start] + (f"{REDACTED}:{REDACTED}" if ":" in userinfo else REDACTED) + text[at:]


def _redact_query(query: str) -> str:
    return "".join(map(_redact_field, re.split(r"([&;])", query)))


def _redact_field(field: str) -> str:
    key, equals, _ = field.partition("=")
    return f"{key}={REDACTED}" if equals and unquote(key).strip().lower() in _SECRET_KEYS else field
