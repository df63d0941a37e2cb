"""Training, top to bottom in the order things happen: build, resume or begin, phases, finish.

A run's state is its weights, the optimiser's state and a step. Everything else (rows, masks,
dropout, learning rate, what is due) is a function of the step, so a run that was killed goes on
from its newest checkpoint exactly as if nothing had happened.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ettin import files
from ettin.console import JsonLines, log, logged_to, progress
from ettin.data import ledger
from ettin.data.batches import prefetched
from ettin.data.corpus import Corpus
from ettin.errors import StoppedError
from ettin.files import Json
from ettin.identity import refuse_incomplete
from ettin.model.transformer import Transformer
from ettin.recipe import Recipe
from ettin.schedules import clock, falls_on, learning_rate_factor, saves_after, total_steps
from ettin.training import run_directory as directory
from ettin.training.announcements import (
    announce,
    announce_phase,
    announce_sources,
    announce_start,
    draw,
    show,
)
from ettin.training.device import autocast, measure_matmul_rate, peak_memory_bytes, traced
from ettin.training.finish import finish
from ettin.training.optimizer import set_learning_rate
from ettin.training.position import Position, resume, save
from ettin.training.run_directory import RunSummary
from ettin.training.setup import (
    PhaseSetup,
    Setup,
    build,
    continues,
    load_first_weights,
    start_facts,
)
from ettin.training.signals import listening
from ettin.training.start import Start
from ettin.training.step import Step, micro_batch_loss
from ettin.training.validation import held_out_sample


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
    start: Start | None = None,
    profile: bool = False,
) -> RunSummary:
    """Train one twin through the phases of its recipe, or go on with an interrupted run.

    Args:
        recipe: the complete recipe, with the phases of this run alone.
        out: the run directory; begun, resumed, or recognised as finished.
        corpus_path: a finished corpus with rows of each phase's context length.
        command: the command line, for the manifest.
        start: whose weights the run begins with; they are drawn anew if None.
        profile: trace three steps into `<out>.trace.json`, for chrome://tracing or Perfetto.

    Raises:
        InputError: `out` holds another run, corpus or start do not fit the recipe, or files of the
            corpus are missing or of another size.
        StoppedError: a signal asked for an end; the run is saved and resumes.
        NoSpaceError: the disk is full; the previous checkpoint is intact.
    """
    out = out.absolute()
    with files.locked(out):
        corpus = Corpus.open(corpus_path)
        if directory.is_begun(out):
            directory.refuse_another(
                out, recipe=recipe, corpus=corpus, start=start.facts if start else None
            )
        if files.is_finished(out):
            log.info("%s is finished already; nothing to do", out)
            return directory.summary(out)
        refuse_incomplete(corpus.path)
        setup = build(recipe, corpus=corpus, start=start)
        with (
            logged_to(out.with_name(out.name + ".log")),
            listening() as asked_to_stop,
            traced(out.with_name(out.name + ".trace.json"), wanted=profile) as next_step,
        ):
            run = Run(setup, out, command, resume(setup, out), asked_to_stop, next_step)
            announce(setup, step=run.position.step)
            if run.position.fresh:
                _begin(run)
            with _records(out, keep_until=run.position.step) as records:
                for phase in setup.phases:
                    if run.position.step < phase.last_step:
                        _train_phase(run, phase, records)
            return finish(setup, out, command=command)


@dataclass(frozen=True)
class Run:
    """A run while it goes on: what it computes with, where it writes, how far it is."""

    setup: Setup
    out: Path
    command: list[str]
    position: Position
    asked_to_stop: list[int]
    next_step: Callable[[], None]


def _begin(run: Run) -> None:
    """Make the directory; measure and keep the first weights, a checkpoint like any other."""
    setup, first = run.setup, run.setup.phases[0]
    load_first_weights(setup)
    if setup.start is not None:
        announce_start(setup, setup.start.facts, continues=continues(setup.recipe, setup.start))
    if not directory.is_begun(run.out):
        sample = held_out_sample(first.held_out, window=setup.model.shape.local_reach + 1)
        directory.begin(
            run.out,
            recipe=setup.recipe,
            corpus=setup.corpus,
            start=start_facts(setup),
            sample=sample,
        )
    run.position.validation_loss = setup.validate(first)
    save(setup, run.out, run.position, at=first, permanent=True, command=run.command)


def _train_phase(run: Run, at: PhaseSetup, records: Records) -> None:
    """All steps that a phase still has to make."""
    setup, position, phase = run.setup, run.position, at.phase
    setup.enter(phase)
    last = total_steps(phase)
    announce_phase(at, step=position.step)
    matmul_rate = measure_matmul_rate(setup.device, setup.precision)
    with (
        closing(prefetched(at.load, range(position.step - at.first_step + 1, last + 1))) as steps,
        progress(f"{setup.recipe.objective} {phase.name}", total=clock(phase, last)) as shown,
    ):
        for step in steps:
            started = time.perf_counter()
            factor = learning_rate_factor(phase, clock(phase, step.number - 1))
            rate = setup.recipe.peak_lr * factor
            loss, gradient_norm = _optimise(setup, step, learning_rate=rate)
            seconds = time.perf_counter() - started
            run.next_step()
            position.advance(at, step)
            position.ledger_hash = _record(records.ledger, at, step, position)
            line: Json = {
                **position.place(at),
                "loss": loss,
                "learning_rate": rate,
                "grad_norm": gradient_norm,
                "seconds": seconds,
                "tokens_per_second": step.text_tokens / seconds,
                "peak_memory_bytes": peak_memory_bytes(setup.device),
            }
            if falls_on(phase, step.number, phase.validate_every_tokens):
                line["validation_loss"] = position.validation_loss = setup.validate(at)
            records.metrics.write(line)
            draw(records.board, line)
            show(shown, setup, phase, line, matmul_rate=matmul_rate)
            due = saves_after(phase, step.number)
            if due or run.asked_to_stop:
                save(setup, run.out, position, at=at, permanent=due, command=run.command)
            if run.asked_to_stop and position.step < setup.phases[-1].last_step:
                name = signal.Signals(run.asked_to_stop[0]).name
                raise StoppedError(
                    f"stopped by {name} after step {step.number} of {last} ({phase.name}), saved "
                    f"in {run.out}; the same command goes on"
                )
    announce_sources(at, position.source_tokens[phase.name])


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


def _record(book: JsonLines, at: PhaseSetup, step: Step, position: Position) -> str:
    """Write the ledger's line of a step; returns the new running hash."""
    count = len(step.rows.row)
    sums = ledger.hash_rows(
        step.rows,
        np.arange(count, dtype=np.int64),
        np.concatenate([each.stream.tokens.numpy() for each in step.micro_batches]),
        np.concatenate([each.stream.row_tokens for each in step.micro_batches]),
    )
    running_hash = ledger.chain(position.ledger_hash, sums)
    book.write(
        ledger.line(
            step=position.step,
            phase=at.phase.name,
            first_row=step.first_row,
            rows=count,
            tokens=step.text_tokens,
            sums=sums,
            running_hash=running_hash,
        )
    )
    return running_hash


@contextmanager
def _records(out: Path, *, keep_until: int) -> Iterator[Records]:
    """Open the files that steps append to, cut to the step after which the run goes on."""
    with (
        JsonLines(out / directory.METRICS, keep_until=keep_until) as metrics,
        JsonLines(out / directory.LEDGER, keep_until=keep_until) as book,
        SummaryWriter(str(out / "tensorboard"), purge_step=keep_until + 1) as board,
    ):
        yield Records(metrics, book, board)
