"""How each stage scales: its start-up, what one more request costs, and the exponent in between."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.amounts import number_text
from analysis.appearance import alt
from analysis.fitting import K_MAX, K_MIN, Fit, Interval, fit
from analysis.labels import Row
from analysis.picture import Picture, listing, table
from analysis.program import main
from analysis.shapes import across, drawing, faded, focus, stage_colour
from analysis.sizes import sized

if TYPE_CHECKING:
    import duckdb

TITLE = "How time grows"
CAPTION = (
    "time = a + b·nᵏ, fitted to all runs of a stage. The dot is k: at 1 twice the requests take twice the time, above "
    "it more; where time does not grow there is none. The line is its 95 % interval (bootstrap over the runs of each "
    "number of requests), if each number was run twice or more. a is the start-up."
)
ROW_PIXELS = 46
EDGE = 1e-3
NOT_GROWING = "does not grow"
NOTHING = "It takes completed runs of four sizes or more, the largest eight times the smallest, to fit how time grows."


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """An interval for each stage that can be fitted, or None if none can be."""
    labels, found = sized(connection)
    fits = {
        label: made
        for label in labels
        if (made := fit([(row["size"], row["seconds"]) for row in found if row["label"] == label.text]))
    }
    if not fits:
        return None
    rows: list[Row] = [{"label": label.text} | _row(made) for label, made in fits.items()]
    names = [label.text for label in fits]
    words = drawing(rows).encode(
        y=alt.Y("label:N", sort=names, title=None, axis=alt.Axis(labelFontSize=13, grid=False)), opacity=faded()
    )
    bars = words.encode(
        color=stage_colour(list(fits), legend=False),
        tooltip=[alt.Tooltip("label:N", title="stage"), *(alt.Tooltip(f"{key}:N", title=key) for key in _TEXTS)],
    )
    ends = alt.Scale(domain=_domain(rows), nice=False)
    title = "exponent k of the number of requests"
    x = alt.X("k:Q", title=title, scale=ends, axis=across(".2~f"))
    one = drawing([{"k": 1}]).mark_rule(strokeDash=[4, 3]).encode(x=x)
    chart = alt.layer(
        one,
        bars.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=3)
        .encode(x=alt.X("low:Q", title=title, scale=ends), x2="high:Q"),
        bars.transform_filter("isValid(datum.k)").mark_point(filled=True, size=110).encode(x=x),
        words.mark_text(align="left", baseline="bottom", dy=-7, fontSize=12).encode(x=alt.value(6), text="said:N"),
    ).add_params(focus())
    said = listing([f"{label.text} {_exponent(made)}" for label, made in fits.items()])
    columns = {"stage": "label"} | {key: key for key in _TEXTS}
    return Picture(
        chart=chart.properties(height=ROW_PIXELS * len(rows)),
        seen=f"The exponent of each stage: {said}.",
        table=table(rows, columns),
        wide=True,
    )


_TEXTS = ("exponent k", "start-up a (s)", "one more request (ms)", "at requests", "runs", "sizes")


def _row(made: Fit) -> Row:
    slope, start = made.slope_seconds, number_text(made.start_seconds.value)
    one_more = f"{number_text(slope.value * 1000)} ms a request" if made.grows else NOT_GROWING
    return {
        "k": made.k.value if made.grows else None,
        "low": made.k.low if made.grows else None,
        "high": made.k.high if made.grows else None,
        "said": f"start-up {start} s, {one_more}",
        "exponent k": _exponent(made) + (_ends(made.k) if made.grows else ""),
        "start-up a (s)": start + _ends(made.start_seconds),
        "one more request (ms)": number_text(slope.value * 1000) + _ends(slope, 1000),
        "at requests": f"{made.largest:,.0f}",
        "runs": made.runs,
        "sizes": made.sizes,
    }


def _exponent(made: Fit) -> str:
    """k in words: at an end of what is searched it may be beyond it."""
    if not made.grows:
        return NOT_GROWING
    beyond = " or less" if made.k.value < K_MIN + EDGE else " or more" if made.k.value > K_MAX - EDGE else ""
    return number_text(made.k.value) + beyond


def _ends(interval: Interval, unit: float = 1) -> str:
    """From where to where, in brackets; a dash where that is not known."""
    if interval.low is None or interval.high is None:
        return " (–)"
    return f" ({number_text(interval.low * unit)}–{number_text(interval.high * unit)})"


def _domain(rows: Sequence[Row]) -> list[float]:
    """From below the lowest end to above the highest one, with 1 in between."""
    known = [1.0, *(row[end] for row in rows for end in ("low", "k", "high") if row[end] is not None)]
    low, high = min(known), max(known)
    room = max(0.05, (high - low) * 0.1)
    return [low - room, high + room]


if __name__ == "__main__":
    main(sys.modules[__name__])
