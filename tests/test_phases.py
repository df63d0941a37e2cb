"""Runs of several phases: borders change what they should, and resuming across them is exact."""

import os
import random
import shutil
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from ettin import files
from ettin.check import check
from ettin.console import read_json_lines
from ettin.errors import InputError, StoppedError
from ettin.recipe_file import resolve
from ettin.training import trainer
from ettin.training.checkpoint import find_checkpoint, list_checkpoints
from ettin.training.trainer import train
from tests.recipes import phased_values
from tests.runs import (
    assert_same_run,
    assert_same_tensors,
    metrics_but_times,
    phased_recipe,
    phased_run,
    tags,
    train_command,
)

NATIVE_TAGS = ["step0", "step5", "step10", "step14", "ext5", "ext8", "decay4", "decay6"]


def lines_of(directory: Path, phase: str) -> list[dict[str, Any]]:
    return [line for line in metrics_but_times(directory) if line["phase"] == phase]


def test_one_recipe_runs_all_native_phases(phased_runs):
    for name in ("encoder", "decoder"):
        assert tags(phased_runs / name) == NATIVE_TAGS
        assert files.read_manifest(phased_runs / name)["facts"]["checkpoints"] == NATIVE_TAGS
        lines = metrics_but_times(phased_runs / name)
        assert [line["step"] for line in lines] == list(range(1, 29))
        counted = [(line["phase"], line["phase_step"]) for line in lines]
        wanted = [("pretraining", n) for n in range(1, 15)]
        wanted += [("extension", n) for n in range(1, 9)] + [("decay", n) for n in range(1, 7)]
        assert counted == wanted
        assert check(phased_runs / name) == []


def test_borders_change_context_rope_masks_and_rate(phased_runs):
    states = {tag: find_checkpoint(f"{phased_runs / 'encoder'}@{tag}").state for tag in NATIVE_TAGS}
    assert [states[tag]["context_length"] for tag in ("step14", "ext8", "decay6")] == [64, 128, 128]
    bases = [states[tag]["global_rope_theta"] for tag in ("step14", "ext5", "decay6")]
    assert bases == [10_000, 160_000, 160_000]
    rates = {each: lines_of(phased_runs / "encoder", each) for each in ("extension", "decay")}
    assert rates["extension"][0]["learning_rate"] == pytest.approx(3e-3)
    assert rates["decay"][0]["learning_rate"] == pytest.approx(1.5e-3)
    assert rates["decay"][-1]["learning_rate"] > 0.02 * 3e-3


def test_each_phase_starts_its_own_order(phased_runs):
    ledger = read_json_lines(phased_runs / "encoder" / "ledger.jsonl")
    first = {line["phase"]: line["first_row"] for line in reversed(ledger)}
    assert first == {"pretraining": 0, "extension": 0, "decay": 0}
    hashes = [line["hash"] for line in ledger]
    assert len(set(hashes)) == len(hashes)


def test_twins_read_the_same_rows_in_every_phase(phased_runs):
    ledgers = [
        (phased_runs / name / "ledger.jsonl").read_bytes() for name in ("encoder", "decoder")
    ]
    assert ledgers[0] == ledgers[1]


def test_tokens_of_each_source_are_counted_by_phase(phased_runs):
    facts = files.read_manifest(phased_runs / "decoder")["facts"]
    assert [phase["name"] for phase in facts["phases"]] == ["pretraining", "extension", "decay"]
    assert sum(phase["tokens"] for phase in facts["phases"]) == facts["tokens"]
    for phase in facts["phases"]:
        assert set(phase["source_tokens"]) == {"prose", "letters"}
        assert sum(phase["source_tokens"].values()) == phase["tokens"]
        assert 0 < phase["epochs"]["prose"] < 1


@pytest.mark.parametrize("kept", range(len(NATIVE_TAGS) - 1))
@pytest.mark.parametrize(("name", "objective"), [("encoder", "mlm"), ("decoder", "clm")])
def test_resume_from_every_checkpoint_of_every_phase_is_exact(
    phased_runs, corpus_directory, tmp_path, name, objective, kept
):
    resumed = tmp_path / "resumed"
    shutil.copytree(phased_runs / name, resumed)
    (resumed / "manifest.json").unlink()
    for checkpoint in list_checkpoints(resumed)[kept + 1 :]:
        shutil.rmtree(checkpoint.path)
    phased_run(resumed, corpus_directory, objective)
    assert_same_run(phased_runs / name, resumed)


@pytest.mark.parametrize("stop_after", [14, 22, 17])
def test_a_signal_at_a_border_or_between_saves_and_goes_on(
    phased_runs, corpus_directory, tmp_path, monkeypatch, stop_after
):
    out, made = tmp_path / "run", []
    real = trainer._optimise

    def optimise(setup, step, **others):
        made.append(step.number)
        if len(made) == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(setup, step, **others)

    monkeypatch.setattr(trainer, "_optimise", optimise)
    with pytest.raises(StoppedError, match="SIGTERM after step"):
        phased_run(out, corpus_directory, "mlm")
    phased_run(out, corpus_directory, "mlm")
    assert made == [*range(1, 15), *range(1, 9), *range(1, 7)]
    assert_same_run(phased_runs / "encoder", out)


def test_phases_one_by_one_equal_all_in_one_run(phased_runs, corpus_directory, tmp_path):
    """A phase started from a checkpoint goes on with the optimiser's moments, bit for bit."""
    before: Path | None = None
    last = {"pretraining": "step14", "extension": "ext8", "decay": "decay6"}
    for phase, tag in last.items():
        out = phased_run(tmp_path / phase, corpus_directory, "mlm", phase, where=before)
        one, other = (each / "checkpoints" / tag for each in (out, phased_runs / "encoder"))
        assert_same_tensors(one, other)
        before = out
    starts = [files.read_manifest(tmp_path / phase)["facts"]["start"] for phase in last]
    assert [start and start["tag"] for start in starts] == [None, "step14", "ext8"]


def test_native_phases_keep_the_peak_that_weight_decay_is_measured_by(phased_runs):
    groups = find_checkpoint(f"{phased_runs / 'encoder'}@decay6").state["optimizer"]["groups"]
    assert {group["max_lr"] for group in groups} == {3e-3}
    assert {str(group["step"]) for group in groups} == {"{'int32': 28}"}


def test_a_source_that_is_read_too_often_is_told(corpus_directory, tmp_path, told):
    values = phased_values(warn_above_epochs=0.01)
    values["phases"] = values["phases"][:1]
    train(resolve(values), out=tmp_path / "run", corpus_path=corpus_directory, command=["test"])
    assert "pretraining reads the source letters" in told.text
    assert "more than 0.01 (warn_above_epochs)" in told.text


def test_a_phase_without_rows_is_refused_before_the_first_step(corpus_directory, tmp_path):
    values = phased_values()
    values["phases"][2]["context_length"] = 96
    recipe = resolve(values).of_phases(None)
    with pytest.raises(InputError, match="--context-length 64,96,128"):
        train(recipe, out=tmp_path / "run", corpus_path=corpus_directory, command=["test"])
    assert not (tmp_path / "run").exists()


def test_a_phase_may_have_its_own_mixture(corpus_directory, tmp_path):
    values = phased_values()
    values["phases"][1]["mixture"] = {"letters": 1}
    recipe = resolve(values).of_phases(None)
    train(recipe, out=tmp_path / "run", corpus_path=corpus_directory, command=["test"])
    phases = files.read_manifest(tmp_path / "run")["facts"]["phases"]
    assert [sorted(phase["source_tokens"]) for phase in phases] == [
        ["letters", "prose"],
        ["letters"],
        ["letters", "prose"],
    ]


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_a_growing_batch_resumes_exactly_and_takes_consecutive_rows(
    corpus_directory, tmp_path, objective
):
    values = phased_values(objective=objective)
    values["phases"] = values["phases"][:1]
    values["phases"][0] |= {"batch_warmup_tokens": 6 * 6 * 64, "batch_warmup_rows": 2}
    recipe, whole = resolve(values), tmp_path / "whole"
    train(recipe, out=whole, corpus_path=corpus_directory, command=["test"])
    ledger = read_json_lines(whole / "ledger.jsonl")
    rows = [line["rows"] for line in ledger]
    assert rows[:10] == [2, 2, 2, 3, 3, 4, 4, 4, 5, 5]
    assert set(rows[10:]) == {6}
    assert [line["first_row"] for line in ledger] == [sum(rows[:n]) for n in range(len(rows))]
    for checkpoint in tags(whole)[:-1]:
        again = tmp_path / checkpoint
        shutil.copytree(whole, again)
        (again / "manifest.json").unlink()
        for later in tags(whole)[tags(whole).index(checkpoint) + 1 :]:
            shutil.rmtree(again / "checkpoints" / later)
        train(recipe, out=again, corpus_path=corpus_directory, command=["test"])
        assert_same_run(whole, again)


def test_a_later_phase_without_a_start_is_told(corpus_directory, tmp_path, told):
    recipe = phased_recipe("mlm", "decay")
    train(recipe, out=tmp_path / "run", corpus_path=corpus_directory, command=["test"])
    assert "decay begins with untrained weights; --from WHERE" in told.text
    assert tags(tmp_path / "run") == ["decay0", "decay4", "decay6"]


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(4))
def test_killed_at_random_moments_of_any_phase_equals_uninterrupted(
    phased_runs, corpus_directory, tmp_path, attempt
):
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump(phased_values()))
    draw = random.Random(attempt)
    for _ in range(6):
        child = subprocess.Popen(
            train_command(recipe, out, corpus_directory), stdout=subprocess.DEVNULL
        )
        time.sleep(draw.uniform(2.5, 6))
        child.kill()
        child.wait()
    subprocess.run(
        train_command(recipe, out, corpus_directory), check=True, stdout=subprocess.DEVNULL
    )
    assert_same_run(phased_runs / "encoder", out)


def test_losses_fall_through_all_phases(phased_runs):
    for name in ("encoder", "decoder"):
        ends = [
            find_checkpoint(f"{phased_runs / name}@{tag}").state["validation_loss"]
            for tag in ("step0", "step14", "ext8", "decay6")
        ]
        assert all(after < before for before, after in pairwise(ends))
