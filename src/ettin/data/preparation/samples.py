"""How fine and how faithful a tokenizer is, measured on some of the documents of a corpus.

    sample = DocumentSample()
    for document in documents:
        sample.offer(id_hash(document.id), document.text)
    measured = [measure(tokenizer, hash, text) for hash, text in sample.texts()]
    summarise(merge([measured]))         # {"tokens_per_word": 1.6, "bytes_per_token": 3.9}

Documents are drawn by the hash of their ids: those with the smallest. So the sample of a corpus is
the same however the work was split, and a part keeps no more than the whole.
"""

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from ettin.fast_encoding import Encode
from ettin.tokenizer import Tokenizer

SAMPLED_DOCUMENTS = 256
SAMPLED_CHARACTERS = 4096


class Measured(NamedTuple):
    """What one sampled document tells of a tokenizer.

    Attributes:
        hash: of the document's id.
        words: what whitespace separates.
        tokens: of its beginning.
        bytes: UTF-8 bytes of its beginning.
        characters: of its beginning.
        lost: characters that do not come back when it is encoded and decoded; −1 when all do.
    """

    hash: int
    words: int
    tokens: int
    bytes: int
    characters: int
    lost: int


class DocumentSample:
    """The beginnings of the documents whose ids have the smallest hashes; 256 at most."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, str]] = []  # a heap with the largest hash on top

    def wants(self, id_hash: int) -> bool:
        """Whether a document with this hash would be kept."""
        return len(self._kept) < SAMPLED_DOCUMENTS or -id_hash > self._kept[0][0]

    def offer(self, id_hash: int, text: str) -> None:
        """Keep the document if its hash is among the smallest."""
        if self.wants(id_hash):
            change = heapq.heappush if len(self._kept) < SAMPLED_DOCUMENTS else heapq.heappushpop
            change(self._kept, (-id_hash, text[:SAMPLED_CHARACTERS]))

    def texts(self) -> list[tuple[int, str]]:
        """Hashes and beginnings, by hash."""
        return sorted((-hash_below, text) for hash_below, text in self._kept)


def measure(
    tokenizer: Tokenizer, texts: list[tuple[int, str]], *, encode: Encode | None = None
) -> list[Measured]:
    """Encode sampled beginnings, and decode them if the tokenizer may lose something.

    Args:
        tokenizer: the one to measure.
        texts: hashes of ids and texts.
        encode: gives the same ids, perhaps faster; the tokenizer's own if None.
    """
    encoded = (encode or tokenizer.encode)([text for _, text in texts])
    measured = []
    for (id_hash, text), ids in zip(texts, encoded, strict=True):
        lost = -1
        if not tokenizer.is_lossless:
            decoded = tokenizer.decode(ids)
            if decoded != text:
                lost = (Counter(text) - Counter(decoded)).total()
        words, size = len(text.split()), len(text.encode())
        measured.append(Measured(id_hash, words, len(ids), size, len(text), lost))
    return measured


def merge(parts: Iterable[list[Measured]]) -> list[Measured]:
    """The sample of all parts together."""
    return heapq.nsmallest(SAMPLED_DOCUMENTS, (each for part in parts for each in part))


def summarise(measured: list[Measured]) -> dict[str, float]:
    """Fertility: tokens per word and bytes per token; zeros when nothing was sampled."""
    tokens = sum(each.tokens for each in measured)
    return {
        "tokens_per_word": tokens / max(sum(each.words for each in measured), 1),
        "bytes_per_token": sum(each.bytes for each in measured) / max(tokens, 1),
    }


def summarise_loss(measured: list[Measured]) -> dict[str, Any]:
    """What does not come back.

    Returns:
        `sampled` documents; `documents`, the share of them that come back changed; `characters`,
        the share of characters that the decoded text has too few of.
    """
    changed = [each for each in measured if each.lost >= 0]
    characters = sum(each.characters for each in measured)
    return {
        "sampled": len(measured),
        "documents": len(changed) / max(len(measured), 1),
        "characters": sum(each.lost for each in changed) / max(characters, 1),
    }
