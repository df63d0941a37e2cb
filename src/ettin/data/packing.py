"""Documents → chunks → rows: which tokens stand together in one training sequence.

Chunk rule, for a context length S: a document is cut every S − 2 tokens, and

    chunk = BOS + piece                 in the middle of a document
    chunk = BOS + piece + EOS           at its end

so that two positions are always reserved, both twins see the same bytes, and every token stands in
exactly one chunk. For S = 8, a document of 13 tokens becomes chunks of 7, 7 and 3 tokens:

    BOS t0 … t5      BOS t6 … t11      BOS t12 EOS

Rows take whole chunks, at most S tokens. Documents come shard by shard in ascending order of the
hash of their ids, so that a row never holds neighbours of one folder. Chunks are packed best fit
decreasing in windows of 4,096 (Johnson 1974), which fills more than 99 % of real text rows.

The same hash decides what is held out for validation, so a document has the same place in the
queue in every corpus.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from ettin.errors import InputError

Packing = Literal["chunks", "none"]
Int64Array = npt.NDArray[np.int64]

WINDOW_CHUNKS = 4096
RESERVED_TOKENS = 2
MINIMUM_CONTEXT_LENGTH = 8
HELD_OUT_TOKENS = 32_768
HELD_OUT_LIMIT = 0.1
_BLOCK_DOCUMENTS = 1 << 16
_BLOCK_ROWS = 1 << 16


class Chunks(NamedTuple):
    """Pieces of documents; three int64 arrays [n].

    Attributes:
        document: the document's number in its source.
        start: the first token of the piece in the document.
        length: text tokens of the piece, BOS and EOS not counted.
    """

    document: Int64Array
    start: Int64Array
    length: Int64Array

    def take(self, which: Int64Array) -> "Chunks":
        """The chunks of these numbers, in their order."""
        return Chunks(*(column[which] for column in self))


class RowBlock(NamedTuple):
    """Consecutive rows.

    Attributes:
        offsets: int64 [rows + 1]; row r holds the chunks offsets[r] … offsets[r + 1] − 1.
        chunks: the chunks of all rows.
        tokens: tokens of all rows, BOS and EOS counted.
    """

    offsets: Int64Array
    chunks: Chunks
    tokens: int


def id_hash(document_id: str) -> int:
    """The 64 bits (xxh3) that decide a document's place in packing and in the held-out queue."""
    return xxhash.xxh3_64_intdigest(document_id.encode())


def cut_into_chunks(
    documents: Int64Array, document_tokens: Int64Array, *, context_length: int
) -> Chunks:
    """Cut documents by the chunk rule.

    Args:
        documents: int64 [n], numbers of documents.
        document_tokens: int64 [n], their tokens, all at least 1.
        context_length: the longest row, at least 8.
    """
    piece = context_length - RESERVED_TOKENS
    count = -(-document_tokens // piece)
    first = np.cumsum(count) - count
    start = (np.arange(int(count.sum()), dtype=np.int64) - np.repeat(first, count)) * piece
    remaining = np.repeat(document_tokens, count) - start
    return Chunks(np.repeat(documents, count), start, np.minimum(remaining, piece))


def chunk_sizes(chunks: Chunks, document_tokens: Int64Array) -> Int64Array:
    """Tokens of chunks in a row, BOS and EOS counted.

    Args:
        chunks: n chunks.
        document_tokens: int64 [n], tokens of the document of each.
    """
    closes: Int64Array = (chunks.start + chunks.length == document_tokens).astype(np.int64)
    return chunks.length + 1 + closes


def plan_rows(
    documents: Int64Array,
    document_tokens: Int64Array,
    *,
    context_length: int,
    packing: Packing = "chunks",
) -> Iterator[RowBlock]:
    """Lay documents out in rows, in blocks of about 65,536 rows.

    Args:
        documents: int64 [n], numbers of documents in the order in which they are taken.
        document_tokens: int64 [n], their tokens.
        context_length: the longest row.
        packing: `chunks` fills rows, `none` gives each chunk a row of its own.
    """
    parts: list[RowBlock] = []
    for window, sizes in _windows(documents, document_tokens, context_length):
        if packing == "none":
            order, counts = np.arange(len(sizes)), np.ones(len(sizes), dtype=np.int64)
        else:
            order, counts = pack_window(sizes, context_length=context_length)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        parts.append(RowBlock(offsets, window.take(order), int(sizes.sum())))
        if sum(len(part.offsets) - 1 for part in parts) >= _BLOCK_ROWS:
            yield _join(parts)
            parts = []
    if parts:
        yield _join(parts)


def pack_window(sizes: Int64Array, *, context_length: int) -> tuple[Int64Array, Int64Array]:
    """Best fit decreasing: each chunk, largest first, goes into the fullest row that has room.

    The free capacities in use are the set bits of one integer, so that the best fit is found by
    a shift and a lowest set bit, whatever the number of open rows.

    Args:
        sizes: int64 [n], tokens of the chunks, each from 1 to `context_length`.
        context_length: tokens that fit in a row.

    Returns:
        The chunks in the order of rows, and the number of chunks of each row; int64.
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(context_length + 1)]
    capacities = 0
    # Equal sizes keep their order: the result depends on nothing but the input.
    decreasing = np.argsort(-sizes, kind="stable")
    for chunk, size in zip(decreasing.tolist(), sizes[decreasing].tolist(), strict=True):
        roomy = capacities >> size
        if roomy:
            room = size + (roomy & -roomy).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                capacities ^= 1 << room
            rows[row].append(chunk)
            room -= size
        else:
            row = len(rows)
            rows.append([chunk])
            room = context_length - size
        if room:
            with_room[room].append(row)
            capacities |= 1 << room
    order = np.fromiter((chunk for row in rows for chunk in row), np.int64, len(sizes))
    return order, np.array([len(row) for row in rows], dtype=np.int64)


def hold_out(
    hashes: npt.NDArray[np.uint64], document_tokens: Int64Array, *, fraction: float = 0.01
) -> npt.NDArray[np.bool_]:
    """Choose the documents of a source that are kept for validation.

    In ascending order of the hash of their ids, documents are taken until they hold
    max(`fraction`, 32,768 tokens), or until the next one would pass 10 % of the source. A document
    that alone exceeds 10 % never takes part, so one huge document cannot end the queue.

    Args:
        hashes: uint64 [n], `id_hash` of each document.
        document_tokens: int64 [n].
        fraction: the share of tokens to hold out, from 0 to 0.1.

    Returns:
        bool [n], true for held-out documents.

    Raises:
        InputError: too little text to hold any document out, or to leave one for training.
    """
    total = int(document_tokens.sum())
    limit = int(total * HELD_OUT_LIMIT)
    candidates = np.flatnonzero(document_tokens <= limit)
    if not len(candidates):
        smallest = int(document_tokens.min(initial=1 << 62))
        raise InputError(
            f"{total:,} tokens in {len(document_tokens):,} documents are too few to hold any out "
            f"for validation: at most 10 % may be, and the smallest document has {smallest:,} "
            f"tokens; {10 * smallest:,} tokens are needed. Add text, cut long files into "
            "several, or give two small sources one name"
        )
    queue = candidates[np.argsort(hashes[candidates], kind="stable")]
    filled = np.cumsum(document_tokens[queue])
    wanted = max(int(total * fraction), HELD_OUT_TOKENS)
    taken = min(
        int(np.searchsorted(filled, wanted)) + 1, int(np.searchsorted(filled, limit, "right"))
    )
    held_out = np.zeros(len(document_tokens), dtype=bool)
    held_out[queue[:taken]] = True
    return held_out


def _windows(
    documents: Int64Array, document_tokens: Int64Array, context_length: int
) -> Iterator[tuple[Chunks, Int64Array]]:
    """Chunks with their sizes, 4,096 at a time; the last window holds what is left."""
    nothing = np.zeros(0, dtype=np.int64)
    kept, kept_sizes = Chunks(nothing, nothing, nothing), nothing
    for begin in range(0, len(documents), _BLOCK_DOCUMENTS):
        tokens = document_tokens[begin : begin + _BLOCK_DOCUMENTS]
        numbers = documents[begin : begin + _BLOCK_DOCUMENTS]
        more = cut_into_chunks(numbers, tokens, context_length=context_length)
        whole = np.repeat(tokens, -(-tokens // (context_length - RESERVED_TOKENS)))
        sizes = np.concatenate([kept_sizes, chunk_sizes(more, whole)])
        chunks = Chunks(*(np.concatenate(pair) for pair in zip(kept, more, strict=True)))
        done = len(sizes) // WINDOW_CHUNKS * WINDOW_CHUNKS
        for first in range(0, done, WINDOW_CHUNKS):
            window = np.arange(first, first + WINDOW_CHUNKS)
            yield chunks.take(window), sizes[window]
        kept, kept_sizes = Chunks(*(column[done:] for column in chunks)), sizes[done:]
    if len(kept_sizes):
        yield kept, kept_sizes


def _join(parts: list[RowBlock]) -> RowBlock:
    first = np.cumsum([0, *(int(part.offsets[-1]) for part in parts)])
    offsets = [part.offsets[:-1] + begin for part, begin in zip(parts, first, strict=False)]
    columns = zip(*(part.chunks for part in parts), strict=True)
    return RowBlock(
        np.concatenate([*offsets, first[-1:]]),
        Chunks(*(np.concatenate(column) for column in columns)),
        sum(part.tokens for part in parts),
    )
