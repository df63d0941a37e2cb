"""Metrics of classification and regression, and how far chance moves them.

Accuracy has the binomial standard error. Of all others it is the standard deviation over
`RESAMPLES` bootstrap samples of the examples, drawn with a fixed seed.
"""

import warnings
from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from ettin.records import Score

RESAMPLES = 200

Numbers = npt.NDArray[Any]


def scores(truth: Numbers, answers: Numbers, metrics: tuple[str, ...]) -> dict[str, Score]:
    """Values with standard errors.

    Args:
        truth: classes or scores, `[examples]`.
        answers: the same of a model.
        metrics: of `accuracy`, `f1` (of class 1), `f1_macro`, `matthews`, `spearman`, `pearson`.
    """
    found = {}
    for name in metrics:
        value = value_of(name, truth, answers)
        if name == "accuracy":
            error = sqrt(value * (1 - value) / len(truth))
        else:
            error = _bootstrap(name, truth, answers)
        found[name] = Score(value=value, stderr=error)
    return found


def value_of(metric: str, truth: Numbers, answers: Numbers) -> float:
    """A metric; a correlation with something constant is undefined, and counts as 0 here."""
    return float(_METRICS[metric](truth, answers))


def simple_answer(train: Numbers, *, regression: bool) -> tuple[str, float]:
    """What always saying the same would say, and what that is called: majority class or mean."""
    if regression:
        return "mean", float(train.mean())
    values, counts = np.unique(train, return_counts=True)
    return "majority", float(values[counts.argmax()])


def _bootstrap(metric: str, truth: Numbers, answers: Numbers) -> float:
    draw = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        chosen = draw.integers(len(truth), size=len(truth))
        values.append(value_of(metric, truth[chosen], answers[chosen]))
    return float(np.std(values))


def _accuracy(truth: Numbers, answers: Numbers) -> float:
    return float((truth == answers).mean())


def _f1(truth: Numbers, answers: Numbers) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth == 1, answers == 1, zero_division=0.0))


def _f1_macro(truth: Numbers, answers: Numbers) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, answers, average="macro", zero_division=0.0))


def _matthews(truth: Numbers, answers: Numbers) -> float:
    from sklearn.metrics import matthews_corrcoef

    return 0.0 if _constant(truth, answers) else float(matthews_corrcoef(truth, answers))


def _spearman(truth: Numbers, answers: Numbers) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _constant(truth, answers) else float(spearmanr(truth, answers).statistic)


def _pearson(truth: Numbers, answers: Numbers) -> float:
    from scipy.stats import pearsonr

    if _constant(truth, answers):
        return 0.0
    with warnings.catch_warnings():  # of answers that hardly differ: the value says as much
        warnings.simplefilter("ignore")
        return float(pearsonr(truth, answers).statistic)


def _constant(truth: Numbers, answers: Numbers) -> bool:
    return len(np.unique(truth)) == 1 or len(np.unique(answers)) == 1


_METRICS: dict[str, Callable[[Numbers, Numbers], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "matthews": _matthews,
    "spearman": _spearman,
    "pearson": _pearson,
}
