"""Every instrument of eventflow's own: name, kind, unit, meaning. The table in docs/tracing.md is printed from here.

Names and units are those of OpenTelemetry's semantic conventions where they have a word for the thing; what is summed
up over all processes of a run has no word there, and is called `eventflow.run.*`. Instruments of users
(`eventflow.metrics`) come beside these, with the names that they have.

Invariants:
    a name, once released, keeps its kind, unit and meaning.
"""

import msgspec

from eventflow.http_metrics import BODY_SIZE, DURATION
from eventflow.measuring_events import InstrumentKind


class Instrument(msgspec.Struct, frozen=True):
    """One instrument. `source` names the events that it is computed from, `attributes` what its points are about."""

    name: str
    kind: InstrumentKind
    unit: str
    description: str
    source: str
    attributes: tuple[str, ...] = ()


STATE = "eventflow.request.state"
OUTCOME = "eventflow.attempt.outcome"
ERROR = "error.type"
CPU_MODE = "cpu.mode"
MEMORY_KIND = "eventflow.memory.kind"
ENERGY_SOURCE = "eventflow.energy.source"
SWITCH_TYPE = "process.context_switch.type"
FAULT_TYPE = "system.paging.fault.type"
DISK_DIRECTION = "disk.io.direction"
NETWORK_DIRECTION = "network.io.direction"
ADDRESS, PORT, SCHEME = "server.address", "server.port", "url.scheme"
_ATTEMPTED = ("http.request.method", ADDRESS, PORT, "http.response.status_code", ERROR)

_SAMPLED, _ACCOUNTED = "`process.sampled`", "`process.measured`"
_MEASURED = "`metric.measured`"

REQUESTS = Instrument(
    "eventflow.requests",
    "up_down_counter",
    "{request}",
    "Requests of the run by the state that their last event leaves them in; `started` are those in flight.",
    "`request.*`",
    (STATE,),
)
STORED = Instrument(
    "eventflow.files.size",
    "up_down_counter",
    "By",
    "Size of the files of completed requests.",
    "`request.completed`",
)
RECEIVED = Instrument(
    "eventflow.body.received",
    "counter",
    "By",
    "Bytes of bodies that arrived, of attempts that failed later too.",
    "`attempt.progressed`, `attempt.body`",
)
ATTEMPTS = Instrument(
    "eventflow.attempts",
    "counter",
    "{attempt}",
    "Attempts that ended, by outcome: `completed`, `redirected` or `failed`, then with the kind of failure.",
    "`attempt.completed`, `attempt.redirected`, `attempt.failed`",
    (OUTCOME, ERROR),
)
RETRIES = Instrument(
    "eventflow.retries",
    "counter",
    "{attempt}",
    "Attempts that were made because the one before them failed.",
    "`attempt.started`",
)
ACTIVE = Instrument(
    "http.client.active_requests",
    "up_down_counter",
    "{request}",
    "Attempts that have begun and not ended.",
    "`attempt.*`",
    (ADDRESS, PORT),
)
LIMIT = Instrument(
    "eventflow.origin.limit",
    "gauge",
    "{request}",
    "How many requests may be in flight to an origin at once.",
    "`limit.changed`",
    (ADDRESS, PORT, SCHEME),
)
BREAKER = Instrument(
    "eventflow.origin.breaker.open",
    "up_down_counter",
    "{breaker}",
    "1 while an origin that fails too often is left alone, 0 when it answers again.",
    "`breaker.opened`, `breaker.closed`",
    (ADDRESS, PORT, SCHEME),
)
OPENINGS = Instrument(
    "eventflow.origin.breaker.openings",
    "counter",
    "{opening}",
    "How often an origin began to be left alone.",
    "`breaker.opened`",
    (ADDRESS, PORT, SCHEME),
)
REMAINING = Instrument(
    "eventflow.run.remaining",
    "gauge",
    "s",
    "Estimated time that the rest takes, at the rate of the last half minute; 0 when the run is completed. Absent "
    "where the length of the input is not known, before the first request ended, and while the run is interrupted.",
    "`request.*`, `run.*`",
)
WORKERS = Instrument(
    "eventflow.run.workers", "gauge", "{request}", "How many requests the stage carries out at once.", "`run.started`"
)
RUN_MEMORY = Instrument(
    "eventflow.run.memory.usage",
    "up_down_counter",
    "By",
    "Memory of all processes of the run together, external programs included. `pss`: what they share counts once.",
    _SAMPLED,
    (MEMORY_KIND,),
)
RUN_PEAK = Instrument(
    "eventflow.run.memory.peak",
    "gauge",
    "By",
    "The most that this memory was since the run began, over all its sittings.",
    _SAMPLED,
    (MEMORY_KIND,),
)
RUN_PROCESSES = Instrument(
    "eventflow.run.processes", "up_down_counter", "{process}", "How many processes the run has.", _SAMPLED
)
RUN_THREADS = Instrument(
    "eventflow.run.threads", "up_down_counter", "{thread}", "Threads of all processes of the run.", _SAMPLED
)
RUN_DESCRIPTORS = Instrument(
    "eventflow.run.file_descriptors",
    "up_down_counter",
    "{file_descriptor}",
    "Files that all processes of the run have open.",
    _SAMPLED,
)
RUN_CPU = Instrument(
    "eventflow.run.cpu.time",
    "counter",
    "s",
    "CPU time of all processes of the run, those included that live and those that ended.",
    _SAMPLED,
)
RUN_CPU_ACCOUNTED = Instrument(
    "eventflow.run.cpu.accounted",
    "counter",
    "s",
    "The same by the kernel's accounts, which know the mode, and know a child only once it has ended.",
    _ACCOUNTED,
    (CPU_MODE,),
)
RUN_SWITCHES = Instrument(
    "eventflow.run.context_switches",
    "counter",
    "{context_switch}",
    "Context switches of the run's process and its ended children.",
    _ACCOUNTED,
    (SWITCH_TYPE,),
)
RUN_FAULTS = Instrument(
    "eventflow.run.paging.faults",
    "counter",
    "{fault}",
    "Major page faults of the run's process and its ended children.",
    _ACCOUNTED,
    (FAULT_TYPE,),
)
RUN_DISK = Instrument(
    "eventflow.run.disk.io",
    "counter",
    "By",
    "Bytes that the run's process and its ended children read from and wrote to disks.",
    _ACCOUNTED,
    (DISK_DIRECTION,),
)
RUN_NETWORK = Instrument(
    "eventflow.run.network.io",
    "counter",
    "By",
    "Bytes over all interfaces of the network namespace while the run went on; other programs in it count too.",
    _ACCOUNTED,
    (NETWORK_DIRECTION,),
)
RUN_ENERGY = Instrument(
    "eventflow.run.energy",
    "counter",
    "J",
    "Energy of CPUs and memory: `measured` by the CPU (all that runs on it), or `modelled` for this machine.",
    _ACCOUNTED,
    (ENERGY_SOURCE,),
)
RUN_SAMPLING = Instrument(
    "eventflow.run.sampling.time", "counter", "s", "CPU time that measuring all of this took.", _ACCOUNTED
)
EVENTS = Instrument("eventflow.events", "counter", "{event}", "Events that the process recorded.", "all")
LOST = Instrument(
    "eventflow.events.lost",
    "counter",
    "{event}",
    "Events and measurements that could not be recorded. It should never be anything but 0.",
    "`recorder.dropped`",
)
CPU = Instrument(
    "process.cpu.time",
    "counter",
    "s",
    "CPU time of the process itself, without its children.",
    _SAMPLED,
    (CPU_MODE,),
)
MEMORY = Instrument(
    "process.memory.usage",
    "up_down_counter",
    "By",
    "Physical memory in use. `pss`: what it shares with others is shared out among them; `rss`: it counts wholly.",
    _SAMPLED,
    (MEMORY_KIND,),
)
THREADS = Instrument("process.thread.count", "up_down_counter", "{thread}", "Threads of the process.", _SAMPLED)
DESCRIPTORS = Instrument(
    "process.unix.file_descriptor.count",
    "up_down_counter",
    "{file_descriptor}",
    "Files that the process has open, sockets and pipes included.",
    _SAMPLED,
)
_DURATION = Instrument(DURATION.name, "histogram", DURATION.unit, DURATION.description, _MEASURED, _ATTEMPTED)
_BODY_SIZE = Instrument(BODY_SIZE.name, "histogram", BODY_SIZE.unit, BODY_SIZE.description, _MEASURED, _ATTEMPTED[:4])

TABLE = (
    REQUESTS,
    STORED,
    RECEIVED,
    ATTEMPTS,
    RETRIES,
    _DURATION,
    _BODY_SIZE,
    ACTIVE,
    LIMIT,
    BREAKER,
    OPENINGS,
    REMAINING,
    WORKERS,
    RUN_MEMORY,
    RUN_PEAK,
    RUN_PROCESSES,
    RUN_THREADS,
    RUN_DESCRIPTORS,
    RUN_CPU,
    RUN_CPU_ACCOUNTED,
    RUN_SWITCHES,
    RUN_FAULTS,
    RUN_DISK,
    RUN_NETWORK,
    RUN_ENERGY,
    RUN_SAMPLING,
    EVENTS,
    LOST,
    CPU,
    MEMORY,
    THREADS,
    DESCRIPTORS,
)
"""All of them, in the order of the documents and of the points."""

DESCRIPTIONS = {instrument.name: instrument.description for instrument in TABLE}
_KINDS: dict[InstrumentKind, str] = {
    "counter": "counter",
    "up_down_counter": "up-down counter",
    "gauge": "gauge",
    "histogram": "histogram",
}


def markdown() -> str:
    """The table for the documents."""
    lines = ["| instrument | kind | unit | meaning | attributes | from |", "|---|---|---|---|---|---|"]
    for one in TABLE:
        attributes = ", ".join(f"`{name}`" for name in one.attributes)
        cells = (f"`{one.name}`", _KINDS[one.kind], f"`{one.unit}`", one.description, attributes, one.source)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
