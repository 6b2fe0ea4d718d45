"""The resource of a run's telemetry."""

import uuid

from eventflow.log.runs import RunInfo
from instrumentation.traces.resource import INSTANCES, resource_attributes

MACHINE = {
    "system": "Linux",
    "release": "6.8.0-45-generic",
    "architecture": "x86_64",
    "python": "3.13.1",
    "packages": {"eventflow": "0.1.0", "duckdb": "2.0.0"},
}
INFO = RunInfo(
    run="20261123-120000-5eed",
    stage="director",
    created="2026-11-23T12:00:00+00:00",
    machine=MACHINE,
    labels={"sweep": "a", "note": "first"},
)


def test_every_attribute() -> None:
    """The names and values are those of the conventions; whatever is ours begins with `eventflow.`."""
    assert resource_attributes(INFO, "main-1", 4711) == {
        "service.name": "eventflow",
        "service.version": "0.1.0",
        "service.instance.id": str(uuid.uuid5(INSTANCES, "20261123-120000-5eed/main-1")),
        "process.pid": 4711,
        "process.runtime.name": "cpython",
        "process.runtime.version": "3.13.1",
        "host.arch": "amd64",
        "os.type": "linux",
        "os.version": "6.8.0-45-generic",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "eventflow",
        "telemetry.sdk.version": "0.1.0",
        "eventflow.run.id": "20261123-120000-5eed",
        "eventflow.stage": "director",
        "eventflow.label.note": "first",
        "eventflow.label.sweep": "a",
    }


def test_the_instance_is_the_process() -> None:
    """Each process of a run, and each run, is an instance of its own, and the same one whenever it is asked."""

    def instance(run: str, writer: str) -> object:
        info = RunInfo(run=run, stage="serial", created="")
        return resource_attributes(info, writer, None)["service.instance.id"]

    instances = {instance(run, writer) for run in ("a", "b") for writer in ("main", "worker")}
    assert len(instances) == 4
    assert instance("a", "main") == instance("a", "main")
    assert {uuid.UUID(str(one)).version for one in instances} == {5}


def test_what_is_not_known_is_left_out() -> None:
    """A `run.json` of another hand, with less in it or with other things, gives fewer attributes and no error."""
    for machine in ({}, {"system": None, "release": 6, "packages": ["eventflow"], "python": ""}):
        info = RunInfo(run="r", stage="serial", created="", machine=machine)
        assert resource_attributes(info, "main", None).keys() == {
            "service.name",
            "service.instance.id",
            "telemetry.sdk.language",
            "telemetry.sdk.name",
            "eventflow.run.id",
            "eventflow.stage",
        }
