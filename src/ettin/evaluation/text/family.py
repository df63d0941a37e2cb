"""The family `text`: how well a model predicts the held-out documents of a corpus.

    text/perplexity    decoders   perplexity, bits_per_byte
                       encoders   pseudo_perplexity, pseudo_bits_per_byte, masked_loss

Each is given over all documents and, as `metric/source`, over those of one source. How documents
become inputs, and what is asked in them, says `windows`. EOS is not asked for; the first token of a
window is given BOS.

Perplexities are per token and compare models with one tokenizer. Bits per byte compare any two
models of a kind, as bytes are those of the text itself; where a tokenizer drops something of it,
such as capitals, the record says `lossless: false`, and the number flatters. An encoder sees both
sides of a token, so that no number of an encoder compares with one of a decoder.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ettin import files
from ettin.console import log
from ettin.data.corpus import Corpus
from ettin.errors import InputError, nearest
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.task import Measurement, Request
from ettin.evaluation.text.held_out import Text, TextReader, text_tokenizer
from ettin.evaluation.text.scores import Tally, finite_exp, samples, summarised
from ettin.evaluation.text.windows import (
    MASK_RATE,
    ask_alone,
    ask_everything,
    ask_masked,
    context_length,
    draw_places,
)
from ettin.evaluation.token_probabilities import (
    PACKAGES,
    Float64Array,
    Reading,
    Surroundings,
    log_probabilities,
    surroundings_of,
)
from ettin.files import Json
from ettin.objectives import Vocabulary
from ettin.recipe import Objective
from ettin.tokenizer import Tokenizer

TASKS = ("perplexity",)
VERSION = "1"

PSEUDO_TOKENS = 1024
"""Tokens that pseudo-perplexity is measured on: it takes a forward pass for each."""

_PORTION_TOKENS = 1 << 18


@dataclass(frozen=True)
class _Asked:
    """Everything that questions about documents are made and answered with."""

    model: Any
    texts: list[Text]
    around: Surroundings
    size: int
    unigram: Float64Array
    request: Request


def names() -> tuple[str, ...]:
    """The tasks of this family."""
    return TASKS


def prefetch(name: str, out: Path) -> None:
    """Nothing: the task reads a corpus, which is made by `ettin prepare`.

    Raises:
        InputError: no such task.
    """
    _check(name)
    log.info("text/%s reads a corpus; there is nothing to fetch into %s", name, out)


def settings(name: str, model: EvaluatedModel, request: Request) -> Json:
    """Everything that the result depends on.

    Raises:
        InputError: no such task, or no corpus.
    """
    _check(name)
    common: Json = {
        "corpus": _corpus(request).fingerprint,
        "split": "held-out",
        "context_length": context_length(model),
        "precision": "float32",
        "end_asked": False,
    }
    if model.kind == "decoder":
        return {**common, "stride": "half a window"}
    return {
        **common,
        "stride": "a window",
        "mask_rate": MASK_RATE,
        "pseudo_tokens": PSEUDO_TOKENS,
        "answer_offset": model.answer_offset,
    }


def measure(name: str, model: EvaluatedModel, request: Request, settings: Json) -> Measurement:
    """Measure a model; `limit` counts documents, taken from all sources in turn.

    Raises:
        InputError: no such task, no corpus, no held-out documents, or a model without the special
            tokens that it takes.
    """
    _check(name)
    stock = model.load_tokenizer()
    around = surroundings_of(model, stock)
    reader = TextReader(_corpus(request), text_tokenizer(model))
    texts = [reader.read(document) for document in reader.held_out(request.limit)]
    if not any(len(text.tokens) for text in texts):
        raise InputError(f"the held-out documents of {reader.corpus.path} hold no text")
    loaded = model.load_language_model().to(request.device)
    vocab_size = int(loaded.config.get_text_config().vocab_size)
    unigram, unigram_tokens = reader.unigram(vocab_size)
    size = int(settings["context_length"]) - around.size
    asked = _Asked(loaded, texts, around, size, unigram, request)
    if model.kind == "decoder":
        tallies = {"perplexity": _everything(asked)}
    else:
        tallies = _encoder(asked, model, reader.tokenizer, vocab_size)
    metric = "perplexity" if model.kind == "decoder" else "pseudo_perplexity"
    tally = tallies[metric]
    return Measurement(
        metric=metric,
        metrics=summarised(tallies, texts),
        baselines={
            "unigram": finite_exp(float(tally.unigram.sum() / tally.counts.sum())),
            "uniform": float(vocab_size),
        },
        examples=len(texts),
        data=reader.corpus.fingerprint,
        version=VERSION,
        facts={
            "documents": len(texts),
            "tokens": sum(len(text.tokens) for text in texts),
            "bytes": sum(text.bytes for text in texts),
            "asked": {key: int(each.counts.sum()) for key, each in tallies.items()},
            "tokenizer": "the corpus's" if reader.shares_tokenizer else "its own",
            "lossless": reader.tokenizer.is_lossless,
            "unknown_tokens": _count(texts, stock.unk_token_id),
            "unigram_tokens": unigram_tokens,
        },
        packages=PACKAGES,
        samples=samples(tallies, texts),
    )


def _check(name: str) -> None:
    if name not in TASKS:
        raise InputError(f"there is no task text/{name}; {nearest(name, TASKS)}")


def _corpus(request: Request) -> Corpus:
    path = request.path or request.data
    if path is None or not files.is_finished(path):
        given = "nothing was given" if path is None else f"{path} is none"
        raise InputError(
            f"text/perplexity reads the held-out documents of a corpus, and {given}: make one with "
            "`ettin prepare`, and give it as --data CORPUS or --tasks text=CORPUS"
        )
    return Corpus.open(path)


def _everything(asked: _Asked) -> Tally:
    stride = max(1, asked.size // 2)
    return _tally(
        asked,
        lambda text, _place: ask_everything(text, asked.around, size=asked.size, stride=stride),
        shares=(0.0, 1.0),
        note="documents",
    )


def _encoder(
    asked: _Asked, model: EvaluatedModel, tokenizer: Tokenizer, vocab_size: int
) -> dict[str, Tally]:
    vocabulary = _vocabulary(tokenizer, asked.around, vocab_size)
    objective = cast(Objective, model.objective)
    places = draw_places(asked.texts, PSEUDO_TOKENS)
    tokens = sum(len(text.tokens) for text in asked.texts)
    alone = sum(map(len, places)) * asked.size
    border = tokens / max(1, tokens + alone)
    return {
        "masked_loss": _tally(
            asked,
            lambda text, _place: ask_masked(
                text, asked.around, size=asked.size, objective=objective, vocabulary=vocabulary
            ),
            shares=(0.0, border),
            note="masked",
        ),
        "pseudo_perplexity": _tally(
            asked,
            lambda text, place: ask_alone(
                text, places[place], asked.around, size=asked.size, offset=model.answer_offset
            ),
            shares=(border, 1.0),
            note="token by token",
        ),
    }


def _vocabulary(tokenizer: Tokenizer, around: Surroundings, vocab_size: int) -> Vocabulary:
    special = torch.zeros(vocab_size, dtype=torch.bool)
    known = [int(token) for token in tokenizer.special_ids if token < vocab_size]
    special[[*known, *around.begin, *around.end]] = True
    ordinary = torch.from_numpy(tokenizer.ordinary_ids)
    assert around.mask is not None
    return Vocabulary(around.mask, special, ordinary[ordinary < vocab_size])


def _tally(
    asked: _Asked,
    ask: Callable[[Text, int], list[Reading]],
    *,
    shares: tuple[float, float],
    note: str,
) -> Tally:
    """Ask about all documents, a portion of them at a time."""
    losses, unigram, counts = (np.zeros(len(asked.texts)) for _ in range(3))
    first, last = shares
    done = 0
    for portion in _portions(asked.texts):
        readings = [(place, each) for place in portion for each in ask(asked.texts[place], place)]

        def advance(share: float, before: int = done, size: int = len(portion)) -> None:
            part = (before + share * size) / len(asked.texts)
            asked.request.advance(first + part * (last - first), note)

        found = log_probabilities(
            asked.model,
            [reading for _, reading in readings],
            batch_tokens=asked.request.batch_tokens,
            device=asked.request.device,
            advance=advance,
        )
        for (place, reading), values in zip(readings, found, strict=True):
            losses[place] -= values.sum()
            unigram[place] -= asked.unigram[reading.answers].sum()
            counts[place] += len(values)
        done += len(portion)
    return Tally(losses, unigram, counts)


def _portions(texts: Sequence[Text]) -> Iterator[list[int]]:
    """Numbers of documents that together have about `_PORTION_TOKENS` tokens."""
    portion: list[int] = []
    tokens = 0
    for place, text in enumerate(texts):
        portion.append(place)
        tokens += len(text.tokens)
        if tokens >= _PORTION_TOKENS or place == len(texts) - 1:
            yield portion
            portion, tokens = [], 0


def _count(texts: Sequence[Text], token: int | None) -> int:
    return 0 if token is None else sum(int((text.tokens == token).sum()) for text in texts)
