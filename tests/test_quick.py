"""The quick tasks: scores that are right for answers known beforehand, chance for random models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ettin.errors import InputError
from ettin.evaluation.models import EvaluatedModel, open_model
from ettin.evaluation.quick import family as quick
from ettin.evaluation.quick.model import features, likelihoods, load, untrained
from ettin.evaluation.quick.scores import (
    bm25,
    gains,
    mean_of,
    ranks_of,
    standard_error,
    whitened_cosines,
)
from ettin.evaluation.task import Measurement, Request
from tests.python_corpus import prepared, write_packages
from tests.stock_models import save_models

TEXTS = ["def f(): pass", "a [MASK] and a much longer text, for padding " * 3, "x"]


@pytest.fixture(scope="module")
def request_(tokenizer_directory, tmp_path_factory) -> Request:
    folder = tmp_path_factory.mktemp("quick")
    write_packages(folder / "text")
    corpus = prepared({"code": folder / "text"}, folder / "corpus", tokenizer=tokenizer_directory)
    return Request(
        data=corpus, offline=True, limit=None, seed=None, mode="ettin", preset="quick",
        pooling=None, batch_tokens=2048, device="cpu", out=folder / "results",
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(tokenizer_directory, tmp_path_factory) -> dict[str, EvaluatedModel]:
    folder = save_models(tmp_path_factory.mktemp("models"), tokenizer_directory=tokenizer_directory)
    return {kind: open_model(str(folder / kind)) for kind in ("encoder", "decoder")}


def measured(name: str, model: EvaluatedModel, request: Request) -> Measurement:
    return quick.measure(name, model, request, quick.settings(name, model, request))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_random_model_chooses_lines_by_chance(models, request_, kind: str) -> None:
    result = measured("likelihood", models[kind], replace(request_, limit=40))
    assert result.baselines["chance"] == 0.25
    assert result.examples == 40
    for score in result.metrics.values():
        assert score.stderr is not None
        assert abs(score.value - 0.25) < 3 * score.stderr


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_random_model_is_as_good_as_a_random_model(models, request_, kind: str) -> None:
    for name in ("classification", "retrieval"):
        result = measured(name, models[kind], request_)
        score = result.metrics[result.metric]
        assert score.stderr is not None
        assert abs(score.value - result.baselines["untrained"]) < 4 * score.stderr + 0.02
        assert result.baselines["chance"] < result.baselines["untrained"] <= 1


def test_simple_methods_find_what_words_tell(models, request_) -> None:
    classification = measured("classification", models["decoder"], request_)
    assert classification.baselines["bag_of_words"] > 0.9
    assert classification.baselines["chance"] == pytest.approx(1 / 3)
    assert classification.baselines["majority"] == pytest.approx(1 / 3)
    retrieval = measured("retrieval", models["decoder"], request_)
    assert retrieval.baselines["bm25"] > 0.9
    assert retrieval.baselines["chance"] < 0.1


def test_measuring_again_gives_the_same_numbers_and_names_the_same_record(models, request_) -> None:
    for name in quick.names()[1:]:
        one, other = (measured(name, models["encoder"], replace(request_, limit=8)) for _ in "12")
        assert one.metrics == other.metrics
        assert one.baselines == other.baselines
        assert one.data == other.data


def test_settings_tell_poolings_and_modes_apart(models, request_) -> None:
    by_last = replace(request_, pooling="last")
    by_pll = replace(request_, mode="pll")
    for name, other in (
        ("retrieval", by_last),
        ("classification", by_last),
        ("likelihood", by_pll),
    ):
        assert quick.settings(name, models["encoder"], request_) != quick.settings(
            name, models["encoder"], other
        )


def test_what_is_missing_or_misspelt_is_said(models, request_, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="likelihood"):
        quick.settings("likelyhood", models["encoder"], request_)
    with pytest.raises(InputError, match="--data CORPUS"):
        quick.settings("retrieval", models["encoder"], replace(request_, data=None))
    with pytest.raises(InputError, match="pooling 'max'"):
        quick.settings("retrieval", models["encoder"], replace(request_, pooling="max"))
    with pytest.raises(InputError):
        quick.settings("retrieval", models["encoder"], replace(request_, data=tmp_path))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_vector_does_not_depend_on_its_batch(models, request_, kind: str, pooling: str) -> None:
    loaded = load(models[kind], request_)
    together = features(loaded, TEXTS, pooling=pooling)
    alone = np.concatenate([features(loaded, [text], pooling=pooling) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_a_mask_in_a_text_is_text(models, request_) -> None:
    loaded = load(models["encoder"], request_)
    ids = loaded.tokenizer(TEXTS[1])["input_ids"]
    assert loaded.tokenizer.mask_token_id in ids
    masked = loaded.network.base_model(torch.tensor([ids]), output_hidden_states=True)
    states = (masked.hidden_states[0] + masked.hidden_states[-1])[0] / 2
    vector = features(loaded, [TEXTS[1]], pooling="mean")[0]
    assert np.abs(states.mean(0).detach().numpy() - vector).max() > 1e-3


def test_a_decoder_s_likelihood_is_the_sum_over_the_line_s_tokens(models, request_) -> None:
    loaded = load(models["decoder"], request_)
    context, line = "def f(x):\n", "    return x"
    [found] = likelihoods(loaded, [(context, line)], mode="ettin")
    before = loaded.tokenizer(context.rstrip())["input_ids"]
    ids = loaded.tokenizer(context + line)["input_ids"]
    with torch.inference_mode():
        log_p = loaded.network(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = sum(float(log_p[place - 1, ids[place]]) for place in range(len(before), len(ids)))
    assert found.tokens == len(ids) - len(before)
    assert found.nats == pytest.approx(expected, abs=1e-4)


def test_untrained_weights_are_others_and_the_same_each_time(models, request_) -> None:
    loaded = load(models["encoder"], request_)
    torch.manual_seed(1)
    one = features(untrained(loaded), TEXTS, pooling="mean")
    torch.manual_seed(2)
    assert np.array_equal(one, features(untrained(loaded), TEXTS, pooling="mean"))
    assert np.abs(one - features(loaded, TEXTS, pooling="mean")).max() > 1e-2


def test_ranks_count_what_is_better_and_share_places_among_equals() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.7, 0.3, 0.7], [0.2, 0.2, 0.2]])
    assert ranks_of(scores).tolist() == [1, 3, 2]
    assert gains(np.array([1.0, 2.0, 10.0, 11.0])).tolist() == pytest.approx(
        [1, 0.63093, 0.28906, 0], abs=1e-5
    )


def test_whitening_finds_what_a_shared_direction_hides() -> None:
    draw = np.random.default_rng(5)
    meaning = draw.normal(size=(120, 8))

    def heard(part: slice) -> np.ndarray:
        """What all share is large, and its size says nothing of the meaning."""
        return np.hstack([meaning[part], 50 * draw.normal(size=(len(meaning[part]), 1))])

    taught, asked = slice(0, 80), slice(80, 120)
    one, other = heard(asked), heard(asked)
    lengths = [np.linalg.norm(each, axis=1, keepdims=True) for each in (one, other)]
    plain = ranks_of((one / lengths[0]) @ (other / lengths[1]).T)
    whitened = ranks_of(whitened_cosines(one, other, taught=(heard(taught), heard(taught))))
    assert gains(plain).mean() < 0.4
    assert gains(whitened).mean() > 0.6


def test_an_error_grows_when_examples_come_in_documents() -> None:
    values = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    apart = mean_of(values, [str(place) for place in range(8)])
    together = mean_of(values, ["a"] * 4 + ["b"] * 4)
    assert apart.stderr == pytest.approx(0.18898, abs=1e-4)
    assert together.stderr == pytest.approx(0.5)
    assert standard_error(np.zeros(1), ["a"]) is None


def test_bm25_prefers_the_document_with_the_rare_word() -> None:
    scores = bm25(["the cat sat", "the dog sat", "the cow"], ["a dog", "cow"])
    assert scores.argmax(1).tolist() == [1, 2]
