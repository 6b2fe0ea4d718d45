"""The sampler: a thread that records the memory, CPU time and processes of a run while it goes on, and what it used.

It sits beside the work and must neither disturb nor outlive it. Hence its own budget: less than 1 % of one core. A
reading of all processes (PSS) costs a third of a millisecond for each, so it rests 250 times as long; but a peak may
come and go meanwhile. Two things see it. The kernel keeps the most that was ever resident in each process: what rose
since the reading before is in the next one, however short it was and however long this thread had to wait for the
interpreter. And between readings there are looks, which cost a twentieth: at much more memory than ever before, as that
of a child that lives 50 ms, a reading follows at once.

Invariants:
    `sampling_seconds`, over all samples, is the CPU time of the sampler's thread and of the first and last sample;
    the rest after a look or a reading is 400 or 250 times its cost, so that together they take 0.7 % of a core; but a
    look comes at least every 0.25 s, a reading every 5 s, and while memory rises, by a thirtieth more than ever before
    each time, readings follow one another as fast as they can: there are few of those;
    `cpu_seconds` counts from `start` and never falls, though a reading may miss a process that is just being reaped;
    a fault while measuring is counted or kept, and never reaches the work.

Limits: a child that lives for less than the rest of a look may be missing from the memory, though not from the CPU time
(once it is reaped). A process has one high-water mark in its life: a second rise that stays below the first is seen by
looks and readings only, and cannot be the peak of that process.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

import msgspec

from eventflow.measuring_events import MemoryKind, ProcessSampled
from instrumentation.processes import Reading, look_at_tree, read_tree

REST_MIN_S = 0.02
RISING_REST_S = 0.005
LOOK_REST_MAX_S = 0.25
READING_REST_MAX_S = 5.0
LOOK_COSTS = 400
READING_COSTS = 250
MEASURE_EVERY_S = 5.0
RISE_BYTES_MIN = 1 << 20
ASK_BYTES_MIN = 4 << 20
ASK_SHARE = 1 / 30


class Peak(msgspec.Struct, frozen=True):
    """What the samples say of the whole run so far.

    Attributes:
        memory_bytes: the most that all processes together held, by the samples and the kernel's high-water marks.
        error_bytes: how much less it may have been, where several processes had their peaks, perhaps not at once.
        memory_kind: what that sample's memory was: `pss`, or `rss` if one of its processes would not tell its PSS.
        processes: the most that there were at once.
        cpu_seconds: user and system time since the start, of live and reaped processes.
        samples: how many were taken.
        failed_readings: how many readings failed and are no sample.
        sampling_seconds: the CPU time that all of this took.
    """

    memory_bytes: int = 0
    error_bytes: int = 0
    memory_kind: MemoryKind = "pss"
    processes: int = 0
    cpu_seconds: float = 0.0
    samples: int = 0
    failed_readings: int = 0
    sampling_seconds: float = 0.0


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
        account: called every `MEASURE_EVERY_S` and behind the last sample, in the same way, with what the sampler knows
            as the keyword arguments of `Meter.measure`, to record what was used.
        read: how to read the processes.
        look: how to see about how much is resident in them.
        cpu_clock: the CPU seconds of the calling thread.
        clock: seconds of a clock that never goes backwards.
    """

    def __init__(
        self,
        record: Callable[[ProcessSampled], object],
        root_pid: int | None = None,
        *,
        account: Callable[..., object] | None = None,
        read: Callable[[int], Reading] = read_tree,
        look: Callable[[int], int] = look_at_tree,
        cpu_clock: Callable[[], float] = time.thread_time,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._record, self._account, self._read, self._look = record, account, read, look
        self._root_pid = os.getpid() if root_pid is None else root_pid
        self._cpu_clock, self._clock = cpu_clock, clock
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_stopped, name="eventflow-sampler", daemon=True)
        self._stopped = False
        self._begun = self._last_time = self._clock()
        self._baseline: float | None = None
        self._marks: dict[int, int] = {}
        self._looked_max = 0
        self._cost = 0.0  # since the last sample
        self._byte_seconds = 0.0
        self._last_bytes = 0
        self._peak = Peak()
        self._failure: Exception | None = None

    def start(self) -> None:
        """Take the first sample, from which CPU time counts, and start the thread."""
        self._begun = self._last_time = self._clock()
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
            if threading.current_thread() is not self._thread:  # the thread counts its time itself
                self._cost += self._cpu_clock() - before
            if reading is None:
                return None
            sample = self._note(reading)
            return sample if self._try(partial(self._record, sample)) else None

    def stop(self) -> None:
        """End the thread, then take the last sample. Nothing is recorded after this has returned. Idempotent."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
            if not self._stopped:
                self.sample_now()
                self._account_now()
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
        spent = self._cpu_clock()
        rest, next_reading = REST_MIN_S, self._clock() + REST_MIN_S
        next_account = self._clock() + MEASURE_EVERY_S
        while not self._stopping.wait(rest) and self._failure is None:
            begun = self._clock()
            asks = self._looks_like_more()
            cost = self._cpu_clock() - spent  # with the waking up
            rest = RISING_REST_S if asks else rest_seconds(cost, LOOK_COSTS, LOOK_REST_MAX_S)
            if asks or begun >= next_reading:
                before = self._cpu_clock()
                self.sample_now()
                cost = self._cpu_clock() - before
                next_reading = self._clock() + rest_seconds(cost, READING_COSTS, READING_REST_MAX_S)
            if begun >= next_account:
                next_account = begun + MEASURE_EVERY_S
                self._account_now()
            now = self._cpu_clock()
            self._cost, spent = self._cost + now - spent, now

    def _looks_like_more(self) -> bool:
        """Whether so much more is resident than ever before that it must be read at once."""
        try:
            resident = self._look(self._root_pid)
        except Exception:  # noqa: BLE001  (the guard of this module, as in `_try_to_read`)
            return False
        is_more = resident - self._looked_max > max(ASK_BYTES_MIN, self._looked_max * ASK_SHARE)
        if is_more:
            self._looked_max = resident
        return is_more

    def _try_to_read(self) -> Reading | None:
        # The guard of this module: a process tree in motion can fail in ways that nobody foresaw, and the run goes on.
        try:
            return self._read(self._root_pid)
        except Exception:  # noqa: BLE001
            self._peak = msgspec.structs.replace(self._peak, failed_readings=self._peak.failed_readings + 1)
            return None

    def _note(self, reading: Reading) -> ProcessSampled:
        is_first = self._baseline is None
        if self._baseline is None:
            self._baseline = reading.cpu_seconds
        risen = [] if is_first else rises(reading, self._marks)
        self._marks = {process.pid: process.peak_bytes for process in reading.processes}
        self._looked_max = max(self._looked_max, sum(reading.resident_bytes))
        now = self._clock()
        self._byte_seconds += (now - self._last_time) * (reading.memory_bytes + self._last_bytes) / 2
        self._last_time, self._last_bytes = now, reading.memory_bytes
        sample = ProcessSampled(
            memory_bytes=reading.memory_bytes,
            memory_kind=reading.memory_kind,
            peak_bytes=reading.memory_bytes + sum(risen) if risen else 0,
            error_bytes=sum(risen) - max(risen, default=0),
            cpu_seconds=max(self._peak.cpu_seconds, reading.cpu_seconds - self._baseline),
            processes=reading.processes,
            sampling_seconds=self._cost,
        )
        self._cost = 0.0
        self._peak = higher_peak(self._peak, sample)
        return sample

    def _account_now(self) -> None:
        peak = self._peak
        with self._lock:
            if self._account is None or self._failure is not None:
                return
            said = {
                "seconds": self._clock() - self._begun,
                "cpu_seconds": peak.cpu_seconds,
                "memory_byte_seconds": self._byte_seconds,
                "samples": peak.samples,
                "failed_readings": peak.failed_readings,
                "sampling_seconds": peak.sampling_seconds + self._cost,
            }
            self._try(partial(self._account, **said))

    def _try(self, record: Callable[[], object]) -> bool:
        # The same guard: a recorder reports its own failure (its next event raises it), so here it only ends sampling.
        try:
            record()
        except Exception as failure:  # noqa: BLE001
            self._failure = failure
            return False
        return True


def rest_seconds(cost_s: float, costs: int, rest_max_s: float) -> float:
    """How long to rest after something that took `cost_s` of CPU time: `costs` times that, within bounds.

    It is never shorter than 0.02 s, nor than the cost itself.
    """
    return max(min(max(costs * cost_s, REST_MIN_S), rest_max_s), cost_s)


def rises(reading: Reading, marks: Mapping[int, int]) -> list[int]:
    """By how much processes were higher since the last reading than they are now, of those that were.

    Args:
        reading: the processes now.
        marks: the high-water mark of each process, by pid, at the reading before. One that is new was low before.
    """
    pairs = zip(reading.processes, reading.resident_bytes, strict=False)
    risen = (process.peak_bytes - now for process, now in pairs if process.peak_bytes > marks.get(process.pid, 0))
    return [rise for rise in risen if rise >= RISE_BYTES_MIN]


def higher_peak(peak: Peak, sample: ProcessSampled) -> Peak:
    """The peak with one more sample."""
    is_higher = sample.highest_bytes > peak.memory_bytes
    return Peak(
        memory_bytes=max(peak.memory_bytes, sample.highest_bytes),
        error_bytes=sample.error_bytes if is_higher else peak.error_bytes,
        memory_kind=sample.memory_kind if is_higher else peak.memory_kind,
        processes=max(peak.processes, len(sample.processes)),
        cpu_seconds=max(peak.cpu_seconds, sample.cpu_seconds),
        samples=peak.samples + 1,
        failed_readings=peak.failed_readings,
        sampling_seconds=peak.sampling_seconds + sample.sampling_seconds,
    )
