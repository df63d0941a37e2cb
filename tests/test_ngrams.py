"""N-gram baselines against a direct reading of their formulas."""

from collections import Counter

import numpy as np
import pytest

from ettin.data.ngrams import DISCOUNT, fit, neighbours

SIZE = 7
CHUNKS = [[0, 2, 3, 2, 3, 1], [0, 3, 3, 4, 1], [0, 5, 2, 1]]
TOKENS = np.concatenate([np.array(chunk, np.int64) for chunk in CHUNKS])
BOUNDARIES = np.cumsum([0, *map(len, CHUNKS)]).astype(np.int64)


def pairs() -> list[tuple[int, int]]:
    return [(chunk[n], chunk[n + 1]) for chunk in CHUNKS for n in range(len(chunk) - 1)]


def kneser_ney(before: int, word: int) -> float:
    counts, kinds = Counter(pairs()), set(pairs())
    ends_here = sum(1 for _, second in kinds if second == word)
    seconds = {second for _, second in kinds}
    lower = max(ends_here - DISCOUNT, 0) / len(kinds) + DISCOUNT * len(seconds) / len(kinds) / SIZE
    total = sum(count for (first, _), count in counts.items() if first == before)
    if not total:
        return lower
    follow = sum(1 for first, _ in kinds if first == before)
    return max(counts[before, word] - DISCOUNT, 0) / total + DISCOUNT * follow / total * lower


@pytest.fixture(scope="module")
def model():
    # Two portions: counting must not depend on how the stream is cut.
    half = int(BOUNDARIES[2])
    portions = [(TOKENS[:half], BOUNDARIES[:3]), (TOKENS[half:], BOUNDARIES[2:] - half)]
    return fit(portions, vocab_size=SIZE)


def test_bigram_probabilities_are_those_of_interpolated_kneser_ney(model):
    for before in range(SIZE):
        row = model.bigram(np.full(SIZE, before), np.arange(SIZE))
        assert row == pytest.approx([kneser_ney(before, word) for word in range(SIZE)])
        assert row.sum() == pytest.approx(1)


def test_unigram_probabilities_sum_to_one_and_follow_counts(model):
    assert model.unigram.sum() == pytest.approx(1)
    assert (model.unigram > 0).all()
    assert np.argmax(model.unigram) == 3
    assert model.unigram[0] == model.unigram.min()  # a BOS is never predicted


def test_no_pair_crosses_a_boundary():
    before, after = neighbours(TOKENS, BOUNDARIES)
    assert list(zip(before.tolist(), after.tolist(), strict=True)) == pairs()


def test_losses_are_mean_negative_logarithms(model):
    before, words = neighbours(TOKENS, BOUNDARIES)
    expected = -np.mean([np.log(kneser_ney(*pair)) for pair in pairs()])
    assert model.bigram_loss(before, words) == pytest.approx(expected)
    assert model.unigram_loss(words) == pytest.approx(-np.log(model.unigram[words]).mean())


def test_nothing_to_count_is_an_error():
    with pytest.raises(ValueError, match="no two neighbouring tokens"):
        fit([(np.array([0]), np.array([0, 1]))], vocab_size=3)
