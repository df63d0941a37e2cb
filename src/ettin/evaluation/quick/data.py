"""Examples for the `quick` tasks, made out of a corpus: nothing is downloaded.

    passages(corpus)       a passage → its source, or the top folder of its document
    continuations(corpus)  a context → its next line, and three other lines of the same document
    pairs(corpus)          a docstring → its function; a title → what stands below it

What is asked is asked about held-out documents; training documents only give examples to learn
from. Texts are what the corpus's tokenizer makes of its tokens, and are cut by characters, so that
every model, whatever its tokenizer, gets the same examples. All choices are made by hashes: the
same corpus gives the same examples.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from ettin import files
from ettin.data.corpus import Corpus, Split
from ettin.evaluation.quick.pairs import Pair, pairs_of
from ettin.evaluation.task import Inapplicable
from ettin.tokenizer import Tokenizer, load_tokenizer

CLASSES_AT_MOST = 8
CHOICES = 4
PASSAGE_CHARACTERS = 320
CONTEXT_CHARACTERS = 200
LINE_CHARACTERS = 48
NO_FOLDER = "(no folder)"
"""The class of documents that lie in no folder."""

_PASSAGE_AT_LEAST, _CONTEXT_AT_LEAST, _LINE_AT_LEAST = 120, 80, 12
_LONG_LINE = 160
_CONSIDERED = 20_000
_DECODED_TOKENS = 50_000
_MORE_HELD_OUT = "prepare the corpus with more held-out documents (ettin prepare --held-out 0.05)"

Item = TypeVar("Item")


class Document(NamedTuple):
    """One document of a corpus: its source, its number there, its id."""

    source: str
    number: int
    id: str


class Passage(NamedTuple):
    """A piece of a document, and the class that it belongs to."""

    text: str
    label: str
    document: str


@dataclass(frozen=True)
class Passages:
    """Passages to learn from and to be asked about; `labels` in the order of their size."""

    labels: tuple[str, ...]
    by: str
    train: list[Passage]
    test: list[Passage]


class Continuation(NamedTuple):
    """A context and four lines, of which the one at `answer` follows it."""

    context: str
    lines: tuple[str, ...]
    answer: int
    document: str


@dataclass(frozen=True)
class Pairs:
    """Pairs to learn from, and those to be asked about."""

    train: list[Pair]
    test: list[Pair]


def passages(corpus: Corpus, *, train: int, test: int) -> Passages:
    """Passages of the eight largest sources, or of the eight largest top folders of one source.

    Only classes with both training and held-out text count; the largest are those with most
    training text. Classes get equally many passages, as far as there are enough.

    Args:
        corpus: a finished corpus.
        train: passages of training documents, at most.
        test: passages of held-out documents, at most.

    Raises:
        Inapplicable: fewer than two classes.
    """
    by = "source" if len(corpus.source_names) > 1 else "top folder"
    groups: dict[Split, dict[str, list[Document]]] = {"train": {}, "held-out": {}}
    for split, found in groups.items():
        for document in documents(corpus, split):
            label = document.source if by == "source" else _top_folder(document.id)
            found.setdefault(label, []).append(document)
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    asked = {
        label: drawn
        for label, members in groups["held-out"].items()
        if (drawn := _passages_of(members, corpus, tokenizer, label, count=test))
    }
    learned = {label: members for label, members in groups["train"].items() if label in asked}
    labels = sorted(learned, key=lambda label: (-_size(corpus, learned[label]), label))
    labels = labels[:CLASSES_AT_MOST]
    if len(labels) < 2:
        known = ", ".join(labels) or "none"
        raise Inapplicable(
            f"{corpus.path} has passages of one {by} only in its held-out documents ({known}), and "
            f"telling them apart takes two or more; {_MORE_HELD_OUT}, or of several sources"
        )
    each = -(-train // len(labels))
    taught = [
        passage
        for label in labels
        for passage in _passages_of(learned[label], corpus, tokenizer, label, count=each)
    ]
    return Passages(tuple(labels), by, taught, spread([asked[label] for label in labels], test))


def continuations(corpus: Corpus, *, count: int) -> list[Continuation]:
    """Lines of held-out documents, each with three others of the same document.

    All four are different, and none stands in the context, so that whoever knows nothing of lines
    that follow one another is right once in four times. Lines longer than `LINE_CHARACTERS` are
    cut; where lines are paragraphs, sentences take their place.

    Args:
        corpus: a finished corpus.
        count: examples, at most, spread over the documents.

    Raises:
        Inapplicable: no document has enough lines.
    """
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    found = [
        _continuations_of(text_of(document, corpus, tokenizer), document.id, count)
        for document in documents(corpus, "held-out")
    ]
    chosen = spread(found, count)
    if not chosen:
        raise Inapplicable(
            f"no held-out document of {corpus.path} has {CHOICES} different lines to choose from; "
            + _MORE_HELD_OUT
        )
    return chosen


def pairs(corpus: Corpus, *, train: int, test: int) -> Pairs:
    """Docstrings with functions, or titles with texts; see `quick_pairs`.

    Among the held-out pairs no two share a question or an answer, so that each has one answer.

    Args:
        corpus: a finished corpus.
        train: pairs of training documents, at most.
        test: pairs of held-out documents, at most; also the answers to be searched.

    Raises:
        Inapplicable: fewer than two held-out pairs, or none to learn from.
    """
    tokenizer = load_tokenizer(corpus.tokenizer_directory)

    def drawn(split: Split, count: int) -> list[Pair]:
        groups: list[list[Pair]] = []
        for document in documents(corpus, split):
            if sum(map(len, groups)) >= 4 * count:
                break
            held = pairs_of(text_of(document, corpus, tokenizer), document.id)
            groups.append(_shuffled(held, document.id))
        return spread(_without_repeats(groups), count)

    found = Pairs(drawn("train", train), drawn("held-out", test))
    if len(found.test) < 2 or not found.train:
        raise Inapplicable(
            f"{corpus.path} has {len(found.test)} held-out pairs of a docstring and a function, or "
            f"of a title and a text, and a search takes two or more; {_MORE_HELD_OUT}"
        )
    return found


def documents(corpus: Corpus, split: Split) -> list[Document]:
    """The documents of a split, in an order that depends on their ids alone.

    Of a source with very many documents a part is considered.
    """
    found = []
    length = min(corpus.facts["context_lengths"])
    for source in corpus.source_names:
        held = corpus.documents(source)
        numbers = np.unique(corpus.table(source, length, "held-out").all_chunks().document)
        if split == "train":
            every = max(1, len(held) // _CONSIDERED)
            numbers = np.setdiff1d(np.arange(0, len(held), every), numbers)
        found += [Document(source, number, held.id(number)) for number in numbers.tolist()]
    return _shuffled(found, "")


def text_of(document: Document, corpus: Corpus, tokenizer: Tokenizer) -> str:
    """The text of a document, the beginning of a very long one."""
    return tokenizer.decode(
        corpus.documents(document.source).tokens(document.number)[:_DECODED_TOKENS]
    )


def spread(groups: Sequence[Sequence[Item]], count: int) -> list[Item]:
    """The first of each group, then the second of each, and so on, `count` at most."""
    longest = max(map(len, groups), default=0)
    rounds = (group[place] for place in range(longest) for group in groups if place < len(group))
    return [item for item, _ in zip(rounds, range(count), strict=False)]


def words(text: str) -> list[str]:
    """What a bag of words counts: names and numbers in lower case, and signs, one by one."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _passages_of(
    members: Iterable[Document], corpus: Corpus, tokenizer: Tokenizer, label: str, *, count: int
) -> list[Passage]:
    groups: list[list[Passage]] = []
    for document in members:
        if len(groups) >= count:
            break
        pieces = _pieces(text_of(document, corpus, tokenizer))
        if pieces:
            held = [Passage(piece, label, document.id) for piece in pieces]
            groups.append(_shuffled(held, document.id))
    return spread(groups, count)


def _pieces(text: str) -> list[str]:
    """Whole lines, about `PASSAGE_CHARACTERS` of them together; what is too short is left out."""
    pieces = [""]
    for line in _units(text):
        if len(pieces[-1]) + len(line) > PASSAGE_CHARACTERS and pieces[-1]:
            pieces.append("")
        pieces[-1] += line[:PASSAGE_CHARACTERS]
    return [piece for piece in pieces if len(piece.strip()) >= _PASSAGE_AT_LEAST]


def _continuations_of(text: str, document: str, count: int) -> list[Continuation]:
    units = _units(text)
    begins = np.cumsum([0, *map(len, units)]).tolist()
    lines = [_cut(unit) for unit in units]
    known = [line for line in dict.fromkeys(lines) if _says_something(line)]
    found: list[Continuation] = []
    for place in _shuffled(range(len(units)), document):
        context = text[max(0, begins[place] - CONTEXT_CHARACTERS) : begins[place]]
        line = lines[place]
        if len(context.strip()) < _CONTEXT_AT_LEAST or line not in known:
            continue
        others = [other for other in known if other != line and other.strip() not in context]
        if line.strip() in context or len(others) < CHOICES - 1:
            continue
        shown = _shuffled([line, *_shuffled(others, f"{document} {place}")[: CHOICES - 1]], context)
        found.append(Continuation(context, tuple(shown), shown.index(line), document))
        if len(found) == count:
            break
    return found


def _units(text: str) -> list[str]:
    """Lines with their ends; of lines as long as paragraphs, the sentences. Joined they are the
    text.
    """
    return [
        unit
        for line in text.splitlines(keepends=True)
        for unit in (re.split(r"(?<=[.!?] )", line) if len(line) > _LONG_LINE else [line])
        if unit
    ]


def _cut(line: str) -> str:
    """A line without its end, and without the word at which it becomes too long."""
    line = line.rstrip()
    return line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS].rpartition(" ")[0]


def _says_something(line: str) -> bool:
    return len(line.strip()) >= _LINE_AT_LEAST and any(letter.isalpha() for letter in line)


def _without_repeats(groups: list[list[Pair]]) -> list[list[Pair]]:
    """The pairs that share neither question nor answer with another one."""
    texts = Counter(text for group in groups for pair in group for text in pair[:2])
    return [
        [pair for pair in group if texts[pair.question] == 1 and texts[pair.answer] == 1]
        for group in groups
    ]


def _top_folder(document_id: str) -> str:
    folder, slash, _ = document_id.partition("/")
    return folder if slash else NO_FOLDER


def _size(corpus: Corpus, members: list[Document]) -> int:
    """Tokens of documents together."""
    counts = {source: corpus.documents(source).token_counts for source in corpus.source_names}
    return sum(int(counts[member.source][member.number]) for member in members)


def _shuffled(items: Iterable[Item], key: str) -> list[Item]:
    """In an order that depends on the items and a key alone."""
    return sorted(items, key=lambda item: files.fingerprint([key, repr(item)]))
