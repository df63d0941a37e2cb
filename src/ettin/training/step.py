"""One step: what it trains on, loaded ahead, and the loss of a micro-batch.

Rows come from the order, masks from the objective, both as functions of the step; the number of
labels of the whole step is known before the first forward pass and divides every loss.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ettin.data import ledger
from ettin.data.batches import RowReader, Stream, split_rows
from ettin.data.corpus import Corpus
from ettin.data.order import Rows
from ettin.data.stored_order import AnyOrder
from ettin.model.transformer import Dropout, Transformer
from ettin.objectives import Task, Vocabulary, make_task, summed_loss
from ettin.random_bits import USE_DROPOUT, key, keys
from ettin.recipe import Objective, Phase, Recipe
from ettin.schedules import batch_rows, rows_before
from ettin.training.distributed import ALONE, Ranks


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass gets, on the CPU until it is used."""

    stream: Stream
    task: Task

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on a device, but for the boundaries, which the model reads on the CPU."""
        stream, task = self.stream, self.task
        return MicroBatch(
            Stream(
                stream.tokens.to(device),
                stream.boundaries,
                stream.position_keys.to(device),
                stream.row_tokens,
            ),
            Task(task.inputs.to(device), task.positions.to(device), task.labels.to(device)),
        )


@dataclass(frozen=True)
class Step:
    """Everything that a step trains on.

    A rank loads its own rows alone; `of_all_ranks` then gives the counts of all.

    Attributes:
        number: of the phase, from 1.
        first_row: position in the phase's order where it begins.
        rows: all its rows in order, of whichever rank.
        micro_batches: this rank's rows in portions, as many on every rank.
        labels: labels in all of them; losses are divided by it.
        source_tokens: int64 [sources], text tokens of each source of the order.
        sums: what its rows add to the ledger.
    """

    number: int
    first_row: int
    rows: Rows
    micro_batches: list[MicroBatch]
    labels: int
    source_tokens: npt.NDArray[np.int64]
    sums: ledger.StepHash

    @property
    def text_tokens(self) -> int:
        """Tokens of all its rows."""
        return int(self.source_tokens.sum())

    def of_all_ranks(self, ranks: Ranks) -> "Step":
        """The same, with labels, tokens and sums of all ranks; all must ask for it."""
        own = [self.labels, self.sums.rows, self.sums.places, *self.source_tokens.tolist()]
        labels, rows, places, *source_tokens = ranks.sum_integers(own)
        return replace(
            self,
            labels=labels,
            sums=ledger.StepHash(rows, places),
            source_tokens=np.array(source_tokens, dtype=np.int64),
        )


def vocabulary_of(corpus: Corpus) -> Vocabulary:
    """The corpus's special and ordinary tokens, as objectives need them."""
    special = torch.ones(corpus.padded_vocab_size, dtype=torch.bool)
    ordinary = torch.from_numpy(np.array(corpus.ordinary_ids, dtype=np.int64))
    special[ordinary] = False
    return Vocabulary(corpus.special.mask, special, ordinary)


def load_step(
    number: int,
    *,
    recipe: Recipe,
    phase: Phase,
    order: AnyOrder,
    reader: RowReader,
    vocabulary: Vocabulary,
    ranks: Ranks = ALONE,
) -> Step:
    """Step `number` of a phase, a pure function of its arguments.

    A rank loads one stretch of the batch's rows, and an empty micro-batch where others have one
    more than itself.
    """
    first_row = rows_before(phase, number)
    rows = order.rows(first_row, batch_rows(phase, number))
    places = ranks.block(len(rows.row))
    own = Rows(*(column[places.start : places.stop] for column in rows))
    micro_batches = make_micro_batches(
        own,
        reader=reader,
        objective=recipe.objective,
        mask_rate=phase.mask_rate,
        vocabulary=vocabulary,
        size=recipe.micro_batch_rows_of(phase),
        at_least=ranks.largest_block(len(rows.row)),
    )
    row_tokens = np.concatenate([each.stream.row_tokens for each in micro_batches])
    source_tokens = np.zeros(len(order.sources), dtype=np.int64)
    np.add.at(source_tokens, own.source, row_tokens)
    return Step(
        number=number,
        first_row=first_row,
        rows=rows,
        micro_batches=micro_batches,
        labels=sum(len(each.task.labels) for each in micro_batches),
        source_tokens=source_tokens,
        sums=ledger.hash_rows(
            own,
            np.arange(places.start, places.stop, dtype=np.int64),
            np.concatenate([each.stream.tokens.numpy() for each in micro_batches]),
            row_tokens,
        ),
    )


def make_micro_batches(
    rows: Rows,
    *,
    reader: RowReader,
    objective: Objective,
    mask_rate: float,
    vocabulary: Vocabulary,
    size: int,
    at_least: int = 0,
) -> list[MicroBatch]:
    """Rows as micro-batches of at most `size` rows, masked for an objective.

    With empty ones at the end, until there are as many as `at_least` rows would make.
    """
    micro_batches = []
    for portion in split_rows(rows, size):
        stream = reader.stream(portion)
        task = make_task(
            objective,
            tokens=stream.tokens,
            boundaries=stream.boundaries,
            position_keys=stream.position_keys,
            mask_rate=mask_rate,
            vocabulary=vocabulary,
        )
        micro_batches.append(MicroBatch(stream, task))
    missing = -(-at_least // size) - len(micro_batches)
    return micro_batches + [empty_micro_batch() for _ in range(missing)]


def empty_micro_batch() -> MicroBatch:
    """No row and no label: the loss is 0, and so is every gradient.

    It has one token all the same, since kernels differ in what they make of none.
    """
    one, none = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    boundaries = torch.tensor([0, 1], dtype=torch.int32)
    return MicroBatch(
        Stream(one, boundaries, one, np.zeros(0, dtype=np.int64)), Task(one, none, none)
    )


def micro_batch_loss(
    model: Transformer, micro_batch: MicroBatch, *, recipe: Recipe, training: bool
) -> Tensor:
    """Σ loss over the labels of a micro-batch, in nats; fp32 scalar.

    Args:
        model: the transformer, on the micro-batch's device.
        micro_batch: inputs and labels.
        recipe: gives visibility and dropout.
        training: whether dropout acts.
    """
    stream, task = micro_batch.stream, micro_batch.task
    rate = recipe.attention_output_dropout
    dropout = None
    if training and rate:
        dropout = Dropout(rate, keys(key(USE_DROPOUT), stream.position_keys))
    hidden = model(task.inputs, stream.boundaries, visibility=recipe.visibility, dropout=dropout)
    # The head and the logits are computed where an answer is read, nowhere else.
    features = model.features(hidden.index_select(0, task.positions))
    return summed_loss(features, model.output_weight, model.output_bias, task.labels)
