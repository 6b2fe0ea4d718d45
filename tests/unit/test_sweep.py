import os
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from eventflow.errors import NewerFormat, StoreError, UnknownRun, UsageError
from eventflow.log.runs import create_run, list_runs
from eventflow.sources import SeededSources
from eventflow.sweep import (
    Cell,
    Sweep,
    cells,
    cells_left,
    create_sweep,
    find_sweep,
    labels_of,
    parse_sizes,
    sweep_names,
    sweep_path,
    sweep_runs,
    warm_up_size,
)

PLAN = Sweep(stages=("serial", "threads", "loop"), sizes=(1, 10, 100), repeat=4, seed=5)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("7", (7,)),
        (" 1 , 2 ", (1, 2)),
        ("1,3,10,…,10000", (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)),
        ("1,3,10,30,...,300", (1, 3, 10, 30, 100, 300)),
        ("1,10,...,1000", (1, 10, 100, 1000)),
        ("100,200,…,1000", tuple(range(100, 1001, 100))),
        ("2,4,8,…,64", (2, 4, 8, 16, 32, 64)),
        ("10,20,30,..,50", (10, 20, 30, 40, 50)),
        ("1,2,5,…,1000", (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
        ("1,3,…,100", (1, 3, 10, 30, 100)),
        ("1,10,…,1000,5000", (1, 10, 100, 1000, 5000)),
        ("4,6,9", (4, 6, 9)),
        ("8,12,…,18", (8, 12, 18)),
    ],
)
def test_numbers_of_requests_go_on_as_they_begin(text: str, sizes: tuple[int, ...]) -> None:
    """Factors, differences, factors in turn and decades are understood."""
    assert parse_sizes(text) == sizes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a list of numbers"),
        ("1,,3", "is not a list of numbers"),
        ("1,x", "is not a list of numbers"),
        ("-1", "is not a list of numbers"),
        ("1.5", "is not a list of numbers"),
        ("0,1", "0 is no number of requests"),
        ("1,2000000", "give 1 to 1000000"),
        ("10,1", "do not grow"),
        ("1,1", "do not grow"),
        ("1,10,…,10", "do not grow"),
        ("…,100", "does not say how it goes on"),
        ("1,…,100", "does not say how it goes on"),
        ("1,10,…", "does not say how it goes on"),
        ("1,…,10,…,100", "more than one ellipsis"),
        ("1,10,…,5000", "end it with 1000 or 10000"),
        ("1,2,…,1000", "are 1000 numbers: give at most 50"),
        ("3,7,8,…,100", "does not come to 100"),
    ],
)
def test_what_is_no_such_list_is_explained(text: str, said: str) -> None:
    """The error says what is wrong with it, or how it could end."""
    with pytest.raises(UsageError, match=said):
        parse_sizes(text)


def test_each_cell_is_there_once_and_stages_take_turns() -> None:
    """Every stage with every size in every repeat, whole repeats after one another, sizes growing, stages shuffled."""
    made = cells(PLAN)
    assert Counter(made) == Counter(
        Cell(stage, size, repeat) for stage in PLAN.stages for size in PLAN.sizes for repeat in range(1, 5)
    )
    assert [(cell.repeat, cell.requests) for cell in made] == sorted((cell.repeat, cell.requests) for cell in made)
    assert len({tuple(cell.stage for cell in made[place : place + 3]) for place in range(0, len(made), 3)}) > 1


def test_the_order_follows_from_the_plan() -> None:
    """A sitting that goes on finds the same order; another seed gives another."""
    assert cells(PLAN) == cells(PLAN)
    assert cells(PLAN) != cells(msgspec.structs.replace(PLAN, seed=6))
    done = cells(PLAN)[5:9]
    assert cells_left(PLAN, done) == [cell for cell in cells(PLAN) if cell not in done]
    assert cells_left(PLAN, cells(PLAN)) == []


def test_a_warm_up_is_small() -> None:
    """And never larger than the largest size."""
    assert warm_up_size(PLAN) == 20
    assert warm_up_size(msgspec.structs.replace(PLAN, sizes=(1, 3))) == 3


def test_a_plan_is_found_by_its_name(tmp_path: Path) -> None:
    """Wholly, by its beginning or end, or as the newest; it is no run, and it is for its owner only."""
    store = tmp_path / "a" / "store"
    assert (sweep_names(store), find_sweep(store, "latest-sweep")) == ([], None)
    first = create_sweep(store, PLAN, sources=SeededSources(1))
    second = create_sweep(store, PLAN, sources=SeededSources(2, 1_800_000_000_000_000_000))
    assert msgspec.structs.replace(first, name="", created="") == PLAN
    assert sweep_names(store) == [first.name, second.name]
    for name in (first.name, first.name[:8], first.name[-4:]):
        assert find_sweep(store, name) == first
    assert find_sweep(store, "latest-sweep") == second
    assert find_sweep(store, "nothing") is None
    assert find_sweep(store, "") is None
    assert list_runs(store) == []
    assert sweep_path(store, first.name).stat().st_mode & 0o77 == 0
    with pytest.raises(UnknownRun):
        find_sweep(store, "20")


def test_a_plan_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Damaged, or written by a newer eventflow; a store that cannot be made says what to do."""
    made = create_sweep(tmp_path, PLAN)
    path = sweep_path(tmp_path, made.name)
    newer = path.read_bytes().replace(b'"format": 1', b'"format": 2')
    path.write_bytes(newer)
    with pytest.raises(NewerFormat):
        find_sweep(tmp_path, made.name)
    path.write_bytes(b"{")
    with pytest.raises(StoreError, match=f"{made.name}.sweep.json cannot be read"):
        find_sweep(tmp_path, made.name)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        create_sweep(tmp_path / "file" / "store", PLAN)


def test_two_plans_of_one_second_have_two_names(tmp_path: Path) -> None:
    """Nothing is ever written over."""
    names = {create_sweep(tmp_path, PLAN, sources=SeededSources(seed)).name for seed in (1, 2, 3)}
    assert len(names) == 3 == len(sweep_names(tmp_path))


def test_numbers_of_requests_and_sizes_of_files_have_names_of_their_own(tmp_path: Path) -> None:
    """In the labels, which people ask for in SQL, and in the file of the plan."""
    sweep = create_sweep(tmp_path, msgspec.structs.replace(PLAN, file_size_bytes=100))
    labels = {"sweep": sweep.name, "requests": "10", "repeat": "2"}
    assert labels_of(sweep, Cell("loop", 10, 2)) == labels
    assert labels_of(sweep, Cell("loop", 10, 2), is_warm_up=True) == labels | {"warm-up": "yes"}
    written = msgspec.json.decode(sweep_path(tmp_path, sweep.name).read_bytes())
    assert (written["file_size_bytes"], "size" in written) == (100, False)


def test_the_runs_of_a_sweep_are_those_with_its_labels(tmp_path: Path) -> None:
    """No warm-up, no run of another sweep, none that a person labelled oddly, none whose run.json cannot be read.

    Nor one that its labels put into no cell of the plan: another stage, number of requests, or repeat.
    """
    sweep = create_sweep(tmp_path, PLAN)
    other = create_sweep(tmp_path, PLAN)
    cell = Cell("loop", 10, 2)
    wanted = create_run(tmp_path, stage="loop", labels=labels_of(sweep, cell))
    create_run(tmp_path, stage="loop", labels=labels_of(sweep, Cell("loop", 20, 0), is_warm_up=True))
    create_run(tmp_path, stage="loop", labels=labels_of(other, cell))
    create_run(tmp_path, stage="loop", labels={"sweep": sweep.name, "requests": "many", "repeat": "1"})
    create_run(tmp_path, stage="loop", labels={"sweep": sweep.name})
    create_run(tmp_path, stage="loop")
    for outside in (Cell("director", 10, 2), Cell("loop", 7, 2), Cell("loop", 10, 0), Cell("loop", 10, 5)):
        create_run(tmp_path, stage=outside.stage, labels=labels_of(sweep, outside))
    damaged = create_run(tmp_path, stage="loop", labels=labels_of(sweep, cell))
    (damaged.path / "run.json").write_bytes(os.urandom(10))
    (found,) = sweep_runs(tmp_path, sweep)
    assert (found.run, found.cell) == (wanted.run, cell)
