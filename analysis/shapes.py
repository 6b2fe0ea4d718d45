"""The two shapes that the charts are made of: a bar for each run, a line for each run.

Both are drawn from rows with `label` and `stage`, in the stages' colours. Lines have a parameter `focus`: the label of
the run that stands out while the others fade, or nothing. The page sets it; by itself a chart has a legend instead.
"""

from collections.abc import Sequence

from analysis.appearance import Chart, alt, colours
from analysis.labels import Label, Row
from analysis.picture import DataName

BAR_PIXELS = 34
CHARACTER_PIXELS = 8
LINE_PIXELS = 260


def bar_per_run(
    labels: Sequence[Label], rows: Sequence[Row], *, field: str, title: str, form: str, tooltip: Sequence[alt.Tooltip]
) -> Chart:
    """Horizontal bars, one for each row, as long as its `field` and with its `text` at the end.

    A row whose `state` is not `completed` is pale.
    """
    names = [label.text for label in labels]
    scale = alt.Scale(domainMin=0, domainMax=alt.expr(_room(rows, field)), nice=False)
    bars = drawing(rows).encode(
        x=alt.X(f"{field}:Q", title=title, scale=scale, axis=across(form)),
        y=alt.Y("label:N", sort=names, title=None, axis=alt.Axis(labelFontSize=13, grid=False)),
        tooltip=list(tooltip),
        opacity=alt.when(alt.datum.state == "completed").then(alt.value(1)).otherwise(alt.value(0.5)),
    )
    return alt.layer(
        bars.mark_bar(cornerRadiusEnd=3, height={"band": 0.72}).encode(color=stage_colour(labels, legend=False)),
        bars.mark_text(align="left", dx=6, fontSize=13).encode(text="text:N", opacity=alt.value(1)),
    ).properties(height=bars_height(len(rows)))


def _room(rows: Sequence[Row], field: str) -> str:
    """The end of the axis at which every bar leaves room for its text, as an expression of the width in pixels."""
    longest: dict[int, float] = {}
    for row in rows:
        pixels = 12 + CHARACTER_PIXELS * len(row["text"])
        longest[pixels] = max(longest.get(pixels, 0), row[field])
    ends = (f"{value!r} / (1 - min(0.8, {pixels} / width))" for pixels, value in longest.items())
    return f"max(1e-9, {', '.join(ends)})"


def line_per_run(
    labels: Sequence[Label],
    rows: Sequence[Row],
    *,
    x: alt.X,
    y: alt.Y,
    tooltip: Sequence[alt.Tooltip],
    interpolate: str = "linear",
) -> Chart:
    """Lines, one for each run, dashed where there are several of its stage. Invisible wide points have the tooltips."""
    lines = drawing(rows).encode(x=x, y=y)
    return (
        alt.layer(
            lines.mark_line(strokeWidth=2.2, interpolate=interpolate, strokeJoin="round").encode(  # type: ignore[arg-type]
                color=stage_colour(labels, legend=True),
                strokeDash=run_dash(labels),
                opacity=faded(),
            ),
            lines.mark_point(size=160, filled=True, opacity=0).encode(tooltip=list(tooltip)),
        )
        .add_params(focus())
        .properties(height=LINE_PIXELS)
    )


def focus() -> alt.Parameter:
    """The parameter that says which run stands out. A chart has it once."""
    return alt.param(name="focus", value="")


def faded(strong: float = 1, weak: float = 0.15) -> alt.OpacityValue:
    """How strong the marks of a run are: less so while another one stands out."""
    condition = {"test": "focus == '' || focus == datum.label", "value": strong}
    return alt.OpacityValue(condition=condition, value=weak)


def drawing(rows: Sequence[Row]) -> alt.Chart:
    """A chart of these rows, with nothing in it yet."""
    return alt.Chart(alt.NamedData(name=DataName.of(rows)))


def bars_height(count: int) -> int:
    """The height, in pixels, of a chart with so many bars: a number, since Vega-Lite warns of steps in a wide chart."""
    return BAR_PIXELS * count


def stage_colour(labels: Sequence[Label], *, legend: bool) -> alt.Color:
    """The colour of each label: its stage's. With `legend` the theme decides whether there is one."""
    scale = alt.Scale(domain=[label.text for label in labels], range=colours([label.stage for label in labels]))
    return alt.Color("label:N", scale=scale, title=None, legend=alt.Undefined if legend else None)


def run_dash(labels: Sequence[Label]) -> alt.StrokeDash:
    """The dashes of each label. Their legend is one with that of the colours, since both show the same field."""
    scale = alt.Scale(domain=[label.text for label in labels], range=[list(label.dash) for label in labels])
    return alt.StrokeDash("label:N", scale=scale, title=None)


def across(form: str = "~r", step_min: float = 0) -> alt.Axis:
    """A horizontal axis of amounts, with as many labels as there is room for, `step_min` apart or more."""
    count = alt.expr("ceil(width / 70)")
    return alt.Axis(format=form, tickCount=count, tickMinStep=step_min, labelFlush=False, labelOverlap="greedy")


def upward(form: str = ",d", step_min: float = 0) -> alt.Axis:
    """A vertical axis of amounts. Of whole things, which are 1 apart or more, only whole numbers have a label."""
    whole = f"datum.value % 1 ? '' : format(datum.value, '{form}')" if step_min >= 1 else alt.Undefined
    return alt.Axis(format=form, tickCount=5, tickMinStep=step_min, labelExpr=whole)


def run_tooltip() -> alt.Tooltip:
    """The first line of every tooltip: which run."""
    return alt.Tooltip("label:N", title="run")
