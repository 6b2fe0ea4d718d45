"""What `eventflow trace` prints: an overview of a run, a request's story, a list of requests, or all of it as JSON."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.text import Text

from eventflow.cli.output import print_json
from eventflow.cli.trace_choice import Pick, Picks, Story, list_requests, pick, pick_stories
from eventflow.cli.trace_rows import Interval, Part, parts_of
from eventflow.cli.trace_spans import PROCESS_PREFIX, gather, meant, process_streams, story_json
from eventflow.cli.trace_view import Printer, print_story
from eventflow.cli.trace_words import Marks, details_of, format_time, label_of
from eventflow.cli.waterfall import TITLE, Line, Shown, draw, lines_of, without_url
from eventflow.log.runs import RunFolder
from eventflow.quantities import format_count, format_size
from instrumentation.traces import FinishedSpan

PROCESSES_SHOWN = 8
_ROWS_SHOWN = 20
_TITLES = {"failed": "failed", "started": "not ended", "cancelled": "cancelled"}
_WHY = {"failed": "one that failed", "started": "one that has not ended", "cancelled": "one that was cancelled"}
_ENDED = frozenset(("completed", "failed", "cancelled"))
_DIM = "bright_black"


def print_requests(folder: RunFolder, asked: str, again: str) -> None:
    """The whole story of a request; of several that are meant, a list.

    Raises:
        UsageError: no request is meant.
        LogDamaged: the log is not what was written; what stands before was shown.
    """
    printer = Printer(folder, again)
    streams = meant(folder, asked)
    if len(streams) > 1:
        _print_list(printer, list_requests(folder, streams))
        return
    told = gather(folder, streams)
    print_story(printer, streams[0], told.spans[streams[0]])
    if told.damage is not None:
        raise told.damage


def print_overview(folder: RunFolder, again: str) -> None:
    """The run's own spans, the requests that are worth a look, and one of them step by step.

    Raises:
        StoreError: the log is damaged.
    """
    printer, picks = Printer(folder, again), pick(folder)
    chosen, why = _chosen(picks)
    told = gather(folder, ["run", *process_streams(folder), *([chosen.stream] if chosen is not None else [])])
    _print_run(printer, picks, told.spans)
    if not picks.requests:
        _print_stories(printer, pick_stories(folder))
    if chosen is not None:
        printer.write([Text()])
        print_story(printer, chosen.stream, told.spans[chosen.stream], f", {why}" if picks.requests > 1 else "")
        if picks.requests > 1:
            printer.offer("another request", "NUMBER")
    if told.damage is not None:
        raise told.damage


def print_traces(folder: RunFolder, asked: str | None) -> None:
    """The same for programs, in one object.

    Raises:
        UsageError: no request is meant.
        LogDamaged: the log is not what was written.
    """
    picks = pick(folder) if asked is None else None
    shown = picks.shown if picks is not None else list_requests(folder, streams := meant(folder, asked or ""))
    if picks is not None:
        streams = ["run", *process_streams(folder), *(each.stream for each in shown)]
    told = gather(folder, streams)
    if told.damage is not None:
        raise told.damage
    facts = {each.stream: each for each in shown}
    stories = {stream: story_json(stream, spans) for stream, spans in told.spans.items()}
    print_json(
        {
            "run": folder.run,
            "stage": folder.info().stage,
            "requests_by_state": picks.counts if picks is not None else None,
            "requests": [facts[stream].for_programs() | stories[stream] for stream in stories if stream in facts],
            "traces": [story for stream, story in stories.items() if story["spans"] and stream not in facts],
        }
    )


def _chosen(picks: Picks) -> tuple[Pick | None, str]:
    """The request to show step by step: one that went wrong, if any did, else the slowest."""
    for state, found in picks.by_state.items():
        return found[0], _WHY[state]
    return (picks.slowest[0], "the slowest") if picks.slowest else (None, "")


class _Frame(NamedTuple):
    """A time axis of the overview: one for each time that the run was taken up."""

    axis: Interval
    run: Sequence[Line]


def _print_run(printer: Printer, picks: Picks, told: Mapping[str, Sequence[FinishedSpan]]) -> None:
    """The run, its processes and the chosen requests, on one axis each time that it was taken up."""
    printer.write(_headline(printer, picks, told["run"]))
    frames = _frames(parts_of(told["run"]), picks, printer.shown(), is_live=printer.folder.is_live())
    processes = sorted((span for name in told if name.startswith(PROCESS_PREFIX) for span in told[name]), key=_start)
    for number, frame in enumerate(frames):
        mine = [each for each in processes if _belongs(_start(each), number, frames)]
        lines = [*frame.run, *_process_lines(mine, printer.marks)]
        for title, found in _groups(picks):
            here = [each for each in found if _belongs(each.start_ns, number, frames)]
            named = {line.label for line in lines}  # what failed is said once
            if here:
                lines.append(Line(title, 0, 0, "", TITLE))
                drawn = [_pick_line(each, frame.axis, printer) for each in here]
                lines += [line._replace(message="") if line.label in named else line for line in drawn]
        printer.write([Text()])
        if len(frames) > 1:
            printer.write([Text(f"part {number + 1} of {len(frames)}", style="bold")])
        printer.write(draw(lines, frame.axis, printer.shown(), title="what"))


def _frames(parts: Sequence[Part], picks: Picks, shown: Shown, *, is_live: bool) -> list[_Frame]:
    frames = [
        _Frame(
            (part.start_ns, part.end_ns),
            [line._replace(number="", causes="") for line in lines_of(part, shown)[:_ROWS_SHOWN]],
        )
        for part in parts
    ]
    if frames and not is_live:  # of a killed run the last event is not its own
        (start_ns, end_ns), run = frames[-1]
        frames[-1] = _Frame((start_ns, max([end_ns, *(each.end_ns or each.start_ns for each in picks.shown)])), run)
    since = max((part.end_ns for part in parts), default=0)
    begun = [each.start_ns for each in picks.shown if is_live and each.start_ns >= since]
    if begun:
        frames.append(_Frame((min(begun), max(time.time_ns(), *begun)), []))
    return frames


def _belongs(start_ns: int, number: int, frames: Sequence[_Frame]) -> bool:
    """Whether something that began then belongs to this frame: the last one that had begun."""
    begun = [place for place, frame in enumerate(frames) if frame.axis[0] <= start_ns]
    return number == max(begun, default=0)


def _process_lines(spans: Sequence[FinishedSpan], marks: Marks) -> list[Line]:
    lines = [
        Line(
            label=label_of(span),
            start_ns=span.start_ns,
            end_ns=span.end_ns,
            time=format_time(span.seconds, marks),
            kind=span.step,
            state=span.state,
            facts=details_of(span, marks),
        )
        for span in spans[:PROCESSES_SHOWN]
    ]
    if len(spans) > PROCESSES_SHOWN:
        lines.append(Line(f"and {format_count(len(spans) - PROCESSES_SHOWN)} more processes", 0, 0, "", TITLE))
    return lines


def _groups(picks: Picks) -> Iterator[tuple[str, list[Pick]]]:
    for state, found in picks.by_state.items():
        yield _title(_TITLES[state], len(found), picks.counts[state]), found
    if picks.slowest:
        ended = sum(count for state, count in picks.counts.items() if state in _ENDED)
        yield f"{_title('slowest', len(picks.slowest), ended)}, without their wait in the queue", picks.slowest


def _title(what: str, shown: int, of: int) -> str:
    return what if shown == of else f"{what}: {shown} of {format_count(of)}"


def _pick_line(picked: Pick, axis: Interval, printer: Printer) -> Line:
    end_ns = picked.end_ns or axis[1]
    seconds = picked.seconds if picked.seconds is not None else max(0, end_ns - picked.start_ns) / 1e9
    facts = [format_size(picked.bytes)] if picked.bytes is not None else []
    if picked.attempts > 1:
        facts.append(f"{picked.attempts} attempts")
    return Line(
        label=picked.stream,
        start_ns=picked.start_ns,
        end_ns=end_ns,
        time=f"{format_time(seconds, printer.marks)}{'' if picked.seconds is not None else '+'}",
        kind="request",
        state="interrupted" if picked.state == "started" else picked.state,
        facts=[*facts, picked.name or picked.url],
        message=without_url(picked.message, picked.url),
        indent=2,
    )


def _print_list(printer: Printer, found: Sequence[Pick]) -> None:
    """Requests that are all meant, on one axis."""
    axis = min(each.start_ns for each in found), max(each.end_ns or each.start_ns for each in found)
    printer.write([Text(f"{format_count(len(found))} requests are called that", style="bold"), Text()])
    shown = found[:_ROWS_SHOWN]
    printer.write(draw([_pick_line(each, axis, printer) for each in shown], axis, printer.shown(), title="request"))
    if len(found) > len(shown):
        printer.say(f"and {format_count(len(found) - len(shown))} more")
    printer.offer("one of them", found[0].stream)


def _print_stories(printer: Printer, found: Sequence[Story]) -> None:
    """What a run tells that has no requests."""
    if not found:
        printer.write([Text("it has no requests and tells no other story")])
        return
    axis = min(each.start_ns for each in found), max(each.end_ns for each in found)
    lines = [
        Line(
            label=each.stream,
            start_ns=each.start_ns,
            end_ns=each.end_ns,
            time=format_time((each.end_ns - each.start_ns) / 1e9, printer.marks),
            kind="story",
            facts=[f"{format_count(each.events)} events"],
        )
        for each in found
    ]
    printer.write([Text(), Text(_title("the longest stories", len(found), found[0].of_all), style="bold")])
    printer.write(draw(lines, axis, printer.shown(), title="story"))
    printer.offer("one of them", found[0].stream)


def _headline(printer: Printer, picks: Picks, spans: Sequence[FinishedSpan]) -> list[Text]:
    counts = ", ".join(f"{format_count(count)} {_TITLES.get(state, state)}" for state, count in picks.counts.items())
    text = Text(printer.folder.run, style="bold")
    told = f"{format_count(picks.requests)} request{'s' * (picks.requests != 1)}: {counts}" if counts else "no requests"
    text.append(f"  {printer.folder.info().stage}  {told}", style="not bold")
    return [text, *(Text(f"trace {span.trace_id}", style=_DIM) for span in spans[:1])]


def _start(span: FinishedSpan) -> int:
    return span.start_ns
