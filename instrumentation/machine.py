"""What this machine is, and what it lacks for eventflow: the facts behind `run.json` and `eventflow doctor`.

Figures of two runs can only be compared by someone who knows where they were measured. And a container tells its limits
nowhere that `os.cpu_count` or `free` would look: they are in its control groups, of which there are two versions, often
both at once. Each fact is read by a short function and judged by a pure one, so that machines that are not at hand can
be tested.

Invariants:
    nothing here names the host, its user or its network: `run.json` can be given away;
    what cannot be found out is None or left out, never guessed; nothing here fails because the machine lacks something.
"""

import contextlib
import importlib.metadata
import os
import platform
import re
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from eventflow.disk import Disk
from instrumentation.processes import pss_readable

GIB = 2**30
FREE_BYTES_MIN = GIB
MEMORY_BYTES_MIN = GIB
OPEN_FILES_MIN = 1024
SYNC_SECONDS_MAX = 0.02
PYTHON_MIN = (3, 11)
NO_LIMIT_BYTES = 2**60  # control groups v1 say "no limit" as about 8 EiB, rounded down to a page
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
OVER_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph"})
EXTRAS = {
    "analysis": ("altair", "vl-convert-python"),
    "telemetry": ("openlineage-python", "opentelemetry-api", "opentelemetry-exporter-otlp", "opentelemetry-sdk"),
    "kubernetes": ("kubernetes",),
}
KEY_PACKAGES = ("eventflow", "duckdb", "httptools", "httpx", "msgspec", "psutil", "trio", *sum(EXTRAS.values(), ()))
PROGRAMS = {
    "nginx": (("nginx",), "an origin server as fast as the real ones, for benchmarks"),
    "chromium": (
        ("chromium", "chromium-browser", "google-chrome", "chrome"),
        "the report's tests in a browser",
    ),
    "docker": (("docker", "podman"), "the image that the kubernetes stage runs"),
}
_HYPERVISORS = re.compile(
    "amazon ec2(?!.*metal)|bochs|dummy-virt|google compute|kvm|openstack|parallels|qemu|virtual( m|box)|vmware|xen"
)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run was measured. Sizes in bytes, times in seconds.

    Attributes:
        cpus: logical CPUs of the machine.
        cpus_usable: how many of them this process may use at once, by affinity and by the quota of its control groups.
        memory_limit_bytes: the strictest limit of its control groups, None if they set none.
        virtualised: None if this cannot be told.
        file_system, sync_seconds: of the folder that was asked about; None if none was, or it cannot be told.
        packages: versions by distribution name, of those that are installed.
    """

    system: str
    release: str
    architecture: str
    python: str
    cpu_model: str
    cpus: int
    cpus_usable: float
    memory_bytes: int
    memory_limit_bytes: int | None
    pss_readable: bool
    energy_readable: bool
    virtualised: bool | None
    file_system: str | None
    sync_seconds: float | None
    packages: dict[str, str]


class Limits(msgspec.Struct, frozen=True):
    """What control groups allow this process. None: they do not limit it."""

    memory_bytes: int | None = None
    cpus: float | None = None


class Finding(msgspec.Struct, frozen=True):
    """One line of `eventflow doctor`.

    Attributes:
        name: what was looked at.
        state: `ok`; `warn`: it works, but worse than it could; `missing`: something cannot be done or measured here.
        detail: what was found.
        fix: what to do about it, empty if nothing need be done.
    """

    name: str
    state: Literal["ok", "warn", "missing"]
    detail: str
    fix: str = ""


def machine(folder: Path | None = None) -> Machine:
    """This machine, as it is for this process; with `folder`, its file system too, which costs five small fsyncs."""
    root = Path("/")
    limits = cgroup_limits(root)
    cpuinfo = _text(root / "proc/cpuinfo")
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        system=platform.system(),
        release=platform.release(),
        architecture=platform.machine(),
        python=platform.python_version(),
        cpu_model=cpu_model(cpuinfo) or platform.processor() or platform.machine(),
        cpus=os.cpu_count() or 1,
        cpus_usable=min(affinity, limits.cpus or affinity),
        memory_bytes=psutil.virtual_memory().total,
        memory_limit_bytes=limits.memory_bytes,
        pss_readable=pss_readable(),
        energy_readable=any(_text(counter) for counter in energy_counters(root)),
        virtualised=virtualised(cpuinfo, _hardware(root)),
        file_system=None if folder is None else file_system(folder),
        sync_seconds=None if folder is None else _sync_seconds_or_none(folder),
        packages=dict(installed(KEY_PACKAGES)),
    )


def diagnose(store: Path, out: Path) -> tuple[Finding, ...]:
    """What this machine offers and lacks for runs with that store and output folder. Neither need exist yet."""
    store, out = nearest_folder(store), nearest_folder(out)
    here = machine(store)
    return (
        judge_python(sys.version_info[:3]),
        judge_cpus(here),
        judge_memory(here),
        judge_pss(here.pss_readable),
        judge_energy(here.energy_readable, energy_counters(Path("/"))),
        judge_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE)),
        judge_disk(store, here),
        judge_space("store space", store, shutil.disk_usage(store).free),
        judge_space("output space", out, shutil.disk_usage(out).free),
        *(judge_extra(extra, names, dict(installed(names))) for extra, names in EXTRAS.items()),
        *(judge_program(name, _which(programs), use) for name, (programs, use) in PROGRAMS.items()),
    )


# --------------------------------------------------------------------------------------------------------------- facts


def cgroup_limits(root: Path = Path("/")) -> Limits:
    """The strictest limits of the control groups that this process is in, v1 and v2, their ancestors included."""
    memory: list[int] = []
    cpus: list[float] = []
    for folder in _cgroup_folders(root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            memory += parse_memory_limit(_text(folder / name))
        cpus += parse_cpu_limit(_text(folder / "cpu.max"))
        cpus += parse_cpu_limit(f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}")
    return Limits(min(memory, default=None), min(cpus, default=None))


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """Every folder that may hold a limit: each group of this process, and those above it up to the mount point.

    In a container the group's path may be the host's, which is not there: then the mount point is its own group.
    """
    mounts = [line.split() for line in _text(root / "proc/self/mounts").splitlines()]
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        for _, point, kind, options, *_ in mounts:
            if _holds_groups(kind, options, controllers):
                parts = Path(group).parts[1:]
                yield from (root.joinpath(point[1:], *parts[:depth]) for depth in range(len(parts) + 1))


def _holds_groups(kind: str, options: str, controllers: str) -> bool:
    """Whether a mount of that type and options holds the groups of these controllers; none at all means version 2."""
    if not controllers:
        return kind == "cgroup2"
    return kind == "cgroup" and not set(controllers.split(",")).isdisjoint(options.split(","))


def parse_memory_limit(content: str) -> list[int]:
    """The limit in `memory.max` or `memory.limit_in_bytes`: nothing if there is none, or the file is not there."""
    text = content.strip()
    return [int(text)] if text.isdigit() and int(text) < NO_LIMIT_BYTES else []


def parse_cpu_limit(content: str) -> list[float]:
    """CPUs out of a quota and a period: `cpu.max`, or both files of v1. A quota of `max` or -1 is no limit."""
    fields = content.split()
    return [int(fields[0]) / int(fields[1])] if len(fields) == 2 and fields[0].isdigit() else []


def cpu_model(cpuinfo: str) -> str:
    """The model's name in `/proc/cpuinfo`; empty where the kernel tells none, as on most ARM machines."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "cpu model", "Model"):
            return value.strip()
    return ""


def virtualised(cpuinfo: str, hardware: str) -> bool | None:
    """Whether this is a virtual machine, by the CPU's flag or the names that firmware gives the hardware."""
    if any(line.startswith("flags") and " hypervisor" in line for line in cpuinfo.splitlines()):
        return True
    if _HYPERVISORS.search(hardware.lower()):
        return True
    return False if hardware.strip() or "flags" in cpuinfo else None


def _hardware(root: Path) -> str:
    firmware = ("sys_vendor", "product_name")
    names = (*(f"sys/class/dmi/id/{name}" for name in firmware), "sys/hypervisor/type", "proc/device-tree/model")
    return " ".join(_text(root / name).strip() for name in names)


def energy_counters(root: Path = Path("/")) -> list[Path]:
    """The energy counters of the CPU packages (RAPL, of AMD too), which may be unreadable.

    Not those of their parts, nor that of the whole platform (`psys`), which the packages are in.
    """
    zones = sorted(root.glob("sys/class/powercap/intel-rapl:*/energy_uj"))
    packages = [counter for counter in zones if counter.parent.name.count(":") == 1]
    return [counter for counter in packages if _text(counter.with_name("name")).strip() != "psys"]


def file_system(folder: Path) -> str | None:
    """The type of the file system that holds the folder, such as `ext4`."""
    mounts = [(partition.mountpoint, partition.fstype) for partition in psutil.disk_partitions(all=True)]
    return file_system_of(folder.resolve(), mounts)


def file_system_of(path: Path, mounts: Sequence[tuple[str, str]]) -> str | None:
    """The type of the mount with the longest mount point above `path`; of several on one point the last counts."""
    above = [(len(Path(point).parts), kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(reversed(above), key=lambda found: found[0])[1] if above else None


def fsync_seconds(folder: Path, repeats: int = 5) -> float:
    """The median time in seconds that an appended 4 KiB takes to be durable in that folder. Leaves nothing behind.

    Raises:
        OSError: nothing can be written there.
    """
    disk, seconds = Disk(), []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(repeats):
            disk.write_all(file.fileno(), bytes(4096))
            before = time.perf_counter()
            disk.sync(file.fileno())
            seconds.append(time.perf_counter() - before)
    return statistics.median(seconds)


def _sync_seconds_or_none(folder: Path) -> float | None:
    with contextlib.suppress(OSError):
        return fsync_seconds(folder)
    return None


def installed(distributions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and version of those that are installed."""
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def nearest_folder(path: Path) -> Path:
    """The path, or the first above it that is a folder: what a new folder would be made in."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _which(programs: Sequence[str]) -> str | None:
    return next(filter(None, map(shutil.which, programs)), None)


def _text(path: Path) -> str:
    """The file's text, empty if it is not there or may not be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


# ----------------------------------------------------------------------------------------------------------- judgement


def judge_python(version: Sequence[int]) -> Finding:
    """Whether eventflow supports this Python."""
    shown = ".".join(map(str, version))
    if tuple(version) >= PYTHON_MIN:
        return Finding("python", "ok", shown)
    return Finding("python", "missing", shown, f"install Python {'.'.join(map(str, PYTHON_MIN))} or later")


def judge_cpus(here: Machine) -> Finding:
    """Whether stages can do two things at once."""
    detail = f"{here.cpus_usable:g} of {here.cpus} usable ({here.cpu_model})"
    if here.cpus_usable >= 2:
        return Finding("cpus", "ok", detail)
    return Finding("cpus", "warn", detail, "allow two or more: with one, more processes gain nothing")


def judge_memory(here: Machine) -> Finding:
    """Whether the memory that this process may use is enough for every stage."""
    usable = min(here.memory_bytes, here.memory_limit_bytes or here.memory_bytes)
    detail = f"{usable / GIB:.1f} GiB"
    if usable < here.memory_bytes:
        detail += f" of {here.memory_bytes / GIB:.1f}, by the limit of its control group"
    if usable >= MEMORY_BYTES_MIN:
        return Finding("memory", "ok", detail)
    return Finding("memory", "warn", detail, "give it 1 GiB, or run with fewer --workers")


def judge_pss(readable: bool) -> Finding:
    """Whether memory that processes share can be counted once."""
    if readable:
        return Finding("memory measuring", "ok", "PSS: shared memory is counted once")
    detail = "only RSS can be read: memory that forked workers share is counted in each of them"
    return Finding(
        "memory measuring", "missing", detail, "run on Linux 4.14 or later, where /proc/self/smaps_rollup can be read"
    )


def judge_energy(readable: bool, counters: Sequence[Path]) -> Finding:
    """Whether energy is measured or estimated."""
    if readable:
        return Finding("energy", "ok", f"measured (RAPL), CPU packages: {len(counters)}")
    if counters:
        return Finding("energy", "missing", "the RAPL counters may not be read", f"as root: chmod a+r {counters[0]}")
    return Finding(
        "energy",
        "missing",
        "no RAPL counters: energy is estimated from CPU time",
        "run on hardware, not in a virtual machine",
    )


def judge_open_files(soft: int, hard: int) -> Finding:
    """Whether enough connections and files can be open at once. RLIM_INFINITY is no limit."""
    if soft == resource.RLIM_INFINITY:
        return Finding("open files", "ok", "unlimited")
    detail = f"{soft}, enough for {max(0, (soft - 64) // 2)} requests at once"
    if soft >= OPEN_FILES_MIN:
        return Finding("open files", "ok", detail)
    reachable = OPEN_FILES_MIN if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MIN)
    fix = f"ulimit -n {reachable}" if reachable > soft else f"raise the hard limit to {OPEN_FILES_MIN}"
    return Finding("open files", "warn", detail, fix)


def judge_disk(store: Path, here: Machine) -> Finding:
    """Whether the store's disk keeps what it is given, and how soon."""
    if here.sync_seconds is None:
        return Finding("store disk", "missing", f"{store} cannot be written", "use another folder with --store")
    detail = f"{here.file_system or 'unknown file system'}, durable in {here.sync_seconds * 1000:.1f} ms"
    if here.file_system in IN_MEMORY:
        return Finding("store disk", "warn", f"{detail}, but lost at a restart", "use a folder on a disk with --store")
    if here.file_system in OVER_NETWORK:
        return Finding("store disk", "warn", f"{detail}, over a network", "use a folder on a local disk with --store")
    if here.sync_seconds > SYNC_SECONDS_MAX:
        return Finding("store disk", "warn", f"{detail}: slow", "use a folder on a faster disk with --store")
    return Finding("store disk", "ok", detail)


def judge_space(name: str, folder: Path, free_bytes: int) -> Finding:
    """Whether there is room."""
    detail = f"{free_bytes / GIB:.1f} GiB free in {folder}"
    if free_bytes >= FREE_BYTES_MIN:
        return Finding(name, "ok", detail)
    return Finding(name, "warn", detail, "free some room, or use another folder")


def judge_extra(extra: str, names: Sequence[str], found: dict[str, str]) -> Finding:
    """Whether the packages of an extra are installed."""
    absent = [name for name in names if name not in found]
    if not absent:
        return Finding(extra, "ok", ", ".join(f"{name} {version}" for name, version in found.items()))
    return Finding(extra, "missing", f"not installed: {', '.join(absent)}", f"pip install 'eventflow[{extra}]'")


def judge_program(name: str, path: str | None, use: str) -> Finding:
    """Whether an optional program is there."""
    if path is not None:
        return Finding(name, "ok", path)
    return Finding(name, "missing", f"not found; needed only for {use}", f"install {name} if you want that")
