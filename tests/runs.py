"""Runs of several phases that tests train, and how they look at them: bit for bit but for times."""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ettin import files
from ettin.console import read_json_lines
from ettin.recipe import Recipe
from ettin.recipe_file import resolve
from ettin.training.checkpoint import list_checkpoints
from ettin.training.start import Start, open_start
from ettin.training.trainer import train
from tests.recipes import phased_values

TIMES = {"seconds", "tokens_per_second", "peak_memory_bytes"}


def metrics_but_times(directory: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics without what depends on the machine."""
    lines = read_json_lines(directory / "metrics.jsonl")
    return [{key: line[key] for key in line if key not in TIMES} for line in lines]


def tags(directory: Path) -> list[str]:
    """The tags of a run's checkpoints, oldest first."""
    return [checkpoint.tag for checkpoint in list_checkpoints(directory)]


def assert_same_tensors(one: Path, other: Path) -> None:
    """Equal weights and optimiser states of two checkpoints, bit for bit."""
    for name in ("weights-0000.safetensors", "optimizer-0000.safetensors"):
        left, right = load_file(one / name), load_file(other / name)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left), (other, name)


def assert_same_run(one: Path, other: Path) -> None:
    """Equal losses, ledgers, weights and optimiser states at every checkpoint of `one`."""
    assert metrics_but_times(one) == metrics_but_times(other)
    assert (one / "ledger.jsonl").read_bytes() == (other / "ledger.jsonl").read_bytes()
    for checkpoint in list_checkpoints(one):
        twin = other / "checkpoints" / checkpoint.tag
        assert_same_tensors(checkpoint.path, twin)
        assert checkpoint.state == files.read_json(twin / "state.json")


def phased_recipe(
    objective: str, phase: str | None = None, *, start: Start | None = None, **changes: Any
) -> Recipe:
    """The recipe of one run out of `phased_values`."""
    values = phased_values(objective=objective, **changes)
    if start is not None:
        values["start_from"] = start.facts["where"]
    return resolve(values, start=start.facts if start else None).of_phases(phase)


def phased_run(
    out: Path,
    corpus: Path,
    objective: str,
    phase: str | None = None,
    *,
    where: Path | str | None = None,
) -> Path:
    """Train through one phase or all native ones, from `where` if it is given."""
    start = open_start(str(where)) if where else None
    recipe = phased_recipe(objective, phase, start=start)
    train(recipe, out=out, corpus_path=corpus, command=["test"], start=start)
    return out


def train_command(recipe: Path, out: Path, corpus: Path) -> list[str]:
    """The words that train a run in a process of its own."""
    words = [sys.executable, "-m", "ettin", "train", str(recipe), "--out", str(out)]
    return [*words, "--corpus", str(corpus), "--json"]
