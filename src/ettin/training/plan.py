"""What a run would do, without doing it: the answer to `--dry-run`."""

from pathlib import Path

from ettin.console import human
from ettin.data.corpus import Corpus
from ettin.files import Json
from ettin.recipe import Recipe, Shape
from ettin.schedules import clock, falls_on, tag, total_steps

_BYTES_PER_PARAMETER = 12
"""A checkpoint holds weights and two moments in fp32."""


def plan(recipe: Recipe, *, corpus_path: Path) -> Json:
    """Steps, tokens, checkpoints, FLOPs and disk of a run.

    Raises:
        InputError: the corpus does not fit the recipe.
    """
    corpus, phase = Corpus.open(corpus_path), recipe.phases[0]
    rows = sum(len(corpus.table(name, phase.context_length)) for name in corpus.source_names)
    shape = Shape(vocab_size=corpus.padded_vocab_size, **recipe.shape.model_dump())
    steps = total_steps(phase)
    saved = [0, *(n for n in range(1, steps + 1) if falls_on(phase, n, phase.save_every_tokens))]
    flops = shape.flops_per_token(
        context_length=phase.context_length,
        labelled=1.0 if recipe.objective == "clm" else phase.mask_rate,
        visibility=recipe.visibility,
    )
    return {
        "objective": recipe.objective,
        "parameters": shape.parameters,
        "steps": steps,
        "tokens": clock(phase, steps),
        "epochs": steps * phase.batch_rows / rows,
        "checkpoints": [tag(phase, step) for step in saved],
        "flops": flops * clock(phase, steps),
        "checkpoint_bytes": _BYTES_PER_PARAMETER * shape.parameters,
        "disk_bytes": _BYTES_PER_PARAMETER * shape.parameters * len(saved),
        "state_bytes": shape.state_bytes,
    }


def describe_plan(planned: Json) -> str:
    """A plan as people read it."""
    return (
        f"{planned['objective']}: {human(planned['parameters'])} parameters, "
        f"{planned['steps']:,} steps, {human(planned['tokens'])} tokens "
        f"({planned['epochs']:.2f} epochs), {human(planned['flops'])}FLOP\n"
        f"{len(planned['checkpoints'])} checkpoints of {human(planned['checkpoint_bytes'])}B: "
        f"{human(planned['disk_bytes'])}B of disk; "
        f"{human(planned['state_bytes'])}B of memory besides activations"
    )
