"""The names of files: safe on every disk, and never the same for two requests. Pure.

Invariants:
    a name is relative, stays below the output folder, and has no component that a disk would refuse or take for something else;
    the same input gives the same names, also on a resume;
    two requests never get one name, nor names that a case-insensitive or normalising disk takes for one.
"""

import re
import unicodedata
from hashlib import blake2b
from urllib.parse import unquote_to_bytes, urlsplit

from eventflow.errors import InvalidRequest, name_of

PART_SUFFIX = ".eventflow-part"
COMPONENT_BYTES_MAX = 255
NAME_BYTES_MAX = 1024
_INDEX = "index.html"
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"} | {f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"}
)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\ud800-\udfff]')


def name_from_url(url: str) -> str:
    """The name that a URL suggests: the last segment of its path, decoded and made safe; `index.html` where there is none.

    >>> name_from_url("https://example.org/a/b%20c.txt?x=1"), name_from_url("https://example.org/")
    ('b c.txt', 'index.html')
    """
    try:
        segment = urlsplit(url).path.rsplit("/", 1)[-1]
    except ValueError:
        segment = ""
    return safe_name(unquote_to_bytes(segment).decode("utf-8", "replace")) if segment else _INDEX


def safe_name(text: str) -> str:
    """One path component, as close to `text` as is safe."""
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", text)).rstrip(". ").lstrip(" ")
    if not name.strip("."):
        return _INDEX if not name else "_" * len(name)
    if _is_reserved(name) or name.endswith(PART_SUFFIX):
        name = f"_{name}" if _is_reserved(name) else f"{name}_"
    return _shorten(name, COMPONENT_BYTES_MAX)


def check_name(name: str) -> str | None:
    """What is wrong with a name that a list gives, None if nothing is. It may have folders: `a/b/c.txt`."""
    if len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES_MAX:
        return f"longer than {NAME_BYTES_MAX} bytes"
    if name.startswith("/"):
        return "an absolute path"
    for component in name.split("/"):
        if problem := _check_component(component):
            return problem
    return None


class Names:
    """Gives each request of a run its name, in the order of the input. About 100 bytes a request."""

    def __init__(self) -> None:
        self._files: set[bytes] = set()
        self._folders: set[bytes] = set()

    def take(self, number: int, wanted: str | None, url: str) -> str:
        """The name of request `number`: the one that the list gives, else from the URL, with the number where that is taken.

        Raises:
            InvalidRequest: the list's name is not safe.
        """
        if wanted:
            if problem := check_name(wanted):
                raise InvalidRequest(name_of(wanted), f"not a safe name for a file ({problem})")
            name = wanted
        else:
            name = name_from_url(url)
        attempt = 0
        candidate = name
        while not self._is_free(candidate):
            candidate = _with_suffix(name, f"~{number}" if attempt == 0 else f"~{number}-{attempt}")
            attempt += 1
        self._files.add(_key(candidate))
        self._folders.update(_folder_keys(candidate))
        return candidate

    def _is_free(self, name: str) -> bool:
        key = _key(name)
        return key not in self._files and key not in self._folders and self._files.isdisjoint(_folder_keys(name))


def _check_component(component: str) -> str | None:
    if component in ("", ".", ".."):
        return "'..' leaves the output folder" if component == ".." else "an empty or '.' folder in it"
    if _UNSAFE.search(component):
        return "a character in it that disks refuse"
    if component != component.rstrip(". "):
        return "a dot or a space at an end"
    if _is_reserved(component):
        return "a reserved name"
    if component.endswith(PART_SUFFIX):
        return f"{PART_SUFFIX} is for temporary files"
    if len(component.encode()) > COMPONENT_BYTES_MAX:
        return f"longer than {COMPONENT_BYTES_MAX} bytes"
    return None


def _is_reserved(component: str) -> bool:
    return component.split(".", 1)[0].rstrip(" ").lower() in _RESERVED


def _shorten(name: str, limit: int) -> str:
    """Cut the stem at a character, and keep the extension if it is a short one."""
    if len(name.encode()) <= limit:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 20:
        stem, dot, extension = name, "", ""
    room = limit - len((dot + extension).encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(". ") + dot + extension


def _with_suffix(name: str, suffix: str) -> str:
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.rpartition(".")
    if not stem:
        stem, dot, extension = last, "", ""
    room = COMPONENT_BYTES_MAX - len((suffix + dot + extension).encode())
    if room < 1:
        return _with_suffix(folder + slash + last.replace(".", "_"), suffix)
    return folder + slash + stem.encode()[:room].decode(errors="ignore") + suffix + dot + extension


def _key(name: str) -> bytes:
    """What makes two names one on some disk, in eight bytes."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    return blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _folder_keys(name: str) -> list[bytes]:
    parts = name.split("/")[:-1]
    return [_key("/".join(parts[: count + 1])) for count in range(len(parts))]
