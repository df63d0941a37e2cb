"""A first look at an export: held-out text, stock classes, the same answers every time."""

import json
from pathlib import Path

import pytest

from ettin.data.corpus import Corpus
from ettin.errors import InputError
from ettin.evaluation.models import open_model
from ettin.evaluation.quick.samples import passages, samples
from ettin.export import export
from ettin.training.trainer import train
from tests.recipes import tiny_recipe


@pytest.fixture(scope="module")
def exports(corpus_directory, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    for objective in ("mlm", "clm"):
        run = folder / "runs" / objective
        recipe = tiny_recipe(objective=objective)
        train(recipe, out=run, corpus_path=corpus_directory, command=[])
        export(str(run), out=folder / objective, objective=None, dtype="float32", command=[])
    return folder


def look(exports: Path, name: str, corpus: Path, out: Path) -> dict:
    return samples(open_model(str(exports / name)), corpus_path=corpus, out=out, command=["test"])


def test_an_encoder_fills_masked_tokens_of_held_out_text(exports, corpus_directory, tmp_path):
    result = look(exports, "mlm", corpus_directory, tmp_path)
    assert len(result["fill_mask"]) == 6
    for sample in result["fill_mask"]:
        assert "[MASK]" in sample["text"]
        probabilities = [each["probability"] for each in sample["predictions"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1
    stored = json.loads(Path(result["path"]).read_text())
    assert stored["kind"] == "samples"
    assert stored["objective"] == "mlm"


def test_a_decoder_continues_alike_with_and_without_cache(exports, corpus_directory, tmp_path):
    result = look(exports, "clm", corpus_directory, tmp_path)
    assert result["cache_equal"] is True
    assert len(result["generation"]) == 6
    assert all(sample["prompt"] for sample in result["generation"])


def test_looking_again_gives_the_same_answers(exports, corpus_directory, tmp_path):
    one = look(exports, "mlm", corpus_directory, tmp_path / "one")
    other = look(exports, "mlm", corpus_directory, tmp_path / "other")
    assert one["fill_mask"] == other["fill_mask"]


def test_passages_are_beginnings_of_held_out_documents(corpus_directory):
    corpus = Corpus.open(corpus_directory)
    found = passages(corpus, count=6)
    trained = {
        corpus.table(source, 64).document_id(chunk.document)
        for source in corpus.source_names
        for row in range(len(corpus.table(source, 64)))
        for chunk in corpus.table(source, 64).chunks(row)
    }
    assert len(found) == 6
    assert all(passage.tokens[0] == corpus.special.bos for passage in found)
    assert not trained & {passage.document for passage in found}


def test_a_directory_that_is_no_model_is_refused(corpus_directory, tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        samples(
            open_model(str(tmp_path)),
            corpus_path=corpus_directory,
            out=tmp_path / "out",
            command=[],
        )
