"""The learning curves of many runs: a figure for each size, native runs apart from cross runs.

With more runs of a size than colours there is a figure for each training seed.
"""

from collections.abc import Callable
from typing import NamedTuple

from ettin.records import file_name
from ettin.report.chart import PALETTE
from ettin.report.collect import Run, number
from ettin.report.figures import Figure, learning_curves

_NATIVE = ("learning-curves", "How they learned")
_CROSS = ("learning-curves-cross", "After the objective was changed")


class Group(NamedTuple):
    """Runs that share a figure: its file's name, its title, and they."""

    name: str
    title: str
    runs: tuple[Run, ...]


def learning_figures(runs: tuple[Run, ...]) -> list[Figure]:
    """Learning curves of all runs that logged a loss; smallest models first."""
    return [
        learning_curves(group.runs, file_name=group.name, title=group.title)
        for group in groups_of(runs)
    ]


def groups_of(runs: tuple[Run, ...]) -> list[Group]:
    """Which runs share a figure, native ones first."""
    measured = [run for run in runs if run.series("loss")]
    found = []
    for cross, (name, title) in ((False, _NATIVE), (True, _CROSS)):
        own = [run for run in measured if (run.variant == "cross") == cross]
        for words, group in _groups(own):
            file = "-".join([name, *map(file_name, words)])
            found.append(Group(file, ", ".join([title, *words]), group))
    return found


def _groups(runs: list[Run]) -> list[tuple[list[str], tuple[Run, ...]]]:
    """Runs of one size, or of one size and seed, with the words that tell them from the others."""
    found: list[tuple[list[str], tuple[Run, ...]]] = []
    sizes = _parted(sorted(runs, key=_parameters), _size)
    for size, group in sizes:
        words = [size] if len(sizes) > 1 else []
        seeds = _parted(group, _seed)
        if len(group) <= len(PALETTE) or len(seeds) < 2:
            found.append((words, tuple(group)))
            continue
        found += [([*words, f"seed {seed}"], tuple(members)) for seed, members in seeds]
    return found


def _parted(runs: list[Run], key: Callable[[Run], str]) -> list[tuple[str, list[Run]]]:
    parts: dict[str, list[Run]] = {}
    for run in runs:
        parts.setdefault(key(run), []).append(run)
    return list(parts.items())


def _size(run: Run) -> str:
    return str(run.facts.get("size", "size not stated"))


def _seed(run: Run) -> str:
    return str(run.recipe.get("seed", "not stated"))


def _parameters(run: Run) -> float:
    return number(run.facts.get("parameters")) or 0.0
