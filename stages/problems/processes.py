"""The problems of the stage processes: what a worker costs, what cannot cross, and who is killed without a word."""

import gzip
import os
import pickle
import signal
from collections import Counter
from collections.abc import Callable

import msgspec

from eventflow.errors import HttpStatus
from eventflow.origin.settings import OriginSettings
from eventflow.quantities import format_duration, format_size
from eventflow.vocabulary import ProcessExited, ProcessStarted, decode_payload
from instrumentation.processes import read_tree
from stages.problems.cgroup import MemoryCgroup, memory_cgroup
from stages.problems.programs import Running
from stages.problems.scene import Scene
from stages.problems.shown import Shown
from stages.problems.stage_runs import Ran, RunningStage
from stages.running import Summary

_RAISING = """\
import httpx
from concurrent.futures import ProcessPoolExecutor

class DownloadError(Exception):
    def __init__(self, url, status):
        super().__init__(f"{url}: status {status}")

def fetch(url):
    answer = httpx.get(url)
    if answer.is_error:
        raise DownloadError(url, answer.status_code)
    return len(answer.content)

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(fetch, url) for url in open("urls.txt").read().split()]
    for future in futures:
        print(repr(future.exception()))
"""

_READING = """\
import gzip, hashlib
from concurrent.futures import ProcessPoolExecutor

def digest(name):
    text = gzip.decompress(open(name, "rb").read())
    return hashlib.sha256(text).hexdigest()

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(digest, f"{number}.gz") for number in range(8)]
    for future in futures:
        print(repr(future.exception()))
"""
_PIECE_BYTES = 16 << 20
_LARGE_BYTES = 20 * _PIECE_BYTES
_ENOUGH_BYTES = 100 << 20
_STAGE_FILES = 30


def cost_of_workers(scene: Scene) -> Shown:
    """The same waits in threads, in processes and in a loop: time, memory, CPU."""
    source = scene.list_of(scene.origin(OriginSettings(files=30, size=10_000, latency_s=0.05)))
    threads, processes, loop = (
        scene.run_stage(stage, source, "--workers", workers).summary
        for stage, workers in (("threads", "3"), ("processes", "3"), ("loop", "30"))
    )
    each = (processes.peak_memory_bytes - threads.peak_memory_bytes) / 3

    def said(summary: Summary) -> str:
        return (
            f"{format_duration(summary.seconds)}, {format_size(summary.peak_memory_bytes)} of memory, "
            f"{format_duration(summary.cpu_seconds)} of CPU"
        )

    return Shown(
        facts={
            "threads_seconds": threads.seconds,
            "threads_peak_bytes": threads.peak_memory_bytes,
            "threads_cpu_seconds": threads.cpu_seconds,
            "processes_seconds": processes.seconds,
            "processes_peak_bytes": processes.peak_memory_bytes,
            "processes_cpu_seconds": processes.cpu_seconds,
            "bytes_per_worker_process": each,
            "loop_seconds": loop.seconds,
            "loop_peak_bytes": loop.peak_memory_bytes,
        },
        seen=(
            f"3 threads: {said(threads)}.",
            f"3 processes: {said(processes)}: {format_size(each)} more for each worker.",
        ),
        why="A worker process loads an interpreter and every module of its own, before its first request. For waiting "
        "it buys nothing; for computing it does (one-lock).",
        next="loop: one thread waits for everything. One more request at a time is one more object, not one more "
        "thread or interpreter.",
        seen_next=(f"30 at once in the loop: {said(loop)}.",),
    )


def unpicklable_error(scene: Scene) -> Shown:
    """An exception whose constructor does not take its own arguments, raised in a worker."""
    origin = scene.origin(OriginSettings(files=8, size=10_000, latency_s=0.02, faults={"503": 0.1}, seed=2))
    source = scene.list_of(origin)
    naive = scene.program(_RAISING, limit_s=15)
    results = Counter(line.partition("(")[0] for line in naive.out.splitlines())
    fine, broken = results["None"], results["BrokenProcessPool"]
    origin.reset()
    ran = scene.run_stage("processes", source, "--workers", "2")
    crossing = pickle.loads(pickle.dumps(HttpStatus("http://example.org/a", "503 Service Unavailable", 503)))  # noqa: S301
    failure = ran.first_failure()
    return Shown(
        program=_RAISING,
        facts={
            "files": 8,
            "errors_raised": ran.summary.failed,
            "fine": fine,
            "broken": broken,
            "says_503": "503" in naive.out + naive.err,
            "own_error_crosses": isinstance(crossing, HttpStatus) and crossing.status == 503,
            "stage_completed": ran.summary.completed,
            "stage_failed": ran.summary.failed,
        },
        seen=(
            (
                f"8 files were asked for, {ran.summary.failed} of them answered with status 503. The program got "
                f"{fine} of 8 results, and {broken} times BrokenProcessPool."
            ),
            f"The number 503 is {'' if '503' in naive.out + naive.err else 'not '}in anything that it wrote.",
        ),
        why="An exception is unpickled by calling its class with its args. This one's args are one message, its "
        "__init__ wants two values: that fails in the pool's own thread, and the pool gives up everything.",
        next="In eventflow an error's args are the arguments of its constructor, so it crosses; and a failed request "
        "is an event in the worker's log, not an exception on its way.",
        seen_next=(
            f"eventflow run processes: {ran.summary.completed} completed, {ran.summary.failed} failed: {failure}.",
        ),
    )


def oom_kill(scene: Scene) -> Shown:
    """The OOM killer takes a worker: of a pool as people write it, then of the real stage, which is resumed."""
    cgroup = scene.ends.enter_context(memory_cgroup(f"eventflow-problem-{scene.mark}"))
    second = scene.ends.enter_context(memory_cgroup(f"eventflow-problem-{scene.mark}-2"))
    packed = gzip.compress(bytes(_PIECE_BYTES), 1)
    for number in range(8):
        (scene.folder / f"{number}.gz").write_bytes(packed * (_LARGE_BYTES // _PIECE_BYTES if number == 1 else 1))
    naive, kills = _kill_reader(scene, cgroup)
    results = Counter(line.partition("(")[0] for line in naive.splitlines())
    fine, broken = results["None"], results["BrokenProcessPool"]
    stopped, died = _kill_worker(scene, second)
    resumed = scene.resume(stopped)
    stored = Counter(event.stream for event in resumed.events if event.type == "file.stored")
    how = f"OOM killer of a memory cgroup ({cgroup.kind})" if cgroup else "SIGKILL, as the OOM killer sends it"
    limit = (
        f"A cgroup gave them {format_size(_ENOUGH_BYTES)}, and the kernel's OOM killer took a worker ({kills} killed)."
        if cgroup
        else f"No memory cgroup can be made here, so we sent SIGKILL to the largest at {format_size(_ENOUGH_BYTES)}, "
        "as the OOM killer does."
    )
    return Shown(
        program=_READING,
        facts={
            "how": how,
            "real_oom": cgroup is not None,
            "kills": kills + (second.kills() if second else 0),
            "broken": broken,
            "fine": fine,
            "stage_state": died.summary.state,
            "stage_exit_status": died.status,
            "stage_says_worker_died": "worker process died" in (died.summary.problem or ""),
            "worker_exit_code": min(_exit_codes(died), default=0),
            "completed_before": died.summary.completed,
            "completed_after": resumed.summary.completed,
            "files": _STAGE_FILES,
            "stored_twice": sum(count > 1 for count in stored.values()),
        },
        seen=(
            f"One of 8 files is {format_size(_LARGE_BYTES)} when it is unpacked. {limit}",
            (
                f"Of 8 results {fine} came; the other {broken} are BrokenProcessPool: "
                '"terminated abruptly". Not which worker, by what, or with which file.'
            ),
        ),
        why="SIGKILL cannot be caught: no exception, no finally, no last word. A pool cannot know which task it was, "
        "so it fails all that are left.",
        next="The stage processes has bodies go to disk piece by piece, a log in each worker that survives it, and a "
        "run that can go on.",
        seen_next=(
            (
                f"A worker of eventflow run processes, killed the same way: status {died.status}, "
                f'"{(died.summary.problem or "").partition(":")[0]}", {died.summary.completed} of {_STAGE_FILES} '
                "completed."
            ),
            (
                f"eventflow resume: {resumed.summary.completed} of {_STAGE_FILES} completed, "
                f"{sum(count > 1 for count in stored.values())} fetched twice."
            ),
        ),
    )


def _kill_reader(scene: Scene, cgroup: MemoryCgroup | None) -> tuple[str, int]:
    """The pool as people write it: what it printed, and how many the OOM killer killed."""
    running = scene.start_program(_READING)
    if cgroup:
        cgroup.limit(_ENOUGH_BYTES)
        cgroup.add(running.pid)
        return running.end(10).out, cgroup.kills()
    running.wait_until(_killer_of_largest(running), limit_s=10)
    return running.end(10).out, 0


def _killer_of_largest(running: Running) -> Callable[[], bool]:
    def look() -> bool:
        for process in read_tree(running.pid).processes[1:]:
            if process.memory_bytes > _ENOUGH_BYTES:
                os.kill(process.pid, signal.SIGKILL)
                return True
        return False

    return look


def _kill_worker(scene: Scene, cgroup: MemoryCgroup | None) -> tuple[RunningStage, Ran]:
    """The real stage: one of its workers is killed in the middle of its work."""
    source = scene.list_of(scene.origin(OriginSettings(files=_STAGE_FILES, size=200_000, latency_s=0.05)))
    stage = scene.start_stage("processes", source, "--workers", "2")
    stage.wait_events("request.completed", 5)
    workers = [
        msgspec.json.decode(event.data, type=ProcessStarted).pid
        for event in stage.events()
        if event.type == "process.started" and event.stream != "run"
    ]
    if cgroup and workers:
        cgroup.limit(4096)  # its next page is one too many
        cgroup.add(workers[0])
    elif workers:
        os.kill(workers[0], signal.SIGKILL)
    return stage, stage.wait()


def _exit_codes(ran: Ran) -> list[int]:
    payloads = (decode_payload(event) for event in ran.events if event.type == "process.exited")
    return [payload.exit_code for payload in payloads if isinstance(payload, ProcessExited) and payload.exit_code]
