"""Plans tell what runs will read of each source, as soon as the corpus is there."""

import shlex
from pathlib import Path

import pytest

from ettin.errors import InputError
from ettin.suite.listing import describe
from ettin.suite.plan import make_plan
from tests.test_suite_file import written

BUDGETS = {"letters": {"epochs": 0.05}, "prose": 1}


def test_a_suite_tells_rows_tokens_and_epochs_of_a_prepared_corpus(
    corpus_directory: Path, tmp_path: Path
) -> None:
    given = {"text": None, "tokenizer": None, "mixture": BUDGETS}
    path = written(tmp_path, corpus=str(corpus_directory), **given)
    plan = make_plan(path, out=tmp_path / "out")
    trained = [job for job in plan.jobs if job.kind == "train"]
    for job in trained:
        told = job.facts()["sources"]["pretraining"]
        assert told["letters"]["epochs"] == pytest.approx(0.05, abs=0.001)
        assert sum(each["rows"] for each in told.values()) == 128
    text = describe(plan)
    assert "pretraining of encoder-nano, decoder-nano, encoder-micro, decoder-micro reads\n" in text
    assert "  letters: " in text
    assert " 0.05 epochs\n" in text


def test_a_mixture_that_does_not_fit_is_refused_by_the_plan(
    corpus_directory: Path, tmp_path: Path
) -> None:
    given = {"text": None, "tokenizer": None, "mixture": {"letters": {"epochs": 90}}}
    path = written(tmp_path, corpus=str(corpus_directory), **given)
    with pytest.raises(InputError, match=r"mixture of pretraining: .* more than the phase has"):
        make_plan(path, out=tmp_path / "out")


def test_a_suite_that_prepares_its_own_corpus_tells_nothing_yet(tmp_path: Path) -> None:
    plan = make_plan(written(tmp_path, mixture=BUDGETS), out=tmp_path / "out")
    assert all(job.sources == {} for job in plan.jobs)
    assert " reads\n" not in describe(plan)


def test_a_stored_order_is_an_input_of_the_runs_that_follow_it(tmp_path: Path) -> None:
    phase = {"name": "pretraining", "tokens": "8k", "context_length": 64, "batch_rows": 4}
    path = written(tmp_path, phases=[{**phase, "row_order": "my/order"}], cross=None)
    plan = make_plan(path, out=tmp_path / "out")
    job = next(job for job in plan.jobs if job.kind == "train")
    assert Path.cwd() / "my/order" in job.inputs
    assert f"phases.pretraining.row_order={Path.cwd() / 'my/order'}" in shlex.split(job.command)
