"""Runs of several processes on 127.0.0.1, as `torchrun` starts them, and what they left behind."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ettin.console import read_json_lines
from ettin.training.checkpoint import Checkpoint, stored_tensors

REPOSITORY = Path(__file__).parent.parent
SECONDS = 240


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int
    output: str
    errors: str


def run_ranks(words: list[str], *, count: int, done: tuple[str, ...] = ()) -> list[Ended]:
    """Run `ettin words` in `count` processes of one thread each; none outlives the call.

    Args:
        words: of the command line.
        count: how many processes.
        done: what is done to the run, see `tests.rank_process`.
    """
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    command = [sys.executable, "-m", "tests.rank_process", *done, "--", *words]
    ranks: list[subprocess.Popen[str]] = []
    for rank in range(count):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
        ranks.append(
            subprocess.Popen(
                command, env={**common, **own}, cwd=REPOSITORY, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    try:
        said = [process.communicate(timeout=SECONDS) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    return [Ended(each.returncode, *heard) for each, heard in zip(ranks, said, strict=True)]


def codes(ended: list[Ended]) -> list[int]:
    """The exit codes of all ranks."""
    return [each.code for each in ended]


def free_port() -> int:
    """A port on which the processes of a run can meet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def train_words(recipe: Path, out: Path, corpus: Path, *overrides: str) -> list[str]:
    """The words that train a run."""
    places = ["--out", str(out), "--corpus", str(corpus), "--json"]
    return ["train", str(recipe), *overrides, *places]


def worst(one: Path, other: Path, key: str = "loss") -> float:
    """The largest relative difference of a number over all steps of two runs."""
    lines = [read_json_lines(each / "metrics.jsonl") for each in (one, other)]
    pairs = zip(*lines, strict=True)
    return max(abs(left[key] - right[key]) / abs(left[key]) for left, right in pairs)


def tensors_of(checkpoint: Checkpoint, kind: str) -> dict[str, Tensor]:
    """All tensors of a checkpoint, from however many files."""
    return dict(stored_tensors(checkpoint, kind))
