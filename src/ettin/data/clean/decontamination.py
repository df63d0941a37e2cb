"""Find training documents that share text with evaluation sets, exactly.

    sets = Decontamination.load([Path("lm_eval")])
    for document, matches in zip(batch, sets.search([each.text for each in batch]), strict=True):
        if matches:
            print(document.id, matches[0].set, matches[0].place, matches[0].ngram)

The rule (Brown et al. 2020, appendix C; Gao et al. 2020): a document is contaminated if it has an
n-gram of 13 words in common with a text of an evaluation record. Words and n-grams are those of
`words`: case, punctuation and spacing do not count, and scripts without spaces have n-grams of
about the same content. A text that is too short to hold an n-gram but has 8 words at least counts
as one n-gram of its own length; shorter ones (labels, answers of a word) are not looked for.

N-grams are found by their hashes and then compared word by word, so there is no false alarm and no
miss. What Brown et al. add, to ignore n-grams that more than 10 training documents have in common,
takes a second pass over the text and is not done; nor are documents cut in pieces around a match.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from ettin.console import log
from ettin.data.clean.evaluation_ngrams import EvaluationNgrams, EvaluationSet
from ettin.data.clean.words import WORD_WEIGHT, Int64Array, Words, hash_texts, list_words, windows
from ettin.errors import InputError

NGRAM_WORDS = 13
SHORTEST_WORDS = 8


class Match(NamedTuple):
    """What one document has in common with one evaluation set.

    Attributes:
        set: name of the set.
        place: the record that holds the first common n-gram, as `path:row`.
        ngram: that n-gram, normalised.
        records: numbers, in the set, of all records that have an n-gram in common with it, sorted.
    """

    set: str
    place: str
    ngram: str
    records: tuple[int, ...]


@dataclass(frozen=True)
class Decontamination:
    """Evaluation sets, ready to be looked for; goes to worker processes as it is.

    Attributes:
        ngram_words: the length of an n-gram, in words.
        shortest_words: the length of the shortest text that is looked for.
        ngrams: what is looked for.
    """

    ngram_words: int
    shortest_words: int
    ngrams: EvaluationNgrams

    @classmethod
    def load(
        cls,
        paths: list[Path],
        *,
        ngram_words: int = NGRAM_WORDS,
        shortest_words: int = SHORTEST_WORDS,
    ) -> Self:
        """Read evaluation sets; says what they hold.

        Args:
            paths: files and folders; see `evaluation_texts`.
            ngram_words: the length of an n-gram, in words.
            shortest_words: texts with fewer words than an n-gram and at least these are looked for
                as a whole; those with still fewer are not.

        Raises:
            InputError: a path is not there, holds nothing that can be read, or damaged files; no
                text is long enough; or the lengths are impossible.
        """
        if not 1 <= shortest_words <= ngram_words:
            raise InputError(
                f"n-grams of {ngram_words} words with texts of at least {shortest_words}: expected "
                "1 ≤ shortest ≤ n-gram"
            )
        ngrams = EvaluationNgrams.load(
            paths, ngram_words=ngram_words, shortest_words=shortest_words
        )
        if not ngrams.texts:
            raise InputError(
                f"no text in {', '.join(map(str, paths))} has the {shortest_words} words that it "
                "takes to look for it: there is nothing to decontaminate against"
            )
        for each in ngrams.sets:
            log.info(
                "decontaminating against %s: %s n-grams, %s of %s records%s", each.name,
                f"{each.ngrams:,}", f"{each.looked_for:,}", f"{each.records:,}",
                "" if each.looked_for else f" (none has a text of {shortest_words} words)",
            )  # fmt: skip
        return cls(ngram_words, shortest_words, ngrams)

    @property
    def fingerprint(self) -> str:
        """Of the rule and the content of all sets; for the manifest of a corpus."""
        return self.ngrams.fingerprint

    @property
    def sets(self) -> tuple[EvaluationSet, ...]:
        """The sets, in the order they were given."""
        return self.ngrams.sets

    def matches(self, text: str) -> list[Match]:
        """What one text has in common with the sets; see `search`, which is faster for many."""
        return self.search([text])[0]

    def search(self, texts: list[str]) -> list[list[Match]]:
        """What texts have in common with the sets.

        Args:
            texts: of any length; many short ones at a time are faster than one by one.

        Returns:
            For each text one match for each set that it has an n-gram in common with, in the order
            of the sets; nothing for most.
        """
        words, boundaries = hash_texts(texts)
        whole = self._hits(words, boundaries, short=False)
        short = self._hits(words, boundaries, short=True)
        matches: list[list[Match]] = [[] for _ in texts]
        starts = np.concatenate([whole.starts, short.starts])
        for number in np.unique(np.searchsorted(boundaries, starts, "right") - 1).tolist():
            first, end = boundaries[number : number + 2].tolist()
            spoken = list_words(texts[number])
            met = _confirmed(whole.within(first, end), spoken, self.ngrams.texts, short=False)
            met |= _confirmed(short.within(first, end), spoken, self.ngrams.texts, short=True)
            matches[number] = self._matches(met)
        return matches

    def _hits(self, words: Words, boundaries: Int64Array, *, short: bool) -> "_Hits":
        """Where hashes say that n-grams of evaluation texts begin."""
        table = self.ngrams.short if short else self.ngrams.whole
        weight = WORD_WEIGHT * (self.shortest_words if short else self.ngram_words)
        found = []
        for part in windows(words, weight=weight) if len(table) else ():
            places = table.find(part.hashes)
            starts, ends = part.first + places, part.ends[places]
            inside = ends <= boundaries[np.searchsorted(boundaries, starts, "right")]
            which, texts = table.texts_of(part.hashes[places[inside]])
            found.append(_Hits(starts[inside][which], ends[inside][which], texts))
        columns = zip(_NO_HITS, *found, strict=True)
        return _Hits(*(np.concatenate(column) for column in columns))

    def _matches(self, met: dict[int, tuple[int, str]]) -> list[Match]:
        """Evaluation texts that were met, with the place and the n-gram, as matches by set."""
        records = self.ngrams.records
        begin = [each.first for each in self.sets]
        by_set: dict[int, list[tuple[int, int, str]]] = {}
        for text, (start, ngram) in met.items():
            for record in records.of_text(text):
                number = bisect_right(begin, record) - 1
                by_set.setdefault(number, []).append((start, record, ngram))
        made = []
        for number in sorted(by_set):
            _, record, ngram = min(by_set[number])
            numbers = sorted({record - begin[number] for _, record, _ in by_set[number]})
            place = records.place(record)
            made.append(Match(self.sets[number].name, place, ngram, tuple(numbers)))
        return made


class _Hits(NamedTuple):
    """N-grams of training texts and evaluation texts that may have them too, by place."""

    starts: Int64Array
    ends: Int64Array
    texts: Int64Array

    def within(self, first: int, end: int) -> "_Hits":
        """Those of one training text, counted from its first word."""
        here = slice(*np.searchsorted(self.starts, [first, end]).tolist())
        return _Hits(self.starts[here] - first, self.ends[here] - first, self.texts[here])


_NO_HITS = _Hits(*(np.empty(0, np.int64) for _ in range(3)))


def _confirmed(
    hits: _Hits, words: list[str], texts: list[str], *, short: bool
) -> dict[int, tuple[int, str]]:
    """Evaluation texts that really have an n-gram of a training text: its first place, and it."""
    met: dict[int, tuple[int, str]] = {}
    order = np.argsort(hits.texts, kind="stable")
    for number in order.tolist():
        text = int(hits.texts[number])
        if text in met:
            continue
        wanted = _spaced(texts[text])
        start = int(hits.starts[number])
        end = start + wanted.count(" ") - 1 if short else int(hits.ends[number])
        ngram = " ".join(words[start:end])
        if f" {ngram} " == wanted if short else f" {ngram} " in wanted:
            met[text] = start, ngram
    return met


@lru_cache(maxsize=1 << 14)
def _spaced(text: str) -> str:
    """The words of an evaluation text with a space before and after each."""
    return " ".join(["", *list_words(text), ""])
