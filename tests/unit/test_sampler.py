import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest

from eventflow.measuring_events import MemoryKind, ProcessReading, ProcessSampled
from instrumentation.processes import Reading
from instrumentation.sampler import (
    LOOK_COSTS,
    LOOK_REST_MAX_S,
    READING_COSTS,
    READING_REST_MAX_S,
    Peak,
    Sampler,
    rest_seconds,
    rises,
)

MIB = 1 << 20


def reading(memory_bytes: int = 100, cpu_seconds: float = 1.0, number: int = 1, kind: MemoryKind = "pss") -> Reading:
    """A reading of that many equal processes."""
    processes = tuple(ProcessReading(pid, memory_bytes // number, 0.1, 1) for pid in range(1, number + 1))
    return Reading(processes, kind, memory_bytes, cpu_seconds)


def script(*steps: Reading | Exception) -> Callable[[int], Reading]:
    """A process tree that is read as these steps say, one after the other."""
    left = iter(steps)

    def read(_root_pid: int) -> Reading:
        step = next(left)
        if isinstance(step, Exception):
            raise step
        return step

    return read


def marked(*processes: tuple[int, int, int], memory_bytes: int = 100) -> Reading:
    """A reading of processes, each with its pid, what is resident of it now and what was at most, in MiB."""
    readings = tuple(ProcessReading(pid, memory_bytes, 0.1, 1, peak * MIB) for pid, _, peak in processes)
    resident = tuple(now * MIB for _, now, _ in processes)
    return Reading(readings, "pss", memory_bytes * len(processes), 1.0, resident)


@pytest.mark.parametrize(
    ("cost_s", "look_s", "reading_s"),
    [(0.0, 0.02, 0.02), (0.0002, 0.08, 0.05), (0.001, 0.25, 0.25), (0.1, 0.25, 5.0), (7.0, 7.0, 7.0)],
    ids=["free", "cheap", "a look at its limit", "a reading at its limit", "dear"],
)
def test_the_rest_keeps_the_budget(cost_s: float, look_s: float, reading_s: float) -> None:
    """A rest is 400 looks or 250 readings long, within bounds, and never shorter than what it follows."""
    assert rest_seconds(cost_s, LOOK_COSTS, LOOK_REST_MAX_S) == pytest.approx(look_s)
    assert rest_seconds(cost_s, READING_COSTS, READING_REST_MAX_S) == pytest.approx(reading_s)
    assert 1 / LOOK_COSTS + 1 / READING_COSTS < 0.01


@pytest.mark.parametrize(
    ("before", "now", "risen"),
    [
        ({1: 50}, [(1, 50, 50)], []),
        ({1: 50}, [(1, 30, 50)], []),
        ({1: 50}, [(1, 50, 150)], [100]),
        ({1: 50}, [(1, 150, 150)], []),
        ({}, [(2, 10, 110)], [100]),
        ({1: 50, 2: 50}, [(1, 50, 90), (2, 20, 80)], [40, 60]),
    ],
    ids=["level", "fell", "rose and fell", "rose", "new", "two"],
)
def test_what_rose_and_fell_between_two_readings_is_seen(
    before: dict[int, int], now: list[tuple[int, int, int]], risen: list[int]
) -> None:
    """A high-water mark that is higher than at the last reading says how much more there was than there is now."""
    marks = {pid: peak * MIB for pid, peak in before.items()}
    assert rises(marked(*now), marks) == [rise * MIB for rise in risen]


def test_a_peak_between_two_samples_counts() -> None:
    """The peak holds what the kernel saw between samples, and its error where two peaks need not have been at once."""
    steps = script(marked((1, 50, 90)), marked((1, 50, 150), (2, 10, 40)), marked((1, 50, 150), (2, 10, 40)))
    samples: list[ProcessSampled] = []
    sampler = Sampler(samples.append, 1, read=steps)
    for _ in range(3):
        sampler.sample_now()
    assert [sample.peak_bytes for sample in samples] == [0, 200 + 130 * MIB, 0]
    assert (sampler.peak.memory_bytes, sampler.peak.error_bytes) == (200 + 130 * MIB, 30 * MIB)


def test_much_more_memory_is_read_at_once() -> None:
    """A look that sees more than ever before asks for a reading, though the last one was dear; little more does not."""
    looks = iter([10, 10, 11, 200, 205])
    read = threading.Event()

    def look(_root_pid: int) -> int:
        resident = next(looks, None)
        if resident is None:
            read.set()
        return (resident or 10) * MIB

    seconds = iter(range(0, 10**9, 1))  # each reading of the clock is a second of CPU: readings may rest for long
    samples: list[ProcessSampled] = []
    clock = iter(step * 1e-4 for step in range(10**6))
    sampler = Sampler(
        samples.append,
        1,
        read=lambda _: reading(),
        look=look,
        cpu_clock=lambda: next(seconds) * 1e-5,
        clock=lambda: next(clock),
    )
    with sampler:
        assert read.wait(10)
        sampler._stopping.set()
        sampler._thread.join()
        assert len(samples) == 3  # the first, and those for 10 and 200 MiB


def test_cpu_time_counts_from_the_start_and_never_falls() -> None:
    """What was used before is left out; a reading that misses a process just being reaped takes nothing back."""
    samples: list[ProcessSampled] = []
    times = (7.0, 7.5, 7.25, 9.0)
    sampler = Sampler(samples.append, 1, read=script(*(reading(cpu_seconds=seconds) for seconds in times)))
    for _ in times:
        sampler.sample_now()
    assert [sample.cpu_seconds for sample in samples] == [0.0, 0.5, 0.5, 2.0]
    assert sampler.peak.cpu_seconds == 2.0


def test_the_peak_is_the_largest_of_each() -> None:
    """Memory and number of processes have their own maximum."""
    sampler = Sampler(lambda _: None, 1, read=script(reading(100), reading(900, 1.5, 2), reading(300, 4.0, 5)))
    for _ in range(3):
        sampler.sample_now()
    peak = msgspec.structs.replace(sampler.peak, sampling_seconds=0.0)
    assert peak == Peak(memory_bytes=900, memory_kind="pss", processes=5, cpu_seconds=3.0, samples=3)


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (reading(100, kind="rss"), reading(90, kind="pss"), "rss"),
        (reading(100, kind="pss"), reading(90, kind="rss"), "pss"),
        (reading(100, kind="pss"), reading(190, kind="rss"), "rss"),
    ],
    ids=["rss, less pss", "pss, less rss", "pss, more rss"],
)
def test_the_peak_says_what_its_memory_is(first: Reading, second: Reading, kind: MemoryKind) -> None:
    """The kind is that of the sample with the most memory, not of the last one."""
    sampler = Sampler(lambda _: None, 1, read=script(first, second))
    sampler.sample_now()
    sampler.sample_now()
    assert sampler.peak.memory_kind == kind


def test_nothing_sampled_is_an_empty_peak() -> None:
    """Before the first sample the summary is all zero."""
    assert Sampler(lambda _: None).peak == Peak()


def test_a_sample_says_what_it_cost() -> None:
    """`sampling_seconds` is the CPU time since the sample before, and the peak has the sum."""
    clock: Iterator[float] = iter((10.0, 10.004, 11.0, 11.001))
    steps = script(OSError("gone"), reading())
    sampler = Sampler(lambda _: None, 1, read=steps, cpu_clock=lambda: next(clock))
    assert sampler.sample_now() is None
    sample = sampler.sample_now()
    assert sample is not None
    assert sample.sampling_seconds == pytest.approx(0.005)
    assert sampler.peak.sampling_seconds == pytest.approx(0.005)


def test_what_was_used_is_told_at_the_end() -> None:
    """The account is asked for once behind the last sample, with what the sampler knows."""
    told: list[dict[str, float]] = []
    order: list[str] = []

    def account(**said: float) -> None:
        told.append(said)
        order.append("account")

    sampler = Sampler(lambda _: order.append("sample"), 1, account=account, read=lambda _: reading(1000))
    sampler.start()
    sampler.stop()
    sampler.stop()
    (said,) = told
    assert order[-2:] == ["sample", "account"]
    assert said["samples"] == order.count("sample")
    assert said["cpu_seconds"] == sampler.peak.cpu_seconds
    assert 0 < said["memory_byte_seconds"] <= 1000 * said["seconds"]


def test_a_failed_reading_is_counted_and_no_sample() -> None:
    """A reading that fails, in whatever way, is one sample less; the next one is taken."""
    samples: list[ProcessSampled] = []
    sampler = Sampler(samples.append, 1, read=script(ProcessLookupError(3, "gone"), ValueError("odd"), reading(5)))
    assert [sampler.sample_now() for _ in range(3)] == [None, None, samples[0]]
    assert (sampler.peak.samples, sampler.peak.failed_readings) == (1, 2)
    assert sampler.failure is None


def test_the_thread_goes_on_after_a_failed_reading() -> None:
    """The thread survives a fault of the reading."""
    left: list[Reading | Exception] = [reading(), OSError("fault"), OSError("fault")]
    enough = threading.Event()

    def read(_root_pid: int) -> Reading:
        step = left.pop(0) if left else reading(7)
        if isinstance(step, Exception):
            raise step
        return step

    with Sampler(lambda sample: enough.set() if sample.memory_bytes == 7 else None, 1, read=read) as sampler:
        assert enough.wait(10)
    assert sampler.peak.failed_readings == 2


def test_a_recording_that_fails_ends_the_sampling_quietly() -> None:
    """After a failed record the thread ends, no sample is taken any more, and nothing is raised; the reason is kept."""
    calls: list[ProcessSampled] = []
    failure = OSError(28, "no space")

    def record(sample: ProcessSampled) -> None:
        calls.append(sample)
        if len(calls) == 2:
            raise failure

    sampler = Sampler(record, 1, read=lambda _: reading())
    sampler.start()
    sampler._thread.join(10)
    assert not sampler._thread.is_alive()
    assert sampler.sample_now() is None
    sampler.stop()
    assert len(calls) == 2
    assert sampler.failure is failure


def test_the_first_sample_is_at_start_and_the_last_at_stop() -> None:
    """Both are taken by the caller, so that they stand before and after the work, however short it is."""
    recorded_by: list[str] = []
    here = threading.current_thread().name
    sampler = Sampler(lambda _: recorded_by.append(threading.current_thread().name), 1, read=lambda _: reading())
    sampler.start()
    assert recorded_by[0] == here
    sampler.stop()
    assert recorded_by[-1] == here
    assert set(recorded_by[1:-1]) <= {"eventflow-sampler"}
    assert sampler.peak.samples == len(recorded_by) >= 2


def test_nothing_is_recorded_after_stop() -> None:
    """When stop has returned the log may be closed."""
    samples: list[ProcessSampled] = []
    sampler = Sampler(samples.append, 1, read=lambda _: reading())
    sampler.start()
    sampler.stop()
    count = len(samples)
    sampler.stop()
    assert sampler.sample_now() is None
    assert len(samples) == count


def test_stop_without_start_does_nothing() -> None:
    """A run that failed before its first sample can still clean up."""
    samples: list[ProcessSampled] = []
    Sampler(samples.append, 1, read=lambda _: reading()).stop()
    assert samples == []


def test_samples_are_taken_one_at_a_time() -> None:
    """`record` need not be safe to call from several threads at once, and CPU time never falls in their order."""
    inside = threading.Lock()
    order: list[float] = []
    seconds = iter(range(1000))

    def record(sample: ProcessSampled) -> None:
        assert inside.acquire(blocking=False)
        order.append(sample.cpu_seconds)
        inside.release()

    sampler = Sampler(record, 1, read=lambda _: reading(cpu_seconds=next(seconds)))
    threads = [threading.Thread(target=lambda: [sampler.sample_now() for _ in range(100)] and None) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sampler.failure is None
    assert order == [float(second) for second in range(400)]
