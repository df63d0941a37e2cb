"""How tests look at run directories: all but times, and bit for bit."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ettin import files
from ettin.console import read_json_lines
from ettin.training.checkpoint import list_checkpoints

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
