"""What a run says while it goes on: on the terminal, in its log, in TensorBoard."""

import torch
from torch.utils.tensorboard import SummaryWriter

from ettin.console import Progress, human, log
from ettin.files import Json
from ettin.recipe import Phase
from ettin.schedules import clock
from ettin.shares import describe_sources
from ettin.training.setup import PhaseSetup, Setup

PUBLISHED_REACH = 64


def announce(setup: Setup, *, step: int) -> None:
    """Say what is about to happen."""
    recipe = setup.recipe
    ranks = setup.ranks
    processes = (
        "" if ranks.size == 1 else f", {ranks.size} processes, {ranks.copies} copies of the weights"
    )
    log.info(
        "%s %s (%s attention): %s parameters, %s steps, %s, %d threads%s",
        recipe.size,
        recipe.objective,
        recipe.visibility,
        human(setup.model.shape.parameters),
        f"{setup.phases[-1].last_step - step:,}",
        setup.device,
        torch.get_num_threads(),
        processes,
    )
    first = recipe.phases[0].name
    if setup.start is None and first != "pretraining":
        log.warning("%s begins with untrained weights; --from WHERE gives it a start", first)


def announce_phase(at: PhaseSetup, *, step: int) -> None:
    """Say what a phase is, what it reads of each source, and which of them it repeats often."""
    phase = at.phase
    log.info(
        "%s: %s steps of %d rows x %d tokens, RoPE %g global and %g local",
        phase.name,
        f"{at.last_step - step:,}",
        phase.batch_rows,
        phase.context_length,
        phase.global_rope_theta,
        phase.local_rope_theta,
    )
    if phase.row_order is not None:
        log.info("%s: rows in the order that is stored in %s", phase.name, phase.row_order)
    for line in describe_sources(at.sources):
        log.info("%s reads %s", phase.name, line)
    limit = at.recipe.warn_above_epochs
    for source, epochs in at.epochs().items():
        if epochs > limit:
            log.warning(
                "%s reads the source %s %.1f times, more than %g (warn_above_epochs)",
                phase.name,
                source,
                epochs,
                limit,
            )


def announce_start(setup: Setup, facts: Json, *, continues: bool) -> None:
    """Say where the weights come from, and what is no longer as it was there."""
    tag = f" {facts['tag']}" if facts["tag"] else ""
    log.info(
        "weights from %s%s (%s, %s), optimiser %s",
        facts["where"],
        tag,
        facts["kind"],
        facts["objective"],
        "goes on" if continues else "fresh",
    )
    first = setup.recipe.phases[0]
    for key in ("global_rope_theta", "local_rope_theta"):
        if facts[key] != getattr(first, key):
            log.info("%s changes from %g to %g", key, facts[key], getattr(first, key))
    reach = setup.model.shape.local_reach
    if facts["format"] == "huggingface" and reach != PUBLISHED_REACH:
        log.info(
            "local_reach is %d, as transformers computes it for this model; the published suite "
            "was trained with %d",
            reach,
            PUBLISHED_REACH,
        )


def announce_sources(at: PhaseSetup, source_tokens: dict[str, int]) -> None:
    """Say how much of each source a phase has read."""
    total = max(1, sum(source_tokens.values()))
    listed = ", ".join(
        f"{name} {human(tokens)} ({tokens / total:.1%})" for name, tokens in source_tokens.items()
    )
    log.info("%s is done; tokens: %s", at.phase.name, listed)


def draw(board: SummaryWriter, line: Json) -> None:
    """Send a metrics line to TensorBoard, by step."""
    for name in ("loss", "validation_loss", "learning_rate", "grad_norm", "tokens_per_second"):
        if name in line:
            board.add_scalar(name, line[name], line["step"])


def show(shown: Progress, setup: Setup, phase: Phase, line: Json, *, matmul_rate: float) -> None:
    """The progress line: loss, speed, share of the measured matmul rate."""
    recipe = setup.recipe
    flops = setup.model.shape.flops_per_token(
        context_length=phase.context_length,
        labelled=1.0 if recipe.objective == "clm" else phase.mask_rate,
        visibility=recipe.visibility,
    )
    share = line["tokens_per_second"] * flops / matmul_rate
    note = (
        f"loss {line['loss']:.3f}  {human(line['tokens_per_second'])} tokens/s  "
        f"{share:.0%} of matmul rate"
    )
    shown.update(clock(phase, line["phase_step"]), note)
