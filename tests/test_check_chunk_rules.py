"""`check` knows where the chunk rule that a corpus states may cut its documents, and where not."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import ipc

from ettin.check import check
from ettin.data.chunking import ChunkRule
from ettin.data.corpus import Corpus, Split, rows_path
from ettin.data.packing import id_hash, plan_rows
from tests.restated import restated

LENGTH = 64
RULE = ChunkRule(minimum_length=31, skip_below=9)
Rows = list[list[dict[str, int]]]


@pytest.fixture(scope="module")
def cut(corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared corpus with rows as `RULE` cuts them, which its manifest states."""
    path = Path(shutil.copytree(corpus_directory, tmp_path_factory.mktemp("cut") / "corpus"))
    before, tables = Corpus.open(corpus_directory), {}
    for source in before.source_names:
        documents = before.documents(source)
        train = np.unique(before.table(source, LENGTH).all_chunks().document)
        held_out = np.setdiff1d(np.arange(len(documents)), train)
        tables[source] = {"train": 0, "held_out": 0, "tokens": 0, "fill": 1.0}
        chosen_of: dict[Split, Any] = {"train": train, "held-out": held_out}
        for split, chosen in chosen_of.items():
            hashes = [id_hash(documents.id(each)) for each in chosen.tolist()]
            (block,) = plan_rows(
                chosen, documents.token_counts[chosen], context_length=LENGTH, rule=RULE,
                hashes=np.array(hashes, np.uint64),
            )  # fmt: skip
            names = [each.tolist() for each in block.chunks]
            chunks = [
                dict(zip(block.chunks._fields, each, strict=True))
                for each in zip(*names, strict=True)
            ]
            rows = [
                chunks[begin:end]
                for begin, end in zip(block.offsets[:-1], block.offsets[1:], strict=True)
            ]
            write(rows_path(path / source, LENGTH, split), rows)
            tables[source][split.replace("-", "_")] = len(rows)
            tables[source]["tokens"] += block.tokens if split == "train" else 0

    def change(facts: dict[str, Any]) -> None:
        facts["chunk_rules"] = {str(LENGTH): vars(RULE)}
        for source, table in tables.items():
            facts["sources"][source]["rows"][str(LENGTH)] = table

    return restated(path, change)


@pytest.fixture
def corpus(cut: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(cut, tmp_path / "corpus"))


def write(path: Path, rows: Rows) -> None:
    kind = ipc.open_file(path.read_bytes()).schema.field("chunks").type
    table = pyarrow.table({"chunks": pyarrow.array(rows, kind)})
    with pyarrow.OSFile(str(path), "wb") as file, ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def of_one_document(
    rows: Rows, wanted: Callable[[list[dict[str, int]]], bool]
) -> list[dict[str, int]]:
    """The pieces, in order, of the first document whose pieces are as wanted."""
    pieces: dict[int, list[dict[str, int]]] = {}
    for row in rows:
        for chunk in row:
            pieces.setdefault(chunk["document"], []).append(chunk)
    ordered = (sorted(each, key=lambda chunk: chunk["start"]) for each in pieces.values())
    return next(each for each in ordered if wanted(each))


def is_filled(pieces: list[dict[str, int]]) -> bool:
    """Whether the last piece took something from the one before, and may take one token more."""
    return len(pieces) > 2 and 40 < pieces[-2]["length"] < LENGTH - 2


def test_rows_cut_by_the_stated_rule_are_sound(corpus: Path) -> None:
    assert check(corpus) == []


@pytest.mark.parametrize(
    "rule", [ChunkRule(), ChunkRule(31, 0), ChunkRule(0, 9), ChunkRule(31, 12), ChunkRule(20, 9)]
)
def test_rows_cut_by_another_rule_are_not(corpus: Path, rule: ChunkRule) -> None:
    stated = {str(LENGTH): vars(rule)}
    restated(corpus, lambda facts: facts.update(chunk_rules=stated))
    problems = check(corpus)
    assert any("cuts documents elsewhere" in each or "every token" in each for each in problems)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        # A token in two pieces, in none, and a border that no rule draws there.
        (lambda pieces: pieces[-2].update(length=pieces[-2]["length"] + 1), "every token once"),
        (lambda pieces: pieces[-2].update(length=pieces[-2]["length"] - 1), "every token once"),
        (lambda pieces: pieces[0].update(length=pieces[0]["length"] - 1), "elsewhere"),
        (lambda pieces: pieces[-1].update(length=pieces[-1]["length"] - 1), "elsewhere"),
        (lambda pieces: pieces[1].update(start=pieces[1]["start"] + 1), "elsewhere"),
        (lambda pieces: pieces[-1].update(start=pieces[-2]["start"]), "in another row too"),
    ],
)
def test_a_token_in_two_pieces_or_in_none_is_found(
    corpus: Path, change: Callable[[list[dict[str, int]]], object], sentence: str
) -> None:
    path = rows_path(corpus / "prose", LENGTH, "train")
    with ipc.open_file(path.read_bytes()) as reader:
        rows = reader.read_all().column("chunks").to_pylist()
    change(of_one_document(rows, is_filled))
    write(path, rows)
    problems = check(restated(corpus))
    assert any(sentence in each for each in problems), problems
