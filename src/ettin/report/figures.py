"""Figures as data: one grammar (Altair) for the page, the paper and the terminal's next tool.

`learning_curves` returns a `Figure`: the same chart in two layouts, wide and narrow, as Vega-Lite
specifications, and the numbers drawn. `save` writes what people reuse: SVG, PDF, PNG, the wide
specification, and the numbers as CSV. No legend has to be matched: every line carries its name.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ettin.files import Json, write_atomic
from ettin.report.captions import caption_of
from ettin.report.chart import NARROW, PALETTE, WIDE, Drawing, Style, chart
from ettin.report.collect import Run
from ettin.report.interaction import Series
from ettin.report.labels import labels_of
from ettin.report.pdf import pdf
from ettin.report.phases import borders_of, phases_of
from ettin.report.tables import table_csv

_POINTS_AT_MOST = 240
_PNG_SCALE = 2.0
_SPAN_AT_LEAST = 4.0

# What a series looks like: a colour of its own, and a dash for whoever sees no colour.
STYLES = {
    "encoder": Style(PALETTE[0], ()),
    "decoder": Style(PALETTE[1], ()),
    "encoder from decoder (mntp)": Style(PALETTE[2], (8, 3)),
    "encoder from decoder (mlm)": Style(PALETTE[3], (2, 3)),
    "decoder from encoder": Style(PALETTE[4], (10, 3, 2, 3)),
}


@dataclass(frozen=True)
class Figure:
    """One chart.

    Attributes:
        name: file name without ending.
        title: what it shows, in a few words.
        caption: how to read it, in a few sentences.
        wide: Vega-Lite specification for pages and papers.
        narrow: the same for a telephone.
        data: the numbers drawn, one dictionary a point.
        series: what the page offers to hide, in the order of its buttons; the specifications read
            their names from `interaction.HIDDEN`.
    """

    name: str
    title: str
    caption: str
    wide: Json
    narrow: Json
    data: tuple[Json, ...]
    series: tuple[Series, ...] = ()


def learning_curves(
    runs: tuple[Run, ...],
    *,
    file_name: str = "learning-curves",
    title: str = "How they learned",
) -> Figure:
    """Loss over text tokens of every run, with its baselines; the learning rate below.

    Args:
        runs: at least one run with metrics.
        file_name: of the figure, without ending.
        title: what it shows, in a few words.
    """
    names = labels_of(runs)
    styles = _styles(runs, names)
    drawing = Drawing(
        runs=runs,
        names=names,
        styles=styles,
        points=tuple(point for run in runs for point in _points(run, names[run.path])),
        borders=tuple(borders_of(runs, names)),
    )
    wide, narrow = (chart(drawing, layout).to_dict() for layout in (WIDE, NARROW))
    series = tuple(Series(names[run.path], *styles[run.path]) for run in runs)
    return Figure(file_name, title, caption_of(runs, names), wide, narrow, drawing.points, series)


def svg(spec: Json) -> str:
    """A Vega-Lite specification as SVG; text inside is escaped by the renderer."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec))


def save(figure: Figure, folder: Path) -> list[Path]:
    """Write a figure as SVG, PDF, PNG (two pixels a point), Vega-Lite, CSV; returns the paths."""
    import vl_convert

    drawing = svg(figure.wide)
    contents: dict[str, bytes | str] = {
        ".svg": drawing,
        ".pdf": pdf(drawing),
        ".png": vl_convert.vegalite_to_png(figure.wide, scale=_PNG_SCALE),
        ".vl.json": json.dumps(figure.wide, indent=1, sort_keys=True) + "\n",
        ".csv": table_csv(figure.data),
    }
    for ending, content in contents.items():
        write_atomic(folder / (figure.name + ending), content)
    return [folder / (figure.name + ending) for ending in contents]


def smooth(values: list[float], span: float) -> list[float]:
    """Exponential moving average over about `span` values, without a bias towards the start."""
    keep = 1 - 1 / max(span, 1.0)
    total = weight = 0.0
    averages = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        averages.append(total / weight)
    return averages


def _styles(runs: tuple[Run, ...], names: dict[Path, str]) -> dict[Path, Style]:
    """A role's own style where runs are called by their roles; else the palette in turn, with the
    role's dash.
    """
    return {
        run.path: STYLES[run.role]
        if names[run.path] == run.role
        else Style(
            PALETTE[place % len(PALETTE)], STYLES[run.role].dash if run.role in STYLES else ()
        )
        for place, run in enumerate(runs)
    }


def _points(run: Run, name: str) -> list[Json]:
    """All points of a run. Phases are smoothed and drawn apart: each may measure otherwise."""
    phases: list[str | None] = [phase.name for phase in phases_of(run)]
    span = max(_SPAN_AT_LEAST, len(run.series("loss")) / 40)
    points: list[Json] = []
    for place, phase in enumerate(phases if len(phases) > 1 else [None]):
        loss = run.series("loss", phase=phase)
        values = [value for _, value in loss]
        # A later phase begins at its level, not with the noise of its first step.
        lead = values[: int(span)] if place else []
        level = [sum(lead) / len(lead)] * len(lead) if lead else []
        smoothed = smooth([*level, *values], span=span)[len(level) :]
        training = list(zip((at for at, _ in loss), smoothed, strict=True))
        series = {
            "training": _thin(training),
            "held-out": run.series("validation_loss", phase=phase),
            "learning rate": _thin(run.series("learning_rate", phase=phase)),
        }
        shown = phase or (phases[0] if phases else None)
        points += [
            {"run": name, "phase": shown, "series": kind, "tokens": at, "value": value}
            for kind, curve in series.items()
            for at, value in curve
        ]
    return points


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 240 of the points, evenly spaced, the last one always kept."""
    every = max(1, -(-len(points) // _POINTS_AT_MOST))
    return points[: len(points) - 1 : every] + points[-1:]
