"""Where a run starts from: what a person may name, what is known of it, and what does not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from ettin import files
from ettin.data.corpus import Corpus
from ettin.errors import InputError
from ettin.records import Kind
from ettin.training.checkpoint import Checkpoint
from ettin.training.start import locate, misfits_of_recipe, open_start, refuse_misfit
from ettin.training.trainer import train
from tests.recipes import tiny_recipe
from tests.stock_models import CLASSES, save_models


@pytest.fixture(scope="module")
def models(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`encoder/` and `decoder/` as `transformers` saves them, with the shared tokenizer."""
    return save_models(tmp_path_factory.mktemp("models"), tokenizer_directory=tokenizer_directory)


@pytest.fixture(scope="module")
def run(corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of an encoder."""
    out = tmp_path_factory.mktemp("runs") / "encoder"
    recipe = tiny_recipe(phase_tokens=14 * 6 * 64)
    train(recipe, out=out, corpus_path=corpus_directory, command=["test"])
    return out


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, as with HF_HUB_OFFLINE=1; the working directory is a new one."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_facts_of_a_foreign_model_say_what_is_known(models: Path) -> None:
    start = open_start(str(models / "decoder"))
    expected = {
        "where": str(models / "decoder"), "path": str(models / "decoder"),
        "format": "huggingface", "kind": "decoder", "objective": "clm", "variant": "native",
        "phase": None, "tag": None, "tokens": None, "size": None, "context_length": 8192,
        "global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0,
    }  # fmt: skip
    assert {key: start.facts[key] for key in expected} == expected
    assert json.loads(json.dumps(start.facts)) == start.facts
    assert start.tokenizer == start.path == models / "decoder"
    assert start.checkpoint is None


def test_facts_of_a_checkpoint_are_those_of_its_state(run: Path) -> None:
    start = open_start(f"{run}@step7")
    expected = {
        "format": "checkpoint", "kind": "encoder", "objective": "mlm", "variant": "native",
        "phase": "pretraining", "tag": "step7", "context_length": 64,
    }  # fmt: skip
    assert {key: start.facts[key] for key in expected} == expected
    assert start.facts["tokens"] > 1000
    assert start.tokenizer == run / "tokenizer"
    first = open_start(f"{run}@step0").facts["weights"]
    assert first == files.read_json(run / "start.json")["initial_weights_hash"]
    assert first != start.facts["weights"]


def test_an_existing_path_wins_over_a_tag_and_a_tag_over_the_hub(
    models: Path, run: Path, offline: Path
) -> None:
    shutil.copytree(run, offline / "some" / "run")
    shutil.copytree(models / "encoder", offline / "some" / "run@step7")
    shutil.copytree(models / "encoder", offline / "owner" / "name")
    assert locate("some/run@step7") == offline / "some" / "run@step7"
    assert locate("owner/name") == offline / "owner" / "name"
    for where, tag in (
        ("some/run", "step14"), ("some/run@step0", "step0"),
        ("some/run/checkpoints/step7", "step7"),
    ):  # fmt: skip
        found = locate(where)
        assert isinstance(found, Checkpoint)
        assert found.tag == tag
    shutil.copytree(models / "encoder", offline / "hf:owner" / "name")
    with pytest.raises(InputError, match=r"^hf:owner/name is no model that the hub"):
        locate("hf:owner/name")


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("owner/other@main", "^owner/other@main is no path, and no model that the hub"),
        ("some/rum@step7", "did you mean 'some/run'"),
        ("some/run@step8", "no checkpoint 'step8'; did you mean 'step7'"),
        ("some", "holds no checkpoint"),
        ("elsewhere", "no directory, no RUN@TAG of an existing run, and no hub id"),
        ("hf:../some/run", "no hub id"),
        ("model@main", "model is a Hugging Face directory: it has no tags"),
    ],
)
def test_what_is_not_there_is_said_without_a_network(
    models: Path, run: Path, offline: Path, where: str, sentence: str
) -> None:
    (offline / "some").mkdir()
    (offline / "some" / "run").symlink_to(run)
    (offline / "model").symlink_to(models / "encoder")
    with pytest.raises(InputError, match=sentence):
        open_start(where)


def refusal(
    start: Path, corpus: Path, facts: dict[str, Any] | None = None, **changes: Any
) -> list[str]:
    """What `refuse_misfit` says, line by line; changes are of the recipe."""
    opened = open_start(str(start))
    try:
        refuse_misfit(
            {**opened.facts, **(facts or {})},
            tokenizer=opened.tokenizer,
            recipe=tiny_recipe(**changes),
            corpus=Corpus.open(corpus),
        )
    except InputError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("objective", ["mlm", "clm", "mntp"])
def test_a_fitting_start_trains_with_every_objective(
    models: Path, corpus_directory: Path, kind: Kind, objective: str
) -> None:
    assert refusal(models / kind, corpus_directory, objective=objective) == []


def test_another_tokenizer_is_refused_with_the_differences(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(models / "encoder", model)
    path = model / "tokenizer.json"
    described = json.loads(path.read_text())
    described["normalizer"] = {"type": "NFC"}
    path.write_text(json.dumps(described))
    lines = refusal(model, corpus_directory)
    assert lines[0] == f"this run cannot start from {model}:"
    assert lines[1] == f"  - its tokenizer is not that of {corpus_directory}:"
    assert lines[2] == "      its normaliser is NFC(), expected none"
    assert f"--tokenizer {model} --out" in lines[3]
    path.unlink()
    assert "cannot be compared" in refusal(model, corpus_directory)[1]


def test_every_misfit_is_told_at_once(models: Path, corpus_directory: Path) -> None:
    shape = {"num_hidden_layers": 7, "hidden_size": 64, "num_attention_heads": 2}
    few = {"shape": {**open_start(str(models / "encoder")).facts["shape"], "vocab_size": 500}}
    lines = refusal(
        models / "encoder", corpus_directory, few, shape=shape, phase_name="cross", objective="mntp"
    )
    assert len(lines) == 4
    assert "num_hidden_layers is 4, expected 7, hidden_size is 32, expected 64" in lines[1]
    assert "write `size: start`" in lines[1]
    assert "it is an encoder already (trained with mlm)" in lines[2]
    assert "`mntp` in phase cross is for an encoder made from a decoder" in lines[2]
    assert "with `objective: clm`" in lines[2]
    assert "embeddings for 500 tokens" in lines[3]
    assert "512 entries" in lines[3]


def test_another_window_is_a_misfit_of_checkpoints_alone(
    models: Path, run: Path, corpus_directory: Path
) -> None:
    recipe = tiny_recipe()
    assert recipe.shape.local_reach == 16
    foreign, own = open_start(str(models / "encoder")).facts, open_start(str(run)).facts
    assert foreign["shape"]["local_reach"] == 8
    assert misfits_of_recipe(foreign, recipe) == []
    assert misfits_of_recipe(own, recipe) == []
    own["shape"]["local_reach"] = 8
    assert "local_reach is 8, expected 16" in misfits_of_recipe(own, recipe)[0]


@pytest.mark.parametrize(
    ("kind", "objective", "sentence"),
    [
        ("encoder", "mlm", "make a decoder of this one with `objective: clm`"),
        ("encoder", "mntp", "make a decoder of this one with `objective: clm`"),
        ("encoder", "clm", None),
        ("decoder", "clm", "make an encoder of this one with `objective: mntp` (or mlm)"),
        ("decoder", "mlm", None),
        ("decoder", "mntp", None),
    ],
)
def test_cross_training_needs_a_start_of_the_other_kind(
    models: Path, kind: Kind, objective: str, sentence: str | None
) -> None:
    recipe = tiny_recipe(objective=objective, phase_name="cross")
    found = misfits_of_recipe(open_start(str(models / kind)).facts, recipe)
    assert [sentence in each for each in found if sentence] == ([True] if sentence else [])
    assert bool(found) == bool(sentence)
