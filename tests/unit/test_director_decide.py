"""What the director does next: a table of events, and that no request is ever left without a way on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.director.decide import Action, Phase, State, decide
from eventflow.event import Payload
from eventflow.vocabulary import (
    AttemptAnswering,
    AttemptBody,
    AttemptCompleted,
    AttemptFailed,
    AttemptProgressed,
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
    RunStarted,
)

PART = PartKept(name=".a.part", bytes=7, sha256="0" * 64, url="http://h/a", etag='"1"')
STORY: list[tuple[Payload, Phase, tuple[Action, ...]]] = [
    (RequestQueued(number=0, url="http://h/a", name="a"), Phase.QUEUED, (Action.ADMIT,)),
    (RequestStarted(wait_seconds=0.1), Phase.STARTED, (Action.ATTEMPT,)),
    (AttemptStarted(server_address="h", server_port=80), Phase.CONNECTING, ()),
    (AttemptSent(seconds=0.1), Phase.SENT, ()),
    (AttemptAnswering(seconds=0.1), Phase.ANSWERING, ()),
    (AttemptResponse(status=200, seconds=0.1), Phase.BODY, ()),
    (AttemptProgressed(bytes=7, seconds=0.1), Phase.BODY, ()),
    (PART, Phase.BODY, ()),
    (AttemptFailed(error="ShortBody", message="", seconds=0.1), Phase.FAILING, (Action.JUDGE,)),
    (RequestDelayed(seconds=0.1, reason="back-off"), Phase.DELAYED, (Action.ADMIT,)),
    (AttemptStarted(server_address="h", server_port=80, resend_count=1), Phase.CONNECTING, ()),
    (AttemptRedirected(status=302, url="http://h/b"), Phase.STARTED, (Action.ADMIT,)),
    (AttemptStarted(server_address="h", server_port=80, resend_count=2), Phase.CONNECTING, ()),
    (PartDropped(reason="changed"), Phase.CONNECTING, ()),
    (AttemptBody(bytes=9, seconds=0.1), Phase.CONNECTING, ()),
    (AttemptCompleted(seconds=0.1), Phase.RECEIVED, (Action.VERIFY,)),
    (FileVerified(bytes=9, sha256="0" * 64, seconds=0.1), Phase.STORING, (Action.STORE,)),
    (FileStored(name="a", bytes=9, seconds=0.1), Phase.STORED, (Action.COMPLETE,)),
    (RequestCompleted(name="a", bytes=9, seconds=0.1), Phase.COMPLETED, ()),
]
ENDS: list[Payload] = [
    RequestCompleted(name="a", bytes=9, seconds=0.1),
    RequestFailed(error="TimedOut", message="", seconds=0.1),
    RequestCancelled(seconds=0.1),
]
EVENTS = [event for event, _, _ in STORY] + ENDS


def test_a_story_with_everything_in_it() -> None:
    """Each event leads to its phase and its actions, one after the other."""
    state = State()
    for event, phase, actions in STORY:
        state, given = decide(state, event)
        assert (state.phase, given) == (phase, actions), event


def test_what_is_counted() -> None:
    """Every attempt is sent; only those that begin a try count as one; redirects count in a row."""
    state = State()
    for event, _, _ in STORY[:13]:
        state, _ = decide(state, event)
    assert (state.sent, state.tries, state.redirects) == (3, 2, 1)


def test_a_part_is_known_until_it_is_dropped_or_stored() -> None:
    """`part.kept` names it, a failed attempt does not lose it, `part.dropped` and the finished file do."""
    state, _ = decide(State(Phase.BODY), PART)
    state, _ = decide(state, AttemptFailed(error="ShortBody", message="", seconds=0.1))
    assert state.part == PART
    assert decide(state, PartDropped(reason="changed"))[0].part is None
    assert decide(state, FileVerified(bytes=9, sha256="0" * 64, seconds=0.1))[0].part is None


@pytest.mark.parametrize("end", ENDS, ids=lambda event: event.TYPE)
def test_after_the_end_nothing_is_decided(end: Payload) -> None:
    """Until a resume queues the request again."""
    ended, actions = decide(State(Phase.BODY, part=PART), end)
    assert actions == ()
    for event in EVENTS[1:]:
        assert decide(ended, event) == (ended, ())
    again, actions = decide(ended, EVENTS[0])
    assert (again.phase, again.tries, again.part, actions) == (Phase.QUEUED, 0, PART, (Action.ADMIT,))


def test_other_events_change_nothing() -> None:
    """What is said of the run, or what a newer version says, is no matter of one request."""
    state = State(Phase.SENT, sent=1, tries=1)
    assert decide(state, RunStarted(stage="director", workers=1)) == (state, ())


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_it_is_a_function(events: list[Payload]) -> None:
    """The same events give the same states and actions, in any order, and none of them raises."""

    def told() -> list[tuple[State, tuple[Action, ...]]]:
        state, seen = State(), []
        for event in events:
            state, actions = decide(state, event)
            seen.append((state, actions))
        return seen

    assert told() == told()
