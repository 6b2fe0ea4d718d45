r"""Disposition: the file name that a server suggests, made safe. Pure.

Between a header that a stranger wrote and the output folder. The forces: servers write one name in six ways (RFC 6266,
RFC 8187, and four that are not HTTP but common), a name may try to lead out of the folder or to look like another kind
of file, and a header that is nonsense must cost nothing but the name. What is safe is decided in `eventflow.naming`.

What is read, the first that gives a usable name (RFC 6266 §4.3 puts `filename*` first):
    `filename*=UTF-8''caf%C3%A9.txt` RFC 8187, in UTF-8 or ISO-8859-1, with quotes around it as well. Another charset or
    a malformed escape makes it void;
    `filename*0*=…; filename*1=…` RFC 2231, which mail programs and Firefox know;
    `filename="…"` with the escapes `\"` and `\\` only, since any other backslash is meant to part folders; or without
    quotes, up to the next `;`. In it encoded words (`=?UTF-8?B?…?=`, RFC 2047) are decoded; failing these, `%20` and
    the like, when all of it is UTF-8 then. As Chrome does both;
    the parameter `name` of Content-Type, the same ways.
Of a parameter that is given twice the first counts.

Invariants:
    nothing here raises, whatever the bytes; the time is linear in their number;
    a name that is given passes `name_problem`, is what `safe_name` leaves as it is, and is in NFC.
"""

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from quopri import decodestring
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

from eventflow.naming import safe_name

SEGMENTS_MAX = 64  # of a continued parameter

# A value in quotes, or what stands up to the next semicolon. Possessive: a quote that is never closed costs one look.
_PARAMETER = re.compile(r'(?:^|;)[ \t]*+([^\s=;,"]++)[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^;]*+))', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_EXTENDED = re.compile(r"([A-Za-z0-9_-]+)'[^']*'(.*)", re.DOTALL)
_MALFORMED_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_WORD = re.compile(r"=\?([A-Za-z0-9_-]{1,40})(?:\*[^?]{0,40})?\?([BbQq])\?([^?\s]*+)\?=")
_BETWEEN_WORDS = re.compile(r"(?<=\?=)\s+(?==\?)")
_SEPARATOR = re.compile(r"[/\\]")
# No others: Python's decoders of idna, punycode and the like are slow or mean something else.
_CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "iso-8859-1": "latin-1", "us-ascii": "ascii"}
_OTHER_CHARSETS = [
    "iso-8859-2",
    "iso-8859-5",
    "iso-8859-15",
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "koi8-r",
    "gb2312",
    "gbk",
    "gb18030",
    "big5",
    "shift_jis",
    "euc-jp",
    "iso-2022-jp",
    "euc-kr",
]
_WORD_CHARSETS = _CHARSETS | dict(zip(_OTHER_CHARSETS, _OTHER_CHARSETS, strict=True))


def suggested_name(content_disposition: bytes | str, content_type: bytes | str = "") -> str | None:
    r"""The file name that these headers suggest, made safe; None when nothing usable is left.

    Of a path the last component counts, in the ways of Unix and Windows. Never raises.

    Args:
        content_disposition: the header's value, empty if there is none. A str is taken as ISO-8859-1, one character a
            byte, as transports give it; bytes are UTF-8 or else ISO-8859-1.
        content_type: the header of that name, whose `name` is the last resort.

    >>> suggested_name(b"attachment; filename=\"../x.txt\"; filename*=UTF-8''na%C3%AFve.txt")
    'naïve.txt'
    >>> suggested_name('attachment; filename="C:\\temp\\nul.txt"')
    '_nul.txt'
    """
    for header, parameter in ((content_disposition, "filename"), (content_type, "name")):
        for text in _candidates(_parameters(_text(header)), parameter):
            name = _usable(text)
            if name is not None:
                return name
    return None


def _text(header: bytes | str) -> str:
    """The header's characters: UTF-8 if that is what the bytes are, else ISO-8859-1."""
    try:
        data = header if isinstance(header, bytes) else header.encode("latin-1")
    except UnicodeEncodeError:
        return str(header)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _parameters(text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer(text):
        name, quoted, plain = match.groups()
        value = plain.strip().strip('"') if quoted is None else _ESCAPED.sub(r"\1", quoted)
        parameters.setdefault(name.lower(), value)
    return parameters


def _candidates(parameters: Mapping[str, str], name: str) -> Iterator[str]:
    """What may be meant, the best first."""
    extended = _extended(parameters.get(f"{name}*", ""))
    if extended is not None:
        yield extended
    continued = _continued(parameters, name)
    if continued is not None:
        yield continued
    plain = parameters.get(name)
    if plain is not None:
        yield _plain(plain)


def _extended(value: str) -> str | None:
    """RFC 8187 §3.2: charset, language and value; None if it is malformed."""
    match = _EXTENDED.fullmatch(value)
    charset = _CHARSETS.get(match[1].lower()) if match else None
    return _unescaped(match[2], charset) if match and charset else None


def _continued(parameters: Mapping[str, str], name: str) -> str | None:
    """RFC 2231 §3 and §4.1: segments from 0 on, each escaped or not; the first names the charset."""
    charset: str | None = None
    segments = []
    for number in range(SEGMENTS_MAX):
        key = f"{name}*{number}"
        escaped = parameters.get(f"{key}*")
        if escaped is None and key not in parameters:
            break
        if escaped is not None and number == 0:
            match = _EXTENDED.fullmatch(escaped)
            charset = _CHARSETS.get(match[1].lower()) if match else None
            escaped = match[2] if match else escaped
        if escaped is not None and charset is None:
            return None
        # The bytes of one character may be in two segments, so all are decoded together.
        segments.append(parameters[key].replace("%", "%25") if escaped is None else escaped)
    return _unescaped("".join(segments), charset or "utf-8") if segments else None


def _plain(value: str) -> str:
    if "=?" in value:
        return _ENCODED_WORD.sub(_word, _BETWEEN_WORDS.sub("", value))
    if "%" in value:
        unescaped = _unescaped(value, "utf-8")
        return value if unescaped is None else unescaped
    return value


def _word(match: re.Match[str]) -> str:
    """RFC 2047 §2: one encoded word's text; as it is if it cannot be decoded."""
    charset, encoding, text = _WORD_CHARSETS.get(match[1].lower()), match[2].lower(), match[3]
    if charset is None:
        return match[0]
    try:
        data = (
            b64decode(text + "=" * (-len(text) % 4), validate=True)
            if encoding == "b"
            else decodestring(text, header=True)
        )
        return data.decode(charset)
    except ValueError:
        return match[0]


def _unescaped(value: str, charset: str) -> str | None:
    if _MALFORMED_ESCAPE.search(value):
        return None
    try:
        # A character that stands there unescaped may be any; ISO-8859-1 has none beyond U+00FF, and then it is void.
        return unquote_to_bytes(value.encode(charset)).decode(charset)
    except UnicodeError:
        return None


def _usable(text: str) -> str | None:
    last = _SEPARATOR.split(text)[-1].strip()
    name = safe_name(normalize("NFC", last))
    return name if name.strip("_. ") else None
