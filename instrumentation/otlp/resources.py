"""The resource of each process of a run, as the SDK has it: what `run.json` says, and what the environment adds."""

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from eventflow.event import StoredEvent
from eventflow.log.runs import RunInfo
from instrumentation.traces.resource import ProcessIds, resource_attributes


class Resources:
    """The resource of each writer of a run: its process, and what the environment adds."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        self._added = OTELResourceDetector().detect()
        self._pids = ProcessIds()
        self._made: dict[tuple[str, int | None], Resource] = {}

    def feed(self, event: StoredEvent) -> None:
        """Learn from the events which number a writer's process had."""
        self._pids.see(event)

    def __call__(self, writer: str) -> Resource:
        """The resource of a writer."""
        known = writer, self._pids.get(writer)
        made = self._made.get(known)
        if made is None:
            made = self._made[known] = _Resource({**resource_attributes(self._info, *known), **self._added.attributes})
        return made


class _Resource(Resource):
    """A resource that is quick to look up.

    The SDK's encoder does so for each span, and the SDK's own makes JSON of all its attributes each time.
    """

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other
