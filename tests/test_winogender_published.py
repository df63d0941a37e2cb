"""The published WinoGender protocol, fault by fault, on probabilities made by hand."""

import math
from typing import Any

import pytest
import torch

from ettin.evaluation.bias.data import Sentence
from ettin.evaluation.bias.pronouns import FORMS, GENDERS, Gender
from ettin.evaluation.bias.published import (
    class_masses,
    combined,
    decoder_scores,
    encoder_scores,
    exchanged,
    masked_sentences,
    measure,
    prediction,
)
from ettin.evaluation.models import open_model
from ettin.evaluation.task import Request
from tests.stock_models import save_models
from tests.word_tokenizer import with_fixed_probabilities

PRONOUNS = ["he", "she", "they", "his", "her", "their", "him", "them"]
CLERK = Sentence(
    "clerk.guest.0.female", "The clerk said she was late.", "she", "female", "NOM", True
)


def asked(**changes) -> Request:
    request = {"data": None, "offline": True, "limit": None, "seed": None, "mode": "ettin",
               "preset": "quick", "pooling": None, "batch_tokens": 512, "device": "cpu",
               "out": None}  # fmt: skip
    return Request(**{**request, **changes})


def encoder_of(folder, probabilities: dict[str, float]) -> tuple[Any, Any]:
    model = with_fixed_probabilities(folder, "encoder", probabilities)
    return model.load_language_model(), model.load_tokenizer()


def test_words_are_what_whitespace_separates_and_one_sign_at_the_end_is_kept():
    sentence = "Guests said  her bag, (his), saw them! Their theory: hers."
    assert masked_sentences(sentence, "<m>") == [
        "Guests said <m> bag, (his), saw them! Their theory: hers.",
        "Guests said her bag, <m>, saw them! Their theory: hers.",
        "Guests said her bag, (his), saw <m>! Their theory: hers.",
        "Guests said her bag, (his), saw them! <m> theory: hers.",
    ]


def test_pronouns_of_any_case_are_summed_by_gender_and_her_counts_once():
    tokens = [" He", "him", "HER ", " they", "hers", "the"]
    masses = class_masses(tokens, [0.1, 0.2, 0.3, 0.05, 0.2, 0.1])
    assert masses == pytest.approx({"male": 0.3, "female": 0.3, "neutral": 0.05})


def test_several_masks_weigh_as_much_as_their_pronouns():
    one: dict[Gender, float] = {"male": 0.2, "female": 0.0, "neutral": 0.0}
    other: dict[Gender, float] = {"male": 0.0, "female": 0.5, "neutral": 0.1}
    assert combined([one, other]) == pytest.approx(
        {"male": 0.25, "female": 0.625, "neutral": 0.125}
    )
    assert combined([dict.fromkeys(GENDERS, 0.0)]) == dict.fromkeys(GENDERS, 0.0)


@pytest.mark.parametrize(
    ("scores", "best", "lowest"),
    [
        ((0.4, 0.4, 0.2), "male", "neutral"),
        ((0.2, 0.4, 0.4), "female", "male"),
        ((0.0, 0.0, 0.0), "male", "male"),
        ((0.4, 0.2, 0.2), "male", "female"),
    ],
)
def test_of_equals_the_first_of_male_female_neutral_wins(scores, best, lowest):
    named = dict(zip(GENDERS, scores, strict=True))
    assert prediction(named, lowest=False) == best
    assert prediction(named, lowest=True) == lowest


@pytest.mark.parametrize(
    ("sentence", "old", "new", "expected"),
    [
        ("The guest met her.", "female", "male", "The guest met his."),
        ("The guest met her.", "female", "neutral", "The guest met their."),
        ("He saw his cat see him.", "male", "female", "She saw her cat see her."),
        ("He was here; he is he has.", "male", "neutral", "They were here; they are they have."),
        ("They were there.", "neutral", "male", "He were there."),
    ],
)
def test_words_are_exchanged_case_after_case_so_that_her_always_becomes_his(
    sentence, old, new, expected
):
    assert exchanged(sentence, old=old, new=new) == expected


def test_only_the_twenty_most_likely_tokens_are_looked_at(tmp_path):
    filler = {f"filler{number}": 0.03 for number in range(19)}
    rare = dict.fromkeys(PRONOUNS, 1e-9)
    seen = encoder_of(tmp_path / "seen", {**filler, **rare, "she": 0.02, "he": 0.01})
    assert encoder_scores(*seen, CLERK.text) == {"male": 0.0, "female": 1.0, "neutral": 0.0}
    unseen = encoder_of(tmp_path / "unseen", {**filler, "filler19": 0.03, **rare, "she": 0.02})
    scores = encoder_scores(*unseen, CLERK.text)
    assert scores == {"male": 0.0, "female": 0.0, "neutral": 0.0}
    assert prediction(scores, lowest=False) == "male"
    assert encoder_scores(*seen, "No pronoun in here.") is None


def test_an_encoder_sees_the_verb_and_is_not_shifted(tokenizer_directory, tmp_path):
    folder = save_models(tmp_path, tokenizer_directory=tokenizer_directory)
    model = open_model(str(folder / "encoder"))
    loaded, tokenizer = model.load_language_model(), model.load_tokenizer()
    inputs = tokenizer("The clerk said [MASK] was late.")["input_ids"]
    logits = loaded(input_ids=torch.tensor([inputs])).logits[
        0, inputs.index(tokenizer.mask_token_id)
    ]
    best = logits.softmax(-1).topk(20)
    sums = dict.fromkeys(GENDERS, 0.0)
    for token, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        for gender in GENDERS:
            if tokenizer.decode([token]).strip().lower() in FORMS[gender].values():
                sums[gender] += probability
    total = sum(sums.values()) or 1.0
    expected = {gender: value / total for gender, value in sums.items()}
    assert encoder_scores(loaded, tokenizer, CLERK.text) == pytest.approx(expected, abs=1e-6)


def test_a_decoder_is_asked_for_the_perplexity_of_the_whole_sentence(tokenizer_directory, tmp_path):
    folder = save_models(tmp_path, tokenizer_directory=tokenizer_directory)
    model = open_model(str(folder / "decoder"))
    loaded, tokenizer = model.load_language_model(), model.load_tokenizer()
    found = decoder_scores(loaded, tokenizer, CLERK)
    texts = ["he was", "she was", "they were"]
    for gender, text in zip(GENDERS, texts, strict=True):
        ids = tokenizer(f"The clerk said {text} late.")["input_ids"]
        logs = loaded(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        loss = -sum(logs[place, ids[place + 1]].item() for place in range(len(ids) - 1))
        assert found[gender] == pytest.approx(math.exp(loss / (len(ids) - 1)), rel=1e-4)


def test_what_was_not_found_counts_as_male_and_is_told(tmp_path):
    filler = {f"filler{number}": 0.03 for number in range(20)}
    model = with_fixed_probabilities(
        tmp_path, "encoder", {**filler, **dict.fromkeys(PRONOUNS, 1e-9)}
    )
    result = measure(model, [CLERK], request=asked(), data="made up")
    assert result.metrics["male"].value == 1
    assert result.metrics["gotcha_preference_rate"].value == 0
    assert result.facts == {"nothing_found": 1}
    assert result.baselines == {"uniform": pytest.approx(1 / 3), "gold_shares": 1.0}
    assert result.samples[0]["prediction"] == "male"
