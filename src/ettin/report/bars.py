"""Horizontal bars from zero, a row each, in the grammar of the other figures.

    bars_chart(panels, WIDE)      panels below one another; every bar says its number

On a wide screen a row's name stands at its left, on a narrow one above it.
"""

from typing import TYPE_CHECKING, NamedTuple

from ettin.files import Json
from ettin.report.chart import INK, MUTED, PAPER, WIDE, Layout
from ettin.report.interaction import Series, tooltips_of
from ettin.report.layers import assembled, bare, layer, stacked

if TYPE_CHECKING:
    import altair as alt

_BAR_PIXELS, _ROW_PIXELS, _NAME_PIXELS, _TOP_PIXELS = 18, 27, 17, 8
_LEGEND_PIXELS = 24
_CHARACTER_PIXELS = 7.5


class Segment(NamedTuple):
    """A part of a bar: from, to, whose it is, what it says, what a tooltip shows, and what it says
    where there is less room.
    """

    low: float
    high: float
    series: Series
    text: str
    shown: Json
    shorter: tuple[str, ...] = ()


class Row(NamedTuple):
    """A bar: its name, its parts, and what stands behind its end."""

    name: str
    segments: tuple[Segment, ...]
    end: str = ""


class BarPanel(NamedTuple):
    """Rows over one axis from 0 to `end`.

    Attributes:
        title: what the axis shows, with its unit.
        rows: from above.
        end: of the axis.
        form: of the numbers at it, in D3's words.
        legend: names of the parts, above the rows; empty where rows have one part.
    """

    title: str
    rows: tuple[Row, ...]
    end: float
    form: str
    legend: tuple[Series, ...] = ()


def bars_chart(
    panels: list[BarPanel], layout: Layout, *, tooltips: list[tuple[str, str, str]]
) -> Json:
    """The panels as one Vega-Lite specification.

    Args:
        panels: at least one, each with at least one row.
        layout: `chart.WIDE` or `chart.NARROW`.
        tooltips: key of `Segment.shown`, what it is called, its format; none for text.
    """
    return assembled([_panel(panel, layout, tooltips) for panel in panels], spacing=22)


def _panel(panel: BarPanel, layout: Layout, tooltips: list[tuple[str, str, str]]) -> Json:
    import altair as alt

    step = _ROW_PIXELS + (0 if layout is WIDE else _NAME_PIXELS)
    top = _TOP_PIXELS + (_LEGEND_PIXELS if panel.legend else 0)
    height = top + step * len(panel.rows)
    x = alt.X(
        "low:Q",
        title=panel.title,
        scale=alt.Scale(domain=[0, panel.end], nice=False),
        axis=alt.Axis(
            labelExpr=f"format(datum.value, '{panel.form}')",
            tickCount=layout.width // 100,
            grid=False,
        ),
    )
    y = alt.Y("at:Q", title=None, axis=None, scale=alt.Scale(domain=[height, 0], nice=False))
    layers = _legend(panel, y)
    for place, row in enumerate(panel.rows):
        middle = top + step * place + step - _ROW_PIXELS / 2
        layers += _row(row, middle, panel, layout, x, y, tooltips)
    return stacked(layers, width=layout.width, height=height)


def _row(
    row: Row,
    middle: float,
    panel: BarPanel,
    layout: Layout,
    x: "alt.X",
    y: "alt.Y",
    tooltips: list[tuple[str, str, str]],
) -> list[Json]:
    import altair as alt

    layers: list[Json] = []
    for part in row.segments:
        shown = tooltips_of([part.shown], tooltips)
        point = {
            "low": part.low, "high": part.high, "at": middle - _BAR_PIXELS / 2,
            "until": middle + _BAR_PIXELS / 2, "series": part.series.name, **part.shown,
        }  # fmt: skip
        bar = bare(x=x, y=y, x2="high:Q", y2="until:Q", tooltip=shown).mark_rect(
            color=part.series.color, stroke=PAPER, strokeWidth=1,
            # Numbers are read on half the colour, on white pages and on dark ones.
            opacity=0.5 if part.text else 0.9,
        )  # fmt: skip
        layers.append(layer(bar, [point], hidden_by="series"))
    for part in row.segments:
        room = (part.high - part.low) / panel.end * layout.width / _CHARACTER_PIXELS
        fitting = [text for text in (part.text, *part.shorter) if len(text) + 0.6 <= room]
        if fitting:
            layers.append(_text(fitting[0], part, middle, x, y))
    name_x, name_y = (-10, middle) if layout is WIDE else (0, middle - _BAR_PIXELS / 2 - 9)
    name = bare(y=y, x=alt.value(name_x), text="text:N").mark_text(
        align="right" if layout is WIDE else "left", fontSize=12, color=MUTED
    )
    layers.append(layer(name, [{"at": name_y, "text": row.name}]))
    if row.end:
        end = bare(x=x, y=y, text="text:N").mark_text(align="left", dx=7, fontSize=12, color=MUTED)
        high = max((part.high for part in row.segments), default=0.0)
        layers.append(layer(end, [{"low": high, "at": middle, "text": row.end}]))
    return layers


def _text(text: str, part: Segment, middle: float, x: "alt.X", y: "alt.Y") -> Json:
    """A number within a bar."""
    point = {
        "low": (part.low + part.high) / 2, "at": middle, "text": text, "series": part.series.name
    }  # fmt: skip
    mark = bare(x=x, y=y, text="text:N").mark_text(fontSize=12, fontWeight=600, color=INK)
    return layer(mark, [point], hidden_by="series")


def _legend(panel: BarPanel, y: "alt.Y") -> list[Json]:
    """The names of the parts in one line, each beside its colour."""
    import altair as alt

    layers: list[Json] = []
    at = 0.0
    for series in panel.legend:
        point = {"at": 8, "text": series.name}
        key = bare(y=y, x=alt.value(at + 6)).mark_point(
            shape="square", size=110, fill=series.color, strokeWidth=0, opacity=0.5
        )
        name = bare(y=y, x=alt.value(at + 17), text="text:N").mark_text(
            align="left", fontSize=12, color=MUTED
        )
        layers += [layer(key, [point]), layer(name, [point])]
        at += 17 + _CHARACTER_PIXELS * (len(series.name) + 2)
    return layers
