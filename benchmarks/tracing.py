"""What tracing costs: the director with no recording, with events, with events exported, with the OpenTelemetry SDK.

The modes take turns, round after round, each run in a fresh process, with the same requests and the same concurrency:

    no recording         the recorder is replaced, here and not by a switch of eventflow: it keeps no event, so no id
                         is made, nothing encoded, hashed, written or synced; only the payloads are still built
    events               eventflow as it is, `eventflow run director`
    events + projection  `run director --otlp`, to the real collector, which counts the spans and throws them away
    OpenTelemetry SDK    in place of events, the same spans by the SDK, with its batch processor and OTLP exporter in
                         the same process, as it is usually done. It has no log

scenarios:

    latency   each response comes 20 ms after its request, from the embedded origin
    cpu       responses of 100 bytes at once, from nginx where it is installed
    cost      a span's cost in the hot path: a request's events into a log, and the SDK's spans of the same story;
              "discarded" is with an exporter that does nothing, so that only beginning and ending spans is left

`--project 100000` makes a run of so many requests and exports it by one process on the first core, with the collector
on the second. Times are the run's own, without Python's start; "until arrived" is the whole process, and ends when the
collector has taken the last span. The collector's own count tells whether all arrived.

    python benchmarks/tracing.py --scenario latency --requests 5000 --repeat 5
    python benchmarks/tracing.py --project 100000 --repeat 3
"""

import argparse
import contextlib
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks._fetch_servers import TINY_BYTES, nginx_path, serve_nginx, serve_slowly
from benchmarks._tracing_collector import HOW_TO_GET, Collector, collector_path, run_collector
from benchmarks._tracing_cost import EXPORTED, SPANS, Cost, measure_costs, middle
from benchmarks._tracing_project import count_spans, export_run, make_job, record_run
from benchmarks._tracing_run import MODES, NEEDS_COLLECTOR, Measured, Mode, run_mode

SCENARIOS = ("latency", "cpu", "cost")
REQUESTS = {"latency": 10_000, "cpu": 20_000, "cost": 3_000}
LATENCY_SECONDS = 0.020
GOAL_SHARES = {"latency": 0.05, "cpu": 0.25}
GOAL_TIMES_CHEAPER = 5.0
GOAL_SPANS_PER_SECOND = 10_000
GOAL_MEMORY_BYTES = 150 << 20
Rounds = dict[Mode, list[Measured]]


def main() -> None:
    """Run what was asked for and print its tables."""
    options = _parse()
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with contextlib.ExitStack() as stack:
        work, store = _fresh(stack, base), _fresh(stack, options.store_folder)
        collector = stack.enter_context(run_collector(_fresh(stack, base))) if collector_path() else None
        print(f"files in {work.parent}, stores in {store.parent}; {os.cpu_count()} cores; {options.repeat} rounds")
        if collector is None:
            print(f"not measured, since {HOW_TO_GET}: what goes to a collector")
        for name in options.scenario or ([] if options.project else SCENARIOS):
            requests = options.requests or REQUESTS[name]
            if name == "cost":
                for links in (False, True):
                    costs = measure_costs(
                        store, requests, options.repeat, collector and collector.endpoint, links=links
                    )
                    _show_costs(costs, "with links (lineage)" if links else "without links (director)")
            else:
                with _server(name, requests, work) as urls:
                    rounds = _measure(urls, options, work, store, collector)
                _show_modes(name, requests, options.concurrency, rounds)
        if options.project:
            theirs, ours = ("1", "0") if (os.cpu_count() or 1) > 1 else (None, None)
            collector = stack.enter_context(run_collector(_fresh(stack, base), theirs))
            _show_project(options, work, store, collector, ours)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="may be repeated; default: all")
    parser.add_argument("--requests", type=int, help=f"of each run; default: {REQUESTS}")
    parser.add_argument("--repeat", type=int, default=5, help="how many rounds")
    parser.add_argument("--concurrency", type=int, default=32, help="requests in flight")
    parser.add_argument("--project", type=int, metavar="N", help="export a run of N requests, with nothing beside it")
    parser.add_argument("--store-folder", type=Path, help="where events go, a disk; default: the temporary folder")
    options = parser.parse_args()
    if options.project and collector_path() is None:
        parser.error(HOW_TO_GET)
    return options


def _fresh(stack: contextlib.ExitStack, base: Path | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="eventflow-bench-", dir=base))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _server(scenario: str, requests: int, work: Path) -> Iterator[list[str]]:
    """What is fetched, while somebody serves it."""
    if scenario == "cpu" and nginx_path() is not None:
        with serve_nginx(work, 1, None) as server:
            yield [f"{server.url}/tiny/{number:08}" for number in range(requests)]
        return
    with serve_slowly(requests, TINY_BYTES, LATENCY_SECONDS if scenario == "latency" else 0.0) as server:
        yield [f"{server.url}/files/{number:06}.bin" for number in range(requests)]


def _measure(
    urls: list[str], options: argparse.Namespace, work: Path, store: Path, collector: Collector | None
) -> Rounds:
    """Every mode once in each round, each round beginning with another one, after a run that does not count."""
    modes: list[Mode] = [mode for mode in MODES if collector or mode not in NEEDS_COLLECTOR]
    job = make_job(urls, TINY_BYTES, options.concurrency, work, store)
    run_mode("events", job, None)
    rounds: Rounds = {mode: [] for mode in modes}
    for number in range(options.repeat):
        turn = number % len(modes)
        for mode in (*modes[turn:], *modes[:turn]):
            rounds[mode].append(run_mode(mode, job, collector if mode in NEEDS_COLLECTOR else None))
    return rounds


def _show_modes(scenario: str, requests: int, concurrency: int, rounds: Rounds) -> None:
    what = f"{LATENCY_SECONDS * 1e3:g} ms of latency" if scenario == "latency" else "no latency"
    print(f"\n{requests:,} requests, {what}, {concurrency} at once; CPU time of the run's process in µs per request")
    columns = (("req/s", 9), ("lowest", 9), ("highest", 9), ("CPU", 7), ("until arrived", 15), ("spans", 10))
    print(f"  {'':<22}" + "".join(f"{name:>{width}}" for name, width in columns) + f"{'not arrived':>13}")
    for mode, found in rounds.items():
        good = [one for one in found if not one.problem]
        for one in (one for one in found if one.problem):
            print(f"  {mode:<22} failed: {one.problem}")
        if good:
            rates = [requests / one.seconds for one in good]
            cpu = statistics.median(one.cpu for one in good) * 1e6 / requests
            wall = statistics.median(one.wall for one in good)
            shown = (
                f"{statistics.median(rates):>9,.0f}{min(rates):>9,.0f}{max(rates):>9,.0f}{cpu:>7,.0f}{wall:>13.2f} s"
            )
            spans, dropped = (statistics.median(getattr(one, name) for one in good) for name in ("spans", "dropped"))
            print(f"  {mode:<22}{shown}" + (f"{spans:>10,.0f}{dropped:>13,.0f}" if spans else ""))
    _show_shares(scenario, rounds)


def _show_shares(scenario: str, rounds: Rounds) -> None:
    """How much longer the run takes, each compared with another run of its own round."""
    for mode in MODES[1:]:
        if not (shares := _shares(rounds, mode, "no recording")):
            continue
        share = statistics.median(shares)
        print(f"  {mode}: {share:+.1%} of wall ({min(shares):+.1%} to {max(shares):+.1%})", end="")
        if mode == "events + projection":
            most, alone = GOAL_SHARES[scenario], _shares(rounds, mode, "events")
            print(f"; goal: at most {most:.0%}: {'reached' if share <= most else 'missed'}", end="")
            print(f"; against events alone {statistics.median(alone):+.1%}" if alone else "", end="")
        print()
    cpu = {mode: statistics.median(one.cpu for one in found) for mode, found in rounds.items()}
    if "OpenTelemetry SDK" in cpu:
        ours, theirs = (cpu[mode] - cpu["no recording"] for mode in ("events", "OpenTelemetry SDK"))
        if ours > 0:
            goal = _times_goal(theirs / ours)
            print(f"  CPU time added in the run's process: the SDK's is {theirs / ours:.1f} times that of events{goal}")


def _shares(rounds: Rounds, mode: Mode, than: Mode) -> list[float]:
    """Of each round the share of time that the one takes more than the other."""
    pairs = zip(rounds.get(mode, ()), rounds.get(than, ()), strict=False)
    return [one.seconds / other.seconds - 1 for one, other in pairs if not one.problem and not other.problem]


def _show_costs(found: dict[str, list[Cost]], what: str) -> None:
    """The time in the thread that does the work, and the processor time of all threads; how often the first goes in."""
    title = f"µs per span, {what}, {SPANS} a request"
    columns = (("in the thread", 15), ("lowest", 9), ("highest", 9), ("times", 7), ("all threads", 13), ("times", 7))
    print(f"\n{title:<46}" + "".join(f"{name:>{width}}" for name, width in columns))
    first = middle(next(iter(found.values())))
    for name, costs in found.items():
        cost, threads = middle(costs), [one.thread for one in costs]
        ratio, ratio_of_all = cost.thread / first.thread, cost.everything / first.everything
        shown = f"{cost.thread:>15.2f}{min(threads):>9.2f}{max(threads):>9.2f}{ratio:>6.1f}x"
        print(f"  {name:<44}{shown}{cost.everything:>13.1f}{ratio_of_all:>6.1f}x", end="")
        print(_times_goal(ratio) if name == EXPORTED else "")


def _times_goal(ratio: float) -> str:
    return f"; goal: at least {GOAL_TIMES_CHEAPER:g}: {'reached' if ratio >= GOAL_TIMES_CHEAPER else 'missed'}"


def _show_project(
    options: argparse.Namespace, work: Path, store: Path, collector: Collector, cores: str | None
) -> None:
    with _server("cpu", options.project, work) as urls:
        job = make_job(urls, TINY_BYTES, options.concurrency, work, store)
        run = record_run(job)
    spans = count_spans(job, run)
    where = f"one core ({cores}), the collector on another" if cores else "no core of their own"
    print(f"\n{options.project:,} requests, {spans:,} spans, exported by one process on {where}")
    found = [export_run(job, run, spans, collector, cores) for _ in range(options.repeat)]
    for one in found:
        rate = one.arrived / one.wall
        print(
            f"  {one.wall:.1f} s, {rate:,.0f} spans/s, CPU {one.cpu / spans * 1e6:.1f} µs per span, "
            f"collector's {one.collector_cpu / spans * 1e6:.1f} µs, peak memory {one.rss / 2**20:.0f} MiB"
            + (f"; {one.arrived - spans:+,} of the spans arrived" if one.arrived != spans else "; all arrived once")
        )
    rate, memory = statistics.median(one.arrived / one.wall for one in found), max(one.rss for one in found)
    fast, small = rate >= GOAL_SPANS_PER_SECOND, memory <= GOAL_MEMORY_BYTES
    print(f"  {rate:,.0f} spans/s; goal: {GOAL_SPANS_PER_SECOND:,}: {'reached' if fast else 'missed'}")
    print(f"  {memory / 2**20:.0f} MiB; goal: {GOAL_MEMORY_BYTES >> 20}: {'reached' if small else 'missed'}")


if __name__ == "__main__":
    main()
