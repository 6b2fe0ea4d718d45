"""Speed against memory against energy: which stages are worth choosing among, and which are not."""

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.amounts import number_text
from analysis.appearance import Chart, alt
from analysis.labels import Label, Row
from analysis.logarithmic import log_axis, log_scale
from analysis.pareto import front, medians
from analysis.picture import Picture, listing, table
from analysis.placing import GAP_PIXELS, Dot, Place, place_names
from analysis.program import main
from analysis.shapes import drawing, faded, focus, stage_colour
from analysis.sizes import sized

if TYPE_CHECKING:
    import duckdb

TITLE = "Speed, memory and energy"
CAPTION = (
    "The medians of each stage at the largest size that the most stages have; the larger the dot, the more energy. "
    "Nothing beats a full dot in all three; a hollow one is beaten by another. The line joins those that nothing beats "
    "in time and memory. Lower and further left is better."
)
NOTHING = "It takes two stages whose runs came to their end and measured their memory."
HEIGHT = 320
ALIGNED = {"right": ("left", GAP_PIXELS), "left": ("right", -GAP_PIXELS), "center": ("center", 0)}
AXES = ("seconds", "mib")


def picture(connection: "duckdb.DuckDBPyConnection") -> Picture | None:
    """A dot for each stage with a measured run, or None if there are none to compare."""
    labels, found = sized(connection)
    points = medians(found)
    if len(points) < 2:
        return None
    best = front(points, (*AXES, "joules"))
    line = sorted(front(points, AXES), key=lambda point: point["seconds"])
    for point in points:
        point["choice"] = "nothing beats it" if point in best else "beaten by another"
    shown = [label for label in labels if any(point["label"] == label.text for point in points)]
    said = listing([f"{point['label']} {number_text(point['seconds'])} s, {number_text(point['mib'])} MiB"
                    for point in points])  # fmt: skip
    columns = {"stage": "label", "requests": "size", "runs": "runs", "time (s)": "seconds", "peak memory (MiB)": "mib"}
    return Picture(
        chart=_drawn(shown, points, line),
        seen=f"Dots by time and memory: {said}. Not beaten: {', '.join(point['label'] for point in best)}.",
        table=table(points, columns | {"energy (J)": "joules", "energy is": "kind", "among the others": "choice"}),
        wide=True,
    )


def _drawn(labels: Sequence[Label], points: Sequence[Row], line: Sequence[Row]) -> Chart:
    seconds, memory = ([point[field] for point in points] for field in AXES)
    scales = log_scale(seconds), log_scale(memory)
    places = _places(points, scales)
    x = alt.X("seconds:Q", title="time (seconds, log scale)", scale=scales[0], axis=log_axis(seconds))
    y = alt.Y("mib:Q", title="peak memory (MiB, log scale)", scale=scales[1], axis=log_axis(memory, upward=True))
    colour = stage_colour(labels, legend=True)
    dots = drawing(points).encode(x=x, y=y)
    is_best = alt.datum.choice == "nothing beats it"
    legend = alt.Legend(orient="top", tickCount=3, symbolStrokeWidth=1.5, symbolFillColor="transparent")
    size = alt.Size("joules:Q", title="energy (joules)", scale=alt.Scale(zero=True, range=[60, 700]), legend=legend)
    circles = dots.mark_point(strokeWidth=2).encode(
        color=colour,
        fill=alt.Fill("label:N", scale=colour["scale"], legend=None),
        fillOpacity=alt.when(is_best).then(alt.value(0.9)).otherwise(alt.value(0)),
        opacity=faded(),
        size=size if any(point["joules"] for point in points) else alt.value(160),
        tooltip=_tooltip(),
    )
    names = [
        drawing([point for point in points if places[point["label"]] == one])
        .mark_text(align=ALIGNED[one.side][0], dx=ALIGNED[one.side][1], dy=one.down)  # type: ignore[arg-type]
        .encode(x=x, y=y, text="label:N", opacity=faded(1, 0.3))
        for one in sorted(set(places.values()))
    ]
    joined = drawing(line).mark_line(strokeDash=[4, 3], strokeWidth=1.5, color="#7C6A5D", interpolate="step-after")
    return alt.layer(joined.encode(x=x, y=y), circles, *names).add_params(focus()).properties(height=HEIGHT)


def _places(points: Sequence[Row], scales: tuple[alt.Scale, alt.Scale]) -> dict[str, Place]:
    """Where the names of the dots are."""

    def share(value: float, scale: alt.Scale) -> float:
        low, high = scale["domain"]
        return math.log(value / low) / math.log(high / low)

    dots = [Dot(point["label"], share(point["seconds"], scales[0]), share(point["mib"], scales[1])) for point in points]
    return place_names(dots, HEIGHT)


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("label:N", title="stage"),
        alt.Tooltip("size:Q", title="requests", format=","),
        alt.Tooltip("runs:Q", title="runs"),
        alt.Tooltip("seconds:Q", title="time (s)", format=",.4~r"),
        alt.Tooltip("mib:Q", title="peak memory (MiB)", format=",.4~r"),
        alt.Tooltip("joules:Q", title="energy (J)", format=",.4~r"),
        alt.Tooltip("kind:N", title="energy is"),
        alt.Tooltip("choice:N", title="among the others"),
    ]


if __name__ == "__main__":
    main(sys.modules[__name__])
