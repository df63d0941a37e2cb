"""The end of a run: baselines scored, and the manifest that declares it finished."""

import statistics
from collections.abc import Iterator
from pathlib import Path

import torch

from ettin import files
from ettin.console import read_json_lines
from ettin.data.batches import Stream
from ettin.files import Json
from ettin.schedules import batch_rows, clock, rows_before, total_steps
from ettin.training import run_directory as directory
from ettin.training.checkpoint import list_checkpoints
from ettin.training.setup import PhaseSetup, Setup
from ettin.training.validation import ngram_losses


def finish(setup: Setup, out: Path, *, command: list[str]) -> None:
    """Score the baselines, and declare the run finished; the work of one rank.

    Args:
        setup: the model trained to the end of its last phase.
        out: the run directory.
        command: the command line, for the manifest.
    """
    recipe = setup.recipe
    baselines: Json = {}
    if recipe.ngram_baselines:
        baselines = ngram_losses(
            _consumed(setup),
            setup.phases[-1].all_held_out(),
            objective=recipe.objective,
            vocab_size=setup.model.shape.vocab_size,
        )
        files.write_json(out / directory.BASELINES, baselines)
    lines = read_json_lines(out / directory.METRICS)
    start = files.read_json(out / directory.START)
    checkpoints = list_checkpoints(out)
    last, state = lines[-1], checkpoints[-1].state
    row_orders: Json = start.get("row_orders", {})
    made_from: Json = {"corpus": start["corpus"]["fingerprint"], "recipe": recipe.fingerprint}
    if row_orders:
        made_from["row_orders"] = {name: each["fingerprint"] for name, each in row_orders.items()}
    files.write_manifest(
        out,
        "run",
        command=command,
        made_from=made_from,
        facts={
            "objective": recipe.objective,
            "variant": setup.variant,
            "start": start["start"],
            "size": recipe.size,
            "parameters": start["parameters"],
            "initial_weights_hash": start["initial_weights_hash"],
            "corpus": start["corpus"],
            "order": start["order"],
            "row_orders": row_orders,
            "steps": last["step"],
            "tokens": last["tokens"],
            "nominal_tokens": sum(clock(phase, total_steps(phase)) for phase in recipe.phases),
            "phases": [_phase_facts(at, state) for at in setup.phases],
            "loss": last["loss"],
            "validation_loss": last["validation_loss"],
            "initial_validation_loss": checkpoints[0].state["validation_loss"],
            "baselines": baselines,
            "ledger_hash": state["ledger_hash"],
            "recipe_fingerprint": recipe.fingerprint,
            "checkpoints": [checkpoint.tag for checkpoint in checkpoints],
            "device": str(setup.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "seconds": sum(line["seconds"] for line in lines),
            "tokens_per_second": statistics.median(line["tokens_per_second"] for line in lines),
            "peak_memory_bytes": max(line["peak_memory_bytes"] for line in lines),
        },
    )


def _consumed(setup: Setup) -> Iterator[Stream]:
    """Everything that the run trained on."""
    for at in setup.phases:
        for step in range(1, total_steps(at.phase) + 1):
            rows = at.order.rows(rows_before(at.phase, step), batch_rows(at.phase, step))
            yield at.reader.stream(rows)


def _phase_facts(at: PhaseSetup, state: Json) -> Json:
    """What a phase was, and what it read of each source."""
    phase, steps = at.phase, total_steps(at.phase)
    source_tokens = state["source_tokens"][phase.name]
    return {
        "name": phase.name,
        "steps": steps,
        "tokens": sum(source_tokens.values()),
        "nominal_tokens": clock(phase, steps),
        "context_length": phase.context_length,
        "order": at.order.fingerprint,
        "source_tokens": source_tokens,
        "epochs": at.epochs(),
    }
