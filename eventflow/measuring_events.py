"""The part of the vocabulary that is about what a run costs: memory, CPU, energy, and measurements of anything else.

See `eventflow.vocabulary`. Sizes are in bytes, durations in seconds, energy in joules.
"""

from typing import ClassVar, Literal

import msgspec

from eventflow.event import Payload

MemoryKind = Literal["pss", "rss"]
InstrumentKind = Literal["counter", "up_down_counter", "gauge", "histogram"]
Attributes = dict[str, str | int | float | bool]


class ProcessReading(msgspec.Struct, frozen=True):
    """One process at one instant.

    `cpu_seconds` is user and system time since it started, its reaped children included. `peak_bytes` is the most that
    was ever resident in it (its RSS, as the kernel keeps it), `descriptors` how many files it has open, `user_seconds`
    and `system_seconds` what it used itself, without its children; 0 where that is not known.
    """

    pid: int
    memory_bytes: int
    cpu_seconds: float
    threads: int
    peak_bytes: int = 0
    descriptors: int = 0
    user_seconds: float = 0.0
    system_seconds: float = 0.0


class ProcessSampled(Payload, frozen=True, kw_only=True):
    """Memory and CPU of all processes of the run at one instant.

    `memory_bytes` is the sum of PSS (each shared page counted once), or of RSS where PSS cannot be read: `memory_kind`
    says. `peak_bytes` is the most that it was since the sample before, by the high-water marks that the kernel keeps
    for each process; `error_bytes` is how much less it may have been, where several processes had their peaks between
    two samples and nobody knows whether at once. `cpu_seconds` is everything used since the run started, ended
    processes included. `sampling_seconds` is the CPU time that measuring took since the sample before.
    """

    TYPE: ClassVar[str] = "process.sampled"
    memory_bytes: int
    memory_kind: MemoryKind
    cpu_seconds: float
    processes: tuple[ProcessReading, ...]
    sampling_seconds: float
    peak_bytes: int = 0
    error_bytes: int = 0

    @property
    def highest_bytes(self) -> int:
        """The most memory since the sample before, the sample itself where nothing says more."""
        return max(self.memory_bytes, self.peak_bytes)


class ProcessMeasured(Payload, frozen=True, kw_only=True):
    """What the processes of the run have used since the run, or its resume, began: written now and then, and last.

    By the kernel's own accounts of this process and its reaped children, so what a live child uses is in the next of
    these after its end. Bytes on the network are those of the whole network namespace, of which the kernel keeps no
    account for a process. A field is None where this system does not tell.

    Energy is `energy_measured_joules` where the CPU tells it (RAPL: all that the CPU packages took meanwhile, other
    programs included), and a model's answer for a server and a desktop; `energy_idle_share` is how much of the model's
    answer for `energy_class` the machine would have taken anyway.
    """

    TYPE: ClassVar[str] = "process.measured"
    seconds: float
    user_seconds: float
    system_seconds: float
    voluntary_switches: int
    involuntary_switches: int
    major_faults: int
    disk_read_bytes: int | None = None
    disk_written_bytes: int | None = None
    network_received_bytes: int | None = None
    network_sent_bytes: int | None = None
    samples: int = 0
    failed_readings: int = 0
    sampling_seconds: float = 0.0
    energy_class: str = ""
    energy_idle_share: float = 0.0
    energy_server_joules: float = 0.0
    energy_desktop_joules: float = 0.0
    energy_measured_joules: float | None = None


class MetricMeasured(Payload, frozen=True, kw_only=True):
    """One or more measurements of one instrument with the same attributes: see `eventflow.metrics`.

    `count` measurements that were made within `seconds` of one another: their `sum`, `min`, `max` and the `last` of
    them. Of a counter, `sum` is the increase; of an up-down counter also, and `last` is where it stands then in this
    process. A histogram has how many fell into each of its buckets: `buckets[i]` of them are at most `boundaries[i]`,
    and above the boundary before; the last bucket has no upper end.

    `max_trace_id` and `max_span_id` name the span that the greatest of them was made in, as OpenTelemetry's exemplars
    do; they are empty where it was made in none.
    """

    TYPE: ClassVar[str] = "metric.measured"
    name: str
    kind: InstrumentKind
    unit: str = ""
    attributes: Attributes = msgspec.field(default_factory=dict)
    count: int = 1
    sum: float
    min: float
    max: float
    last: float
    seconds: float = 0.0
    boundaries: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()
    max_trace_id: str = ""
    max_span_id: str = ""
