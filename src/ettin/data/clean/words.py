"""Words of texts as they are compared: normalised, hashed by the million, and their n-grams.

    list_words("The raven’s CAFÉ, 1845")          # ["the", "raven", "s", "café", "1845"]
    list_words("大鸦 1845")                        # ["大", "鸦", "1845"]

Text is brought into Unicode's form NFKC and, character by character, into lower case (ς becomes σ);
characters that only steer the layout (soft hyphens, joiners, variation selectors) go. A **word** is
then a run of letters, digits and marks, and what stands between words (spaces, punctuation,
symbols) only separates them. Scripts that put no spaces between words are taken character by
character, and a character weighs as much as it tells, after the lengths that translations of the
same text have: a word of a spaced script 4, an ideograph or kana 2, a letter of Thai, Lao, Khmer or
Burmese 1.

An **n-gram** at some word is the shortest stretch from there that weighs 4·n: n words where there
are spaces. It depends on nothing before it, so equal texts have equal n-grams, wherever they stand.

Hashes are polynomials modulo 2⁶⁴ over characters, and again over words. Equal words have equal
hashes; that equal hashes mean equal words is only likely, and whoever must know compares the words.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]
UInt8Array = npt.NDArray[np.uint8]

WORD_WEIGHT = 4
"""What a word of a script with spaces weighs."""

_IDEOGRAPH_WEIGHT, _LETTER_WEIGHT = 2, 1
_IDEOGRAPHS = ((0x3005, 0x3007), (0x3041, 0x30FF), (0x3105, 0x312F), (0x31A0, 0x31BF),
               (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
               (0x20000, 0x3FFFF))  # fmt: skip
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17DD), (0xA9E0, 0xA9FF),
             (0xAA60, 0xAA7F))  # fmt: skip
_FIRST_UNSPACED = 0x0E00
_SELECTORS = ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0000, 0xE0FFF))
_ASSIGNED = 0x40000
_ZERO_WIDTH_SPACE, _DOTTED_I, _FINAL_SIGMA = 0x200B, 0x0130, 0x03C2

# What characters become that are in no word; all others stay above.
_SEPARATES, _IGNORED, _ENDS = 0, 1, 2
_END = "\x1e"

# Blocks and portions are as large as fits into the caches together with what is made of them.
_BLOCK_CHARACTERS = 1 << 14
_LONGEST_BLOCK = 1 << 20
_WINDOW_STARTS = 1 << 14
# The normal form of what precedes one of these does not depend on it.
_CUT = re.compile(r"[\s,.;:!?。、，；：！？]")

_CHARACTER_BASE, _WORD_BASE = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95
_MIXER = np.uint64(0xBF58476D1CE4E5B9)


class Words(NamedTuple):
    """Words as numbers.

    Attributes:
        hashes: uint64 [words].
        weights: uint8 [words]; see the module.
    """

    hashes: UInt64Array
    weights: UInt8Array


class Windows(NamedTuple):
    """N-grams as numbers, one for each word at which a whole one begins.

    Attributes:
        first: the word at which the first begins; each other begins one word later.
        hashes: uint64 [n-grams].
        ends: int64 [n-grams], the word after the last of each.
    """

    first: int
    hashes: UInt64Array
    ends: Int64Array


_NONE = Words(np.empty(0, np.uint64), np.empty(0, np.uint8))


def list_words(text: str) -> list[str]:
    """The words of a text, normalised; as many as `hash_texts` counts, in the same order."""
    words: list[str] = []
    for block in _blocks(text):
        codes = _codes(block)
        starts, ends, _ = _cut(codes)
        plain = codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        words += [plain[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    return words


def hash_texts(texts: list[str]) -> tuple[Words, Int64Array]:
    """The words of texts as numbers, one text after another; about 16 bytes a word.

    Returns:
        The words, and boundaries [texts + 1]: text t has the words boundaries[t] up to, not
        including, boundaries[t + 1].
    """
    parts, boundaries, before = [_NONE], [np.zeros(1, np.int64)], 0
    for block in _blocks_with_ends(texts):
        codes = _codes(block)
        words, starts = _hashed(codes)
        parts.append(words)
        boundaries.append(before + np.searchsorted(starts, np.flatnonzero(codes == _ENDS)))
        before += len(starts)
    hashes, weights = zip(*parts, strict=True)
    return Words(np.concatenate(hashes), np.concatenate(weights)), np.concatenate(boundaries)


def windows(words: Words, *, weight: int) -> Iterator[Windows]:
    """All n-grams of a text, in portions.

    Args:
        words: the text.
        weight: what an n-gram weighs at least: `WORD_WEIGHT` times its words.
    """
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(words.weights, dtype=np.int64)])
    # Weights are at least 1, so later starts leave less, and those with a whole n-gram come first.
    complete = int(np.searchsorted(total, total[-1] - weight, "right"))
    powers, inverses = _powers(_WORD_BASE, _WINDOW_STARTS + weight)
    for first in range(0, complete, _WINDOW_STARTS):
        count = min(_WINDOW_STARTS, complete - first)
        here = words.hashes[first : first + count + weight]
        sums = np.zeros(len(here) + 1, np.uint64)
        np.cumsum(here * powers[: len(here)], out=sums[1:])
        begun = total[first : first + count]
        if total[first + len(here)] - total[first] == len(here) * WORD_WEIGHT:
            ends = np.arange(count) + -(-weight // WORD_WEIGHT)  # all are words with spaces
        else:
            ends = np.searchsorted(total[first : first + len(here) + 1], begun + weight)
        yield Windows(first, (sums[ends] - sums[:count]) * inverses[:count], first + ends)


def _blocks(text: str) -> Iterator[str]:
    """A text in pieces of bounded size whose words, one after another, are those of the whole.

    Only a stretch of a million characters without a space or a comma is cut inside.
    """
    start = 0
    while len(text) - start > _BLOCK_CHARACTERS:
        limit = start + _LONGEST_BLOCK
        found = _CUT.search(text, start + _BLOCK_CHARACTERS, limit)
        end = found.start() if found else min(limit, len(text))
        yield text[start:end]
        start = end
    yield text[start:]


def _blocks_with_ends(texts: list[str]) -> Iterator[str]:
    """Texts in pieces, many short ones in one piece, each followed by a sign that it ends."""
    waiting: list[str] = []
    characters = 0
    for text in (text.replace(_END, " ") for text in texts):
        if waiting and characters + len(text) > _BLOCK_CHARACTERS:
            yield _END.join([*waiting, ""])
            waiting, characters = [], 0
        if len(text) > _BLOCK_CHARACTERS:
            *most, last = _blocks(text)
            yield from most
            yield last + _END
        else:
            waiting.append(text)
            characters += len(text)
    yield _END.join([*waiting, ""])


def _codes(text: str) -> npt.NDArray[Any]:
    """The characters of a normalised text; uint8 where all are ASCII, else uint32."""
    if text.isascii():
        return np.frombuffer(text.encode().translate(_ascii()), np.uint8)
    encoded = unicodedata.normalize("NFKC", text).encode("utf-32-le", "surrogatepass")
    codes = _folded().take(np.frombuffer(encoded, "<u4"))
    ignored = codes == _IGNORED
    return codes[~ignored] if ignored.any() else codes


def _cut(codes: npt.NDArray[Any]) -> tuple[Int64Array, Int64Array, UInt8Array]:
    """Where words begin and end, and what they weigh; each [words]."""
    if codes.dtype == np.uint8 or codes.max(initial=0) < _FIRST_UNSPACED:
        present = np.zeros(len(codes) + 2, bool)
        np.greater(codes, _ENDS, out=present[1:-1])
        edges = np.flatnonzero(present[1:] != present[:-1])
        return edges[::2], edges[1::2], np.full(len(edges) // 2, WORD_WEIGHT, np.uint8)
    weights = np.zeros(len(codes) + 2, np.uint8)
    weights[1:-1] = _weights().take(codes)
    spelt, present = weights == WORD_WEIGHT, weights != 0
    joined = spelt[:-1] & spelt[1:]
    starts = np.flatnonzero(present[1:] & ~joined)
    return starts, np.flatnonzero(present[:-1] & ~joined), weights[1:][starts]


def _hashed(codes: npt.NDArray[Any]) -> tuple[Words, Int64Array]:
    """Words as numbers, and where each begins."""
    starts, ends, weights = _cut(codes)
    powers, inverses = _powers(_CHARACTER_BASE, len(codes))
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(np.multiply(codes, powers[: len(codes)], dtype=np.uint64), out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * inverses[starts]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIXER
    return Words(hashes, weights), starts


def _powers(base: int, count: int) -> tuple[UInt64Array, UInt64Array]:
    """At least `count` powers of an odd number modulo 2⁶⁴, and their inverses."""
    size = max(_BLOCK_CHARACTERS, 1 << (count - 1).bit_length()) if count else _BLOCK_CHARACTERS
    return _table_of_powers(base, size)


@lru_cache(maxsize=8)
def _table_of_powers(base: int, size: int) -> tuple[UInt64Array, UInt64Array]:
    made = []
    for factor in (base, pow(base, -1, 1 << 64)):
        table = np.full(size, factor, np.uint64)
        table[0] = 1
        made.append(np.cumprod(table, dtype=np.uint64))
    return made[0], made[1]


@lru_cache(maxsize=1)
def _ascii() -> bytes:
    return bytes([*map(_fold, range(128)), *bytes(128)])


@lru_cache(maxsize=1)
def _folded() -> npt.NDArray[np.uint32]:
    """What every character becomes."""
    table = np.zeros(0x110000, np.uint32)
    table[:_ASSIGNED] = np.fromiter(map(_fold, range(_ASSIGNED)), np.uint32, _ASSIGNED)
    for first, last in _SELECTORS:
        table[first : last + 1] = _IGNORED
    return table


@lru_cache(maxsize=1)
def _weights() -> UInt8Array:
    """What the character weighs as a word, or the word that it is part of; 0 for what separates."""
    table = np.where(_folded() > _ENDS, WORD_WEIGHT, 0).astype(np.uint8)
    for ranges, weight in ((_IDEOGRAPHS, _IDEOGRAPH_WEIGHT), (_UNSPACED, _LETTER_WEIGHT)):
        for first, last in ranges:
            table[first : last + 1][table[first : last + 1] > 0] = weight
    return table


def _fold(code: int) -> int:
    if code in _FOLDED_OTHERWISE:
        return _FOLDED_OTHERWISE[code]
    category = unicodedata.category(chr(code))
    if category[0] in "LNM":
        return ord(chr(code).lower())
    return _IGNORED if category == "Cf" else _SEPARATES


_FOLDED_OTHERWISE = {
    ord(_END): _ENDS,
    _ZERO_WIDTH_SPACE: _SEPARATES,
    _DOTTED_I: ord("i"),
    _FINAL_SIGMA: ord("σ"),
}
