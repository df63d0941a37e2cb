"""What a training run will take: steps, tokens, FLOPs, time, memory and disk, before it begins.

Tokens, steps and FLOPs are exact for full rows. Time is tokens by a throughput that somebody stated
or that finished runs of the same suite show; nothing is guessed. Memory is an estimate: what the
optimiser holds, and the activations of one micro-batch that the backward pass needs.
"""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ettin import files
from ettin.recipe import Phase, Recipe, Suite
from ettin.schedules import clock, saved_steps, tag, total_steps, training_flops
from ettin.shape import Shape
from ettin.suite.runs import SuiteRun

Speeds = Mapping[tuple[str, str], list[float]]
"""(size, objective) → tokens a second of each finished run."""

_HIDDEN_VALUES, _INNER_VALUES = 14, 4
"""Values of hidden and of intermediate size that a layer keeps for the backward pass; with these,
memory grows with the micro-batch as it was measured to for three sizes (LOG.md)."""


def training_facts(
    run: SuiteRun, shape: Shape, *, tokens_per_second: float | None
) -> dict[str, Any]:
    """Keys of `Job` that describe a training run.

    Args:
        run: with its recipe.
        shape: of its model.
        tokens_per_second: of the run on all its devices, if it is known.
    """
    recipe = run.recipe
    tags = [tag(phase, step) for phase in recipe.phases for step in saved_steps(phase)]
    tokens = sum(clock(phase, total_steps(phase)) for phase in recipe.phases)
    return {
        "tokens": tokens,
        "steps": sum(total_steps(phase) for phase in recipe.phases),
        "checkpoints": tuple(tags),
        "flops": sum(training_flops(recipe, phase, shape) for phase in recipe.phases),
        "seconds": tokens / tokens_per_second if tokens_per_second else None,
        "memory_bytes": max(memory_bytes(recipe, phase, shape) for phase in recipe.phases),
        "disk_bytes": shape.checkpoint_bytes * (len(tags) + 1),
    }


def memory_bytes(recipe: Recipe, phase: Phase, shape: Shape) -> int:
    """Bytes of one device in a phase: weights, gradients, moments, and a micro-batch's activations.

    Activations are counted in bytes of fp32, or of bfloat16 where the recipe asks for it; rows are
    taken as full.
    """
    size = 2 if recipe.precision == "bfloat16" else 4
    tokens = recipe.micro_batch_rows_of(phase) * phase.context_length
    layer = _HIDDEN_VALUES * shape.hidden_size + _INNER_VALUES * shape.intermediate_size
    return shape.state_bytes + size * tokens * shape.num_hidden_layers * layer


def measured_speeds(out: Path) -> Speeds:
    """What the finished runs of a suite's directory show."""
    measured: dict[tuple[str, str], list[float]] = {}
    for directory in sorted((out / "runs").glob("*")):
        if not files.is_finished(directory):
            continue
        facts = files.read_json(directory / files.MANIFEST).get("facts", {})
        if facts.get("seconds"):
            kind = str(facts.get("size")), str(facts.get("objective"))
            measured.setdefault(kind, []).append(facts["tokens"] / facts["seconds"])
    return measured


def throughput(suite: Suite, run: SuiteRun, *, measured: Speeds) -> float | None:
    """Tokens a second of a run; None where nobody knows.

    As stated for its size; else the median of the suite's finished runs of that size, of those with
    the same objective if there are any.
    """
    if run.size in suite.tokens_per_second:
        return suite.tokens_per_second[run.size]
    of_size = [speed for (size, _), each in measured.items() if size == run.size for speed in each]
    alike = measured.get((run.size, run.objective), of_size)
    return statistics.median(alike) if alike else None
