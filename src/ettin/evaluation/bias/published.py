"""The published WinoGender protocol as it was run, faults included, so that numbers compare.

What it does, and what `bias/winogender` does instead:

    encoder   one mask for the pronoun, whatever its number of tokens; of the whole vocabulary only
              the 20 most likely tokens are looked at, and the pronouns among them, in any case,
              are summed by gender. None among them, or a tie, means `male`. No verb is hidden, so
              that `was` after the mask speaks against `they`. Models of the `mntp` objective are
              read at the mask, where they do not answer: theirs were
    decoder   the sentence as it is, against two that are made by exchanging words: nominative
              first, then possessive, then accusative, so that `her` always becomes `his` or
              `their`; lowest perplexity (mean over tokens, special ones as the tokenizer adds
              them) wins, a tie goes to `male`, then `female`. The verb is repaired after `they`
    both      weights and softmax of the encoder in bfloat16, one sentence at a time, as published;
              bfloat16 gives other last digits, and other ties, on other machines

Source: `bias_eval` of the authors' repository, described there as run for arXiv 2507.11412.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ettin.errors import InputError
from ettin.evaluation.bias.data import Sentence
from ettin.evaluation.bias.pronouns import CASES, FORMS, GENDERS, Gender
from ettin.evaluation.bias.scores import METRIC, baselines, mean_score
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.task import Measurement, Request
from ettin.evaluation.token_probabilities import PACKAGES
from ettin.files import Json
from ettin.records import Score

VERSION = "1"
CONSIDERED = 20
SETTINGS: Json = {
    "rule": "published",
    "considered": CONSIDERED,
    "precision": "bfloat16",
    "answer_offset": 0,
}

_REPAIRS = [("was", "were"), ("is", "are"), ("has", "have")]
_ALL_FORMS = {form for forms in FORMS.values() for form in forms.values()}


def measure(
    model: EvaluatedModel, gotchas: Sequence[Sentence], *, request: Request, data: str
) -> Measurement:
    """Predict a gender for each gotcha sentence.

    Args:
        model: an encoder or a decoder.
        gotchas: what is asked.
        request: tells the device.
        data: fingerprint of the sentences.

    Raises:
        InputError: an encoder without a mask token, or no sentence with a pronoun.
    """
    tokenizer = model.load_tokenizer()
    if model.kind == "encoder" and tokenizer.mask_token is None:
        raise InputError(f"the tokenizer of {model.where} has no mask token")
    loaded = model.load_language_model(dtype=torch.bfloat16).to(request.device)
    judged, scored = [], []
    for number, sentence in enumerate(gotchas):
        if model.kind == "encoder":
            scores = encoder_scores(loaded, tokenizer, sentence.text)
        else:
            scores = decoder_scores(loaded, tokenizer, sentence)
        if scores is not None:
            judged.append(sentence)
            scored.append(scores)
        request.advance((number + 1) / len(gotchas), "sentences")
    if not judged:
        raise InputError("no sentence holds a pronoun that the published protocol knows")
    predictions = [prediction(scores, lowest=model.kind == "decoder") for scores in scored]
    name = "shares" if model.kind == "encoder" else "perplexities"
    return Measurement(
        metric=METRIC,
        metrics=_metrics(predictions, judged),
        baselines=baselines(judged),
        examples=len(judged),
        data=data,
        version=VERSION,
        facts={"nothing_found": sum(not any(scores.values()) for scores in scored)},
        packages=PACKAGES,
        samples=[
            {
                "sentid": each.id,
                "sentence": each.text,
                "gold": each.gender,
                name: scores,
                "prediction": predicted,
            }
            for each, scores, predicted in zip(judged, scored, predictions, strict=True)
        ],
    )


def _metrics(predictions: Sequence[Gender], judged: Sequence[Sentence]) -> dict[str, Score]:
    right = [one == each.gender for one, each in zip(predictions, judged, strict=True)]
    metrics = {METRIC: mean_score(right, judged)}
    for gender in GENDERS:
        metrics[gender] = mean_score([each == gender for each in predictions], judged)
        of_gender = [n for n, each in enumerate(judged) if each.gender == gender]
        if of_gender:
            metrics[f"{METRIC}/{gender}"] = mean_score(
                [right[n] for n in of_gender], [judged[n] for n in of_gender]
            )
    return metrics


def prediction(scores: Mapping[Gender, float], *, lowest: bool) -> Gender:
    """The gender with the best score; the first of male, female, neutral if there are several."""
    sign = -1 if lowest else 1
    return max(GENDERS, key=lambda gender: sign * scores[gender])


def masked_sentences(sentence: str, mask_token: str) -> list[str]:
    """The sentence once for each word that is a pronoun, with a mask in its place.

    Words are what whitespace separates; a sign at the end of one is kept, other signs are lost.
    """
    words = sentence.split()
    result = []
    for place, word in enumerate(words):
        if re.sub(r"\W", "", word.lower()) in _ALL_FORMS:
            sign = word[-1] if word[-1] in ".,!?;:" else ""
            result.append(" ".join([*words[:place], mask_token + sign, *words[place + 1 :]]))
    return result


def class_masses(tokens: Sequence[str], probabilities: Sequence[float]) -> dict[Gender, float]:
    """Probability of each gender's forms among the most likely tokens.

    Args:
        tokens: the most likely ones as text; spaces and capitals do not count.
        probabilities: theirs.
    """
    masses: dict[Gender, float] = dict.fromkeys(GENDERS, 0.0)
    for token, probability in zip(tokens, probabilities, strict=True):
        for gender in GENDERS:
            if token.strip().lower() in FORMS[gender].values():
                masses[gender] += probability
    return masses


def combined(masses: Sequence[Mapping[Gender, float]]) -> dict[Gender, float]:
    """Shares of the genders over all masks of a sentence, each weighted by its pronouns' mass."""
    total = sum(sum(each.values()) for each in masses)
    sums = {gender: sum(each[gender] for each in masses) for gender in GENDERS}
    return {gender: value / total if total > 0 else 0.0 for gender, value in sums.items()}


def exchanged(sentence: str, *, old: Gender, new: Gender) -> str:
    """The sentence with pronouns of one gender replaced by those of another, case after case."""
    for case in CASES:
        one, other = FORMS[old][case], FORMS[new][case]
        for before, after in ((one.capitalize(), other.capitalize()), (one, other)):
            sentence = re.sub(rf"\b{before}\b", after, sentence)
    if new == "neutral":
        for singular, plural in _REPAIRS:
            for they in ("they", "They"):
                sentence = sentence.replace(f"{they} {singular}", f"{they} {plural}")
    return sentence


@torch.inference_mode()
def encoder_scores(model: Any, tokenizer: Any, sentence: str) -> dict[Gender, float] | None:
    """Shares of the genders; None when the sentence holds no pronoun."""
    masses = []
    for masked in masked_sentences(sentence, tokenizer.mask_token):
        inputs = tokenizer(masked, return_tensors="pt").to(model.device)
        place = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0, 0]
        probabilities = model(**inputs).logits[0, place].softmax(-1)
        best = probabilities.topk(min(CONSIDERED, len(probabilities)))
        tokens = [tokenizer.decode([token]) for token in best.indices.tolist()]
        masses.append(class_masses(tokens, best.values.tolist()))
    return combined(masses) if masses else None


@torch.inference_mode()
def decoder_scores(model: Any, tokenizer: Any, sentence: Sentence) -> dict[Gender, float]:
    """Perplexity of the sentence with each gender's pronouns."""
    result: dict[Gender, float] = {}
    for gender in GENDERS:
        text = sentence.text
        if gender != sentence.gender:
            text = exchanged(text, old=sentence.gender, new=gender)
        inputs = tokenizer(text, return_tensors="pt").to(model.device)
        loss = model(**inputs, labels=inputs["input_ids"]).loss
        result[gender] = float(loss.exp())
    return result
