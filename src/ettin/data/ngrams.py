"""Two baselines that a language model should be held against: unigram and bigram.

Both are fitted on exactly the rows that a run consumed and scored on exactly the labels that its
validation loss is the mean of, so the three numbers can stand side by side:

    unigram  how often a token occurs, smoothed
    bigram   interpolated Kneser-Ney with one discount of 0.75 (Kneser and Ney 1995; Chen and
             Goodman 1999), given the true token before

    p(w | v) = max(c(v w) − d, 0) / c(v) + d · N₊(v ·) / c(v) · p_cont(w)
    p_cont(w) = max(N₊(· w) − d, 0) / N₊(· ·) + d · |{w : N₊(· w) > 0}| / N₊(· ·) / V
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

DISCOUNT = 0.75


@dataclass(frozen=True)
class NgramModel:
    """Unigram and bigram probabilities over a vocabulary of V tokens.

    Attributes:
        unigram: [V], sums to 1.
        continuation: [V], the lower order of the bigram, sums to 1.
        pairs: sorted codes v · V + w of the bigrams seen.
        pair_counts: how often each was seen.
        before_counts: [V], bigrams that begin with a token.
        before_types: [V], different bigrams that begin with a token.
    """

    unigram: Float64Array
    continuation: Float64Array
    pairs: Int64Array
    pair_counts: Int64Array
    before_counts: Int64Array
    before_types: Int64Array

    def unigram_loss(self, words: Int64Array) -> float:
        """Mean −log p(w) in nats."""
        return float(-np.log(self.unigram[words]).mean())

    def bigram_loss(self, before: Int64Array, words: Int64Array) -> float:
        """Mean −log p(w | v) in nats; a token v never seen backs off to the lower order alone."""
        return float(-np.log(self.bigram(before, words)).mean())

    def bigram(self, before: Int64Array, words: Int64Array) -> Float64Array:
        """p(w | v) for each pair; [n]."""
        codes = before * len(self.unigram) + words
        place = np.minimum(np.searchsorted(self.pairs, codes), len(self.pairs) - 1)
        count = np.where(self.pairs[place] == codes, self.pair_counts[place], 0)
        total = self.before_counts[before]
        seen = np.maximum(total, 1)
        spared = np.where(total > 0, DISCOUNT * self.before_types[before] / seen, 1.0)
        found = np.maximum(count - DISCOUNT, 0) / seen
        result: Float64Array = found + spared * self.continuation[words]
        return result


def fit(streams: Iterable[tuple[Int64Array, Int64Array]], *, vocab_size: int) -> NgramModel:
    """Count tokens and neighbours inside chunks.

    Args:
        streams: tokens [T] and chunk boundaries [n + 1]; a chunk's first token (its BOS) is never
            predicted and no pair crosses a boundary.
        vocab_size: V.

    Raises:
        ValueError: the streams hold no pair at all.
    """
    words = np.zeros(vocab_size, np.int64)
    pairs, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for tokens, boundaries in streams:
        before, after = neighbours(tokens, boundaries)
        words += np.bincount(after, minlength=vocab_size)
        pairs, counts = _merge(pairs, counts, before * vocab_size + after)
    if not len(pairs):
        raise ValueError("no two neighbouring tokens to count")
    first, second = np.divmod(pairs, vocab_size)
    before_counts = np.bincount(first, weights=counts, minlength=vocab_size).astype(np.int64)
    return NgramModel(
        unigram=_smoothed(words),
        continuation=_smoothed(np.bincount(second, minlength=vocab_size)),
        pairs=pairs,
        pair_counts=counts,
        before_counts=before_counts,
        before_types=np.bincount(first, minlength=vocab_size),
    )


def neighbours(tokens: Int64Array, boundaries: Int64Array) -> tuple[Int64Array, Int64Array]:
    """All pairs of neighbours inside chunks: the tokens before, and the tokens after them."""
    inside = np.ones(len(tokens), bool)
    starts = boundaries[:-1]
    inside[starts[starts < len(tokens)]] = False
    after = np.flatnonzero(inside)
    return tokens[after - 1], tokens[after]


def _merge(pairs: Int64Array, counts: Int64Array, new: Int64Array) -> tuple[Int64Array, Int64Array]:
    fresh, fresh_counts = np.unique(new, return_counts=True)
    merged, place = np.unique(np.concatenate([pairs, fresh]), return_inverse=True)
    total = np.bincount(place, weights=np.concatenate([counts, fresh_counts]))
    return merged, total.astype(np.int64)


def _smoothed(counts: Int64Array) -> Float64Array:
    """Absolute discounting towards the uniform distribution; sums to 1, nowhere 0."""
    total, kinds = counts.sum(), np.count_nonzero(counts)
    kept = np.maximum(counts - DISCOUNT, 0) / total
    result: Float64Array = kept + DISCOUNT * kinds / total / len(counts)
    return result
