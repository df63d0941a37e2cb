"""Stored orders: the published permutation, replayed files, and what answers they give."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from ettin.data.corpus import Corpus
from ettin.data.mds.index import read_index
from ettin.data.mds.source import mds_sources
from ettin.data.mds.writing import MdsWriter, write_index
from ettin.data.order_writing import permutation, write_order
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source
from ettin.data.reading.tally import Reading, Tally
from ettin.data.reading.tokenised import SampleRules
from ettin.data.stored_order import BLOCK_ROWS, StoredOrder
from ettin.errors import InputError
from ettin.files import verify
from ettin.tokenizer import load_tokenizer
from tests.mds_folders import read_tokens

CONTEXT_LENGTH = 64


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    """Two sources of samples of up to 64 tokens under one merged index, in an order of its own."""
    folder = tmp_path_factory.mktemp("published")
    draw = np.random.default_rng(3)
    ids = load_tokenizer(tokenizer_directory).ordinary_ids
    shards = []
    for name, count in (("web-text", 900), ("books", 1500)):
        writer = MdsWriter(
            folder / "train" / name / "split_0", {"id": "str", "input_ids": "ndarray:uint16"},
            shard_bytes=20_000,
        )  # fmt: skip
        with writer:
            for number in range(count):
                tokens = draw.choice(ids, draw.integers(20, 63)).astype(np.uint16)
                writer.write({"id": f"{name} {number}", "input_ids": tokens})
        for shard in writer.shards:
            raw = shard["raw_data"]
            moved = {**raw, "basename": f"{name}/split_0/{raw['basename']}"}
            shards.append({**shard, "raw_data": moved})
    draw.shuffle(shards)
    write_index(folder / "train", shards)
    return folder


@pytest.fixture(scope="module")
def corpus(
    published: Path, tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Corpus:
    found = {source.name: source for source in mds_sources(published)}
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    sources = [found["books"], Source("web_text", found["web-text"].paths, form="mds")]
    prepare(sources, tokenizer=tokenizer_directory, out=out,
            context_lengths=(CONTEXT_LENGTH,), packing="none")  # fmt: skip
    return Corpus.open(out)


def ids_in_order(order: StoredOrder, corpus: Corpus, start: int, count: int) -> list[str]:
    """The ids of the documents at some positions."""
    names = []
    for source, _, row in zip(*order.rows(start, count), strict=True):
        table = corpus.table(order.sources[source].name, CONTEXT_LENGTH)
        names.append(table.document_id(table.chunks(int(row))[0].document))
    return names


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 65_537, 300_000])
@pytest.mark.parametrize("seed", [21, 22])
def test_the_permutation_is_the_one_of_the_published_sampler(count: int, seed: int) -> None:
    expected = np.random.Generator(np.random.PCG64DXSM(seed)).permutation(count)
    assert (permutation(count, seed) == expected).all()
    assert permutation(count, seed).dtype == np.uint32


def test_the_permutation_never_changes() -> None:
    content = permutation(10_000, 21).astype("<u4").tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "6845961cfd9904c9"


@pytest.mark.parametrize("block", [BLOCK_ROWS, 100])
def test_rows_follow_the_permutation_of_the_merged_index(
    corpus: Corpus, published: Path, tmp_path: Path, tokenizer_directory: Path,
    told: pytest.LogCaptureFixture, block: int,
) -> None:  # fmt: skip
    manifest = write_order(corpus, tmp_path / "order", context_length=CONTEXT_LENGTH, epochs=2,
                           index=published / "train", block_rows=block)  # fmt: skip
    assert verify(tmp_path / "order") == []
    assert "2,400 samples takes" in told.text
    order = StoredOrder.open(tmp_path / "order", corpus, context_length=CONTEXT_LENGTH)
    by_sample = _samples_by_the_index(published, tokenizer_directory)
    assert len(by_sample) == manifest["facts"]["samples"] == 2400
    held_out = {
        corpus.documents(name).id(int(number))
        for name in corpus.source_names
        for number in set(corpus.table(name, CONTEXT_LENGTH, "held-out").all_chunks().document)
    }
    assert 0 < len(held_out) < 300
    assert order.length == 2400 - len(held_out)
    for epoch in range(2):
        expected = [by_sample[sample] for sample in permutation(2400, 21 + epoch)]
        wanted = [name for name in expected if name not in held_out]
        assert ids_in_order(order, corpus, epoch * order.length, order.length) == wanted
    across = ids_in_order(order, corpus, order.length - 150, 300)
    assert across == (
        ids_in_order(order, corpus, order.length - 150, 150)
        + ids_in_order(order, corpus, order.length, 150)
    )
    assert order.rows(order.length, 1).epoch.tolist() == [1]
    assert order.rows(7, 0).row.tolist() == []


def _samples_by_the_index(published: Path, tokenizer_directory: Path) -> list[str]:
    """Ids of all samples, shard after shard as the merged index lists them."""
    rules = SampleRules(load_tokenizer(tokenizer_directory))
    origins = {
        f"{source.name}/{document.origin}": document.id
        for source in mds_sources(published)
        for document in read_tokens(source, rules, Reading("", None, "fail", Tally()))
    }
    return [
        origins[f"{shard.name}:{number}"]
        for shard in read_index(published / "train")
        for number in range(shard.samples)
    ]


def test_positions_are_the_inverse_of_rows(corpus: Corpus, tmp_path: Path) -> None:
    write_order(corpus, tmp_path / "order", context_length=CONTEXT_LENGTH, epochs=2)
    order = StoredOrder.open(tmp_path / "order", corpus, context_length=CONTEXT_LENGTH)
    rows = order.rows(0, 2 * order.length)
    for source, name in enumerate(corpus.source_names):
        wanted = np.array([100, 0, len(corpus.table(name, CONTEXT_LENGTH)) - 1, 100])
        found = order.positions(name, wanted, epochs=2)
        for number, row in enumerate(wanted.tolist()):
            expected = np.flatnonzero((rows.source == source) & (rows.row == row)).tolist()
            assert found[number].tolist() == expected
        assert (order.positions(name, wanted, epochs=1) == found[:, :1]).all()
        assert order.positions(name, wanted[:0], epochs=2).shape == (0, 2)
    first = int(np.flatnonzero(rows.source == 1)[0])
    assert order.epochs_until("web_text", 0) == 0
    assert order.epochs_until("web_text", first) == 0
    assert order.epochs_until("web_text", first + 1) == 1
    assert order.epochs_until("books", order.length) == 1
    assert order.epochs_until("books", order.length + 50) == 2
    with pytest.raises(InputError, match="did you mean 'books'"):
        order.positions("book", np.array([0]), epochs=1)
    with pytest.raises(InputError, match="source books has rows 0 to"):
        order.positions("books", np.array([-1]), epochs=1)
    with pytest.raises(InputError, match="holds 2 epochs"):
        order.rows(2 * order.length, 1)


def test_orders_that_do_not_fit_are_refused(
    corpus: Corpus, published: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    packed = Corpus.open(corpus_directory)
    with pytest.raises(InputError, match=r"one whole document each.*--packing none"):
        write_order(packed, tmp_path / "order", context_length=CONTEXT_LENGTH)
    write_order(corpus, tmp_path / "order", context_length=CONTEXT_LENGTH)
    with pytest.raises(InputError, match="another corpus"):
        StoredOrder.open(tmp_path / "order", packed, context_length=CONTEXT_LENGTH)
    with pytest.raises(InputError, match="it was made from other shards"):
        write_order(corpus, tmp_path / "other", context_length=CONTEXT_LENGTH,
                    index=published / "train/books/split_0")  # fmt: skip
    assert not (tmp_path / "other").exists()


def test_order_files_are_replayed_in_the_order_in_which_they_stand(
    tokenizer_directory: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tokenizer_directory)
    draw = np.random.default_rng(1)
    wrapped = (tokenizer.special.bos, tokenizer.special.eos)
    rows = [draw.choice(tokenizer.ordinary_ids, 60).tolist() for _ in range(900)]
    (tmp_path / "files").mkdir()
    for number in range(3):
        part = [[wrapped[0], *row, wrapped[1]] for row in rows[300 * number : 300 * number + 300]]
        kind = pyarrow.list_(pyarrow.int32()) if number else pyarrow.large_list(pyarrow.uint16())
        columns = {"step": pyarrow.array(range(300)), "input_ids": pyarrow.array(part, kind)}
        parquet.write_table(
            pyarrow.table(columns), tmp_path / f"files/step-{number}.parquet", row_group_size=70
        )
    sources = mds_sources(tmp_path / "files")
    assert [(each.name, each.form) for each in sources] == [("files", "parquet")]
    prepare(sources, tokenizer=tokenizer_directory, out=tmp_path / "corpus",
            context_lengths=(CONTEXT_LENGTH,), packing="none")  # fmt: skip
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.problems() == []
    documents = corpus.documents("files")
    assert [documents.tokens(n).tolist() for n in range(900)] == rows
    assert documents.id(301) == "step-1.parquet:1"
    write_order(corpus, tmp_path / "order", context_length=CONTEXT_LENGTH, order="files")
    order = StoredOrder.open(tmp_path / "order", corpus, context_length=CONTEXT_LENGTH)
    table = corpus.table("files", CONTEXT_LENGTH)
    numbers = [table.chunks(int(row))[0].document for row in order.rows(0, order.length).row]
    assert numbers == sorted(numbers)
    assert len(numbers) == 900 - corpus.source_facts("files")["held_out_documents"]


def test_token_tables_that_are_none_are_refused_and_damage_is_counted(
    tokenizer_directory: Path, tmp_path: Path
) -> None:
    rules = SampleRules(load_tokenizer(tokenizer_directory))

    def read(**columns: object) -> tuple[list[list[int]], Tally]:
        parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
        tally = Tally()
        source = Source("s", (tmp_path,), form="parquet")
        found = read_tokens(source, rules, Reading("", "name", "skip", tally))
        return [[*each.tokens.tolist(), each.id] for each in found], tally

    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    (tmp_path / "README.md").write_text("words")
    found, tally = read(tokens=[[30], None, [], [31, 32]], name=["x", "y", "z", "x"])
    assert found == [[30, "x"], [31, 32, "x"]]
    assert tally.skipped == {
        "sample without tokens": 2, "damaged parquet": 1, "not a parquet file": 1
    }  # fmt: skip
    for columns, expected in (
        ({"text": ["a"], "name": ["a"]}, "no column 'input_ids' or 'tokens'; it has: text"),
        ({"input_ids": ["a"], "name": ["a"]}, "expected list<int>"),
        ({"input_ids": [[1]]}, "no column 'name'"),
        ({"input_ids": [[30], [9999]], "name": ["a", "b"]}, r"a\.parquet:1: holds the id 9,999"),
    ):
        with pytest.raises(InputError, match=expected):
            read(**columns)
