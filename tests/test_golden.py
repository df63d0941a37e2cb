"""Golden losses: short runs of each objective give the losses that they gave before.

Two columns of text, step and loss, that a person can compare. They are made anew by `make golden`
alone, and a change of them is said in the changelog.
"""

import os
from pathlib import Path

import pytest

from ettin.console import read_json_lines
from ettin.training.trainer import train
from tests.recipes import tiny_recipe
from tests.tolerances import GOLDEN_LOSS

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("objective", ["mlm", "clm", "mntp"])
def test_losses_are_those_of_before(objective, corpus_directory, tmp_path):
    recipe = tiny_recipe(objective=objective)
    train(recipe, out=tmp_path / "run", corpus_path=corpus_directory, command=["test"])
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    losses = [line["loss"] for line in lines]
    path = GOLDEN / f"loss-{objective}.txt"
    if os.environ.get("ETTIN_REGENERATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text("".join(f"{n:2d} {loss:.6f}\n" for n, loss in enumerate(losses, 1)))
    expected = [float(line.split()[1]) for line in path.read_text().splitlines()]
    assert losses == pytest.approx(expected, abs=GOLDEN_LOSS)
