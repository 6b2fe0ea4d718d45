import msgspec

from eventflow.measuring_events import ProcessMeasured
from eventflow.vocabulary import AttemptCompleted, AttemptStarted, ProcessStarted
from tests.told_events import MIB, SECOND, START, Told, begun, queued, reading, sample, shown_of, values

TRY = AttemptStarted(server_address="h.example", server_port=443)
REQUESTS = "eventflow.requests"


def test_samples_are_put_to_the_processes_that_write_logs() -> None:
    """A worker has its own memory and CPU time under its own name; what has no log counts in the run's sums only."""
    told = Told()
    begun(told)
    told.say("main", "run", sample(reading(100, 2.0), reading(200, 4.0, 3 * MIB), reading(300, 1.0)), at=2)
    told.say("worker", "process-worker", ProcessStarted(pid=200, role="worker"), at=1)
    told.say("worker", "request-0", ProcessStarted(pid=300, role="program"), at=1)
    points = told.points()
    assert values(points, "process.cpu.time", "main") == {("user",): 2.0, ("system",): 1.0}
    assert values(points, "process.cpu.time", "worker") == {("user",): 4.0, ("system",): 2.0}
    assert values(points, "process.memory.usage", "worker") == {("pss",): 3 * MIB}
    assert values(points, "process.thread.count", "worker") == {(): 2}
    assert values(points, "process.unix.file_descriptor.count", "worker") == {(): 7}
    assert values(points, "eventflow.run.memory.usage") == {("pss",): 5 * MIB}
    assert values(points, "eventflow.run.memory.peak") == {("pss",): 10 * MIB}
    assert shown_of(points, "eventflow.run.processes") == [("main", 3)]
    assert shown_of(points, "eventflow.run.threads") == [("main", 6)]
    assert shown_of(points, "eventflow.run.file_descriptors") == [("main", 21)]
    assert shown_of(points, "eventflow.run.cpu.time") == [("main", 10.5)]
    assert shown_of(points, "eventflow.run.workers") == [("main", 8)]


def test_of_a_process_that_ended_only_what_it_counted_is_shown() -> None:
    """It has no memory any more, but has used its time; and it does not live."""
    told = Told()
    begun(told)
    told.say("worker", "process-worker", ProcessStarted(pid=200, role="worker"), at=1)
    told.say("main", "run", sample(reading(100), reading(200)), at=2)
    assert told.fold().lives("worker")
    told.say("main", "run", sample(reading(100)), at=3)
    assert not told.fold().lives("worker")
    assert told.fold().lives("main")
    assert values(told.points(), "process.cpu.time", "worker") == {("user",): 1.0, ("system",): 0.5}
    assert values(told.points(), "process.memory.usage", "worker") == {}


def test_a_number_that_is_given_again_is_that_of_who_began_last() -> None:
    """What was read of the earlier process is not shown for the later one, nor the other way round."""
    told = Told()
    begun(told)
    told.say("one", "process-one", ProcessStarted(pid=200, role="worker"), at=1)
    told.say("main", "run", sample(reading(200, 9.0)), at=2)
    told.say("two", "process-two", ProcessStarted(pid=200, role="worker"), at=3)
    assert values(told.points(), "process.cpu.time", "two") == {}
    told.say("main", "run", sample(reading(200, 1.0)), at=4)
    assert values(told.points(), "process.cpu.time", "two") == {("user",): 1.0, ("system",): 0.5}
    assert values(told.points(), "process.cpu.time", "one") == {}


def test_the_accounts_of_the_run() -> None:
    """What the kernel does not tell is absent, not 0; energy says where it is from."""
    told = Told()
    begun(told)
    account = ProcessMeasured(
        seconds=5,
        user_seconds=2,
        system_seconds=1,
        voluntary_switches=30,
        involuntary_switches=4,
        major_faults=0,
        disk_read_bytes=10,
        disk_written_bytes=20,
        sampling_seconds=0.01,
        energy_class="desktop",
        energy_server_joules=7,
        energy_desktop_joules=9,
    )
    told.say("main", "run", account)
    points = told.points()
    assert values(points, "eventflow.run.cpu.accounted") == {("user",): 2, ("system",): 1}
    assert values(points, "eventflow.run.context_switches") == {("voluntary",): 30, ("involuntary",): 4}
    assert values(points, "eventflow.run.paging.faults") == {("major",): 0}
    assert values(points, "eventflow.run.disk.io") == {("read",): 10, ("write",): 20}
    assert values(points, "eventflow.run.network.io") == {}
    assert values(points, "eventflow.run.energy") == {("modelled",): 9}
    told.say("main", "run", msgspec.structs.replace(account, energy_measured_joules=12.0))
    assert values(told.points(), "eventflow.run.energy")[("measured",)] == 12.0


def test_a_resumed_run_counts_anew() -> None:
    """The new process's sums begin at 0, at its own start; of the old one only sums are left, as they were."""
    told = Told()
    begun(told)
    told.say("main", "request-0", queued(0), TRY)
    told.say("main", "run", sample(reading(100)), at=1)
    begun(told, "second", 100, at=100, resumed=True)
    told.say("second", "request-0", queued(0), TRY, AttemptCompleted(seconds=1), at=101)
    told.say("second", "run", sample(reading(100, 3.0)), at=101)
    points = told.points(at=102)
    assert values(points, "process.cpu.time", "main") == {("user",): 1.0, ("system",): 0.5}
    assert values(points, "process.cpu.time", "second") == {("user",): 3.0, ("system",): 1.5}
    assert {point.start_ns for point in points if point.writer == "second"} == {START + 100 * SECOND}
    assert {point.kind for point in points if point.writer == "main"} == {"counter"}
    assert values(points, REQUESTS, "second") == values(points, REQUESTS)
    assert not told.fold().lives("main")
