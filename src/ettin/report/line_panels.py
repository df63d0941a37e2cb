"""Panels of lines below one another, in the grammar of the learning curves.

    panels_chart(panels, series, axis, layout)

Each panel shows values over the same axis: a line and marks a series, errors as bars or bands,
chance as a dashed rule. Every series is named at the right of a panel, beside the mark that it is
drawn with, so that no legend has to be matched and no colour has to be seen.
"""

from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ettin.files import Json
from ettin.report.chart import GRID, MUTED, PAPER, WIDE, Layout
from ettin.report.interaction import Series, tooltips_of
from ettin.report.labels import FLAG_PIXELS, LINE_PIXELS, Border, Label, flags, spread
from ettin.report.layers import assembled, bare, layer, stacked

if TYPE_CHECKING:
    import altair as alt

SHAPES = {
    "encoder": "circle",
    "decoder": "square",
    "encoder from decoder (mntp)": "triangle-up",
    "encoder from decoder (mlm)": "diamond",
    "decoder from encoder": "triangle-down",
}
_LABEL_PIXELS = 14
_TITLE_CHARACTERS = {"wide": 92, "narrow": 44}
_BORDERS_NAMED_AT_MOST = 6


class Line(NamedTuple):
    """What a series looks like.

    Attributes:
        name: unique in the figure.
        label: what stands beside its end; its name, or less where colour and mark say the rest.
        color: of everything.
        dash: of the line; empty: solid.
        shape: of the marks, in Vega's words.
        hollow: marks are rings.
    """

    name: str
    label: str
    color: str
    dash: tuple[int, ...]
    shape: str
    hollow: bool = False

    @property
    def as_series(self) -> Series:
        """What the page offers to hide."""
        return Series(self.name, self.color, self.dash)


class Panel(NamedTuple):
    """One panel.

    Attributes:
        title: what it shows, and in which unit.
        points: each with `series`, `x`, `value`, `low` and `high` (None where no error is known),
            and whatever tooltips show.
        rules: simple methods: name, value; dashed.
        borders: of phases.
        bands: errors are bands around lines; else bars through marks.
    """

    title: str
    points: tuple[Json, ...]
    rules: tuple[tuple[str, float], ...] = ()
    borders: tuple[Border, ...] = ()
    bands: bool = False

    @property
    def domain(self) -> tuple[float, float]:
        """Values at the bottom and at the top."""
        values = [value for _, value in self.rules]
        for point in self.points:
            values += [
                float(point[key]) for key in ("value", "low", "high") if point.get(key) is not None
            ]
        margin = 0.07 * (max(values) - min(values)) or 0.05
        return min(values) - margin, max(values) + margin


class Axis(NamedTuple):
    """The axis that all panels share.

    Attributes:
        title: with its unit.
        kind: `log` or `linear`.
        domain: both ends.
        ticks: where; None: as the renderer likes.
    """

    title: str
    kind: Literal["log", "linear"]
    domain: tuple[float, float]
    ticks: tuple[float, ...] | None = None


def panels_chart(
    panels: list[Panel],
    lines: list[Line],
    axis: Axis,
    layout: Layout,
    *,
    tooltips: list[tuple[str, str, str]],
) -> Json:
    """The panels as one Vega-Lite specification.

    Args:
        panels: at least one.
        lines: every series of every panel.
        axis: shared.
        layout: `chart.WIDE` or `chart.NARROW`.
        tooltips: field of the points, what it is called, and its format; no format for text.
    """
    charts = [
        _panel(panel, [line for line in lines if _has(panel, line)], axis, layout, tooltips)
        for panel in panels
    ]
    return assembled(charts, spacing=26)


def numbers_of(point: Json) -> Json:
    """A point of a panel without what only tells where it is drawn."""
    return {key: value for key, value in point.items() if key not in ("x", "low", "high")}


def _has(panel: Panel, line: Line) -> bool:
    return any(point["series"] == line.name for point in panel.points)


def _panel(
    panel: Panel,
    lines: list[Line],
    axis: Axis,
    layout: Layout,
    tooltips: list[tuple[str, str, str]],
) -> Json:
    labels = _labels(panel, lines, layout)
    needed = LINE_PIXELS * sum(len(label.lines) for _, label in labels)
    height = max(200 if layout is WIDE else 170, needed)
    x, y = _x(axis, layout), _y(panel)
    layers = _rules(panel, layout, y) + _borders(panel, axis, layout, height)
    colors = list(dict.fromkeys(line.color for line in lines))
    for line in lines:
        beside = colors.index(line.color) - (len(colors) - 1) / 2
        layers += _line(panel, line, x, y, 0.0 if panel.bands else 5 * beside, tooltips)
    layers += _ends(labels, panel, layout, height, y)
    width = _TITLE_CHARACTERS["wide" if layout is WIDE else "narrow"]
    title: Json = {
        "text": wrap(panel.title, width), "anchor": "start", "color": MUTED, "fontSize": 13,
        "fontWeight": 600, "frame": "group", "offset": 8,
    }  # fmt: skip
    return stacked(layers, width=layout.width, height=height, title=title)


def _x(axis: Axis, layout: Layout) -> "alt.X":
    import altair as alt

    ticks: dict[str, Any] = {"tickCount": layout.width // 80}
    if axis.ticks is not None:
        ticks = {"values": list(axis.ticks), "labelOverlap": "greedy", "labelSeparation": 8}
    return alt.X(
        "x:Q",
        title=axis.title,
        scale=alt.Scale(type=axis.kind, domain=list(axis.domain), nice=False),
        axis=alt.Axis(
            labelExpr="replace(format(datum.value, '.3~s'), 'G', 'B')", grid=False, **ticks
        ),
    )


def _y(panel: Panel) -> "alt.Y":
    import altair as alt

    return alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=list(panel.domain), nice=False, zero=False),
        axis=alt.Axis(tickCount=5, format=".3~f"),
    )


def _line(
    panel: Panel,
    line: Line,
    x: "alt.X",
    y: "alt.Y",
    apart: float,
    tooltips: list[tuple[str, str, str]],
) -> list[Json]:
    """Errors, the line, and marks of one series."""
    import altair as alt

    points = [point for point in panel.points if point["series"] == line.name]
    sure = [point for point in points if point.get("low") is not None]
    shown = tooltips_of(points, tooltips)
    color = line.color
    layers: list[Json] = []
    if sure:
        errors = bare(x=x, y=alt.Y("low:Q", title=None), y2="high:Q")
        drawn = (
            errors.mark_area(color=color, opacity=0.16)
            if panel.bands
            else errors.mark_rule(color=color, strokeWidth=1.8, opacity=0.6, xOffset=apart)
        )
        layers.append(layer(drawn, sure, hidden_by="series"))
    if len(points) > 1:
        stroke = bare(x=x, y=y).mark_line(
            color=color,
            strokeWidth=1.3 if line.hollow else 2,
            strokeDash=list(line.dash) or [1, 0],
            xOffset=apart,
        )
        layers.append(layer(stroke, points, hidden_by="series"))
    marks = bare(x=x, y=y, tooltip=shown).mark_point(
        shape=line.shape, size=36 if panel.bands else 62, stroke=color, opacity=1,
        fill=PAPER if line.hollow else color, strokeWidth=1.6, xOffset=apart,
    )  # fmt: skip
    return [*layers, layer(marks, points, hidden_by="series")]


def _labels(panel: Panel, lines: list[Line], layout: Layout) -> list[tuple[Line | None, Label]]:
    """What stands at the right: series with their last value, and simple methods."""
    found: list[tuple[Line | None, Label]] = []
    for line in lines:
        last = max(
            (point for point in panel.points if point["series"] == line.name),
            key=lambda point: float(point["x"]),
        )
        # A short label leans on its twin of the same colour, and needs it in the panel.
        paired = any(other.color == line.color and other != line for other in lines)
        text = f"{line.label if paired else line.name} {_shown(last['value'])}"
        parts = tuple(wrap(text, layout.characters, break_on_hyphens=False))
        found.append((line, Label(parts, float(last["value"]), line.color, 600)))
    for name, value in panel.rules:
        parts = tuple(wrap(f"{name} {_shown(value)}", layout.characters))
        found.append((None, Label(parts, value, MUTED, 400)))
    return found


def _shown(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.01 or not value else f"{value:.1g}"


def _ends(
    labels: list[tuple[Line | None, Label]],
    panel: Panel,
    layout: Layout,
    height: int,
    y: "alt.Y",
) -> list[Json]:
    """Names at the right, each with the mark of its series."""
    import altair as alt

    layers: list[Json] = []
    at_right = bare(y=y, x=alt.value(layout.width))
    owners = {id(label): line for line, label in labels}
    for label, at in spread([label for _, label in labels], panel.domain, height):
        line = owners[id(label)]
        middle = (len(label.lines) - 1) / 2
        for place, text in enumerate(label.lines):
            words = at_right.mark_text(
                align="left", dx=_LABEL_PIXELS + 10, dy=LINE_PIXELS * (place - middle),
                fontSize=12, fontWeight=label.weight, color=label.color,
            ).encode(text="text:N")  # fmt: skip
            point = {"value": at, "text": text, "series": line.name if line else ""}
            layers.append(layer(words, [point], hidden_by="series"))
        if line:
            mark = at_right.mark_point(
                shape=line.shape, size=40, stroke=line.color, opacity=1, strokeWidth=1.6,
                fill=PAPER if line.hollow else line.color, xOffset=_LABEL_PIXELS,
                yOffset=-LINE_PIXELS * middle,
            )  # fmt: skip
            key = {"value": at, "series": line.name}
            layers.append(layer(mark, [key], hidden_by="series"))
    return layers


def _rules(panel: Panel, layout: Layout, y: "alt.Y") -> list[Json]:
    import altair as alt

    rule = bare(y=y, x=alt.value(0), x2=alt.value(layout.width)).mark_rule(
        color=MUTED, strokeWidth=1.3, strokeDash=[4, 3]
    )
    return [layer(rule, [{"value": value}]) for _, value in panel.rules]


def _borders(panel: Panel, axis: Axis, layout: Layout, height: int) -> list[Json]:
    """Thin rules where phases begin, with their names above the panel."""
    import altair as alt

    placed = flags(list(panel.borders), tokens=axis.domain[1], width=layout.width)
    layers: list[Json] = []
    for flag in placed:
        begins = bare(x=alt.value(flag.border.tokens / axis.domain[1] * layout.width))
        above = -4 - FLAG_PIXELS * flag.lane
        if flag.border.tokens:
            rule = begins.mark_rule(color=GRID, strokeWidth=1.5).encode(
                y=alt.value(above - FLAG_PIXELS + 4), y2=alt.value(height)
            )
            layers.append(layer(rule, [{}]))
        if len(placed) <= _BORDERS_NAMED_AT_MOST:
            name = begins.mark_text(
                align="left", baseline="bottom", dx=4 if flag.border.tokens else 0,
                fontSize=12, color=MUTED,
            ).encode(y=alt.value(above + 2), text="text:N")  # fmt: skip
            layers.append(layer(name, [{"text": flag.border.name}]))
    return layers
