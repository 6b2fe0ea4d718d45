"""The resource of a run's telemetry: which program, in which process, on what machine, as OpenTelemetry names it.

A pure function of what `run.json` says, so that whatever exports a run, and whenever, names the same resource. What the
person who exports wants it called (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) is laid over it by the OTLP settings.

Invariants:
    the same run and writer give the same attributes: a span that is sent again comes from the same instance;
    nothing here names the host, its user or its network, since `run.json` does not either.
"""

import uuid
from typing import Any

from eventflow.event import StoredEvent
from eventflow.log.runs import RunInfo
from eventflow.vocabulary import ProcessStarted, decode_payload
from instrumentation.traces.span import Attribute

SERVICE = "eventflow"
INSTANCES = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")
"""The namespace that the conventions give for a `service.instance.id` that is made of a name (service.md)."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm32", "i686": "x86", "ppc64le": "ppc64"}


def resource_attributes(info: RunInfo, writer: str, pid: int | None) -> dict[str, Attribute]:
    """The resource of what one process of a run recorded. What `run.json` does not know is left out.

    Args:
        info: the run.
        writer: the process, by the name of its log.
        pid: its process id, None where no event told it.

    >>> info = RunInfo(run="20261123-120000-5eed", stage="serial", created="2026-11-23T12:00:00+00:00")
    >>> resource_attributes(info, "w-1", 17)["service.instance.id"]
    '41e6a868-334a-5d4a-ad9a-4a19e45566a4'
    """
    machine = info.machine
    version, python = _version(machine), _text(machine, "python")
    architecture = _text(machine, "architecture")
    found: dict[str, Attribute | None] = {
        "service.name": SERVICE,
        "service.version": version,
        "service.instance.id": str(uuid.uuid5(INSTANCES, f"{info.run}/{writer}")),
        "process.pid": pid,
        "process.runtime.name": "cpython" if python else None,
        "process.runtime.version": python,
        "host.arch": architecture and _ARCHITECTURES.get(architecture, architecture),
        "os.type": (_text(machine, "system") or "").lower() or None,
        "os.version": _text(machine, "release"),
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": SERVICE,  # not `opentelemetry`: that SDK does not make these spans
        "telemetry.sdk.version": version,
        "eventflow.run.id": info.run,
        "eventflow.stage": info.stage,
        **{f"eventflow.label.{key}": value for key, value in sorted(info.labels.items())},
    }
    return {name: value for name, value in found.items() if value is not None}


class ProcessIds(dict[str, int]):
    """The process id of each writer, as far as its events told it: what `resource_attributes` is to be given."""

    def see(self, event: StoredEvent) -> None:
        """Take an event. A process tells its own id before anything else ends in it; that of a program is not its."""
        if event.type == ProcessStarted.TYPE:
            payload = decode_payload(event)
            if isinstance(payload, ProcessStarted) and payload.role != "program":
                self[event.writer] = payload.pid


def _version(machine: dict[str, Any]) -> str | None:
    """The version of eventflow that ran, which need not be the one that exports."""
    packages = machine.get("packages")
    return _text(packages, "eventflow") if isinstance(packages, dict) else None


def _text(facts: dict[str, Any], name: str) -> str | None:
    value = facts.get(name)
    return value if isinstance(value, str) and value else None
