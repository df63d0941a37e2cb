"""Documents → chunks: where a document is cut when it is longer than a row.

The house's rule, for a context length S: a document is cut every S − 2 tokens, and

    chunk = BOS + piece                 in the middle of a document
    chunk = BOS + piece + EOS           at its end

so that two positions are always reserved, both twins see the same bytes, and every token stands in
exactly one chunk. For S = 8, a document of 13 tokens becomes chunks of 7, 7 and 3 tokens:

    BOS t0 … t5      BOS t6 … t11      BOS t12 EOS

The published data treat the rest, the last piece of a document that is longer than a row, in
another way (`ChunkRule`): a rest that is too short is left out, and one that is short takes some
tokens from the end of the piece before it. A document of 9 tokens, with a rest of 3:

    BOS t0 … t5      BOS t6 t7 t8 EOS      the house's rule
    BOS t0 … t3      BOS t4 … t8 EOS       two tokens taken from the piece before
    BOS t0 … t5                            left out: no EOS, since the document goes on

Under every rule no token stands in two chunks, a document's pieces follow one another without a
gap, and its first piece is kept whatever its length.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ettin.errors import InputError
from ettin.random_bits import key, keys, name_key, nonnegative

Int64Array = npt.NDArray[np.int64]
HashArray = npt.NDArray[np.uint64]
ChunkRuleName = Literal["ours", "published"]

RESERVED_TOKENS = 2
MINIMUM_CONTEXT_LENGTH = 8
PUBLISHED_MINIMUM_LENGTH = 512
PUBLISHED_SKIP_BELOW = 32
PUBLISHED_SKIP_BELOW_LONG = 128
"""Above 1,024 tokens. The published folders say so: `…-chunked-1024-512-32-backfill-nodups` and
`…-chunked-8000-512-128-backfill-nodups`."""
_PUBLISHED_SHORT = 1024


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


@dataclass(frozen=True)
class ChunkRule:
    """What becomes of the rest of a document: its last piece, when that is not its first too.

    Attributes:
        minimum_length: a rest of fewer text tokens takes some from the end of the piece before it:
            any number from 0 up to what the rest lacks to a full piece, that excluded, all equally
            likely. A pure function of the document's id and the context length.
        skip_below: a rest of fewer text tokens is left out.
    """

    minimum_length: int = 0
    skip_below: int = 0


OURS = ChunkRule()
"""Every token stands in exactly one chunk."""


class Cuts(NamedTuple):
    """Where documents are cut; three int64 arrays [documents] and the length of a full piece.

    Attributes:
        pieces: how many each document has.
        last: the first token of its last piece.
        end: the first token that stands in no piece; the document's length, if none is left out.
        full: text tokens of a full piece.
    """

    pieces: Int64Array
    last: Int64Array
    end: Int64Array
    full: int

    def start(self, document: Int64Array, piece: Int64Array) -> Int64Array:
        """The first token of pieces, and for the number after a document's last one its end.

        Args:
            document: int64 [n], places in `pieces`.
            piece: int64 [n], from 0 up to the document's number of pieces, that included.
        """
        count = self.pieces[document]
        last = np.where(piece == count, self.end[document], self.last[document])
        return np.where(piece < count - 1, piece * self.full, last)


def chunk_rule(
    name: ChunkRuleName,
    *,
    context_length: int,
    minimum_length: int | None = None,
    skip_below: int | None = None,
) -> ChunkRule:
    """The rule of this name for a context length.

    Args:
        name: `ours`, or `published`: the values of the published folders, which know two lengths;
            those of 8,000 stand for all above 1,024.
        context_length: the longest row.
        minimum_length: instead of the published one.
        skip_below: instead of the published one.

    Raises:
        InputError: a value that `ours` has no use for, or longer than a piece can be.
    """
    if name == "ours":
        if minimum_length is not None or skip_below is not None:
            raise InputError(
                "a minimum chunk, or a length to skip below, has a meaning for the published chunk "
                "rule alone; ours keeps every token where it is. Give --chunk-rule published"
            )
        return OURS
    if minimum_length is None:
        minimum_length = PUBLISHED_MINIMUM_LENGTH
    if skip_below is None:
        long = context_length > _PUBLISHED_SHORT
        skip_below = PUBLISHED_SKIP_BELOW_LONG if long else PUBLISHED_SKIP_BELOW
    longest = context_length - RESERVED_TOKENS
    if not 0 <= minimum_length <= longest or not 0 <= skip_below <= longest:
        raise InputError(
            f"chunk rule with a minimum of {minimum_length:,} tokens that skips below "
            f"{skip_below:,}: rows of {context_length:,} have room for pieces of 0 to {longest:,}. "
            f"In proportion to the published rule that would be --minimum-chunk "
            f"{context_length // 2} --skip-below {context_length // 32}"
        )
    return ChunkRule(minimum_length, skip_below)


def plan_cuts(
    document_tokens: Int64Array,
    *,
    context_length: int,
    rule: ChunkRule = OURS,
    hashes: HashArray | None = None,
) -> Cuts:
    """Where a rule cuts documents.

    Args:
        document_tokens: int64 [n], all at least 1.
        context_length: the longest row, at least 8.
        rule: what becomes of rests.
        hashes: uint64 [n], `packing.id_hash` of each document; for a rule with a minimum length.

    Raises:
        InputError: the rule needs hashes, and none were given.
    """
    full = context_length - RESERVED_TOKENS
    whole, rest = np.divmod(document_tokens, full)
    may_change = (rest > 0) & (whole > 0)
    skipped = may_change & (rest < rule.skip_below)
    pieces = whole + (rest > 0) - skipped
    last = (pieces - 1) * full
    if rule.minimum_length:
        if hashes is None:
            raise InputError("this chunk rule draws by the ids of documents; give their hashes")
        filled = np.flatnonzero(may_change & ~skipped & (rest < rule.minimum_length))
        stream = key(name_key("backfill"), context_length)
        draws = nonnegative(keys(stream, hashes[filled].view(np.int64)))
        last[filled] -= draws % (full - rest[filled])
    return Cuts(pieces, last, document_tokens - np.where(skipped, rest, 0), full)


def cut_into_chunks(
    documents: Int64Array,
    document_tokens: Int64Array,
    *,
    context_length: int,
    rule: ChunkRule = OURS,
    hashes: HashArray | None = None,
) -> Chunks:
    """Cut documents; their chunks one document after another.

    Args:
        documents: int64 [n], numbers of documents.
        document_tokens: int64 [n], their tokens, all at least 1.
        context_length: the longest row, at least 8.
        rule: what becomes of rests.
        hashes: uint64 [n], `packing.id_hash` of each document; for a rule with a minimum length.

    Raises:
        InputError: the rule needs hashes, and none were given.
    """
    cuts = plan_cuts(document_tokens, context_length=context_length, rule=rule, hashes=hashes)
    place = np.repeat(np.arange(len(documents)), cuts.pieces)
    piece = np.arange(len(place)) - np.repeat(np.cumsum(cuts.pieces) - cuts.pieces, cuts.pieces)
    start = cuts.start(place, piece)
    return Chunks(documents[place], start, cuts.start(place, piece + 1) - start)


def chunk_sizes(chunks: Chunks, document_tokens: Int64Array) -> Int64Array:
    """Tokens of chunks in a row, BOS and EOS counted.

    Args:
        chunks: n chunks.
        document_tokens: int64 [n], tokens of the document of each.
    """
    closes: Int64Array = (chunks.start + chunks.length == document_tokens).astype(np.int64)
    return chunks.length + 1 + closes


def skipped_tokens(
    document_tokens: Int64Array, *, context_length: int, rule: ChunkRule = OURS
) -> int:
    """Text tokens of documents that a rule leaves out of all chunks.

    Args:
        document_tokens: int64 [n], all at least 1.
        context_length: the longest row.
        rule: what becomes of rests.
    """
    kept = plan_cuts(
        document_tokens, context_length=context_length, rule=replace(rule, minimum_length=0)
    )
    return int((document_tokens - kept.end).sum())
