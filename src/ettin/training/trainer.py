"""Training, top to bottom in the order things happen: build, resume or begin, loop, finish.

A run's state is its weights, the optimiser's state and a step. Everything else (rows, masks,
dropout, learning rate, what is due) is a function of the step, so a run that was killed goes on
from its newest checkpoint exactly as if nothing had happened.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ettin import files
from ettin.console import JsonLines, Progress, human, log, logged_to, progress
from ettin.data import ledger
from ettin.data.batches import prefetched
from ettin.data.corpus import Corpus
from ettin.errors import StoppedError
from ettin.files import Json
from ettin.model.transformer import Transformer
from ettin.recipe import Recipe
from ettin.schedules import clock, falls_on, learning_rate_factor, tag, total_steps
from ettin.training import run_directory as directory
from ettin.training.checkpoint import (
    discard_leftovers,
    newest_checkpoint,
    restore,
    save_checkpoint,
)
from ettin.training.device import autocast, measure_matmul_rate, peak_memory_bytes, traced
from ettin.training.finish import finish
from ettin.training.optimizer import set_learning_rate
from ettin.training.run_directory import RunSummary
from ettin.training.setup import Setup, build, start_facts
from ettin.training.signals import listening
from ettin.training.step import Step, micro_batch_loss
from ettin.training.validation import held_out_sample


@dataclass
class Position:
    """How far a run has come: what a checkpoint adds to weights and moments.

    Attributes:
        fresh: nothing is saved yet, not even the untrained model.
        step: optimiser steps done.
        tokens: text tokens trained on.
        ledger_hash: the ledger's running hash.
        validation_loss: as last measured, nats per label.
    """

    fresh: bool
    step: int = 0
    tokens: int = 0
    ledger_hash: str = ledger.EMPTY
    validation_loss: float | None = None


@dataclass(frozen=True)
class Records:
    """The files that a run appends to, step by step."""

    metrics: JsonLines
    ledger: JsonLines
    board: SummaryWriter


def train(
    recipe: Recipe,
    *,
    out: Path,
    corpus_path: Path,
    command: list[str],
    profile: bool = False,
) -> RunSummary:
    """Train one twin, or go on with a run that was interrupted.

    Args:
        recipe: the complete recipe.
        out: the run directory; begun, resumed, or recognised as finished.
        corpus_path: a finished corpus with rows of the phase's context length.
        command: the command line, for the manifest.
        profile: trace three steps into `<out>.trace.json`, for chrome://tracing or Perfetto.

    Raises:
        InputError: `out` holds another run, or the corpus does not fit the recipe.
        StoppedError: a signal asked for an end; the run is saved and resumes.
        NoSpaceError: the disk is full; the previous checkpoint is intact.
    """
    out = out.absolute()
    with files.locked(out):
        setup = build(recipe, corpus=Corpus.open(corpus_path))
        start = start_facts(setup)
        if directory.is_begun(out):
            directory.refuse_another(out, recipe=recipe, start=start)
        else:
            sample = held_out_sample(setup.held_out, window=setup.model.shape.local_reach + 1)
            directory.begin(out, recipe=recipe, corpus=setup.corpus, start=start, sample=sample)
        if files.is_finished(out):
            log.info("%s is finished already; nothing to do", out)
            return directory.summary(out)
        with logged_to(out.with_name(out.name + ".log")), listening() as asked_to_stop:
            position = _resume(setup, out)
            _announce(setup, position)
            if position.fresh:
                _begin(setup, out, position, command=command)
            with _records(out, keep_until=position.step) as records:
                _loop(
                    setup,
                    out,
                    position,
                    records=records,
                    command=command,
                    asked_to_stop=asked_to_stop,
                    profile=profile,
                )
            return finish(setup, out, command=command)


def _begin(setup: Setup, out: Path, position: Position, *, command: list[str]) -> None:
    """Measure and keep the untrained model: `step0` is a checkpoint like any other."""
    position.validation_loss = setup.validate()
    _save(setup, out, position, command=command, permanent=True)


def _loop(
    setup: Setup,
    out: Path,
    position: Position,
    *,
    records: Records,
    command: list[str],
    asked_to_stop: list[int],
    profile: bool,
) -> None:
    """All steps from `position` to the end of the phase."""
    phase, last = setup.phase, total_steps(setup.phase)
    matmul_rate = measure_matmul_rate(setup.device, setup.precision)
    with (
        closing(prefetched(setup.load, range(position.step + 1, last + 1))) as steps,
        progress(setup.recipe.objective, total=clock(phase, last)) as shown,
        traced(out.with_name(out.name + ".trace.json"), wanted=profile) as next_step,
    ):
        for step in steps:
            started = time.perf_counter()
            factor = learning_rate_factor(phase, clock(phase, step.number - 1))
            rate = setup.recipe.peak_lr * factor
            loss, gradient_norm = _optimise(setup, step, learning_rate=rate)
            seconds = time.perf_counter() - started
            next_step()
            position.step = step.number
            position.tokens += step.text_tokens
            position.ledger_hash = _record(records.ledger, step, previous=position.ledger_hash)
            line: Json = {
                **_place(setup, position),
                "loss": loss,
                "learning_rate": rate,
                "grad_norm": gradient_norm,
                "seconds": seconds,
                "tokens_per_second": step.text_tokens / seconds,
                "peak_memory_bytes": peak_memory_bytes(setup.device),
            }
            if falls_on(phase, step.number, phase.validate_every_tokens):
                line["validation_loss"] = position.validation_loss = setup.validate()
            records.metrics.write(line)
            _draw(records.board, line)
            _show(shown, setup, line, matmul_rate=matmul_rate)
            due = falls_on(phase, step.number, phase.save_every_tokens)
            if due or asked_to_stop:
                _save(setup, out, position, command=command, permanent=due)
            if asked_to_stop and step.number < last:
                name = signal.Signals(asked_to_stop[0]).name
                raise StoppedError(
                    f"stopped by {name} after step {step.number} of {last}, saved in {out}; "
                    "the same command goes on"
                )


def _optimise(setup: Setup, step: Step, *, learning_rate: float) -> tuple[float, float]:
    """One optimiser update; the mean loss of the step and the norm of its gradient."""
    total = torch.zeros((), device=setup.device)
    for micro_batch in step.micro_batches:
        with autocast(setup.device, setup.precision):
            summed = micro_batch_loss(
                setup.model, micro_batch.to(setup.device), recipe=setup.recipe, training=True
            )
        loss = summed / max(1, step.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    norm = _gradient_norm(setup.model)
    set_learning_rate(setup.optimizer, learning_rate)
    setup.optimizer.step()
    setup.optimizer.zero_grad()
    return total.item(), norm.item()


def _gradient_norm(model: Transformer) -> Tensor:
    """√Σ g² over all parameters. Logged only: StableAdamW clips its updates, not the gradient."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def _record(book: JsonLines, step: Step, *, previous: str) -> str:
    """Write the ledger's line of a step; returns the new running hash."""
    tokens = [each.stream.tokens.numpy() for each in step.micro_batches]
    running_hash = ledger.hash_step(previous, step.rows, tokens)
    book.write(
        ledger.line(
            step=step.number,
            first_row=step.first_row,
            rows=step.rows,
            tokens=step.text_tokens,
            running_hash=running_hash,
        )
    )
    return running_hash


def _place(setup: Setup, position: Position) -> Json:
    return {
        "step": position.step,
        "phase": setup.phase.name,
        "phase_step": position.step,
        "tokens": position.tokens,
    }


def _draw(board: SummaryWriter, line: Json) -> None:
    """Send a metrics line to TensorBoard, by step."""
    for name in ("loss", "validation_loss", "learning_rate", "grad_norm", "tokens_per_second"):
        if name in line:
            board.add_scalar(name, line[name], line["step"])


def _show(shown: Progress, setup: Setup, line: Json, *, matmul_rate: float) -> None:
    """The progress line: loss, speed, share of the measured matmul rate."""
    phase, recipe = setup.phase, setup.recipe
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
    shown.update(clock(phase, line["step"]), note)


def _save(
    setup: Setup, out: Path, position: Position, *, command: list[str], permanent: bool
) -> None:
    """Write a checkpoint of the present state."""
    phase, recipe = setup.phase, setup.recipe
    save_checkpoint(
        out,
        tag=tag(phase, position.step),
        model=setup.model,
        optimizer=setup.optimizer,
        state={
            **_place(setup, position),
            "ledger_hash": position.ledger_hash,
            "validation_loss": position.validation_loss,
            "objective": recipe.objective,
            "size": recipe.size,
            "shape": setup.model.shape.model_dump(),
            "context_length": phase.context_length,
            "global_rope_theta": phase.global_rope_theta,
            "local_rope_theta": phase.local_rope_theta,
            "recipe_fingerprint": recipe.fingerprint,
            "corpus": setup.corpus.fingerprint,
        },
        permanent=permanent,
        command=command,
    )


def _resume(setup: Setup, out: Path) -> Position:
    """Load the newest good checkpoint of a run; the start when there is none."""
    discard_leftovers(out)
    checkpoint = newest_checkpoint(out)
    if checkpoint is None:
        return Position(fresh=True)
    restore(checkpoint, model=setup.model, optimizer=setup.optimizer)
    log.info("resuming %s after %s", out, checkpoint.tag)
    state = checkpoint.state
    return Position(
        fresh=False,
        step=state["step"],
        tokens=state["tokens"],
        ledger_hash=state["ledger_hash"],
        validation_loss=state["validation_loss"],
    )


@contextmanager
def _records(out: Path, *, keep_until: int) -> Iterator[Records]:
    """Open the files that steps append to, cut to the step after which the run goes on."""
    with (
        JsonLines(out / directory.METRICS, keep_until=keep_until) as metrics,
        JsonLines(out / directory.LEDGER, keep_until=keep_until) as book,
        SummaryWriter(str(out / "tensorboard"), purge_step=keep_until + 1) as board,
    ):
        yield Records(metrics, book, board)


def _announce(setup: Setup, position: Position) -> None:
    """Say what is about to happen."""
    phase, recipe = setup.phase, setup.recipe
    log.info(
        "%s %s (%s attention): %s parameters, %s steps of %d rows x %d tokens, %s, %d threads",
        recipe.size,
        recipe.objective,
        recipe.visibility,
        human(setup.model.shape.parameters),
        f"{total_steps(phase) - position.step:,}",
        phase.batch_rows,
        phase.context_length,
        setup.device,
        torch.get_num_threads(),
    )
