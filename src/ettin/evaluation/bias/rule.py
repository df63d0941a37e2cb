"""One rule for both kinds of model: how probable is each gender's variant of a sentence.

Three variants of a sentence differ in the pronoun, in the form of its case, and in the verb that
agrees with it. A model is asked for one quantity:

    P(variant | all words that the variants share, and that one of the three was said)

Both kinds give it in the way in which they were trained, and nothing else is compared:

    decoder   P(sentence) of each variant, from left to right, divided by the sum over the three:
              this is that quantity, by Bayes' rule; what stands before the pronoun cancels, what
              stands behind counts by how well it follows from each
    encoder   P(changed words | all the others), all tokens of the changed words hidden at once and
              filled from left to right, divided by the sum over the three. Nothing gives away the
              number of the verb, because the verb is hidden with the pronoun

The obvious alternative, the difference of whole sentences' pseudo-log-likelihoods, was not taken:
a pseudo-log-likelihood is no probability. It counts what pronoun and context say about each other
once from each side, and again at every word that hints at the gender, so that encoders would look
surer than decoders for no reason but the rule.

Where a tokenizer cuts variants into different numbers of tokens, the number of masks tells an
encoder something; such sentences are counted as `uneven` in the record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ettin.evaluation.bias.data import Sentence
from ettin.evaluation.bias.pronouns import GENDERS, variants
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.task import Request
from ettin.evaluation.token_probabilities import (
    Float64Array,
    Int64Array,
    Reading,
    Surroundings,
    log_probabilities,
    surroundings_of,
)

TIE_NATS = 1e-4
"""Scores that differ by less are equal: so much fp32 and batching may change."""


@dataclass(frozen=True)
class Judgement:
    """What a model says of one frame.

    Attributes:
        scores: float64 [3], log-probability of each gender's variant up to a shared constant.
        uneven: whether the variants have different numbers of tokens.
    """

    scores: Float64Array
    uneven: bool

    @property
    def probabilities(self) -> Float64Array:
        """[3], sums to 1."""
        shifted = np.exp(self.scores - self.scores.max())
        result: Float64Array = shifted / shifted.sum()
        return result

    @property
    def shares(self) -> Float64Array:
        """[3], 1 for the best variant; if several are equally good, each gets its part."""
        best = self.scores > self.scores.max() - TIE_NATS
        result: Float64Array = best / best.sum()
        return result


def judge(
    model: EvaluatedModel, sentences: Sequence[Sentence], request: Request
) -> list[Judgement]:
    """Score the three variants of each sentence by the rule.

    Args:
        model: an encoder or a decoder.
        sentences: whose variants are scored; their own gender plays no part.
        request: tells `batch_tokens` and `device`.
    """
    tokenizer = model.load_tokenizer()
    around = surroundings_of(model, tokenizer)
    trios = []
    for sentence in sentences:
        made = variants(sentence.text, pronoun=sentence.pronoun, case=sentence.case)
        trios.append([_ids(tokenizer, made[gender]) for gender in GENDERS])
    readings = [
        reading
        for trio in trios
        for ids, (start, end) in zip(trio, changed(trio), strict=True)
        for reading in _readings(ids, start, end, around=around, offset=model.answer_offset)
    ]
    # Variants of one sentence share inputs: with one token each, all three ask about one mask.
    distinct, places = _merged(readings)
    found = log_probabilities(
        model.load_language_model().to(request.device),
        distinct,
        batch_tokens=request.batch_tokens,
        device=request.device,
        advance=lambda share: request.advance(share, "sentences"),
    )
    values = iter([found[number][place].sum() for number, place in places])
    result = []
    for trio in trios:
        spans = changed(trio)
        counts = [1 if around.mask is None else end - start for start, end in spans]
        scores = [sum(next(values) for _ in range(count)) for count in counts]
        uneven = len({len(ids) for ids in trio}) > 1
        result.append(Judgement(np.array(scores, dtype=np.float64), uneven))
    return result


def changed(trio: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Where variants differ: what is left between their common beginning and common end.

    Args:
        trio: token ids of each variant.

    Returns:
        For each variant, the first position that differs and the one after the last.
    """
    shortest = min(map(len, trio))
    begin = 0
    while begin < shortest and len({ids[begin] for ids in trio}) == 1:
        begin += 1
    end = 0
    while end < shortest - begin and len({ids[-1 - end] for ids in trio}) == 1:
        end += 1
    return [(begin, len(ids) - end) for ids in trio]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _readings(
    ids: list[int], start: int, end: int, *, around: Surroundings, offset: int
) -> list[Reading]:
    """What is asked about one variant: a decoder everything at once, an encoder token by token."""
    tokens = around.around(ids)
    if around.mask is None:
        return [Reading(tokens, np.arange(len(ids)), np.array(ids, dtype=np.int64))]
    first = len(around.begin)
    result = []
    for place in range(first + start, first + end):
        hidden = tokens.copy()
        hidden[place : first + end] = around.mask
        result.append(Reading(hidden, np.array([place - offset]), tokens[place : place + 1]))
    return result


def _merged(readings: Sequence[Reading]) -> tuple[list[Reading], list[tuple[int, slice]]]:
    """Readings of equal inputs made one, and where in it each is found."""
    numbers: dict[bytes, int] = {}
    groups: list[list[Reading]] = []
    places = []
    for reading in readings:
        number = numbers.setdefault(reading.tokens.tobytes(), len(groups))
        if number == len(groups):
            groups.append([])
        before = sum(len(each.positions) for each in groups[number])
        groups[number].append(reading)
        places.append((number, slice(before, before + len(reading.positions))))
    return [_joined(group) for group in groups], places


def _joined(group: Sequence[Reading]) -> Reading:
    positions: Int64Array = np.concatenate([reading.positions for reading in group])
    answers: Int64Array = np.concatenate([reading.answers for reading in group])
    return Reading(group[0].tokens, positions, answers)
