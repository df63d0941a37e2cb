"""Batches: many rows at once hold exactly what each row holds alone, keys included."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import ipc

from ettin.data.batches import RowReader, split_rows, training_reader
from ettin.data.chunking import Chunks
from ettin.data.corpus import Corpus
from ettin.data.corpus_writing import SourceWriter, write_rows
from ettin.data.order import Order, Rows, make_order
from ettin.data.row_lookup import RowLookup
from ettin.files import write_manifest
from ettin.random_bits import key, keys, name_key

CONTEXT_LENGTH = 64
DOCUMENTS = {"long": 90, "short": 300}
SHARD_TOKENS = 1500


def write_corpus(folder: Path, *, vocab_size: int) -> Corpus:
    """Two sources of several shards each; documents from one token to several rows."""
    draw = np.random.default_rng(0)
    sources = {}
    for name, count in DOCUMENTS.items():
        sizes = draw.integers(1, 200 if name == "long" else 20, count)
        with SourceWriter(
            folder / name, padded_vocab_size=vocab_size, shard_tokens=SHARD_TOKENS
        ) as writer:
            for number, size in enumerate(sizes.tolist()):
                tokens = draw.integers(4, vocab_size, size).astype(np.uint32)
                writer.add(f"{name}-{number}", "made up", tokens)
        assert len(writer.shard_documents) > 1
        order = draw.permutation(count)
        rows, tokens_in_rows = write_rows(
            folder / name, order, sizes[order], context_length=CONTEXT_LENGTH, packing="chunks",
            held_out=False,
        )  # fmt: skip
        table = {"train": rows, "held_out": 0, "tokens": tokens_in_rows}
        sources[name] = {"shards": writer.shard_documents, "rows": {str(CONTEXT_LENGTH): table}}
    facts = {
        "sources": sources,
        "context_lengths": [CONTEXT_LENGTH],
        "tokenizer": {
            "special": {"bos": 0, "eos": 1, "pad": 2, "mask": 3},
            "padded_size": vocab_size,
        },
    }
    write_manifest(folder, "corpus", command=[], made_from={}, facts=facts)
    return Corpus.open(folder)


@pytest.fixture(scope="module", params=[512, 1 << 20])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("corpus"), vocab_size=request.param)


def reader_of(corpus: Corpus, *sources: str) -> tuple[Order, RowReader]:
    rows = {name: len(corpus.table(name, CONTEXT_LENGTH)) for name in sources}
    order = make_order(seed=21, phase="pretraining", rows=rows, mixture={})
    return order, training_reader(corpus, order, phase="decay", context_length=CONTEXT_LENGTH)


@pytest.mark.parametrize("sources", [("long",), ("long", "short")])
@pytest.mark.parametrize("size", [1, 7, 8, 10_000])
def test_rows_joined_many_at_once_hold_what_each_holds_alone(corpus, sources, size):
    order, reader = reader_of(corpus, *sources)
    rows = order.rows(3, 1200)
    portions = split_rows(rows, size)
    for portion, stream in zip(portions, reader.streams(rows, size=size), strict=True):
        tokens: list[int] = []
        ends = [0]
        position_keys: list[int] = []
        row_tokens = []
        for source, epoch, row in zip(*(column.tolist() for column in portion), strict=True):
            own, lengths = corpus.table(sources[source], CONTEXT_LENGTH).tokens(row)
            tokens += own.tolist()
            ends += (ends[-1] + np.cumsum(lengths)).tolist()
            row_key = key(21, name_key("decay"), name_key(sources[source]), epoch, row)
            position_keys += keys(row_key, np.arange(len(own), dtype=np.int64)).tolist()
            row_tokens.append(len(own))
        assert stream.tokens.tolist() == tokens
        assert stream.boundaries.tolist() == ends
        assert stream.position_keys.tolist() == position_keys
        assert stream.row_tokens.tolist() == row_tokens
    types = (stream.tokens.dtype, stream.boundaries.dtype, stream.position_keys.dtype)
    assert types == (torch.int64, torch.int32, torch.int64)


def test_one_stream_is_all_portions_together(corpus):
    order, reader = reader_of(corpus, "long", "short")
    rows = order.rows(0, 700)
    whole = reader.stream(rows)
    portions = list(reader.streams(rows, size=8))
    assert torch.equal(torch.cat([each.tokens for each in portions]), whole.tokens)
    assert torch.equal(torch.cat([each.position_keys for each in portions]), whole.position_keys)
    assert sum(len(each.boundaries) - 1 for each in portions) == len(whole.boundaries) - 1


def test_rows_and_pieces_that_are_not_there_are_refused(corpus):
    _, reader = reader_of(corpus, "long")
    table = reader.tables[0]
    for row in (-1, len(table)):
        with pytest.raises(IndexError, match="rows"):
            reader.stream(Rows(*(np.array([each]) for each in (0, 0, row))))
    pieces = table.documents.pieces
    size = len(table.documents.tokens(0))
    texts, ends = pieces(np.zeros(2, int), np.array([0, 1]), np.array([size, 0]))
    assert [len(texts[0]) // texts[0].itemsize > 0, *ends.tolist()] == [True, True, size == 1]
    with pytest.raises(ValueError, match="beyond the end"):
        pieces(np.zeros(1, int), np.zeros(1, int), np.array([size + 1]))
    with pytest.raises(IndexError, match="documents"):
        pieces(np.array([len(table.documents)]), np.zeros(1, int), np.ones(1, int))


def test_rows_of_all_record_batches_are_found_and_a_damaged_table_is_refused(tmp_path):
    draw = np.random.default_rng(3)
    kind = pyarrow.struct([(name, pyarrow.uint32()) for name in Chunks._fields])
    schema = pyarrow.schema([("chunks", pyarrow.list_(kind))])
    rows: list[list[tuple[int, ...]]] = []
    with ipc.new_file(str(tmp_path / "rows.arrow"), schema) as writer:
        for count in (5, 1, 300, 17):
            held = [draw.integers(0, 1 << 32, (draw.integers(1, 6), 3)) for _ in range(count)]
            rows += [[tuple(chunk) for chunk in row.tolist()] for row in held]
            lists = [[Chunks(*chunk)._asdict() for chunk in row.tolist()] for row in held]
            column = pyarrow.array(lists, schema.types[0])
            writer.write_batch(pyarrow.record_batch([column], schema))
    file = pyarrow.memory_map(str(tmp_path / "rows.arrow"))
    reader = ipc.open_file(file)
    batches = [reader.get_batch(number).column(0) for number in range(4)]
    file.seek(0)
    lookup = RowLookup(file.read_buffer(), batches)
    asked = draw.integers(0, len(rows), 1000)
    counts, chunks = lookup.chunks(asked, longest=5)
    assert counts.tolist() == [len(rows[row]) for row in asked]
    expected = [chunk for row in asked for chunk in rows[row]]
    assert list(zip(*(column.tolist() for column in chunks), strict=True)) == expected
    with pytest.raises(ValueError, match="rows hold"):
        lookup.chunks(asked, longest=4)


def test_the_first_row_does_not_wait_for_pandas_or_masked_arrays(corpus_directory):
    program = (
        "import sys; from pathlib import Path; "
        "from ettin.data.batches import held_out_reader, held_out_rows; "
        "from ettin.data.corpus import Corpus; before = set(sys.modules); "
        "reader = held_out_reader(Corpus.open(Path(sys.argv[1])), context_length=128); "
        "reader.stream(held_out_rows(reader, 8)); "
        "print(*({'pandas', 'numpy.ma'} & before), *sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(corpus_directory)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"pandas", "numpy.ma"} & set(done.stdout.split()), done.stdout
