"""Documents cut into inputs of a model, and what is asked in each: three ways to measure a text.

    everything   a decoder, each token given all before it in its window
    masked       an encoder, 15 % of the tokens hidden at once, as in training
    alone        an encoder, one token hidden and all others of its window visible (pseudo-log-
                 likelihood; Salazar et al. 2020, "Masked Language Model Scoring")

A window is what fits into the model's context between the special tokens. A document that is
shorter is one window. Of a longer one, each window begins `stride` tokens after the one before it,
and only tokens that the one before did not hold are asked for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.text.held_out import Text
from ettin.evaluation.token_probabilities import Int64Array, Reading, Surroundings
from ettin.objectives import Vocabulary, make_task
from ettin.random_bits import key, keys, name_key, nonnegative
from ettin.recipe import Objective

MASK_RATE = 0.15
LONGEST = 8192
"""No context is made longer than this, so that a window's logits fit into memory."""

_UNKNOWN_CONTEXT = 1024
_POSITIONS_AFTER_PADDING = ("roberta", "camembert", "mpnet", "longformer")
"""Models whose first position has the number after the padding token's."""


class Window(NamedTuple):
    """Tokens `begin` to `end` of a document, of which those from `asked` on are asked for."""

    begin: int
    asked: int
    end: int


def context_length(model: EvaluatedModel) -> int:
    """The longest input of a model in tokens, special ones included, as its files say.

    At most `LONGEST`; 1,024 for models that do not say, such as those without positions.
    """
    config = model.config
    stated = [config.get(name) for name in ("max_position_embeddings", "n_positions", "n_ctx")]
    length = next((int(each) for each in stated if each), _UNKNOWN_CONTEXT)
    if any(name in str(config.get("model_type")) for name in _POSITIONS_AFTER_PADDING):
        length -= int(config.get("pad_token_id") or 0) + 1
    return min(length, LONGEST)


def windows(tokens: int, *, size: int, stride: int) -> list[Window]:
    """Cut a document into windows; together they ask for every token once.

    Args:
        tokens: how many the document has.
        size: tokens of a window, special ones not counted.
        stride: tokens from one beginning to the next; `size` for no overlap.
    """
    if tokens == 0:
        return []
    result = [Window(0, 0, min(size, tokens))]
    while result[-1].end < tokens:
        last = result[-1]
        begin = last.begin + stride
        result.append(Window(begin, last.end, min(begin + size, tokens)))
    return result


def ask_everything(text: Text, around: Surroundings, *, size: int, stride: int) -> list[Reading]:
    """What a decoder is asked about a document: every token, the first one given BOS."""
    first = len(around.begin)
    return [
        Reading(
            around.around(text.tokens[window.begin : window.end]),
            np.arange(window.asked, window.end) - window.begin + first - 1,
            text.tokens[window.asked : window.end],
        )
        for window in windows(len(text.tokens), size=size, stride=stride)
    ]


def ask_masked(
    text: Text,
    around: Surroundings,
    *,
    size: int,
    objective: Objective,
    vocabulary: Vocabulary,
) -> list[Reading]:
    """What an encoder is asked about a document with `MASK_RATE` of its tokens hidden.

    Which, and by what they are replaced, depends on the document's source and id and the token's
    place in it alone: it is the same for all models with this tokenizer, whatever their context.

    Args:
        text: the document.
        around: the model's special tokens.
        size: tokens of a window; windows do not overlap.
        objective: `mlm` or `mntp`, which tells where answers are read.
        vocabulary: special and ordinary tokens.
    """
    position_keys = text_keys(text)
    result = []
    for window in windows(len(text.tokens), size=size, stride=size):
        tokens = torch.from_numpy(around.around(text.tokens[window.begin : window.end]))
        own = np.zeros(len(tokens), dtype=np.int64)
        start = len(around.begin)
        own[start : start + window.end - window.begin] = position_keys[window.begin : window.end]
        task = make_task(
            objective,
            tokens=tokens,
            boundaries=torch.tensor([0, len(tokens)]),
            position_keys=torch.from_numpy(own),
            mask_rate=MASK_RATE,
            vocabulary=vocabulary,
        )
        if len(task.labels):
            asked = (task.inputs, task.positions, task.labels)
            result.append(Reading(*(each.numpy() for each in asked)))
    return result


def ask_alone(
    text: Text, places: Int64Array, around: Surroundings, *, size: int, offset: int
) -> list[Reading]:
    """What an encoder is asked about single tokens of a document, each hidden alone.

    Args:
        text: the document.
        places: int64 [N], which tokens.
        around: the model's special tokens.
        size: tokens of a window; windows do not overlap.
        offset: how far before a hidden token its answer is read.
    """
    result = []
    assert around.mask is not None
    for place in places.tolist():
        begin = place // size * size
        tokens = around.around(text.tokens[begin : begin + size])
        inside = place - begin + len(around.begin)
        answer = tokens[inside : inside + 1].copy()
        tokens[inside] = around.mask
        result.append(Reading(tokens, np.array([inside - offset]), answer))
    return result


def draw_places(texts: Sequence[Text], count: int) -> list[Int64Array]:
    """`count` tokens of documents, drawn evenly from all of them together.

    Returns:
        For each document the places of those drawn, ascending; the same in every run.
    """
    draws = [nonnegative(keys(key(name_key("alone")), text_keys(text))) for text in texts]
    smallest = np.sort(np.concatenate([np.zeros(0, np.int64), *draws]))[:count]
    bound = smallest[-1] if len(smallest) else -1
    return [np.flatnonzero(draw <= bound) for draw in draws]


def text_keys(text: Text) -> Int64Array:
    """One random key for each token of a document; int64 [T]."""
    own = key(name_key("text/perplexity"), name_key(text.source), name_key(text.id))
    return keys(own, np.arange(len(text.tokens), dtype=np.int64))
