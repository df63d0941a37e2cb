"""Results of several seeds as one number with its error, and which results may be compared.

    average(results)        results of one measure → value, error, how many seeds of training
    chosen(results)         of each model and measure one kind of settings: that which most have
    compared(results)       of a family the tasks that all models have, and the mean over them

An error is one standard error: the larger of what records state of their examples, and of what the
seeds show. The examples are the same for every seed, so that more seeds do not make the former
smaller.
"""

import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from ettin.report.tidy import Measure, Result


class Average(NamedTuple):
    """A mean over seeds: its value, one standard error if it is known, seeds of training."""

    value: float
    error: float | None
    seeds: int


class Compared(NamedTuple):
    """The mean over the tasks that all compared models have.

    Attributes:
        tasks: they.
        metrics: theirs, each once.
        limit: what all tasks are limited to; empty: they are whole, or differ.
        values: run → its mean over tasks, with the results that it is the mean of.
        left_out: runs that lack one of the tasks.
        chance: the mean of guessing, where all tasks know it.
    """

    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    limit: str
    values: dict[str, tuple[Average, tuple[Result, ...]]]
    left_out: tuple[str, ...]
    chance: float | None


def average(results: Iterable[Result]) -> Average:
    """One number of results that differ in seeds alone: of training, of the task, or both.

    Args:
        results: at least one, each with a value.
    """
    of_runs: dict[str, list[Result]] = {}
    for result in results:
        of_runs.setdefault(result.run, []).append(result)
    parts = [_of_run(members) for members in of_runs.values()]
    return of_runs_average(parts)


def of_runs_average(parts: list[Average]) -> Average:
    """The mean over runs that differ in their seed of training alone."""
    return of_seeds([(part.value, part.error) for part in parts], seeds=len(parts))


def of_seeds(measured: list[tuple[float, float | None]], *, seeds: int) -> Average:
    """The mean of values that differ in a seed alone, each with its error where it is known.

    Args:
        measured: at least one.
        seeds: of training, among them.
    """
    values = [value for value, _ in measured]
    errors = (mean_of_known(error for _, error in measured), _spread(values))
    known = [error for error in errors if error is not None]
    return Average(statistics.fmean(values), max(known, default=None), seeds)


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known; None when none is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def chosen(results: Iterable[Result]) -> tuple[Result, ...]:
    """Each checkpoint, measure and seed once: under the settings that most runs have."""
    kept = list(results)
    held: dict[tuple[Measure, str, str], set[str]] = {}
    for result in kept:
        way = result.measure, str(result.record.get("kind")), result.seedless
        held.setdefault(way, set()).add(result.run)
    best: dict[tuple[str, str, Measure], tuple[int, str]] = {}
    for result in kept:
        count = len(held[result.measure, str(result.record.get("kind")), result.seedless])
        place = result.run, result.weights, result.measure
        best[place] = min(best.get(place, (0, "")), (-count, result.seedless))
    found: dict[tuple[object, ...], Result] = {}
    for result in kept:
        place = result.run, result.weights, result.measure
        if best[place][1] == result.seedless:
            found.setdefault((*place, result.task_seed), result)
    return tuple(found.values())


def compared(results: Iterable[Result]) -> Compared | None:
    """The tasks that all models of some results have, and each model's mean over them.

    A task of which there are several measures (another limit, other examples) is compared in that
    which most models have. None where there is nothing.
    """
    kept = chosen(result for result in results if result.value is not None)
    holders: dict[Measure, set[str]] = {}
    for result in kept:
        holders.setdefault(result.measure, set()).add(result.run)
    if not holders:
        return None
    of_task: dict[str, Measure] = {}
    for measure in sorted(holders, key=lambda each: (-len(holders[each]), each[2] != "", each)):
        of_task.setdefault(measure[0], measure)
    most = max(len(holders[measure]) for measure in of_task.values())
    measures = sorted(each for each in of_task.values() if len(holders[each]) == most)
    runs = set.intersection(*(holders[measure] for measure in measures))
    if not runs:
        measures, runs = measures[:1], holders[measures[0]]
    values = {
        run: _mean_over([result for result in kept if result.run == run], measures)
        for run in dict.fromkeys(result.run for result in kept)
        if run in runs
    }
    limits = {measure[2] for measure in measures}
    return Compared(
        tasks=tuple(measure[0] for measure in measures),
        metrics=tuple(dict.fromkeys(measure[1] for measure in measures)),
        limit=limits.pop() if len(limits) == 1 else "",
        values=values,
        left_out=tuple(sorted({result.run for result in kept} - runs)),
        chance=chance_of([results for _, results in values.values()], count=len(measures)),
    )


def chance_of(groups: Iterable[Iterable[Result]], *, count: int) -> float | None:
    """The mean of guessing over tasks; None unless each of so many tasks states one value."""
    stated: dict[str, set[float]] = {}
    for results in groups:
        for result in results:
            for name in ("chance", "uniform"):
                if name in result.baselines:
                    stated.setdefault(result.task, set()).add(round(result.baselines[name], 3))
    if len(stated) != count or any(len(values) > 1 for values in stated.values()):
        return None
    return statistics.fmean(value for (value,) in stated.values())


def _of_run(results: list[Result]) -> Average:
    """The mean over the seeds of the task, of one run."""
    measured = [(each.value, each.error) for each in results if each.value is not None]
    return of_seeds(measured, seeds=1)


def _mean_over(
    results: list[Result], measures: list[Measure]
) -> tuple[Average, tuple[Result, ...]]:
    """The mean over tasks of one run; errors of tasks are independent of each other."""
    used = [[result for result in results if result.measure == measure] for measure in measures]
    parts = [_of_run(members) for members in used]
    errors = [part.error for part in parts]
    known = [error for error in errors if error is not None]
    error = (
        math.sqrt(sum(each**2 for each in known)) / len(parts) if len(known) == len(parts) else None
    )
    value = statistics.fmean(part.value for part in parts)
    return Average(value, error, 1), tuple(result for members in used for result in members)


def _spread(values: list[float]) -> float | None:
    """The standard error of a mean that its values show; None for a single one."""
    if len(values) < 2:
        return None
    return statistics.stdev(values) / math.sqrt(len(values))
