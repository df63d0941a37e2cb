"""A corpus whose documents are cut by another chunk rule: what its rows hold, and what is found."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import ipc

from ettin.data.chunking import ChunkRule, skipped_tokens
from ettin.data.corpus import Corpus, Split, rows_path
from ettin.data.packing import id_hash, plan_rows
from ettin.files import write_manifest
from ettin.tokenizer import load_tokenizer

RULES = {64: ChunkRule(minimum_length=31, skip_below=9), 128: ChunkRule(0, 20)}
SPLITS: tuple[Split, ...] = ("train", "held-out")


@pytest.fixture(scope="module")
def cut_anew(corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared corpus with the row tables that `RULES` give; without a manifest."""
    path = tmp_path_factory.mktemp("cut") / "corpus"
    shutil.copytree(corpus_directory, path)
    before = Corpus.open(corpus_directory)
    for source in before.source_names:
        documents = before.documents(source)
        for length, rule in RULES.items():
            for split in SPLITS:
                held = np.unique(before.table(source, length, split).all_chunks().document)
                hashes = [id_hash(documents.id(document)) for document in held.tolist()]
                blocks = plan_rows(
                    held, documents.token_counts[held], context_length=length, rule=rule,
                    hashes=np.array(hashes, dtype=np.uint64),
                )  # fmt: skip
                (block,) = blocks
                columns = {name: pyarrow.array(column.astype(np.uint32))
                           for name, column in block.chunks._asdict().items()}  # fmt: skip
                rows = pyarrow.ListArray.from_arrays(
                    pyarrow.array(block.offsets.astype(np.int32)),
                    pyarrow.StructArray.from_arrays(list(columns.values()), list(columns)),
                )
                table = pyarrow.table({"chunks": rows})
                file = rows_path(path / source, length, split)
                with ipc.new_file(str(file), table.schema) as writer:
                    writer.write_table(table)
    (path / "manifest.json").unlink()
    return path


def finished(cut_anew: Path, before: Path, out: Path, rules: dict[int, ChunkRule]) -> Corpus:
    """A copy whose manifest states these rules."""
    shutil.copytree(cut_anew, out)
    stated = {str(length): vars(rule) for length, rule in rules.items()}
    facts = Corpus.open(before).facts | {"chunk_rules": stated}
    write_manifest(out, "corpus", command=[], made_from={}, facts=facts)
    return Corpus.open(out)


@pytest.fixture(scope="module")
def corpus(
    cut_anew: Path, corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Corpus:
    return finished(cut_anew, corpus_directory, tmp_path_factory.mktemp("whole") / "c", RULES)


@pytest.mark.parametrize("length", RULES)
def test_rows_give_each_text_back_up_to_what_its_rule_leaves_out(
    corpus: Corpus, text_folder: Path, length: int
) -> None:
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    for source in corpus.source_names:
        pieces: dict[str, dict[int, list[int]]] = {}
        for split in SPLITS:
            table = corpus.table(source, length, split)
            for row in range(len(table)):
                tokens, lengths = table.tokens(row)
                assert len(tokens) == lengths.sum() <= length
                ids = np.split(tokens, np.cumsum(lengths)[:-1])
                for chunk, held in zip(table.chunks(row), ids, strict=True):
                    assert held[0] == corpus.special.bos
                    name = table.document_id(chunk.document)
                    pieces.setdefault(name, {})[chunk.start] = held[1:].tolist()
        documents = corpus.documents(source)
        left_out = 0
        for number, count in enumerate(documents.token_counts.tolist()):
            found = pieces[documents.id(number)]
            joined = [each for start in sorted(found) for each in found[start]]
            # EOS stands where the text ends, and nowhere else.
            ended = joined[-1] == corpus.special.eos
            assert corpus.special.eos not in joined[:-1]
            kept = joined[:-1] if ended else joined
            assert ended == (len(kept) == count)
            left_out += count - len(kept)
            text = (text_folder / source / documents.id(number)).read_bytes()
            assert tokenizer.decode_bytes(kept) == text[: len(tokenizer.decode_bytes(kept))]
        rule = RULES[length]
        assert left_out > 0
        assert left_out == skipped_tokens(documents.token_counts, context_length=length, rule=rule)


def test_a_corpus_cut_by_the_rule_that_it_states_is_sound(corpus: Corpus) -> None:
    assert corpus.chunk_rule(64) == RULES[64]
    assert corpus.problems() == []


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {64: RULES[64]},
        {64: ChunkRule(32, 9), 128: RULES[128]},
        {64: ChunkRule(31, 8), 128: RULES[128]},
    ],
)
def test_a_corpus_cut_by_another_rule_than_it_states_is_not(
    cut_anew: Path, corpus_directory: Path, tmp_path: Path, rules: dict[int, ChunkRule]
) -> None:
    problems = finished(cut_anew, corpus_directory, tmp_path / "corpus", rules).problems()
    assert problems
    assert all("every token that the chunk rule keeps" in problem for problem in problems)
