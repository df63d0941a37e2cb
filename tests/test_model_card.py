"""An export says how it was trained, how to read it and where it comes from, in JSON and words."""

import contextlib
import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from ettin import files
from ettin.errors import InputError
from ettin.export import ExportSummary, export
from ettin.recipe import Objective, Recipe
from ettin.training.start import open_start
from ettin.training.trainer import train
from tests.recipes import tiny_recipe
from tests.stock_models import CLASSES, save_models, stock

STEPS = {"phase_tokens": 3 * 6 * 64, "phase_warmup_tokens": 0, "phase_decay_tokens": 6 * 64}


def recipe(**changes: Any) -> Recipe:
    """A recipe of three steps."""
    no_saves = {"phase_save_every_tokens": None, "phase_validate_every_tokens": None}
    return tiny_recipe(**STEPS, **no_saves, **changes)


def make(where: str | Path, out: Path, *, objective: Objective | None = None) -> ExportSummary:
    return export(str(where), out=out, objective=objective, dtype="float32", command=["test"])


@pytest.fixture(scope="module")
def folder(corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder and the encoder made from it with mntp: runs, and exports of both."""
    out = tmp_path_factory.mktemp("cross")
    train(
        recipe(objective="clm"), out=out / "runs/decoder", corpus_path=corpus_directory, command=[]
    )
    start = open_start(f"{out}/runs/decoder@step3")
    crossed = recipe(objective="mntp", phase_name="cross", start_from=start.facts["where"])
    train(crossed, out=out / "runs/crossed", corpus_path=corpus_directory, command=[], start=start)
    for name in ("decoder", "crossed"):
        make(out / "runs" / name, out / name)
    return out


@pytest.fixture(scope="module")
def models(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`encoder/` and `decoder/` as `transformers` saves them, with the shared tokenizer."""
    return save_models(tmp_path_factory.mktemp("models"), tokenizer_directory=tokenizer_directory)


def card_of(export: Path) -> str:
    """The card's text, its lines joined."""
    return " ".join(ModelCard.load(export / "README.md").text.split())


def described(export: Path) -> dict[str, Any]:
    told: dict[str, Any] = files.read_json(export / "config.json")["ettin"]
    return told


def test_the_configuration_says_objective_variant_and_start(folder: Path) -> None:
    told = described(folder / "crossed")
    assert (told["objective"], told["variant"], told["phase"]) == ("mntp", "cross", "cross")
    assert told["tag"] == "cross3"
    state = files.read_json(folder / "runs/decoder/checkpoints/step3/state.json")
    assert told["start"] == {
        "where": f"{folder}/runs/decoder@step3", "tag": "step3", "objective": "clm",
        "tokens": state["tokens"],
    }  # fmt: skip
    native = described(folder / "decoder")
    assert (native["objective"], native["variant"]) == ("clm", "native")
    assert "start" not in native


def test_the_snippet_of_an_mntp_card_reads_the_answer_one_position_early(folder: Path) -> None:
    text = (folder / "crossed" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict[str, Any] = {"PATH": str(folder / "crossed")}
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(code, names)
    start = open_start(str(folder / "runs" / "crossed"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "crossed")
    ids = tokenizer("The capital of France is [MASK].")["input_ids"]
    place = ids.index(tokenizer.mask_token_id)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder / "crossed").eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    assert start.facts["objective"] == "mntp"
    assert torch.equal(names["answer"], logits[place - 1])
    assert not torch.equal(names["answer"], logits[place])
    assert shown.getvalue() == f"{tokenizer.decode(logits[place - 1].argmax())}\n"


def test_mntp_and_plain_mlm_are_told_apart_in_words(folder: Path, corpus_directory: Path) -> None:
    start = open_start(f"{folder}/runs/decoder")
    plain = recipe(objective="mlm", phase_name="cross", start_from=start.facts["where"])
    train(plain, out=folder / "runs/plain", corpus_path=corpus_directory, command=[], start=start)
    make(folder / "runs/plain", folder / "plain")
    shifted, usual = card_of(folder / "crossed"), card_of(folder / "plain")
    assert "(`mntp`, masked next-token prediction)" in shifted
    assert "in the logits at **i - 1**, where a model trained with plain `mlm`" in shifted
    assert "(`mlm`): the answer for the token at position i is in the logits at i." in usual
    assert f"made from {folder}/runs/decoder at step3, a decoder" in usual.replace("\\", "")
    tags = [
        ModelCard.load(folder / name / "README.md").data.pipeline_tag
        for name in ("crossed", "plain", "decoder")
    ]
    assert tags == ["feature-extraction", "fill-mask", "text-generation"]


def test_cards_of_crossed_models_say_what_they_were_made_from(folder: Path) -> None:
    tokens = described(folder / "crossed")["start"]["tokens"]
    said = card_of(folder / "crossed").replace("\\", "")
    assert f"It was made from {folder}/runs/decoder@step3, a decoder" in said
    assert f"a decoder trained with clm after {tokens:,} tokens." in said
    assert "made from" not in card_of(folder / "decoder").replace("converted", "")


def test_a_conversion_keeps_what_is_known(folder: Path, tmp_path: Path) -> None:
    make(folder / "crossed", tmp_path / "there", objective="clm")
    expected = {**described(folder / "crossed"), "converted_from": "encoder"}
    assert described(tmp_path / "there") == expected
    facts = open_start(str(tmp_path / "there")).facts
    source = open_start(str(folder / "runs/crossed")).facts
    same = ("kind", "objective", "variant", "phase", "tag", "tokens", "size", "shape", "weights")
    assert {key: facts[key] for key in same} == {key: source[key] for key in same}
    said = card_of(tmp_path / "there")
    assert "The weights of an encoder, converted to the class of a decoder" in said


@pytest.mark.parametrize("kind", CLASSES)
def test_a_foreign_model_stays_what_it_was_trained_as(
    models: Path, tmp_path: Path, kind: str
) -> None:
    own: Objective = "mlm" if kind == "encoder" else "clm"
    other: Objective = "clm" if kind == "encoder" else "mlm"
    make(models / kind, tmp_path / "there", objective=other)
    make(tmp_path / "there", tmp_path / "back", objective=own)
    source = open_start(str(models / kind)).facts
    for name in ("there", "back"):
        facts = open_start(str(tmp_path / name)).facts
        assert (facts["kind"], facts["objective"]) == (kind, own)
        assert facts["weights"] == source["weights"]
        assert facts["shape"] == source["shape"]
    assert "trained with ettin" not in card_of(tmp_path / "there")
    assert "that ettin converted and did not train" in card_of(tmp_path / "back")


def test_an_untrained_checkpoint_exports_the_tensors_of_its_start(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    for kind, objective in (("encoder", "mlm"), ("decoder", "clm")):
        start = open_start(str(models / kind))
        chosen = recipe(
            objective=objective,
            start_from=start.facts["where"],
            shape={**tiny_recipe().shape.model_dump(), "local_reach": 8 - (kind == "decoder")},
        )
        run = tmp_path / "runs" / kind
        train(chosen, out=run, corpus_path=corpus_directory, command=[], start=start)
        make(f"{run}@step0", tmp_path / kind)
        before = load_file(models / kind / "model.safetensors")
        after = load_file(tmp_path / kind / "model.safetensors")
        before.pop("decoder.weight", None)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert "It was trained on from" in card_of(tmp_path / kind)


def test_half_precision_sources_convert_to_what_was_asked_for(models: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(models / "encoder", source)
    stock("encoder").to(torch.bfloat16).save_pretrained(source)
    make(source, tmp_path / "out", objective="clm")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert files.read_json(tmp_path / "out" / "config.json")["dtype"] == "float32"
    assert (
        open_start(str(tmp_path / "out")).facts["weights"]
        == (open_start(str(source)).facts["weights"])
    )


def test_an_unknown_objective_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "crossed", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = files.read_json(path)
    for wrong in ({**config["ettin"], "objective": "rtd"}, "rtd"):
        files.write_json(path, {**config, "ettin": wrong})
        with pytest.raises(InputError, match="'rtd', expected one of mlm, clm, mntp"):
            open_start(str(tmp_path / "model"))
