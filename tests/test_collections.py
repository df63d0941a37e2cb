"""Collections in folders: what is read, what is refused, what chance gives."""

import gzip
import json
import math
import random
from pathlib import Path

import pytest

from ettin.errors import InputError
from ettin.evaluation.retrieval.collections import (
    chance,
    fingerprint,
    measured_split,
    open_collection,
    write_collection,
)

CORPUS = [
    {"_id": "d1", "title": "Boats", "text": "They float.\u2028Some sink."},
    {"_id": "d2", "text": "no title"},
    {"_id": "d3", "title": "", "text": "third"},
]
QUERIES = [{"_id": "q1", "text": "what floats"}, {"_id": "q2", "text": "title"}]
TEST = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td3\t0\nq2\td2\t1\n"


def written(folder: Path, **changes: object) -> Path:
    """The small collection above, with some of its files changed; None leaves one out."""
    files: dict[str, object] = {
        "corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels_test.tsv": TEST,
        **{name.replace("__", "/").replace("_jsonl", ".jsonl").replace("_tsv", ".tsv"): each
           for name, each in changes.items()},
    }  # fmt: skip
    for name, content in files.items():
        if isinstance(content, list):
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        if isinstance(content, str):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_a_collection_is_read_as_it_stands_in_the_files(tmp_path):
    found = open_collection(written(tmp_path / "boats"))
    assert found.name == "boats"
    assert found.documents["d1"].whole == "Boats They float.\u2028Some sink."
    assert found.documents["d2"].whole == "no title"
    assert found.queries == {"q1": "what floats", "q2": "title"}
    assert found.judgements == {"test": {"q1": {"d1": 2, "d3": 0}, "q2": {"d2": 1}}}
    assert found.language == "eng"


def test_compressed_files_a_folder_of_judgements_and_no_header_mean_the_same(tmp_path):
    plain = written(tmp_path / "plain")
    other = written(
        tmp_path / "other", corpus_jsonl=None, qrels_test_tsv=None,
        qrels__test_tsv=TEST.partition("\n")[2],
    )  # fmt: skip
    content = (plain / "corpus.jsonl").read_bytes()
    (other / "corpus.jsonl.gz").write_bytes(gzip.compress(content))
    assert open_collection(other).documents == open_collection(plain).documents
    assert open_collection(other).judgements == open_collection(plain).judgements


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"corpus_jsonl": None}, r"holds no corpus\.jsonl"),
        ({"queries_jsonl": None}, r"holds no queries\.jsonl"),
        ({"qrels_test_tsv": None}, "no judgements to measure on"),
        ({"qrels_test_tsv": "q1\td1\t0\n"}, "the split is empty"),
        ({"qrels_test_tsv": ""}, "the split is empty"),
        ({"qrels_train_tsv": "query-id\tcorpus-id\tscore\n"}, "train.tsv: the split is empty"),
        ({"qrels_test_tsv": "q9\td1\t1\n"}, "line 1: the query 'q9'"),
        ({"qrels_test_tsv": TEST + "q1\td9\t1\n"}, "line 5: the document 'd9'"),
        ({"qrels_test_tsv": TEST + "q1\td1\t1\n"}, "another score for the same pair"),
        ({"qrels_test_tsv": "q1 0 d1 1\n"}, "1 columns, expected"),
        ({"qrels_test_tsv": TEST + "q1\td2\tyes\n"}, "'yes' is no whole number"),
        ({"corpus_jsonl": [*CORPUS, CORPUS[0]]}, "document id 'd1' occurs twice"),
        ({"queries_jsonl": [*QUERIES, QUERIES[0]]}, "query id 'q1' occurs twice"),
        ({"corpus_jsonl": [{"_id": "d1", "body": "?"}]}, r"no text in 'text' \(columns: _id, b"),
        ({"corpus_jsonl": "{"}, "line 1: not JSON"),
        ({"corpus_jsonl": [{"id": "d1", "text": "?"}]}, "expected an object with an _id"),
        ({"corpus_jsonl": [{"_id": "d1", "text": ""}]}, "no documents with text"),
        ({"qrels__test_tsv": TEST}, "judgements of test stand in"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_with_its_place(changes, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        open_collection(written(tmp_path / "bad", **changes))


def test_a_damaged_archive_is_refused(tmp_path):
    folder = written(tmp_path / "bad", corpus_jsonl=None)
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "d1"}' * 1000)[:20])
    with pytest.raises(InputError, match="cannot read"):
        open_collection(folder)


def test_documents_without_text_are_left_out_and_counted(tmp_path):
    corpus = [*CORPUS, {"_id": "d4", "title": " ", "text": ""}]
    folder = written(tmp_path / "gaps", corpus_jsonl=corpus, qrels_test_tsv=TEST + "q2\td4\t1\n")
    found = open_collection(folder)
    assert found.empty_documents == 1
    assert list(found.documents) == ["d1", "d2", "d3"]
    assert found.relevant("test") == {"q1": {"d1": 2, "d3": 0}, "q2": {"d2": 1}}


def test_the_test_split_is_measured_and_dev_only_without_it(tmp_path):
    both = written(tmp_path / "both", qrels_dev_tsv=TEST)
    dev = written(tmp_path / "dev", qrels_dev_tsv=TEST, qrels_test_tsv=None)
    train = written(tmp_path / "train", qrels_train_tsv=TEST, qrels_test_tsv=None)
    assert measured_split(both) == "test"
    assert measured_split(dev) == "dev"
    with pytest.raises(InputError, match="splits found: train"):
        measured_split(train)


def test_queries_that_are_measured_on_are_not_trained_on(tmp_path):
    train = "q1\td1\t1\nq2\td2\t1\n"
    folder = written(tmp_path / "leak", qrels_train_tsv=train, qrels_test_tsv="q1\td1\t1\n")
    assert open_collection(folder).training(test_split="test") == {"q2": {"d2": 1}}


def test_the_fingerprint_changes_with_every_file(tmp_path):
    seen = {
        fingerprint(written(tmp_path / "1")),
        fingerprint(written(tmp_path / "2", corpus_jsonl=CORPUS[::-1])),
        fingerprint(written(tmp_path / "3", queries_jsonl=QUERIES[::-1])),
        fingerprint(written(tmp_path / "4", qrels_test_tsv="q1\td1\t1\n")),
    }
    assert len(seen) == 4
    assert fingerprint(written(tmp_path / "again")) in seen


def test_what_is_written_is_read_back(tmp_path):
    first = open_collection(written(tmp_path / "first"))
    write_collection(
        tmp_path / "copy",
        corpus=[{"id": key, **each._asdict()} for key, each in first.documents.items()],
        queries=[{"id": key, "text": each} for key, each in first.queries.items()],
        relevant=first.judgements["test"],
        split="test",
    )
    copy = open_collection(tmp_path / "copy")
    assert copy.documents == first.documents
    assert copy.queries == first.queries
    assert copy.judgements == first.judgements


def test_chance_is_what_random_orders_reach_on_average():
    judged = {"a": {"d0": 1, "d1": 3, "d2": 0}, "b": {"d5": 1}}
    documents = [f"d{number}" for number in range(15)]
    draw, total, rounds = random.Random(0), 0.0, 4000
    for _ in range(rounds):
        draw.shuffle(documents)
        for found in judged.values():
            gained = sum(
                found.get(document, 0) / math.log2(rank + 2)
                for rank, document in enumerate(documents[:10])
            )
            best = sorted(found.values(), reverse=True)
            total += gained / sum(gain / math.log2(n + 2) for n, gain in enumerate(best)) / 2
    assert chance(judged, documents=15) == pytest.approx(total / rounds, abs=0.01)
