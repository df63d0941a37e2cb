"""Fine-tuning a model: twins start from their own heads, alike, and batching changes nothing."""

import dataclasses
import random
from itertools import pairwise
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ettin.errors import InputError
from ettin.evaluation.classification.classifier import Classifier, pooling_of
from ettin.evaluation.classification.finetuning import Plan, fit, predict, rate_share
from ettin.evaluation.models import EvaluatedModel, open_model
from ettin.tokenizer import load_tokenizer
from tests.stock_models import save_models
from tests.tolerances import FP32

KINDS = ("encoder", "decoder")
SMALL: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@pytest.fixture(scope="module")
def folder(tokenizer_directory, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    save_models(folder, tokenizer_directory=tokenizer_directory)
    tokenizer = load_tokenizer(tokenizer_directory)
    small = {**SMALL, "intermediate_size": 48, "pad_token_id": 2}
    torch.manual_seed(3)
    bert = transformers.BertForMaskedLM(transformers.BertConfig(**small))
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**{**small, "pad_token_id": None})
    )
    for name, model in (("bert", bert), ("llama", llama)):
        with torch.no_grad():
            for parameter in model.parameters():  # as in `stock`: or attention would be flat
                parameter.mul_(4 if parameter.dim() > 1 else 1)
        model.save_pretrained(folder / name)
        tokenizer.save(folder / name, closing=name == "bert")
    return folder


def classifier(folder, name: str, *, outputs: int = 2, pooling=None, seed: int = 1) -> Classifier:
    model = open_model(str(folder / name))
    chosen = pooling_of(model, pooling)
    return Classifier(model, outputs=outputs, pooling=chosen, seed=seed, device="cpu")


def two_kinds_of_text(count: int) -> tuple[list[tuple[str, ...]], list[float]]:
    """Texts of made-up words, half of them from one list and half from another."""
    draw = random.Random(5)
    lists = ("bada gako lepi", "mose nuto rivo")
    labels = [float(draw.random() < 0.5) for _ in range(count)]
    texts: list[tuple[str, ...]] = [
        (" ".join(draw.choices(lists[int(label)].split(), k=draw.randint(2, 7))),)
        for label in labels
    ]
    return texts, labels


@pytest.mark.parametrize(("kind", "head"), [("encoder", "head"), ("decoder", "lm_head")])
def test_the_pre_trained_head_arrives_in_the_classifier(folder, kind, head):
    made = classifier(folder, kind)
    language_model = open_model(str(folder / kind)).load_language_model().state_dict()
    found = made.network.state_dict()
    for part in ("dense.weight", "norm.weight"):
        assert torch.equal(found[f"head.{part}"], language_model[f"{head}.{part}"])
    assert made.new == ["classifier.bias", "classifier.weight"][-len(made.new) :]


@pytest.mark.parametrize(("kind", "head"), [("encoder", "head"), ("decoder", "lm_head")])
def test_a_head_that_would_start_random_is_refused(folder, kind, head, tmp_path):
    for path in (folder / kind).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights[f"{head}.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = open_model(str(tmp_path))
    with pytest.raises(InputError, match=r"head\.dense\.weight would be random"):
        Classifier(model, outputs=2, pooling="mean", seed=1, device="cpu")


def test_twins_begin_with_the_same_new_classifier_and_another_seed_with_another(folder):
    one, other = (classifier(folder, kind).network.classifier for kind in KINDS)
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(one.bias, other.bias)
    seeded = classifier(folder, "encoder", seed=2).network.classifier
    assert not torch.equal(one.weight, seeded.weight)


@pytest.mark.parametrize("closing", [False, True])
def test_texts_are_framed_alike_but_only_encoders_close_them(
    folder, tokenizer_directory, tmp_path, closing
):
    """Also with a decoder whose tokenizer closes texts, as an export from elsewhere may."""
    for path in (folder / "decoder").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    load_tokenizer(tokenizer_directory).save(tmp_path, closing=closing)
    encoder, decoder = classifier(folder, "encoder"), classifier(tmp_path.parent, tmp_path.name)
    cls, sep = encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id
    a, b = encoder.tokenizer(["bada", "gako lepi"], add_special_tokens=False)["input_ids"]
    pair, single = [("bada", "gako lepi")], [("bada",)]
    assert encoder.encode(pair, max_length=64)[0].tokens == [cls, *a, sep, *b, sep]
    assert decoder.encode(pair, max_length=64)[0].tokens == [cls, *a, sep, *b]
    assert encoder.encode(single, max_length=64)[0].tokens == [cls, *a, sep]
    assert decoder.encode(single, max_length=64)[0].tokens == [cls, *a]


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_pair_that_is_too_long_the_longer_text_is_cut(folder, kind):
    made = classifier(folder, kind)
    short, long = "bada", "gako lepi " * 40
    separator = made.tokenizer.sep_token_id
    for pair in ((short, long), (long, short), (long, long)):
        tokens = made.encode([pair], max_length=32)[0].tokens
        first = tokens.index(separator) - 1
        assert len(tokens) == 32
        whole = len(made.tokenizer(short, add_special_tokens=False)["input_ids"])
        if pair[0] == short:
            assert first == whole
        else:
            room = 32 - 2 - (kind == "encoder")
            assert first in ((room // 2, -(-room // 2)) if pair[1] == long else (room - whole,))


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("encoder", "cls"), ("encoder", "mean"), ("encoder", "last"), ("decoder", "last"),
     ("decoder", "mean"), ("bert", "cls"), ("llama", "last"), ("llama", "mean")],
)  # fmt: skip
def test_padding_changes_no_answer_even_when_its_id_ends_texts(folder, name, pooling):
    made = classifier(folder, name, pooling=pooling)
    made.tokenizer.pad_token_id = made.tokenizer.eos_token_id
    encoded = made.encode(two_kinds_of_text(6)[0], max_length=64)
    together = predict(made, encoded, batch_tokens=4096)
    for each, expected in zip(encoded, together, strict=True):
        assert (made.answers([each])[0] - expected).abs().max() < FP32
    assert together.std(0).min() > FP32  # or equal answers would prove nothing


@pytest.mark.parametrize("kind", KINDS)
def test_default_pooling_gives_what_the_stock_class_gives(folder, kind):
    made = classifier(folder, kind)
    (encoded,) = made.encode([("bada gako",)], max_length=64)
    stock = made.network(input_ids=torch.tensor([encoded.tokens])).logits
    assert (made.answers([encoded]) - stock).abs().max() < FP32


def test_pooling_is_by_kind_and_what_a_model_cannot_do_is_refused(folder):
    encoder, decoder, bert = (
        open_model(str(folder / name)) for name in ("encoder", "decoder", "bert")
    )
    assert (pooling_of(encoder, None), pooling_of(decoder, None)) == ("cls", "last")
    config = {**encoder.config, "classifier_pooling": "mean"}
    stated: EvaluatedModel = dataclasses.replace(encoder, config=config)
    assert pooling_of(stated, None) == "mean"
    with pytest.raises(InputError, match="first token sees nothing"):
        pooling_of(decoder, "cls")
    with pytest.raises(InputError, match="bert"):
        pooling_of(bert, "mean")
    with pytest.raises(InputError, match="expected cls, mean or last"):
        pooling_of(encoder, "max")


@pytest.mark.parametrize("name", ["encoder", "decoder", "bert", "llama"])
def test_a_model_learns_to_tell_two_kinds_of_text_apart(folder, name):
    made = classifier(folder, name)
    texts, labels = two_kinds_of_text(256)
    encoded = made.encode(texts, max_length=64)
    plan = Plan(learning_rate=2e-3, weight_decay=1e-5, epochs=8)
    fit(made, encoded[:192], labels[:192], plan, seed=1, batch_tokens=4096)
    answers = predict(made, encoded[192:], batch_tokens=4096).argmax(1).tolist()
    right = sum(answer == label for answer, label in zip(answers, labels[192:], strict=True))
    assert right > 0.9 * 64


@pytest.mark.parametrize("kind", KINDS)
def test_smaller_parts_and_running_out_of_memory_change_no_training(folder, kind, told):
    """A hook on the model fails as a full device does, with gradients of shorter texts in place."""
    texts, labels = two_kinds_of_text(80)
    plan = Plan(learning_rate=1e-3, weight_decay=1e-5, epochs=2)

    def trained(batch_tokens: int, *, most: int | None = None) -> list[float]:
        made = classifier(folder, kind)

        def full(_module, _arguments, named) -> None:
            if most is not None and named["input_ids"].numel() > most:
                raise RuntimeError("out of memory")

        made.network.model.register_forward_pre_hook(full, with_kwargs=True)
        encoded = made.encode(texts, max_length=64)
        return fit(made, encoded, labels, plan, seed=1, batch_tokens=batch_tokens)

    whole = trained(4096)
    assert len(whole) == 4
    assert trained(100) == pytest.approx(whole, abs=FP32)
    assert not told.text
    assert trained(4096, most=150) == pytest.approx(whole, abs=FP32)
    assert "out of memory; going on with half the batch" in told.text


def test_weight_decay_takes_the_stated_share_at_the_highest_rate(folder):
    """Seen on weights whose gradients are zero: embeddings of tokens that no text holds."""
    made = classifier(folder, "encoder")
    rows = made.network.model.embeddings.tok_embeddings.weight
    before = rows[400:].detach().clone()
    encoded = made.encode([("bada",)], max_length=8)
    assert max(encoded[0].tokens) < 400
    plan = Plan(learning_rate=1e-4, weight_decay=0.25, epochs=1)
    fit(made, encoded, [1.0], plan, seed=1, batch_tokens=4096)
    assert torch.allclose(rows[400:], before * 0.75)


def test_the_learning_rate_rises_for_six_percent_and_falls_to_nothing():
    shares = [rate_share(step, 100) for step in range(100)]
    assert shares[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert all(late < early for early, late in pairwise(shares[5:]))
    assert 0 < shares[-1] < 0.02
    assert rate_share(0, 1) == 1
