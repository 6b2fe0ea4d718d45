"""What the runs were asked to do, and where: the facts of `run.json`; those that all runs share stand once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analysis.amounts import memory_text, seconds_text
from analysis.markup import Html, element, join
from eventflow.log.runs import RunInfo

NOTHING = "–"
_UNITS: dict[str, Callable[[float], str]] = {
    "_bytes": memory_text,
    "_seconds": seconds_text,
    "_s": seconds_text,
    "_ns": lambda _: "",
}


def settings_and_machine(infos: Sequence[tuple[str, RunInfo]]) -> Html:
    """A section on the runs' commands, settings and machines. `infos` are labels and descriptions, in their order."""
    settings = [
        (label, flat({key: value for key, value in info.settings.items() if key != "stage"})) for label, info in infos
    ]
    machines = [(label, flat(info.machine)) for label, info in infos]
    commands = [(f"{label} ({info.run})", element("code", " ".join(info.command) or NOTHING)) for label, info in infos]
    return element(
        "section",
        element("h2", "Settings and machine"),
        *_part("Commands", _definitions(commands)),
        *_part("Settings", facts(settings)),
        *_part("Machine", facts(machines)),
        class_="card",
    )


def facts(runs: Sequence[tuple[str, Mapping[str, str]]]) -> Html:
    """The facts that are the same for all runs as a list, the others as a table with a row for each run."""
    names = list(dict.fromkeys(name for _, values in runs for name in values))
    differing = [name for name in names if len({values.get(name) for _, values in runs}) > 1]
    same = [(name, join(runs[0][1][name])) for name in names if name not in differing]
    return join(*([_definitions(same)] if same else []), *([_table(runs, differing)] if differing else []))


def flat(given: Mapping[str, Any]) -> dict[str, str]:
    """Facts by name, as text: sizes and durations with their units, facts inside facts in one line, no nanoseconds.

    >>> flat({"cpus": 2, "memory_bytes": 2**30, "packages": {"trio": "0.35"}, "limit_bytes": None})
    {'cpus': '2', 'memory': '1,024 MiB', 'packages': 'trio 0.35', 'limit': '–'}
    """
    found = {}
    for key, value in given.items():
        ending = next((ending for ending in _UNITS if key.endswith(ending)), "")
        form = _UNITS[ending] if ending and isinstance(value, int | float) else _text
        found[key.removesuffix(ending).replace("_", " ")] = form(value)
    return {name: text for name, text in found.items() if text}


def _text(value: object) -> str:
    match value:
        case None | "" | []:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(map(str, value))
        case dict():
            return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)


def _part(title: str, content: Html) -> list[Html]:
    return [element("h3", title), content] if content else []


def _definitions(pairs: Sequence[tuple[str, Html]]) -> Html:
    return element("dl", *(join(element("dt", name), element("dd", value)) for name, value in pairs))


def _table(runs: Sequence[tuple[str, Mapping[str, str]]], names: Sequence[str]) -> Html:
    head = element("tr", element("th", "run"), *(element("th", name) for name in names))
    body = [
        element("tr", element("th", label, scope="row"), *(element("td", values.get(name, NOTHING)) for name in names))
        for label, values in runs
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="wide facts")
