"""What the runs of a suite will read of each source, told before any of them begins.

Only a corpus that is prepared knows how many rows its sources have, so that a suite which prepares
its own is told after that: `ettin suite plan` again, or `ettin train --dry-run`.
"""

from collections.abc import Iterable, Iterator

from ettin.files import Json
from ettin.recipe import Recipe
from ettin.shares import Drawn, describe_sources, drawn, rows_of, supply_of, weights_of
from ettin.suite.job import Job


def sources_of_run(recipe: Recipe, corpus: Json) -> Json:
    """Phase → source → `rows`, `tokens`, `epochs`; without phases that the corpus has no rows for.

    Args:
        recipe: of the run.
        corpus: facts of the corpus's manifest.

    Raises:
        InputError: a mixture that does not fit the corpus or the phase.
    """
    told: Json = {}
    for phase in recipe.phases:
        if phase.context_length in corpus["context_lengths"]:
            supply = supply_of(corpus, phase.context_length)
            if phase.row_order is None:
                weights = weights_of(recipe, phase, supply)
            else:
                weights = {name: each.rows for name, each in supply.items()}
            read = drawn(weights, supply=supply, rows=rows_of(phase))
            told[phase.name] = {name: each._asdict() for name, each in read.items()}
    return told


def describe_reading(jobs: Iterable[Job]) -> Iterator[str]:
    """Lines for people: what phases read, once for all jobs of which it is the same."""
    reading: dict[tuple[str, ...], list[str]] = {}
    for job in jobs:
        for phase, sources in job.sources.items():
            lines = describe_sources({name: Drawn(**each) for name, each in sources.items()})
            reading.setdefault((phase, *lines), []).append(job.name.removeprefix("train-"))
    for (phase, *lines), names in reading.items():
        yield f"{phase} of {', '.join(names)} reads"
        yield from (f"  {line}" for line in lines)
