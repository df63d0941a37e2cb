"""Models made by `transformers` go in, train under every objective, and come out again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ettin import files
from ettin.console import read_json_lines
from ettin.errors import InputError
from ettin.export import export, load_pretrained
from ettin.recipe import Objective
from ettin.recipe_file import resolve
from ettin.records import Kind, kind_of_objective
from ettin.training.checkpoint import find_checkpoint, load_weights
from ettin.training.start import open_start
from ettin.training.trainer import train
from tests.recipes import tiny_values
from tests.stock_models import CLASSES, save_models, stock

STEPS = 3


@pytest.fixture(scope="module")
def models(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`encoder/` and `decoder/` as `transformers` saves them, with the shared tokenizer."""
    return save_models(tmp_path_factory.mktemp("models"), tokenizer_directory=tokenizer_directory)


def train_from(model: Path, *, objective: Objective, out: Path, corpus: Path) -> Path:
    """A few steps, with the shape and the RoPE bases of the model."""
    start = open_start(str(model))
    values = tiny_values(
        size="start",
        objective=objective,
        peak_lr=1e-3,
        weight_decay=1e-5,
        phase_tokens=STEPS * 6 * 64,
        phase_warmup_tokens=0,
        phase_decay_tokens=0,
        phase_save_every_tokens=None,
        phase_validate_every_tokens=None,
        phase_global_rope_theta="start",
        phase_local_rope_theta="start",
        start_from=str(model),
    )
    del values["shape"]
    recipe = resolve(values, start=start.facts)
    train(recipe, out=out, corpus_path=corpus, command=["test"], start=start)
    return out


@torch.no_grad()
def logits_under_masks(model: Any, tokens: Tensor, *, reach: int, causal: bool) -> Tensor:
    """Logits of either class when it is told what each token may see."""
    places = torch.arange(len(tokens))
    distance = places[:, None] - places[None, :]
    full = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    seen = {"full_attention": full, "sliding_attention": full & (distance.abs() <= reach)}
    masks = {
        name: torch.zeros(distance.shape).masked_fill(~each, -torch.inf)[None, None]
        for name, each in seen.items()
    }
    logits: Tensor = model(input_ids=tokens[None], attention_mask=masks).logits[0]
    return logits


@pytest.mark.parametrize("objective", ["mlm", "clm", "mntp"])
@pytest.mark.parametrize("kind", CLASSES)
def test_both_classes_train_under_every_objective_and_come_out(
    models: Path, corpus_directory: Path, tmp_path: Path, kind: Kind, objective: Objective
) -> None:
    source = models / kind
    run = train_from(source, objective=objective, out=tmp_path / "run", corpus=corpus_directory)
    given = open_start(str(source))
    first = load_weights(find_checkpoint(f"{run}@step0"))
    assert all(torch.equal(first[name], tensor) for name, tensor in given.weights().items())
    trained = load_weights(find_checkpoint(str(run)))
    moved = [name for name in first if not torch.equal(first[name], trained[name])]
    assert len(moved) == len(first)
    assert len(read_json_lines(run / "metrics.jsonl")) == STEPS

    loaded: dict[str, Any] = {"source": load_pretrained(source, kind)}
    for tag in ("step0", f"step{STEPS}"):
        out = tmp_path / tag
        export(f"{run}@{tag}", out=out, objective=None, dtype="float32", command=["test"])
        loaded[tag] = load_pretrained(out, kind_of_objective(objective))
    described = files.read_json(tmp_path / "step0" / "config.json")["ettin"]
    crossed = kind != kind_of_objective(objective)
    assert described["variant"] == ("cross" if crossed else "native")
    tokens = torch.randint(5, 512, (60,), generator=torch.Generator().manual_seed(1))
    reach = given.facts["shape"]["local_reach"]
    for causal in (True, False):
        logits = {
            name: logits_under_masks(model, tokens, reach=reach, causal=causal)
            for name, model in loaded.items()
        }
        assert torch.equal(logits["step0"], logits["source"])
        assert not torch.equal(logits[f"step{STEPS}"], logits["source"])


def test_the_reach_of_a_published_decoder_is_kept_and_told(
    tokenizer_directory: Path, corpus_directory: Path, tmp_path: Path, told: Any
) -> None:
    """`transformers` counts the query, so that its 128 means 63 positions behind."""
    model = tmp_path / "decoder"
    stock("decoder", local_attention=128).save_pretrained(model)
    run = train_from(model, objective="clm", out=tmp_path / "run", corpus=corpus_directory)
    assert find_checkpoint(str(run)).state["shape"]["local_reach"] == 63
    assert "local_reach is 63, as transformers computes it" in told.text
    export(str(run), out=tmp_path / "out", objective=None, dtype="float32", command=["test"])
    assert files.read_json(tmp_path / "out" / "config.json")["local_attention"] == 128
    del tokenizer_directory


def test_a_model_without_its_tokenizer_is_taken_on_trust_if_its_size_can_be_right(
    corpus_directory: Path, tmp_path: Path, told: Any
) -> None:
    stock("encoder").save_pretrained(tmp_path / "model")
    train_from(tmp_path / "model", objective="mlm", out=tmp_path / "run", corpus=corpus_directory)
    assert "holds no tokenizer; its embeddings are taken to be the corpus's" in told.text
    stock("encoder", vocab_size=1024).save_pretrained(tmp_path / "larger")
    with pytest.raises(InputError, match="embeddings for 1,024 tokens, while"):
        train_from(
            tmp_path / "larger", objective="mlm", out=tmp_path / "no", corpus=corpus_directory
        )


def test_published_shapes_get_their_sizes_rates(models: Path) -> None:
    """`size: start` knows a published shape by its dimensions and takes that size's rates."""
    facts = {**open_start(str(models / "encoder")).facts}
    shape = {
        "num_hidden_layers": 22,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_attention_heads": 12,
        "local_reach": 63,
        "vocab_size": 50_368,
    }
    values = {"size": "start", "phases": ["decay"], "start_from": facts["where"]}
    recipe = resolve(values, start={**facts, "shape": shape})
    assert (recipe.size, recipe.peak_lr, recipe.shape.local_reach) == ("150m", 8e-4, 63)
    with pytest.raises(InputError, match="peak_lr: missing"):
        resolve(values, start=facts)
