"""The token store: what was written is read back, by row, by document and by id."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import ipc

from ettin.data.corpus import Corpus, rows_path
from ettin.data.corpus_writing import SourceWriter, check_source_names, write_rows
from ettin.data.documents import Documents
from ettin.errors import InputError
from ettin.files import list_files, verify, write_manifest
from ettin.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def corpus(corpus_directory: Path) -> Corpus:
    return Corpus.open(corpus_directory)


@pytest.mark.parametrize("length", [64, 128])
def test_every_byte_of_text_is_recovered_from_the_rows(
    corpus: Corpus, text_folder: Path, length: int
) -> None:
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    special = corpus.special
    for source in corpus.source_names:
        pieces: dict[str, dict[int, bytes]] = {}
        for split in ("train", "held-out"):
            table = corpus.table(source, length, split)
            for row in range(len(table)):
                tokens, lengths = table.tokens(row)
                assert len(tokens) == lengths.sum() <= length
                starts = np.cumsum(lengths) - lengths
                for chunk, begin, count in zip(table.chunks(row), starts, lengths, strict=True):
                    ids = tokens[begin : begin + count].tolist()
                    assert ids[0] == special.bos
                    is_end = chunk.start + chunk.length == len(
                        table.documents.tokens(chunk.document)
                    )
                    assert (ids[-1] == special.eos) == is_end
                    text = tokenizer.decode_bytes(ids[1 : -1 if is_end else None])
                    pieces.setdefault(table.document_id(chunk.document), {})[chunk.start] = text
        files = {path.name: path.read_bytes() for path in (text_folder / source).iterdir()}
        joined = {
            name: b"".join(found[start] for start in sorted(found))
            for name, found in pieces.items()
        }
        assert joined == files


def test_facts_agree_with_the_tables(corpus: Corpus) -> None:
    assert corpus.source_names == ("prose", "letters")
    assert corpus.padded_vocab_size == 512
    assert corpus.ordinary_ids.tolist() == list(range(4, 512))
    for source in corpus.source_names:
        facts = corpus.source_facts(source)
        counts = corpus.documents(source).token_counts
        assert (facts["documents"], facts["tokens"]) == (len(counts), counts.sum())
        for length, rows in facts["rows"].items():
            tables = [corpus.table(source, int(length), split) for split in ("train", "held-out")]
            assert [len(table) for table in tables] == [rows["train"], rows["held_out"]]
            held = np.unique(tables[1].all_chunks().document)
            assert len(held) == facts["held_out_documents"]
            assert counts[held].sum() == facts["held_out_tokens"]
            assert not set(held) & set(tables[0].all_chunks().document)


def test_documents_are_found_by_id_and_rows_by_document(corpus: Corpus) -> None:
    table = corpus.table("prose", 64)
    for row in (0, len(table) // 2, len(table) - 1):
        for chunk in table.chunks(row):
            name = table.document_id(chunk.document)
            assert table.documents.find(name) == chunk.document
            assert table.documents.origin(chunk.document) == name
            rows = table.rows_of_id(name)
            assert row in rows
            expected = [
                number
                for number in range(len(table))
                if any(each.document == chunk.document for each in table.chunks(number))
            ]
            assert rows.tolist() == expected
    assert table.documents.find("absent") is None
    assert len(table.rows_of_id("absent")) == 0


def test_what_is_not_there_is_refused_with_the_way_to_get_it(
    corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"not 1024; run: ettin prepare .*--context-length 64,128,1024"
    ):
        corpus.table("prose", 1024)
    with pytest.raises(InputError, match="did you mean 'prose'"):
        corpus.table("pros", 64)
    with pytest.raises(IndexError):
        corpus.table("prose", 64).tokens(10**6)
    with pytest.raises(InputError, match="unfinished"):
        Corpus.open(tmp_path)


def test_shards_are_cut_and_read_as_one(tmp_path: Path) -> None:
    documents = [
        (f"id{n}", f"file:{n}", np.arange(n + 1, dtype=np.uint32) * 1000) for n in range(40)
    ]
    with SourceWriter(tmp_path / "s", padded_vocab_size=1 << 20, shard_tokens=100) as writer:
        for document in documents:
            writer.add(*document)
    assert len(writer.shard_documents) > 5
    read = Documents(tmp_path / "s", writer.shard_documents)
    assert [(read.id(n), read.origin(n), read.tokens(n).tolist()) for n in range(len(read))] == [
        (name, origin, tokens.tolist()) for name, origin, tokens in documents
    ]
    assert read.token_counts.tolist() == [len(tokens) for _, _, tokens in documents]
    assert read.find("id39") == 39
    assert read.tokens(3).dtype == np.uint32
    with pytest.raises(IndexError):
        read.tokens(40)


def test_files_are_plain_arrow_for_other_readers(corpus_directory: Path) -> None:
    with pyarrow.memory_map(str(corpus_directory / "prose/tokens-00000.arrow")) as file:
        tokens = ipc.open_file(file).read_all()
        assert tokens.schema.names == ["id", "origin", "tokens"]
        assert tokens.schema.field("tokens").type == pyarrow.large_list(pyarrow.uint16())
    with pyarrow.memory_map(str(corpus_directory / "prose/rows-64.arrow")) as file:
        rows = ipc.open_file(file).read_all()
        assert set(rows["chunks"][0].as_py()[0]) == {"document", "start", "length"}


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "tokenizer", "Ok", "a" * 101])
def test_names_that_are_no_safe_folders_are_refused(name: str) -> None:
    check_source_names(["ok", "ok-2", "0.x_y"])
    with pytest.raises(InputError, match="source name"):
        check_source_names(["ok", name])


def test_a_sound_corpus_has_no_problems_and_a_flipped_byte_is_found(
    corpus: Corpus, tmp_path: Path
) -> None:
    assert corpus.problems() == []
    assert verify(corpus.path) == []
    for number, name in enumerate(list_files(corpus.path)):
        copy = tmp_path / str(number)
        shutil.copytree(corpus.path, copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 4
        (copy / name).write_bytes(content)
        assert verify(copy) == [f"{copy / name}: content differs from the manifest"]


def _changed_table(corpus: Corpus, out: Path, *, documents: list[int], counts: list[int]) -> Corpus:
    """A copy whose hashes are right but whose training table of 64 was planned from a mistake."""
    shutil.copytree(corpus.path, out)
    rows_path(out / "prose", 64, "train").unlink()
    write_rows(
        out / "prose", np.array(documents), np.array(counts),
        context_length=64, packing="chunks", held_out=False,
    )  # fmt: skip
    write_manifest(out, "corpus", command=[], made_from={}, facts=corpus.facts)
    return Corpus.open(out)


def test_tables_that_do_not_fit_their_documents_are_problems(
    corpus: Corpus, tmp_path: Path
) -> None:
    count = len(corpus.documents("prose"))
    tokens = int(corpus.documents("prose").token_counts[0])
    cases = [
        ([count], [5], "documents that are not there"),
        ([0], [tokens + 1], "tokens that are not there"),
        ([0], [tokens], "do not hold every token"),
    ]
    for number, (documents, counts, expected) in enumerate(cases):
        changed = _changed_table(corpus, tmp_path / str(number), documents=documents, counts=counts)
        assert verify(changed.path) == []
        assert [expected in problem for problem in changed.problems()] == [True]


def test_ids_that_no_text_has_are_problems(tmp_path: Path) -> None:
    with SourceWriter(tmp_path / "s", padded_vocab_size=64) as writer:
        writer.add("a", "a", np.array([5, 6, 2], dtype=np.uint32))
    documents = Documents(tmp_path / "s", writer.shard_documents)
    allowed = np.ones(64, dtype=bool)
    assert documents.problems(allowed) == []
    allowed[2] = False
    assert "ids that no text has" in documents.problems(allowed)[0]
