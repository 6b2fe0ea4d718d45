"""What a run has used, by the kernel's own accounts: CPU, switches, disk and network, and the energy from them.

The sampler sees processes at instants; these accounts miss nothing that ended in order, since the kernel adds what a
process used to its parent's account when that reaps it (wait4(2), proc_pid_io(5)).

Limits: what a live child has used so far is not in them; nor a process that nobody of the run reaps (a daemon). There
is no account of the network for a process, only for a network namespace: other programs in it count too.
"""

import resource
from pathlib import Path
from typing import Any

import msgspec

from eventflow.measuring_events import ProcessMeasured
from instrumentation import energy
from instrumentation.machine import Machine, energy_counters


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What this process and its reaped descendants have used since this process began. None: not told here."""

    user_seconds: float
    system_seconds: float
    voluntary_switches: int
    involuntary_switches: int
    major_faults: int
    disk_read_bytes: int | None
    disk_written_bytes: int | None
    network_received_bytes: int | None
    network_sent_bytes: int | None


def read_account() -> Account:
    """The account of this process, now. Costs about 0.1 ms."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    disk = parse_io(_text("/proc/self/io"))
    network = parse_interfaces(_text("/proc/self/net/dev"))
    return Account(
        user_seconds=own.ru_utime + children.ru_utime,
        system_seconds=own.ru_stime + children.ru_stime,
        voluntary_switches=own.ru_nvcsw + children.ru_nvcsw,
        involuntary_switches=own.ru_nivcsw + children.ru_nivcsw,
        major_faults=own.ru_majflt + children.ru_majflt,
        disk_read_bytes=disk[0],
        disk_written_bytes=disk[1],
        network_received_bytes=network[0],
        network_sent_bytes=network[1],
    )


def parse_io(content: str) -> tuple[int | None, int | None]:
    r"""Bytes read from and written to disks, out of `/proc/PID/io`. What was written and then thrown away is left out.

    >>> parse_io("rchar: 9\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n")
    (4096, 4096)
    """
    found = dict(line.split(": ") for line in content.splitlines() if ": " in line)
    if "read_bytes" not in found:
        return None, None
    return int(found["read_bytes"]), int(found["write_bytes"]) - int(found.get("cancelled_write_bytes", 0))


def parse_interfaces(content: str) -> tuple[int | None, int | None]:
    """Bytes received and sent over all interfaces, out of `/proc/net/dev`."""
    rows = [line.partition(":")[2].split() for line in content.splitlines() if ":" in line]
    if not rows:
        return None, None
    return sum(int(row[0]) for row in rows), sum(int(row[8]) for row in rows)


def difference(after: Account, before: Account) -> Account:
    """What was used between two readings of one account; None where either does not tell."""
    pairs = zip(msgspec.structs.astuple(after), msgspec.structs.astuple(before), strict=True)
    values: list[Any] = [None if late is None or early is None else late - early for late, early in pairs]
    return Account(**dict(zip(Account.__struct_fields__, values, strict=True)))


class Meter:
    """Measures what this process and its descendants use, from when it is made.

    Args:
        here: the machine, for the model of energy.
        root: where /sys lies.
    """

    def __init__(self, here: Machine, root: Path = Path("/")) -> None:
        self._before = read_account()
        self._counters = energy.Counters(energy_counters(root))
        self._class = energy.machine_class(root, is_virtual=here.virtualised)
        self._cpus = here.cpus_usable

    def measure(
        self,
        *,
        seconds: float,
        cpu_seconds: float,
        memory_byte_seconds: float,
        samples: int,
        failed_readings: int,
        sampling_seconds: float,
    ) -> ProcessMeasured:
        """What was used so far, in `seconds`; the rest is what the sampler says of itself, the CPU and the memory.

        Its `cpu_seconds` include live children, which the account does not: the energy is that of the larger figure.
        """
        used = difference(read_account(), self._before)
        cpu_seconds = max(cpu_seconds, used.user_seconds + used.system_seconds)
        answers = {
            name: energy.modelled(
                kind,
                seconds=seconds,
                cpu_seconds=cpu_seconds,
                memory_byte_seconds=memory_byte_seconds,
                cpus=self._cpus,
            )
            for name, kind in energy.CLASSES.items()
        }
        return ProcessMeasured(
            seconds=seconds,
            **msgspec.structs.asdict(used),
            samples=samples,
            failed_readings=failed_readings,
            sampling_seconds=sampling_seconds,
            energy_class=self._class.name,
            energy_idle_share=answers[self._class.name].idle_share,
            energy_server_joules=answers["server"].joules,
            energy_desktop_joules=answers["desktop"].joules,
            energy_measured_joules=self._counters.joules(),
        )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
