"""Scores against size: classification, retrieval and generation, the four roles as series.

A panel is a family of tasks, its score the mean over the tasks that all compared models have. The
paper's measures have a figure of their own: its numbers as hollow marks, and ours where they were
measured likewise.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ettin.console import human
from ettin.files import Json
from ettin.report.averages import Average, Compared, chance_of, compared, of_runs_average
from ettin.report.chart import NARROW, WIDE
from ettin.report.figures import STYLES, Figure
from ettin.report.line_panels import SHAPES, Axis, Line, Panel, numbers_of, panels_chart
from ettin.report.published import (
    GENERATIVE,
    MNLI,
    MSMARCO,
    PAPER,
    PaperColumn,
    is_as_published,
    ours,
    published,
)
from ettin.report.scores import can_be_drawn
from ettin.report.tidy import ELSEWHERE, Result, finals, metric_words

PUBLISHED = "sizes-published"
"""The figure of the paper's measures."""
_TOOLTIPS = [
    ("role", "model", ""), ("size", "size", ""), ("parameters", "parameters", ".3~s"),
    ("value", "score", ".3f"), ("error", "standard error", ".3f"), ("seeds", "training seeds", "d"),
    ("tasks", "tasks", ""), ("published", "published", ""),
]  # fmt: skip


class Family(NamedTuple):
    """Tasks that are shown together: a word for them, and how their names begin."""

    name: str
    begins: str


FAMILIES = (
    Family("Classification", "classification/"),
    Family("Classification, quick task", "quick/classification"),
    Family("Retrieval", "retrieval/"),
    Family("Retrieval, quick task", "quick/retrieval"),
    Family("Generation", "lm/"),
    Family("Generation, quick task", "quick/likelihood"),
)
_OF_PAPER = (("Classification", MNLI), ("Retrieval", MSMARCO), ("Generation", GENERATIVE))


def size_figures(results: tuple[Result, ...], *, with_published: bool) -> list[Figure]:
    """Scores of last checkpoints against size; and the paper's measures, if they are asked for.

    Args:
        results: of all checkpoints.
        with_published: draw the paper's measures, with its numbers and those of ours that compare.
    """
    ended = tuple(
        result
        for result in finals(results)
        if result.role != ELSEWHERE and can_be_drawn(result.record) and result.parameters
    )
    figures = []
    if with_published:
        panels = [_paper_panel(name, column, ended) for name, column in _OF_PAPER]
        title = "The paper's measures, by size"
        figures.append(_figure(PUBLISHED, title, panels, [], with_published=True))
    own = families(ended)
    if own:
        panels = [_panel(family, found) for family, found in own]
        notes = [_note(family, found) for family, found in own]
        title = "What they can do, by size"
        figures.append(_figure("sizes", title, panels, notes, with_published=False))
    return figures


def _figure(
    name: str, title: str, panels: list[Panel], notes: list[str], *, with_published: bool
) -> Figure:
    points = tuple(
        {"panel": panel.title, **numbers_of(point)} for panel in panels for point in panel.points
    )
    lines = _lines(points)
    wide, narrow = (
        panels_chart(panels, lines, _axis(points), layout, tooltips=_TOOLTIPS)
        for layout in (WIDE, NARROW)
    )
    caption = _caption(panels, notes, with_published=with_published)
    return Figure(
        name, title, caption, wide, narrow, points, tuple(line.as_series for line in lines)
    )


def families(ended: Iterable[Result]) -> list[tuple[Family, Compared]]:
    """Every family that some models were measured on, with what can be compared in it."""
    kept = list(ended)
    found = []
    for family in FAMILIES:
        same = compared(result for result in kept if result.task.startswith(family.begins))
        if same is not None:
            found.append((family, same))
    return found


def role_averages(found: Compared) -> dict[tuple[str, str], tuple[Average, Result]]:
    """(role, size) → the mean over runs that differ in their seed alone, and one of the results."""
    groups: dict[tuple[str, str], list[tuple[Average, Result]]] = {}
    for value, results in found.values.values():
        first = results[0]
        groups.setdefault((first.role, first.size or str(first.parameters)), []).append(
            (value, first)
        )
    return {
        key: (of_runs_average([value for value, _ in members]), members[0][1])
        for key, members in groups.items()
    }


def _panel(family: Family, found: Compared) -> Panel:
    points = tuple(
        _point(role, first.size, first.parameters or 0, value, tasks=", ".join(found.tasks))
        for (role, _), (value, first) in role_averages(found).items()
    )
    metric = metric_words(found.metrics[0]) if len(found.metrics) == 1 else "main metrics"
    if len(found.tasks) == 1:
        title = f"{family.name}: {metric} on {found.tasks[0]}"
    else:
        title = f"{family.name}: mean over {len(found.tasks)} tasks ({metric})"
    if found.limit:
        title += f" (at most {found.limit} examples)"
    rules = (("chance", found.chance),) if found.chance is not None else ()
    return Panel(title, points, rules)


def _note(family: Family, found: Compared) -> str:
    """What a panel is the mean of, and who is not in it."""
    said = ""
    if len(found.tasks) > 1:
        said = f"{family.name} is the mean over {', '.join(found.tasks)}. "
    if found.left_out:
        without = f"{len(found.left_out)} models lack" if len(found.left_out) > 1 else (
            f"{found.left_out[0]} lacks"
        )  # fmt: skip
        said += f"{without} a task of {family.name.lower()} and is not shown in it. "
    return said.strip()


def _paper_panel(name: str, column: PaperColumn, ended: tuple[Result, ...]) -> Panel:
    """A measure of the paper: its numbers, and ours where they were measured likewise."""
    points = [
        {
            **_point(
                row.role, row.size, row.parameters or 0, Average(row.percent / 100, None, 1),
                tasks=column.heading, series=f"{row.role}, published",
            ),
            "published": f"{'≈ ' if row.approximate else ''}{row.source}",
        }
        for row in published("cross")
        if (row.task, row.metric) == (column.task, column.metric)
    ]  # fmt: skip
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in ended:
        groups.setdefault((result.role, result.size or str(result.parameters)), []).append(result)
    for (role, _), members in groups.items():
        value = ours(members, column)
        if value is not None:
            first = members[0]
            points.append(
                _point(role, first.size, first.parameters or 0, value, tasks=column.heading)
            )
    used = [
        result for result in ended if result.task in dict(column.parts) and is_as_published(result)
    ]
    chance = chance_of([used], count=len(column.parts))
    rules = (("chance", chance),) if chance is not None else ()
    words = {MNLI: "accuracy on MNLI", MSMARCO: "nDCG@10 on MS MARCO dev"}
    return Panel(
        f"{name}: {words.get(column, 'mean of the ten tasks of the paper')}", tuple(points), rules
    )


def _point(
    role: str, size: str, parameters: int, value: Average, *, tasks: str, series: str | None = None
) -> Json:
    error = value.error
    return {
        "series": series or role, "role": role, "size": size, "parameters": parameters,
        "x": parameters, "value": value.value, "error": error,
        "low": None if error is None else value.value - error,
        "high": None if error is None else value.value + error,
        "seeds": value.seeds if series is None else None, "tasks": tasks,
    }  # fmt: skip


def _lines(points: tuple[Json, ...]) -> list[Line]:
    """Every series there is: each role, and each role's published numbers."""
    there = {str(point["series"]) for point in points}
    lines = [
        Line(role, role, style.color, style.dash, SHAPES[role])
        for role, style in STYLES.items()
        if role in there
    ]
    for role, style in STYLES.items():
        name = f"{role}, published"
        if name in there:
            label = "published" if role in there else name
            dash = style.dash or (3, 2)
            lines.append(Line(name, label, style.color, dash, SHAPES[role], hollow=True))
    return lines


def _axis(points: tuple[Json, ...]) -> Axis:
    sizes = sorted({float(point["parameters"]) for point in points})
    # Room on both sides, so that marks and bars beside each other stay inside.
    room = max(1.1, (sizes[-1] / sizes[0]) ** 0.09) if len(sizes) > 1 else 1.5
    return Axis("parameters (log scale)", "log", (sizes[0] / room, sizes[-1] * room), tuple(sizes))


def _caption(panels: list[Panel], notes: list[str], *, with_published: bool) -> str:
    sentences = [
        "Higher is better. Scores of last checkpoints; the vertical axes do not begin at 0.",
        *dict.fromkeys(note for note in notes if note),
    ]
    own = [point for panel in panels for point in panel.points if "published" not in point]
    if any(point["error"] is not None for point in own):
        several = any((point["seeds"] or 1) > 1 for point in own)
        among = (
            "the larger of that over examples and that between training seeds"
            if several
            else "over examples, of a single training seed"
        )
        sentences.append(f"Bars: one standard error each way, {among}.")
    if any(panel.rules for panel in panels):
        sentences.append("Dashed rules: chance.")
    sentences.append(
        "Twins have the same number of parameters; their marks stand beside each other to be seen."
    )
    if with_published:
        sentences.append(
            f"Hollow marks: published ({PAPER}, table 9; some values, marked ≈ in the numbers, "
            "were read from a figure), without errors, since none were printed."
        )
    return " ".join(sentences)


def described_size(size: str, parameters: int | None) -> str:
    """`nano (1.6M parameters)`."""
    if parameters is None:
        return size or "a size that is not stated"
    return f"{size} ({human(parameters)} parameters)" if size else f"{human(parameters)} parameters"
