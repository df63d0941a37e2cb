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

import torch
from torch.utils.tensorboard import SummaryWriter

from ettin import files
from ettin.console import JsonLines, log, logged_to, progress
from ettin.data import ledger
from ettin.data.batches import prefetched
from ettin.data.corpus import Corpus
from ettin.errors import InputError, StoppedError
from ettin.files import Json
from ettin.identity import refuse_incomplete
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
from ettin.training.distributed import Ranks, started
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
from ettin.training.signals import SIGNALS, listening
from ettin.training.start import Start
from ettin.training.step import Step
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

    Under `torchrun` every process calls it, and the first one writes.

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
        CommandFailed: another process failed; its error is told, and its exit code passed on.
    """
    out = out.absolute()
    with (
        started(recipe.device, shard_ranks=recipe.shard_ranks) as ranks,
        ranks.first_holds(files.locked(out)),
    ):
        with ranks.together():
            corpus = Corpus.open(corpus_path)
            if directory.is_begun(out):
                directory.refuse_another(
                    out, recipe=recipe, corpus=corpus, start=start.facts if start else None
                )
        if ranks.decided(lambda: files.is_finished(out)):
            log.info("%s is finished already; nothing to do", out)
            return directory.summary(out)
        with ranks.together():
            refuse_incomplete(corpus.path)
            setup = build(recipe, corpus=corpus, start=start, ranks=ranks)
        _refuse_difference(setup)
        with (
            ranks.first_holds(logged_to(out.with_name(out.name + ".log"))),
            listening() as asked_to_stop,
            traced(
                out.with_name(out.name + ".trace.json"), wanted=profile and ranks.is_first
            ) as next_step,
        ):
            run = Run(setup, out, command, resume(setup, out), asked_to_stop, next_step)
            announce(setup, step=run.position.step)
            if run.position.fresh:
                _begin(run)
            with _records(ranks, out, keep_until=run.position.step) as records:
                for phase in setup.phases:
                    if run.position.step < phase.last_step:
                        _train_phase(run, phase, records)
            with ranks.together():
                if ranks.is_first:
                    finish(setup, out, command=command)
        return directory.summary(out)


@dataclass(frozen=True)
class Run:
    """A run while it goes on: what it computes with, where it writes, how far it is."""

    setup: Setup
    out: Path
    command: list[str]
    position: Position
    asked_to_stop: list[int]
    next_step: Callable[[], None]


def _refuse_difference(setup: Setup) -> None:
    """All processes must train the same.

    Raises:
        InputError: one of them was given another recipe or corpus than the first.
    """
    own = [setup.recipe.fingerprint, setup.corpus.fingerprint]
    first = setup.ranks.decided(lambda: own)
    with setup.ranks.together():
        if own != first:
            raise InputError(
                "this process has another recipe or corpus than rank 0; start all with the same "
                "command, on file systems that hold the same"
            )


def _begin(run: Run) -> None:
    """Make the directory; measure and keep the first weights, a checkpoint like any other."""
    setup, first = run.setup, run.setup.phases[0]
    with setup.ranks.together():
        load_first_weights(setup)
    begins = start_facts(setup)
    if setup.start is not None:
        announce_start(setup, setup.start.facts, continues=continues(setup.recipe, setup.start))
    with setup.ranks.together():
        if setup.ranks.is_first and not directory.is_begun(run.out):
            window = setup.model.shape.local_reach + 1
            directory.begin(
                run.out,
                recipe=setup.recipe,
                corpus=setup.corpus,
                start=begins,
                sample=held_out_sample(first.all_held_out(), window=window),
            )
    run.position.validation_loss = setup.validate(first)
    save(setup, run.out, run.position, at=first, permanent=True, command=run.command)


def _train_phase(run: Run, at: PhaseSetup, records: Records | None) -> None:
    """All steps that a phase still has to make; the first rank has the records."""
    setup, position, phase = run.setup, run.position, at.phase
    setup.enter(phase)
    last = total_steps(phase)
    announce_phase(at, step=position.step)
    matmul_rate = setup.ranks.size * measure_matmul_rate(setup.device, setup.precision)
    with (
        closing(prefetched(at.load, range(position.step - at.first_step + 1, last + 1))) as steps,
        progress(f"{setup.recipe.objective} {phase.name}", total=clock(phase, last)) as shown,
    ):
        for loaded in steps:
            begun = time.perf_counter()
            step = loaded.of_all_ranks(setup.ranks)
            factor = learning_rate_factor(phase, clock(phase, step.number - 1))
            rate = setup.recipe.peak_lr * factor
            own_loss, gradient_norm = _optimise(setup, step, learning_rate=rate)
            loss, stopped_by = _tell(run, own_loss)
            seconds = time.perf_counter() - begun
            run.next_step()
            position.advance(at, step)
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
            if records is not None:
                records.ledger.write(_ledger_line(at, step, position))
                records.metrics.write(line)
                draw(records.board, line)
            show(shown, setup, phase, line, matmul_rate=matmul_rate)
            due = saves_after(phase, step.number)
            if due or stopped_by:
                save(setup, run.out, position, at=at, permanent=due, command=run.command)
            if stopped_by and position.step < setup.phases[-1].last_step:
                name = signal.Signals(stopped_by).name
                raise StoppedError(
                    f"stopped by {name} after step {step.number} of {last} ({phase.name}), saved "
                    f"in {run.out}; the same command goes on"
                )
    announce_sources(at, position.source_tokens[phase.name])


def _optimise(setup: Setup, step: Step, *, learning_rate: float) -> tuple[float, float]:
    """One optimiser update.

    Returns:
        This rank's part of the mean loss of the step, and the norm of the whole gradient.
    """
    total, engine = torch.zeros((), device=setup.device), setup.engine
    for micro_batch in step.micro_batches:
        engine.expect(last=micro_batch is step.micro_batches[-1])
        with autocast(setup.device, setup.precision):
            summed = engine(micro_batch.to(setup.device), training=True)
        loss = summed / max(1, step.labels)
        loss.backward()
        total += loss.detach()
    engine.sum_gradients()
    norm = engine.gradient_norm()
    set_learning_rate(setup.optimizer, learning_rate)
    setup.optimizer.step()
    setup.optimizer.zero_grad()
    return total.item(), norm


def _tell(run: Run, own_loss: float) -> tuple[float, int]:
    """The loss of all ranks, and the signal that any of them got; 0 if none did.

    Said once a step by all, so that all end after the same one.
    """
    came = [float(number in run.asked_to_stop) for number in SIGNALS]
    loss, *told = run.setup.ranks.sum_numbers([own_loss, *came])
    return loss, next((number for number, count in zip(SIGNALS, told, strict=True) if count), 0)


def _ledger_line(at: PhaseSetup, step: Step, position: Position) -> Json:
    """The ledger's line of a step that has been made."""
    return ledger.line(
        step=position.step,
        phase=at.phase.name,
        first_row=step.first_row,
        rows=len(step.rows.row),
        tokens=step.text_tokens,
        sums=step.sums,
        running_hash=position.ledger_hash,
    )


@contextmanager
def _records(ranks: Ranks, out: Path, *, keep_until: int) -> Iterator[Records | None]:
    """Open the files that steps append to, cut to the step after which the run goes on.

    Yields:
        None but on the first rank.
    """
    if not ranks.is_first:
        yield None
        return
    with (
        JsonLines(out / directory.METRICS, keep_until=keep_until) as metrics,
        JsonLines(out / directory.LEDGER, keep_until=keep_until) as book,
        SummaryWriter(str(out / "tensorboard"), purge_step=keep_until + 1) as board,
    ):
        yield Records(metrics, book, board)
