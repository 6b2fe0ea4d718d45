"""T24: each protection of the log is taken away from a copy of the code, and the tests must notice.

    python tests/mutations.py            prints a table, for docs/durability.md
    python tests/mutations.py fsync      only those with this word in their name

A protection that no test misses might as well not be there, so a line that says SURVIVED is a failure. A text that is
to be replaced and is not there, or is there twice, is one, too: then this list is behind the code.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = ("eventflow", "instrumentation", "stages", "analysis", "tests")
TIMEOUT_SECONDS = 300

CRASH = "tests/faults/test_crash_points.py"
CUT = "tests/faults/test_power_cut.py"
DAMAGE = "tests/unit/log/test_torn_or_damaged.py"
FAILING = "tests/faults/test_failing_disk.py"
SYNCS = f"{FAILING}::test_the_real_disk_syncs_what_the_model_takes_for_synced"
SHORT = f"{FAILING}::test_the_real_disk_goes_on_after_a_short_write"
INTERRUPTS = "tests/faults/test_interrupts.py"
LOG = "tests/unit/log/test_log.py"
PROCESSES = "tests/faults/test_many_processes.py"
RECORDER = "tests/unit/test_recorder.py"
LINES = "tests/unit/test_recorder_lines.py"
FOLLOWING = "tests/unit/log/test_following.py"
APPENDING = "tests/unit/log/test_appending.py"
SEALED = "tests/unit/log/test_sealed.py"
SEAL = "tests/unit/log/test_seal.py"


class Mutation(NamedTuple):
    """A protection by its name; where it is; what stands there and what is put in its place; who should notice."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "fdatasync itself",
        "disk.py",
        'os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)',
        "os.fstat(descriptor)",
        (SYNCS,),
    ),
    Mutation(
        "fsync of a folder itself",
        "disk.py",
        "os.fsync(descriptor)\n        finally",
        "pass\n        finally",
        (SYNCS,),
    ),
    Mutation(
        "a short write is gone on with",
        "disk.py",
        "while written < len(data):",
        "while False:",
        (SHORT,),
    ),
    Mutation(
        "fsync of a batch before it is acknowledged",
        "log/segment.py",
        "        self._disk.sync(self._descriptor)\n",
        "",
        (CUT, CRASH),
    ),
    Mutation(
        "fsync of the folder when a segment is begun",
        "log/segment.py",
        "        self._disk.sync_folder(self.folder)\n",
        "",
        (CUT, CRASH),
    ),
    Mutation(
        "fsync of the folder in which a writer's is made",
        "log/segment.py",
        "        self._disk.sync_folder(log)\n",
        "",
        (CUT, CRASH),
    ),
    Mutation(
        "fsync of what a killed process left, before it counts",
        "log/recovery.py",
        "                disk.truncate(descriptor, found.size)\n            disk.sync(descriptor)\n        finally:\n"
        "            disk.close(descriptor)\n        disk.sync_folder(folder)\n",
        "                disk.truncate(descriptor, found.size)\n        finally:\n            disk.close(descriptor)\n",
        (CRASH,),
    ),
    Mutation(
        "a torn tail is cut before anything is appended",
        "log/recovery.py",
        "            if found.tail.bytes:\n                disk.truncate(descriptor, found.size)\n",
        "",
        (CRASH,),
    ),
    Mutation(
        "damage is not taken for a torn tail",
        "log/recovery.py",
        "    if tail.problem:\n",
        "    if False:\n",
        (DAMAGE,),
    ),
    Mutation(
        "a torn tail is not taken for damage",
        "log/batches.py",
        "    return Tail(len(tail), len(lines), problem)",
        '    return Tail(len(tail), len(lines), problem or ("x" if lines else None))',
        (DAMAGE, CRASH),
    ),
    Mutation(
        "the line at the end of a tail must be one that was begun",
        "log/batches.py",
        "    if not problem and not (commit.startswith(rest)",
        "    if False and not (commit.startswith(rest)",
        (DAMAGE,),
    ),
    Mutation(
        "zeros at the end of a tail are room that was made",
        "log/batches.py",
        'tail.rstrip(b"\\0").split',
        "tail.split",
        (DAMAGE,),
    ),
    Mutation(
        "the chain",
        "log/batches.py",
        " != advance(self.place.chain, lines):",
        " is None:",
        (DAMAGE,),
    ),
    Mutation(
        "the chain from segment to segment",
        "log/batches.py",
        "if self.place is not None and found != self.place:",
        "if False:",
        (DAMAGE,),
    ),
    Mutation(
        "a segment that is missing",
        "log/layout.py",
        "        if segment.number != expected:\n",
        "        if False:\n",
        (APPENDING,),
    ),
    Mutation(
        "only what a commit line covers is read",
        "log/reader.py",
        "        self._left = bytes(buffer[:filled])\n",
        "        self._left = bytes(buffer[:filled])\n"
        '        lines = self._left[: self._left.rfind(b"\\n") + 1]\n'
        "        if lines and self.fold.place:\n"
        '            count = lines.count(b"\\n")\n'
        "            place = Place(self.fold.place.chain, self.fold.place.seq + count)\n"
        "            yield Batch(lines, count, place, self.fold.offset)\n",
        (LOG, DAMAGE, CRASH),
    ),
    Mutation(
        "a new format is refused",
        "log/format.py",
        "    if commit.format > FORMAT:\n",
        "    if False:\n",
        (LOG,),
    ),
    Mutation(
        "the lock",
        "disk.py",
        "                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "                return None\n",
        (PROCESSES, LOG),
    ),
    Mutation(
        "a forked child forgets the lock",
        "disk.py",
        "    for holder in list(_holders):\n        holder.abandon_in_child()\n",
        "    pass\n",
        (PROCESSES,),
    ),
    Mutation(
        "one append with an expectation at a time",
        "log/appending.py",
        "            self._take_turn()\n",
        "",
        (PROCESSES, APPENDING),
    ),
    Mutation(
        "an append that is sent again is found",
        "log/appending.py",
        "        there = [event for event in",
        "        there = [] and [event for event in",
        (APPENDING,),
    ),
    Mutation(
        "acknowledged only after the append",
        "recorder.py",
        "                self._writer.append(bytearray().join(batch.pieces), batch.count)\n"
        "                with self._lock:\n"
        "                    self._durable_seq += batch.count\n",
        "                with self._lock:\n"
        "                    self._durable_seq += batch.count\n"
        "                    self._changed.notify_all()\n"
        "                self._writer.append(bytearray().join(batch.pieces), batch.count)\n"
        "                with self._lock:\n",
        (RECORDER, CRASH),
    ),
    Mutation(
        "nothing gets a number that nobody will write",
        "recorder.py",
        "            if self._can_number():\n                self._intake.number()\n",
        "            self._intake.number()\n",
        (LINES, RECORDER),
    ),
    Mutation(
        "a sleeping writer thread is woken",
        "recorder.py",
        "        self._must_look = self._is_idle or self._is_ending()",
        "        self._must_look = self._is_ending()",
        (LINES, RECORDER),
    ),
    Mutation(
        "what can change gets its line at once",
        "recorder.py",
        "            self._intake.number_now(entry)\n            self._encode()\n",
        "            self._intake.number_now(entry)\n",
        (LINES, RECORDER),
    ),
    Mutation(
        "a recorder goes on with the numbers of its log",
        "recorder.py",
        "self._first_seq = self._writer.seq + 1",
        "self._first_seq = 0",
        (CRASH, RECORDER, "tests/faults/test_torture.py"),
    ),
    Mutation(
        "the file is cut back when a write fails",
        "log/segment.py",
        "                self._disk.truncate(self._descriptor, self._size)\n",
        "                pass\n",
        (LOG, FAILING),
    ),
    Mutation(
        "fail-stop: nothing is appended after a failure",
        "log/segment.py",
        "            raise self._writer._stop_for_good(error.strerror or str(error)) from error",
        "            self._writer._is_midway = False\n"
        "            raise LogWriteFailed(str(self._writer.path), error.strerror or str(error)) from error",
        (LOG, FAILING),
    ),
    Mutation(
        "nothing is appended after an interrupt in a failure",
        "log/segment.py",
        "        if self._failed or self._is_midway:\n",
        "        if self._failed:\n",
        (INTERRUPTS,),
    ),
    Mutation(
        "a log that is closed says so, and its last batch is no torn tail",
        "log/segment.py",
        "                self._write(encode_commit(0, place.seq, place.chain))\n        self._release()",
        "                pass\n        self._release()",
        (LOG, DAMAGE),
    ),
    Mutation(
        "fsync of a checkpoint",
        "disk.py",
        "            self.write_all(descriptor, data)\n            self.sync(descriptor)\n",
        "            self.write_all(descriptor, data)\n",
        (CUT,),
    ),
    Mutation(
        "fsync of the folder of a checkpoint",
        "disk.py",
        "        self.rename(temporary, path)\n        self.sync_folder(path.parent)\n",
        "        self.rename(temporary, path)\n",
        (CUT,),
    ),
    Mutation(
        "a checkpoint is written under another name first",
        "disk.py",
        '        temporary = path.with_name(f".{path.name}.new")\n',
        '        temporary = path.with_name(f"{path.name}")\n',
        (CRASH, CUT),
    ),
    Mutation(
        "a checkpoint never says more than is on disk",
        "log/following.py",
        "            make_durable(self._tail.log, self._disk)  # no checkpoint may be ahead of the log\n",
        "",
        (CRASH, CUT, FOLLOWING),
    ),
    Mutation(
        "a checkpoint never goes backwards",
        "log/following.py",
        "writer: max(seq, self._saved.get(writer, -1)) for",
        "writer: seq for",
        (FOLLOWING,),
    ),
    Mutation(
        "fsync of a sealed segment",
        "log/seal.py",
        "        fill(temporary)\n        disk.sync(descriptor)\n",
        "        fill(temporary)\n",
        (CUT, SEAL),
    ),
    Mutation(
        "fsync of a sealed segment's name before the other form goes",
        "log/seal.py",
        "        disk.close(descriptor)\n    disk.sync_folder(target.parent)\n",
        "        disk.close(descriptor)\n",
        (CUT, SEAL),
    ),
    Mutation(
        "a sealed segment is held against the chain",
        "log/sealed.py",
        "    if place != bounds.last or sum",
        "    if False and sum",
        (SEALED,),
    ),
    Mutation(
        "what is being written is not sealed",
        "log/seal.py",
        "            segments = segments[:-1]\n",
        "            pass\n",
        (SEAL, PROCESSES),
    ),
)


def try_mutation(mutation: Mutation, folder: Path) -> str | None:
    """The first test that fails on a copy of the code without this protection; None if none does."""
    copy = folder / "copy"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    path = copy / "eventflow" / mutation.path
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.name}: its text is {text.count(mutation.old)} times in {mutation.path}")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return next(filter(None, (first_failure(copy, test) for test in mutation.tests)), None)
    finally:
        shutil.rmtree(copy)


def first_failure(copy: Path, test: str) -> str | None:
    """Run the tests of a file in a copy; the name of the first one that fails."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ("-q", "-x", "--tb=no", "-p", "no:cacheprovider", "-o", "timeout=60")
    command = [sys.executable, "-m", "pytest", *options, test]
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
    )
    failed = re.search(r"^(?:FAILED|ERROR) (\S+?)(?:\[.*)?(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1) or (done.returncode == 1 and not failed):
        raise SystemExit(f"the tests could not be run:\n{done.stdout}{done.stderr}")
    return failed[1] if failed else None


def main() -> None:
    """The program. Exit status 1 if a protection was not missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("word", nargs="?", default="", help="only the mutations with this in their name")
    parser.add_argument("--skip", type=int, default=0, help="begin after that many")
    given, survived = parser.parse_args(), 0
    sys.stdout.write("| what is taken away | the first test that goes red | s |\n|---|---|---|\n")
    for mutation in MUTATIONS[given.skip :]:
        if given.word not in mutation.name:
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="eventflow-mutation-") as folder:
            failed = try_mutation(mutation, Path(folder))
        survived += failed is None
        file, _, test = (failed or "SURVIVED").rpartition("::")
        told = f"`{test}` in `{file}`" if failed else "SURVIVED"
        sys.stdout.write(f"| {mutation.name} (`{mutation.path}`) | {told} | {time.monotonic() - begun:.0f} |\n")
        sys.stdout.flush()
    sys.exit(survived != 0)


if __name__ == "__main__":
    main()
