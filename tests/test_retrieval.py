"""Retrieval end to end on made-up collections, where a few shared words decide what is relevant."""

import dataclasses
import itertools
import json
import math
import os
import random
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from ettin.errors import InputError
from ettin.evaluation.models import EvaluatedModel, open_model
from ettin.evaluation.retrieval import benchmark, collections, mteb_tasks, training_pairs
from ettin.evaluation.retrieval import family as retrieval
from ettin.evaluation.task import Measurement, Request
from ettin.tokenizer import load_tokenizer
from tests.stock_models import CLASSES, SMALL

DATA = Path(os.environ.get("ETTIN_DATA", Path(__file__).parents[2] / "shared" / "data"))
SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]


def made_up(folder: Path, *, train: int, documents: int = 120, test: int = 24) -> Path:
    """A query is the last two words of its document, the other way round; no other holds both."""
    draw = random.Random(5)
    lexicon = ["".join(draw.choices(SYLLABLES[24:], k=3)) for _ in range(400)]
    twice = [syllable * 2 for syllable in SYLLABLES[:24]]
    subjects = draw.sample(list(itertools.combinations(twice, 2)), documents)
    texts = [[*draw.sample(lexicon, 8), *reversed(subject)] for subject in subjects]
    folder.mkdir(parents=True)
    rows = {
        "corpus": [{"_id": f"d{n}", "title": "", "text": " ".join(t)} for n, t in enumerate(texts)],
        "queries": [
            {"_id": f"q{n}", "text": " ".join(subject)} for n, subject in enumerate(subjects)
        ],
    }
    for name, each in rows.items():
        lines = "".join(json.dumps(row) + "\n" for row in each)
        (folder / f"{name}.jsonl").write_text(lines)
    for split, numbers in (("test", range(test)), ("train", range(test, test + train))):
        if numbers:
            lines = "".join(f"q{n}\td{n}\t1\n" for n in numbers)
            (folder / f"qrels_{split}.tsv").write_text(lines)
    return folder


@pytest.fixture(scope="module")
def pair(tokenizer_directory, tmp_path_factory) -> Path:
    """A small random encoder and decoder, as they are before any training."""
    folder = tmp_path_factory.mktemp("pair")
    for kind, (config, model) in CLASSES.items():
        torch.manual_seed(3)
        small = {**SMALL, "hidden_size": 64, "num_hidden_layers": 2}
        model(config(**small)).save_pretrained(folder / kind)
        load_tokenizer(tokenizer_directory).save(folder / kind, closing=kind == "encoder")
    return folder


@pytest.fixture
def briefly(monkeypatch):
    """The preset `quick` with a learning rate for models with 64 hidden units."""
    quick = {**training_pairs.PRESETS["quick"], "learning_rates": [2e-3], "steps": 100}
    monkeypatch.setitem(training_pairs.PRESETS, "quick", quick)


def request(tmp_path: Path, **changes: Any) -> Request:
    asked = Request(
        data=None, offline=True, limit=None, seed=1, mode="ettin", preset="quick", pooling=None,
        batch_tokens=4096, device="cpu", out=tmp_path / "results",
    )  # fmt: skip
    return dataclasses.replace(asked, **changes)


def measured(model: EvaluatedModel, asked: Request, name: str = "made-up") -> Measurement:
    return retrieval.measure(name, model, asked, retrieval.settings(name, model, asked))


def main(found: Measurement) -> float:
    return found.metrics["ndcg_at_10"].value


def test_scores_equal_the_formula_of_ndcg_and_recall_by_hand(tmp_path):
    folder = made_up(tmp_path / "made-up", train=0, documents=30, test=6)
    graded = "q0\td0\t3\nq0\td1\t1\nq0\td2\t0\nq1\td1\t1\nq1\td20\t2\nq2\td9\t1\n"
    (folder / "qrels_test.tsv").write_text(graded)
    collection = collections.open_collection(folder)
    task = mteb_tasks.from_collection(collection, "test")
    results = mteb_tasks.search(task, mteb_tasks.bm25(), batch_rows=1)["default"]
    by_hand = []
    for query, judged in collection.judgements["test"].items():
        gains = [judged.get(document, 0) for document, _ in results[query].best]
        ideal = sorted(judged.values(), reverse=True)
        gained, best = (
            sum(gain / math.log2(rank + 2) for rank, gain in enumerate(each))
            for each in (gains, ideal)
        )
        by_hand.append(gained / best)
        assert results[query].metrics["ndcg_at_10"] == pytest.approx(by_hand[-1])
        relevant = [document for document, score in judged.items() if score > 0]
        hits = [document for document, _ in results[query].best if document in relevant]
        recall = len(hits) / len(relevant)
        assert results[query].metrics["recall_at_10"] == pytest.approx(recall)
    assert len(set(by_hand)) > 1
    summary = mteb_tasks.summary({"default": results})["ndcg_at_10"]
    assert summary.value == pytest.approx(statistics.fmean(by_hand))
    assert summary.stderr == pytest.approx(statistics.stdev(by_hand) / math.sqrt(3))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_words_decide_and_training_beats_the_model_as_it_stands(pair, kind, briefly, tmp_path):
    model = open_model(str(pair / kind))
    plain = made_up(tmp_path / "plain" / "made-up", train=0, documents=250)
    before = measured(model, request(tmp_path, path=plain))
    trained = made_up(tmp_path / "made-up", train=220, documents=250)
    shares: list[float] = []
    asked = request(tmp_path, path=trained, advance=lambda share, _note: shares.append(share))
    after = measured(model, asked)
    assert before.facts["trained"] is False
    assert retrieval.settings("x", model, request(tmp_path, path=plain))["training"].startswith(
        "none"
    )
    assert after.facts["trained"] is True
    assert after.facts["steps"] == 100
    assert after.baselines["bm25"] > 0.95
    assert main(before) < 0.6 < after.baselines["bm25"]
    assert main(after) > main(before) + 0.15
    assert after.examples == len(after.samples) == 24
    assert after.metrics["ndcg_at_10"].stderr == pytest.approx(
        statistics.stdev(sample["ndcg_at_10"] for sample in after.samples) / math.sqrt(24)
    )
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.1
    assert shares[-1] == pytest.approx(1)


def test_the_same_settings_measure_the_same(pair, monkeypatch, tmp_path):
    monkeypatch.setitem(training_pairs.PRESETS["quick"], "steps", 5)
    model = open_model(str(pair / "encoder"))
    folder = made_up(tmp_path / "made-up", train=90)
    one, two = (measured(model, request(tmp_path / str(n), path=folder, limit=6)) for n in range(2))
    assert one == two


def test_settings_hold_all_that_a_result_depends_on(pair, tmp_path):
    model = open_model(str(pair / "encoder"))
    asked = request(tmp_path, path=made_up(tmp_path / "made-up", train=90))
    found = retrieval.settings("made-up", model, asked)
    assert found["training"]["learning_rates"] == [3e-4]
    assert found["training"]["batch_rows"] == 32
    published = retrieval.settings("x", model, dataclasses.replace(asked, preset="published"))
    assert published["training"]["learning_rates"] == [1e-5, 2e-5, 3e-5, 5e-5, 8e-5, 1e-4, 3e-4]
    changes: dict[str, Any] = {"limit": 3, "seed": 2, "preset": "published", "pooling": "cls"}
    for name, value in changes.items():
        changed = dataclasses.replace(asked, **{name: value})
        assert retrieval.settings("made-up", model, changed) != found
    with (tmp_path / "made-up" / "queries.jsonl").open("a") as file:
        file.write('{"_id": "more", "text": "?"}\n')
    assert retrieval.settings("made-up", model, asked) != found


def test_a_limit_cuts_queries_and_documents_and_says_so(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(mteb_tasks, "OTHER_DOCUMENTS", 20)
    folder = made_up(tmp_path / "made-up", train=0)
    model = open_model(str(pair / "encoder"))
    found = measured(model, request(tmp_path, path=folder, limit=5))
    assert found.examples == 5
    assert found.facts["limited"] == {
        "default": "5 of 24 queries, 5 judged and 20 other documents of 120"
    }
    assert found.facts["documents"] == 25


def test_learning_rates_are_chosen_on_held_out_training_queries(tmp_path):
    folder = made_up(tmp_path / "made-up", train=90)
    collection = collections.open_collection(folder)
    training = {"learning_rates": [1e-4, 1e-3], "negatives": "in-batch and one hard"}
    pairs = training_pairs.own_pairs(collection, test_split="test", training=training)
    assert pairs.held_out is not None
    held = set(pairs.held_out.dataset["default"]["held-out"]["queries"]["text"])
    trained = set(pairs.examples["anchor"])
    tested = {collection.queries[query] for query in collection.judgements["test"]}
    assert len(held) == 18
    assert len(trained) == 72
    assert not held & trained
    assert not (held | trained) & tested
    for row in pairs.examples:
        assert set(row["anchor"].split()) <= set(row["positive"].split())
        assert set(row["anchor"].split()) & set(row["negative"].split())
        assert row["negative"] != row["positive"]


def test_too_few_training_queries_are_refused(pair, tmp_path):
    model = open_model(str(pair / "encoder"))
    asked = request(tmp_path, path=made_up(tmp_path / "made-up", train=1))
    with pytest.raises(InputError, match="1 training queries beside those of test are too few"):
        measured(model, asked)


def test_a_task_of_the_hub_that_was_fetched_is_measured_like_there(pair, monkeypatch, tmp_path):
    monkeypatch.setitem(training_pairs.PRESETS["quick"], "steps", 3)
    folder = made_up(tmp_path / "data" / "retrieval" / "scifact", train=0)
    described = {"task": "SciFact", "revision": "abc", "split": "test"}
    (folder / collections.DESCRIPTION).write_text(json.dumps(described))
    collection = collections.open_collection(folder)
    texts = [each.whole for each in collection.documents.values()]
    triples = {"query": list(collection.queries.values())[30:], "positive": texts[30:],
               "negative": texts[29:-1]}  # fmt: skip
    store_triples(tmp_path / "data" / training_pairs.MSMARCO_FOLDER, triples)
    model = open_model(str(pair / "encoder"))
    found = measured(model, request(tmp_path, data=tmp_path / "data", limit=10), "scifact")
    assert found.data == "abc"
    assert found.facts["examples"] == 90
    assert found.examples == 10
    assert found.baselines["bm25"] > 0.9


def store_triples(folder: Path, triples: dict[str, list[str]]) -> None:
    from datasets import Dataset

    folder.mkdir(parents=True)
    for name in ("train", "held_out"):
        Dataset.from_dict(triples).to_parquet(folder / f"{name}.parquet")


def test_held_out_triples_become_a_collection_of_their_passages(tmp_path):
    triples = {"query": ["a b", "c d"], "positive": ["a x b", "c y d"], "negative": ["z", "a x b"]}
    store_triples(tmp_path / "triples", triples)
    training = {"learning_rates": [1e-4, 1e-3], "steps": 1, "batch_rows": 1}
    pairs = training_pairs.msmarco_pairs(tmp_path / "triples", training=training, offline=True)
    assert pairs.held_out is not None
    assert pairs.examples.to_dict() == {"anchor": ["a b"], "positive": ["a x b"], "negative": ["z"]}
    data = pairs.held_out.dataset["default"]["held-out"]
    assert data["corpus"]["text"] == ["a x b", "z", "c y d"]
    assert data["relevant_docs"] == {"q0": {"d0": 1}, "q1": {"d2": 1}}


def test_stored_tasks_are_read_back(tmp_path):
    folder = made_up(tmp_path / "made-up", train=0)
    task = mteb_tasks.from_collection(collections.open_collection(folder), "test")
    for where, subset in ((tmp_path / "one", "default"), (tmp_path / "several", "python")):
        task.dataset = {subset: next(iter(task.dataset.values()))}
        mteb_tasks.store(task, where)
        copy = mteb_tasks.from_hub("scifact")
        mteb_tasks.load(copy, where)
        assert list(copy.dataset) == [subset]
        kept, read = task.dataset[subset]["test"], copy.dataset[subset]["test"]
        assert read["corpus"].to_dict() == kept["corpus"].to_dict()
        assert read["relevant_docs"] == kept["relevant_docs"]
        benchmark.keep(task, where / "any")
        benchmark.restore(copy, where / "any")
        assert copy.dataset[subset]["test"]["relevant_docs"] == kept["relevant_docs"]
        assert copy.dataset[subset]["test"]["queries"].to_dict() == kept["queries"].to_dict()


def test_what_cannot_be_measured_is_refused_with_what_to_do(pair, tmp_path):
    model = open_model(str(pair / "encoder"))
    data = made_up(tmp_path / "data" / "retrieval" / "boats", train=0).parents[1]
    asked = request(tmp_path, data=data)
    with pytest.raises(InputError, match="no task retrieval/boatz; did you mean 'boats'"):
        retrieval.settings("boatz", model, asked)
    with pytest.raises(InputError, match="no preset 'publshed'; did you mean 'published'"):
        retrieval.settings("boats", model, dataclasses.replace(asked, preset="publshed"))
    with pytest.raises(InputError, match="cannot be limited"):
        retrieval.settings("mteb-all", model, dataclasses.replace(asked, limit=3))
    with pytest.raises(InputError, match="ettin prefetch --tasks retrieval/"):
        measured(model, asked, "nfcorpus")


@pytest.mark.skipif(not DATA.exists(), reason="no local data")
@pytest.mark.parametrize(("name", "least"), [("cranfield", 0.30), ("scifact", 0.75)])
def test_words_find_what_is_relevant_in_real_collections(name, least):
    folder = DATA / "retrieval" / name
    collection = collections.open_collection(folder)
    task = mteb_tasks.from_collection(collection, collections.measured_split(folder))
    mteb_tasks.cut(task, 60)
    found = mteb_tasks.search(task, mteb_tasks.bm25(), batch_rows=1)
    assert least < mteb_tasks.summary(found)["ndcg_at_10"].value < 0.95
