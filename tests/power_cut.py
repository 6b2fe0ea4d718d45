"""What a power cut leaves of a folder, from the list of all calls that were made: a model of the promises of a disk.

`tests.recording_disk` makes the list, while real code works on real files. `cut` makes a folder as the disk may be
found if the power had gone after any one of the calls.

What the model covers:
    bytes that were synced are there; of what was written since, each 512-byte sector by itself is on disk, or not (it
    reads as zeros, or as what stood there before, or the file ends before it), or holds garbage, in any order: a later
    sector may be kept and an earlier one lost, also within one call; a `truncate` that was not synced may be undone,
    while what was written after it is kept;
    a name that was made, renamed or removed since the last sync of its folder is there or not, each by itself, whatever
    happened to the file's bytes; a rename is atomic; a file's sync does not make its name durable;
    after a sync that failed the kernel takes the pages for clean: they can be read as long as the machine runs, no
    later sync writes them, and a power cut takes them (Rebello et al., USENIX ATC 2020);
    a process that is killed leaves everything that it told the kernel, and half of the write that it was in.

What it does not cover: sectors that were synced and rot or are torn later, disks that lie about a flush, file systems
that lose a synced file's older bytes, names in a folder that was moved, clocks. Files that are written without the
disk (DuckDB's) are taken as they are when they are synced or renamed.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512
MODES = ("all", "nothing", "beginning", "zeros", "hole", "end", "mix", "mix")
"""How much of what was not synced survives: of the sectors in order, all; none; those up to a border, byte by byte;
those, and zeros up to the end; all but one; those from a border on; each by itself as it comes."""


class Step(NamedTuple):
    """A call that changed something, as `Disk` names it, or `sync_failed`.

    The path is relative to the folder that is looked at. Files have numbers, from 0 in the order in which they came.
    """

    call: str
    path: tuple[str, ...] = ()
    file: int = 0
    offset: int = 0
    data: bytes = b""
    new_name: str = ""


class _File:
    """A file: what is durable, and what happened to it since, each with whether a failed sync made it look clean."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = durable
        self.pending: list[tuple[Step, bool]] = []

    def sync(self) -> None:
        kept: list[tuple[Step, bool]] = []
        for step, is_clean in self.pending:
            if is_clean:
                kept.append((step, True))
            else:
                self.durable = _applied(self.durable, step)
                if step.call == "truncate":
                    kept = [pair for pair in kept if pair[0].offset < step.offset]
        self.pending = kept

    def sync_failed(self) -> None:
        self.pending = [(step, step.call == "write_all" or is_clean) for step, is_clean in self.pending]


class _Folder:
    """A folder: its entries as processes see them, those that are durable, and what was changed since."""

    def __init__(self) -> None:
        self.now: dict[str, _Folder | _File] = {}
        self.durable: dict[str, _Folder | _File] = {}
        self.pending: list[tuple[Step, _Folder | _File]] = []

    def change(self, step: Step, node: "_Folder | _File") -> None:
        _change(self.now, step, node)
        self.pending.append((step, node))

    def sync(self) -> None:
        self.durable, self.pending = dict(self.now), []


class Cut(NamedTuple):
    """What a power cut left: a folder, and which files in it hold more than a beginning of what was written to them.

    Zeros at the end are not more.
    """

    root: Path
    mangled: frozenset[Path]


def cut(initial: Mapping[tuple[str, ...], bytes | None], steps: Sequence[Step], target: Path, seed: int) -> Cut:
    """Make in `target` what a power cut after these steps may leave. The seed says which of the many ways.

    Args:
        initial: by its path, the bytes of each file that was durable before the first step, and None for each folder.
        steps: all calls that were made.
        target: the folder that is made.
        seed: the choice.
    """
    root, files = _Folder(), [_File(data) for data in initial.values() if data is not None]
    number = iter(files)
    for path, data in initial.items():
        node = _Folder() if data is None else next(number)
        parent = _find(root, path[:-1])
        parent.now[path[-1]] = parent.durable[path[-1]] = node
    for step in steps:
        _replay(root, files, step)
    chance, mangled = random.Random(f"{seed} cut"), set[Path]()
    _materialise(root, target, _Contents(chance), chance.choice((0, 0.5, 1)), mangled)
    return Cut(target, frozenset(mangled))


class _Contents:
    """Chooses what survives of the bytes that were not synced. One choice of a mode for a whole power cut."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = self._chance = chance
        self._mode = chance.choice(MODES)

    def of(self, file: _File) -> tuple[bytes, bool]:
        """The bytes of a file, and whether they are the beginning of what was written, or zeros after one."""
        data, wanted = bytearray(file.durable), file.durable
        sectors: list[tuple[int, bytes]] = []
        is_mangled = False
        for step, is_clean in file.pending:
            if step.call == "truncate":
                self._write_sectors(data, sectors)
                sectors = []
                if self._chance.random() < 0.5:
                    del data[step.offset :]
                elif len(data) > step.offset:
                    is_mangled = True
            elif is_clean:
                is_mangled = True
                self._lose(data, step.offset, step.data)
            else:
                sectors += _sectors(step)
            wanted = _applied(wanted, step)
        self._write_sectors(data, sectors)
        kept = bytes(data).rstrip(b"\0")
        return bytes(data), is_mangled or not (wanted.startswith(kept) and len(data) <= len(wanted))

    def _write_sectors(self, data: bytearray, sectors: list[tuple[int, bytes]]) -> None:
        chance, count = self._chance, len(sectors)
        border = chance.randrange(count + 1)
        for number, (offset, sector) in enumerate(sectors):
            match self._mode:
                case "all":
                    _put(data, offset, sector)
                case "nothing":
                    pass
                case "beginning" | "zeros" if number < border:
                    _put(data, offset, sector)
                case "beginning" if number == border:  # a file may end at any byte
                    _put(data, offset, sector[: chance.randrange(len(sector) + 1)])
                case "zeros":
                    _put(data, offset, bytes(len(sector)), is_new_only=True)
                case "hole" if number != border:
                    _put(data, offset, sector)
                case "end" if number >= border:
                    _put(data, offset, sector)
                case "mix":
                    self._mix(data, offset, sector)

    def _mix(self, data: bytearray, offset: int, sector: bytes) -> None:
        match self._chance.randrange(5):
            case 0:
                self._lose(data, offset, sector)
            case 1:
                _put(data, offset, self._chance.randbytes(len(sector)))
            case _:
                _put(data, offset, sector)

    def _lose(self, data: bytearray, offset: int, sector: bytes) -> None:
        """It did not reach the disk; the file's size may have."""
        if self._chance.random() < 0.5:
            _put(data, offset, bytes(len(sector)), is_new_only=True)


def _sectors(step: Step) -> list[tuple[int, bytes]]:
    """A write in the pieces in which a disk takes it: each with its offset in the file."""
    found, start = [], 0
    while start < len(step.data):
        end = start + SECTOR_BYTES - (step.offset + start) % SECTOR_BYTES
        found.append((step.offset + start, step.data[start:end]))
        start = end
    return found


def _put(data: bytearray, offset: int, piece: bytes, *, is_new_only: bool = False) -> None:
    """Write a piece; a gap before it reads as zeros. With `is_new_only` only what is beyond the file's end."""
    if is_new_only:
        piece = piece[max(0, len(data) - offset) :]
        offset = max(offset, len(data))
    if piece:
        data += bytes(max(0, offset - len(data)))
        data[offset : offset + len(piece)] = piece


def _applied(data: bytes, step: Step) -> bytes:
    """A file's bytes after a step."""
    changed = bytearray(data)
    if step.call == "truncate":
        del changed[step.offset :]
    else:
        _put(changed, step.offset, step.data)
    return bytes(changed)


def _find(root: _Folder, parts: tuple[str, ...]) -> _Folder:
    for name in parts:
        folder = root.now[name]
        assert isinstance(folder, _Folder)
        root = folder
    return root


def _change(entries: dict[str, _Folder | _File], step: Step, node: _Folder | _File) -> None:
    name = step.path[-1]
    if step.call == "rename":
        entries.pop(name, None)
        entries[step.new_name] = node
    elif step.call == "remove":
        entries.pop(name, None)
    else:
        entries[name] = node


def _replay(root: _Folder, files: list[_File], step: Step) -> None:
    match step.call:
        case "create_folder":
            _find(root, step.path[:-1]).change(step, _Folder())
        case "create":
            assert step.file == len(files)
            files.append(_File())
            _find(root, step.path[:-1]).change(step, files[step.file])
        case "rename" | "remove":
            folder = _find(root, step.path[:-1])
            folder.change(step, folder.now[step.path[-1]])
        case "sync_folder":
            _find(root, step.path).sync()
        case "write_all" | "truncate":
            files[step.file].pending.append((step, False))
        case "sync_failed":
            files[step.file].sync_failed()
        case "sync":
            files[step.file].sync()


def _materialise(folder: _Folder, target: Path, contents: _Contents, kept: float, mangled: set[Path]) -> None:
    """Write a folder as it is found after the power cut; of the changes to its names that part is `kept`."""
    entries = dict(folder.durable)
    for step, node in folder.pending:
        if contents.chance.random() < kept:
            _change(entries, step, node)
    target.mkdir()
    for name, node in entries.items():
        if isinstance(node, _Folder):
            _materialise(node, target / name, contents, kept, mangled)
            continue
        data, is_mangled = contents.of(node)
        (target / name).write_bytes(data)
        if is_mangled:
            mangled.add(target / name)
