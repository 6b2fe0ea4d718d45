"""`eventflow sweep`: every stage, over growing numbers of requests, several times each, and how far that is.

What is to be done is decided in `eventflow.sweep`, done in `sweep_sitting` and `sweep_cells`, and printed in
`sweep_result`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from eventflow.cli.options import JsonOption, StoreOption
from eventflow.cli.output import print_json
from eventflow.errors import UsageError, name_of
from eventflow.log.runs import store_path
from eventflow.quantities import parse_duration, parse_size
from eventflow.sweep import REPEAT_MAX, Sweep, create_sweep, find_sweep, parse_sizes, sweep_runs

_DEFAULTS = {
    "stages": "all", "requests": "1,10,100", "repeat": "3", "latency": "20ms", "size": "16KiB", "seed": "1",
}  # fmt: skip


def _option(name: str, metavar: str, text: str) -> Any:
    default = f" Default: {_DEFAULTS[name]}." if name in _DEFAULTS else ""
    return typer.Option(f"--{name}", metavar=metavar, help=f"{text}{default}")


def sweep(
    name: Annotated[
        str | None,
        typer.Argument(metavar="SWEEP", help="With --resume: which one, by its name. Default: the newest."),
    ] = None,
    stages: Annotated[str | None, _option("stages", "all|LIST", "Which stages.")] = None,
    requests: Annotated[
        str | None, _option("requests", "LIST", "Numbers of requests; 1,3,10,…,10000 goes on as it begins.")
    ] = None,
    repeat: Annotated[int | None, _option("repeat", "N", "How often each is run.")] = None,
    latency: Annotated[str | None, _option("latency", "TIME", "The embedded origin's median latency.")] = None,
    size: Annotated[str | None, _option("size", "SIZE", "The median size of its files.")] = None,
    seed: Annotated[int | None, _option("seed", "N", "The order of the stages and what the origin serves.")] = None,
    source: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="Your own list, instead of the embedded origin's files."),
    ] = None,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="Stop after this time; resumable.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a sweep that was stopped or killed.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Run the same work in every stage with growing numbers of requests, several times, and compare.

    Each run is an ordinary one in the store, in a process of its own; the stages take turns, after a warm-up of each.
    Ctrl-C stops it in order, and --resume goes on, also after a crash.

    Example: eventflow sweep --stages all --requests 1,3,10,…,100 --repeat 3

    Example: eventflow sweep --resume
    """
    from eventflow.cli.run_facts import run_facts
    from eventflow.cli.sweep_result import print_result, result_of
    from eventflow.cli.sweep_sitting import carry_out

    folder = store_path(store)
    seconds = parse_duration(budget) if budget is not None else None
    given = {"stages": stages, "requests": requests, "repeat": repeat, "latency": latency, "size": size, "seed": seed}
    if resume:
        plan = _resumed(folder, name, [*(key for key in given if given[key] is not None), *["input"] * bool(source)])
    elif name is not None:
        raise UsageError(f"{name_of(name)} is not expected here", "a sweep is named with --resume only")
    else:
        plan = create_sweep(folder, _planned(given, source))
    status = carry_out(folder, plan, budget=seconds)
    runs = sweep_runs(folder, plan)
    facts, _ = run_facts(folder, [run.run for run in runs])
    result = result_of(plan, runs, facts)
    if json:
        print_json(result)
    elif any(row.runs for row in result.rows):
        print_result(result, store)
    if status == 0 and any(row.failed for row in result.rows):
        status = 1
    raise typer.Exit(status)


def _planned(given: Mapping[str, object], source: Path | None) -> Sweep:
    """The plan that the options ask for."""
    from stages.registry import STAGES, find_stage

    if source is not None and (given["latency"] is not None or given["size"] is not None):
        raise UsageError("--latency and --size are the embedded origin's", "leave them out, or leave out --input")
    chosen = {name: str(default if given[name] is None else given[name]) for name, default in _DEFAULTS.items()}
    names = [name.strip() for name in chosen["stages"].split(",")]
    names = list(STAGES) if names == ["all"] else [find_stage(name).name for name in names]
    if len(set(names)) < len(names):
        raise UsageError(f"a stage is named twice in {name_of(chosen['stages'])}", "name each once")
    repeat = int(chosen["repeat"])
    if not 1 <= repeat <= REPEAT_MAX:
        raise UsageError(f"--repeat {repeat}", f"give 1 to {REPEAT_MAX}")
    plan = Sweep(
        stages=tuple(names),
        sizes=parse_sizes(chosen["requests"]),
        repeat=repeat,
        seed=int(chosen["seed"]),
        latency_s=parse_duration(chosen["latency"]),
        file_size_bytes=parse_size(chosen["size"]),
    )
    if source is not None:
        return _with_source(plan, source)
    from eventflow.cli.sweep_cells import origin_settings

    origin_settings(plan).check()
    return plan


def _with_source(plan: Sweep, source: Path) -> Sweep:
    """The plan over a list of the user's.

    Raises:
        UsageError: it is no file, or has too few URLs.
    """
    from eventflow.request import count_requests, open_input
    from eventflow.source import fingerprint

    if str(source) == "-":
        raise UsageError("a sweep reads its list more than once", "give it as a file with --input FILE")
    open_input(str(source)).close()  # its errors say what is wrong
    count = count_requests(str(source))
    if count is None:
        raise UsageError(f"{name_of(str(source))} is not a file", "a sweep reads its list more than once: give a file")
    if count < plan.sizes[-1]:
        raise UsageError(
            f"{name_of(str(source))} has {count} URLs, too few for {plan.sizes[-1]} requests",
            "give a longer list, or smaller numbers with --requests",
        )
    bytes_, modified = fingerprint(source)
    return Sweep(
        stages=plan.stages,
        sizes=plan.sizes,
        repeat=plan.repeat,
        seed=plan.seed,
        source=str(source.absolute()),
        source_size=bytes_,
        source_mtime_ns=modified,
    )


def _resumed(store: Path, name: str | None, given: list[str]) -> Sweep:
    """The plan of a sweep to go on with."""
    if given:
        raise UsageError(f"--{given[0]} does not go with --resume", "leave it out: the plan of a sweep stays as it is")
    plan = find_sweep(store, name or "latest-sweep")
    if plan is None:
        what = f"no sweep {name_of(name)}" if name else "no sweep"
        raise UsageError(f"there is {what} in {name_of(str(store))}", "begin one with `eventflow sweep`")
    if plan.source is not None:
        from eventflow.request import open_input
        from eventflow.source import fingerprint

        open_input(plan.source).close()
        if fingerprint(Path(plan.source)) != (plan.source_size, plan.source_mtime_ns):
            raise UsageError(
                f"the list {name_of(plan.source)} has changed since the sweep began",
                "put the old one back, or begin a new sweep",
            )
    return plan
