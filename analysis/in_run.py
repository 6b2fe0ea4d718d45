"""The shape of charts that look into one run at a time: of several, a person chooses which is shown.

A Gantt chart of seven runs beside one another would show none of them. The page's buttons choose the run as well.
"""

from collections.abc import Sequence

from analysis.appearance import PARTS, alt
from analysis.labels import Label

PARAMETER = "run"
ROWS_MAX = 1_500
ENTRY_PIXELS = 75  # of a legend
TITLE_PIXELS = 12


def run_choice(labels: Sequence[Label]) -> list[alt.Parameter]:
    """The parameter that says which run is shown. One run needs no choice."""
    names = [label.text for label in labels]
    bind = alt.binding_select(options=names, name="run ") if len(names) > 1 else alt.Undefined
    return [alt.param(name=PARAMETER, value=names[0], bind=bind)]


def is_chosen() -> str:
    """The expression that a row is of the run that is shown."""
    return f"datum.label == {PARAMETER}"


def run_title() -> alt.TitleParams:
    """The run that is shown, as the chart's title: on paper and in pictures there is no choice to read it from."""
    return alt.TitleParams(text=alt.expr(PARAMETER), fontSize=TITLE_PIXELS)


def share_of_rows(labels: Sequence[Label], rows_max: int = ROWS_MAX) -> int:
    """How many rows each run may have, so that all runs together stay few enough."""
    return max(20, rows_max // max(1, len(labels)))


def part_colour(field: str, parts: Sequence[str], title: str | None = None) -> alt.Color:
    """The colours of the parts that a run is made of. There is always a legend."""
    scale = alt.Scale(domain=list(parts), range=[PARTS[part] for part in parts])
    columns = alt.expr(f"max(1, floor(width / {ENTRY_PIXELS}))")
    legend = alt.Legend(orient="top", title=title, symbolType="square", symbolStrokeWidth=0, columns=columns)
    return alt.Color(field, scale=scale, title=title, legend=legend)
