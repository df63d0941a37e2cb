"""`check` reads all of a corpus: tokens that text can have, in rows that hold each exactly once."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import ipc

from ettin.check import check
from ettin.check.corpora import read_shard
from ettin.data.corpus_writing import SourceWriter
from tests.restated import restated

Chunks = list[list[dict[str, int]]]


@pytest.fixture
def corpus(corpus_directory: Path, tmp_path: Path) -> Path:
    """A copy of the shared corpus that a test may damage."""
    return Path(shutil.copytree(corpus_directory, tmp_path / "corpus"))


def rewrite(path: Path, columns: Callable[[pyarrow.Table], pyarrow.Table]) -> None:
    """Replace an Arrow file by what a function makes of its table."""
    with ipc.open_file(path.read_bytes()) as reader:
        changed = columns(reader.read_all()).combine_chunks()
    with pyarrow.OSFile(str(path), "wb") as file, ipc.new_file(file, changed.schema) as writer:
        writer.write_table(changed)


def rows_changed(change: Callable[[Chunks], object]) -> Callable[[pyarrow.Table], pyarrow.Table]:
    def changed(table: pyarrow.Table) -> pyarrow.Table:
        rows = table.column("chunks").to_pylist()
        change(rows)
        return pyarrow.table({"chunks": pyarrow.array(rows, table.schema.field("chunks").type)})

    return changed


def tokens_changed(
    change: Callable[[list[list[int]]], object],
) -> Callable[[pyarrow.Table], pyarrow.Table]:
    def changed(table: pyarrow.Table) -> pyarrow.Table:
        tokens = table.column("tokens").to_pylist()
        change(tokens)
        column = pyarrow.array(tokens, table.schema.field("tokens").type)
        return table.set_column(2, table.schema.field("tokens"), column)

    return changed


def set_token(value: int) -> Callable[[list[list[int]]], object]:
    return lambda tokens: tokens[3].__setitem__(0, value)


def set_chunk(**changed: int) -> Callable[[Chunks], object]:
    return lambda rows: rows[0][0].update(changed)


ROWS, TOKENS = "prose/rows-64.arrow", "prose/tokens-00000.arrow"


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        (TOKENS, tokens_changed(set_token(0)), "ids that no text has"),
        (TOKENS, tokens_changed(set_token(60_000)), "ids that no text has"),
        (TOKENS, lambda table: table.slice(0, len(table) - 1), "documents, the manifest says"),
        (TOKENS, tokens_changed(lambda tokens: tokens[5].pop()), "tokens, the manifest says"),
        (TOKENS, lambda table: table.drop_columns(["id"]), "lacks one of the columns"),
        (ROWS, rows_changed(set_chunk(document=9_999)), "names documents that are not there"),
        (ROWS, rows_changed(set_chunk(length=9_999)), "names tokens that are not there"),
        (ROWS, rows_changed(set_chunk(start=1, length=1)), "cuts documents elsewhere"),
        (ROWS, rows_changed(lambda rows: rows.pop()), "rows, the manifest says"),
        (ROWS, rows_changed(lambda rows: rows[0].append(rows[1][0])), "in another row too"),
        (ROWS, rows_changed(lambda rows: rows[0].extend(rows.pop())), "rows of more than 64"),
        (ROWS, rows_changed(lambda rows: rows[0].clear()), "boundaries of rows"),
    ],
)  # fmt: skip
def test_a_corpus_that_contradicts_itself_is_found_although_its_hashes_are_right(
    corpus: Path, file: str, change: Callable[[pyarrow.Table], pyarrow.Table], sentence: str
) -> None:
    rewrite(corpus / file, change)
    problems = check(restated(corpus))
    assert any(sentence in problem for problem in problems), problems


@pytest.mark.parametrize("vocab_size", [50_000, 70_000])
def test_ids_between_those_of_text_are_found_wherever_they_stand(
    tmp_path: Path, vocab_size: int
) -> None:
    ranges = [[4, 1000], [1003, 40_000], [40_000, 40_001], [40_002, vocab_size - 8]]
    facts = {"tokenizer": {"ordinary_ranges": ranges}}
    allowed = np.concatenate([np.arange(*each, dtype=np.uint32) for each in ranges])
    tokens = np.random.default_rng(0).choice(allowed, 300_000)
    tokens[:4], tokens[-4:] = (4, 999, 1003, 40_000), (39_999, 40_002, 4, vocab_size - 9)
    path = tmp_path / "text" / "tokens-00000.arrow"
    for place, strange in [
        (0, None), (0, 3), (299_999, 1000), (131_072, 1001), (131_071, 1002), (7, 40_001),
        (299_999, vocab_size - 8), (200_000, 0),
    ]:  # fmt: skip
        changed = tokens.copy()
        if strange is not None:
            changed[place] = strange
        shutil.rmtree(path.parent, ignore_errors=True)
        with SourceWriter(path.parent, padded_vocab_size=vocab_size) as writer:
            writer.add("a", "a", changed[:1])
            writer.add("b", "b", changed[1:])
        shard = read_shard(path, facts)
        assert shard.sizes.tolist() == [1, 299_999]
        assert bool(shard.problems) == (strange is not None), (place, strange)


def test_every_token_has_to_stand_in_a_row(corpus: Path) -> None:
    rewrite(corpus / ROWS, rows_changed(lambda rows: rows.pop()))
    found = check(restated(corpus, lambda facts: facts["sources"]["prose"]["rows"]["64"].update(
        train=facts["sources"]["prose"]["rows"]["64"]["train"] - 1)))  # fmt: skip
    assert any("do not hold every token" in problem for problem in found)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda facts: facts["tokenizer"].update(size=500), "its size is 512"),
        (lambda facts: facts["tokenizer"]["special"].update(mask=9), "its special is"),
        (lambda facts: facts["tokenizer"].update(fingerprint="e" * 32), "fingerprint"),
        (lambda facts: facts.pop("sources"), "lacks 'sources'"),
        (lambda facts: facts.update(sources=[1, 2]), "not as ettin writes it"),
        (
            lambda facts: facts["sources"]["prose"].update(shards=[10**30]),
            "documents, the manifest",
        ),
        (lambda facts: facts.update(context_lengths=[64, 4096]), "lacks '4096'"),
    ],
)
def test_a_manifest_that_does_not_fit_the_corpus_is_found(
    corpus: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    problems = check(restated(corpus, change))
    assert any(sentence in problem for problem in problems), problems


def test_an_arrow_file_whose_buffers_lie_is_a_sentence(corpus: Path) -> None:
    path = corpus / TOKENS
    content = bytearray(path.read_bytes())
    draw = np.random.default_rng(3)
    for place in draw.integers(8, len(content) - 6, 40):
        content[place] = draw.integers(256)
    path.write_bytes(bytes(content))
    assert check(restated(corpus))
