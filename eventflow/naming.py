"""Naming: which file a request is stored in, decided before anything is fetched.

Between the input, which may be written by a stranger, and the output folder. The forces: a name must not lead out of
the folder, must work on the disks that people have (Windows' rules, case-insensitive and normalising ones), and two
requests must never write one file, also when a run is resumed: so a name follows from the input alone, not from what is
on the disk.

Invariants:
    no two names that one `Names` gives are one file, and none is a folder of another: on any disk with `ignore_case`,
    without it on disks that tell apart what differs;
    every name passes `name_problem`; `safe_name` of anything does, and changes nothing that is safe already;
    the same requests in the same order get the same names.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from hashlib import blake2b
from unicodedata import normalize
from urllib.parse import unquote

from eventflow.errors import InvalidRequest, name_of
from eventflow.redaction import redact_command, redact_url

PART_SUFFIX = ".eventflow-part"
NAME_BYTES_MAX = 255
PATH_BYTES_MAX = 1024
_SHARDS = 1024

_INDEX = "index.html"
_STORE_FOLDER = ".eventflow"  # the default store: a list must not be able to overwrite a log
# Windows, "Naming Files, Paths, and Namespaces": with any extension, and with the superscript digits too.
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"]
)
# Control characters, line separators, the marks that change the direction of text (they make `exe.txt` of `txt.exe`),
# lone surrogates.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROL = re.compile(f"[{_CONTROLS}]")
# What is not seen, and can make two names look alike or one look like another: format characters (category Cf) and
# fillers. Not among them: the joiners U+200C and U+200D and the variation selectors, which are part of how words and
# emoji are spelled, and the few format characters that are seen (the signs of Arabic, Syriac and Kaithi). A list of our
# own, not Python's tables: names must be the same in every version.
_UNSEEN = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_UNSAFE = re.compile(f'[{_CONTROLS}/\\\\<>:"|?*{_UNSEEN}]')
_DRIVE = re.compile(r"[A-Za-z]:(?:/|\Z)")
_PATH = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*([^?#]*)")
_EXTENSION = re.compile(r"(?:\.tar)?\.[^.\s]{1,16}\Z")
# Code points that HFS+ does not see when it compares names (git's CVE-2014-9390).
_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])


def name_from_url(url: str) -> str:
    """The file name that a URL suggests: its last path segment, decoded once and made safe, or else `index.html`.

    Never raises, and a secret that stands in the path as a parameter (`a.txt;token=1`) is not part of the name.

    >>> name_from_url("https://example.org/a/caf%C3%A9.txt?page=2"), name_from_url("https://example.org/a/")
    ('café.txt', 'index.html')
    """
    path = _PATH.match(url)
    segment = (path[1] if path else url).rpartition("/")[2]
    if ";" in segment:
        segment = redact_url(segment)
    if "%" in segment:
        segment = unquote(segment, errors="replace")
    return _INDEX if segment in ("", ".", "..") else safe_name(segment)


def safe_name(text: str) -> str:
    """A file name as near to the text as is safe everywhere: no folder, at most 255 bytes of UTF-8, not hidden.

    >>> safe_name("../nul.txt"), safe_name("what?.tar.gz"), safe_name("")
    ('_._nul.txt', 'what_.tar.gz', '_')
    """
    name = _UNSAFE.sub("_", text).strip(" ").rstrip(" .") or "_"
    if name.startswith("."):
        name = f"_{name[1:]}"
    if _is_device(name):
        name = f"_{name}"
    if not name.isascii() or len(name) > NAME_BYTES_MAX:
        name = _fitted(*_split(name), NAME_BYTES_MAX)
    return f"{name[:-1]}_" if _folded(name).endswith(PART_SUFFIX) else name


def name_problem(name: str) -> str | None:
    """Why a relative name, with or without folders, cannot be a file's; None when it can.

    >>> name_problem("a/b.txt"), name_problem("../b.txt")
    (None, 'leads out of the output folder')
    """
    if _CONTROL.search(name):
        return "has a control character"
    if len(name.encode()) > PATH_BYTES_MAX:
        return f"is longer than {PATH_BYTES_MAX} bytes"
    if name.startswith("/") or _DRIVE.match(name):
        return "is absolute"
    if "\\" in name:
        return "has a backslash"
    return next(filter(None, map(_component_problem, name.split("/"))), None)


class Names:
    """Gives each request of one input its own file. Ask in the order of the input, from one thread at a time.

    Memory: 6 bytes for each file and each folder, 58 bits of BLAKE2b. Should two of a million names have the same 58
    (in 1 of half a million such lists), one of them only gets a suffix that it did not need.

    Args:
        ignore_case: take two names that differ in case or normal form for one, as the disks of macOS and Windows do.
    """

    def __init__(self, *, ignore_case: bool = True) -> None:
        self._key = _caseless_key if ignore_case else _exact_key
        self._files, self._folders = _Keys(), _Keys()

    def take(self, number: int, wanted: str | None, url: str) -> str:
        """The name of request `number`, relative to the output folder: the wanted one, or what the URL suggests.

        If another request has it, or has it as a folder, the request's number tells them apart:
        `stem~<number>.extension`.

        Raises:
            InvalidRequest: the wanted name is not safe; nothing is taken.
        """
        if wanted:
            problem = name_problem(wanted)
            if problem:
                # It may be another URL: some lists give mirrors in the second field.
                shown = redact_command([wanted])[0]
                raise InvalidRequest(redact_url(url), f"the name {name_of(shown)} {problem}")
        name = wanted or name_from_url(url)
        if "/" in name:
            return self._take_in_folder(number, name, url)
        key = self._key(name)
        if key in self._folders or not self._files.add(key):
            name, key = self._first_free("", name, number)
            self._files.add(key)
        return name

    def _take_in_folder(self, number: int, name: str, url: str) -> str:
        *parents, last = name.split("/")
        folder, folder_keys = "", []
        for parent in parents:
            path = f"{folder}{parent}"
            if self._key(path) in self._files:
                others = _alternatives(folder, parent, number)
                path = next(path for path in others if self._key(path) not in self._files)
            folder_keys.append(self._key(path))
            folder = f"{path}/"
        name, key = self._first_free(folder, last, number)
        if len(name.encode()) > PATH_BYTES_MAX:
            raise InvalidRequest(redact_url(url), f"the name {name_of(name)} is taken, and too long to be told apart")
        for folder_key in folder_keys:
            self._folders.add(folder_key)
        self._files.add(key)
        return name

    def _first_free(self, folder: str, last: str, number: int) -> tuple[str, int]:
        # It ends: the alternatives differ, and each that is taken was taken by another request.
        for path in _alternatives(folder, last, number, plain=True):
            key = self._key(path)
            if key not in self._files and key not in self._folders:
                return path, key
        raise AssertionError


class _Keys:
    """A set of 58-bit numbers in 6 bytes each, where Python's takes ten times as much.

    The lowest ten bits say which shard, whose numbers are sorted by the next 32, and the other 16 are beside them.
    """

    __slots__ = ("_count", "_rests", "_shards")

    def __init__(self) -> None:
        self._count = 0
        self._shards: list[array[int]] = [array("I") for _ in range(_SHARDS)]
        self._rests: list[array[int]] = [array("H") for _ in range(_SHARDS)]

    def __contains__(self, key: int) -> bool:
        return self._count > 0 and self._find(key)[0]

    def add(self, key: int) -> bool:
        """Whether it was not there before."""
        is_there, place = self._find(key)
        if not is_there:
            shard = key % _SHARDS
            self._shards[shard].insert(place, key // _SHARDS & 0xFFFFFFFF)
            self._rests[shard].insert(place, key >> 42 & 0xFFFF)
            self._count += 1
        return not is_there

    def _find(self, key: int) -> tuple[bool, int]:
        """Whether it is there, and the place in its shard where it is or would be."""
        shard, rests = self._shards[key % _SHARDS], self._rests[key % _SHARDS]
        middle, rest = key // _SHARDS & 0xFFFFFFFF, key >> 42 & 0xFFFF
        place = bisect_left(shard, middle)
        while place < len(shard) and shard[place] == middle:
            if rests[place] == rest:
                return True, place
            place += 1
        return False, place


def _alternatives(folder: str, name: str, number: int, *, plain: bool = False) -> Iterator[str]:
    """`name`, `stem~7.ext`, `stem~7~2.ext`, `stem~7~3.ext` …, each cut to 255 bytes, in the folder."""
    if plain:
        yield folder + name
    stem, extension = _split(name)
    tail, again = f"~{number}", 1
    while True:
        yield folder + _fitted(stem, tail + extension, NAME_BYTES_MAX)
        again += 1
        tail = f"~{number}~{again}"


def _exact_key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


def _caseless_key(name: str) -> int:
    """The same for two names that some disk takes for one: canonical caseless matching (Unicode §3.13, D145)."""
    return _exact_key(_folded(name))


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else normalize("NFC", normalize("NFD", name.translate(_IGNORED)).casefold())


def _component_problem(name: str) -> str | None:
    if name == "":
        return "has an empty part"
    if name in (".", ".."):
        return "leads out of the output folder"
    if name[-1] in " .":
        return "has a part that ends in a dot or a space, which Windows drops"
    if len(name.encode()) > NAME_BYTES_MAX:
        return f"has a part longer than {NAME_BYTES_MAX} bytes"
    if _is_device(name):
        return "is a device on Windows"
    folded = _folded(name)
    if folded.endswith(PART_SUFFIX) or folded == _STORE_FOLDER:
        return "is reserved for eventflow's own files"
    return None


def _is_device(name: str) -> bool:
    return name.partition(".")[0].rstrip(" ").upper() in _DEVICES


def _split(name: str) -> tuple[str, str]:
    """Stem and extension (`.tar.gz` is one), the dot with the extension; a hidden file's name is all stem."""
    extension = _EXTENSION.search(name, 1)
    return (name[: extension.start()], extension[0]) if extension else (name, "")


def _fitted(stem: str, tail: str, bytes_max: int) -> str:
    """Stem and tail, the stem cut at a character's boundary so that both have at most `bytes_max` bytes."""
    room = bytes_max - len(tail.encode())
    encoded = stem.encode()
    if len(encoded) > room:
        stem = encoded[:room].decode(errors="ignore")
    return f"{stem}{tail}" if tail else stem.rstrip(" .")
