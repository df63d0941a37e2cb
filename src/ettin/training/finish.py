"""The end of a run: baselines scored, and the manifest that declares it finished."""

import statistics
from pathlib import Path

import torch

from ettin import files
from ettin.console import read_json_lines
from ettin.files import Json
from ettin.schedules import batch_rows, clock, rows_before, total_steps
from ettin.training import run_directory as directory
from ettin.training.checkpoint import list_checkpoints
from ettin.training.run_directory import RunSummary
from ettin.training.setup import Setup
from ettin.training.validation import ngram_losses


def finish(setup: Setup, out: Path, *, command: list[str]) -> RunSummary:
    """Score the baselines, and declare the run finished.

    Args:
        setup: the model trained to the end of its phase.
        out: the run directory.
        command: the command line, for the manifest.
    """
    recipe, phase = setup.recipe, setup.phase
    baselines: Json = {}
    if recipe.ngram_baselines:
        consumed = (
            setup.order.rows(rows_before(phase, step), batch_rows(phase, step))
            for step in range(1, total_steps(phase) + 1)
        )
        baselines = ngram_losses(
            (setup.reader.stream(rows) for rows in consumed),
            setup.held_out,
            objective=recipe.objective,
            vocab_size=setup.model.shape.vocab_size,
        )
        files.write_json(out / directory.BASELINES, baselines)
    lines = read_json_lines(out / directory.METRICS)
    start = files.read_json(out / directory.START)
    checkpoints = list_checkpoints(out)
    last = lines[-1]
    files.write_manifest(
        out,
        "run",
        command=command,
        made_from={"corpus": start["corpus"]["fingerprint"], "recipe": recipe.fingerprint},
        facts={
            "objective": recipe.objective,
            "size": recipe.size,
            "parameters": start["parameters"],
            "initial_weights_hash": start["initial_weights_hash"],
            "corpus": start["corpus"],
            "order": start["order"],
            "steps": last["step"],
            "tokens": last["tokens"],
            "nominal_tokens": clock(phase, last["step"]),
            "loss": last["loss"],
            "validation_loss": last["validation_loss"],
            "initial_validation_loss": checkpoints[0].state["validation_loss"],
            "baselines": baselines,
            "ledger_hash": checkpoints[-1].state["ledger_hash"],
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
    return directory.summary(out)
