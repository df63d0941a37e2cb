"""A corpus: tokens that text can have, and row tables that hold every one of them exactly once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import compute, ipc

from ettin.check.directories import Directory
from ettin.check.tokenizers import Tokenizers
from ettin.files import Json

Int64Array = npt.NDArray[np.int64]

_RESERVED_TOKENS = 2
"""A document is cut every S - 2 tokens, so that BOS and EOS have room in a row of S."""
_TOKEN_TYPES = (pyarrow.large_list(pyarrow.uint16()), pyarrow.large_list(pyarrow.uint32()))
_CHUNK = ("document", "start", "length")
_SPLITS = {"rows": "train", "held-out": "held_out"}


def check_corpus(corpus: Directory, tokenizers: Tokenizers) -> Iterator[str]:
    """What is wrong with a corpus whose bytes are right; reads all of it once."""
    described: Json = corpus.facts["tokenizer"]
    yield from tokenizers.differences(corpus.path / "tokenizer", described)
    stated = corpus.made_from.get("tokenizer")
    if stated not in (None, described["fingerprint"]):
        yield f"{corpus.path}: made with the tokenizer {stated}, holds {described['fingerprint']}"
    for name, source in corpus.facts["sources"].items():
        folder = corpus.path / name
        counts, problems = _token_counts(folder, source, described)
        yield from problems
        if problems:
            continue
        for length in corpus.facts["context_lengths"]:
            yield from _check_rows(folder, counts, length, source["rows"][str(length)])


def _token_counts(folder: Path, source: Json, described: Json) -> tuple[Int64Array, list[str]]:
    """Tokens of every document of a source, and what is wrong with its shards."""
    problems: list[str] = []
    counts = [np.zeros(0, np.int64)]
    for number, documents in enumerate(source["shards"]):
        path = folder / f"tokens-{number:05d}.arrow"
        offsets = [np.zeros(1, np.int64)]
        for batch in _batches(path):
            if not {"id", "origin", "tokens"} <= set(batch.schema.names):
                problems.append(f"{path}: lacks one of the columns id, origin and tokens")
                continue
            column = batch.column("tokens")
            if column.type not in _TOKEN_TYPES:
                problems.append(f"{path}: its tokens are {column.type}, expected lists of uint16")
                continue
            offsets.append(offsets[-1][-1] + column.offsets.to_numpy()[1:])
            problems += _strange_tokens(path, column.values, described["ordinary_ranges"])
        sizes: Int64Array = np.diff(np.concatenate(offsets)).astype(np.int64)
        if len(sizes) != documents:
            problems.append(f"{path}: {len(sizes):,} documents, the manifest says {documents:,}")
        if len(sizes) and sizes.min() < 1:
            problems.append(f"{path}: holds documents without tokens")
        counts.append(sizes)
    found = np.concatenate(counts)
    for what, value in (("documents", len(found)), ("tokens", int(found.sum()))):
        if source[what] != value and not problems:
            problems.append(f"{folder}: {value:,} {what}, the manifest says {source[what]:,}")
    return found, problems


def _strange_tokens(path: Path, values: pyarrow.Array, ranges: list[list[int]]) -> list[str]:
    """Ids that no text has: beyond the vocabulary, or of special tokens."""
    if not len(values):
        return []
    bounds = compute.min_max(values).as_py()
    if bounds["min"] < ranges[0][0] or bounds["max"] >= ranges[-1][1]:
        return [f"{path}: holds ids that no text has ({bounds['min']} to {bounds['max']})"]
    if len(ranges) > 1:
        allowed = np.zeros(ranges[-1][1], dtype=bool)
        for first, end in ranges:
            allowed[first:end] = True
        if not allowed[values.to_numpy()].all():
            return [f"{path}: holds ids of special or absent tokens"]
    return []


def _check_rows(folder: Path, counts: Int64Array, length: int, stated: Json) -> Iterator[str]:
    """The rows of one context length, of both splits, against the documents."""
    piece = length - _RESERVED_TOKENS
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(-(-counts // piece))])
    # One mark a chunk, so that memory stays small whatever the tokens.
    seen = np.zeros(int(first[-1]), dtype=bool)
    for name, split in _SPLITS.items():
        path = folder / f"{name}-{length}.arrow"
        rows = tokens = 0
        for batch in _batches(path):
            column = batch.column("chunks")
            document, start, size = (
                column.values.field(each).to_numpy().astype(np.int64) for each in _CHUNK
            )
            offsets = column.offsets.to_numpy().astype(np.int64)
            if (np.diff(offsets) < 1).any() or offsets[-1] != len(document):
                yield f"{path}: the boundaries of rows are out of order"
                return
            if len(document) and document.max() >= len(counts):
                yield f"{path}: names documents that are not there"
                return
            whole = counts[document]
            if (size < 1).any() or (start + size > whole).any():
                yield f"{path}: names tokens that are not there"
                return
            if (start % piece).any() or (size != np.minimum(piece, whole - start)).any():
                yield f"{path}: cuts documents elsewhere than every {piece:,} tokens"
                return
            chunk = first[document] + start // piece
            if seen[chunk].any() or len(np.unique(chunk)) != len(chunk):
                yield f"{path}: holds a piece of a document that stands in another row too"
                return
            seen[chunk] = True
            sizes = np.add.reduceat(size + 1 + (start + size == whole), offsets[:-1])
            if sizes.max() > length:
                yield f"{path}: has rows of more than {length:,} tokens"
            rows, tokens = rows + len(sizes), tokens + int(sizes.sum())
        if rows != stated[split]:
            yield f"{path}: {rows:,} rows, the manifest says {stated[split]:,}"
        if split == "train" and tokens != stated["tokens"]:
            yield f"{path}: {tokens:,} tokens, the manifest says {stated['tokens']:,}"
    if not seen.all():
        yield f"{folder}: the rows for {length:,} do not hold every token"


def _batches(path: Path) -> Iterator[pyarrow.RecordBatch]:
    """The record batches of an Arrow file, none of which points out of its own buffers.

    Raises:
        ValueError: it is no such file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: missing")
    with pyarrow.memory_map(str(path)) as source:
        try:
            reader = ipc.open_file(source)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                batch.validate(full=True)
                yield batch
        except pyarrow.ArrowException as error:
            raise ValueError(f"{path}: {error}") from error
