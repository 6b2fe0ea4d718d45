"""The problem of the stage serial: the time is the sum of the waits."""

from eventflow.origin.settings import OriginSettings
from eventflow.quantities import format_duration
from stages.problems.scene import Scene
from stages.problems.shown import Shown

_FILES = 20
_LATENCY_S = 0.05


def sum_of_waits(scene: Scene) -> Shown:
    """One request after the other, against threads, from the same server."""
    source = scene.list_of(scene.origin(OriginSettings(files=_FILES, size=10_000, latency_s=_LATENCY_S)))
    serial = scene.run_stage("serial", source).summary
    threads = scene.run_stage("threads", source, "--workers", str(_FILES)).summary
    waits, faster = _FILES * _LATENCY_S, serial.seconds / threads.seconds
    idle = max(0.0, 1 - serial.cpu_seconds / serial.seconds)
    return Shown(
        facts={
            "files": _FILES,
            "waits_seconds": waits,
            "serial_seconds": serial.seconds,
            "serial_cpu_seconds": serial.cpu_seconds,
            "serial_idle_share": idle,
            "threads_seconds": threads.seconds,
            "times_faster": faster,
        },
        seen=(
            (
                f"eventflow run serial: {_FILES} files in {format_duration(serial.seconds)}. The server answers after "
                f"{format_duration(_LATENCY_S)}, and {_FILES} such waits are {format_duration(waits)}."
            ),
            (
                f"The processor had work for {format_duration(serial.cpu_seconds)}: {idle:.0%} of the time nothing "
                "happened."
            ),
        ),
        why="While one request waits for the network, the loop waits with it. No faster machine helps: "
        "the time is the sum of the waits.",
        next="threads: as many requests wait at the same time as there are threads.",
        seen_next=(
            (
                f"eventflow run threads --workers {_FILES}: the same files in {format_duration(threads.seconds)}, "
                f"{faster:.0f} times as fast."
            ),
        ),
    )
