"""Exports load in stock transformers, equal ours, and convert to the other class and back."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from ettin import export as exporting
from ettin import files, huggingface
from ettin.errors import InputError
from ettin.export import export
from ettin.huggingface import reach_of, window_of
from ettin.training.trainer import train
from tests.recipes import tiny_recipe
from tests.tolerances import FP32


def make(where, out: Path, *, objective=None, dtype="float32"):
    return export(str(where), out=out, objective=objective, dtype=dtype, command=["test", "a b"])


@pytest.fixture(scope="module")
def pair(corpus_directory, tmp_path_factory) -> Path:
    """A short run of each twin, and its export."""
    folder = tmp_path_factory.mktemp("pair")
    recipe = tiny_recipe(phase_tokens=14 * 6 * 64, phase_global_rope_theta=160_000)
    for name, each in (("encoder", recipe), ("decoder", recipe.twin())):
        train(each, out=folder / "runs" / name, corpus_path=corpus_directory, command=["test"])
        make(folder / "runs" / name, folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "auto"),
    [
        ("encoder", transformers.AutoModelForMaskedLM),
        ("decoder", transformers.AutoModelForCausalLM),
    ],
)
def test_an_export_loads_whole_and_without_remote_code(pair, name, auto):
    model, report = auto.from_pretrained(pair / name, output_loading_info=True)
    assert not any(report[key] for key in report)
    assert model.config.ettin["objective"] == ("mlm" if name == "encoder" else "clm")
    assert model.config.ettin["tag"] == "step14"
    assert model.config.rope_parameters["full_attention"]["rope_theta"] == 160_000
    assert model.config.rope_parameters["sliding_attention"]["rope_theta"] == 10_000
    assert type(model).__name__ == model.config.architectures[0]


def test_parity_is_measured_beyond_the_window_and_written_down(pair):
    for name in ("encoder", "decoder"):
        proof = files.read_json(pair / name / "parity.json")
        assert proof["largest_logit_difference"] <= 1e-4
        assert proof["longest_row_tokens"] > proof["local_reach"] + 1


def test_windows_of_both_classes_give_the_reach_that_was_trained(pair):
    encoder = files.read_json(pair / "encoder" / "config.json")
    decoder = files.read_json(pair / "decoder" / "config.json")
    assert (encoder["local_attention"], decoder["local_attention"]) == (32, 34)
    assert reach_of(encoder) == reach_of(decoder) == 16
    assert reach_of({"model_type": "modernbert-decoder", "local_attention": 128}) == 63
    assert window_of("decoder", 63) == 128


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_wrong_window_is_caught(pair, tmp_path, monkeypatch, name):
    monkeypatch.setattr(huggingface, "window_of", lambda _, reach: 2 * reach - 2)
    with pytest.raises(RuntimeError, match="differs from its source"):
        make(pair / "runs" / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tokenizers_close_for_encoders_and_stay_open_for_decoders(pair):
    encoder = transformers.AutoTokenizer.from_pretrained(pair / "encoder")
    decoder = transformers.AutoTokenizer.from_pretrained(pair / "decoder")
    closed, opened = encoder("bada kebi")["input_ids"], decoder("bada kebi")["input_ids"]
    assert closed == [*opened, encoder.sep_token_id]
    assert opened[0] == encoder.cls_token_id == decoder.bos_token_id
    assert encoder.mask_token == "[MASK]"


def test_greedy_generation_is_the_same_with_and_without_cache(pair):
    model = transformers.AutoModelForCausalLM.from_pretrained(pair / "decoder").eval()
    prompt = torch.arange(10, 60)[None]
    texts = [
        model.generate(
            prompt, max_new_tokens=32, do_sample=False, use_cache=cache, eos_token_id=None
        )
        for cache in (True, False)
    ]
    assert texts[0].shape[1] == 82
    assert torch.equal(*texts)


@pytest.mark.parametrize(
    ("name", "objective", "back"), [("encoder", "clm", "mlm"), ("decoder", "mlm", "clm")]
)
def test_conversion_there_and_back_is_bit_equal(pair, tmp_path, name, objective, back):
    there = make(pair / name, tmp_path / "there", objective=objective)
    assert there.parity <= FP32
    make(tmp_path / "there", tmp_path / "back", objective=back)
    original = load_file(pair / name / "model.safetensors")
    returned = load_file(tmp_path / "back" / "model.safetensors")
    assert original.keys() == returned.keys()
    assert all(torch.equal(original[key], returned[key]) for key in original)
    before, after = (
        files.read_json(each / "config.json") for each in (pair / name, tmp_path / "back")
    )
    before.pop("ettin"), after.pop("ettin")
    assert before == after


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_model_made_by_transformers_converts_and_proves_itself(pair, tmp_path, kind):
    names = {
        "encoder": (transformers.ModernBertConfig, transformers.ModernBertForMaskedLM),
        "decoder": (
            transformers.ModernBertDecoderConfig,
            transformers.ModernBertDecoderForCausalLM,
        ),
    }
    config_class, model_class = names[kind]
    config = config_class(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=2,
        local_attention=16,
        pad_token_id=2,
    )
    source = tmp_path / "source"
    model_class(config).save_pretrained(source)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(pair / kind / file, source / file)
    summary = make(source, tmp_path / "out", objective="clm" if kind == "encoder" else "mlm")
    assert summary.parity <= FP32
    converted = files.read_json(tmp_path / "out" / "config.json")
    assert reach_of(converted) == reach_of(files.read_json(source / "config.json"))


def test_bfloat16_is_stored_as_such(pair, tmp_path):
    make(pair / "runs" / "encoder", tmp_path / "out", dtype="bfloat16")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16


def test_every_tag_can_be_exported(pair, tmp_path):
    for tag in ("step0", "step7"):
        make(f"{pair / 'runs' / 'decoder'}@{tag}", tmp_path / tag)
        assert files.read_json(tmp_path / tag / "config.json")["ettin"]["tag"] == tag
        assert files.verify(tmp_path / tag) == []


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("nowhere", "no hub id"),
        ("runs/encoder@step8", "did you mean 'step7'"),
        ("runs", "holds no checkpoint"),
    ],
)
def test_what_cannot_be_exported_is_said(pair, tmp_path, monkeypatch, where, expected):
    monkeypatch.chdir(pair)
    with pytest.raises(InputError, match=expected):
        make(where, tmp_path / "out")


def test_wrong_requests_are_refused(pair, tmp_path):
    with pytest.raises(InputError, match="trained with mlm"):
        make(pair / "runs" / "encoder", tmp_path / "out", objective="clm")
    with pytest.raises(InputError, match="changes nothing"):
        make(pair / "encoder", tmp_path / "out", objective="mlm")
    with pytest.raises(InputError, match="expected one of float32, bfloat16"):
        make(pair / "encoder", tmp_path / "out", dtype="int4")
    with pytest.raises(InputError, match="not empty"):
        make(pair / "encoder", pair / "decoder")
    assert list(tmp_path.iterdir()) == []


def test_pickled_weights_are_never_read(pair, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(pair / "encoder", source)
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save(weights, source / "pytorch_model.bin")
    with pytest.raises(InputError, match="never read"):
        make(source, tmp_path / "out", objective="clm")


def test_exporting_again_says_so_and_changes_nothing(pair):
    before = (pair / "encoder" / "manifest.json").stat().st_mtime_ns
    make(pair / "runs" / "encoder", pair / "encoder")
    assert (pair / "encoder" / "manifest.json").stat().st_mtime_ns == before


def test_the_card_is_plain_text_with_front_matter_that_parses(pair, tmp_path):
    from huggingface_hub import ModelCard

    card = ModelCard.load(pair / "encoder" / "README.md")
    assert card.data.pipeline_tag == "fill-mask"
    assert card.data.library_name == "transformers"
    hostile = tmp_path / "a [link](javascript:x) <script>"
    make(pair / "runs" / "encoder", hostile)
    text = (hostile / "README.md").read_text()
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "](javascript" not in text


def test_a_truncated_checkpoint_is_refused(pair, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(pair / "runs" / "encoder", run)
    weights = run / "checkpoints" / "step14" / "weights-0000.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match="is damaged"):
        make(run, tmp_path / "out")


def test_a_wrong_weight_is_caught(pair, tmp_path, monkeypatch):
    real = huggingface.to_decoder

    def swapped(weights):
        named = real(weights)
        one, other = "model.layers.0.attn.q_proj.weight", "model.layers.0.attn.k_proj.weight"
        named[one], named[other] = named[other], named[one]
        named["model.layers.1.attn.q_proj.weight"] = named["model.layers.1.attn.k_proj.weight"] * 2
        return named

    monkeypatch.setattr(exporting, "to_decoder", swapped)
    with pytest.raises(RuntimeError, match="differs from its source"):
        make(pair / "runs" / "decoder", tmp_path / "out")


def test_the_manifest_records_where_it_came_from(pair):
    manifest = json.loads((pair / "encoder" / "manifest.json").read_text())
    assert manifest["kind"] == "export"
    assert manifest["made_from"]["source"].endswith("checkpoints/step14")
    assert manifest["command"] == ["test", "a b"]


def test_the_tied_matrix_is_stored_once(pair):
    assert "decoder.weight" not in load_file(pair / "encoder" / "model.safetensors")
