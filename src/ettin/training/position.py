"""How far a run has come: counted step by step, kept in checkpoints, found again."""

from dataclasses import dataclass, field
from pathlib import Path

from ettin.console import log
from ettin.data import ledger
from ettin.files import Json
from ettin.schedules import tag
from ettin.training.checkpoint import (
    checkpoint_at,
    discard_leftovers,
    newest_checkpoint,
    restore,
    save_checkpoint,
)
from ettin.training.setup import PhaseSetup, Setup
from ettin.training.step import Step


@dataclass
class Position:
    """How far a run has come: what a checkpoint adds to weights and moments.

    Attributes:
        fresh: nothing is saved yet, not even the untrained model.
        step: optimiser steps done.
        tokens: text tokens trained on.
        source_tokens: the same by phase and source.
        ledger_hash: the ledger's running hash.
        validation_loss: as last measured, nats per label.
    """

    fresh: bool
    step: int = 0
    tokens: int = 0
    source_tokens: dict[str, dict[str, int]] = field(default_factory=dict)
    ledger_hash: str = ledger.EMPTY
    validation_loss: float | None = None

    def advance(self, at: PhaseSetup, step: Step) -> None:
        """Count a step that has been made."""
        self.step = at.first_step + step.number
        self.tokens += step.text_tokens
        self.ledger_hash = ledger.chain(self.ledger_hash, step.sums)
        counted = self.source_tokens.setdefault(at.phase.name, {})
        for source, tokens in zip(at.order.sources, step.source_tokens.tolist(), strict=True):
            counted[source.name] = counted.get(source.name, 0) + tokens

    def place(self, at: PhaseSetup) -> Json:
        """What every record says first: step, phase, step of the phase, tokens."""
        return {
            "step": self.step,
            "phase": at.phase.name,
            "phase_step": self.step - at.first_step,
            "tokens": self.tokens,
        }


def save(
    setup: Setup,
    out: Path,
    position: Position,
    *,
    at: PhaseSetup,
    permanent: bool,
    command: list[str],
) -> None:
    """Write a checkpoint of the present state; all ranks must ask for it.

    Raises:
        NoSpaceError: the disk is full; older checkpoints are untouched.
    """
    phase, place = at.phase, position.place(at)
    save_checkpoint(
        out,
        tag=tag(phase, place["phase_step"]),
        model=setup.model,
        optimizer=setup.optimizer,
        state={
            **place,
            "source_tokens": position.source_tokens,
            "ledger_hash": position.ledger_hash,
            "validation_loss": position.validation_loss,
            "objective": setup.recipe.objective,
            "variant": setup.variant,
            "start": setup.start.facts if setup.start else None,
            "size": setup.recipe.size,
            "shape": setup.model.shape.model_dump(),
            "context_length": phase.context_length,
            "global_rope_theta": phase.global_rope_theta,
            "local_rope_theta": phase.local_rope_theta,
            "recipe_fingerprint": setup.recipe.fingerprint,
            "corpus": setup.corpus.fingerprint,
        },
        permanent=permanent,
        command=command,
        ranks=setup.ranks,
    )


def resume(setup: Setup, out: Path) -> Position:
    """Load the newest good checkpoint of a run, which the first rank finds; or begin."""
    newest = setup.ranks.decided(lambda: _newest(out))
    if newest is None:
        return Position(fresh=True)
    checkpoint = checkpoint_at(Path(newest))
    restore(checkpoint, model=setup.model, optimizer=setup.optimizer)
    log.info("resuming %s after %s", out, checkpoint.tag)
    state = checkpoint.state
    return Position(
        fresh=False,
        step=state["step"],
        tokens=state["tokens"],
        source_tokens=state["source_tokens"],
        ledger_hash=state["ledger_hash"],
        validation_loss=state["validation_loss"],
    )


def _newest(out: Path) -> str | None:
    """Where the newest good checkpoint lies, once what was left half written is gone."""
    discard_leftovers(out)
    checkpoint = newest_checkpoint(out)
    return None if checkpoint is None else str(checkpoint.path)
