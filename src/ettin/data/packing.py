"""Chunks → rows: which pieces of documents stand together in one training sequence.

    for block in plan_rows(documents, document_tokens, context_length=1024):
        block.offsets, block.chunks        # row r holds chunks offsets[r] … offsets[r + 1] − 1

Rows take whole chunks (see `chunking`), at most S tokens. Documents come shard by shard in
ascending order of the hash of their ids, so that a row never holds neighbours of one folder. Chunks
are packed best fit decreasing in windows of 16,384 (Johnson 1974), which fills more than 99.8 %
of the rows of most text.

The same hash decides what is held out for validation, so a document has the same place in the
queue in every corpus.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from ettin.data.chunking import (
    OURS,
    ChunkRule,
    Chunks,
    HashArray,
    chunk_sizes,
    cut_into_chunks,
)
from ettin.errors import InputError

Packing = Literal["chunks", "none"]
Int64Array = npt.NDArray[np.int64]

WINDOW_CHUNKS = 16_384
HELD_OUT_TOKENS = 32_768
HELD_OUT_LIMIT = 0.1
_BLOCK_DOCUMENTS = 1 << 16
_BLOCK_ROWS = 1 << 16


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


def plan_rows(
    documents: Int64Array,
    document_tokens: Int64Array,
    *,
    context_length: int,
    packing: Packing = "chunks",
    rule: ChunkRule = OURS,
    hashes: HashArray | None = None,
) -> Iterator[RowBlock]:
    """Lay documents out in rows, in blocks of about 65,536 rows.

    Args:
        documents: int64 [n], numbers of documents in the order in which they are taken.
        document_tokens: int64 [n], their tokens.
        context_length: the longest row.
        packing: `chunks` fills rows, `none` gives each chunk a row of its own.
        rule: how documents are cut.
        hashes: uint64 [n], `id_hash` of each document; for a rule with a minimum length.

    Raises:
        InputError: the rule needs hashes, and none were given.
    """
    parts: list[RowBlock] = []
    for window, sizes in _windows(documents, document_tokens, context_length, rule, hashes):
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

    Args:
        sizes: int64 [n], tokens of the chunks, each from 1 to `context_length`; n at least 1.
        context_length: tokens that fit in a row.

    Returns:
        The chunks in the order of rows, and the number of chunks of each row; int64.
    """
    # Equal sizes keep their order: the result depends on nothing but the input.
    decreasing = np.argsort(-sizes, kind="stable")
    ordered = sizes[decreasing]
    smallest = int(ordered[-1])
    # The rows with so much room left: the latest of them, and for each row the one before it.
    latest, before = [-1] * (context_length + 1), [-1] * len(sizes)
    # Two chunks of more than half a row never meet, so each of them opens a row.
    rows = int(np.searchsorted(-ordered, -(context_length // 2)))
    row_of = list(range(rows))
    opened = context_length - ordered[:rows]
    first = int(np.searchsorted(opened, smallest))
    for row, room in enumerate(opened[first:].tolist(), start=first):
        before[row], latest[room] = latest[room], row
    # What is left in rows, each number once, ascending; nothing in which no chunk has room.
    rooms: list[int] = np.unique(opened[first:]).tolist()
    for size in ordered[rows:].tolist():
        place = bisect_left(rooms, size)
        if place < len(rooms):
            room = rooms[place]
            row = latest[room]
            others = latest[room] = before[row]
            if others < 0:
                del rooms[place]
            room -= size
        else:
            row, rows, room = rows, rows + 1, context_length - size
        row_of.append(row)
        if room >= smallest:
            others = before[row] = latest[room]
            if others < 0:
                insort(rooms, room)
            latest[room] = row
    places = np.array(row_of, dtype=np.int64)
    return decreasing[np.argsort(places, kind="stable")], np.bincount(places)


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
    documents: Int64Array,
    document_tokens: Int64Array,
    context_length: int,
    rule: ChunkRule,
    hashes: HashArray | None,
) -> Iterator[tuple[Chunks, Int64Array]]:
    """Chunks with their sizes, 16,384 at a time; the last window holds what is left."""
    nothing = np.zeros(0, dtype=np.int64)
    kept, kept_sizes = Chunks(nothing, nothing, nothing), nothing
    for begin in range(0, len(documents), _BLOCK_DOCUMENTS):
        block = slice(begin, begin + _BLOCK_DOCUMENTS)
        tokens = document_tokens[block]
        more = cut_into_chunks(
            np.arange(len(tokens)),
            tokens,
            context_length=context_length,
            rule=rule,
            hashes=None if hashes is None else hashes[block],
        )
        sizes = np.concatenate([kept_sizes, chunk_sizes(more, tokens[more.document])])
        more = more._replace(document=documents[block][more.document])
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
