"""One process of several fails, or is refused: all end, none hangs, and the message names it."""

import pytest

from ettin import files
from tests.ranks import codes, run_ranks, train_words
from tests.recipes import write_recipe
from tests.runs import tags


def test_processes_are_refused_together(corpus_directory, tmp_path):
    recipe, out = write_recipe(tmp_path / "recipe.yaml"), tmp_path / "run"
    with files.locked(out):
        ended = run_ranks(train_words(recipe, out, corpus_directory), count=2)
    assert codes(ended) == [2, 2], ended
    assert "is in use by process" in ended[0].errors
    assert "rank 0 of 2" in ended[1].errors
    assert not out.exists()


@pytest.mark.slow
def test_another_recipe_is_refused_by_all_processes(corpus_directory, tmp_path):
    recipe, out = write_recipe(tmp_path / "recipe.yaml"), tmp_path / "run"
    words = train_words(recipe, out, corpus_directory)
    assert codes(run_ranks(words, count=2)) == [0, 0]
    assert codes(run_ranks(words, count=2)) == [0, 0]  # finished already
    ended = run_ranks([*words, "seed=22"], count=2)
    assert codes(ended) == [2, 2], ended
    assert "seed: begun with 21, now 22" in ended[0].errors


@pytest.mark.slow
def test_processes_with_different_recipes_do_not_train_together(corpus_directory, tmp_path):
    recipe, out = write_recipe(tmp_path / "recipe.yaml"), tmp_path / "run"
    ended = run_ranks(train_words(recipe, out, corpus_directory), count=2, done=("other=1",))
    assert codes(ended) == [2, 2], ended
    assert "rank 1 of 2: this process has another recipe" in ended[0].errors
    assert not out.exists()


@pytest.mark.slow
def test_a_process_that_fails_ends_all_and_is_named(corpus_directory, tmp_path):
    recipe, out = write_recipe(tmp_path / "recipe.yaml"), tmp_path / "run"
    words = train_words(recipe, out, corpus_directory)
    ended = run_ranks(words, count=2, done=("fail=1@9",))
    assert codes(ended) == [1, 1], ended
    assert "[rank1]: RuntimeError: a defect" in ended[1].errors
    assert tags(out) == ["step0", "step7"]
    assert codes(run_ranks(words, count=1)) == [0]
    assert tags(out) == ["step0", "step7", "step14", "step20"]


@pytest.mark.slow
def test_a_process_that_cannot_write_leaves_no_half_checkpoint(corpus_directory, tmp_path):
    recipe, out = write_recipe(tmp_path / "recipe.yaml"), tmp_path / "run"
    words = train_words(recipe, out, corpus_directory)
    ended = run_ranks(words, count=2, done=("signal=0@5",))
    assert codes(ended) == [3, 3], ended
    ended = run_ranks(words, count=2, done=("small=1",))
    assert codes(ended) == [1, 1], ended
    assert "rank 1 of 2" in ended[0].errors
    assert tags(out) == ["step0", "step5"]
    assert not list(out.rglob("*.partial"))
