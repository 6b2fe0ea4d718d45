"""The views that are about what runs cost: see `eventflow.log.views`."""

from eventflow.log.view import TEXTS, TIME, Column, View

SAMPLES = View(
    "samples",
    "One row for each time that memory and CPU were measured.",
    (
        Column("run", "VARCHAR", "the run"),
        Column("time", TIME, "when"),
        Column(
            "elapsed_seconds", "DOUBLE", "the run's own time then: since it began, without the pauses before a resume"
        ),
        Column("memory_bytes", "BIGINT", "the memory of all processes of the run together"),
        Column("memory_kind", "VARCHAR", "what it is the sum of: `pss` (each shared page counted once) or `rss`"),
        Column(
            "peak_bytes",
            "BIGINT",
            "the most since the sample before, by what the kernel notes of each process; at least `memory_bytes`",
        ),
        Column(
            "error_bytes",
            "BIGINT",
            "how much less that may have been, where several processes had their peaks, perhaps not at once",
        ),
        Column("cpu_seconds", "DOUBLE", "user and system time of all processes since the run, or its resume, began"),
        Column("processes", "BIGINT", "how many processes there were"),
        Column("threads", "BIGINT", "how many threads they had"),
        Column(
            "descriptors", "BIGINT", "how many files they had open, sockets and pipes included; 0 if that is not known"
        ),
    ),
)

PROCESSES = View(
    "processes",
    "One row for each process in each sample.",
    (
        Column("run", "VARCHAR", "the run"),
        Column("time", TIME, "when"),
        Column("elapsed_seconds", "DOUBLE", "the run's own time then, as in `samples`"),
        Column("pid", "BIGINT", "its number"),
        Column("role", "VARCHAR", "`main`, `worker`, `program`; `other`: one that nothing tells of"),
        Column("memory_bytes", "BIGINT", "its memory: its share of the sum in `samples`"),
        Column("peak_bytes", "BIGINT", "the most that was ever resident in it (RSS); NULL if that is not known"),
        Column("cpu_seconds", "DOUBLE", "user and system time since it began, ended children included"),
        Column("threads", "BIGINT", "how many threads it had"),
        Column("descriptors", "BIGINT", "how many files it had open; NULL if that is not known"),
    ),
)

USAGE = View(
    "usage",
    "One row for each run that was measured: what all its processes used, by the kernel's accounts. They are complete "
    "when the run has ended; before that, or if it was killed, they are some seconds old or NULL, and lack what worker "
    "processes use that have not ended.",
    (
        Column("run", "VARCHAR", "the run"),
        Column("user_seconds", "DOUBLE", "CPU time in programs"),
        Column("system_seconds", "DOUBLE", "CPU time in the kernel"),
        Column("voluntary_switches", "BIGINT", "how often a thread gave its CPU away to wait"),
        Column("involuntary_switches", "BIGINT", "how often a thread lost its CPU to another"),
        Column("major_faults", "BIGINT", "how often a page had to be read from a disk"),
        Column("disk_read_bytes", "BIGINT", "what was read from disks; not what came from the cache"),
        Column("disk_written_bytes", "BIGINT", "what was written to disks, or will be"),
        Column("network_received_bytes", "BIGINT", "what came over all network interfaces, of other programs too"),
        Column("network_sent_bytes", "BIGINT", "what went out over them"),
        Column("descriptors_max", "BIGINT", "the most files open at once, in one sample"),
        Column("threads_max", "BIGINT", "the most threads at once, in one sample"),
        Column("processes_max", "BIGINT", "the most processes at once, in one sample"),
        Column("samples", "BIGINT", "how many samples were taken"),
        Column("sampling_seconds", "DOUBLE", "the CPU time that measuring took"),
        Column("sampling_share", "DOUBLE", "the same as a share of one core"),
        Column("memory_error_bytes", "BIGINT", "how much less than `peak_memory_bytes` the peak may have been"),
        Column(
            "energy_class", "VARCHAR", "the kind of machine that the model takes this one for: `server` or `desktop`"
        ),
        Column("energy_idle_share", "DOUBLE", "how much of the modelled energy the machine would have taken anyway"),
        Column("energy_server_joules", "DOUBLE", "the energy by the model, had this been a server"),
        Column("energy_desktop_joules", "DOUBLE", "and had it been a desktop"),
        Column(
            "energy_measured_joules", "DOUBLE", "by the CPU's own counters, of other programs too; NULL without them"
        ),
    ),
)

LATENCIES = View(
    "latencies",
    "One row for each run and step of its requests: how long that step took.",
    (
        Column("run", "VARCHAR", "the run"),
        Column(
            "phase",
            "VARCHAR",
            "`queue` (for a worker), `connect` (name, connection and TLS of a new one), `first byte` (from sent to "
            "headers), `body`, `process` (verifying, storing, an external program), `request` (all but the queue)",
        ),
        Column("requests", "BIGINT", "of how many requests, or attempts, it is known"),
        Column("p50_seconds", "DOUBLE", "the median"),
        Column("p90_seconds", "DOUBLE", "what nine of ten did not exceed"),
        Column("p95_seconds", "DOUBLE", "what 95 % did not exceed"),
        Column("p99_seconds", "DOUBLE", "what 99 % did not exceed"),
        Column("max_seconds", "DOUBLE", "the longest"),
    ),
)

METRICS = View(
    "metrics",
    "One row for each event of a metric: one measurement, or those of up to a second together. See docs/metrics.md.",
    (
        Column("run", "VARCHAR", "the run"),
        Column("time", TIME, "when"),
        Column(
            "elapsed_seconds", "DOUBLE", "the run's own time then, as in `samples`; NULL outside of a run of a stage"
        ),
        Column("name", "VARCHAR", "the instrument, for example `http.client.request.duration`"),
        Column("kind", "VARCHAR", "`counter`, `up_down_counter`, `gauge` or `histogram`"),
        Column("unit", "VARCHAR", "as OpenTelemetry writes it (UCUM): `s`, `By`, `{request}`"),
        Column("attributes", TEXTS, "what was measured, more closely"),
        Column("count", "BIGINT", "how many measurements these are"),
        Column("sum", "DOUBLE", "their sum; of a counter the increase"),
        Column("min", "DOUBLE", "the least"),
        Column("max", "DOUBLE", "the greatest"),
        Column("last", "DOUBLE", "the last; of an up-down counter where it stands in this process"),
        Column("seconds", "DOUBLE", "how far apart the first and the last are"),
        Column("boundaries", "DOUBLE[]", "of a histogram: the upper ends of its buckets, all but the last"),
        Column("buckets", "BIGINT[]", "of a histogram: how many are in each bucket"),
        Column("writer", "VARCHAR", "the process that measured"),
        Column("max_trace_id", "VARCHAR", "the trace in which the greatest was measured; NULL if in none"),
        Column("max_span_id", "VARCHAR", "the span in which it was"),
    ),
)
