"""Runs that follow a stored order: what they read, resumed and asked, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ettin import files
from ettin.check import check, examine
from ettin.data.corpus import Corpus
from ettin.data.mds.source import mds_sources
from ettin.data.mds.writing import MdsWriter
from ettin.data.order_writing import permutation, write_order
from ettin.data.prepare import prepare
from ettin.data.seen.export import export
from ettin.data.seen.find import Finder
from ettin.data.seen.runs import open_run
from ettin.data.seen.show import show
from ettin.data.seen.verify import verify
from ettin.errors import InputError
from ettin.tokenizer import load_tokenizer
from ettin.training.checkpoint import list_checkpoints
from ettin.training.plan import describe_plan, plan
from ettin.training.setup import make_phases
from ettin.training.trainer import train
from tests.recipes import CONTEXT_LENGTH, tiny_recipe
from tests.runs import assert_same_run
from tests.test_cli import ettin

SAMPLES = {"books": 50, "web": 60}


@pytest.fixture(scope="module")
def corpus(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of 20 to 62 tokens out of an MDS folder, each a document and a row."""
    folder = tmp_path_factory.mktemp("published")
    draw = np.random.default_rng(5)
    ids = load_tokenizer(tokenizer_directory).ordinary_ids
    for name, count in SAMPLES.items():
        columns = {"id": "str", "input_ids": "ndarray:uint16"}
        with MdsWriter(folder / "mds" / "train" / name, columns) as writer:
            for number in range(count):
                tokens = draw.choice(ids, draw.integers(20, 63)).astype(np.uint16)
                writer.write({"id": f"{name} {number}", "input_ids": tokens})
    out = folder / "corpus"
    prepare(
        mds_sources(folder / "mds"), tokenizer=tokenizer_directory, out=out,
        context_lengths=(CONTEXT_LENGTH,), packing="none",
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def order(corpus: Path) -> Path:
    """Two epochs of the published permutation, stored by the command."""
    out = corpus.with_name("order")
    done = ettin("order", "store", corpus, "--out", out, "--epochs", 2, "--json")
    facts = json.loads(done.stdout)
    assert facts["row_order"] == str(out)
    assert (facts["order"], facts["seed"], facts["epochs"]) == ("published", 21, 2)
    return out


def recipe_of(order: Path | None, **changes: Any) -> Any:
    """20 steps of 6 rows that follow an order."""
    return tiny_recipe(phase_row_order=None if order is None else str(order), **changes)


@pytest.fixture(scope="module")
def run(corpus: Path, order: Path) -> Path:
    out = corpus.with_name("run")
    train(recipe_of(order), out=out, corpus_path=corpus, command=["test"])
    return out


def ids_by_permutation(corpus: Path) -> list[str]:
    """Ids of the training documents in the published order, two epochs of them."""
    opened = Corpus.open(corpus)
    samples = [
        (name, number, opened.documents(name).id(number))
        for name in opened.source_names
        for number in range(len(opened.documents(name)))
    ]
    kept = {
        (name, int(document))
        for name in opened.source_names
        for document in opened.table(name, CONTEXT_LENGTH).all_chunks().document
    }
    return [
        identifier
        for epoch in range(2)
        for name, number, identifier in (
            samples[sample] for sample in permutation(len(samples), 21 + epoch)
        )
        if (name, number) in kept
    ]


def documents_of(run: Path) -> list[str]:
    """Ids of the documents that a run trained on, a row each, in the order of training."""
    corpus = open_run(run).corpus
    shown = show(run)
    return [
        table.document_id(table.chunks(row["row"])[0].document)
        for row in shown.rows
        for table in (corpus.table(row["source"], CONTEXT_LENGTH),)
    ]


def test_a_run_reads_rows_in_the_order_of_the_permutation(run: Path, corpus: Path) -> None:
    expected = ids_by_permutation(corpus)
    assert documents_of(run) == expected[: 20 * 6]
    assert len(expected) // 2 < 20 * 6, "the run goes on into the second epoch"


def test_a_document_is_found_where_the_order_has_it(run: Path, corpus: Path) -> None:
    finder, expected = Finder(open_run(run)), ids_by_permutation(corpus)[: 20 * 6]
    for name in ("web 3", "books 7", expected[0], expected[-1]):
        steps = [each["step"] for each in finder.find(name).steps]
        assert steps == [place // 6 + 1 for place, each in enumerate(expected) if each == name]


def test_derived_and_recorded_ledgers_agree_and_the_order_is_exported(
    run: Path, tmp_path: Path
) -> None:
    found = verify(run)
    assert (found.equal, found.run.steps) == (True, 20)
    assert export(run, out=tmp_path / "rows", command=["test"]).facts["rows"] == 120


def test_a_run_is_asked_from_anywhere_whatever_path_its_recipe_gave(
    run: Path, order: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    recipe = (copied / "recipe.yaml").read_text()
    (copied / "recipe.yaml").write_text(recipe.replace(str(order), "a/relative/path"))
    assert show(copied).hash == show(run).hash


@pytest.mark.parametrize("kept", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(
    run: Path, corpus: Path, order: Path, tmp_path: Path, kept: int
) -> None:
    resumed = tmp_path / "run"
    shutil.copytree(run, resumed)
    (resumed / "manifest.json").unlink()
    for checkpoint in list_checkpoints(resumed)[kept + 1 :]:
        shutil.rmtree(checkpoint.path)
    # The order was moved meanwhile: what it is counts, and not where it lies.
    moved = tmp_path / "moved"
    shutil.copytree(order, moved)
    train(recipe_of(moved), out=resumed, corpus_path=corpus, command=["test"])
    assert_same_run(run, resumed)


def test_twins_read_the_same_rows_and_seeds_hide_other_tokens_of_them(
    run: Path, corpus: Path, order: Path, tmp_path: Path
) -> None:
    twin = recipe_of(order).twin()
    train(twin, out=tmp_path / "twin", corpus_path=corpus, command=["test"])
    ledgers = [(each / "ledger.jsonl").read_bytes() for each in (run, tmp_path / "twin")]
    assert ledgers[0] == ledgers[1]
    steps = [
        make_phases(recipe_of(order, seed=seed), corpus=Corpus.open(corpus))[0].load(1)
        for seed in (21, 22)
    ]
    assert (steps[0].rows.row == steps[1].rows.row).all()
    positions = [each.micro_batches[0].task.positions.tolist() for each in steps]
    assert positions[0] != positions[1]


def test_another_order_is_refused_when_a_run_goes_on(
    run: Path, corpus: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    write_order(Corpus.open(corpus), tmp_path / "other", context_length=CONTEXT_LENGTH,
                seed=22, epochs=2)  # fmt: skip
    with pytest.raises(InputError, match=r"order: begun with .*\(another row_order"):
        train(recipe_of(tmp_path / "other"), out=copied, corpus_path=corpus, command=["test"])
    with pytest.raises(InputError, match=r"phases\.0\.row_order: begun with .*, now None"):
        train(recipe_of(None), out=copied, corpus_path=corpus, command=["test"])


def test_a_missing_order_is_named_by_questions_and_by_check(
    run: Path, order: Path, tmp_path: Path
) -> None:
    assert check(run) == []
    gone = tmp_path / "gone"
    order.rename(gone)
    try:
        with pytest.raises(InputError, match=r"row_order of pretraining, .*order, is not there"):
            show(run)
        assert any(f"its row_order, {order}, is not there" in each for each in examine(run).notes)
    finally:
        gone.rename(order)
    manifest = files.read_manifest(run)
    (stated,) = manifest["facts"]["row_orders"].values()
    assert manifest["made_from"]["row_orders"] == {"pretraining": stated["fingerprint"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase_tokens": 60 * 6 * 64}, r"reads 360 rows, and .* holds 2 epochs of .*; store 4: "),
        ({"phase_context_length": 32}, r"orders rows of 64 tokens, not of 32; store another"),
        ({"phase_mixture": {"web": 1}}, "mixture has no effect with row_order"),
        ({"mixture": {"web": 1}}, "mixture: has no effect, because every phase"),
    ],
)
def test_orders_that_cannot_be_followed_are_refused_before_the_first_step(
    corpus: Path, order: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    changes.setdefault("phase_warmup_tokens", 0)
    with pytest.raises(InputError, match=message):
        train(recipe_of(order, **changes), out=tmp_path / "run", corpus_path=corpus, command=[])
    assert not (tmp_path / "run").exists()


def test_the_plan_says_which_order_is_followed(corpus: Path, order: Path) -> None:
    planned = plan(recipe_of(order), corpus_path=corpus, start=None)
    text = describe_plan(planned)
    assert f"    rows in the order that is stored in {order}\n    books: " in text
    told = planned["phases"][0]["sources"]
    assert sum(each["rows"] for each in told.values()) == 120


def test_the_command_says_what_it_stores_and_what_is_there_already(
    corpus: Path, corpus_directory: Path, order: Path, tmp_path: Path
) -> None:
    again = ettin("order", "store", corpus, "--out", order, "--epochs", 2)
    assert "is finished already; nothing to do" in again.stderr
    assert "phases.pretraining.row_order=" in again.stdout
    other = ettin("order", "store", corpus, "--out", order, "--epochs", 3, expected=2)
    assert "is another order; choose another --out" in other.stderr
    several = ettin("order", "store", corpus_directory, "--out", tmp_path / "o", expected=2)
    assert "rows of 64, 128 tokens; choose with --context-length" in several.stderr
