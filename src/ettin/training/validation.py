"""Held-out loss, and the n-gram models that it is compared with.

The rows and their masks are always the same in a phase, whatever the recipe's seed, so that the
numbers of different runs and checkpoints differ by the model alone. A phase of another context
length has other rows, and one of another mask rate other masks.
"""

from collections.abc import Iterable

import numpy as np
import torch

from ettin.data import ngrams
from ettin.data.batches import Stream, held_out_reader, held_out_rows
from ettin.data.corpus import Corpus
from ettin.data.order import Rows
from ettin.files import Json
from ettin.objectives import ANSWER_OFFSETS, Vocabulary
from ettin.recipe import Objective, Phase, Recipe
from ettin.training.device import autocast
from ettin.training.distributed import ALONE, Ranks
from ettin.training.engine import Engine
from ettin.training.step import MicroBatch, make_micro_batches

SAMPLE_CHUNKS = 4


def held_out_batches(
    corpus: Corpus, *, recipe: Recipe, phase: Phase, vocabulary: Vocabulary, ranks: Ranks = ALONE
) -> list[MicroBatch]:
    """The held-out rows of a recipe as micro-batches: those of this rank, as many on every one."""
    reader = held_out_reader(corpus, context_length=phase.context_length)
    rows = held_out_rows(reader, recipe.validation_rows)
    places = ranks.block(len(rows.row))
    return make_micro_batches(
        Rows(*(column[places.start : places.stop] for column in rows)),
        reader=reader,
        objective=recipe.objective,
        mask_rate=phase.mask_rate,
        vocabulary=vocabulary,
        size=recipe.micro_batch_rows_of(phase),
        at_least=ranks.largest_block(len(rows.row)),
    )


@torch.no_grad()
def validation_loss(engine: Engine, batches: list[MicroBatch], *, precision: torch.dtype) -> float:
    """Mean loss over all labels of the held-out rows of all ranks, in nats, without dropout."""
    total, labels, device = 0.0, 0, engine.ranks.device
    for batch in batches:
        with autocast(device, precision):
            total += engine(batch.to(device), training=False).item()
        labels += len(batch.task.labels)
    total, count = engine.ranks.sum_numbers([total, labels])
    return total / max(1, count)


def ngram_losses(
    consumed: Iterable[Stream],
    held_out: list[MicroBatch],
    *,
    objective: Objective,
    vocab_size: int,
) -> Json:
    """Unigram and bigram losses at the labels that the validation loss is the mean of.

    Args:
        consumed: everything that the run trained on.
        held_out: the validation's micro-batches.
        objective: tells where the tokens stand that were asked for.
        vocab_size: V.

    Returns:
        `unigram` and `bigram` in nats a label, `tokens` fitted on and `labels` scored.
    """
    tokens = 0

    def streams() -> Iterable[tuple[ngrams.Int64Array, ngrams.Int64Array]]:
        nonlocal tokens
        for stream in consumed:
            tokens += stream.text_tokens
            yield stream.tokens.numpy(), stream.boundaries.numpy().astype(np.int64)

    model = ngrams.fit(streams(), vocab_size=vocab_size)
    before, words = [], []
    for batch in held_out:
        places = (batch.task.positions + ANSWER_OFFSETS[objective]).numpy()
        before.append(batch.stream.tokens.numpy()[places - 1])
        words.append(batch.stream.tokens.numpy()[places])
    all_before, all_words = np.concatenate(before), np.concatenate(words)
    return {
        "unigram": model.unigram_loss(all_words),
        "bigram": model.bigram_loss(all_before, all_words),
        "tokens": tokens,
        "labels": len(all_words),
    }


def held_out_sample(batches: list[MicroBatch], *, window: int) -> list[list[int]]:
    """A few held-out chunks, the longest first; an export is compared with its source on them.

    Args:
        batches: held-out micro-batches.
        window: chunks no longer than this would not show a wrong attention window.

    Returns:
        Tokens of at most four chunks, each with its BOS; shorter ones only when none is longer.
    """
    chunks = [
        piece.tolist()
        for batch in batches
        for piece in torch.tensor_split(batch.stream.tokens, batch.stream.boundaries[1:-1].long())
    ]
    longest = sorted(chunks, key=len, reverse=True)[:SAMPLE_CHUNKS]
    return [chunk for chunk in longest if len(chunk) > window] or longest[:1]
