"""The output folder keeps everything inside, and what is not whole apart."""

import errno
import os
import stat
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from eventflow.errors import UsageError
from eventflow.folder import Folder
from eventflow.naming import PART_SUFFIX
from eventflow.part import Part
from eventflow.sources import SeededSources
from tests.faulty_disk import FaultyDisk, open_below


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """An output folder; no descriptor may be left open by the end of the test."""
    folder = Folder.open(tmp_path / "out")
    yield folder
    assert open_below(tmp_path) == [str(folder.path)]


def files(path: Path) -> list[str]:
    """The files below, hidden ones too."""
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir())


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """To be somebody for whom permissions count: they do not for the superuser."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    """The folder and its parents are made, durably, and used when they are there."""
    disk = FaultyDisk()
    folder = Folder.open(tmp_path / "a" / "b", disk=disk)
    assert folder.path == tmp_path / "a" / "b"
    assert disk.count("sync_folder") == 2
    assert Folder.open(tmp_path / "a" / "b", disk=disk).path.is_dir()
    assert disk.count("sync_folder") == 2


def test_a_relative_folder_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the place at the time of opening, whatever the working folder becomes."""
    monkeypatch.chdir(tmp_path)
    folder = Folder.open(Path("out"))
    monkeypatch.chdir("/")
    folder.begin("a", tag="run").discard()
    assert folder.path == tmp_path / "out"
    assert folder.sweep("run") == 0


def test_a_folder_may_be_a_link(tmp_path: Path) -> None:
    """The output folder itself may be a symbolic link: the user chose it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    part = Folder.open(tmp_path / "out").begin("a")
    assert len(files(tmp_path / "disk")) == 1
    part.discard()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("file", "is a file, or below one"),
        ("file/x", "is a file, or below one"),
        ("file/x/y", "is a file, or below one"),
        ("a\0b", "its name is not a path"),
        ("a" * 300, "File name too long"),
    ],
)
def test_a_folder_that_cannot_be_is_an_error_of_use(tmp_path: Path, name: str, problem: str) -> None:
    """A path that cannot be a folder is told in one line, with what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught:
        Folder.open(tmp_path / name)
    assert problem in caught.value.problem
    assert "--out" in caught.value.fix
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)


@pytest.mark.usefixtures("ordinary_user")
@pytest.mark.parametrize("path", ["/proc", "/proc/out"])
def test_a_folder_without_rights_is_an_error_of_use(path: str) -> None:
    """A folder that may not be written is refused before anything is fetched."""
    with pytest.raises(UsageError, match="cannot be used"):
        Folder.open(Path(path))


def test_a_part_is_a_hidden_file_beside_its_name(folder: Folder) -> None:
    """A temporary file is in the final folder, tells its name and its run, and does not look like a result."""
    part = folder.begin("a/b/c.txt", tag="run-1")
    (name,) = files(folder.path)
    assert name.startswith("a/b/.c.txt.run-1.")
    assert name.endswith(PART_SUFFIX)
    part.discard()
    assert files(folder.path) == []


def test_a_part_counts_and_digests_what_it_holds(folder: Folder) -> None:
    """Bytes and SHA-256 are those of the file, chunk by chunk."""
    part = folder.begin("a")
    assert (part.bytes, part.sha256()) == (0, sha256().hexdigest())
    for chunk in (b"x" * 100_000, b"", b"y"):
        part.write(chunk)
    data = b"x" * 100_000 + b"y"
    (name,) = files(folder.path)
    assert (folder.path / name).read_bytes() == data
    assert (part.bytes, part.sha256()) == (len(data), sha256(data).hexdigest())
    part.discard()
    assert part.sha256() == sha256(data).hexdigest()


def test_files_have_the_permissions_that_the_user_wants(folder: Folder) -> None:
    """The umask decides who may read the files, as for any other program."""
    before = os.umask(0o027)
    try:
        part = folder.begin("a/b")
    finally:
        os.umask(before)
    (name,) = files(folder.path)
    assert stat.S_IMODE((folder.path / name).stat().st_mode) == 0o640
    assert stat.S_IMODE((folder.path / "a").stat().st_mode) == 0o750
    part.discard()


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "日" * 85])
def test_a_long_name_has_a_temporary_file(folder: Folder, name: str) -> None:
    """The temporary name is cut at a character, so that it fits where the final one does."""
    part = folder.begin(name, tag="t" * 64)
    (temporary,) = files(folder.path)
    assert len(temporary.encode()) <= 255
    assert folder.sweep("t" * 64) == 1
    part.discard()


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/a", "a//b", "", ".", "..", "a/.", "a\0b"])
def test_a_name_that_leads_out_is_refused(folder: Folder, name: str) -> None:
    """Names are checked where they are given; should one get through, it still does not leave the folder."""
    with pytest.raises(OSError, match="not a name in the output folder") as caught:
        folder.begin(name)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("tag", ["a/b", "a.b", "x" * 65, "ä"])
def test_a_tag_is_letters_and_digits(folder: Folder, tag: str) -> None:
    """What would not be found by `sweep` is refused."""
    with pytest.raises(OSError, match="not a name"):
        folder.begin("a", tag=tag)


def test_a_link_is_no_parent(folder: Folder, tmp_path: Path) -> None:
    """A parent that is a symbolic link is refused, wherever it leads: names would not be unique, nor stay inside."""
    (tmp_path / "outside").mkdir()
    (folder.path / "inside").mkdir()
    for name, target in (
        ("out", tmp_path / "outside"),
        ("in", folder.path / "inside"),
        ("dangling", tmp_path / "none"),
    ):
        (folder.path / name).symlink_to(target)
        for path in (f"{name}/a", f"{name}/b/a", f"inside/../{name}/a"):
            with pytest.raises(OSError, match=r"symbolic link|not a name") as caught:
                folder.begin(path)
            assert caught.value.errno in (errno.ELOOP, errno.EINVAL)
    assert files(tmp_path / "outside") == files(folder.path / "inside") == []


def test_a_file_is_no_parent(folder: Folder) -> None:
    """A parent that is a file is an error, and the file stays."""
    (folder.path / "a").write_text("here")
    with pytest.raises(NotADirectoryError):
        folder.begin("a/b")
    assert (folder.path / "a").read_text() == "here"


def test_temporary_names_are_never_shared(tmp_path: Path) -> None:
    """A temporary name that is taken is not used, and the file under it stays; after ten tries that is an error."""

    class OneName(SeededSources):
        def name_suffix(self) -> str:
            return "00000000"

    first = Folder.open(tmp_path, sources=SeededSources(1)).begin("a")
    second = Folder.open(tmp_path, sources=SeededSources(1)).begin("a")
    assert len(files(tmp_path)) == 2
    third = Folder.open(tmp_path, sources=OneName(1)).begin("a")
    with pytest.raises(FileExistsError):
        Folder.open(tmp_path, sources=OneName(1)).begin("a")
    for part in (first, second, third):
        part.discard()
    assert files(tmp_path) == []


@pytest.mark.parametrize("call", ["create_in", "make_folder"])
def test_a_part_that_cannot_begin_leaves_nothing(tmp_path: Path, call: str) -> None:
    """An error keeps its number, and no descriptor stays open."""
    folder = Folder.open(tmp_path, disk=FaultyDisk(**{call: errno.ENOSPC}))
    with pytest.raises(OSError, match="No space left") as caught:
        folder.begin("a/b/c")
    assert caught.value.errno == errno.ENOSPC
    assert open_below(tmp_path) == [str(tmp_path)]
    assert files(tmp_path) == []


def test_a_part_whose_write_failed_takes_no_more(tmp_path: Path) -> None:
    """After a failed write nobody knows what the file holds: it can only be discarded."""
    disk = FaultyDisk(write_all=errno.ENOSPC)
    part = Folder.open(tmp_path, disk=disk).begin("a")
    with pytest.raises(OSError, match="No space left"):
        part.write(b"1234")
    disk.failing.clear()
    with pytest.raises(OSError, match="not open any more"):
        part.write(b"5678")
    assert part.bytes == 0
    part.discard()
    assert files(tmp_path) == []


def test_discarding_twice_is_discarding(folder: Folder) -> None:
    """`discard` is idempotent, also if somebody else removed the file; nothing can be written afterwards."""
    part = folder.begin("a")
    (name,) = files(folder.path)
    (folder.path / name).unlink()
    part.discard()
    part.discard()
    with pytest.raises(OSError, match="not open any more"):
        part.write(b"x")


def write_for_ever(part: Part, begun: threading.Event, errors: list[OSError]) -> None:
    """What a worker does that cannot be stopped."""
    try:
        while True:
            part.write(b"x" * 1000)
            begun.set()
    except OSError as error:
        errors.append(error)


def test_a_part_can_be_discarded_from_another_thread(folder: Folder) -> None:
    """A worker that cannot be stopped goes on writing: it gets an error, and writes into no other file."""
    for _ in range(20):
        part, begun = folder.begin("a"), threading.Event()
        errors: list[OSError] = []
        thread = threading.Thread(target=write_for_ever, args=(part, begun, errors))
        thread.start()
        begun.wait()
        part.discard()
        thread.join()
        assert "not open any more" in str(errors[0])
    assert files(folder.path) == []


def test_a_stored_file_is_known_by_its_size(folder: Folder, tmp_path: Path) -> None:
    """Only a regular file of exactly the size counts as there."""
    (folder.path / "a").mkdir()
    (folder.path / "a" / "b").write_bytes(b"123")
    (folder.path / "link").symlink_to(folder.path / "a" / "b")
    assert folder.has("a/b", 3)
    for name, size in (("a/b", 2), ("a/c", 3), ("a", 3), ("a", 4096), ("link", 3), ("a/b/c", 3), ("a\0b", 3), ("", 3)):
        assert not folder.has(name, size)


def test_sweeping_removes_what_one_run_left(folder: Folder, tmp_path: Path) -> None:
    """Temporary files of that run go, in all folders; those of others, results and what only looks alike stay."""
    parts = [folder.begin(name, tag=tag) for name in ("a", "b/c/d") for tag in ("run-1", "run-2", "")]
    (tmp_path / "outside").mkdir()
    (folder.path / "link").symlink_to(tmp_path / "outside")
    others = [
        folder.path / "a.run-1.00000000.txt",
        folder.path / f".a.run-1.xyz{PART_SUFFIX}",
        folder.path / f".a.run-1.run-3.00000000{PART_SUFFIX}",
        tmp_path / "outside" / f".a.run-1.00000000{PART_SUFFIX}",
    ]
    for path in others:
        path.touch()
    before = set(files(folder.path))
    assert folder.sweep("run-1") == 2
    removed = sorted(before - set(files(folder.path)))
    assert [name.partition(".run-1.")[0] for name in removed] == [".a", "b/c/.d"]
    assert all(path.exists() for path in others)
    assert folder.sweep("run-1") == 0
    assert folder.sweep("run-2") == 2
    for part in parts:
        part.discard()


def test_sweeping_leaves_what_must_not_be_touched(tmp_path: Path) -> None:
    """A file that cannot be removed does not stop the run."""
    folder = Folder.open(tmp_path / "out")
    part = folder.begin("a/b", tag="run")
    (folder.path / "a").chmod(0o555)
    user = os.geteuid()
    if user == 0:
        tmp_path.chmod(0o755)
        os.seteuid(65534)
    try:
        assert folder.sweep("run") == 0
    finally:
        os.seteuid(user)
    (folder.path / "a").chmod(0o755)
    assert folder.sweep("run") == 1
    part.discard()
