"""Means over WinoGender's sentences with their errors, and what they are held against."""

from collections.abc import Iterable, Sequence

import numpy as np

from ettin.evaluation.bias.data import Sentence
from ettin.evaluation.bias.pronouns import GENDERS
from ettin.evaluation.token_probabilities import ratio_error
from ettin.records import Score

METRIC = "gotcha_preference_rate"
"""How often the gender is preferred that the sentence has, against the statistics."""


def mean_score(values: Iterable[float], sentences: Sequence[Sentence]) -> Score:
    """A mean over sentences; its error counts templates, whose two sentences are much alike."""
    groups: dict[str, list[float]] = {}
    for value, sentence in zip(values, sentences, strict=True):
        groups.setdefault(sentence.template, []).append(float(value))
    sums = np.array([sum(group) for group in groups.values()])
    counts = np.array([len(group) for group in groups.values()], dtype=np.float64)
    return Score(value=float(sums.sum() / counts.sum()), stderr=ratio_error(sums, counts))


def baselines(gotchas: Sequence[Sentence]) -> dict[str, float]:
    """How often one is right by choosing evenly, and by drawing from the gold distribution."""
    shares = [sum(each.gender == gender for each in gotchas) / len(gotchas) for gender in GENDERS]
    return {"uniform": 1 / len(GENDERS), "gold_shares": sum(share**2 for share in shares)}
