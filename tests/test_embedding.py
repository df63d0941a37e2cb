"""Embeddings: which hidden states become the vector of a text, and what training changes."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset

from ettin import files
from ettin.errors import InputError
from ettin.evaluation.models import EvaluatedModel, open_model
from ettin.evaluation.retrieval import embedding
from tests.stock_models import save_models

TEXTS = ["mabo", "keli tado mabo senu vi ronapi", "tado senu"]
TRAINING = {
    "learning_rates": [5e-3], "batch_rows": 4, "mini_batch_rows": 2, "epochs": None, "steps": 3,
    "max_tokens": 32, "pooling": "mean", "scale": 20.0, "warmup": 0.05, "seed": 1, "bf16": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tokenizer_directory, tmp_path_factory) -> Path:
    """A small random encoder and decoder."""
    return save_models(tmp_path_factory.mktemp("pair"), tokenizer_directory=tokenizer_directory)


@torch.no_grad()
def hidden(model: EvaluatedModel, text: str) -> torch.Tensor:
    """Hidden states of one text alone, by the stock class: [tokens, hidden_size]."""
    tokens = model.load_tokenizer()(text, return_tensors="pt")
    states: torch.Tensor = model.load("")(**tokens).last_hidden_state[0]
    return states


def embedded(path: Path, pooling: str) -> torch.Tensor:
    loaded = embedding.load(path, pooling=pooling, max_tokens=32, device="cpu")
    vectors: torch.Tensor = loaded.encode(TEXTS, convert_to_tensor=True, show_progress_bar=False)
    return vectors


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_vector_is_pooled_from_the_states_of_the_text_alone_whatever_the_padding(pair, kind):
    model = open_model(str(pair / kind))
    vectors = {pooling: embedded(model.path, pooling) for pooling in embedding.POOLINGS}
    for row, text in enumerate(TEXTS):
        states = hidden(model, text)
        weights = torch.arange(1, len(states) + 1)[:, None] / sum(range(1, len(states) + 1))
        wanted = {
            "mean": states.mean(0),
            "last": states[-1],
            "weightedmean": (states * weights).sum(0),
            "cls": states[0],
        }
        for pooling, vector in wanted.items():
            torch.testing.assert_close(vectors[pooling][row], vector)


def test_a_decoder_reads_its_beginning_token_and_ends_with_the_last_word(pair):
    model = open_model(str(pair / "decoder"))
    loaded = embedding.load(model.path, pooling="last", max_tokens=32, device="cpu")
    plain = loaded.tokenizer(TEXTS[1], add_special_tokens=False)["input_ids"]
    features = loaded.preprocess(TEXTS)
    longest, shortest = features["input_ids"][1].tolist(), features["attention_mask"][0].tolist()
    assert longest == [loaded.tokenizer.bos_token_id, *plain]
    assert shortest == sorted(shortest, reverse=True)  # padding on the right


def test_long_texts_are_cut_at_the_end(pair):
    model = open_model(str(pair / "decoder"))
    loaded = embedding.load(model.path, pooling="last", max_tokens=4, device="cpu")
    whole = loaded.tokenizer(TEXTS[1])["input_ids"]
    assert len(whole) > 4
    assert loaded.preprocess([TEXTS[1]])["input_ids"][0].tolist() == whole[:4]


def test_pooling_follows_the_kind_unless_told(pair):
    encoder, decoder = (open_model(str(pair / kind)) for kind in ("encoder", "decoder"))
    assert embedding.pooling_of(encoder, None) == "mean"
    assert embedding.pooling_of(decoder, None) == "last"
    assert embedding.pooling_of(decoder, "weightedmean") == "weightedmean"
    with pytest.raises(InputError, match="did you mean 'mean'"):
        embedding.pooling_of(encoder, "meam")
    with pytest.raises(InputError, match="first token sees no other"):
        embedding.pooling_of(decoder, "cls")


def test_the_longest_text_is_the_smallest_that_is_stated(pair):
    model = open_model(str(pair / "encoder"))
    smaller = EvaluatedModel("", model.path, "", None, {**model.config, "n_positions": 77})
    assert embedding.longest_text(smaller) == 77


def tuned(model: EvaluatedModel, out: Path, **changes: object) -> tuple[Path, dict]:
    """Train on four pairs; with several rates, the judge prefers the second that it sees."""
    examples = Dataset.from_dict({"anchor": [*TEXTS, "vo"], "positive": ["ba", "da", "ga", "ka"]})
    verdicts = iter([0.1, 0.9, 0.5])
    return embedding.fine_tuned(
        model, {**TRAINING, **changes}, name="test", examples=lambda: examples,
        judge=lambda _embedder: next(verdicts), out=out, device="cpu",
        advance=lambda _share, _note: None,
    )  # fmt: skip


def weights(folder: Path) -> str:
    return files.fingerprint_file(folder / "model.safetensors")


def test_training_is_kept_and_found_again_by_its_settings(pair, told, tmp_path):
    model = open_model(str(pair / "encoder"))
    first, found = tuned(model, tmp_path)
    assert found["steps"] == 3
    assert weights(first) != weights(model.path)
    assert "trained before" not in told.text
    assert tuned(model, tmp_path) == (first, found)
    assert "trained before" in told.text
    assert tuned(model, tmp_path, steps=2)[0] != first


def test_training_is_the_same_with_the_same_seed_only(pair, tmp_path):
    model = open_model(str(pair / "decoder"))
    one, two, other = (
        tuned(model, tmp_path / str(n), pooling="last", seed=seed, batch_rows=2)[0]
        for n, seed in enumerate([1, 1, 2])
    )
    assert weights(one) == weights(two)
    assert weights(one) != weights(other)


def test_the_size_of_a_mini_batch_does_not_change_what_is_learned(pair, tmp_path):
    model = open_model(str(pair / "encoder"))
    small, large = (tuned(model, tmp_path, mini_batch_rows=rows)[0] for rows in (1, 4))
    torch.testing.assert_close(
        embedded(small, "mean"), embedded(large, "mean"),
        rtol=0, atol=1e-3,
    )  # fmt: skip


def test_of_several_learning_rates_the_best_judged_is_kept(pair, tmp_path):
    model = open_model(str(pair / "encoder"))
    best, found = tuned(model, tmp_path, learning_rates=[1e-4, 1e-3, 1e-2])
    alone, _ = tuned(model, tmp_path, learning_rates=[1e-3])
    assert found["learning_rate"] == 1e-3
    assert found["held_out_ndcg_at_10"] == {"0.0001": 0.1, "0.001": 0.9, "0.01": 0.5}
    assert weights(best) == weights(alone)
