"""The stage loop: what it does well, what stops it, and what it cannot see."""

from pathlib import Path

from eventflow.origin.settings import OriginSettings
from eventflow.quantities import format_duration
from stages.problems.scene import Scene
from stages.problems.shown import Shown
from stages.problems.silent import silent_servers
from stages.problems.stage_runs import RunningStage, stories

_FAILING = """\
import trio

async def save(number):
    try:
        if number == 3:
            raise OSError("no room on the disk")
        await trio.sleep(60)  # its server takes long
    finally:
        print("tidied up", number)

async def main():
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(save, number)

trio.run(main)
"""

_COMPUTING = """\
import sys, time, trio

def compute():
    return sum(number * number for number in range(8_000_000))

async def watch(pauses):  # wants to run every 10 ms, as does whoever reads from a socket
    while True:
        before = time.monotonic()
        await trio.sleep(0.01)
        pauses.append(time.monotonic() - before)

async def main():
    pauses = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, pauses)
        await trio.sleep(0.1)
        if sys.argv[1] == "here":
            compute()
        else:
            await trio.to_thread.run_sync(compute)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    print(max(pauses))

trio.run(main)
"""
_CASES = 4


def error_arrives(scene: Scene) -> Shown:
    """One task of eight fails; then the real loop is told to stop while all its requests wait."""
    naive = scene.program(_FAILING, limit_s=10)
    errors = [line.strip(" |") for line in naive.err.splitlines() if "OSError:" in line]
    tidied = naive.out.count("tidied up")
    files = 20
    source = scene.list_of(scene.origin(OriginSettings(files=files, size=10_000, latency_s=60)))
    stage = scene.start_stage("loop", source)
    stage.wait_events("attempt.started", files)
    asked = stage.process.seconds()
    ran = stage.stop()
    left_after = stage.process.ended_after() - asked
    return Shown(
        program=_FAILING,
        facts={
            "seconds": naive.seconds,
            "exit_status": -1 if naive.status is None else naive.status,
            "says_the_error": bool(errors),
            "tidied_up": tidied,
            "stage_left_after_seconds": left_after,
            "stage_cancelled": ran.summary.cancelled,
            "stage_state": ran.summary.state,
        },
        seen=(
            (
                f"One of 8 tasks failed, 7 would have waited a minute. It was over after "
                f"{format_duration(naive.seconds)}, all {tidied} had tidied up, exit status {naive.status}, and it "
                f"said: {errors[0] if errors else 'nothing'}."
            ),
            (
                f"eventflow run loop with {files} requests that wait, then SIGTERM: gone after "
                f"{format_duration(left_after)}, {ran.summary.cancelled} recorded as cancelled. (Threads take two "
                "seconds: hanging-exit.)"
            ),
        ),
        why="A task belongs to a nursery, which does not end before its tasks. An error cancels the others and is "
        "raised where the nursery is; nothing is forgotten (lost-error), nothing stays (hanging-exit).",
        next="director and lineage stand on the same nurseries. What the loop still lacks is sight (blind).",
    )


def one_slow_piece(scene: Scene) -> Shown:
    """Half a second of Python in one task, seen from another."""
    here, aside = (scene.program(_COMPUTING, where, limit_s=15) for where in ("here", "aside"))
    pause, pause_aside = float(here.out or "nan"), float(aside.out or "nan")
    return Shown(
        program=_COMPUTING,
        facts={"pause_seconds": pause, "pause_with_thread_seconds": pause_aside, "times": pause / pause_aside},
        seen=(
            (
                f"A task that wants to run every 10 ms once waited {format_duration(pause)}: so long nothing was "
                "read, no timeout was noticed, and no request began."
            ),
        ),
        why="In an event loop only `await` lets others run. Between two of them there is one piece of Python, and "
        "everybody waits for its end.",
        next="Long pieces go to a thread (the director syncs files and digests large bodies there), much computing "
        "goes to processes (--workers).",
        seen_next=(
            (
                f"The same with trio.to_thread.run_sync: {format_duration(pause_aside)}. Not 10 ms, since the two "
                "share the interpreter's lock (one-lock)."
            ),
        ),
    )


def blind(scene: Scene) -> Shown:
    """Four requests that hang, each elsewhere: what the log of the loop knows of them, and the director's."""
    ports = scene.ends.enter_context(silent_servers())
    source = scene.folder / "hanging.txt"
    source.write_text("".join(f"http://127.0.0.1:{port}/{number}\n" for number, port in enumerate(ports.values())))
    loop, director = _last_events(scene, source)
    width = max(len(what) for what in ports)
    rows = [f"{what:<{width}}   {told:<17}  {seen}" for what, told, seen in zip(ports, loop, director, strict=True)]
    return Shown(
        facts={
            "hanging": len(ports),
            "loop_states": len(set(loop)),
            "director_states": len(set(director)),
            "loop_last": ",".join(loop),
            "director_last": ",".join(director),
        },
        seen=(
            "Four requests hang, each elsewhere. The last event of each:",
            f"{'what there was':<{width}}   {'loop':<17}  director",
            *rows,
            f"The loop tells {len(set(loop))} cases apart, the director {len(set(director))}.",
        ),
        why="The loop hands a request to an HTTP library and hears again when the headers are there. DNS, connection, "
        "TLS, a slow server: all look the same until a timeout ends them.",
        next="director: an HTTP client of its own, in which every state is an event, and the event decides what is "
        "next: a timeout of that state's own, another try, the rest by Range.",
    )


def _last_events(scene: Scene, source: Path) -> tuple[list[str], list[str]]:
    running = [scene.start_stage(stage, source) for stage in ("loop", "director")]
    loop, director = running
    loop.wait_events("attempt.response", 1)
    director.wait_events("attempt.answering", 1)
    director.wait_events("attempt.response", 1)
    last = [_last_of_each(stage) for stage in running]
    for stage in running:
        stage.stop()
    return last[0], last[1]


def _last_of_each(stage: RunningStage) -> list[str]:
    told = stories(stage.events())
    return [told[f"request-{number}"][-1].type for number in range(_CASES)]
