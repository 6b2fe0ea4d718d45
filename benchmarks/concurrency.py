"""What `--concurrency auto` reaches of the best fixed setting, over a grid of origins, and how fast it backs off.

Each cell is an origin in a process of its own: its latency, how many requests it handles at once, and what is scarce:
nothing more (latency), its bandwidth, or its CPU. The director fetches files of 10 KiB from it with fixed settings and
with auto, interleaved; a table shows the medians in requests a second, and what auto has of the best, from its first
request to its last: the search for the limit is in it.

Then the origin becomes ten times as slow in the middle of a run, and the time is shown until the limit had halved.

    python benchmarks/concurrency.py --rounds 3
    python benchmarks/concurrency.py --rounds 1 --latencies 20 --places 4 32 --kinds latency
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from eventflow.log.reader import read_events
from eventflow.log.runs import find_run
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings
from eventflow.origin_events import LimitChanged
from eventflow.vocabulary import decode_payload

SIZE = 10 << 10
SETTINGS = ("1", "4", "16", "64", "256", "auto")
KINDS = ("latency", "bandwidth", "cpu")
OWN_RATE_MAX = 3_000  # about what one process of ours does; more files than for this would only take longer
FILES_MIN = 60
SLOW_AFTER_S = 5.0


class Cell(NamedTuple):
    """An origin of the grid."""

    latency_s: float
    places: int
    kind: str

    @property
    def rate(self) -> float:
        """Requests a second that it could answer, or that we could ask."""
        of_places = self.places / self.latency_s
        return min(OWN_RATE_MAX, of_places if self.kind == "latency" else 0.7 * of_places)

    def expected(self, setting: str) -> float:
        """Requests a second that a setting could reach."""
        return self.rate if setting == "auto" else min(self.rate, int(setting) / self.latency_s)

    def origin(self, files: int, slow_after_s: float | None = None) -> OriginSettings:
        """Its settings."""
        return OriginSettings(
            files=files,
            size=SIZE,
            latency_s=self.latency_s,
            concurrency=self.places,
            total_bandwidth=int(self.rate * SIZE) if self.kind == "bandwidth" else None,
            cpu_s=1 / self.rate if self.kind == "cpu" else 0.0,
            slow_after_s=slow_after_s,
        )


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long a run with a fixed setting takes")
    parser.add_argument("--auto-seconds", type=float, default=8.0, help="the same for auto")
    parser.add_argument("--latencies", type=float, nargs="+", default=[1.0, 20.0, 100.0], metavar="MS")
    parser.add_argument("--places", type=int, nargs="+", default=[4, 32, 256], metavar="N")
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=KINDS)
    options = parser.parse_args()
    seconds = dict.fromkeys(SETTINGS, options.seconds) | {"auto": options.auto_seconds}
    titles = ("latency", "places", "scarce", *SETTINGS, "auto/best", "s to back off")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for latency_ms, places, kind in itertools.product(options.latencies, options.places, options.kinds):
        cell = Cell(latency_ms / 1000, places, kind)
        rates = _measure(cell, seconds, options.rounds)
        best = max(rate for setting, rate in rates.items() if setting != "auto")
        shown = " | ".join(f"{rates[setting]:,.0f}" for setting in SETTINGS)
        back_off = "" if kind != "latency" else _show(_time_back_off(cell))
        print(
            f"| {latency_ms:g} ms | {places} | {kind} | {shown} | {rates['auto'] / best:.2f} | {back_off} |",
            flush=True,
        )


def _measure(cell: Cell, seconds: dict[str, float], rounds: int) -> dict[str, float]:
    """The median rate of each setting."""
    files = {setting: max(FILES_MIN, int(cell.expected(setting) * seconds[setting])) for setting in SETTINGS}
    found: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    with start_origin(cell.origin(max(files.values()))) as origin:
        for _ in range(rounds):
            for setting in SETTINGS:
                with _folder(origin, files[setting]) as folder:
                    found[setting].append(_run_director(folder, setting))
    return {setting: statistics.median(rates) for setting, rates in found.items()}


@contextmanager
def _folder(origin: Origin, files: int) -> Iterator[Path]:
    """A folder with the list of so many files, that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="eventflow-bench-") as name:
        folder = Path(name)
        with (folder / "list.tsv").open("wb") as lines:
            lines.writelines(entry.tsv() for entry in itertools.islice(origin.entries(), files))
        yield folder


def _run_director(folder: Path, setting: str) -> float:
    """Fetch the list of a folder: requests a second."""
    command = [sys.executable, "-m", "eventflow", "run", "director", "--json", "--quiet", "--concurrency", setting]
    command += ["--input", str(folder / "list.tsv"), "--out", str(folder / "files"), "--store", str(folder / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the director ended with status {done.returncode}: {done.stderr or done.stdout}")
    return float(json.loads(done.stdout)["requests_per_second"])


def _time_back_off(cell: Cell) -> float | None:
    """Seconds from when the origin became slow until the limit was half of what it had been; None if it never was."""
    files = int(cell.rate * SLOW_AFTER_S * 1.5) + FILES_MIN
    with start_origin(cell.origin(files, SLOW_AFTER_S)) as origin, _folder(origin, files) as folder:
        origin.reset()
        slow_ns = time.time_ns() + int(SLOW_AFTER_S * 1e9)
        _run_director(folder, "auto")
        before = limit = 0
        for event in read_events(find_run(folder / "store", "latest").log, types=[LimitChanged.TYPE]):
            payload = decode_payload(event)
            assert isinstance(payload, LimitChanged)
            limit = payload.limit
            if event.time <= slow_ns:
                before = limit
            elif limit <= before / 2:
                return (event.time - slow_ns) / 1e9
    return None


def _show(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f}"


if __name__ == "__main__":
    main()
