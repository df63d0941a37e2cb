"""Runs whose mixtures have budgets: told beforehand, read exactly, resumed, and asked."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ettin import files
from ettin.console import read_json_lines
from ettin.data.corpus import Corpus
from ettin.data.phase_orders import order_of, sources_of
from ettin.data.seen.show import show
from ettin.data.seen.verify import verify
from ettin.errors import InputError
from ettin.recipe import Recipe
from ettin.recipe_file import load_recipe
from ettin.training.checkpoint import list_checkpoints
from ettin.training.plan import describe_plan, plan
from ettin.training.trainer import train
from tests.recipes import tiny_recipe, write_recipe
from tests.runs import assert_same_run

BUDGETS: dict[str, Any] = {"letters": {"tokens": 3000}, "prose": 1}


def recipe_of(mixture: dict[str, Any], **changes: Any) -> Recipe:
    return tiny_recipe(mixture=mixture, **changes)


@pytest.fixture(scope="module")
def run(corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("budgets") / "run"
    train(recipe_of(BUDGETS), out=out, corpus_path=corpus_directory, command=["test"])
    return out


def test_a_budget_of_tokens_is_read_to_within_a_row(run: Path) -> None:
    (phase,) = files.read_manifest(run)["facts"]["phases"]
    assert abs(phase["source_tokens"]["letters"] - 3000) < 64
    assert phase["source_tokens"]["prose"] > 3000


def test_what_was_told_is_what_was_read_row_for_row(run: Path, corpus_directory: Path) -> None:
    recipe, corpus = recipe_of(BUDGETS), Corpus.open(corpus_directory)
    order = order_of(recipe, recipe.phases[0], corpus)
    told = sources_of(order, recipe.phases[0], corpus)
    read = Counter(row["source"] for row in show(run).rows)
    assert read == {name: each.rows for name, each in told.items()}
    assert verify(run).equal


@pytest.mark.parametrize("kept", [0, 1])
def test_a_resumed_run_with_budgets_equals_an_uninterrupted_one(
    run: Path, corpus_directory: Path, tmp_path: Path, kept: int
) -> None:
    resumed = tmp_path / "run"
    shutil.copytree(run, resumed)
    (resumed / "manifest.json").unlink()
    for checkpoint in list_checkpoints(resumed)[kept + 1 :]:
        shutil.rmtree(checkpoint.path)
    train(recipe_of(BUDGETS), out=resumed, corpus_path=corpus_directory, command=["test"])
    assert_same_run(run, resumed)


def test_a_run_does_not_go_on_with_another_budget(
    run: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    changed = recipe_of({"letters": {"tokens": 3001}, "prose": 1})
    with pytest.raises(InputError, match=r"mixture\.letters\.tokens: begun with 3000, now 3001"):
        train(changed, out=copied, corpus_path=corpus_directory, command=["test"])


def test_an_epoch_of_a_source_is_every_row_of_it_once(corpus_directory: Path) -> None:
    recipe = recipe_of(
        {"letters": {"epochs": 1}, "prose": {"weight": 1}}, phase_tokens=2500 * 64,
        phase_warmup_tokens=0, phase_decay_tokens=0, phase_batch_rows=10,
    )  # fmt: skip
    corpus = Corpus.open(corpus_directory)
    order = order_of(recipe, recipe.phases[0], corpus)
    seen = order.rows(0, 2500)
    letters = seen.row[seen.source == 0]
    assert sorted(letters.tolist()) == list(range(len(corpus.table("letters", 64))))


def test_every_source_is_told_before_and_when_a_phase_begins(
    corpus_directory: Path, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", mixture={"prose": 1})
    recipe = load_recipe(path, overrides=["mixture.letters.epochs=1 %", "mixture.prose=1"])
    planned = plan(recipe, corpus_path=corpus_directory, start=None)
    lines = describe_plan(planned).splitlines()
    (letters,) = [line for line in lines if line.startswith("    letters: ")]
    (prose,) = [line for line in lines if line.startswith("    prose: ")]
    assert letters.endswith(" tokens, 0.01 epochs")
    sources = planned["phases"][0]["sources"]
    assert sources["letters"]["rows"] + sources["prose"]["rows"] == 120
    assert f" {sources['prose']['rows']:,} rows (" in prose
    train(recipe_of(BUDGETS), out=tmp_path / "run", corpus_path=corpus_directory, command=[])
    assert "pretraining reads letters: " in told.text
    assert len(read_json_lines(tmp_path / "run" / "ledger.jsonl")) == 20


def test_a_budget_that_does_not_fit_is_refused_before_the_first_step(
    corpus_directory: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"mixture of pretraining: .* less"):
        train(
            recipe_of({"letters": {"tokens": 3000}}),
            out=tmp_path / "run", corpus_path=corpus_directory, command=["test"],
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
