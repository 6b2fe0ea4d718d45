"""The problems of the stage threads: one lock, errors that stay in futures, threads that cannot be stopped."""

import os
import sys

from eventflow.origin.settings import OriginSettings
from eventflow.quantities import format_duration, format_size
from instrumentation.processes import read_tree
from stages.problems.programs import Ended
from stages.problems.scene import Scene
from stages.problems.shown import Shown

_COMPUTING = """\
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

def count_down(number):
    while number:
        number -= 1

if __name__ == "__main__":
    Pool = {"threads": ThreadPoolExecutor, "processes": ProcessPoolExecutor}[sys.argv[1]]
    with Pool(4) as pool:
        list(pool.map(count_down, [6_000_000] * 4))
"""

_FORGETTING = """\
from concurrent.futures import ThreadPoolExecutor
import httpx

def save(line):
    url, name, _ = line.split()
    answer = httpx.get(url).raise_for_status()
    open(name, "wb").write(answer.content)

with ThreadPoolExecutor(4) as pool:
    for line in open("urls.tsv"):
        pool.submit(save, line)
print("done")
"""

_LEAVING = """\
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

pool = ThreadPoolExecutor(4)
future = pool.submit(urlopen, open("urls.txt").readline())
try:
    future.result(timeout=0.3)
except TimeoutError:
    pool.shutdown(wait=False, cancel_futures=True)
    print("no answer in time, so I leave", flush=True)
    sys.exit(1)
"""


def one_lock(scene: Scene) -> Shown:
    """Computing in pure Python: four threads against four processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, threads_bytes = _watched(scene, "threads")
    processes, processes_bytes = _watched(scene, "processes")
    busy_threads, busy_processes = (ended.cpu_seconds / ended.seconds for ended in (threads, processes))
    missing = ""
    if cores < 2:
        missing = "This machine has one processor for us: here processes cannot be faster than threads."
    elif not getattr(sys, "_is_gil_enabled", lambda: True)():
        missing = "This Python is built without the lock: here threads use all processors, as processes do."
    elif busy_processes < 1.2 * busy_threads:
        missing = "Other programs keep this machine busy, so processes gain nothing now: try again when it is idle."
    return Shown(
        program=_COMPUTING,
        facts={
            "processors": cores,
            "threads_seconds": threads.seconds,
            "threads_busy_processors": busy_threads,
            "threads_peak_bytes": threads_bytes,
            "processes_seconds": processes.seconds,
            "processes_busy_processors": busy_processes,
            "processes_peak_bytes": processes_bytes,
        },
        seen=(
            (
                f"4 threads: {format_duration(threads.seconds)}, {busy_threads:.1f} of {cores} processors at work, "
                f"{format_size(threads_bytes)} of memory."
            ),
        ),
        why="Only the thread that holds the interpreter's lock (GIL) runs Python. Threads overlap waiting, not "
        "computing.",
        next="processes: an interpreter, and a lock, for each worker. It costs memory.",
        seen_next=(
            (
                f"4 processes: {format_duration(processes.seconds)}, {busy_processes:.1f} of {cores} processors at "
                f"work, {format_size(processes_bytes)} of memory."
            ),
        ),
        missing=missing,
    )


def _watched(scene: Scene, pool: str) -> tuple[Ended, int]:
    """How it ended, and the most memory that was seen."""
    running, peak = scene.start_program(_COMPUTING, pool), 0

    def look() -> bool:
        nonlocal peak
        peak = max(peak, read_tree(running.pid).memory_bytes)
        return not running.is_running()

    running.wait_until(look, limit_s=20)
    return running.end(20), peak


def lost_error(scene: Scene) -> Shown:
    """Exceptions stay in futures that nobody asks."""
    files = 12
    origin = scene.origin(OriginSettings(files=files, size=10_000, faults={"500": 0.25}, seed=3))
    source = scene.list_of(origin)
    naive = scene.program(_FORGETTING, limit_s=15)
    there = len(list(scene.folder.glob("*.bin")))
    origin.reset()
    ran = scene.run_stage("threads", source)
    failed = ran.summary.failed
    first = ran.first_failure()
    return Shown(
        program=_FORGETTING,
        facts={
            "files": files,
            "files_there": there,
            "exit_status": -1 if naive.status is None else naive.status,
            "error_lines": len(naive.err.splitlines()),
            "stage_failed": failed,
            "stage_completed": ran.summary.completed,
            "stage_exit_status": ran.status,
        },
        seen=(
            (
                f"{files} files were asked for and {there} are there. It said {naive.out.strip()!r}, wrote "
                f"{'something' if naive.err else 'nothing'} to standard error, and ended with status {naive.status}."
            ),
        ),
        why="submit() keeps an exception in the future, and only result() raises it. Nobody asks the future: the error "
        "is gone with it.",
        next="The stage threads asks every thread for its result, and in eventflow a failure is an event: it is in the "
        "log before the thread takes its next request.",
        seen_next=(
            f"eventflow run threads: {ran.summary.completed} completed, {failed} failed, exit status {ran.status}.",
            f"The first: {first}.",
        ),
    )


def hanging_exit(scene: Scene) -> Shown:
    """A thread that blocks keeps the interpreter from ending."""
    source = scene.list_of(scene.origin(OriginSettings(files=4, size=10_000, latency_s=60)))
    patience = 1.5
    stage = scene.start_stage("threads", source, "--workers", "4")
    naive = scene.start_program(_LEAVING)
    naive.wait_until(lambda: "leave" in naive.said(), limit_s=10)
    said_after = naive.seconds()
    ended = naive.end(patience)
    stage.wait_events("attempt.started", 4)
    asked = stage.process.seconds()
    ran = stage.stop()
    left_after = stage.process.ended_after() - asked
    return Shown(
        program=_LEAVING,
        facts={
            "said_after_seconds": said_after,
            "waited_seconds": ended.seconds - said_after,
            "ended_by_itself": ended.status is not None,
            "stage_left_after_seconds": left_after,
            "stage_state": ran.summary.state,
            "stage_cancelled": ran.summary.cancelled,
            "stage_exit_status": ran.status,
        },
        seen=(
            f"After {format_duration(said_after)} it said {ended.out.strip()!r}.",
            f"{format_duration(ended.seconds - said_after)} later it "
            + ("had ended." if ended.status is not None else "was still there, and would be for ever. We killed it."),
        ),
        why="A thread that blocks in a read cannot be stopped from outside, and when the interpreter ends it waits for "
        "every thread of a pool, whatever shutdown(wait=False) says.",
        next="The stage threads waits a second or two for its threads, writes down what becomes of their requests, and "
        "leaves without them.",
        seen_next=(
            (
                f"eventflow run threads on the same server, then SIGTERM: gone after {format_duration(left_after)}, "
                f"{ran.summary.cancelled} requests recorded as cancelled, {ran.summary.state}, to be resumed."
            ),
        ),
    )
