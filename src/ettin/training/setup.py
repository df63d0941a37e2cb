"""What a run computes with, made from a recipe and a corpus."""

from dataclasses import dataclass

import torch
from optimi import StableAdamW

from ettin import files
from ettin.data.batches import RowReader, training_reader
from ettin.data.corpus import Corpus
from ettin.data.order import Order, make_order
from ettin.files import Json
from ettin.model.transformer import Transformer
from ettin.objectives import Vocabulary
from ettin.recipe import Phase, Recipe, Shape
from ettin.training.device import choose_device, choose_precision
from ettin.training.optimizer import build_optimizer
from ettin.training.step import MicroBatch, Step, load_step, vocabulary_of
from ettin.training.validation import held_out_batches, validation_loss


@dataclass(frozen=True)
class Setup:
    """What a run computes with; nothing in it but `model` and `optimizer` ever changes."""

    recipe: Recipe
    phase: Phase
    corpus: Corpus
    order: Order
    reader: RowReader
    vocabulary: Vocabulary
    held_out: list[MicroBatch]
    model: Transformer
    optimizer: StableAdamW
    device: torch.device
    precision: torch.dtype

    def load(self, number: int) -> Step:
        """The step of that number."""
        return load_step(
            number,
            recipe=self.recipe,
            phase=self.phase,
            order=self.order,
            reader=self.reader,
            vocabulary=self.vocabulary,
        )

    def validate(self) -> float:
        """Held-out loss of the model as it stands, nats per label."""
        return validation_loss(
            self.model,
            self.held_out,
            recipe=self.recipe,
            device=self.device,
            precision=self.precision,
        )


def build(recipe: Recipe, *, corpus: Corpus) -> Setup:
    """Make everything that training needs, the model with its initial weights.

    Raises:
        InputError: the corpus lacks rows of this context length, or a source of the mixture.
    """
    phase = recipe.phases[0]
    rows = {name: len(corpus.table(name, phase.context_length)) for name in corpus.source_names}
    order = make_order(seed=recipe.seed, phase=phase.name, rows=rows, mixture=recipe.mixture)
    device = choose_device(recipe.device)
    vocabulary = vocabulary_of(corpus)
    shape = Shape(vocab_size=corpus.padded_vocab_size, **recipe.shape.model_dump())
    model = Transformer(
        shape, global_rope_theta=phase.global_rope_theta, local_rope_theta=phase.local_rope_theta
    )
    model.initialise(recipe.seed)
    model.to(device)
    return Setup(
        recipe=recipe,
        phase=phase,
        corpus=corpus,
        order=order,
        reader=training_reader(corpus, order, context_length=phase.context_length),
        vocabulary=vocabulary,
        held_out=held_out_batches(corpus, recipe=recipe, phase=phase, vocabulary=vocabulary),
        model=model,
        optimizer=build_optimizer(model, peak_lr=recipe.peak_lr, weight_decay=recipe.weight_decay),
        device=device,
        precision=choose_precision(recipe.precision, device),
    )


def start_facts(setup: Setup) -> Json:
    """What identifies the beginning of a run, for `start.json`.

    To be called before anything is loaded into the model: its weights are hashed.
    """
    weights = {name: tensor.cpu() for name, tensor in setup.model.state_dict().items()}
    return {
        "corpus": {
            "path": str(setup.corpus.path.absolute()),
            "fingerprint": setup.corpus.fingerprint,
        },
        "order": setup.order.fingerprint,
        "shape": setup.model.shape.model_dump(),
        "parameters": sum(parameter.numel() for parameter in setup.model.parameters()),
        "initial_weights_hash": files.fingerprint_arrays(
            {name: tensor.numpy() for name, tensor in weights.items()}
        ),
    }
