"""The problem of the stage director: states without causes."""

from eventflow.origin.settings import OriginSettings
from stages.problems.scene import Scene
from stages.problems.shown import Shown
from stages.problems.stage_runs import Ran

SETTINGS = OriginSettings(files=6, size=10_000, latency_s=0.01, faults={"500": 0.25}, seed=4)


def no_cause(scene: Scene) -> Shown:
    """The same downloads with the director and with lineage: how many of their events say what caused them."""
    origin = scene.origin(SETTINGS)
    source = scene.list_of(origin)
    director = scene.run_stage("director", source, "--concurrency", "2")
    origin.reset()
    lineage = scene.run_stage("lineage", source, "--concurrency", "2")
    links, lineage_links = _links(director), _links(lineage)
    told = [event for event in lineage.events if event.stream.startswith("request-")]
    caused = sum(bool(event.links) for event in told)
    stream, types = _busiest(director)
    return Shown(
        facts={
            "retried": sum(event.type == "request.delayed" for event in director.events),
            "director_events": len(director.events),
            "director_links": links,
            "lineage_request_events": len(told),
            "lineage_links": lineage_links,
            "lineage_request_events_with_cause": caused,
        },
        seen=(
            f"{stream} of eventflow run director: … {', '.join(types[-12:])}.",
            (
                f"Every state is there. But which failure led to that wait? Who had used that connection before? Of "
                f"{len(director.events)} events, {links} say what caused them."
            ),
        ),
        why="States say what is; order says what came before; neither says what led to what. With many requests in "
        "flight, what stands before an event in the log is nearly always something else's.",
        next="lineage: the director, where each event names those that caused it.",
        seen_next=(
            (
                f"eventflow run lineage, the same list: {lineage_links} links; of the {len(told)} events of requests, "
                f"{caused} name their cause (whole-chain follows them)."
            ),
        ),
    )


def _links(ran: Ran) -> int:
    return sum(len(event.links) for event in ran.events)


def _busiest(ran: Ran) -> tuple[str, list[str]]:
    """The request with the longest story."""
    told = {stream: events for stream, events in ran.stories().items() if stream.startswith("request-")}
    stream = max(told, key=lambda name: len(told[name]))
    return stream, [event.type for event in told[stream]]
