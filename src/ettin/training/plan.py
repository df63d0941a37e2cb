"""What a run would do, without doing it: the answer to `--dry-run`."""

from pathlib import Path

from ettin.console import human
from ettin.data.corpus import Corpus
from ettin.files import Json
from ettin.recipe import Recipe
from ettin.schedules import (
    clock,
    learning_rate_factor,
    saved_steps,
    tag,
    total_steps,
    training_flops,
)
from ettin.shape import Shape
from ettin.shares import Drawn, describe_sources
from ettin.training.setup import PhaseSetup, make_phases, refuse_without_start, shape_of_run
from ettin.training.start import Start, refuse_misfit


def plan(recipe: Recipe, *, corpus_path: Path, start: Start | None) -> Json:
    """Steps, tokens, checkpoints, FLOPs and disk of a run, phase by phase and in all.

    Args:
        recipe: with the phases of the run alone.
        corpus_path: a finished corpus.
        start: whose weights the run would begin with.

    Raises:
        InputError: the corpus or the start does not fit the recipe.
    """
    corpus, facts = Corpus.open(corpus_path), start.facts if start else None
    refuse_without_start(recipe, facts)
    if start is not None:
        refuse_misfit(start.facts, tokenizer=start.tokenizer, recipe=recipe, corpus=corpus)
    shape = shape_of_run(recipe, corpus, facts)
    phases = [_plan_phase(each, shape) for each in make_phases(recipe, corpus=corpus)]
    first = tag(recipe.phases[0], 0)
    tags = [first, *(name for phase in phases for name in phase["checkpoints"])]
    return {
        "objective": recipe.objective,
        "start": facts and facts["where"],
        "parameters": shape.parameters,
        "steps": sum(phase["steps"] for phase in phases),
        "tokens": sum(phase["tokens"] for phase in phases),
        "checkpoints": tags,
        "flops": sum(phase["flops"] for phase in phases),
        "checkpoint_bytes": shape.checkpoint_bytes,
        "disk_bytes": shape.checkpoint_bytes * len(tags),
        "state_bytes": shape.state_bytes,
        "phases": phases,
    }


def _plan_phase(at: PhaseSetup, shape: Shape) -> Json:
    phase, steps = at.phase, total_steps(at.phase)
    peak = at.recipe.peak_lr
    highest, last = (
        peak * learning_rate_factor(phase, tokens) for tokens in (phase.warmup_tokens, phase.tokens)
    )
    return {
        "name": phase.name,
        "steps": steps,
        "tokens": clock(phase, steps),
        "context_length": phase.context_length,
        "batch_rows": phase.batch_rows,
        "learning_rates": [highest, last],
        "checkpoints": [tag(phase, step) for step in saved_steps(phase)],
        "flops": training_flops(at.recipe, phase, shape),
        "epochs": at.epochs(),
        "row_order": phase.row_order,
        "sources": {name: each._asdict() for name, each in at.sources.items()},
    }


def describe_plan(planned: Json) -> str:
    """A plan as people read it."""
    lines = [
        f"{planned['objective']}: {human(planned['parameters'])} parameters, "
        f"{planned['steps']:,} steps, {human(planned['tokens'])} tokens, "
        f"{human(planned['flops'])}FLOP"
    ]
    for phase in planned["phases"]:
        high, low = phase["learning_rates"]
        lines.append(
            f"  {phase['name']}: {phase['steps']:,} steps of {phase['batch_rows']:,} rows x "
            f"{phase['context_length']:,} tokens = {human(phase['tokens'])}, learning rate "
            f"{high:.2e} to {low:.2e}, {len(phase['checkpoints'])} checkpoints"
        )
        if phase["row_order"]:
            lines.append(f"    rows in the order that is stored in {phase['row_order']}")
        drawn = {name: Drawn(**each) for name, each in phase["sources"].items()}
        lines += [f"    {line}" for line in describe_sources(drawn)]
    lines.append(
        f"{len(planned['checkpoints'])} checkpoints of {human(planned['checkpoint_bytes'])}B: "
        f"{human(planned['disk_bytes'])}B of disk; "
        f"{human(planned['state_bytes'])}B of memory besides activations"
    )
    return "\n".join(lines)
