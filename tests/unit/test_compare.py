import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventflow.cli.comparison import Group, Picked, Slices, grouped, lines_of, notes_of, quantiles_of, with_baseline
from eventflow.cli.main import main
from eventflow.errors import UsageError
from eventflow.log.runs import RunFolder, create_run
from eventflow.sweep import Cell, Sweep, create_sweep, labels_of
from tests.synthetic_log import START_NS, write_run


class Asked:
    """`eventflow compare` over a store, inside this process."""

    def __init__(self, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self._capsys, self._monkeypatch = store, capsys, monkeypatch

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        self._monkeypatch.setattr(sys, "argv", ["eventflow", "compare", "--store", str(self.store), *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, out, err

    def json(self, *arguments: str) -> Any:
        """The answer for programs."""
        status, out, err = self("--json", *arguments)
        assert (status, err) == (0, "")
        return json.loads(out)

    def refused(self, *arguments: str) -> str:
        """What is said where nothing can be compared."""
        status, out, err = self(*arguments)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        return err


@pytest.fixture
def asked(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A store of its own."""
    return Asked(tmp_path, capsys, monkeypatch)


def line(answer: Any, measure: str, group: str) -> Any:
    """A measure of a group in the answer for programs."""
    (found,) = [one for one in answer["measures"] if (one["measure"], one["group"]) == (measure, group)]
    return found


def labelled(folder: RunFolder, labels: dict[str, str]) -> None:
    """Give a run labels afterwards."""
    info = msgspec.structs.replace(folder.info(), labels=labels)
    (folder.path / "run.json").write_bytes(msgspec.json.encode(info))


def write_sweep(store: Path, sizes: tuple[int, ...] = (10, 60), repeat: int = 3) -> Sweep:
    """A sweep of two stages with all its runs."""
    plan = Sweep(stages=("serial", "threads"), sizes=sizes, repeat=repeat)
    sweep = create_sweep(store, plan)
    for place, stage in enumerate(plan.stages):
        for number, size in enumerate(sizes):
            for again in range(1, repeat + 1):
                moment = START_NS + (place * 100 + number * 10 + again) * 60_000_000_000
                run = write_run(store, stage, requests=size, seed=again, start_ns=moment, failure_share=0.0)
                labelled(run, labels_of(sweep, Cell(stage, size, again)))
    return sweep


def test_two_runs_are_compared_with_what_each_is_made_of(asked: Asked) -> None:
    """Of single runs: intervals from their requests and slices of time; none for memory and CPU, and that is said."""
    slow, fast = (write_run(asked.store, stage, failure_share=0.0) for stage in ("serial", "threads"))
    answer = asked.json(slow.run, fast.run)
    base, other = (f"{run.info().stage} {run.run[-4:]}" for run in (slow, fast))
    assert answer["baseline"] == base
    assert [group["group"] for group in answer["groups"]] == [base, other]
    assert line(answer, "seconds", base)["words"] == "the baseline"
    time = line(answer, "seconds", other)
    assert time["low"] < time["ratio"] < time["high"] < 1
    assert time["verdict"] == "less"
    assert time["words"].startswith("faster by ")
    assert line(answer, "requests_per_second", other)["ratio"] == pytest.approx(1 / time["ratio"])
    assert line(answer, "median_request_seconds", other)["words"].startswith("longer by ")
    memory = line(answer, "peak_memory_bytes", other)
    assert (memory["verdict"], memory["low"], memory["ratio"] > 1) == ("unknown", None, True)
    assert any("of a single run the interval tells how sure its own number is" in note for note in answer["notes"])
    assert answer == asked.json(slow.run, fast.run)


def test_the_same_work_twice_is_no_difference(asked: Asked) -> None:
    """Two runs of the same stage with other random numbers: by words and by the interval around 1."""
    runs = [write_run(asked.store, "serial", seed=seed, start_ns=START_NS + seed) for seed in (1, 2)]
    answer = asked.json(*(run.run for run in runs))
    other = answer["groups"][1]["group"]
    for measure in ("seconds", "requests_per_second", "median_request_seconds", "p95_request_seconds"):
        found = line(answer, measure, other)
        assert (found["words"], found["verdict"]) == ("no difference", "same")
        assert found["low"] < 1 < found["high"]


def test_runs_of_a_stage_are_repetitions_where_there_are_several_stages(asked: Asked) -> None:
    """By stage then, with intervals also for memory; by run if the stage is the same, or if asked."""
    runs = [
        write_run(asked.store, stage, seed=seed, start_ns=START_NS + seed * 60_000_000_000)
        for stage in ("serial", "loop")
        for seed in (1, 2, 3)
    ]
    names = [run.run for run in runs]
    answer = asked.json(*names)
    assert [(group["group"], len(group["runs"])) for group in answer["groups"]] == [("serial", 3), ("loop", 3)]
    memory = line(answer, "peak_memory_bytes", "loop")
    assert memory["low"] <= memory["ratio"] <= memory["high"]
    assert any("fewer than 6 runs" in note for note in answer["notes"])
    assert len(asked.json(*names[:3])["groups"]) == 3
    assert len(asked.json(*names, "--by", "run")["groups"]) == 6
    assert asked.json(*names, "--baseline", "loop")["baseline"] == "loop"
    assert asked.json(*names, "--baseline", names[4])["baseline"] == "loop"
    assert "is none of what is compared: name one of serial, loop" in asked.refused(*names, "--baseline", "x")


def test_a_label_can_say_what_belongs_together(asked: Asked) -> None:
    """Before and after a change, for example."""
    runs = [write_run(asked.store, "loop", seed=seed, start_ns=START_NS + seed) for seed in range(4)]
    for place, run in enumerate(runs):
        labelled(run, {"version": "old" if place < 2 else "new"})
    answer = asked.json(*(run.run for run in runs), "--by", "version")
    assert [group["group"] for group in answer["groups"]] == ["version=old", "version=new"]
    assert "has no label 'colour'" in asked.refused(*(run.run for run in runs), "--by", "colour")


def test_a_sweep_is_compared_at_its_largest_size(asked: Asked) -> None:
    """Or at the one that is asked for; its stages are the groups, and warm-ups are none of it."""
    sweep = write_sweep(asked.store)
    answer = asked.json(sweep.name)
    assert [(group["group"], len(group["runs"])) for group in answer["groups"]] == [("serial", 3), ("threads", 3)]
    assert answer["notes"][0] == f"sweep {sweep.name}: 60 requests"
    assert asked.json("latest-sweep") == answer
    assert asked.json(sweep.name[-4:], "--requests", "10")["notes"][0] == f"sweep {sweep.name}: 10 requests"
    assert "choose one of 10, 60" in asked.refused(sweep.name, "--requests", "7")
    assert "no sweep is named" in asked.refused(answer["groups"][0]["runs"][0], "--requests", "10")


def test_a_run_that_only_has_the_labels_is_none_of_a_sweep(asked: Asked) -> None:
    """A stage or repeat that the plan has not, or another number of requests than the label says, changes nothing."""
    sweep = write_sweep(asked.store)
    answer = asked.json(sweep.name)
    for place, (stage, requests, repeat) in enumerate((("loop", 60, 1), ("serial", 60, 9), ("serial", 10, 1))):
        run = write_run(asked.store, stage, requests=requests, seed=9, start_ns=START_NS + place)
        labelled(run, labels_of(sweep, Cell(stage, 60, repeat)))
    assert asked.json(sweep.name) == answer


def test_two_sweeps_are_told_apart(asked: Asked) -> None:
    """The stages of each are groups of their own: before and after, here and there."""
    first = write_sweep(asked.store, sizes=(20,), repeat=2)
    second = write_sweep(asked.store, sizes=(20,), repeat=2)
    groups = [group["group"] for group in asked.json(first.name, second.name)["groups"]]
    assert groups == [f"{stage} {sweep.name[-4:]}" for sweep in (first, second) for stage in ("serial", "threads")]


def test_a_sweep_without_runs_says_how_to_go_on(asked: Asked) -> None:
    """And what is not there is said."""
    sweep = create_sweep(asked.store, Sweep(stages=("loop",), sizes=(1,), repeat=1))
    assert f"has no completed run: go on with `eventflow sweep --resume {sweep.name}`" in asked.refused(sweep.name)


def test_different_numbers_of_requests_are_compared_by_rates(asked: Asked) -> None:
    """Times would say nothing."""
    runs = [write_run(asked.store, "loop", requests=size, start_ns=START_NS + size) for size in (100, 200)]
    answer = asked.json(*(run.run for run in runs))
    assert "seconds" not in {one["measure"] for one in answer["measures"]}
    assert "the runs had 100 and 200 requests: rates are compared, not times" in answer["notes"]


def test_of_one_request_little_is_known(asked: Asked) -> None:
    """Its numbers are shown, and that nothing is known about how sure they are."""
    runs = [write_run(asked.store, stage, requests=1, failure_share=0.0) for stage in ("serial", "loop")]
    answer = asked.json(*(run.run for run in runs))
    other = answer["groups"][1]["group"]
    for measure in ("seconds", "median_request_seconds"):
        found = line(answer, measure, other)
        assert found["ratio"] > 0
        assert (found["low"], found["verdict"]) == (None, "unknown")
        assert found["words"].endswith("uncertain")


def test_an_unfinished_run_has_no_time(asked: Asked) -> None:
    """Interrupted or killed: the rest is compared, and it is said; beside finished ones of its group it is left out."""
    whole = write_run(asked.store, "serial")
    stopped = write_run(asked.store, "loop", stop_seconds=0.2)
    killed = write_run(asked.store, "loop", stop_seconds=0.2, killed=True, start_ns=START_NS + 1)
    answer = asked.json(whole.run, stopped.run)
    group = answer["groups"][1]["group"]
    assert line(answer, "seconds", group)["value"] is None
    assert line(answer, "requests_per_second", group)["ratio"] > 0
    assert any(note == f"{stopped.run} (loop) is interrupted: its time is not compared" for note in answer["notes"])
    assert any("is unfinished" in note for note in asked.json(whole.run, killed.run)["notes"])
    finished = write_run(asked.store, "loop", start_ns=START_NS + 2)
    answer = asked.json(whole.run, stopped.run, killed.run, finished.run)
    assert [group["runs"] for group in answer["groups"]] == [[whole.run], [finished.run]]
    assert "2 unfinished runs are left out" in answer["notes"]


def test_a_run_in_which_nothing_happened_is_left_out(asked: Asked) -> None:
    """And where only one is left there is nothing to compare."""
    run, empty = write_run(asked.store, "serial"), create_run(asked.store, stage="loop")
    other = write_run(asked.store, "loop")
    assert (
        f"{empty.run} is left out, since nothing has happened in it"
        in asked.json(run.run, other.run, empty.run)["notes"]
    )
    assert "nothing to compare" in asked.refused(run.run, empty.run)


def test_names_that_do_not_fit_are_explained(asked: Asked) -> None:
    """One run, the same run twice, none, a name of several, a damaged log."""
    sweep = write_sweep(asked.store, sizes=(5,), repeat=1)
    run, other = write_run(asked.store, "serial"), write_run(asked.store, "loop")
    assert "nothing to compare: name two runs or more" in asked.refused(run.run)
    assert f"the run {run.run} is named twice" in asked.refused(run.run, run.run)
    assert "no run 'nope'" in asked.refused(run.run, "nope")
    assert "give more of the name" in asked.refused(sweep.name[:2], run.run)
    (path,) = other.log.rglob("*.ndjson")
    path.write_bytes(path.read_bytes().replace(b"request-1", b"request-2", 1) + b"noise\n")
    status, out, err = asked(run.run, other.run)
    assert (status, out) == (3, "")
    assert err.startswith(f"eventflow: {other.run} cannot be compared: ")


def test_people_get_a_table(asked: Asked) -> None:
    """Tab-separated in a pipe, a measure and a group a line; what has to be known is on standard error."""
    runs = [write_run(asked.store, stage) for stage in ("serial", "threads")]
    status, out, err = asked(*(run.run for run in runs))
    header, first, second, *_ = (text.split("\t") for text in out.splitlines())
    assert status == 0
    assert header == ["measure", "of", "runs", "value", f"× serial {runs[0].run[-4:]} (95 %)", "in words"]
    assert (first[0], first[5]) == ("time", "the baseline")
    assert second[5].startswith("faster by ")
    assert "requests failed (" in err


def picked(run: str, stage: str = "loop", **facts: Any) -> Picked:
    """A run with the columns of the view, as they are of a run without samples."""
    columns = {
        "run": run, "stage": stage, "state": "completed", "seconds": 2.0, "requests": 100, "completed": 100,
        "failed": 0, "requests_per_second": 50.0, "peak_memory_bytes": None, "cpu_seconds": None, "labels": {},
    }  # fmt: skip
    durations = [0.01 * number for number in range(1, 101)]
    return Picked(
        facts=columns | facts, durations=durations, quantiles=quantiles_of(durations), slices=Slices([5] * 20, 1.9)
    )


def test_a_run_without_samples_has_no_memory() -> None:
    """What is not known is no number: no ratio, no words, and a note names the run."""
    groups = [Group("a", [picked("run-a")]), Group("b", [picked("run-b", peak_memory_bytes=5, cpu_seconds=1.0)])]
    found = {(one.measure, one.group): one for one in lines_of(groups)}
    memory = found["peak_memory_bytes", "b"]
    assert (memory.value, memory.ratio, memory.words) == (5, None, "")
    assert found["cpu_seconds_per_1000", "b"].value == 10
    assert found["energy_joules_per_1000", "b"].value is None
    assert found["seconds", "b"].verdict == "same"
    assert "without samples, so without memory, CPU and energy: run-a" in notes_of(groups)


def test_a_run_that_completed_nothing_has_no_rates() -> None:
    """No request completed: its time is known, and nothing is divided by 0."""
    nothing = msgspec.structs.replace(
        picked("run-b", completed=0, failed=100, requests_per_second=0.0, cpu_seconds=1.0),
        durations=(), quantiles=(None, None), slices=None,
    )  # fmt: skip
    found = {(one.measure, one.group): one for one in lines_of([Group("a", [picked("a")]), Group("b", [nothing])])}
    assert found["seconds", "b"].ratio == 1
    assert {found[key, "b"].value for key in ("requests_per_second", "median_request_seconds")} == {None}
    assert found["cpu_seconds_per_1000", "b"].value is None


def test_an_answer_depends_on_its_own_runs_only() -> None:
    """Neither their order nor the other groups change an interval."""
    one = [picked(f"a{number}", seconds=1.0 + number / 10) for number in range(5)]
    two = [picked(f"b{number}", "serial", seconds=2.0 + number / 10) for number in range(5)]
    three = [picked(f"c{number}", "threads", seconds=3.0 + number / 10) for number in range(5)]
    alone = {(line.measure, line.group): line for line in lines_of(grouped([*one, *two], None))}
    both = {(line.measure, line.group): line for line in lines_of(grouped([*one[::-1], *three, *two[::-1]], None))}
    assert alone.items() <= both.items()
    assert alone["seconds", "serial"].verdict == "more"


def test_runs_whose_names_end_alike_stay_apart() -> None:
    """A group is never two runs because their names were cut."""
    groups = grouped([picked("20261128-1-abcd"), picked("20261128-2-abcd")], "run")
    assert [group.name for group in groups] == ["loop abcd", "20261128-2-abcd"]
    assert with_baseline(groups, "20261128-2-abcd")[0] is groups[1]
    with pytest.raises(UsageError, match="nothing to compare"):
        with_baseline([], None)
