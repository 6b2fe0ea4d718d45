"""The errors: made of fields, one line, picklable, with a fix."""

import inspect
import pickle

import pytest

from eventflow import errors
from eventflow.engines.processes import WorkerDied
from eventflow.errors import EventflowError

MADE: list[EventflowError] = [
    errors.UsageError("no stage 'x'", "choose one"),
    errors.MissingExtra("the report needs altair", "pip install 'eventflow[analysis]'"),
    errors.NoActiveSpan(),
    errors.LogWriteFailed("/log", "No space left on device"),
    errors.LogClosed("the recorder is closed"),
    errors.LogDamaged("/log", 10, 2, "not what was committed"),
    errors.NewerFormat("/log", 2, 1),
    errors.MalformedPayload("run.started", "id", "no stage"),
    errors.UnknownRun("x", "store"),
    errors.UnknownRun("2", "store", ("20260101-1", "20260101-2")),
    errors.ServerStatus("http://h/", "503 Service Unavailable", 503, "7"),
    errors.DiskFull("http://h/", "no room"),
    WorkerDied((-9,)),
    *(
        kind("http://h/", "what happened")
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, errors.RequestError)
    ),
]


@pytest.mark.parametrize("error", MADE, ids=[f"{type(error).__name__}-{place}" for place, error in enumerate(MADE)])
def test_an_error_crosses_processes_and_is_one_line(error: EventflowError) -> None:
    """It comes out of a pickle with the same type, fields and words."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
    assert str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("error", MADE, ids=[f"{type(error).__name__}-{place}" for place, error in enumerate(MADE)])
def test_an_error_says_what_to_do(error: EventflowError) -> None:
    """After the last colon."""
    assert len(str(error).rsplit(": ", 1)[1]) > 8


@pytest.mark.parametrize(
    ("text", "shown"), [("a", "'a'"), ("a\nb\x1b[31m", r"'a\nb\x1b[31m'"), ("x" * 500, f"'{'x' * 109}…'")]
)
def test_names_in_messages_are_safe_to_print(text: str, shown: str) -> None:
    """No control characters, at most 120 characters."""
    assert errors.name_of(text) == shown
