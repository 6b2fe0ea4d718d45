"""The public names of `eventflow`, frozen: adding, renaming or losing one is a decision, and shows here."""

import inspect

import eventflow
import eventflow.http

PUBLIC_NAMES = [
    "Answer",
    "Appended",
    "Appender",
    "Event",
    "EventflowError",
    "Handoff",
    "Link",
    "LogDamaged",
    "Payload",
    "Recorder",
    "RequestError",
    "RunFolder",
    "SeededSources",
    "Sources",
    "Span",
    "StoreError",
    "StoredEvent",
    "Subscription",
    "SystemSources",
    "UsageError",
    "WrongVersion",
    "create_run",
    "current_span",
    "decode_payload",
    "find_run",
    "follow",
    "list_runs",
    "payload_types",
    "query",
    "read_events",
    "record",
]


def test_the_public_names_are_these() -> None:
    """`eventflow.__all__` is this list, sorted; a change belongs in CHANGELOG.md."""
    assert list(eventflow.__all__) == PUBLIC_NAMES


def test_the_public_names_for_users_of_httpx_are_these() -> None:
    """`eventflow.http.__all__`; its modules are the director's own, and change without notice."""
    assert eventflow.http.__all__ == ["Transport"]


def test_every_public_name_is_explained() -> None:
    """Every public name is there, and each class and function has a docstring of its own."""
    public = {name: getattr(package, name) for package in (eventflow, eventflow.http) for name in package.__all__}
    explainable = {name: value for name, value in public.items() if inspect.isclass(value) or inspect.isroutine(value)}
    assert not [name for name, value in explainable.items() if not value.__doc__]
