"""What a run computes with, made from a recipe, a corpus and, if it has one, its start."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from optimi import StableAdamW
from torch import Tensor

from ettin.data.batches import RowReader, training_reader
from ettin.data.corpus import Corpus
from ettin.data.phase_orders import fingerprint_of, order_of, sources_of
from ettin.data.stored_order import AnyOrder, StoredOrder
from ettin.errors import InputError
from ettin.files import Json
from ettin.identity import fingerprint_arrays
from ettin.model.transformer import Transformer
from ettin.objectives import Vocabulary
from ettin.recipe import CROSS, Phase, Recipe
from ettin.records import kind_of_objective
from ettin.schedules import place, total_steps
from ettin.shape import Shape
from ettin.shares import Drawn
from ettin.training.checkpoint import restore_optimizer
from ettin.training.device import choose_device, choose_precision
from ettin.training.distributed import ALONE, Ranks
from ettin.training.engine import Engine, load_model, whole
from ettin.training.optimizer import build_optimizer
from ettin.training.start import Start, refuse_misfit
from ettin.training.step import MicroBatch, Step, load_step, vocabulary_of
from ettin.training.validation import held_out_batches, validation_loss


@dataclass(frozen=True)
class PhaseSetup:
    """What one phase trains on.

    Attributes:
        recipe: of the run.
        phase: the phase.
        first_step: steps of the run before it.
        corpus: of the run.
        order: its rows.
        reader: reads them, with the random keys of this phase.
        vocabulary: special and ordinary tokens.
        ranks: who trains on it.
    """

    recipe: Recipe
    phase: Phase
    first_step: int
    corpus: Corpus
    order: AnyOrder
    reader: RowReader
    vocabulary: Vocabulary
    ranks: Ranks = ALONE

    @property
    def last_step(self) -> int:
        """The step of the run with which the phase ends."""
        return self.first_step + total_steps(self.phase)

    @cached_property
    def held_out(self) -> list[MicroBatch]:
        """The held-out rows of this rank, masked as the phase masks."""
        return self._held_out(self.ranks)

    def all_held_out(self) -> list[MicroBatch]:
        """The held-out rows of all ranks."""
        return self._held_out(ALONE)

    def _held_out(self, ranks: Ranks) -> list[MicroBatch]:
        return held_out_batches(
            self.corpus,
            recipe=self.recipe,
            phase=self.phase,
            vocabulary=self.vocabulary,
            ranks=ranks,
        )

    def load(self, number: int) -> Step:
        """The step of that number in the phase, with the rows of this rank."""
        return load_step(
            number,
            recipe=self.recipe,
            phase=self.phase,
            order=self.order,
            reader=self.reader,
            vocabulary=self.vocabulary,
            ranks=self.ranks,
        )

    @cached_property
    def sources(self) -> dict[str, Drawn]:
        """What the phase reads of each source."""
        return sources_of(self.order, self.phase, self.corpus)

    def epochs(self) -> dict[str, float]:
        """How often the phase reads each source."""
        return {name: each.epochs for name, each in self.sources.items()}


@dataclass(frozen=True)
class Setup:
    """What a run computes with; nothing in it but `model` and `optimizer` ever changes."""

    recipe: Recipe
    corpus: Corpus
    phases: tuple[PhaseSetup, ...]
    model: Transformer
    engine: Engine
    optimizer: StableAdamW
    ranks: Ranks
    precision: torch.dtype
    start: Start | None

    @property
    def device(self) -> torch.device:
        """What this rank computes on."""
        return self.ranks.device

    def phase_at(self, step: int) -> PhaseSetup:
        """The phase that a step of the run belongs to."""
        return self.phases[place(self.recipe.phases, step).phase]

    def enter(self, phase: Phase) -> None:
        """Give the model the RoPE bases of a phase; its weights have no other memory of it."""
        self.model.global_rope_theta = phase.global_rope_theta
        self.model.local_rope_theta = phase.local_rope_theta

    def validate(self, phase_setup: PhaseSetup) -> float:
        """Held-out loss of the model as it stands, nats per label; all ranks must ask for it."""
        return validation_loss(self.engine, phase_setup.held_out, precision=self.precision)

    @property
    def variant(self) -> str:
        """`cross` when the weights come from the other kind of model, else `native`."""
        return variant_of(self.recipe, self.start.facts if self.start else None)


def build(
    recipe: Recipe, *, corpus: Corpus, start: Start | None = None, ranks: Ranks | None = None
) -> Setup:
    """Make everything that training needs; the model is on its device and has no weights yet.

    Args:
        recipe: of the run.
        corpus: what it reads.
        start: whose weights it begins with.
        ranks: who trains; this process alone unless given.

    Raises:
        InputError: the corpus does not have what an order needs, see `order_of`; the start fits
            neither the recipe nor the corpus; a cross phase has no start.
    """
    refuse_without_start(recipe, start.facts if start else None)
    if start is not None:
        refuse_misfit(start.facts, tokenizer=start.tokenizer, recipe=recipe, corpus=corpus)
    ranks = ranks or Ranks(device=choose_device(recipe.device))
    phases, first = make_phases(recipe, corpus=corpus, ranks=ranks), recipe.phases[0]
    model = Transformer(
        shape_of_run(recipe, corpus, start.facts if start else None),
        global_rope_theta=first.global_rope_theta,
        local_rope_theta=first.local_rope_theta,
    )
    model.to(ranks.device)
    engine = Engine(model, recipe=recipe, ranks=ranks)
    # A fresh optimiser knows its own phase's rate; one that goes on knows the whole recipe's.
    highest = 1.0 if continues(recipe, start) else first.lr_factor
    return Setup(
        recipe=recipe,
        corpus=corpus,
        phases=phases,
        model=model,
        engine=engine,
        optimizer=build_optimizer(
            model, peak_lr=recipe.peak_lr * highest, weight_decay=recipe.weight_decay
        ),
        ranks=ranks,
        precision=choose_precision(recipe.precision, ranks.device),
        start=start,
    )


def make_phases(recipe: Recipe, *, corpus: Corpus, ranks: Ranks = ALONE) -> tuple[PhaseSetup, ...]:
    """What each phase of a recipe trains on.

    Raises:
        InputError: see `order_of`.
    """
    ends = accumulate((total_steps(phase) for phase in recipe.phases), initial=0)
    vocabulary = vocabulary_of(corpus)
    phases = []
    for phase, first_step in zip(recipe.phases, ends, strict=False):
        order = order_of(recipe, phase, corpus)
        reader = training_reader(
            corpus, order, phase=phase.name, context_length=phase.context_length
        )
        # The masks of a stored order are the run's own, so that seeds differ on the same rows.
        reader = replace(reader, seed=recipe.seed)
        phases.append(
            PhaseSetup(recipe, phase, first_step, corpus, order, reader, vocabulary, ranks)
        )
    return tuple(phases)


def shape_of_run(recipe: Recipe, corpus: Corpus, start: Json | None) -> Shape:
    """The recipe's dimensions, with the vocabulary of the start or else of the corpus."""
    vocab_size = start["shape"]["vocab_size"] if start else corpus.padded_vocab_size
    return Shape(vocab_size=vocab_size, **recipe.shape.model_dump())


def refuse_without_start(recipe: Recipe, start: Json | None) -> None:
    """A recipe that names a start needs it, and a cross phase, which trains the twin's weights.

    Raises:
        InputError: there is none, or another one.
    """
    if recipe.start_from != (start["where"] if start else None):
        raise InputError(
            f"the recipe starts from {recipe.start_from}, given is "
            f"{start['where'] if start else 'nothing'}; load the recipe with the start's facts"
        )
    if start is None and recipe.phases[0].name == CROSS:
        other = "encoder" if recipe.objective == "clm" else "decoder"
        raise InputError(
            f"the cross phase trains the weights of the twin: give --from WHERE, a trained {other}"
        )


def variant_of(recipe: Recipe, start: Json | None) -> str:
    """`cross` when a run's weights come from the other kind of model, now or before; `native`."""
    if start is None:
        return "native"
    crossed = start["kind"] != kind_of_objective(recipe.objective)
    return "cross" if crossed or start["variant"] == "cross" else "native"


def load_first_weights(setup: Setup) -> None:
    """Give the model its first weights: drawn anew, or the start's, with or without its moments.

    A run that goes on with the objective of its start, from one of our checkpoints, takes the
    optimiser's moments over; the cross phase and models from elsewhere begin with fresh ones.
    """
    start = setup.start
    if start is None:
        load_model(setup.model, _drawn(setup))
        return
    load_model(setup.model, start.weights().items())
    if continues(setup.recipe, start):
        assert start.checkpoint is not None
        restore_optimizer(
            start.checkpoint, model=setup.model, optimizer=setup.optimizer, settings=False
        )


def _drawn(setup: Setup) -> Iterator[tuple[str, Tensor]]:
    """Weights drawn anew: whole, since the draw of a tensor does not know who holds which part."""
    model = setup.model
    with torch.device("meta"):
        drawn = Transformer(
            model.shape,
            global_rope_theta=model.global_rope_theta,
            local_rope_theta=model.local_rope_theta,
        )
    drawn.to_empty(device="cpu").initialise(setup.recipe.seed)
    yield from drawn.state_dict().items()


def continues(recipe: Recipe, start: Start | None) -> bool:
    """Whether the optimiser's moments go on."""
    return (
        start is not None
        and start.facts["format"] == "checkpoint"
        and start.facts["objective"] == recipe.objective
    )


def start_facts(setup: Setup) -> Json:
    """What identifies the beginning of a run, for `start.json`.

    To be called by all ranks, after `load_first_weights` and before anything else changes the
    weights: the first rank hashes them.
    """
    weights = {}
    for name, tensor in setup.model.state_dict().items():
        gathered = whole(tensor)
        if setup.ranks.is_first:
            weights[name] = gathered.cpu()
    return {
        "corpus": {
            "path": str(setup.corpus.path.absolute()),
            "fingerprint": setup.corpus.fingerprint,
        },
        "order": fingerprint_of([at.order for at in setup.phases]),
        "row_orders": row_orders(setup),
        "shape": setup.model.shape.model_dump(),
        "parameters": sum(parameter.numel() for parameter in setup.model.parameters()),
        "initial_weights_hash": fingerprint_arrays(
            {name: tensor.numpy() for name, tensor in weights.items()}
        ),
        "start": setup.start.facts if setup.start else None,
    }


def row_orders(setup: Setup) -> Json:
    """Where the stored orders of a run lie and what identifies them, by phase."""
    return {
        at.phase.name: {"path": str(at.order.path.absolute()), "fingerprint": at.order.fingerprint}
        for at in setup.phases
        if isinstance(at.order, StoredOrder)
    }
