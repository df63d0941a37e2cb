"""Several processes train what one trains: the same rows, losses, weights and ledger."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ettin import files
from ettin.data.seen.verify import verify
from ettin.training.checkpoint import find_checkpoint, list_checkpoints
from ettin.training.trainer import train
from tests.ranks import codes, run_ranks, tensors_of, train_words, worst
from tests.recipes import tiny_recipe, write_recipe
from tests.runs import metrics_but_times, tags
from tests.tolerances import PROCESSES_FP32, PROCESSES_FP32_LATER, PROCESSES_FP64

STEP = 6 * 64
LONGER = {"phase_tokens": 50 * STEP, "phase_warmup_tokens": 10 * STEP}
"""50 steps at the preset's peak rate, 3e-3."""


@pytest.fixture
def trained(corpus_directory, tmp_path):
    """Trains runs of one recipe, in so many processes."""

    def run(name: str, recipe: Path, *overrides: str, count: int, done: tuple[str, ...] = ()):
        words = train_words(recipe, tmp_path / name, corpus_directory, *overrides)
        ended = run_ranks(words, count=count, done=done)
        assert codes(ended) == [0] * count, ended
        return tmp_path / name

    return run


def assert_same_ledger(one: Path, other: Path) -> None:
    assert (one / "ledger.jsonl").read_bytes() == (other / "ledger.jsonl").read_bytes()


def assert_same_bits(one: Path, other: Path) -> None:
    """Equal losses and checkpoints, whichever file holds a tensor."""
    assert metrics_but_times(one) == metrics_but_times(other)
    for checkpoint in list_checkpoints(one):
        twin = find_checkpoint(f"{other}@{checkpoint.tag}")
        for kind in ("weights", "optimizer"):
            left, right = tensors_of(checkpoint, kind), tensors_of(twin, kind)
            assert left.keys() == right.keys()
            assert all(torch.equal(left[name], right[name]) for name in left)


def test_two_processes_of_torchrun_train_what_one_trains_in_fp32(corpus_directory, tmp_path):
    changes = {"peak_lr": 3e-4, "phase_save_early": True, "micro_batch_rows": 2}
    recipe = write_recipe(tmp_path / "recipe.yaml", **changes)
    alone, both = tmp_path / "alone", tmp_path / "both"
    train(tiny_recipe(**changes), out=alone, corpus_path=corpus_directory, command=["test"])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node=2", "-m", "ettin"]
    words = train_words(recipe, both, corpus_directory)
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    assert done.stdout.count(f'"run": "{both}"') == 1
    assert files.verify(both) == []
    assert_same_ledger(alone, both)
    lines = [metrics_but_times(each)[0] for each in (alone, both)]
    for key in ("loss", "grad_norm"):
        assert lines[1][key] == pytest.approx(lines[0][key], rel=PROCESSES_FP32)
    assert worst(alone, both) <= PROCESSES_FP32_LATER
    # After the first step the first moment is the gradient.
    first = [tensors_of(find_checkpoint(f"{each}@step1"), "optimizer") for each in (alone, both)]
    gradients = [name for name in first[0] if name.endswith("/exp_avg")]
    assert first[1].keys() == first[0].keys()
    for name in gradients:
        error = (first[1][name] - first[0][name]).abs().max() / first[0][name].abs().max()
        assert error <= PROCESSES_FP32, name


@pytest.mark.parametrize(
    ("objective", "count", "shard_ranks"),
    [
        ("mlm", 2, 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("mlm", 2, 1), ("mlm", 4, 2), ("clm", 2, 1), ("clm", 3, 3)]
        ),
    ],
)
def test_processes_that_replicate_or_shard_train_what_one_trains_in_float64(
    trained, tmp_path, objective, count, shard_ranks
):
    # 512 embeddings and 48 channels do not divide into 3 shards of one size.
    recipe = write_recipe(tmp_path / "recipe.yaml", objective=objective, **LONGER)
    one = trained("one", recipe, count=1, done=("float64",))
    shards = f"shard_ranks={shard_ranks}"
    many = trained("many", recipe, shards, count=count, done=("float64",))
    assert_same_ledger(one, many)
    assert worst(one, many) <= PROCESSES_FP64
    assert worst(one, many, "grad_norm") <= PROCESSES_FP64
    last = [lines[-1]["validation_loss"] for lines in map(metrics_but_times, (one, many))]
    assert last[1] == pytest.approx(last[0], rel=PROCESSES_FP64)


@pytest.mark.slow
def test_a_run_stopped_thrice_and_resumed_by_other_numbers_of_processes(
    corpus_directory, trained, tmp_path
):
    recipe = write_recipe(tmp_path / "recipe.yaml")
    one, out = trained("one", recipe, count=1, done=("float64",)), tmp_path / "elastic"
    words = train_words(recipe, out, corpus_directory)
    # The signal reaches one process; all stop after the same step.
    parts = [(1, "signal=0@4", 1), (2, "signal=1@9", 2), (3, "signal=2@15", 3)]
    for count, stop, shards in parts:
        said = [*words, f"shard_ranks={shards}"]
        ended = run_ranks(said, count=count, done=("float64", stop))
        assert codes(ended) == [3] * count, ended
        assert f"after step {stop.partition('@')[2]} of 20" in ended[0].errors
        # Temporary, written by `count` processes, and read by the next ones.
        written = find_checkpoint(str(out)).path.glob("weights-*")
        assert len(list(written)) == count
    trained("elastic", recipe, count=1, done=("float64",))
    assert_same_ledger(one, out)
    assert worst(one, out) <= PROCESSES_FP64
    assert tags(out) == tags(one)
    found = verify(out, against=one)
    assert found.equal
    assert found.run.steps == 20
    assert files.verify(out) == []


@pytest.mark.slow
@pytest.mark.parametrize(("count", "shard_ranks"), [(3, 1), (2, 2)])
def test_a_resumed_run_of_as_many_processes_equals_the_uninterrupted_bit_for_bit(
    corpus_directory, trained, tmp_path, count, shard_ranks
):
    recipe, shards = write_recipe(tmp_path / "recipe.yaml"), f"shard_ranks={shard_ranks}"
    whole = trained("whole", recipe, shards, count=count)
    words = train_words(recipe, tmp_path / "resumed", corpus_directory, shards)
    assert codes(run_ranks(words, count=count, done=("signal=1@9",))) == [3] * count
    resumed = trained("resumed", recipe, shards, count=count)
    assert_same_ledger(whole, resumed)
    assert_same_bits(whole, resumed)
