"""How answers to `quick` tasks become scores, and the simple methods that stand beside a model.

fitted(vectors, labels, others)       a logistic regression's answers
whitened_cosines(…), bm25(…)          similarities of questions (rows) with answers (columns)
ranks_of(similarities), gains(ranks)  where each question's own answer stands, and nDCG@10
mean_of(values, documents)            a score with its standard error
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ettin.evaluation.quick.data import words
from ettin.records import Score

REGULARISATION = 0.1
"""`C` of the logistic regression."""
SHRINKAGE = 0.03
"""Added to every direction's size in whitening, as a share of the largest."""

Floats = npt.NDArray[np.float64]


def fitted(taught: Any, labels: list[str], asked: Any) -> npt.NDArray[Any]:
    """Answers of a logistic regression.

    Args:
        taught: [N, width], an array or a sparse matrix.
        labels: of these.
        asked: [M, width].

    Returns:
        A label for each of `asked`, [M].
    """
    from sklearn.linear_model import LogisticRegression

    answers: npt.NDArray[Any] = (
        LogisticRegression(C=REGULARISATION, max_iter=2000).fit(taught, labels).predict(asked)
    )
    return answers


def count_words(texts: list[str]) -> Any:
    """Sparse counts of words, by the words of all texts; weighted by nothing."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(analyzer=words).fit_transform(texts).tocsr()


def whitened_cosines(
    questions: Floats, answers: Floats, *, taught: tuple[Floats, Floats]
) -> Floats:
    """Cosines after whitening.

    Vectors of language models share a few large directions, which hide all others from the cosine,
    in one twin more than in the other (Su et al. 2021, "Whitening Sentence Representations for
    Better Semantics and Faster Retrieval"). Questions and answers are centred apart: their lengths
    alone would tell them from one another.

    Args:
        questions: [Q, width].
        answers: [A, width].
        taught: training questions and answers, from which means and directions are taken.

    Returns:
        [Q, A].
    """
    means = [each.mean(0) for each in taught]
    centred = np.concatenate([each - mean for each, mean in zip(taught, means, strict=True)])
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    whiten = directions.T / (sizes + SHRINKAGE * sizes[0])
    one, other = (
        _of_length_one((each - mean) @ whiten)
        for each, mean in zip((questions, answers), means, strict=True)
    )
    cosines: Floats = one @ other.T
    return cosines


def _of_length_one(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, 1e-12)
    return unit


def bm25(documents: list[str], queries: list[str]) -> Floats:
    """Scores of documents (columns) for queries (rows)."""
    import bm25s

    index = bm25s.BM25()
    index.index([words(text) for text in documents], show_progress=False)
    scores: Floats = np.stack([index.get_scores(words(query)) for query in queries]).astype(float)
    return scores


def ranks_of(scores: Floats) -> Floats:
    """The place of each row's own column, from 1; among equals, the middle of their places."""
    own = scores.diagonal()[:, None]
    places: Floats = 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
    return places


def gains(ranks: Floats) -> Floats:
    """nDCG@10 of questions with one answer each."""
    found: Floats = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)
    return found


def mean_of(values: Floats, documents: list[str]) -> Score:
    """The mean of a value for each example, with its standard error (see `standard_error`)."""
    error = standard_error((values - values.mean()) / len(values), documents)
    return Score(value=float(values.mean()), stderr=error)


def standard_error(deviations: Floats, documents: list[str]) -> float | None:
    """Standard error of a sum of deviations from a mean, by examples or by documents, whichever is
    larger: examples of one document resemble each other, and few documents hide it.

    Returns:
        None for a single example.
    """
    examples = len(deviations)
    if examples < 2:
        return None
    _, members = np.unique(documents, return_inverse=True)
    sums = np.bincount(members, weights=deviations)
    squares = [float(deviations @ deviations) * examples / (examples - 1)]
    if len(sums) > 1:
        squares.append(float(sums @ sums) * len(sums) / (len(sums) - 1))
    return float(np.sqrt(max(squares)))
