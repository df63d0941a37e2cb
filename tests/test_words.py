"""Words and n-grams against a plain reading of their rule."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin.data.clean import words as module
from ettin.data.clean.words import WORD_WEIGHT, Words, hash_texts, list_words, windows

# Letters of every kind that the rule tells apart, and signs that join, separate or compose.
ALPHABET = (
    "aBé1 ,\n’-_\x1e\0ſﬁΣςİßẞ大鸦カガがｶﾞーกำ่ខ្មෝहिन्दी𠀀😀\u0301\u00ad\u200b\u200d\ufe0f\ufb01\ud800"
)
TEXTS = st.lists(st.text(st.sampled_from(ALPHABET), max_size=30), max_size=5)


def weight_of(character: str) -> int:
    """The kind of one character, by its name; 0 for what separates."""
    if unicodedata.category(character)[0] not in "LNM":
        return 0
    name = unicodedata.name(character, "")
    if any(script in name for script in ("IDEOGRAPH", "HIRAGANA", "KATAKANA")):
        return 2
    return 1 if name.startswith(("THAI ", "LAO ", "KHMER ", "MYANMAR ")) else 4


def plain_words(text: str) -> list[tuple[str, int]]:
    """Words and weights, one character after another."""
    found: list[tuple[str, int]] = []
    joining = False
    for character in unicodedata.normalize("NFKC", text):
        ignored = unicodedata.category(character) == "Cf" or character == "\ufe0f"
        if ignored and character != "\u200b":
            continue
        folded = {"İ": "i", "ς": "σ"}.get(character) or character.lower()
        weight = weight_of(character)
        if weight == WORD_WEIGHT and joining:
            found[-1] = (found[-1][0] + folded, weight)
        elif weight:
            found.append((folded, weight))
        joining = weight == WORD_WEIGHT
    return found


def plain_windows(found: list[tuple[str, int]], weight: int) -> list[list[str]]:
    ngrams = []
    for start in range(len(found)):
        end, sum_ = start, 0
        while sum_ < weight and end < len(found):
            sum_ += found[end][1]
            end += 1
        if sum_ >= weight:
            ngrams.append([word for word, _ in found[start:end]])
    return ngrams


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_words_are_those_of_the_rule_for_each_text(texts: list[str]) -> None:
    hashed, boundaries = hash_texts(texts)
    expected = [plain_words(text) for text in texts]
    assert [list_words(text) for text in texts] == [[w for w, _ in each] for each in expected]
    assert np.diff(boundaries).tolist() == [len(each) for each in expected]
    assert hashed.weights.tolist() == [weight for each in expected for _, weight in each]
    seen = [word for each in expected for word, _ in each]
    equal = hashed.hashes[:, None] == hashed.hashes[None, :]
    assert equal.tolist() == [[first == second for second in seen] for first in seen]


@pytest.mark.parametrize("block", [1, 3, 16])
def test_words_do_not_depend_on_where_blocks_end(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["The raven, nevermore; ΟΔΟΣ. e\u0301clair über\n大鸦，说：永不", "", "x" * 40, "1 2 3"]
    whole, boundaries = hash_texts(texts)
    spoken = [list_words(text) for text in texts]
    monkeypatch.setattr(module, "_BLOCK_CHARACTERS", block)
    pieces, same = hash_texts(texts)
    assert (pieces.hashes == whole.hashes).all()
    assert (same == boundaries).all()
    assert [list_words(text) for text in texts] == spoken


def test_an_endless_word_is_cut_alike_by_both_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_CHARACTERS", 8)
    monkeypatch.setattr(module, "_LONGEST_BLOCK", 16)
    texts = ["a b", "x" * 50 + " y", "z"]
    assert np.diff(hash_texts(texts)[1]).tolist() == [len(list_words(text)) for text in texts]


@pytest.mark.parametrize("starts", [4, 1 << 14])
@pytest.mark.parametrize("text", ["a b a b a b c a b a", "大 b 鸦 เก a b 大鸦 c b 大", "", "a b"])
def test_windows_are_the_shortest_stretches_of_a_weight(
    text: str, starts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WINDOW_STARTS", starts)
    words, _ = hash_texts([text])
    for weight in (4, 6, 12):
        parts = list(windows(words, weight=weight))
        spoken = list_words(text)
        ngrams = [
            spoken[part.first + number : end]
            for part in parts
            for number, end in enumerate(part.ends.tolist())
        ]
        assert ngrams == plain_windows(plain_words(text), weight)
        hashes = np.concatenate([np.empty(0, np.uint64), *(part.hashes for part in parts)])
        assert len(set(hashes.tolist())) == len({tuple(each) for each in ngrams})


def test_an_ngram_has_the_same_hash_wherever_it_stands() -> None:
    texts = ["one two three four", "so " * 40_000 + "one two three four"]
    hashes = []
    for text in texts:
        words, _ = hash_texts([text])
        *_, last = windows(words, weight=4 * WORD_WEIGHT)
        hashes.append(last.hashes[-1])
    assert hashes[0] == hashes[1]


def test_no_words_make_no_windows() -> None:
    nothing = Words(np.empty(0, np.uint64), np.empty(0, np.uint8))
    assert list(windows(nothing, weight=52)) == []
