"""The director is killed at random instants and resumed, again and again: nothing is lost, and nothing done twice.

    PYTHONPATH=. python tests/faults/director_kills.py --kills 200 --seed 2

Small files and large ones, one process and two, from an origin that is slow enough to be caught in the middle; with an
odd seed it fails on purpose as well. After each run: every file is there byte for byte, every request was completed
exactly once, the log verifies, no temporary file is left.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from eventflow.log.reader import read_events
from eventflow.log.runs import list_runs
from eventflow.log.verify import verify_run
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import Fault, OriginSettings, even_faults
from eventflow.vocabulary import AttemptSent, RequestCompleted, decode_payload

EVENTFLOW = [sys.executable, "-m", "eventflow"]
_SITTINGS_MAX = 40
_PASSING_FAULTS = {name: share for name, share in even_faults(0.03).items() if name != Fault.REFUSE}


class Killed:
    """Runs that are killed until there were enough kills.

    Args:
        origin: the server.
        folder: where lists, files and stores go.
        chance: the dice.
    """

    def __init__(self, origin: Origin, folder: Path, chance: random.Random) -> None:
        self._origin, self._folder, self._chance = origin, folder, chance
        self._entries = list(origin.entries())
        lines = [f"{entry.url}\t{entry.name}\t{entry.sha256}" for entry in self._entries]
        (folder / "urls.tsv").write_text("\n".join(lines) + "\n")
        self.kills = self.runs = self.ranges = 0

    def run_once(self, kills_max: int) -> None:
        """One run, killed and resumed until it completes."""
        self.runs += 1
        store, out = self._folder / f"store-{self.runs}", self._folder / f"files-{self.runs}"
        stage, workers = self._chance.choice(["director", "lineage"]), self._chance.choice(["1", "1", "2"])
        begin = ["run", stage, "-w", workers, "-i", str(self._folder / "urls.tsv"), "-o", str(out), "--timeout", "2s"]
        command = begin
        for sitting in range(_SITTINGS_MAX):
            wait_s = self._chance.uniform(0.3, 2.2) if self.kills < kills_max and sitting < _SITTINGS_MAX // 2 else 60.0
            status = self._sit([*command, "-q", "--store", str(store)], wait_s)
            if status == 0:
                break
            assert status in (1, None), f"exit status {status} of {command}"
            command = ["resume", "latest"] if list(store.glob("*/run.json")) else begin
        self._check(store, out)
        shutil.rmtree(store)
        shutil.rmtree(out)

    def _sit(self, command: list[str], wait_s: float) -> int | None:
        """The exit status, None if it was killed."""
        process = subprocess.Popen([*EVENTFLOW, *command], start_new_session=True, stderr=subprocess.DEVNULL)
        try:
            return process.wait(wait_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.kills += 1
            return None

    def _check(self, store: Path, out: Path) -> None:
        (run,) = list_runs(store)
        completed: Counter[str] = Counter()
        for event in read_events(run.log, types=[RequestCompleted.TYPE, AttemptSent.TYPE]):
            payload = decode_payload(event)
            completed[event.stream] += isinstance(payload, RequestCompleted)
            self.ranges += isinstance(payload, AttemptSent) and payload.range_start is not None
        assert {count for count in completed.values() if count} == {1}, "a request was completed twice"
        assert sum(completed.values()) == len(self._entries)
        assert [report.damage for report in verify_run(run.log, run.run) if report.damage] == []
        assert sorted(path.name for path in out.rglob("*")) == sorted(entry.name for entry in self._entries)
        for entry in self._entries:
            assert hashlib.sha256((out / entry.name).read_bytes()).hexdigest() == entry.sha256, entry.name


def torture(kills: int, seed: int, files: int = 400) -> Killed:
    """So many kills; gives what there was. AssertionError if something was lost or done twice."""
    chance = random.Random(seed)
    settings = OriginSettings(
        files=files,
        size=60_000,
        size_spread=1.8,
        bandwidth=3_000_000,
        latency_s=0.005,
        faults=_PASSING_FAULTS if seed % 2 else {},
        stall_s=2.0,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder, start_origin(settings) as origin:
        killed = Killed(origin, Path(folder), chance)
        while killed.kills < kills:
            killed.run_once(kills)
    return killed


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}\n")
    sys.stdout.flush()
    killed = torture(arguments.kills, arguments.seed)
    what = f"nothing lost, nothing twice; {killed.ranges} parts gone on with"
    sys.stdout.write(f"{killed.kills} kills of the director in {killed.runs} runs: {what}\n")


if __name__ == "__main__":
    main()
