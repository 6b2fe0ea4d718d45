"""What a report says in words: pure functions from the rows of the view `runs` to sentences."""

from collections.abc import Sequence

from analysis.amounts import count_text, memory_text, number_text, seconds_text
from analysis.labels import Row

RUNS = """
    SELECT
        run, workers, state, seconds, requests, completed, failed, cancelled, bytes, requests_per_second AS rate,
        peak_memory_bytes AS memory, upper(memory_kind) AS kind, cpu_seconds,
        energy_joules, events
    FROM runs
"""
RUNS_NAMED_MAX = 4


def headline(runs: Sequence[Row]) -> str:
    """The main finding in one sentence.

    Cases: one run; several that did the same work, which can be compared by time; several that did not, or did not
    end, which can only be compared by rate.
    """
    if len(runs) == 1:
        return _one_run(runs[0])
    if same_work(runs):
        best, worst = (choose(runs, key=lambda run: run["seconds"]) for choose in (min, max))
        requests = count_text(best["requests"], "request")
        ratio = number_text(worst["seconds"] / best["seconds"]) if best["seconds"] else "many"
        return (
            f"{best['label']} was fastest: {requests} in {seconds_text(best['seconds'])}, "
            f"{ratio} times as fast as {worst['label']}"
        )
    best = max(runs, key=lambda run: run["rate"] or 0)
    rate = number_text(best["rate"] or 0)
    return f"{best['label']} completed the most requests per second: {rate}"


def same_work(runs: Sequence[Row]) -> bool:
    """Whether the runs can be compared by their time: all completed, with the same number of requests."""
    return all(run["state"] == "completed" for run in runs) and len({run["requests"] for run in runs}) == 1


def sentences(
    runs: Sequence[Row],
    causes: Sequence[tuple[str, int]],
    unseen: Sequence[str],
    unreadable: Sequence[tuple[str, str]] = (),
    *,
    begun: Sequence[Row] | None = None,
) -> list[str]:
    """What else a reader should know, a sentence each.

    Args:
        runs: the rows, with labels.
        causes: the kinds of failure and how many requests failed with each, the most frequent first.
        unseen: runs that were asked for and have no event.
        unreadable: runs that were asked for and cannot be read, with the reason.
        begun: all runs, where the rows are of some of them: a failure counts wherever it was.
    """
    failures = _failures(runs if begun is None else begun, causes)
    said = [_memory(runs), _unmeasured(runs), failures, _unfinished(runs), _different(runs)]
    if unseen:
        said.append(f"Not shown, since nothing is recorded of it yet: {', '.join(unseen)}.")
    said += [f"Not shown, since it cannot be read: {run} ({why})." for run, why in unreadable[:RUNS_NAMED_MAX]]
    if len(unreadable) > RUNS_NAMED_MAX:
        said.append(f"Nor can {len(unreadable) - RUNS_NAMED_MAX} more be read.")
    return [sentence for sentence in said if sentence]


def _one_run(run: Row) -> str:
    requests = count_text(run["requests"], "request")
    done = requests if run["completed"] == run["requests"] else f"{run['completed']:,} of {requests}"
    if run["state"] == "completed":
        rate = number_text(run["rate"] or 0)
        return f"{run['label']} completed {done} in {seconds_text(run['seconds'])}, {rate} a second"
    return f"{run['label']} has completed {done} after {seconds_text(run['seconds'])} and is {run['state']}"


def _memory(runs: Sequence[Row]) -> str:
    measured = [run for run in runs if run["memory"]]
    if not measured:
        return ""
    least, most = (choose(measured, key=lambda run: run["memory"]) for choose in (min, max))
    if len(measured) == 1:
        return f"It took at most {memory_text(most['memory'])} of memory."
    return (
        f"{least['label']} took the least memory, {memory_text(least['memory'])}; "
        f"{most['label']} the most, {memory_text(most['memory'])}."
    )


def _unmeasured(runs: Sequence[Row]) -> str:
    without = [run["label"] for run in runs if not run["memory"]]
    if not without:
        return ""
    more = f" and {len(without) - RUNS_NAMED_MAX} more" if len(without) > RUNS_NAMED_MAX else ""
    return f"Memory and CPU were not measured in {', '.join(without[:RUNS_NAMED_MAX])}{more}."


def _failures(runs: Sequence[Row], causes: Sequence[tuple[str, int]]) -> str:
    failed, requests = (sum(run[column] for run in runs) for column in ("failed", "requests"))
    if not failed:
        return "No request failed."
    often = (
        f", most often with {causes[0][0]} ({causes[0][1]:,})"
        if len(causes) > 1
        else f", with {causes[0][0]}"
        if causes
        else ""
    )
    return f"{failed:,} of {count_text(requests, 'request')} failed{often}."


def _unfinished(runs: Sequence[Row]) -> str:
    others = [f"{run['label']} ({run['state']})" for run in runs if run["state"] != "completed"]
    if not others or len(runs) == 1:
        return ""
    more = f" and {len(others) - RUNS_NAMED_MAX} more" if len(others) > RUNS_NAMED_MAX else ""
    return f"Did not come to its end: {', '.join(others[:RUNS_NAMED_MAX])}{more}."


def _different(runs: Sequence[Row]) -> str:
    if len({run["requests"] for run in runs}) == 1:
        return ""
    return "The runs had different numbers of requests, so compare rates rather than times."
