"""The energy that a run takes: by the CPU's own counters where they can be read, and by a model everywhere.

RAPL counts what CPU packages take, for all programs together; virtual machines do not have it, and since 2020 most
systems show it to root only. The model is a straight line through two points: what a CPU takes idle, and what it takes
when it is busy. Both ends depend on the machine more than on the program, by far more than anything else here (such
models are off by up to 40 %: arXiv 2509.22092). So the answers for two kinds of machine are always given side by side;
ratios between runs on one machine are what they are good for.

Invariants:
    a figure says whether it is measured or modelled; none is ever a mixture of the two;
    the counters wrap, and a wrap is no loss as long as they are read once in between (at 100 W after 40 minutes).
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

GIB = 2**30
_MICROJOULES = 1e6
# SMBIOS §7.4.1: desktops, towers, all-in-ones, mini PCs and portable machines of all kinds.
_PERSONAL_CHASSIS = frozenset((3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 30, 31, 32, 35, 36))


class MachineClass(msgspec.Struct, frozen=True):
    """What a kind of machine takes, in watts: each logical CPU idle and busy, and a GiB of memory in use."""

    name: str
    idle_watts_per_cpu: float
    busy_watts_per_cpu: float
    memory_watts_per_gib: float
    source: str


SERVER = MachineClass(
    "server",
    0.74,
    3.5,
    0.392 * 1.0737,
    "Cloud Carbon Footprint, methodology: means of SPECpower_ssj2008 results per virtual CPU; 0.392 W a GB",
)
DESKTOP = MachineClass(
    "desktop",
    0.54,
    5.4,
    0.375,
    "a processor of 65 W with 12 threads, a tenth of that idle; 3 W for each 8 GiB of DDR4",
)
CLASSES = {known.name: known for known in (SERVER, DESKTOP)}


class Modelled(msgspec.Struct, frozen=True):
    """The model's answer. `idle_joules` of it the machine's CPUs would have taken anyway while the run lasted."""

    joules: float
    idle_joules: float

    @property
    def idle_share(self) -> float:
        """How much of the whole is idle, 0 where there is nothing."""
        return self.idle_joules / self.joules if self.joules else 0.0


def modelled(
    kind: MachineClass, *, seconds: float, cpu_seconds: float, memory_byte_seconds: float, cpus: float
) -> Modelled:
    """What a run took on a machine of that kind with so many logical CPUs.

    Args:
        kind: the kind of machine.
        seconds: how long the run lasted.
        cpu_seconds: user and system time of all its processes.
        memory_byte_seconds: their memory, summed over the time.
        cpus: the logical CPUs that the run may use: their idle power counts in full, whoever else used them.

    >>> round(modelled(SERVER, seconds=10, cpu_seconds=5, memory_byte_seconds=0, cpus=2).joules, 1)
    28.6
    """
    idle = kind.idle_watts_per_cpu * cpus * seconds
    busy = (kind.busy_watts_per_cpu - kind.idle_watts_per_cpu) * cpu_seconds
    memory = kind.memory_watts_per_gib * memory_byte_seconds / GIB
    return Modelled(idle + busy + memory, idle)


def machine_class(root: Path = Path("/"), *, is_virtual: bool | None) -> MachineClass:
    """The kind that this machine is taken for: a desktop if its chassis is a personal computer's, else a server."""
    try:
        chassis = int((root / "sys/class/dmi/id/chassis_type").read_text())
    except (OSError, ValueError):
        chassis = 0
    return DESKTOP if not is_virtual and chassis in _PERSONAL_CHASSIS else SERVER


class Counters:
    """The RAPL counters of all CPU packages, from when this is made. One that may not be read makes all of it None.

    Args:
        paths: `energy_uj` of each package; its `max_energy_range_uj` lies beside it.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._last = self._read()
        self._joules = 0.0

    def joules(self) -> float | None:
        """What the packages took since the beginning; None if that cannot be read."""
        now = self._read()
        if now is None or self._last is None:
            self._last = None
            return None
        self._joules += sum(map(_taken, self._last, now)) / _MICROJOULES
        self._last = now
        return self._joules

    def _read(self) -> tuple[tuple[int, int], ...] | None:
        try:
            return (
                tuple(
                    (int(path.read_text()), int(path.with_name("max_energy_range_uj").read_text()))
                    for path in self._paths
                )
                or None
            )
        except (OSError, ValueError):
            return None


def _taken(before: tuple[int, int], after: tuple[int, int]) -> int:
    """Microjoules between two readings of a counter that begins anew behind its greatest value."""
    difference, span = after[0] - before[0], after[1]
    return difference if difference >= 0 else difference + span
