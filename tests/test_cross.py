"""The cross phase: the twin's weights, the other objective, a fresh optimiser, the decay's rows."""

import shutil
import subprocess

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ettin import files
from ettin.console import read_json_lines
from ettin.data.corpus import Corpus
from ettin.errors import InputError
from ettin.export import export
from ettin.training.checkpoint import find_checkpoint, list_checkpoints, load_weights
from ettin.training.setup import build, load_first_weights
from ettin.training.start import open_start
from tests.recipes import phased_values
from tests.runs import assert_same_run, phased_recipe, phased_run, tags, train_command

CROSS_TAGS = ["cross0", "cross4", "cross6"]


def test_the_cross_phase_reads_the_rows_of_decay_once_more(phased_runs):
    decay = [line["tokens"] for line in read_json_lines(phased_runs / "decoder" / "ledger.jsonl")][
        -6:
    ]
    cross = read_json_lines(phased_runs / "encoder-from-decoder" / "ledger.jsonl")
    assert [line["tokens"] for line in cross] == decay
    twins = [
        phased_runs / name / "ledger.jsonl"
        for name in ("encoder-from-decoder", "decoder-from-encoder")
    ]
    assert twins[0].read_bytes() == twins[1].read_bytes()


@pytest.mark.parametrize("kept", range(len(CROSS_TAGS) - 1))
def test_a_cross_run_resumes_exactly_even_when_its_start_is_gone(
    phased_runs, corpus_directory, tmp_path, kept
):
    start, out = tmp_path / "decoder", tmp_path / "cross"
    shutil.copytree(phased_runs / "decoder", start)
    whole = phased_run(out, corpus_directory, "mntp", "cross", where=start)
    again = tmp_path / "again"
    shutil.copytree(whole, again)
    (again / "manifest.json").unlink()
    for checkpoint in list_checkpoints(again)[kept + 1 :]:
        shutil.rmtree(checkpoint.path)
    shutil.rmtree(start)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(phased_values()))
    command = [*train_command(recipe, again, corpus_directory), "--objective", "mntp"]
    subprocess.run([*command, "--phase", "cross", "--from", str(start)], check=True)
    assert_same_run(whole, again)


def test_cross_runs_begin_with_the_twins_weights_and_a_fresh_optimiser(phased_runs):
    for name, source in (("encoder-from-decoder", "decoder"), ("decoder-from-encoder", "encoder")):
        assert tags(phased_runs / name) == CROSS_TAGS
        first = find_checkpoint(f"{phased_runs / name}@cross0")
        source_weights = load_weights(find_checkpoint(str(phased_runs / source)))
        weights = load_weights(first)
        assert all(torch.equal(weights[key], source_weights[key]) for key in source_weights)
        assert load_file(first.path / "optimizer-0000.safetensors") == {}
        groups = find_checkpoint(f"{phased_runs / name}@cross4").state["optimizer"]["groups"]
        assert [group["step"] for group in groups] == [{"int32": 4}, {"int32": 4}]
        # Half the peak is the cross phase's highest rate, and what weight decay is measured by.
        assert {group["max_lr"] for group in groups} == {1.5e-3}
        facts = files.read_manifest(phased_runs / name)["facts"]
        assert (facts["variant"], facts["start"]["tag"]) == ("cross", "decay6")


def test_exports_of_cross_runs_say_what_they_are(phased_runs, tmp_path):
    for name, objective in (("encoder-from-decoder", "mntp"), ("decoder-from-encoder", "clm")):
        summary = export(
            str(phased_runs / name),
            out=tmp_path / name,
            objective=None,
            dtype="float32",
            command=["test"],
        )
        described = files.read_json(summary.export / "config.json")["ettin"]
        assert (described["objective"], described["variant"]) == (objective, "cross")
        assert described["start"]["tag"] == "decay6"
        assert summary.parity <= 1e-4


def test_the_first_checkpoint_of_a_cross_run_exports_to_the_twins_weights(phased_runs, tmp_path):
    """Out by one class, in by the other, and nothing is lost on the way."""
    paths = {
        "twin": phased_runs / "decoder",
        "first": f"{phased_runs / 'encoder-from-decoder'}@cross0",
    }
    for name, where in paths.items():
        export(str(where), out=tmp_path / name, objective=None, dtype="float32", command=["test"])
    export(
        str(tmp_path / "twin"),
        out=tmp_path / "turned",
        objective="mlm",
        dtype="float32",
        command=["test"],
    )
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("turned", "first"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_another_start_is_another_run(phased_runs, corpus_directory, tmp_path):
    out = tmp_path / "cross"
    shutil.copytree(phased_runs / "encoder-from-decoder", out)
    with pytest.raises(InputError, match="start_from: begun with"):
        phased_run(
            out, corpus_directory, "mntp", "cross", where=f"{phased_runs / 'decoder'}@decay4"
        )


def test_a_phase_that_goes_on_takes_moments_over_but_not_settings(phased_runs, corpus_directory):
    """Rates and weight decay are the new recipe's; only what was counted and averaged goes on."""
    start = open_start(f"{phased_runs / 'encoder'}@step14")
    recipe = phased_recipe("mlm", "extension", start=start, weight_decay=7e-4, peak_lr=1e-3)
    setup = build(recipe, corpus=Corpus.open(corpus_directory), start=start)
    load_first_weights(setup)
    groups = setup.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.0, 7e-4]
    assert {group["max_lr"] for group in groups} == {1e-3}
    assert {int(group["step"]) for group in groups} == {14}
    assert start.checkpoint is not None
    saved = load_file(start.checkpoint.path / "optimizer-0000.safetensors")
    head = setup.model.head.dense.weight
    assert torch.equal(setup.optimizer.state[head]["exp_avg"], saved["head.dense.weight/exp_avg"])
