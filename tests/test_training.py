"""Runs: the pair is a pair, and what was interrupted equals what was not, bit for bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ettin import files
from ettin.console import read_json_lines
from ettin.data.corpus import Corpus
from ettin.errors import InputError, StoppedError
from ettin.recipe import Recipe
from ettin.recipe_file import load_recipe
from ettin.training import trainer
from ettin.training.checkpoint import find_checkpoint, list_checkpoints, load_weights
from ettin.training.setup import build, load_first_weights
from ettin.training.step import micro_batch_loss
from ettin.training.trainer import train
from tests.recipes import tiny_recipe, write_recipe
from tests.runs import assert_same_run
from tests.tolerances import FP64


def run(recipe: Recipe, out: Path, corpus: Path):
    return train(recipe, out=out, corpus_path=corpus, command=["test"])


@pytest.fixture(scope="module")
def runs(corpus_directory, tmp_path_factory) -> Path:
    """An uninterrupted run of each twin."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = tiny_recipe(ngram_baselines=True)
    run(recipe, folder / "encoder", corpus_directory)
    run(recipe.twin(), folder / "decoder", corpus_directory)
    return folder


def test_a_finished_run_is_complete(runs):
    directory = runs / "encoder"
    facts = files.read_manifest(directory, "run")["facts"]
    assert files.verify(directory) == []
    assert facts["checkpoints"] == ["step0", "step7", "step14", "step20"]
    lines = read_json_lines(directory / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 21))
    validated = [line["step"] for line in lines if "validation_loss" in line]
    assert validated == [5, 10, 15, 20]
    wanted = {"step", "phase", "phase_step", "tokens", "loss", "learning_rate", "grad_norm"}
    assert wanted | {"tokens_per_second"} <= set(lines[0])
    assert facts["tokens"] == sum(
        line["tokens"] for line in read_json_lines(directory / "ledger.jsonl")
    )
    assert list((directory / "tensorboard").iterdir())
    assert load_recipe(directory / "recipe.yaml") == tiny_recipe(ngram_baselines=True)


def test_loss_falls_and_baselines_are_scored(runs):
    for twin in ("encoder", "decoder"):
        lines = read_json_lines(runs / twin / "metrics.jsonl")
        facts = files.read_manifest(runs / twin)["facts"]
        assert facts["validation_loss"] < facts["initial_validation_loss"] - 0.3
        baselines = files.read_json(runs / twin / "baselines.json")
        assert 0 < baselines["bigram"] < baselines["unigram"] < 6.3
        assert baselines["tokens"] == lines[-1]["tokens"]


def test_twins_see_the_same_rows_and_start_from_the_same_weights(runs):
    encoder, decoder = runs / "encoder", runs / "decoder"
    assert (encoder / "ledger.jsonl").read_bytes() == (decoder / "ledger.jsonl").read_bytes()
    first = [load_weights(find_checkpoint(f"{each}@step0")) for each in (encoder, decoder)]
    assert all(torch.equal(first[0][name], first[1][name]) for name in first[0])
    facts = [files.read_manifest(each)["facts"] for each in (encoder, decoder)]
    for key in ("initial_weights_hash", "ledger_hash", "order", "tokens", "parameters"):
        assert facts[0][key] == facts[1][key]
    recipes = [load_recipe(each / "recipe.yaml").model_dump() for each in (encoder, decoder)]
    assert [key for key in recipes[0] if recipes[0][key] != recipes[1][key]] == ["objective"]


@pytest.mark.parametrize("objective", ["mlm", "clm"])
@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_resume_from_every_checkpoint_equals_uninterrupted(
    runs, corpus_directory, tmp_path, objective, kept
):
    original = runs / ("encoder" if objective == "mlm" else "decoder")
    resumed = tmp_path / "resumed"
    shutil.copytree(original, resumed)
    (resumed / "manifest.json").unlink()
    for checkpoint in list_checkpoints(resumed)[kept + 1 :]:
        shutil.rmtree(checkpoint.path)
    run(tiny_recipe(objective=objective, ngram_baselines=True), resumed, corpus_directory)
    assert_same_run(original, resumed)


def test_a_signal_saves_and_the_same_command_goes_on(runs, corpus_directory, tmp_path, monkeypatch):
    out, steps = tmp_path / "run", []
    real = trainer._optimise

    def optimise(setup, step, **others):
        steps.append(step.number)
        if step.number == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(setup, step, **others)

    monkeypatch.setattr(trainer, "_optimise", optimise)
    with pytest.raises(StoppedError, match="SIGTERM after step 9 of 20"):
        run(tiny_recipe(ngram_baselines=True), out, corpus_directory)
    assert [each.tag for each in list_checkpoints(out)] == ["step0", "step7", "step9"]
    run(tiny_recipe(ngram_baselines=True), out, corpus_directory)
    assert steps == list(range(1, 21))
    assert [each.tag for each in list_checkpoints(out)] == ["step0", "step7", "step14", "step20"]
    assert_same_run(runs / "encoder", out)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(5))
def test_killed_at_a_random_moment_and_resumed_equals_uninterrupted(
    runs, corpus_directory, tmp_path, attempt
):
    recipe = write_recipe(tmp_path / "recipe.yaml", ngram_baselines=True)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "ettin", "train", str(recipe), "--out", str(out)]
    command += ["--corpus", str(corpus_directory), "--json"]
    draw = random.Random(attempt)
    after = draw.randrange(1, 18)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as victim:
        deadline = time.monotonic() + 60
        while len(read_json_lines(out / "metrics.jsonl")) < after:
            assert victim.poll() is None, victim.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(draw.random() / 30)
        victim.kill()
    assert not files.is_finished(out)
    done = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(done.stdout)["checkpoints"] == ["step0", "step7", "step14", "step20"]
    assert files.verify(out) == []
    assert not list(out.rglob("*.partial")) + list(out.rglob("*.tmp"))
    assert_same_run(runs / "encoder", out)


def test_a_damaged_newest_checkpoint_is_passed_over(runs, corpus_directory, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(runs / "encoder", out)
    (out / "manifest.json").unlink()
    weights = out / "checkpoints" / "step20" / "weights-0000.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    run(tiny_recipe(ngram_baselines=True), out, corpus_directory)
    assert files.verify(out) == []
    assert_same_run(runs / "encoder", out)


def test_a_finished_run_is_not_run_again(runs, corpus_directory):
    before = {path: path.stat().st_mtime_ns for path in (runs / "encoder").rglob("*")}
    summary = run(tiny_recipe(ngram_baselines=True), runs / "encoder", corpus_directory)
    assert summary.checkpoints == ("step0", "step7", "step14", "step20")
    assert before == {path: path.stat().st_mtime_ns for path in (runs / "encoder").rglob("*")}


def test_another_recipe_is_refused_in_the_same_directory(runs, corpus_directory):
    with pytest.raises(InputError, match="seed: begun with 21, now 22"):
        run(tiny_recipe(ngram_baselines=True, seed=22), runs / "encoder", corpus_directory)


def test_a_directory_that_holds_something_else_is_refused(corpus_directory, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not empty"):
        run(tiny_recipe(), tmp_path, corpus_directory)


def test_a_context_length_without_rows_is_refused_with_the_command(corpus_directory, tmp_path):
    recipe = tiny_recipe(phase_context_length=96, phase_tokens=96 * 200)
    with pytest.raises(InputError, match="--context-length 64,96,128"):
        run(recipe, tmp_path / "run", corpus_directory)
    assert not (tmp_path / "run").exists()


def test_micro_batches_change_nothing_but_rounding(corpus_directory):
    gradients = []
    for rows in (1, 2, 6):
        recipe = tiny_recipe(micro_batch_rows=rows)
        setup = build(recipe, corpus=Corpus.open(corpus_directory))
        load_first_weights(setup)
        setup.model.double()
        step = setup.phases[0].load(3)
        labels = 0
        for micro_batch in step.micro_batches:
            loss = micro_batch_loss(setup.model, micro_batch, recipe=recipe, training=True)
            (loss / step.labels).backward()
            labels += len(micro_batch.task.labels)
        assert labels == step.labels
        parameters = setup.model.parameters()
        gradients.append([each.grad for each in parameters if each.grad is not None])
    for others in gradients[1:]:
        for one, other in zip(gradients[0], others, strict=True):
            assert torch.allclose(one, other, atol=FP64, rtol=FP64)


def test_seeds_change_weights_order_and_masks_but_not_validation(corpus_directory):
    setups = [
        build(tiny_recipe(seed=seed), corpus=Corpus.open(corpus_directory)) for seed in (21, 22)
    ]
    for setup in setups:
        load_first_weights(setup)
    weights = [setup.model.output_weight for setup in setups]
    assert not torch.equal(weights[0], weights[1])
    rows = [setup.phases[0].load(1).rows.row.tolist() for setup in setups]
    assert rows[0] != rows[1]
    for one, other in zip(*(setup.phases[0].held_out for setup in setups), strict=True):
        assert torch.equal(one.task.inputs, other.task.inputs)
        assert torch.equal(one.task.positions, other.task.positions)


def test_the_optimiser_decays_matrices_and_keeps_vectors(corpus_directory):
    setup = build(tiny_recipe(weight_decay=5e-4), corpus=Corpus.open(corpus_directory))
    names = {id(parameter): name for name, parameter in setup.model.named_parameters()}
    decayed = {
        names[id(parameter)]: group["weight_decay"]
        for group in setup.optimizer.param_groups
        for parameter in group["params"]
    }
    assert decayed["model.embeddings.tok_embeddings.weight"] == 5e-4
    assert decayed["model.layers.0.mlp.Wi.weight"] == 5e-4
    assert decayed["decoder.bias"] == decayed["model.final_norm.weight"] == 0
    assert len(decayed) == len(names)


def test_a_profile_is_a_trace_beside_the_run(corpus_directory, tmp_path):
    out = tmp_path / "run"
    train(tiny_recipe(), out=out, corpus_path=corpus_directory, command=[], profile=True)
    trace = json.loads((tmp_path / "run.trace.json").read_text())
    assert any("aten::" in event.get("name", "") for event in trace["traceEvents"])
    assert files.verify(out) == []
