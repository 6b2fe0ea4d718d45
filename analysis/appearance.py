"""How charts look: the order of the stages, a colour for each, and the two themes that the page switches between.

Invariants:
    a stage has the same colour in every chart, whichever other stages are shown;
    the colours stand out from their background by a contrast of 3 or more (WCAG 2.2 §1.4.11), and from one another
    also with protanopia, deuteranopia or tritanopia; dashes tell several runs of one stage apart.
"""

from collections.abc import Sequence
from typing import Any

from eventflow.errors import MissingExtra

try:
    import altair as alt
except ImportError as missing:
    raise MissingExtra("the report needs altair", "pip install 'eventflow[analysis]'") from missing

__all__ = [
    "DARK", "DASHES", "LADDER", "LIGHT", "OTHER", "PARTS", "Chart", "alt", "colours", "in_dark", "place", "theme"
]  # fmt: skip

Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.VConcatChart

LADDER = ("serial", "threads", "processes", "subprocess", "loop", "director", "lineage", "dataflow", "kubernetes")
OTHER = "other"

LIGHT = {
    "serial": "#2F3542",
    "threads": "#1257C9",
    "processes": "#A84300",
    "subprocess": "#E263D2",
    "loop": "#43A86A",
    "director": "#98720F",
    "lineage": "#2F8E98",
    "dataflow": "#6B1FA0",
    "kubernetes": "#6B6F76",
    OTHER: "#7C6A5D",
}
DARK = {
    "serial": "#8B8078",
    "threads": "#2B80EC",
    "processes": "#F68A22",
    "subprocess": "#FDA4EF",
    "loop": "#66E596",
    "director": "#FADC3A",
    "lineage": "#40A6BD",
    "dataflow": "#A092FD",
    "kubernetes": "#ECF4F5",
    OTHER: "#B9A999",
}
PARTS = {
    "queue": LIGHT[OTHER],
    "connect": LIGHT["processes"],
    "first byte": LIGHT["threads"],
    "body": LIGHT["loop"],
    "process": LIGHT["dataflow"],
    "failed": LIGHT["processes"],
    "completed": LIGHT["threads"],
    "cancelled": LIGHT[OTHER],
    "main": LIGHT["serial"],
    "worker": LIGHT["threads"],
    "program": LIGHT["loop"],
    OTHER: LIGHT["director"],
}
"""The colours of what is in one run: the phases of a request, its outcome, the roles of processes."""
DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 3), (2, 2), (9, 3, 2, 3), (4, 2, 1, 2))

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
INKS = {"light": ("#1B1F27", "#586070", "#E4E7EC"), "dark": ("#E8EBF0", "#A4ADBA", "#2C323C")}


def place(stage: str) -> tuple[int, str]:
    """What stages are sorted by: the ladder's order, then unknown ones by name."""
    return (LADDER.index(stage) if stage in LADDER else len(LADDER), stage)


def colours(stages: Sequence[str]) -> list[str]:
    """The light theme's colour of each stage."""
    return [LIGHT.get(stage, LIGHT[OTHER]) for stage in stages]


def in_dark() -> dict[str, str]:
    """The dark theme's colour for each colour of the light one, by which the page repaints its charts."""
    return {LIGHT[stage].lower(): DARK[stage].lower() for stage in LIGHT}


def theme(name: str, font: str = FONT) -> dict[str, Any]:
    """The Vega-Lite configuration of the theme `light` or `dark`."""
    ink, soft, faint = INKS[name]
    text = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500}
    return {
        "background": "transparent",
        "aria": False,  # what is seen is said once, not for each of a thousand marks
        "font": font,
        "view": {"stroke": None},
        "axis": text
        | {
            "labelColor": soft,
            "titleColor": soft,
            "gridColor": faint,
            "domainColor": faint,
            "tickColor": faint,
            "labelPadding": 6,
            "titlePadding": 10,
            "labelLimit": 220,
        },
        "axisY": {"domain": False, "ticks": False},
        "legend": text
        | {"labelColor": ink, "titleColor": soft, "symbolStrokeWidth": 2.5, "symbolOpacity": 1, "labelLimit": 260},
        "title": {"color": ink, "subtitleColor": soft, "fontSize": 15, "subtitleFontSize": 12, "anchor": "start"},
        "text": {"color": ink, "fontSize": 12},
        "rule": {"color": soft},
    }
