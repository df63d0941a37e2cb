"""From losses of single documents to perplexities and bits per byte, in all and by source."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ettin.evaluation.text.held_out import Text
from ettin.evaluation.token_probabilities import Float64Array, ratio_error
from ettin.files import Json
from ettin.records import Score

_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class Tally:
    """What was found in the documents, one after another.

    Attributes:
        losses: float64 [D], −log p of what was asked for, in nats.
        unigram: float64 [D], the same by the unigram baseline.
        counts: float64 [D], tokens asked for.
    """

    losses: Float64Array
    unigram: Float64Array
    counts: Float64Array


def summarised(tallies: dict[str, Tally], texts: Sequence[Text]) -> dict[str, Score]:
    """All metrics, over everything and by source.

    Errors are those of a mean over documents.

    Args:
        tallies: by what was asked: `perplexity`, `pseudo_perplexity`, `masked_loss`.
        texts: the documents.
    """
    sources = sorted({text.source for text in texts})
    metrics: dict[str, Score] = {}
    for name, tally in tallies.items():
        for source in (None, *sources):
            chosen = np.array([source in (None, text.source) for text in texts])
            held = chosen & (tally.counts > 0)
            if not held.any():
                continue
            members = [text for text, here in zip(texts, chosen, strict=True) if here]
            tokens = sum(len(text.tokens) for text in members)
            size = sum(text.bytes for text in members)
            loss = float(tally.losses[held].sum() / tally.counts[held].sum())
            error = ratio_error(tally.losses[held], tally.counts[held])
            ending = "" if source is None else f"/{source}"
            if name == "masked_loss":
                metrics[name + ending] = Score(value=loss, stderr=error)
                continue
            metrics[name + ending] = _scaled(finite_exp(loss), error, finite_exp(loss))
            per_byte = tokens / size / math.log(2)
            name_per_byte = name.replace("perplexity", "bits_per_byte") + ending
            metrics[name_per_byte] = _scaled(loss * per_byte, error, per_byte)
    return metrics


def samples(tallies: dict[str, Tally], texts: Sequence[Text]) -> list[Json]:
    """One object a document: what was asked of it, and the log-likelihood of the answers."""
    return [
        {
            "source": text.source,
            "document": text.id,
            "tokens": len(text.tokens),
            "bytes": text.bytes,
            **{
                name: {
                    "asked": int(tally.counts[place]),
                    "log_likelihood": -float(tally.losses[place]),
                    "unigram": -float(tally.unigram[place]),
                }
                for name, tally in tallies.items()
            },
        }
        for place, text in enumerate(texts)
    ]


def _scaled(value: float, error: float | None, factor: float) -> Score:
    return Score(value=value, stderr=None if error is None else error * factor)


def finite_exp(loss: float) -> float:
    """e^loss, finite: a record holds no infinity."""
    return math.exp(min(loss, _LARGEST_EXPONENT))
