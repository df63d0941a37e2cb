"""The benchmark of training speed: both contenders get the same work, and the sums are right."""

from dataclasses import asdict

import pytest
import torch

from benchmarks.speed_results import Cell, Repeat, is_measured, put, summarise, table
from benchmarks.training_speed import GREATEST_LOSS_DIFFERENCE, NO_LABEL, Ours, Theirs, pad
from ettin.data.corpus import Corpus
from ettin.training.setup import Setup, build, load_first_weights
from tests.recipes import tiny_recipe

PAD = 3
ROWS = 40
CELL = Cell("nano", "mlm", 256, 1)


def setup_of(objective: str, corpus: Corpus) -> Setup:
    recipe = tiny_recipe(
        objective=objective,
        attention_output_dropout=0,
        micro_batch_rows=None,
        validation_rows=1,
        phase_batch_rows=ROWS,
    )
    setup = build(recipe, corpus=corpus)
    load_first_weights(setup)
    return setup


def entry(*, commit: str = "abc", repeats: list[Repeat]) -> dict:
    return {
        "cell": asdict(CELL),
        "commit": commit,
        "settings": {"repeats": len(repeats)},
        "text_share_of_padded": 0.75,
        "summary": summarise(repeats, flops_per_token=1e6, matmul_rate=1e9),
    }


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_the_padded_batch_holds_the_same_tokens_and_labels(objective, corpus_directory):
    setup = setup_of(objective, Corpus.open(corpus_directory))
    (batch,) = setup.phases[0].load(1).micro_batches
    padded = pad(batch, objective=objective, pad_id=PAD)
    text = padded.attention_mask.bool()
    lengths = batch.stream.boundaries.diff()
    assert len(lengths) > ROWS, "some rows should hold several chunks"
    assert padded.input_ids.shape == (len(lengths), lengths.max())
    assert torch.equal(padded.attention_mask.sum(1), lengths.long())
    assert torch.equal(padded.input_ids[text], batch.task.inputs)
    assert (padded.input_ids[~text] == PAD).all()
    # Stock decoders shift by themselves: the first label of a row is never asked for.
    asked = padded.labels[:, 1:] if objective == "clm" else padded.labels
    assert torch.equal(asked[asked != NO_LABEL], batch.task.labels)
    assert (padded.labels[~text] == NO_LABEL).all()


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_both_contenders_find_the_same_loss_and_learn_from_it(objective, corpus_directory):
    setup = setup_of(objective, Corpus.open(corpus_directory))
    ours, theirs = Ours(setup), Theirs(setup)
    step = setup.phases[0].load(1)
    padded = pad(step.micro_batches[0], objective=objective, pad_id=setup.corpus.special.pad)
    before = ours.loss(step).item()
    assert abs(before - theirs.loss(padded).item()) <= GREATEST_LOSS_DIFFERENCE
    ours.train(1)
    theirs.train(padded)
    assert ours.loss(step).item() < before - 1e-3
    assert theirs.loss(padded).item() < before - 1e-3


def test_the_ratio_is_the_median_within_repeats_and_rates_count_text():
    # The machine is busy during the second repeat: both take four times as long.
    repeats = [Repeat(100, 1.0, 2.0), Repeat(100, 4.0, 8.0), Repeat(100, 2.0, 3.0)]
    summary = summarise(repeats, flops_per_token=1e6, matmul_rate=1e9)
    assert summary["ratio"] == {"median": 2.0, "lowest": 1.5, "highest": 2.0}
    assert summary["ettin"]["text_tokens_per_second"] == {
        "median": 50.0,
        "lowest": 25.0,
        "highest": 100.0,
    }
    assert summary["transformers"]["share_of_matmul_rate"] == pytest.approx(100 / 3 * 1e6 / 1e9)


def test_the_table_shows_both_rates_and_the_ratio_of_a_cell():
    line = table({"cells": [entry(repeats=[Repeat(5000, 1.0, 2.0)] * 3)]}).splitlines()[1]
    for shown in ("nano mlm 256, 1 thread ", "5,000 [5,000 – 5,000]", "2,500 [", "2.00 [", "75%"):
        assert shown in line


def test_a_cell_of_another_commit_or_other_settings_is_measured_again():
    results: dict = {"cells": []}
    put(results, entry(repeats=[Repeat(1, 1.0, 1.0)] * 5))
    assert is_measured(results, CELL, commit="abc", settings={"repeats": 5})
    assert not is_measured(results, CELL, commit="other", settings={"repeats": 5})
    assert not is_measured(results, CELL, commit="abc", settings={"repeats": 6})
    assert not is_measured(results, Cell("nano", "clm", 256, 1), commit="abc", settings={})
    put(results, entry(commit="other", repeats=[Repeat(1, 1.0, 1.0)] * 5))
    assert [each["commit"] for each in results["cells"]] == ["other"]
