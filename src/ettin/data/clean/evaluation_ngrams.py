"""The n-grams of evaluation sets, in tables that are asked for millions of hashes a second.

    ngrams = EvaluationNgrams.load([Path("lm_eval")], ngram_words=13, shortest_words=8)
    ngrams.whole.find(hashes)      # which of these n-grams may be in some evaluation text

About 16 bytes for each different n-gram, and the texts themselves once.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import xxhash

from ettin import files
from ettin.data.clean.evaluation_texts import (
    EvaluationFile,
    EvaluationRecord,
    list_evaluation_files,
    read_evaluation_file,
)
from ettin.data.clean.words import WORD_WEIGHT, Int64Array, UInt64Array, hash_texts, windows

_RULE = 1
"""Goes up when the same evaluation data would find other documents."""

_BATCH_CHARACTERS = 1 << 20
_FILTER_BITS = 16
_BITS = np.array([1 << bit for bit in range(8)], np.uint8)


class EvaluationSet(NamedTuple):
    """One evaluation set.

    Attributes:
        name: see `evaluation_texts`.
        first: the number, among the records of all sets, of its first record.
        records: how many it has.
        looked_for: how many of them have a text that is long enough.
        ngrams: different n-grams of these; a text shorter than an n-gram counts as one.
    """

    name: str
    first: int
    records: int
    looked_for: int
    ngrams: int


class HashTable:
    """Which texts a hash belongs to.

    Args:
        hashes: uint64 [entries], in any order.
        texts: numbers [entries] of the texts that have them.
    """

    def __init__(self, hashes: UInt64Array, texts: npt.NDArray[Any]) -> None:
        order = np.lexsort((texts, hashes))
        hashes, texts = hashes[order], texts[order].astype(np.uint32)
        repeated = np.zeros(len(hashes), bool)
        repeated[1:] = (hashes[1:] == hashes[:-1]) & (texts[1:] == texts[:-1])
        self.hashes, self.texts = hashes[~repeated], texts[~repeated]
        # One bit for each of 16 to 32 times as many places: most hashes that are not in the table
        # end there, after one access instead of the twenty of a search.
        bits = max(len(self.hashes) * _FILTER_BITS, 64).bit_length()
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(1 << (bits - 3), np.uint8)
        places = self.hashes >> self._shift
        np.bitwise_or.at(self._filter, places >> np.uint64(3), _bit(places))

    def __len__(self) -> int:
        return len(self.hashes)

    def find(self, hashes: UInt64Array) -> Int64Array:
        """Which of some hashes are in the table: their places in `hashes`, ascending."""
        places = hashes >> self._shift
        likely = np.flatnonzero(self._filter[places >> np.uint64(3)] & _bit(places))
        wanted = hashes[likely]
        found = np.minimum(np.searchsorted(self.hashes, wanted), max(len(self) - 1, 0))
        return likely[self.hashes[found] == wanted] if len(self) else likely[:0]

    def texts_of(self, hashes: UInt64Array) -> tuple[Int64Array, Int64Array]:
        """All texts of each of some hashes.

        Returns:
            Pairs, as two arrays: places in `hashes`, ascending, and numbers of texts.
        """
        first = np.searchsorted(self.hashes, hashes, "left")
        counts = np.searchsorted(self.hashes, hashes, "right") - first
        which = np.repeat(np.arange(len(hashes)), counts)
        within = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return which, self.texts[first[which] + within].astype(np.int64)


@dataclass(frozen=True)
class EvaluationNgrams:
    """Everything of evaluation sets that is looked for.

    Attributes:
        sets: in the order they were given; their records are numbered through.
        texts: the different texts that are long enough to be looked for.
        whole: the n-grams of the texts that have any.
        short: the first `shortest_words` of the texts that are shorter than an n-gram.
        records: which hold these texts, and where they stand.
        fingerprint: of the rule, and of all texts with their places.
    """

    sets: tuple[EvaluationSet, ...]
    texts: list[str]
    whole: HashTable
    short: HashTable
    records: "Records"
    fingerprint: str

    @classmethod
    def load(cls, paths: list[Path], *, ngram_words: int, shortest_words: int) -> Self:
        """Read evaluation sets.

        Args:
            paths: files and folders.
            ngram_words: the length of an n-gram, in words.
            shortest_words: shorter texts are not looked for.

        Raises:
            InputError: see `evaluation_texts`.
        """
        found = list_evaluation_files(paths)
        names = list(dict.fromkeys(file.set for file in found))
        found.sort(key=lambda file: names.index(file.set))
        collected = _Collected([_RULE, ngram_words, shortest_words])
        for file in found:
            collected.read(file)
        texts = list(collected.texts)
        table = _Tables(len(texts), ngram_words * WORD_WEIGHT, shortest_words * WORD_WEIGHT)
        for first, batch in _batches(texts):
            table.add(first, batch)
        used = table.used
        records = Records(found, collected, used)
        renumbered = np.cumsum(used) - 1
        whole, short = table.made(renumbered)
        return cls(
            sets=tuple(_describe(name, records, whole, short) for name in names),
            texts=[text for text, wanted in zip(texts, used.tolist(), strict=True) if wanted],
            whole=whole,
            short=short,
            records=records,
            fingerprint=collected.digest.hexdigest(),
        )


class Records:
    """Which records hold which texts, and where they stand.

    Args:
        found: the files.
        collected: what was read from them.
        used: bool [texts read]; those that are looked for, and are numbered here.
    """

    def __init__(
        self, found: list[EvaluationFile], collected: "_Collected", used: npt.NDArray[np.bool_]
    ) -> None:
        self._files = found
        self._first = np.array([*collected.first_records, len(collected.rows)])
        self._rows = np.array(collected.rows)
        text, record = np.array(collected.pair_texts), np.array(collected.pair_records)
        wanted = used[text] if len(text) else np.zeros(0, bool)
        text, self._records = (np.cumsum(used) - 1)[text[wanted]], record[wanted]
        order = np.argsort(text, kind="stable")  # records were met in ascending order
        self._records = self._records[order]
        self._begin = np.searchsorted(text[order], np.arange(int(used.sum()) + 1))

    def of_text(self, text: int) -> list[int]:
        """Numbers of the records that hold a text, ascending."""
        begin, end = self._begin[text : text + 2]
        return [int(record) for record in self._records[begin:end]]

    def of_set(self, name: str) -> tuple[int, int]:
        """The first record of a set, and the one after its last."""
        ours = [number for number, file in enumerate(self._files) if file.set == name]
        return int(self._first[ours[0]]), int(self._first[ours[-1] + 1])

    def texts_within(self, first: int, end: int) -> tuple[npt.NDArray[np.bool_], int]:
        """Which texts the records from `first` up to `end` hold, and how many of them hold any."""
        inside = (self._records >= first) & (self._records < end)
        held = np.zeros(len(self._begin) - 1, bool)
        held[np.repeat(np.arange(len(held)), np.diff(self._begin))[inside]] = True
        return held, len(np.unique(self._records[inside]))

    def place(self, record: int) -> str:
        """Where a record stands: `path:row`."""
        file = self._files[int(np.searchsorted(self._first, record, "right")) - 1]
        row = int(self._rows[record])
        return EvaluationRecord(file, row if row >= 0 else None, []).place


class _Collected:
    """The texts of all records, each different one once."""

    def __init__(self, rule: list[int]) -> None:
        self.texts: dict[str, int] = {}
        self.pair_texts, self.pair_records = array("q"), array("q")
        self.rows, self.first_records = array("q"), array("q")
        self.digest = xxhash.xxh3_128(files.canonical_json(rule))

    def read(self, file: EvaluationFile) -> None:
        self.first_records.append(len(self.rows))
        for record in read_evaluation_file(file):
            self.digest.update(files.canonical_json([file.set, record.place, record.texts]))
            for text in dict.fromkeys(record.texts):
                self.pair_texts.append(self.texts.setdefault(text, len(self.texts)))
                self.pair_records.append(len(self.rows))
            self.rows.append(-1 if record.row is None else record.row)


class _Tables:
    """Collects the hashes of texts."""

    def __init__(self, texts: int, weight: int, shortest: int) -> None:
        self.used = np.zeros(texts, bool)
        self._weight, self._shortest = weight, shortest
        self._whole: list[tuple[UInt64Array, Int64Array]] = []
        self._short: list[tuple[UInt64Array, Int64Array]] = []

    def add(self, first: int, texts: list[str]) -> None:
        words, boundaries = hash_texts(texts)
        total = np.concatenate([np.zeros(1, np.int64), np.cumsum(words.weights, dtype=np.int64)])
        weights = np.diff(total[boundaries])
        self.used[first : first + len(texts)] = weights >= self._shortest
        text_of = np.repeat(np.arange(len(texts)), np.diff(boundaries))
        for part in windows(words, weight=self._weight):
            text = text_of[part.first : part.first + len(part.hashes)]
            inside = text == text_of[part.ends - 1]
            self._whole.append((part.hashes[inside], first + text[inside]))
        short = (weights >= self._shortest) & (weights < self._weight)
        begin = boundaries[:-1]
        for part in windows(words, weight=self._shortest):
            here = short & (begin >= part.first) & (begin < part.first + len(part.hashes))
            self._short.append(
                (part.hashes[begin[here] - part.first], first + np.flatnonzero(here))
            )

    def made(self, renumbered: Int64Array) -> tuple[HashTable, HashTable]:
        tables = []
        for parts in (self._whole, self._short):
            hashes = [part[0] for part in parts]
            texts = [part[1] for part in parts]
            tables.append(HashTable(
                np.concatenate([np.empty(0, np.uint64), *hashes]),
                renumbered[np.concatenate([np.empty(0, np.int64), *texts])],
            ))  # fmt: skip
        return tables[0], tables[1]


def _batches(texts: list[str]) -> Iterator[tuple[int, list[str]]]:
    first, characters = 0, 0
    for number, text in enumerate(texts, 1):
        characters += len(text)
        if characters >= _BATCH_CHARACTERS or number == len(texts):
            yield first, texts[first:number]
            first, characters = number, 0


def _describe(name: str, records: Records, whole: HashTable, short: HashTable) -> EvaluationSet:
    first, end = records.of_set(name)
    held, looked_for = records.texts_within(first, end)
    ngrams = len(np.unique(whole.hashes[held[whole.texts]]))
    ngrams += int(held[short.texts].sum())
    return EvaluationSet(name, first, end - first, looked_for, ngrams)


def _bit(places: UInt64Array) -> npt.NDArray[np.uint8]:
    bits: npt.NDArray[np.uint8] = _BITS[places & np.uint64(7)]
    return bits
