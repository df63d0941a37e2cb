"""Scores over tokens seen: one panel a task, a line a role and size.

Native runs and cross runs have figures of their own: a cross run begins at its own 0 tokens, with
weights that the other objective had trained.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ettin.files import Json
from ettin.records import file_name
from ettin.report.averages import average, chance_of, chosen
from ettin.report.chart import NARROW, WIDE
from ettin.report.collect import Run
from ettin.report.figures import STYLES, Figure
from ettin.report.labels import Border
from ettin.report.line_panels import SHAPES, Axis, Line, Panel, numbers_of, panels_chart
from ettin.report.phases import borders_of
from ettin.report.scores import UNTRAINED, can_be_drawn
from ettin.report.tidy import ELSEWHERE, Measure, Result, metric_words, size_order

_LINES_AT_MOST = 6
_DASHES: tuple[tuple[int, ...], ...] = ((), (7, 3), (2, 3))
"""Of sizes that share a figure, largest first."""
_TOOLTIPS = [
    ("series", "model", ""), ("tag", "checkpoint", ""), ("x", "tokens", ".3~s"),
    ("value", "score", ".3f"), ("error", "standard error", ".3f"), ("seeds", "training seeds", "d"),
]  # fmt: skip


class _Kind(NamedTuple):
    """Runs that may share an axis."""

    cross: bool
    name: str
    title: str


_KINDS = (
    _Kind(cross=False, name="trajectories", title="What they could do after so many tokens"),
    _Kind(
        cross=True,
        name="trajectories-cross",
        title="What they could do after the objective was changed",
    ),
)


def trajectory_figures(results: tuple[Result, ...], runs: tuple[Run, ...]) -> list[Figure]:
    """Figures of all runs of which several checkpoints were measured on the same task.

    Args:
        results: of all checkpoints.
        runs: tell where phases begin, where they are among what was given.
    """
    measured = _followed(
        result
        for result in results
        if result.role != ELSEWHERE and result.tokens is not None and can_be_drawn(result.record)
    )
    figures = []
    for kind in _KINDS:
        own = [result for result in measured if ("from" in result.role) == kind.cross]
        sizes = list(dict.fromkeys(result.size for result in sorted(own, key=size_order)))
        lines = {(result.role, result.size) for result in own}
        if not own:
            continue
        if len(lines) <= _LINES_AT_MOST and len(sizes) <= len(_DASHES):
            figures.append(_figure(kind, own, runs, size=None, several=len(sizes) > 1))
            continue
        for size in sizes:
            alone = [result for result in own if result.size == size]
            figures.append(_figure(kind, alone, runs, size=size, several=False))
    return figures


def _followed(results: Iterable[Result]) -> list[Result]:
    """Results of runs and measures that have more than one checkpoint."""
    kept = chosen(results)
    places: dict[tuple[str, Measure], set[int]] = {}
    for result in kept:
        places.setdefault((result.run, result.measure), set()).add(result.tokens or 0)
    return [result for result in kept if len(places[result.run, result.measure]) > 1]


def _figure(
    kind: _Kind, results: list[Result], runs: tuple[Run, ...], *, size: str | None, several: bool
) -> Figure:
    lines = _lines(results, several=several)
    borders = _borders(results, runs, cross=kind.cross)
    panels = [
        _panel(
            measure, [each for each in results if each.measure == measure], borders, several=several
        )
        for measure in dict.fromkeys(result.measure for result in results)
    ]
    end = max(float(point["x"]) for panel in panels for point in panel.points)
    axis = Axis("text tokens", "linear", (0.0, end or 1.0))
    wide, narrow = (
        panels_chart(panels, lines, axis, layout, tooltips=_TOOLTIPS) for layout in (WIDE, NARROW)
    )
    data = tuple(
        {"panel": panel.title, "tokens": point["x"], **numbers_of(point)}
        for panel in panels
        for point in panel.points
    )
    return Figure(
        kind.name if size is None else f"{kind.name}-{file_name(size)}",
        kind.title if size is None else f"{kind.title}, {size or 'size not stated'}",
        _caption(kind, panels),
        wide,
        narrow,
        data,
        tuple(line.as_series for line in lines),
    )


def _name(role: str, size: str, *, several: bool) -> str:
    return f"{role}, {size or 'size not stated'}" if several else role


def _lines(results: list[Result], *, several: bool) -> list[Line]:
    """The colour and mark of the role; where sizes share a figure, the largest is solid."""
    pairs = list(dict.fromkeys((result.role, result.size) for result in results))
    sizes = list(dict.fromkeys(each.size for each in sorted(results, key=size_order)))[::-1]
    return [
        Line(
            name=_name(role, size, several=several),
            label=_name(role, size, several=several),
            color=STYLES[role].color,
            dash=_DASHES[sizes.index(size) % len(_DASHES)] if several else STYLES[role].dash,
            shape=SHAPES[role],
            hollow=several and size != sizes[0],
        )
        for role, size in pairs
    ]


def _panel(
    measure: Measure, results: list[Result], borders: tuple[Border, ...], *, several: bool
) -> Panel:
    task, metric, limit, _ = measure
    groups: dict[tuple[str, str, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.role, result.size, result.tokens or 0), []).append(result)
    points: list[Json] = []
    begun: set[str] = set()
    for (role, size, tokens), members in sorted(groups.items(), key=lambda item: item[0][2]):
        series = _name(role, size, several=several)
        untrained = [
            value for each in members if (value := each.baselines.get(UNTRAINED)) is not None
        ]
        if series not in begun and tokens and untrained and "from" not in role:
            # The same shape with random weights is where a native run begins.
            points.append(
                {"series": series, "x": 0, "value": sum(untrained) / len(untrained),
                 "tag": "untrained", "low": None, "high": None, "error": None, "seeds": None}
            )  # fmt: skip
        begun.add(series)
        mean = average(members)
        error = mean.error if mean.seeds > 1 else None
        points.append(
            {
                "series": series, "x": tokens, "value": mean.value, "error": mean.error,
                "low": None if error is None else mean.value - error,
                "high": None if error is None else mean.value + error,
                "seeds": mean.seeds, "tag": members[0].tag,
            }
        )  # fmt: skip
    chance = chance_of([results], count=1)
    title = f"{task}: {metric_words(metric)}"
    return Panel(
        title + (f" (at most {limit} examples)" if limit else ""),
        tuple(points),
        (("chance", chance),) if chance is not None else (),
        borders,
        bands=True,
    )


def _borders(results: list[Result], runs: tuple[Run, ...], *, cross: bool) -> tuple[Border, ...]:
    """Where the phases begin, if it is the same in all runs of these sizes."""
    sizes = {result.size for result in results}
    own = tuple(
        run for run in runs
        if str(run.facts.get("size")) in sizes and (run.variant == "cross") == cross
    )  # fmt: skip
    found = borders_of(own, {run.path: run.role for run in own})
    return tuple(border for border in found if "(" not in border.name)


def _caption(kind: _Kind, panels: list[Panel]) -> str:
    points = [point for panel in panels for point in panel.points]
    sentences = ["Higher is better; the vertical axes do not begin at 0."]
    if kind.cross:
        sentences.append(
            "0 tokens: where the run took over its twin's weights; the twin's tokens are not "
            "counted here."
        )
    if any(point["tag"] == "untrained" for point in points):
        sentences.append("Marks at 0 tokens: the same shape with random weights.")
    if any(point["low"] is not None for point in points):
        sentences.append(
            "Bands: one standard error of the mean over training seeds, or over examples where "
            "that is larger."
        )
    elif any(point["error"] is not None for point in points):
        sentences.append(
            "There is one training seed, so no band; standard errors over examples stand in the "
            "numbers."
        )
    if any(panel.rules for panel in panels):
        sentences.append("Dashed rules: chance.")
    if any(panel.borders for panel in panels):
        sentences.append("Vertical rules: a phase begins.")
    return " ".join(sentences)
