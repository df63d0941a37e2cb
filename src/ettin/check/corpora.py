"""A corpus: tokens that text can have, and row tables that hold every one of them exactly once."""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import ipc

from ettin.check.directories import Directory
from ettin.check.tokenizers import Tokenizers
from ettin.files import Json

Int64Array = npt.NDArray[np.int64]

_RESERVED_TOKENS = 2
"""A document is cut every S - 2 tokens, so that BOS and EOS have room in a row of S."""
_TOKEN_TYPES = (pyarrow.large_list(pyarrow.uint16()), pyarrow.large_list(pyarrow.uint32()))
_SHARD = re.compile(r"/tokens-\d+\.arrow\Z")
_BLOCK_TOKENS = 1 << 17
_CHUNK = ("document", "start", "length")
_SPLITS = {"rows": "train", "held-out": "held_out"}


class Shard(NamedTuple):
    """What a file of tokens holds.

    Attributes:
        sizes: int64 [documents], tokens of each.
        problems: what is wrong with it.
    """

    sizes: Int64Array
    problems: list[str]


def check_corpus(
    corpus: Directory, tokenizers: Tokenizers, *, seen: Mapping[Path, Any]
) -> Iterator[str]:
    """What is wrong with a corpus whose bytes are right.

    Args:
        corpus: the directory.
        tokenizers: loads them.
        seen: what `read_shard` returned or raised for files of tokens; the others are read here.
    """
    described: Json = corpus.facts["tokenizer"]
    yield from tokenizers.differences(corpus.path / "tokenizer", described)
    stated = corpus.made_from.get("tokenizer")
    if stated not in (None, described["fingerprint"]):
        yield f"{corpus.path}: made with the tokenizer {stated}, holds {described['fingerprint']}"
    for name, source in corpus.facts["sources"].items():
        folder = corpus.path / name
        counts, problems = _token_counts(folder, source, corpus.facts, seen)
        yield from problems
        if problems:
            continue
        for length in corpus.facts["context_lengths"]:
            rule = corpus.facts.get("chunk_rules", {}).get(str(length), {})
            cuts = _cuts(counts, length, rule)
            yield from _check_rows(folder, counts, length, source["rows"][str(length)], cuts)


def is_shard(name: str) -> bool:
    """Whether a file of a corpus holds tokens."""
    return _SHARD.search(name) is not None


def read_shard(path: Path, facts: Json) -> Shard:
    """Look through a file of tokens.

    Args:
        path: the file.
        facts: of its corpus.

    Raises:
        ValueError: it is no such file.
    """
    problems: list[str] = []
    offsets = [np.zeros(1, np.int64)]
    for batch in _batches(path):
        if not {"id", "origin", "tokens"} <= set(batch.schema.names):
            problems.append(f"{path}: lacks one of the columns id, origin and tokens")
            continue
        column = batch.column("tokens")
        if column.type not in _TOKEN_TYPES:
            problems.append(f"{path}: its tokens are {column.type}, expected lists of uint16")
            continue
        offsets.append(offsets[-1][-1] + _numbers(column.offsets)[1:])
        problems += _strange_tokens(path, column.values, facts["tokenizer"]["ordinary_ranges"])
    return Shard(np.diff(np.concatenate(offsets)).astype(np.int64), problems)


def _token_counts(
    folder: Path, source: Json, facts: Json, seen: Mapping[Path, Any]
) -> tuple[Int64Array, list[str]]:
    """Tokens of every document of a source, and what is wrong with its shards."""
    problems: list[str] = []
    counts = [np.zeros(0, np.int64)]
    for number, documents in enumerate(source["shards"]):
        path = folder / f"tokens-{number:05d}.arrow"
        shard = seen[path] if path in seen else read_shard(path, facts)
        if isinstance(shard, Exception):
            raise shard
        sizes: Int64Array = shard.sizes
        problems += shard.problems
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
    tokens = _numbers(values)
    gaps = [(end, first) for (_, end), (first, _) in pairwise(ranges) if first > end]
    inside = np.empty(min(_BLOCK_TOKENS, len(tokens)), tokens.dtype)
    # Block by block, so that all but the first look at a token finds it in the cache of the core.
    for begin in range(0, len(tokens), _BLOCK_TOKENS):
        block = tokens[begin : begin + _BLOCK_TOKENS]
        lowest, highest = int(block.min()), int(block.max())
        if lowest < ranges[0][0] or highest >= ranges[-1][1]:
            return [f"{path}: holds ids that no text has ({lowest} to {highest})"]
        for first, end in gaps:
            # Unsigned, what lies below the gap becomes larger than what lies above it.
            np.subtract(block, tokens.dtype.type(first), out=inside[: len(block)])
            if inside[: len(block)].min() < end - first:
                return [f"{path}: holds ids of special or absent tokens"]
    return []


class Cuts(NamedTuple):
    """Where a chunk rule cuts documents; int64 [documents] each, but for `full`.

    Attributes:
        pieces: how many each document has.
        end: the first token that stands in no piece.
        room: how many tokens the last piece may take from the end of the piece before it.
        full: tokens of a full piece.
    """

    pieces: Int64Array
    end: Int64Array
    room: Int64Array
    full: int

    def allow(self, document: Int64Array, start: Int64Array, size: Int64Array) -> bool:
        """Whether pieces begin and end where the rule lets them."""
        number, stop, room = -(-start // self.full), start + size, self.room[document]
        left = self.pieces[document] - number
        early, lacks = number * self.full - start, (number + 1) * self.full - stop
        begins = (early == 0) | ((left == 1) & (early <= room))
        shortened = (left == 2) & (lacks >= 0) & (lacks <= room)
        ends = np.where(left == 1, stop == self.end[document], (lacks == 0) | shortened)
        return bool(((left > 0) & begins & ends).all())


def _cuts(counts: Int64Array, length: int, rule: Json) -> Cuts:
    """Where documents are cut for rows of a length, by the rule that the manifest states."""
    full = length - _RESERVED_TOKENS
    whole, rest = np.divmod(counts, full)
    may_change = (rest > 0) & (whole > 0)
    skipped = may_change & (rest < rule.get("skip_below", 0))
    filled = may_change & ~skipped & (rest < rule.get("minimum_length", 0))
    return Cuts(
        pieces=whole + (rest > 0) - skipped,
        end=counts - np.where(skipped, rest, 0),
        room=np.where(filled, full - rest - 1, 0),
        full=full,
    )


def _check_rows(
    folder: Path, counts: Int64Array, length: int, stated: Json, cuts: Cuts
) -> Iterator[str]:
    """The rows of one context length, of both splits, against the documents."""
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(cuts.pieces)])
    # One mark a chunk, so that memory stays small whatever the tokens.
    seen = np.zeros(int(first[-1]), dtype=bool)
    held = np.zeros(len(counts), np.int64)
    for name, split in _SPLITS.items():
        path = folder / f"{name}-{length}.arrow"
        rows = tokens = 0
        for batch in _batches(path):
            column = batch.column("chunks")
            document, start, size = (
                _numbers(column.values.field(each)).astype(np.int64) for each in _CHUNK
            )
            offsets = _numbers(column.offsets).astype(np.int64)
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
            if not cuts.allow(document, start, size):
                yield (
                    f"{path}: cuts documents elsewhere than its chunk rule does (every "
                    f"{cuts.full:,} tokens, but for last pieces)"
                )
                return
            chunk = first[document] - (-start // cuts.full)
            if seen[chunk].any() or _repeats(chunk):
                yield f"{path}: holds a piece of a document that stands in another row too"
                return
            seen[chunk] = True
            sizes = np.add.reduceat(size + 1 + (start + size == whole), offsets[:-1])
            if sizes.max() > length:
                yield f"{path}: has rows of more than {length:,} tokens"
            rows, tokens = rows + len(sizes), tokens + int(sizes.sum())
            np.add.at(held, document, size)
        if rows != stated[split]:
            yield f"{path}: {rows:,} rows, the manifest says {stated[split]:,}"
        if split == "train" and tokens != stated["tokens"]:
            yield f"{path}: {tokens:,} tokens, the manifest says {stated['tokens']:,}"
    # What a last piece took, and that alone, the piece before it has to lack.
    if not seen.all() or (held != cuts.end).any():
        yield f"{folder}: the rows for {length:,} do not hold every token once"


def _numbers(column: pyarrow.Array) -> npt.NDArray[Any]:
    """The numbers of a column without nulls, mapped.

    `to_numpy` imports pandas, where there is one: a third of a second for every check.
    """
    return np.from_dlpack(column)


def _repeats(numbers: Int64Array) -> bool:
    """Whether a number stands among others twice; in time and memory of their range."""
    if not len(numbers):
        return False
    places = np.arange(len(numbers))
    near = numbers - numbers.min()
    last = np.empty(int(near.max()) + 1, np.int64)
    last[near] = places
    return bool((last[near] != places).any())


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
