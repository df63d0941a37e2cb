"""The learning curves as a Vega-Lite chart, in one grammar for every run, variant and layout.

    Drawing  →  chart(drawing, WIDE)      a panel of losses above a panel of learning rates

Solid thick lines with points are held-out losses, thin ones training losses, dashed horizontal
rules baselines, thin vertical rules the borders of phases; their names stand above the panel.
Points and rules say their numbers where a page asks for them, and whatever belongs to a run is not
drawn while it is hidden.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ettin.files import Json
from ettin.report.collect import Run
from ettin.report.interaction import hideable, hideable_together, with_hidden
from ettin.report.labels import FLAG_PIXELS, LINE_PIXELS, Border, ends_of, flags, spread

if TYPE_CHECKING:
    import altair as alt

# Okabe and Ito's colours that stay apart for every kind of colour vision, on white and on black.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, MUTED, GRID, PAPER = "#1f2328", "#6b7280", "#e5e7eb", "#ffffff"
_FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
_BORDERS_NAMED_AT_MOST = 8
# Fingers and pointers need more than a point's own size.
_TARGET_SIZE = 260
# The renderer measures text in its own font; a browser's may be a little wider.
_PADDING = {"left": 8, "top": 8, "right": 24, "bottom": 8}


class Style(NamedTuple):
    """Colour and dash of a series; no dash is a solid line."""

    color: str
    dash: tuple[int, ...]


class Layout(NamedTuple):
    """How large a figure is drawn, in pixels, without axes and labels; and the longest line of
    text at the end of a curve, in characters.
    """

    width: int
    height: int
    small_height: int
    characters: int


WIDE = Layout(620, 340, 58, 32)
NARROW = Layout(205, 250, 44, 14)


@dataclass(frozen=True)
class Drawing:
    """What is drawn.

    Attributes:
        runs: at least one.
        names: what each is called.
        styles: what each looks like.
        points: `run`, `phase`, `series`, `tokens` and `value` of each; series are `training`,
            `held-out` and `learning rate`.
        borders: where phases begin; empty when all runs have one.
    """

    runs: tuple[Run, ...]
    names: dict[Path, str]
    styles: dict[Path, Style]
    points: tuple[Json, ...]
    borders: tuple[Border, ...]

    @property
    def tokens(self) -> float:
        """Text tokens at the right end."""
        return max(float(point["tokens"]) for point in self.points)

    @property
    def domain(self) -> tuple[float, float]:
        """Losses at the bottom and at the top."""
        heights = [point["value"] for point in self.points if point["series"] != "learning rate"]
        heights += [nats for run in self.runs for nats in run.baselines.values()]
        margin = 0.05 * (max(heights) - min(heights)) or 0.1
        return min(heights) - margin, max(heights) + margin

    def series(self, kind: str) -> list[Json]:
        """The points of one series, of all runs."""
        return [point for point in self.points if point["series"] == kind]

    @property
    def starts(self) -> list[Json]:
        """The held-out losses of weights that a run took over, before its first step."""
        started = {self.names[run.path] for run in self.runs if run.start is not None}
        return [
            point
            for point in self.series("held-out")
            if point["tokens"] == 0 and point["run"] in started
        ]


def chart(drawing: Drawing, layout: Layout) -> "alt.VConcatChart":
    """Losses above, learning rates below, over the same text tokens."""
    import altair as alt

    x = alt.X(
        "tokens:Q",
        title="text tokens",
        scale=alt.Scale(domain=[0, drawing.tokens], nice=False),
        axis=alt.Axis(
            labelExpr="replace(format(datum.value, '~s'), 'G', 'B')",
            tickCount=layout.width // 80,
            grid=False,
        ),
    )
    # The panel below has the same tokens, and says so once for both.
    bare_x = x.axis(labels=False, ticks=False, title=None, grid=False)
    top = alt.layer(
        *_borders(drawing, layout, bare_x, named=True), *_losses(drawing, layout, bare_x)
    ).properties(width=layout.width, height=layout.height)
    bottom = alt.layer(
        *_borders(drawing, layout, x, named=False), _learning_rates(drawing, x)
    ).properties(width=layout.width, height=layout.small_height)
    both = alt.vconcat(top, bottom, spacing=14).resolve_scale(x="shared")
    finished: alt.VConcatChart = with_hidden(styled(both))
    return finished


def _losses(drawing: Drawing, layout: Layout, x: "alt.X") -> list["alt.Chart"]:
    """Every layer of the panel of losses but the borders of phases."""
    import altair as alt

    names = [drawing.names[run.path] for run in drawing.runs]
    styles = [drawing.styles[run.path] for run in drawing.runs]
    y = alt.Y(
        "value:Q",
        title="loss (nats per label)",
        scale=alt.Scale(domain=list(drawing.domain), nice=False),
        axis=alt.Axis(tickCount=6),
    )
    color = alt.Color(
        "run:N",
        legend=None,
        scale=alt.Scale(domain=names, range=[style.color for style in styles]),
    )
    dash = alt.StrokeDash(
        "run:N",
        legend=None,
        scale=alt.Scale(domain=names, range=[list(style.dash) or [1, 0] for style in styles]),
    )
    rules = [
        {"value": nats, "run": drawing.names[run.path], "baseline": baseline}
        for run in drawing.runs
        for baseline, nats in run.baselines.items()
    ]
    layers: list[alt.Chart] = [
        drawn(rules)
        .mark_rule(strokeDash=[5, 4], strokeWidth=1.2, opacity=0.75)
        .encode(y=y, color=color, tooltip=_said("baseline", "loss of this n-gram model")),
        drawn(drawing.series("training"), x=x, y=y, color=color)
        .mark_line(strokeWidth=1, opacity=0.55)
        .encode(detail="phase:N"),
        drawn(drawing.series("held-out"), x=x, y=y, color=color)
        .mark_line(strokeWidth=2.2, point=alt.OverlayMarkDef(size=36, filled=True))
        .encode(detail="phase:N", strokeDash=dash),
        drawn(drawing.starts, x=x, y=y, color=color).mark_point(
            size=70, fill=PAPER, strokeWidth=2, opacity=1
        ),
        drawn(drawing.series("held-out"), x=x, y=y, color=color)
        .mark_circle(size=_TARGET_SIZE, opacity=0)
        .encode(tooltip=_said("phase", "loss on held-out text", "tokens")),
    ]
    return [hideable(layer, "run") for layer in layers] + _ends(drawing, layout, y)


def _said(kind: str, value: str, *counts: str) -> list["alt.Tooltip"]:
    """What a point says: its run, what `kind` names, text tokens where it has them, and its value
    under the name `value`.
    """
    import altair as alt

    return [
        alt.Tooltip("run:N", title="run"),
        alt.Tooltip(f"{kind}:N", title=kind),
        *(alt.Tooltip(f"{count}:Q", title=f"text {count}", format=",.0f") for count in counts),
        alt.Tooltip("value:Q", title=value, format=".3f"),
    ]


def _ends(drawing: Drawing, layout: Layout, y: "alt.Y") -> list["alt.Chart"]:
    """Names and last losses at the right ends of lines; each line of text is a layer."""
    import altair as alt

    ends = ends_of(
        drawing.runs,
        names=drawing.names,
        colors={path: style.color for path, style in drawing.styles.items()},
        characters=layout.characters,
        muted=MUTED,
    )
    return [
        hideable_together(
            drawn([{"value": at, "text": text, "of": label.series}])
            .mark_text(
                align="left",
                dx=10,
                dy=LINE_PIXELS * (place - (len(label.lines) - 1) / 2),
                fontSize=13,
                fontWeight=label.weight,
                color=label.color,
            )
            .encode(x=alt.value(layout.width), y=y, text="text:N"),
            "of",
            count=len(label.series),
        )
        for label, at in spread(ends, drawing.domain, layout.height)
        for place, text in enumerate(label.lines)
    ]


def _borders(drawing: Drawing, layout: Layout, x: "alt.X", *, named: bool) -> list["alt.Chart"]:
    """Thin rules where phases begin; where named, each rises to its name above the panel."""
    import altair as alt

    placed = flags(list(drawing.borders), tokens=drawing.tokens, width=layout.width)
    named = named and len(placed) <= _BORDERS_NAMED_AT_MOST
    rules: list[alt.Chart] = []
    for flag in placed:
        above = -6 - FLAG_PIXELS * flag.lane if named else 0
        begins = drawn([{"tokens": flag.border.tokens, "text": flag.border.name}], x=x)
        if flag.border.tokens:
            height = layout.height if named else layout.small_height
            rules.append(
                begins.mark_rule(color=MUTED, strokeWidth=1, opacity=0.7).encode(
                    y=alt.value(above - FLAG_PIXELS + 4 if named else 0), y2=alt.value(height)
                )
            )
        if named:
            rules.append(
                begins.mark_text(
                    align="left",
                    baseline="bottom",
                    dx=4 if flag.border.tokens else 0,
                    fontSize=12,
                    color=MUTED,
                ).encode(y=alt.value(above + 2), text="text:N")
            )
    return rules


def _learning_rates(drawing: Drawing, x: "alt.X") -> "alt.Chart":
    import altair as alt

    rates = drawing.series("learning rate")
    highest = max((point["value"] for point in rates), default=0.0)
    layer = (
        drawn(rates)
        .mark_line(strokeWidth=1.5, color=MUTED)
        .encode(
            x=x,
            y=alt.Y(
                "value:Q",
                title=["learning", "rate"],
                axis=alt.Axis(
                    values=[0, highest],
                    labelExpr="datum.value == 0 ? '0' : format(datum.value, '.1~e')",
                ),
            ),
            detail=["run:N", "phase:N"],
        )
    )
    return hideable(layer, "run")


def drawn(values: list[Json], **channels: Any) -> "alt.Chart":
    """A chart of some points, with the channels that its layers share."""
    import altair as alt

    drawn: alt.Chart = alt.Chart(alt.InlineData(values=values)).encode(**channels)
    return drawn


def styled(chart: Any) -> Any:
    """A chart of any kind in the colours and the font of all figures."""
    axis: dict[str, Any] = {
        "labelColor": MUTED, "titleColor": MUTED, "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "gridColor": GRID, "domainColor": GRID, "tickColor": GRID,
        "labelPadding": 5, "titlePadding": 10,
    }  # fmt: skip
    return (
        chart.configure(font=_FONT, background="white", padding=_PADDING)
        .configure_axis(**axis)
        .configure_view(stroke=None)
    )
