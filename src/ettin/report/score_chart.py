"""Scores as a Vega-Lite chart, in the grammar of the learning curves.

    panels(records)  →  score_figure(panels)      a band a task, a line a model, 0 to 1 to the right

A dot is a score and the bar through it one standard error each way; a ring is the same model with
random weights; rules through a band are simple methods on the same examples, the dashed one chance.
Every line carries the name of its model at its left and its number at its right; names of simple
methods stand below their rules, in as many lanes as keep them apart.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

from ettin.files import Json
from ettin.report.chart import MUTED, NARROW, PAPER, WIDE, Layout, drawn, styled
from ettin.report.figures import Figure
from ettin.report.interaction import Series, hideable, with_hidden
from ettin.report.scores import CHANCE, ModelScore, Panel

if TYPE_CHECKING:
    import altair as alt

_TITLE_PIXELS, _LINE_PIXELS, _NAME_PIXELS, _LANE_PIXELS, _GAP_PIXELS = 24, 22, 17, 15, 26
_CHARACTER_PIXELS = 6.2


class _Band(NamedTuple):
    """Where a task is drawn, in pixels from above: lines of models, end of the rules, lanes of
    the simple methods' names.
    """

    panel: Panel
    top: float
    lines: tuple[float, ...]
    bottom: float
    names: tuple[tuple[str, float], ...]
    lanes: tuple[int, ...]

    @property
    def end(self) -> float:
        return self.bottom + _LANE_PIXELS * (max(self.lanes, default=-1) + 1) + _GAP_PIXELS


def score_figure(panels: list[Panel]) -> Figure:
    """All tasks below one another.

    Args:
        panels: at least one.
    """
    wide, narrow = (_chart(panels, layout).to_dict() for layout in (WIDE, NARROW))
    sentences = ["Right is better. Dots are scores; bars, one standard error each way."]
    if any(panel.baselines for panel in panels):
        sentences.append("Rules: simple methods on the same examples; dashed: chance.")
    if any(score.untrained is not None for panel in panels for score in panel.scores):
        sentences.append(
            "A ring: the same model with random weights, whose vectors still tell which words a "
            "text holds; what lies to the right of it was learned in training."
        )
    colors = {score.model: score.color for panel in panels for score in panel.scores}
    return Figure(
        "scores",
        "What they can do",
        " ".join(sentences),
        wide,
        narrow,
        tuple(_numbers(panels)),
        tuple(Series(model, color) for model, color in colors.items()),
    )


def _numbers(panels: list[Panel]) -> list[Json]:
    """Everything drawn, a row each."""
    rows: list[Json] = []
    for panel in panels:
        place = {"task": panel.task, "metric": panel.metric}
        for score in panel.scores:
            rows.append({**place, "of": score.model, "value": score.value, "stderr": score.error})
            if score.untrained is not None:
                rows.append({**place, "of": f"{score.model}, untrained", "value": score.untrained})
        rows += [{**place, "of": name, "value": value} for name, value in panel.baselines]
    return rows


def _chart(panels: list[Panel], layout: Layout) -> "alt.LayerChart":
    import altair as alt

    low = min(0.0, *(each for panel in panels for each in _values(panel)))
    bands = _bands(panels, layout, low)
    height = bands[-1].end - _GAP_PIXELS / 2
    x = alt.X(
        "value:Q",
        title="score",
        scale=alt.Scale(domain=[low, 1], nice=False, clamp=True),
        axis=alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format=".1f"),
    )
    y = alt.Y(
        "at:Q", title=None, scale=alt.Scale(domain=[height, 0], nice=False, zero=False), axis=None
    )
    layers = _simple_methods(bands, layout, low, x, y) + _models(bands, layout, x, y)
    layers += [
        drawn([{"at": band.top + 8, "text": _heading(band.panel)}], y=y)
        .mark_text(align="left", fontSize=13, fontWeight=600, color=MUTED)
        .encode(x=alt.value(0), text="text:N")
        for band in bands
    ]
    whole = alt.layer(*layers).properties(width=layout.width, height=height)
    finished: alt.LayerChart = with_hidden(styled(whole))
    return finished


def _bands(panels: list[Panel], layout: Layout, low: float) -> list[_Band]:
    bands: list[_Band] = []
    top = 0.0
    for panel in panels:
        # On a narrow screen a name stands above its line, on a wide one at the left of it.
        step = _LINE_PIXELS + (0 if layout is WIDE else _NAME_PIXELS)
        first = top + _TITLE_PIXELS + step - _LINE_PIXELS / 2
        lines = tuple(first + step * place for place in range(len(panel.scores)))
        names = _named(panel.baselines)
        lanes = _lanes(names, layout.width, low)
        band = _Band(panel, top, lines, lines[-1] + _LINE_PIXELS / 2 + 3, names, lanes)
        bands.append(band)
        top = band.end
    return bands


def _simple_methods(
    bands: list[_Band], layout: Layout, low: float, x: "alt.X", y: "alt.Y"
) -> list["alt.Chart"]:
    """Rules through the bands, and their names below."""
    import altair as alt

    layers: list[alt.Chart] = []
    for band in bands:
        for text, value in band.names:
            rule = {"value": value, "at": band.top + _TITLE_PIXELS - 3, "until": band.bottom}
            layers.append(
                drawn([rule], x=x, y=y)
                .mark_rule(
                    color=MUTED, strokeWidth=1.3, strokeDash=[4, 3] if CHANCE in text else [1, 0]
                )
                .encode(y2="until:Q")
            )
    names = [
        (_middle(text, value, layout.width, low), band.bottom + _LANE_PIXELS * lane + 10, text)
        for band in bands
        for (text, value), lane in zip(band.names, band.lanes, strict=True)
    ]
    layers += [
        drawn([{"at": at, "text": text}], y=y)
        .mark_text(fontSize=11, color=MUTED)
        .encode(x=alt.value(middle), text="text:N")
        for middle, at, text in names
    ]
    return layers


def _models(bands: list[_Band], layout: Layout, x: "alt.X", y: "alt.Y") -> list["alt.Chart"]:
    """Bars, rings, dots, names and numbers of all models, each hidden with its model."""
    import altair as alt

    rows = [
        _row(band.panel, score, at)
        for band in bands
        for score, at in zip(band.panel.scores, band.lines, strict=True)
    ]
    bars = [row | {"value": row["low"]} for row in rows if row["stderr"] is not None]
    rings = [
        row | {"value": row["untrained"], "weights": "random"}
        for row in rows
        if row["untrained"] is not None
    ]
    color = alt.Color("color:N", scale=None, legend=None)
    stroke, fill = (
        channel("color:N", scale=None, legend=None) for channel in (alt.Stroke, alt.Fill)
    )
    said = [
        alt.Tooltip(f"{field}:N", title=field) for field in ("model", "weights", "task", "metric")
    ]
    value = alt.Tooltip("value:Q", title="score", format=".3f")
    dots = drawn(rows, x=x, y=y, stroke=stroke, fill=fill)
    layers: list[alt.Chart] = [
        drawn(bars, x=x, y=y, color=color)
        .mark_rule(strokeWidth=2.4, opacity=0.6)
        .encode(x2="high:Q"),
        drawn(rings, x=x, y=y, stroke=stroke)
        .mark_point(size=60, fill=PAPER, strokeWidth=1.8, opacity=1)
        .encode(tooltip=[*said, value]),
        dots.mark_point(size=75, opacity=1).encode(
            tooltip=[*said, value, alt.Tooltip("error:N", title="standard error")]
        ),
        *_texts(rows, layout, y),
    ]
    return [hideable(layer, "model") for layer in layers]


def _row(panel: Panel, score: ModelScore, at: float) -> Json:
    """A model's line in a band: what is drawn of it, and what it says when asked."""
    error = score.error or 0.0
    shown = "" if score.error is None else f" ± {score.error:.2f}"
    return {
        "model": score.model,
        "task": panel.task,
        "metric": panel.metric.replace("_", " "),
        "weights": "trained",
        "value": score.value,
        "stderr": score.error,
        "error": "not known" if score.error is None else f"{score.error:.3f}",
        "low": score.value - error,
        "high": score.value + error,
        "untrained": score.untrained,
        "color": score.color,
        "at": at,
        "text": f"{score.value:.2f}{shown}",
    }


def _texts(rows: list[Json], layout: Layout, y: "alt.Y") -> list["alt.Chart"]:
    """Names of models beside or above their lines, numbers at the right."""
    import altair as alt

    color = alt.Color("color:N", scale=None, legend=None)
    name_x, above = (-10, 0.0) if layout is WIDE else (0, _NAME_PIXELS)
    raised = [row | {"at": row["at"] - above} for row in rows]
    align: Literal["right", "left"] = "right" if layout is WIDE else "left"
    name = drawn(raised, y=y).encode(x=alt.value(name_x), text="model:N")
    value = drawn(rows, y=y, color=color).encode(x=alt.value(layout.width + 10), text="text:N")
    return [
        # Rules run behind names; paper around the letters keeps them readable.
        name.mark_text(
            align=align, fontSize=13, fontWeight=600, stroke=PAPER, strokeWidth=4, color=PAPER
        ),
        name.mark_text(align=align, fontSize=13, fontWeight=600).encode(color=color),
        value.mark_text(align="left", fontSize=12),
    ]


def _values(panel: Panel) -> list[float]:
    stated = [score.value for score in panel.scores]
    return stated + [value for _, value in panel.baselines]


def _heading(panel: Panel) -> str:
    return f"{panel.task}: {panel.metric.replace('_', ' ')}"


def _named(baselines: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """What stands below the rules, and where; methods of one value share a name."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for name, value in baselines:
        groups.setdefault(f"{value:.2f}", []).append((name, value))
    return tuple(
        (f"{', '.join(name for name, _ in members)} {shown}", members[0][1])
        for shown, members in groups.items()
    )


def _middle(text: str, value: float, width: int, low: float) -> float:
    """Where the middle of a name stands: at its rule, but within the panel."""
    half = len(text) * _CHARACTER_PIXELS / 2
    return min(max((value - low) / (1 - low) * width, half), max(width - half, half))


def _lanes(names: tuple[tuple[str, float], ...], width: int, low: float) -> tuple[int, ...]:
    """For each name the first lane in which it meets no other."""
    taken: list[tuple[int, float, float]] = []
    for text, value in names:
        middle, half = _middle(text, value, width, low), (len(text) + 1) * _CHARACTER_PIXELS / 2
        met = {lane for lane, at, other in taken if abs(at - middle) < half + other}
        taken.append((min(set(range(len(taken) + 1)) - met), middle, half))
    return tuple(lane for lane, _, _ in taken)
