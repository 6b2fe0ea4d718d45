"""The sampler: a thread that records the memory and CPU time of all processes of a run, ten times a second or more.

It sits beside the work and must neither disturb nor outlive it. Hence its own budget: after a reading that cost some
CPU time it rests so long that readings take 2 % of one core. What a reading cost is in its event.

Invariants:
    the period is between 0.02 s and 0.1 s: short runs are sampled at up to 50 Hz, and no run below 10 Hz, unless a
    reading takes longer than that, as it does beside a dozen threads that compute in Python. Where one costs more than
    2 ms (much memory, many processes) the 2 % are exceeded; where it costs more than 50 ms the rest is as long as the
    reading, so it never takes more than half a core;
    `cpu_seconds` counts from `start` and never falls, though a reading may miss a process that is just being reaped;
    a fault while measuring is counted or kept, and never reaches the work.

What lives shorter than a period is seen in `cpu_seconds` (once it is reaped) but may be missing from the memory, for
which the kernel keeps no high-water mark of PSS: `Peak.step_bytes_max` says how far two neighbouring samples lay apart.
"""

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec

from eventflow.measuring_events import MemoryKind, ProcessSampled
from instrumentation.processes import Reading, read_tree

PERIOD_MIN_S = 0.02
PERIOD_MAX_S = 0.1
COSTS_PER_PERIOD = 50


class Peak(msgspec.Struct, frozen=True):
    """What the samples say of the whole run so far.

    Attributes:
        memory_bytes: the largest sum over all processes in one sample.
        memory_kind: what that sample's memory was: `pss`, or `rss` if one of its processes would not tell its PSS.
        processes: the most that there were at once.
        cpu_seconds: user and system time since the start, of live and reaped processes.
        samples: how many were taken.
        failed_readings: how many readings failed and are no sample.
        step_bytes_max: the largest difference of two neighbouring samples; the memory may have been higher between.
    """

    memory_bytes: int = 0
    memory_kind: MemoryKind = "pss"
    processes: int = 0
    cpu_seconds: float = 0.0
    samples: int = 0
    failed_readings: int = 0
    step_bytes_max: int = 0


class Sampler:
    """Samples a process and everything below it, from `start` to `stop`. Use it once.

    >>> samples: list[ProcessSampled] = []
    >>> with Sampler(samples.append) as sampler:
    ...     work = sum(range(1000))
    >>> len(samples) == sampler.peak.samples >= 2
    True

    Args:
        record: what to do with a sample, usually `span.record` of a span that nothing else uses. It is called in the
            sampler's thread and in those that call `start`, `sample_now` and `stop`, never twice at once.
        root_pid: the process; this one if None.
        read: how to read it.
        cpu_clock: the CPU seconds of the calling thread.
        clock: seconds of a clock that never goes backwards.
    """

    def __init__(
        self,
        record: Callable[[ProcessSampled], object],
        root_pid: int | None = None,
        *,
        read: Callable[[int], Reading] = read_tree,
        cpu_clock: Callable[[], float] = time.thread_time,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._record, self._read = record, read
        self._root_pid = os.getpid() if root_pid is None else root_pid
        self._cpu_clock, self._clock = cpu_clock, clock
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_stopped, name="eventflow-sampler", daemon=True)
        self._stopped = False
        self._baseline: float | None = None
        self._last_bytes: int | None = None
        self._peak = Peak()
        self._failure: Exception | None = None

    def start(self) -> None:
        """Take the first sample, from which CPU time counts, and start the thread."""
        self.sample_now()
        self._thread.start()

    def sample_now(self) -> ProcessSampled | None:
        """Take a sample in this thread, as at the end of a phase. Raises nothing.

        Returns:
            The sample; None if the reading or the recording failed, now or before, and after `stop`.
        """
        with self._lock:
            if self._stopped or self._failure is not None:
                return None
            before = self._cpu_clock()
            reading = self._try_to_read()
            if reading is None:
                return None
            sample = self._note(reading, self._cpu_clock() - before)
            return sample if self._try_to_record(sample) else None

    def stop(self) -> None:
        """End the thread, then take the last sample. Nothing is recorded after this has returned. Idempotent."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
            self.sample_now()
        self._stopped = True

    @property
    def peak(self) -> Peak:
        """The summary of the samples so far."""
        return self._peak

    @property
    def failure(self) -> Exception | None:
        """Why `record` failed, after which no sample is taken any more. None while it works."""
        return self._failure

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def _sample_until_stopped(self) -> None:
        rest = PERIOD_MIN_S
        while not self._stopping.wait(rest) and self._failure is None:
            before, cpu_before = self._clock(), self._cpu_clock()
            self.sample_now()
            rest = rest_seconds(self._cpu_clock() - cpu_before, self._clock() - before)

    def _try_to_read(self) -> Reading | None:
        # The guard of this module: a process tree in motion can fail in ways that nobody foresaw, and the run goes on.
        try:
            return self._read(self._root_pid)
        except Exception:  # noqa: BLE001
            self._peak = msgspec.structs.replace(self._peak, failed_readings=self._peak.failed_readings + 1)
            return None

    def _note(self, reading: Reading, sampling_seconds: float) -> ProcessSampled:
        if self._baseline is None:
            self._baseline = reading.cpu_seconds
        cpu_seconds = max(self._peak.cpu_seconds, reading.cpu_seconds - self._baseline)
        sample = ProcessSampled(
            memory_bytes=reading.memory_bytes,
            memory_kind=reading.memory_kind,
            cpu_seconds=cpu_seconds,
            processes=reading.processes,
            sampling_seconds=sampling_seconds,
        )
        self._peak = higher_peak(self._peak, sample, self._last_bytes)
        self._last_bytes = sample.memory_bytes
        return sample

    def _try_to_record(self, sample: ProcessSampled) -> bool:
        # The same guard: a recorder reports its own failure (its next event raises it), so here it only ends sampling.
        try:
            self._record(sample)
        except Exception as failure:  # noqa: BLE001
            self._failure = failure
            return False
        return True


def rest_seconds(cost_s: float, elapsed_s: float) -> float:
    """How long to rest after a sample that cost `cost_s` of CPU time and took `elapsed_s` in all.

    The period from the begin of one sample to that of the next is 50 times the cost, at least 0.02 s and at most 0.1 s.
    What a sample took is part of its period; the rest is never shorter than the cost.
    """
    period = min(max(COSTS_PER_PERIOD * cost_s, PERIOD_MIN_S), PERIOD_MAX_S)
    return max(period - elapsed_s, cost_s)


def higher_peak(peak: Peak, sample: ProcessSampled, last_bytes: int | None) -> Peak:
    """The peak with one more sample, where the sample before it had `last_bytes`."""
    step = 0 if last_bytes is None else abs(sample.memory_bytes - last_bytes)
    return Peak(
        memory_bytes=max(peak.memory_bytes, sample.memory_bytes),
        memory_kind=sample.memory_kind if sample.memory_bytes > peak.memory_bytes else peak.memory_kind,
        processes=max(peak.processes, len(sample.processes)),
        cpu_seconds=max(peak.cpu_seconds, sample.cpu_seconds),
        samples=peak.samples + 1,
        failed_readings=peak.failed_readings,
        step_bytes_max=max(peak.step_bytes_max, step),
    )
