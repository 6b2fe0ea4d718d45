"""What to do next with a request, decided from its events alone.

`decide` is the whole of the director's thinking about one request, and it is pure: the same events give the same state
and the same actions, while the run goes on, in a test, and when a killed run is resumed and its log is read again. What
needs a clock, chance or the state of the origin (how long to wait, whether it is worth another try) is asked for by an
action, and its answer comes back as an event.

Invariants:
    every state but the last three has an action or an event that leads out of it;
    after the last event of a story nothing is decided any more.
"""

from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Any

import msgspec

from eventflow.event import Payload
from eventflow.vocabulary import (
    AttemptAnswering,
    AttemptCompleted,
    AttemptFailed,
    AttemptRedirected,
    AttemptResponse,
    AttemptSent,
    AttemptStarted,
    FileStored,
    FileVerified,
    PartDropped,
    PartKept,
    RequestCancelled,
    RequestCompleted,
    RequestDelayed,
    RequestFailed,
    RequestQueued,
    RequestStarted,
)


class Phase(IntEnum):
    """Where a request is on its way."""

    NEW = 0
    QUEUED = 1
    STARTED = 2
    CONNECTING = 3
    SENT = 4
    ANSWERING = 5
    BODY = 6
    RECEIVED = 7
    FAILING = 8
    DELAYED = 9
    STORING = 10
    STORED = 11
    COMPLETED = 12
    FAILED = 13
    CANCELLED = 14


class Action(Enum):
    """What the director does next with a request."""

    ADMIT = "admit"  # put it in the line of its origin
    ATTEMPT = "attempt"  # one try on the wire
    JUDGE = "judge"  # is it worth another try, and when? The answer is request.delayed or request.failed
    VERIFY = "verify"  # is it what it should be? The answer is file.verified or request.failed
    STORE = "store"  # make it durable under its name
    COMPLETE = "complete"  # say so


class State(msgspec.Struct, frozen=True):
    """Where a request stands.

    Attributes:
        phase: where it is on its way.
        sent: how many times it was sent, redirects included: the number of the next attempt.
        tries: how many of them were not redirects.
        redirects: how many redirects were followed in a row.
        part: what is there of its file, if an attempt left something to go on from.
    """

    phase: Phase = Phase.NEW
    sent: int = 0
    tries: int = 0
    redirects: int = 0
    part: PartKept | None = None


Actions = tuple[Action, ...]
Decision = tuple[State, Actions]
_NOTHING: Actions = ()


def decide(state: State, event: Payload) -> Decision:
    """The state after an event, and what to do then. An event that says nothing about the way changes nothing."""
    rule = _RULES.get(type(event))
    if rule is None or (state.phase >= Phase.COMPLETED and not isinstance(event, RequestQueued)):
        return state, _NOTHING
    return rule(state, event)


def _queued(state: State, _event: Payload) -> Decision:
    """Also when a story goes on after a crash: then what is left of its file counts, its tries do not."""
    return State(Phase.QUEUED, sent=state.sent, part=state.part), (Action.ADMIT,)


def _started(state: State, _event: Payload) -> Decision:
    return _moved(state, Phase.STARTED), (Action.ATTEMPT,)


def _attempt_started(state: State, _event: Payload) -> Decision:
    tries = state.tries + (state.redirects == 0)
    return State(Phase.CONNECTING, state.sent + 1, tries, state.redirects, state.part), _NOTHING


def _redirected(state: State, _event: Payload) -> Decision:
    """It may lead to another origin, whose limits count as well: so it waits in that line, as the first."""
    return State(Phase.STARTED, state.sent, state.tries, state.redirects + 1, state.part), (Action.ADMIT,)


def _attempt_failed(state: State, _event: Payload) -> Decision:
    return State(Phase.FAILING, state.sent, state.tries, 0, state.part), (Action.JUDGE,)


def _delayed(state: State, _event: Payload) -> Decision:
    """When the time has come, the request is admitted again, as if it were new."""
    return _moved(state, Phase.DELAYED), (Action.ADMIT,)


def _part_kept(state: State, event: Payload) -> Decision:
    assert isinstance(event, PartKept)
    return State(state.phase, state.sent, state.tries, state.redirects, event), _NOTHING


def _part_dropped(state: State, _event: Payload) -> Decision:
    return State(state.phase, state.sent, state.tries, state.redirects, None), _NOTHING


def _file_verified(state: State, _event: Payload) -> Decision:
    """From here on there is no part any more: it is the file."""
    return State(Phase.STORING, state.sent, state.tries, state.redirects, None), (Action.STORE,)


def _moves(phase: Phase, *actions: Action) -> Callable[[State, Payload], Decision]:
    return lambda state, _event: (State(phase, state.sent, state.tries, state.redirects, state.part), actions)


def _moved(state: State, phase: Phase) -> State:
    return State(phase, state.sent, state.tries, state.redirects, state.part)


_RULES: dict[type[Any], Callable[[State, Payload], Decision]] = {
    RequestQueued: _queued,
    RequestStarted: _started,
    RequestDelayed: _delayed,
    AttemptStarted: _attempt_started,
    AttemptSent: _moves(Phase.SENT),
    AttemptAnswering: _moves(Phase.ANSWERING),
    AttemptResponse: _moves(Phase.BODY),
    AttemptRedirected: _redirected,
    AttemptCompleted: _moves(Phase.RECEIVED, Action.VERIFY),
    AttemptFailed: _attempt_failed,
    PartDropped: _part_dropped,
    PartKept: _part_kept,
    FileVerified: _file_verified,
    FileStored: _moves(Phase.STORED, Action.COMPLETE),
    RequestCompleted: _moves(Phase.COMPLETED),
    RequestFailed: _moves(Phase.FAILED),
    RequestCancelled: _moves(Phase.CANCELLED),
}
