"""Traces as indented text: names, states, what matters of the attributes, links by what they point to.

No ids, no times. The same text comes from what the events say and from what a backend answers, so that whole traces
are compared at once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from instrumentation.traces.span import FinishedSpan

SHOWN = ("eventflow.step", "http.response.status_code", "error.type", "url.full")


class TreeSpan(NamedTuple):
    """A span, whoever told of it. `status` is `ok`, `error` or empty; links are pairs of a trace's and a span's id."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    status: str
    message: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    events: tuple[str, ...]
    resource: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other."""
        return self.trace_id, self.span_id


def of_finished(span: FinishedSpan) -> TreeSpan:
    """A span as the events tell it."""
    return TreeSpan(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_span_id or "",
        name=span.name,
        kind=span.kind,
        status="error" if span.is_error else "",
        message=span.status_message,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        attributes={
            name: list(value) if isinstance(value, tuple) else value for name, value in span.attributes.items()
        },
        links=tuple((link.trace_id, link.span_id) for link in span.links),
        events=tuple(event.name for event in span.events),
        resource={},
    )


def render_trees(spans: Iterable[TreeSpan], *, shown: Sequence[str] = SHOWN) -> str:
    """Every trace as a tree, one under the other, in the order of their text. Links may point from one to another.

    A line is `name [status: message] {attribute=value …} -> what it links to, …`. What a link points to is given as the
    path of names from its root, with `other:` before it where that is in another trace, or `unknown`.
    """
    given = list(spans)
    by_key = {span.key: span for span in given}
    traces: defaultdict[str, list[TreeSpan]] = defaultdict(list)
    for span in given:
        traces[span.trace_id].append(span)
    return "\n".join(
        sorted(_tree(trace, shown, lambda span, link: _target(span, link, by_key)) for trace in traces.values())
    )


def _tree(trace: list[TreeSpan], shown: Sequence[str], target: Callable[[TreeSpan, tuple[str, str]], str]) -> str:
    ids = {span.span_id for span in trace}
    children: defaultdict[str, list[TreeSpan]] = defaultdict(list)
    for span in trace:
        children[span.parent_id if span.parent_id in ids else ""].append(span)

    def lines(parent: str, depth: int) -> Iterable[str]:
        for span in sorted(children[parent], key=lambda span: (span.start_ns, span.end_ns, span.name, span.span_id)):
            orphan = "(orphan) " if span.parent_id and not parent else ""
            yield f"{'  ' * depth}{orphan}{_line(span, shown)}{_links(span, target)}"
            yield from lines(span.span_id, depth + 1)

    return "\n".join(lines("", 0))


def _line(span: TreeSpan, shown: Sequence[str]) -> str:
    parts = [span.name if span.kind == "internal" else f"{span.name} ({span.kind})"]
    if span.status or span.message:
        parts.append(f"[{span.status}: {span.message}]" if span.message else f"[{span.status}]")
    told = [f"{name}={span.attributes[name]}" for name in shown if name in span.attributes]
    parts += [f"{{{' '.join(told)}}}"] if told else []
    parts += [f"<{' '.join(span.events)}>"] if span.events else []
    return " ".join(parts)


def _links(span: TreeSpan, target: Callable[[TreeSpan, tuple[str, str]], str]) -> str:
    return " -> " + ", ".join(sorted(target(span, link) for link in span.links)) if span.links else ""


def _target(span: TreeSpan, link: tuple[str, str], by_key: dict[tuple[str, str], TreeSpan]) -> str:
    names: list[str] = []
    key = link
    while (found := by_key.get(key)) and len(names) < 100:
        names.append(found.name)
        key = (found.trace_id, found.parent_id)
    path = "/".join(reversed(names)) or "unknown"
    return path if link[0] == span.trace_id else f"other:{path}"
