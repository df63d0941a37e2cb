"""The runs of a suite: what each is called, what it trains, and from whose weights it begins.

encoder-17m   decoder-17m                              a pair, trained from nothing
encoder-from-decoder-17m   decoder-from-encoder-17m    each goes on from the last checkpoint of
the other's native run
encoder-17m-seed22                                     every seed but the first is named
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ettin.recipe import CROSS, Objective, Recipe, Suite
from ettin.schedules import clock, saved_steps, tag, total_steps
from ettin.suite_file import SuiteFile


@dataclass(frozen=True)
class SuiteRun:
    """One training run.

    Attributes:
        name: unique in the suite.
        size: of the model.
        seed: of the training.
        objective: that it is trained with.
        start: the name of the run whose last checkpoint it begins with; None: from nothing.
        overrides: `key.path=value` that make the suite's file its recipe.
        recipe: with the phases of this run alone.
    """

    name: str
    size: str
    seed: int
    objective: Objective
    start: str | None
    overrides: tuple[str, ...]
    recipe: Recipe

    @property
    def tags(self) -> list[str]:
        """Its checkpoints in order, the untrained model first."""
        phases = self.recipe.phases
        later = [tag(phase, step) for phase in phases for step in saved_steps(phase)]
        return [tag(phases[0], 0), *later]

    @property
    def clocks(self) -> list[int]:
        """Nominal tokens at each of `tags`, counted from the run's first step."""
        clocks, before = [0], 0
        for phase in self.recipe.phases:
            clocks += [before + clock(phase, step) for step in saved_steps(phase)]
            before += clock(phase, total_steps(phase))
        return clocks


def runs_of(file: SuiteFile) -> list[SuiteRun]:
    """All runs: size by size and seed by seed, native ones before those that start from them."""
    suite = file.suite
    return [
        run
        for size in suite.sizes
        for seed in suite.seeds
        for run in _of_one_seed(file, size=size, seed=seed)
    ]


def _of_one_seed(file: SuiteFile, *, size: str, seed: int) -> Iterator[SuiteRun]:
    suite = file.suite
    ending = f"-{size}" if seed == suite.seeds[0] else f"-{size}-seed{seed}"
    overrides = tuple(file.overrides(size, seed=seed))
    kinds = {"mlm": "encoder", "clm": "decoder"}
    for native in suite.objectives:
        recipe = file.recipe(size, seed=seed, objective=native).of_phases(None)
        yield SuiteRun(kinds[native] + ending, size, seed, native, None, overrides, recipe)
    for objective in suite.cross:
        twin = "encoder" if objective == "clm" else "decoder"
        recipe = file.recipe(size, seed=seed, objective=objective).of_phases(CROSS)
        yield SuiteRun(
            _name_of_cross(suite, objective) + ending,
            size, seed, objective, twin + ending, overrides, recipe,
        )  # fmt: skip


def _name_of_cross(suite: Suite, objective: Objective) -> str:
    """The objective belongs to the name only where both kinds of encoder are made."""
    if objective == "clm":
        return "decoder-from-encoder"
    both = {"mlm", "mntp"} <= set(suite.cross)
    return f"encoder-from-decoder-{objective}" if both else "encoder-from-decoder"
