"""Models made by `transformers` are taken over bit for bit and compute the same, or are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ettin import files
from ettin.errors import InputError
from ettin.huggingface import architecture_problems, reach_of, shape_of_config
from ettin.model.transformer import Transformer
from ettin.records import Kind
from ettin.shape import Shape
from ettin.training.start import open_start
from tests.stock_models import CLASSES, SMALL, save_models, stock
from tests.tolerances import FP32


@pytest.fixture(scope="module")
def models(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`encoder/` and `decoder/` as `transformers` saves them, with the shared tokenizer."""
    return save_models(tmp_path_factory.mktemp("models"), tokenizer_directory=tokenizer_directory)


def ours(directory: Path) -> Transformer:
    """Our transformer with the weights of a start."""
    start = open_start(str(directory))
    model = Transformer(
        Shape(**start.facts["shape"]),
        global_rope_theta=start.facts["global_rope_theta"],
        local_rope_theta=start.facts["local_rope_theta"],
    )
    model.load_state_dict(start.weights(), strict=True)
    return model.eval()


@torch.no_grad()
def difference(directory: Path, model: Any) -> float:
    """Largest difference of logits between a start and the stock model, beyond the window."""
    tokens = torch.randint(4, 512, (60,), generator=torch.Generator().manual_seed(1))
    decoder = model.config.model_type.endswith("decoder")
    own = ours(directory)
    hidden = own(tokens, torch.tensor([0, 60]), visibility="causal" if decoder else "bidirectional")
    apart: torch.Tensor = own.logits(hidden) - model(input_ids=tokens[None]).logits[0]
    return apart.abs().max().item()


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    ("changes", "reach"),
    [
        ({}, {"encoder": 8, "decoder": 7}),
        ({"sliding_window": 5}, {"encoder": 5, "decoder": 4}),
        (
            {"global_rope_theta": 90.0, "local_rope_theta": 7.0, "local_attention": 33},
            {"encoder": 16, "decoder": 15},
        ),
    ],
    ids=["plain", "window", "bases"],
)
def test_models_made_by_transformers_compute_the_same_here(
    tmp_path: Path, kind: Kind, changes: dict[str, Any], reach: dict[Kind, int]
) -> None:
    model = stock(kind, **changes)
    model.save_pretrained(tmp_path)
    assert open_start(str(tmp_path)).facts["shape"]["local_reach"] == reach[kind]
    assert difference(tmp_path, model) <= FP32


@pytest.mark.parametrize("kind", CLASSES)
def test_weights_are_those_of_the_source_bit_for_bit(models: Path, kind: Kind) -> None:
    weights = open_start(str(models / kind)).weights()
    stored = load_file(models / kind / "model.safetensors")
    for layer in range(4):
        name = f"model.layers.{layer}.attn"
        fused = (
            torch.cat([stored[f"{name}.{part}_proj.weight"] for part in "qkv"])
            if kind == "decoder"
            else stored[f"{name}.Wqkv.weight"]
        )
        assert torch.equal(weights[f"{name}.Wqkv.weight"], fused)
    head = "lm_head" if kind == "decoder" else "head"
    assert torch.equal(weights["head.dense.weight"], stored[f"{head}.dense.weight"])
    assert torch.equal(weights["decoder.bias"], stored["decoder.bias"])


@pytest.mark.parametrize("kind", CLASSES)
def test_halved_and_sharded_weights_are_read_exactly(tmp_path: Path, kind: Kind) -> None:
    model = stock(kind).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "two", max_shard_size="90KB")
    model.save_pretrained(tmp_path / "one")
    assert len(list((tmp_path / "two").glob("*.safetensors"))) > 1
    (tmp_path / "cache").mkdir()
    for path in (tmp_path / "two").iterdir():  # the hub's cache holds links
        (tmp_path / "cache" / path.name).symlink_to(path)
    starts = [open_start(str(tmp_path / name)) for name in ("one", "two", "cache")]
    assert len({start.facts["weights"] for start in starts}) == 1
    one = starts[0]
    embeddings = one.weights()["model.embeddings.tok_embeddings.weight"]
    assert embeddings.dtype == torch.float32
    assert torch.equal(embeddings, model.get_input_embeddings().weight.float())


def test_the_reach_of_a_configuration_is_that_of_transformers() -> None:
    published = {"model_type": "modernbert-decoder", "local_attention": 128}
    assert shape_of_config(published).local_reach == 63
    assert shape_of_config({"model_type": "modernbert"}).local_reach == 64
    for kind, (config_class, _) in CLASSES.items():
        for window in ({}, {"local_attention": 33}, {"sliding_window": 65, "local_attention": 8}):
            config = config_class(**window)
            assert reach_of(config.to_dict()) == config.sliding_window - (kind == "decoder")
            assert reach_of({"model_type": config.model_type, **window}) == reach_of(
                config.to_dict()
            )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"norm_eps": 1e-12}, "norm_eps is 1e-12, expected 1e-05"),
        ({"attention_bias": True}, "attention_bias is True, expected False"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"norm_bias": True}, "norm_bias is True"),
        ({"classifier_bias": True}, "classifier_bias is True"),
        ({"hidden_activation": "relu"}, "hidden_activation is 'relu', expected 'gelu'"),
        ({"classifier_activation": "silu"}, "classifier_activation is 'silu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False, expected True"),
        ({"decoder_bias": False}, "decoder_bias is False, expected True"),
        ({"layer_types": None, "global_attn_every_n_layers": 2}, "n_layers is 2, expected 3"),
        ({"layer_types": ["full_attention"] * 4}, "expected full_attention in layers 0, 3, 6"),
        ({"layer_types": None, "num_hidden_layers": 6}, "num_hidden_layers is 6, expected 1 more"),
        ({"num_attention_heads": 5}, "hidden_size is 32, expected an even number"),
        ({"num_key_value_heads": 1}, "num_key_value_heads is 1, expected 2"),
        ({"head_dim": 64}, "head_dim is 64, expected 16"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide', expected a whole number"),
        ({"local_attention": 1, "sliding_window": 0}, "local_attention gives local layers a reach"),
        ({"sliding_window": None}, "sliding_window is None, expected a number"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2}}, "rope_scaling is {"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "rope_type of full_attention is 'yarn', expected 'default'",
        ),
        ({"rope_parameters": {"rope_theta": 7.0}}, "rope_parameters holds 'rope_theta': 7.0"),
    ],
)
def test_what_ours_does_not_compute_is_refused_by_key(
    models: Path, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    shutil.copytree(models / "encoder", tmp_path / "model")
    config = files.read_json(tmp_path / "model" / "config.json")
    assert architecture_problems(config) == []
    files.write_json(tmp_path / "model" / "config.json", {**config, **change})
    with pytest.raises(InputError, match="does not compute exactly") as caught:
        open_start(str(tmp_path / "model"))
    assert sentence in str(caught.value)
    assert str(caught.value).count("\n") == 1


HEADLESS = [
    (transformers.ModernBertModel, "encoder", "missing: decoder.bias"),
    (transformers.ModernBertForSequenceClassification, "encoder", "not expected: classifier.bias"),
    (transformers.ModernBertDecoderModel, "decoder", "missing: decoder.bias"),
    (
        transformers.ModernBertDecoderForSequenceClassification,
        "decoder",
        "missing: decoder.bias, lm_head.dense.weight, lm_head.norm.weight",
    ),
]


@pytest.mark.parametrize(("model_class", "kind", "sentence"), HEADLESS)
def test_models_without_their_language_head_are_refused(
    tmp_path: Path, model_class: Any, kind: Kind, sentence: str
) -> None:
    model_class(CLASSES[kind][0](**SMALL)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="tensors of a whole model") as caught:
        open_start(str(tmp_path))
    assert sentence in str(caught.value)


def _wide(weights: dict[str, torch.Tensor]) -> None:
    weights["head.dense.weight"] = torch.zeros(32, 33)


def _untied(weights: dict[str, torch.Tensor]) -> None:
    weights["decoder.weight"] = weights["model.embeddings.tok_embeddings.weight"] + 1


def _whole_numbers(weights: dict[str, torch.Tensor]) -> None:
    weights["head.dense.weight"] = torch.zeros(32, 32, dtype=torch.int8)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_wide, r"head.dense.weight is \[32, 33\], expected \[32, 32\]"),
        (_untied, "decoder.weight differs from the embeddings"),
        (_whole_numbers, "head.dense.weight is stored as torch.int8"),
        (lambda each: each.pop("model.layers.2.attn.Wo.weight"), "missing: model.layers.2.attn.Wo"),
    ],
)
def test_wrong_tensors_are_named(
    models: Path,
    tmp_path: Path,
    change: Callable[[dict[str, torch.Tensor]], object],
    sentence: str,
) -> None:
    shutil.copytree(models / "encoder", tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model" / "model.safetensors")
    with pytest.raises(InputError, match=sentence):
        open_start(str(tmp_path / "model"))


def test_pickles_damaged_files_and_outside_shards_are_never_read(
    models: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(models / "encoder", model)
    stored = model / "model.safetensors"
    stored.write_bytes(stored.read_bytes()[:-9])
    with pytest.raises(InputError, match="missing or damaged"):
        open_start(str(model))
    stored.rename(model / "pytorch_model.bin")
    with pytest.raises(InputError, match="holds no safetensors; other formats may run code"):
        open_start(str(model))
    index = model / "model.safetensors.index.json"
    files.write_json(index, {"weight_map": {"a": "../model.safetensors"}})
    with pytest.raises(InputError, match="should name files beside it"):
        open_start(str(model))
    files.write_json(index, {"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    with pytest.raises(InputError, match="is missing or damaged: No such file"):
        open_start(str(model))
