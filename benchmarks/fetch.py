"""How fast, how big and how dear eventflow's fetch path is, against the clients that people use, on loopback.

nginx serves; the clients take turns, round after round, and each writes all files into a fresh folder, which is removed
outside of the measured time. eventflow's events are durable. Clients that are not installed are named. Rates come from
the whole process, start-up included; "inside" is what a Python client measures itself, without its start-up.

    small         many files of 10 KiB
    connections   the same over 64, 256 and 1024 connections
    large         one file of 1 GiB, and 64 of 16 MiB
    memory        the highest memory at 10 000 requests and at many more
    recording     eventflow with its log, with a log that writes nothing, with no recording; at once and after 20 ms
    instructions  per request, from the difference of two runs: a figure that noise does not change

    python benchmarks/fetch.py small large --rounds 5 --peers-python peers/bin/python

The folders matter: to create a file takes ten times as long on one run as on another on a disk, so the files go to
memory where there is /dev/shm; the event stores go to a disk, which is synced between runs.
"""

import argparse
import contextlib
import os
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks._fetch_clients import Client, Job, find_peers, our_clients, our_command
from benchmarks._fetch_run import Measured, count_instructions, run_client
from benchmarks._fetch_servers import TINY_BYTES, Server, nginx_path, serve_nginx, serve_slowly

SMALL_BYTES = 10 << 10
LATENCY_SECONDS = 0.020
SCENARIOS = ("small", "connections", "large", "memory", "recording", "instructions")
Found = dict[str, list[Measured]]


class Bench:
    """The folders, the server and the clients of one run of this program."""

    def __init__(self, options: argparse.Namespace, served: Path, work: Path, store: Path, server: Server) -> None:
        self.options, self.server = options, server
        self._files, self._work, self._store = served / "files", work, store
        self.ours = [] if options.no_ours else our_clients(options.stage, options.processes)
        peers, self.missing = ([], []) if options.no_peers else find_peers(options.peers_python)
        self.clients = [one for one in (*self.ours, *peers) if any(word in one.name for word in options.clients)]

    def job(self, urls: list[str], size: int, connections: int) -> Job:
        """The same job for every client."""
        return Job(urls, size, connections, self._work, self._work / "out", self._store / "store")

    def files(self, folder: str, count: int, size: int) -> list[str]:
        """Make what nginx serves; gives the URLs."""
        (self._files / folder).mkdir(parents=True, exist_ok=True)
        block = os.urandom(min(size, 1 << 20))
        for number in range(count):
            path = self._files / folder / f"{number:07}.bin"
            if not path.exists():
                with path.open("wb") as file:
                    for _ in range(size // len(block)):
                        file.write(block)
        return [f"{self.server.url}/{folder}/{number:07}.bin" for number in range(count)]

    def tiny(self, count: int) -> list[str]:
        """URLs whose bodies nginx has in its configuration."""
        return [f"{self.server.url}/tiny/{number:08}" for number in range(count)]

    def measure(self, job: Job, clients: list[Client], rounds: int) -> Found:
        """Every client once in each round, each round beginning with another one, after a run that does not count.

        A virtual machine gets memory from its host when it is touched first; who runs first would pay for all.
        """
        found: Found = {one.name: [] for one in clients}
        cores = self.options.client_cores
        for one in clients[:1]:
            run_client(one.command(job), job, self.server, cores)
        for number in range(rounds):
            turn = number % len(clients) if clients else 0
            for one in [*clients[turn:], *clients[:turn]]:
                found[one.name].append(run_client(one.command(job), job, self.server, cores))
        return found


def main() -> None:
    """Run the scenarios that were asked for and print their tables."""
    options = _parse()
    # Each of 1024 connections has a file open too: more than the 1024 descriptors that a shell often allows at first.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    base = options.out_folder or (Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None)
    with contextlib.ExitStack() as stack:
        served, work = (_fresh(stack, base) for _ in range(2))
        (served / "files").mkdir()
        store = _fresh(stack, options.store_folder)
        server = stack.enter_context(serve_nginx(served, options.nginx_workers, options.server_cores))
        bench = Bench(options, served, work, store, server)
        print(f"files in {work.parent}, stores in {store.parent}; {os.cpu_count()} cores; {options.rounds} rounds")
        if bench.missing:
            print(f"not installed, so not measured: {', '.join(bench.missing)}")
        for name in options.scenarios:
            SHOW[name](bench)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help="default: small and large")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000, help="of small, connections and recording")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--memory-requests", type=int, default=1_000_000, help="the larger number of memory")
    parser.add_argument("--instructions-requests", type=int, default=500, help="the smaller number of instructions")
    parser.add_argument("--stage", default="director", help="eventflow's stage")
    parser.add_argument("--processes", type=_numbers, default=[1, 2], help="of the director, such as 1,2")
    parser.add_argument(
        "--clients", type=lambda text: text.split(","), default=[""], help="parts of names, such as curl"
    )
    parser.add_argument("--no-ours", action="store_true", help="only the peers")
    parser.add_argument("--no-peers", action="store_true", help="only eventflow")
    parser.add_argument("--peers-python", default=sys.executable, help="where aiohttp, httpx, trio and pycurl are")
    parser.add_argument("--nginx-workers", type=int, default=1)
    parser.add_argument("--client-cores", help="such as 0: the clients stay there")
    parser.add_argument("--server-cores", help="such as 1: nginx stays there")
    parser.add_argument("--out-folder", type=Path, help="where files go; default: /dev/shm or the temporary folder")
    parser.add_argument("--store-folder", type=Path, help="where events go, a disk; default: the temporary folder")
    options = parser.parse_args()
    options.scenarios = options.scenarios or ["small", "large"]
    if nginx_path() is None:
        parser.error("nginx is not installed: apt install nginx")
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _fresh(stack: contextlib.ExitStack, base: Path | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="eventflow-bench-", dir=base))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _show_small(bench: Bench) -> None:
    files, connections = bench.options.files, bench.options.connections
    job = bench.job(bench.files("small", files, SMALL_BYTES), SMALL_BYTES, connections)
    found = bench.measure(job, bench.clients, bench.options.rounds)
    _print_rates(f"{files:,} files of 10 KiB, {connections} connections", found)


def _show_connections(bench: Bench) -> None:
    urls = bench.files("small", bench.options.files, SMALL_BYTES)
    counts = (64, 256, 1024)
    rounds: list[dict[int, Found]] = [
        {count: bench.measure(bench.job(urls, SMALL_BYTES, count), bench.clients, 1) for count in counts}
        for _ in range(bench.options.rounds)
    ]
    for count in counts:
        found = {one.name: [row[count][one.name][0] for row in rounds] for one in bench.clients}
        _print_rates(f"{len(urls):,} files of 10 KiB, {count} connections", found)


def _show_large(bench: Bench) -> None:
    for folder, count, size in (("huge", 1, 1 << 30), ("large", 64, 16 << 20)):
        job = bench.job(bench.files(folder, count, size), size, min(count, bench.options.connections))
        found = bench.measure(job, bench.clients, bench.options.rounds)
        _print_rates(f"{count} x {size >> 20:,} MiB", found, unit="MB/s")


def _show_memory(bench: Bench) -> None:
    print(f"\n{f'memory, bodies of {TINY_BYTES} bytes':<44}{'requests':>12}{'PSS MiB':>10}{'RSS MiB':>10}{'req/s':>9}")
    for client in bench.clients:
        for count in (10_000, bench.options.memory_requests):
            job = bench.job(bench.tiny(count), TINY_BYTES, bench.options.connections)
            one = run_client(client.command(job), job, bench.server, bench.options.client_cores, sample=True)
            memory = f"{one.pss / 2**20:>10.1f}{one.rss / 2**20:>10.1f}"
            print(f"  {client.name:<42}{count:>12,}{memory}{one.requests / one.wall:>9,.0f}  {one.problem}")


def _show_recording(bench: Bench) -> None:
    files, options = bench.options.files, bench.options
    urls = bench.files("small", files, SMALL_BYTES)
    _print_recording(bench, bench.job(urls, SMALL_BYTES, options.connections), "nginx, no latency")
    with serve_slowly(files, SMALL_BYTES, LATENCY_SECONDS) as server:
        slow, nginx = [f"{server.url}/files/{number:06}.bin" for number in range(files)], bench.server
        bench.server = server
        _print_recording(bench, bench.job(slow, SMALL_BYTES, options.connections), "origin, 20 ms latency")
        bench.server = nginx


def _print_recording(bench: Bench, job: Job, title: str) -> None:
    found = bench.measure(job, list(_recorders(bench.options.stage, job.connections)), bench.options.rounds)
    _print_rates(f"{len(job.urls):,} files of 10 KiB, {title}", found)


def _recorders(stage: str, connections: int) -> Iterator[Client]:
    """One process of the stage: with its log, and without parts of it. To switch the log off otherwise, change this."""
    workers = 1 if stage in {"director", "lineage"} else connections
    parts = {"as it is": None, "nothing is written": "writer", "nothing is recorded": "recorder"}
    for name, part in parts.items():
        yield Client(f"{stage}, {name}", _recorder(stage, workers, part), is_ours=True)


def _recorder(stage: str, workers: int, part: str | None) -> Callable[[Job], list[str]]:
    return lambda job: our_command(job, stage, workers, part)


def _show_instructions(bench: Bench) -> None:
    count = bench.options.instructions_requests
    urls = bench.files("small", 2 * count, SMALL_BYTES)
    print(f"\n{f'instructions of a request of 10 KiB, {count} of them':<46}{'thousands':>12}")
    for client in bench.clients:
        jobs = [bench.job(some, SMALL_BYTES, bench.options.connections) for some in (urls[:count], urls)]
        once, twice = (count_instructions(client.command(job), job) for job in jobs)
        print(f"  {client.name:<44}{(twice - once) / count / 1e3:>12,.1f}")


SHOW = {
    "small": _show_small,
    "connections": _show_connections,
    "large": _show_large,
    "memory": _show_memory,
    "recording": _show_recording,
    "instructions": _show_instructions,
}


def _print_rates(title: str, found: Found, unit: str = "req/s") -> None:
    """Medians and spread; how many times the first client's rate each has; CPU time of a request or of a gigabyte."""
    per, cost = ("µs", "request") if unit == "req/s" else ("ms", "GB")
    print(f"\n{title}; CPU time in {per} per {cost}")
    columns = (("inside", 9), ("user", 8), ("system", 8), ("server", 8))
    print(f"  {'':<30}{unit:>9}{'lowest':>9}{'highest':>9}{'first is':>10}" + "".join(f"{a:>{b}}" for a, b in columns))
    first = None
    for name, all_rounds in found.items():
        rounds = [one for one in all_rounds if not one.problem]
        if rounds:
            first = first or statistics.median(_amount(one, unit) / one.wall for one in rounds)
            print(f"  {name:<30}{_row(rounds, unit, first)}")
        for one in (one for one in all_rounds if one.problem):
            print(f"  {name:<30} failed: {one.problem}")


def _row(rounds: list[Measured], unit: str, first: float) -> str:
    rates = [_amount(one, unit) / one.wall for one in rounds]
    inside = [_amount(one, unit) / one.inside for one in rounds if one.inside]
    middle = statistics.median(rates)
    parts = [(one.user, one.system, one.server) for one in rounds]
    # Microseconds of a request; and since MB are thousandths of a GB, seconds of a MB are so many thousand of a GB.
    scale = 1e6 / rounds[0].requests if unit == "req/s" else 1e6 / (rounds[0].bytes / 1e6)
    costs = [statistics.median(seconds) * scale for seconds in zip(*parts, strict=True)]
    shown = f"{statistics.median(inside):>9,.0f}" if inside else f"{'-':>9}"
    spread = f"{middle:>9,.0f}{min(rates):>9,.0f}{max(rates):>9,.0f}{first / middle:>9.2f}x"
    return spread + shown + "".join(f"{cost:>8,.0f}" for cost in costs)


def _amount(one: Measured, unit: str) -> float:
    return one.requests if unit == "req/s" else one.bytes / 1e6


if __name__ == "__main__":
    main()
