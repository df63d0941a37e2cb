"""Tasks made out of a corpus, for the first look at a pair: no download, seconds on two cores.

    quick/classification    which package or source does a passage come from?
    quick/likelihood        which of four lines comes next?
    quick/retrieval         which function belongs to a docstring, which text to a title?
    quick/samples           what the model fills in, how it goes on (see `samples`; no score)

What is asked is asked about held-out documents. Models are frozen. What is fitted on top, on
training documents alone, is the same for both twins and is small: a logistic regression, and the
whitening of a vector space. What comes out is therefore what the model knew before, as far as one
linear layer can read it, and not what fine-tuning could make of it.

Beside each score stand simple methods on the same examples, `chance` among them, and for tasks that
use vectors `untrained`: the same model with random weights. A mean of random vectors still tells
which words a text holds, so that `untrained` lies above chance.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ettin import files
from ettin.console import log
from ettin.data.corpus import Corpus
from ettin.errors import InputError, nearest
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.quick import data as quick_data
from ettin.evaluation.quick.data import Pairs, Passages, continuations, pairs, passages
from ettin.evaluation.quick.model import (
    TEXT_TOKENS,
    Loaded,
    features,
    likelihoods,
    load,
    pooling_of,
    untrained,
)
from ettin.evaluation.quick.pairs import Pair
from ettin.evaluation.quick.samples import SAMPLES
from ettin.evaluation.quick.samples import samples as quick
from ettin.evaluation.quick.scores import (
    REGULARISATION,
    SHRINKAGE,
    Floats,
    bm25,
    count_words,
    fitted,
    gains,
    mean_of,
    ranks_of,
    standard_error,
    whitened_cosines,
)
from ettin.evaluation.task import Measurement, Request
from ettin.files import Json
from ettin.records import Score

__all__ = ["measure", "names", "prefetch", "quick", "settings"]

NAMES = ("samples", "classification", "likelihood", "retrieval")
VERSION = "1"
TRAIN_PASSAGES, TEST_PASSAGES = 240, 160
CONTINUATIONS = 100
TRAIN_PAIRS, TEST_PAIRS = 200, 200
_PACKAGES = ("scikit-learn", "bm25s", "numpy", "tokenizers")


def names() -> tuple[str, ...]:
    """The tasks of this family."""
    return NAMES


def settings(name: str, model: EvaluatedModel, request: Request) -> Json:
    """Everything that the result of a task depends on.

    Raises:
        InputError: no such task, no corpus, a pooling that there is not.
    """
    corpus = _corpus(name, request)
    if name == "samples":
        return {"corpus": corpus.fingerprint, "examples": SAMPLES}
    common = {"corpus": corpus.fingerprint, "version": VERSION}
    vectors = {
        "pooling": pooling_of(request),
        "layers": "first and last",
        "text_tokens": TEXT_TOKENS,
        "model": "frozen",
    }
    if name == "classification":
        return {
            **common, **vectors, "examples": TEST_PASSAGES, "training_examples": TRAIN_PASSAGES,
            "passage_characters": quick_data.PASSAGE_CHARACTERS, "read_by": "logistic regression",
            "regularisation": REGULARISATION,
        }  # fmt: skip
    if name == "likelihood":
        return {
            **common, "examples": CONTINUATIONS, "choices": quick_data.CHOICES,
            "context_characters": quick_data.CONTEXT_CHARACTERS,
            "line_characters": quick_data.LINE_CHARACTERS,
            "mode": request.mode if model.kind == "encoder" else "left to right",
        }  # fmt: skip
    return {
        **common, **vectors, "examples": TEST_PAIRS, "training_examples": TRAIN_PAIRS,
        "read_by": "cosine similarity after whitening", "shrinkage": SHRINKAGE,
    }  # fmt: skip


def measure(name: str, model: EvaluatedModel, request: Request, settings: Json) -> Measurement:
    """The score of a model on a task; `samples` has none, see `ettin.evaluation.quick.samples`.

    Raises:
        InputError: the corpus holds too little held-out text for the task; the task has no score.
    """
    corpus = _corpus(name, request)
    if name == "samples":
        raise InputError("quick/samples has no score: it is made by ettin.evaluation.quick.samples")
    measured: Callable[[Corpus, Loaded, Json], Measurement] = {
        "classification": _classification,
        "likelihood": _likelihood,
        "retrieval": _retrieval,
    }[name]
    at_most = settings["examples"]
    if request.limit is not None:
        at_most = min(at_most, request.limit)
    return measured(corpus, load(model, request), {**settings, "examples": at_most})


def prefetch(name: str, out: Path) -> None:
    """Nothing: these tasks are made out of a corpus that is there."""
    log.info("quick/%s needs no download into %s", name, out)


def _classification(corpus: Corpus, loaded: Loaded, asked: Json) -> Measurement:
    found = passages(corpus, train=asked["training_examples"], test=asked["examples"])
    labels = np.array([passage.label for passage in found.test])
    counted = count_words([passage.text for passage in found.train + found.test])
    taught = [passage.label for passage in found.train]
    answers = {
        "": _probed(loaded, found, asked["pooling"]),
        "untrained": _probed(untrained(loaded), found, asked["pooling"]),
        "bag_of_words": fitted(counted[: len(taught)], taught, counted[len(taught) :]),
        "majority": np.full(len(labels), found.labels[0]),
    }
    right = {who: (answer == labels).astype(float) for who, answer in answers.items()}
    # Every class weighs the same, however many passages of it are held out.
    classes, members, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    weights = 1 / (len(classes) * sizes[members])
    recalls = np.bincount(members, weights=right[""]) / sizes
    documents = [passage.document for passage in found.test]
    error = standard_error(weights * (right[""] - recalls[members]), documents)
    return Measurement(
        metric="balanced_accuracy",
        metrics={
            "balanced_accuracy": Score(value=float(recalls.mean()), stderr=error),
            "accuracy": mean_of(right[""], documents),
        },
        baselines={
            "chance": 1 / len(found.labels),
            **{who: float(weights @ right[who]) for who in right if who},
        },
        examples=len(labels),
        data=files.fingerprint([found.train, found.test]),
        version=VERSION,
        facts={
            "classes": {str(label): int(size) for label, size in zip(classes, sizes, strict=True)},
            "class": found.by,
            "documents": len(set(documents)),
            "training_examples": len(taught),
        },
        packages=_PACKAGES,
        samples=[
            {**passage._asdict(), "answer": str(answer)}
            for passage, answer in zip(found.test, answers[""], strict=True)
        ],
    )


def _likelihood(corpus: Corpus, loaded: Loaded, asked: Json) -> Measurement:
    found = continuations(corpus, count=asked["examples"])
    questions = [(each.context, line) for each in found for line in each.lines]
    scored = likelihoods(loaded, questions, mode=loaded.request.mode)
    shape = (len(found), quick_data.CHOICES)
    nats = np.array([each.nats for each in scored]).reshape(shape)
    tokens = np.array([each.tokens for each in scored]).reshape(shape)
    answers = np.array([each.answer for each in found])
    documents = [each.document for each in found]
    chosen = {"accuracy": nats.argmax(1), "accuracy_per_token": (nats / tokens).argmax(1)}
    # The simplest reader: which of the lines has most words of the context, rare ones first.
    overlap = bm25([line for _, line in questions], [each.context for each in found])
    own = overlap.reshape(len(found), *shape)[np.arange(len(found)), np.arange(len(found))]
    return Measurement(
        metric="accuracy_per_token",
        metrics={
            metric: mean_of((answer == answers).astype(float), documents)
            for metric, answer in chosen.items()
        },
        baselines={
            "chance": 1 / quick_data.CHOICES,
            "bm25": float((own.argmax(1) == answers).mean()),
        },
        examples=len(found),
        data=files.fingerprint(found),
        version=VERSION,
        facts={"documents": len(set(documents))},
        packages=_PACKAGES,
        samples=[
            {**each._asdict(), "nats": row.tolist(), "tokens": counts.tolist()}
            for each, row, counts in zip(found, nats, tokens, strict=True)
        ],
    )


def _retrieval(corpus: Corpus, loaded: Loaded, asked: Json) -> Measurement:
    found = pairs(corpus, train=asked["training_examples"], test=asked["examples"])
    documents = [pair.document for pair in found.test]
    lexical = bm25([pair.answer for pair in found.test], [pair.question for pair in found.test])
    scores = {
        "": _similarities(loaded, found, asked["pooling"]),
        "untrained": _similarities(untrained(loaded), found, asked["pooling"]),
        "bm25": lexical,
    }
    ranks = {who: ranks_of(score) for who, score in scores.items()}
    kinds = [pair.kind for pair in found.test]
    return Measurement(
        metric="ndcg_at_10",
        metrics={
            "ndcg_at_10": mean_of(gains(ranks[""]), documents),
            "mrr": mean_of(1 / ranks[""], documents),
            "recall_at_1": mean_of((ranks[""] <= 1).astype(float), documents),
        },
        baselines={
            "chance": float(gains(np.arange(1.0, len(found.test) + 1)).mean()),
            **{who: float(gains(rank).mean()) for who, rank in ranks.items() if who},
        },
        examples=len(found.test),
        data=files.fingerprint([found.train, found.test]),
        version=VERSION,
        facts={
            "documents": len(set(documents)),
            "kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            "training_examples": len(found.train),
        },
        packages=_PACKAGES,
        samples=[
            {**pair._asdict(), "rank": rank}
            for pair, rank in zip(found.test, ranks[""].tolist(), strict=True)
        ],
    )


def _probed(loaded: Loaded, found: Passages, pooling: str) -> npt.NDArray[Any]:
    """Answers of a logistic regression on vectors that were standardised by training passages."""
    taught = features(loaded, [passage.text for passage in found.train], pooling=pooling)
    asked = features(loaded, [passage.text for passage in found.test], pooling=pooling)
    mean, spread = taught.mean(0), taught.std(0) + 1e-6
    labels = [passage.label for passage in found.train]
    return fitted((taught - mean) / spread, labels, (asked - mean) / spread)


def _similarities(loaded: Loaded, found: Pairs, pooling: str) -> Floats:
    """Cosines of questions (rows) with answers, after whitening by training pairs."""

    def vectors(pairs: Sequence[Pair], part: int) -> Floats:
        texts = [pair[part] for pair in pairs]
        return features(loaded, texts, pooling=pooling).astype(np.float64)

    (taught, taught_answers), (asked, answers) = (
        (vectors(pairs, 0), vectors(pairs, 1)) for pairs in (found.train, found.test)
    )
    return whitened_cosines(asked, answers, taught=(taught, taught_answers))


def _corpus(name: str, request: Request) -> Corpus:
    """The corpus that tasks are made of.

    Raises:
        InputError: an unknown task, or no corpus.
    """
    if name not in NAMES:
        raise InputError(f"there is no task quick/{name}; {nearest(name, NAMES)}")
    where = request.path or request.data
    if where is None:
        raise InputError("quick tasks are made out of a corpus: say which one with --data CORPUS")
    return Corpus.open(where)
