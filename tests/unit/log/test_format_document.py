"""docs/format.md is true: its example, its tables, its numbers, and its reader, which knows nothing of eventflow."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from eventflow.event import Event, Link
from eventflow.log.batches import BatchFold
from eventflow.log.format import LINE_BYTES_MAX, first_place
from eventflow.log.layout import segment_paths
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run, list_runs
from eventflow.log.sealed import SealedBounds
from eventflow.log.segment import SEGMENT_BYTES_MAX
from tests.unsynced_log import WRITER, UnsyncedDisk, write

DOCUMENT = Path(__file__).parents[3] / "docs" / "format.md"
FIXTURES = Path(__file__).parents[2] / "fixtures" / "format-1"
TEXT = DOCUMENT.read_text(encoding="utf-8")
READABLE = ("closed", "killed", "segments", "unknown", "subscribed")


def block(language: str) -> str:
    """The one block of that language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def table(heading: str) -> list[list[str]]:
    """The cells of the first table of a section, without its head."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("| ")]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows[1:]]


def documented_reader() -> Callable[[Path], list[dict[str, Any]]]:
    """The reader, in this interpreter."""
    names: dict[str, Any] = {}
    exec(compile(block("python"), str(DOCUMENT), "exec"), names)
    found: Callable[[Path], list[dict[str, Any]]] = names["read_run"]
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run."""
    return create_run(tmp_path, stage="s", disk=UnsyncedDisk())


def test_the_reader_is_short_and_needs_nothing() -> None:
    """At most forty lines, and of the standard library only three modules."""
    lines = [line for line in block("python").splitlines() if line.strip()]
    assert len(lines) <= 40
    assert [line for line in lines if "import" in line] == ["import hashlib", "import json", "import pathlib"]


@pytest.mark.parametrize("name", READABLE)
def test_t19_the_reader_reads_what_we_read(name: str, tmp_path: Path) -> None:
    """Every field of every event of the stores of format 1, in an interpreter that cannot find eventflow."""
    shutil.copytree(FIXTURES / name, tmp_path / name)
    (run,) = list_runs(tmp_path / name)
    program = f"{block('python')}\nimport sys\nprint(json.dumps(read_run(pathlib.Path(sys.argv[1]))))"
    command = [sys.executable, "-I", "-S", "-c", program, str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = msgspec.json.decode(done.stdout)
    ours = sorted(read_events(run.log), key=lambda event: (event.writer, event.seq))
    known = Event.__struct_fields__
    assert [{key: value for key, value in event.items() if key in known} for event in theirs] == [
        msgspec.json.decode(msgspec.json.encode(event)) for event in ours
    ]


@pytest.mark.parametrize("sizes", [(1, 2), (2, 1, 1)])
def test_t10_the_reader_finds_every_flipped_bit_before_the_last_commit(run: RunFolder, sizes: tuple[int, ...]) -> None:
    """It is a model of how to read: with it, no damage goes unseen but behind the last whole batch."""
    read = documented_reader()
    write(run, sizes, closed=True, segment_bytes_max=700)
    good = read(run.path)
    assert len(good) == sum(sizes)
    for path in segment_paths(run.log):
        whole = path.read_bytes()
        last = whole.rstrip(b"\n").rindex(b"\n")
        for bit in range(0, last * 8, 7):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with pytest.raises(ValueError, match=r"\w"):
                read(run.path)
        path.write_bytes(whole)
    assert read(run.path) == good


def test_t11_the_reader_misses_no_segment(run: RunFolder) -> None:
    """One that is gone, cut, or sealed is an error."""
    read = documented_reader()
    write(run, (2,) * 4, closed=True, segment_bytes_max=300)
    assert len(read(run.path)) == 8
    paths = segment_paths(run.log)
    middle = paths[1].read_bytes()
    for changed in (middle[:-1], middle[: middle.rindex(b'{"commit"')], b""):
        paths[1].write_bytes(changed)
        with pytest.raises(ValueError, match="does not end with a commit line"):
            read(run.path)
    paths[1].unlink()
    with pytest.raises(ValueError, match="segment 1 is missing"):
        read(run.path)
    paths[1].with_suffix(".parquet").touch()
    with pytest.raises(ValueError, match="has sealed segments"):
        read(run.path)


def test_the_example_is_a_segment(tmp_path: Path) -> None:
    """Its bytes are those of a log, its digests are right, also by hand, and its sizes are said right."""
    data = block("json").encode()
    fold = BatchFold("example", first_place("20260101-000000-abcd", "w1"))
    assert [batch.count for batch in fold.feed(data, len(data))] == [0, 1, 0]
    assert fold.offset == len(data)
    opening, event, commit, closing = data.splitlines(keepends=True)
    digests = [re.findall(rb"[0-9a-f]{64}", line)[0].decode() for line in (opening, commit, closing)]
    name = b"eventflow log 1\n20260101-000000-abcd\nw1\n"
    assert digests[0] == blake2b(name, digest_size=32).hexdigest()
    assert digests[1] == blake2b(bytes.fromhex(digests[0]) + event, digest_size=32).hexdigest()
    assert digests[2] == blake2b(bytes.fromhex(digests[1]), digest_size=32).hexdigest()
    for said in (f"It has {len(data)} bytes", f"of the {len(name)} bytes", f"the {len(event)} bytes of the event"):
        assert said in TEXT
    for digest in digests:
        assert f"`{digest[:4]}…`" in TEXT
    folder = tmp_path / "20260101-000000-abcd" / "log" / "w1"
    folder.mkdir(parents=True)
    (folder / "00000000.ndjson").write_bytes(data)
    assert [event.stream for event in read_events(folder.parent)] == ["request-0"]
    assert len(documented_reader()(folder.parents[1])) == 1


def test_the_tables_name_every_field_in_its_order() -> None:
    """Of an event line, of its links, and of the metadata of a sealed segment."""
    rows = table("A segment as NDJSON")
    assert [name for name, *_ in rows] == list(Event.__struct_fields__)
    assert all(f"`{name}" in rows[-1][-1] for name in Link.__struct_fields__)
    said = re.findall(r"`(\w+)`", TEXT.split("a JSON object:\n")[1].split("## ")[0])
    assert said == list(SealedBounds.__struct_fields__)


def test_the_limits_are_the_codes() -> None:
    """The longest line, the size of a segment."""
    assert f"at most {LINE_BYTES_MAX:_} bytes".replace("_", " ") in TEXT
    assert f"passes {SEGMENT_BYTES_MAX >> 20} MiB" in TEXT


def test_a_sealed_segment_is_as_described() -> None:
    """Its columns, its metadata, and how lines and chain are made of them, by hand."""
    (run,) = list_runs(FIXTURES / "sealed")
    for path in segment_paths(run.log):
        connection = duckdb.connect()
        columns = connection.execute("SELECT name, type FROM parquet_schema($path)", {"path": str(path)}).fetchall()
        for name, kind in (("batch", "INT32"), ("line", "BYTE_ARRAY"), ("data", "BYTE_ARRAY"), ("links", None)):
            assert (name, kind) in columns
        query = "SELECT value FROM parquet_kv_metadata($path) WHERE key = 'eventflow'"
        ((value,),) = connection.execute(query, {"path": str(path)}).fetchall()
        said = msgspec.json.decode(value)
        chain = bytes.fromhex(said["chain_before"])
        found = connection.execute("FROM read_parquet($path) ORDER BY seq", {"path": str(path)})
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        for number in range(1, said["batches"]):
            lines = b"".join(line_of(row) for row in rows if row["batch"] == number)
            chain = blake2b(chain + lines, digest_size=32).digest()
        assert chain.hex() == said["chain"]
        assert [row["seq"] for row in rows] == list(range(said["seq_before"] + 1, said["seq"] + 1))


def line_of(row: dict[str, Any]) -> bytes:
    """The event line of a row of a sealed segment, newline included, as the document says."""
    if row["line"] is not None:
        return f"{row['line']}\n".encode()
    fields = []
    for name in Event.__struct_fields__:
        value = row[name]
        if name == "data":
            fields.append(f'"data":{value}')
        elif name == "links" and value:
            fields.append(f'"links":{msgspec.json.encode(value).decode()}')
        elif isinstance(value, str):
            fields.append(f'"{name}":"{value}"')
        elif isinstance(value, int):
            fields.append(f'"{name}":{value}')
    return ("{" + ",".join(fields) + "}\n").encode()


def test_the_document_and_the_fixtures_are_of_one_writer(run: RunFolder) -> None:
    """The name of a segment, of a lock, and of a sealed form are those that are on the disk."""
    write(run, (1,), closed=True)
    assert {path.name for path in (run.log / WRITER).iterdir()} == {"lock", "00000000.ndjson"}
    assert all(f"log/<writer>/{name} " in TEXT for name in ("lock", "00000000.ndjson", "00000000.parquet"))
