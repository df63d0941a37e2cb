"""Held-out documents of a corpus in the tokens of a model, with the bytes that they stand for.

A model that has the corpus's own tokenizer gets the tokens as they are stored. For any other the
documents are decoded and encoded anew, so that all models are asked about the same text; bytes are
those of this text in UTF-8, whatever a tokenizer makes of it.
"""

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ettin.data.corpus import Corpus
from ettin.errors import InputError
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.quick.data import Document, documents, spread
from ettin.evaluation.token_probabilities import Float64Array, Int64Array
from ettin.tokenizer import Tokenizer, load_tokenizer

UNIGRAM_TOKENS = 1_000_000
UNIGRAM_DOCUMENT_TOKENS = 20_000
"""Training tokens that the unigram baseline is counted on, in all and of one document, at most;
counted in the corpus's tokens."""


class Text(NamedTuple):
    """One document: its source and id, its tokens int64 [T], and its size in UTF-8."""

    source: str
    id: str
    tokens: Int64Array
    bytes: int


@dataclass(frozen=True)
class TextReader:
    """Reads documents of a corpus for a model.

    Attributes:
        corpus: the corpus.
        tokenizer: the model's.
    """

    corpus: Corpus
    tokenizer: Tokenizer

    @cached_property
    def shares_tokenizer(self) -> bool:
        """Whether the model has the corpus's tokenizer."""
        return bool(self.tokenizer.fingerprint == self.corpus.facts["tokenizer"]["fingerprint"])

    def held_out(self, limit: int | None) -> list[Document]:
        """Held-out documents; with a limit as many of each source as there are, one after another.

        Raises:
            InputError: there are none.
        """
        groups: dict[str, list[Document]] = {}
        for document in documents(self.corpus, "held-out"):
            groups.setdefault(document.source, []).append(document)
        count = sum(map(len, groups.values()))
        found = spread(list(groups.values()), count if limit is None else limit)
        if not found:
            raise InputError(
                f"{self.corpus.path} has no held-out documents; prepare it with some: "
                "ettin prepare … --held-out 0.01 --out ANOTHER_CORPUS"
            )
        return found

    def read(self, document: Document, *, most: int | None = None) -> Text:
        """A document, or its first `most` tokens of the corpus's tokenizer."""
        stored = self.corpus.documents(document.source).tokens(document.number)[:most]
        text = self._decoded(stored.astype(np.int64))
        if self.shares_tokenizer:
            tokens = stored.astype(np.int64)
        else:
            tokens = self.tokenizer.encode([text])[0].astype(np.int64)
        return Text(document.source, document.id, tokens, len(text.encode()))

    def unigram(self, vocab_size: int) -> tuple[Float64Array, int]:
        """How often each token occurs in a part of the training documents.

        Documents are taken in an order that depends on their ids alone. One is added to each
        count, so that no token is impossible (Laplace).

        Returns:
            Log-probabilities in nats, [V], and the number of tokens counted.
        """
        counts = np.zeros(vocab_size, dtype=np.int64)
        taken = 0
        for document in documents(self.corpus, "train"):
            text = self.read(document, most=UNIGRAM_DOCUMENT_TOKENS)
            counts += np.bincount(text.tokens, minlength=vocab_size)
            held = self.corpus.documents(document.source).tokens(document.number)
            taken += min(UNIGRAM_DOCUMENT_TOKENS, len(held))
            if taken >= UNIGRAM_TOKENS:
                break
        return np.log((counts + 1) / (counts.sum() + vocab_size)), int(counts.sum())

    def _decoded(self, tokens: Int64Array) -> str:
        if self._own.is_lossless:
            # A beginning may end within a character.
            return self._own.decode_bytes(tokens).decode("utf-8", errors="ignore")
        return self._own.decode(tokens)

    @cached_property
    def _own(self) -> Tokenizer:
        return load_tokenizer(self.corpus.tokenizer_directory)


def text_tokenizer(model: EvaluatedModel) -> Tokenizer:
    """The model's tokenizer in a form in which special strings inside a text stay text.

    Raises:
        InputError: it has none that the `tokenizers` library knows.
    """
    if (model.path / "tokenizer.json").is_file():
        return load_tokenizer(model.path)
    tokenizer = model.load_tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        if not (Path(folder) / "tokenizer.json").is_file():
            raise InputError(
                f"the tokenizer of {model.where} is none of the `tokenizers` library, which is "
                "needed to cut long documents"
            )
        return load_tokenizer(folder)
