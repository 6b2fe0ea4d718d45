"""The table of a report: the runs' numbers side by side, and the buttons that name the runs of all charts."""

from collections.abc import Callable, Sequence

import msgspec

from analysis.amounts import MIB, number_text
from analysis.appearance import colours
from analysis.labels import Label, Row
from analysis.markup import Html, element, join
from analysis.summary import same_work


class Figure(msgspec.Struct, frozen=True):
    """A column: its head, its unit, how a row's figure is written, and what is least in the best row, if any is."""

    head: str
    unit: str
    text: Callable[[Row], str]
    best_by: Callable[[Row], float | None] | None = None


def comparison(labels: Sequence[Label], rows: Sequence[Row]) -> Html:
    """The table. The best figure of a column is bold where there are several runs of the same work."""
    by_text = {label.text: label for label in labels}
    figures = _figures(rows)
    best = [_best(figure, rows) for figure in figures]
    head = element("tr", element("th", "run", scope="col"), *(_head(figure) for figure in figures))
    body = [
        element(
            "tr",
            element("th", key(by_text[row["label"]]), row["label"], scope="row"),
            *(
                element("td", figure.text(row), class_="number best" if row["label"] in winners else "number")
                for figure, winners in zip(figures, best, strict=True)
            ),
        )
        for row in rows
    ]
    table = element("table", element("thead", head), element("tbody", *body))
    return element("section", element("div", table, class_="wide"), class_="card")


def run_buttons(labels: Sequence[Label]) -> Html:
    """The legend of all charts: a button for each run, which makes it stand out. One run needs none."""
    if len(labels) == 1:
        return Html()
    buttons = (
        element(
            "li", element("button", key(label), label.text, type="button", data_run=label.text, aria_pressed="false")
        )
        for label in labels
    )
    return element("ul", *buttons, class_="runs", aria_label="Runs: press one to make it stand out in the charts")


def key(label: Label) -> Html:
    """A short line in the run's colour and dashes."""
    (colour,) = colours([label.stage])
    dashes = {} if label.dash[1] == 0 else {"stroke_dasharray": " ".join(map(str, label.dash))}
    line = element("line", x1="0", y1="4", x2="22", y2="4", stroke="currentColor", stroke_width="4", **dashes)
    return element(
        "svg", line, class_="key", viewBox="0 0 22 8", aria_hidden="true", style=f"color: {colour}", data_colour=colour
    )


def _figures(rows: Sequence[Row]) -> list[Figure]:
    slowest = max(row["seconds"] for row in rows)
    figures = [
        Figure("workers", "", lambda row: f"{row['workers']:,}"),
        Figure("time", "s", lambda row: number_text(row["seconds"]), lambda row: row["seconds"]),
    ]
    if len(rows) > 1 and same_work(rows):
        figures.append(
            Figure("speed", "× slowest", lambda row: number_text(slowest / row["seconds"]) if row["seconds"] else "–")
        )
    figures += [
        Figure("rate", "per s", lambda row: _number(row["rate"]), lambda row: -row["rate"] if row["rate"] else None),
        Figure("peak memory", "MiB", lambda row: _number(row["memory"], MIB), lambda row: row["memory"]),
        Figure("CPU", "s", lambda row: _number(row["cpu_seconds"]), lambda row: row["cpu_seconds"]),
        Figure("energy", "J", lambda row: _number(row["energy_joules"]), lambda row: row["energy_joules"]),
        Figure("requests", "", lambda row: f"{row['requests']:,}"),
        Figure("completed", "", lambda row: f"{row['completed']:,}"),
        Figure("failed", "", lambda row: f"{row['failed']:,}"),
    ]
    if any(row["cancelled"] for row in rows):
        figures.append(Figure("cancelled", "", lambda row: f"{row['cancelled']:,}"))
    figures.append(Figure("data", "MiB", lambda row: _number(row["bytes"], MIB)))
    figures.append(Figure("events", "", lambda row: f"{row['events']:,}"))
    if any(row["state"] != "completed" for row in rows):
        figures.append(Figure("state", "", lambda row: row["state"]))
    return figures


def _best(figure: Figure, rows: Sequence[Row]) -> set[str]:
    """The labels of the rows with the best figure: none where the runs cannot be compared."""
    if figure.best_by is None or len(rows) < 2 or not same_work(rows):
        return set()
    values = {row["label"]: figure.best_by(row) for row in rows}
    known = [value for value in values.values() if value is not None]
    return {label for label, value in values.items() if known and value == min(known)}


def _head(figure: Figure) -> Html:
    unit = [element("small", figure.unit)] if figure.unit else []
    return element("th", join(figure.head, *unit), scope="col", class_="number")


def _number(value: float | None, unit: int = 1) -> str:
    return "–" if value is None else number_text(value / unit)
