"""Figures as data: one grammar (Altair) for the page, the paper and the terminal's next tool.

`learning_curves` returns a `Figure`: the same chart in two layouts, wide and narrow, as Vega-Lite
specifications, and the numbers drawn. `save` writes what people reuse: SVG, PNG, the wide
specification, and the numbers as CSV. No legend has to be matched: every line carries its name.
"""

import csv
import io
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ettin.files import Json, write_atomic
from ettin.report.collect import BASELINES, Run

if TYPE_CHECKING:
    import altair as alt

# Okabe and Ito's colours that stay apart for every kind of colour vision, on white and on black.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, MUTED, GRID = "#1f2328", "#6b7280", "#e5e7eb"
_FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
_POINTS_AT_MOST = 240
_LABEL_PIXELS = 17
_PNG_SCALE = 2.0
# The renderer measures text in its own font; a browser's may be a little wider.
_PADDING = {"left": 8, "top": 8, "right": 24, "bottom": 8}


class Layout(NamedTuple):
    """How large a figure is drawn, in pixels, without axes and labels."""

    width: int
    height: int
    small_height: int


WIDE = Layout(620, 340, 58)
NARROW = Layout(205, 250, 44)


@dataclass(frozen=True)
class Figure:
    """One chart.

    Attributes:
        name: file name without ending.
        title: what it shows, in a few words.
        caption: how to read it, in a sentence or two.
        wide: Vega-Lite specification for pages and papers.
        narrow: the same for a telephone.
        data: the numbers drawn, one dictionary a point.
    """

    name: str
    title: str
    caption: str
    wide: Json
    narrow: Json
    data: tuple[Json, ...]


class _Label(NamedTuple):
    """Text at the right end of a line, and the loss at which the line ends."""

    text: str
    loss: float
    color: str
    weight: Literal[400, 600]


def learning_curves(runs: tuple[Run, ...]) -> Figure:
    """Loss over text tokens of every run, with its baselines; the learning rate below.

    Args:
        runs: at least one run with metrics.
    """
    names = labels_of(runs)
    colors = _colors(runs)
    data = [point for run in runs for point in _points(run, names[run.path])]
    caption = (
        "Lines with points: loss on held-out text. Thin lines: loss on training rows, smoothed. "
        "Dashed: n-gram models fitted on the consumed tokens and scored on the same held-out "
        "labels. Lower is better."
    )
    drawn = {names[run.path]: colors[run.path] for run in runs}
    wide, narrow = (_chart(runs, data, drawn, layout).to_dict() for layout in (WIDE, NARROW))
    return Figure("learning-curves", "How they learned", caption, wide, narrow, tuple(data))


def labels_of(runs: tuple[Run, ...]) -> dict[Path, str]:
    """What to call each run: encoder or decoder where that tells them apart, else their names."""
    kinds = [run.kind for run in runs]
    if len(set(kinds)) == len(kinds):
        return {run.path: run.kind for run in runs}
    unique = len({run.name for run in runs}) == len(runs)
    labels: dict[Path, str] = {}
    for run in runs:
        label = _short(run.name if unique else f"{run.path.parent.name}/{run.name}")
        same = sum(other.partition(" (")[0] == label for other in labels.values())
        labels[run.path] = f"{label} ({same + 1})" if same else label
    return labels


def svg(spec: Json) -> str:
    """A Vega-Lite specification as SVG; text inside is escaped by the renderer."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec))


def save(figure: Figure, folder: Path) -> list[Path]:
    """Write a figure as SVG, PNG (two pixels a point), Vega-Lite and CSV; returns the paths."""
    import vl_convert

    contents: dict[str, bytes | str] = {
        ".svg": svg(figure.wide),
        ".png": vl_convert.vegalite_to_png(figure.wide, scale=_PNG_SCALE),
        ".vl.json": json.dumps(figure.wide, indent=1, sort_keys=True) + "\n",
        ".csv": table_csv(figure.data),
    }
    for ending, content in contents.items():
        write_atomic(folder / (figure.name + ending), content)
    return [folder / (figure.name + ending) for ending in contents]


def table_csv(rows: tuple[Json, ...]) -> str:
    """Dictionaries as CSV with a header line; a value that is missing stays empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def smooth(values: list[float], span: float) -> list[float]:
    """Exponential moving average over about `span` values, without a bias towards the start."""
    keep = 1 - 1 / max(span, 1.0)
    total = weight = 0.0
    averages = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        averages.append(total / weight)
    return averages


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:12]}…{name[-11:]}"


def _colors(runs: tuple[Run, ...]) -> dict[Path, str]:
    """Blue encoder and orange decoder for a pair; the palette in turn otherwise."""
    if len({run.kind for run in runs}) == len(runs):
        return {run.path: PALETTE[int(run.kind == "decoder")] for run in runs}
    return {run.path: PALETTE[place % len(PALETTE)] for place, run in enumerate(runs)}


def _points(run: Run, name: str) -> list[Json]:
    loss = run.series("loss")
    smoothed = smooth([value for _, value in loss], span=len(loss) / 40)
    training = list(zip((at for at, _ in loss), smoothed, strict=True))
    series = {
        "training": _thin(training),
        "held-out": run.series("validation_loss"),
        "learning rate": _thin(run.series("learning_rate")),
    }
    return [
        {"run": name, "series": kind, "tokens": at, "value": value}
        for kind, points in series.items()
        for at, value in points
    ]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 240 of the points, evenly spaced, the last one always kept."""
    every = max(1, -(-len(points) // _POINTS_AT_MOST))
    return points[: len(points) - 1 : every] + points[-1:]


def _chart(
    runs: tuple[Run, ...], data: list[Json], colors: dict[str, str], layout: Layout
) -> "alt.VConcatChart":
    import altair as alt

    curves = [point for point in data if point["series"] != "learning rate"]
    rates = [point for point in data if point["series"] == "learning rate"]
    names = labels_of(runs)
    heights = [point["value"] for point in curves]
    heights += [nats for run in runs for nats in run.baselines.values()]
    margin = 0.05 * (max(heights) - min(heights)) or 0.1
    domain = (min(heights) - margin, max(heights) + margin)

    x = alt.X(
        "tokens:Q",
        title="text tokens",
        scale=alt.Scale(domain=[0, max(point["tokens"] for point in data)], nice=False),
        axis=alt.Axis(
            labelExpr="replace(format(datum.value, '~s'), 'G', 'B')",
            tickCount=layout.width // 80,
            grid=False,
        ),
    )
    y = alt.Y(
        "value:Q",
        title="loss (nats per label)",
        scale=alt.Scale(domain=list(domain), nice=False),
        axis=alt.Axis(tickCount=6),
    )
    color = alt.Color(
        "run:N", legend=None, scale=alt.Scale(domain=list(colors), range=list(colors.values()))
    )
    # The panel below has the same tokens, and says so once for both.
    bare_x = x.axis(labels=False, ticks=False, title=None, grid=False)
    loss = alt.Chart(alt.InlineData(values=curves)).encode(x=bare_x, y=y, color=color)
    rules = [
        {"value": nats, "run": names[run.path]} for run in runs for nats in run.baselines.values()
    ]
    layers: list[alt.Chart] = [
        alt.Chart(alt.InlineData(values=rules))
        .mark_rule(strokeDash=[5, 4], strokeWidth=1.2, opacity=0.75)
        .encode(y=y, color=color),
        loss.transform_filter("datum.series == 'training'").mark_line(strokeWidth=1, opacity=0.55),
        loss.transform_filter("datum.series == 'held-out'").mark_line(
            strokeWidth=2.2, point=alt.OverlayMarkDef(size=36, filled=True)
        ),
    ]
    layers += [
        alt.Chart(alt.InlineData(values=[{"value": at, "text": label.text}]))
        .mark_text(align="left", dx=10, fontSize=13, fontWeight=label.weight, color=label.color)
        .encode(x=alt.value(layout.width), y=y, text="text:N")
        for label, at in _spread(_labels(runs, colors), domain, layout.height)
    ]
    top = alt.layer(*layers).properties(width=layout.width, height=layout.height)
    bottom = (
        alt.Chart(alt.InlineData(values=rates))
        .mark_line(strokeWidth=1.5, color=MUTED)
        .encode(
            x=x,
            y=alt.Y(
                "value:Q",
                title=["learning", "rate"],
                axis=alt.Axis(
                    values=[0, max((point["value"] for point in rates), default=0.0)],
                    labelExpr="datum.value == 0 ? '0' : format(datum.value, '.1~e')",
                ),
            ),
            detail="run:N",
        )
        .properties(width=layout.width, height=layout.small_height)
    )
    return _styled(alt.vconcat(top, bottom, spacing=14).resolve_scale(x="shared"))


def _styled(chart: "alt.VConcatChart") -> "alt.VConcatChart":
    import altair as alt

    axis: dict[str, Any] = {
        "labelColor": MUTED, "titleColor": MUTED, "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "gridColor": GRID, "domainColor": GRID, "tickColor": GRID,
        "labelPadding": 5, "titlePadding": 10,
    }  # fmt: skip
    styled: alt.VConcatChart = (
        chart.configure(font=_FONT, background="white", padding=_PADDING)
        .configure_axis(**axis)
        .configure_view(stroke=None)
    )
    return styled


def _labels(runs: tuple[Run, ...], colors: dict[str, str]) -> list[_Label]:
    """The end of every held-out curve, and every baseline; baselines of one name that lie close
    together share a label.
    """
    names = labels_of(runs)
    labels = [
        _Label(
            f"{names[run.path]} {run.validation_loss:.2f}",
            run.validation_loss,
            colors[names[run.path]],
            600,
        )
        for run in runs
        if run.validation_loss is not None
    ]
    for baseline in BASELINES:
        values = sorted(run.baselines[baseline] for run in runs if baseline in run.baselines)
        for group in _groups(values):
            shown = dict.fromkeys(f"{value:.2f}" for value in (group[0], group[-1]))
            labels.append(
                _Label(f"{baseline} {'–'.join(shown)}", sum(group) / len(group), MUTED, 400)
            )
    return labels


def _groups(values: list[float]) -> list[list[float]]:
    """Sorted values in runs whose neighbours differ by less than 0.15 nats."""
    groups = [values[:1]] if values else []
    for before, value in pairwise(values):
        if value - before < 0.15:
            groups[-1].append(value)
        else:
            groups.append([value])
    return groups


def _spread(
    labels: list[_Label], domain: tuple[float, float], height: int
) -> list[tuple[_Label, float]]:
    """Each label with the loss at which to write it, so that no two overlap."""
    gap = _LABEL_PIXELS * (domain[1] - domain[0]) / height
    placed: list[tuple[_Label, float]] = []
    for label in sorted(labels, key=lambda label: -label.loss):
        at = min(label.loss, placed[-1][1] - gap) if placed else label.loss
        placed.append((label, at))
    # Whatever was pushed below the panel comes back up, and pushes in turn.
    floor = domain[0]
    for place in range(len(placed) - 1, -1, -1):
        label, at = placed[place]
        placed[place] = (label, max(at, floor))
        floor = placed[place][1] + gap
    return placed
