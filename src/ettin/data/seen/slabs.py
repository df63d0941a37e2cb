"""The rows of an interval in the order of training, a slab of some ten thousand rows at a time.

    for slab in slabs(run, tables, after=100, until=200):
        slab.rows, slab.held             # what was trained on, and what it holds

Memory does not grow with the interval. A slab never crosses from one phase into the next.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow
import xxhash

from ettin.data.corpus import Corpus
from ettin.data.order import Rows
from ettin.data.seen.documents import SeenDocuments, text_of
from ettin.data.seen.rows import HeldChunks, SeenRows
from ettin.data.seen.runs import SeenPhase, SeenRun

Int64Array = npt.NDArray[np.int64]

SLAB_ROWS = 1 << 16


class Slab(NamedTuple):
    """Rows that follow one another in one phase.

    Attributes:
        phase: the phase.
        first_position: in its order.
        rows: the rows.
        held: their chunks.
        tokens: int64 [chunks], tokens of each chunk in its row, BOS and EOS counted.
        ids: of each chunk's document.
    """

    phase: SeenPhase
    first_position: int
    rows: Rows
    held: HeldChunks
    tokens: Int64Array
    ids: pyarrow.LargeStringArray

    def row_tokens(self) -> Int64Array:
        """Tokens of each row; int64 [rows]."""
        return np.add.reduceat(self.tokens, self.held.offsets[:-1])


class Tables:
    """What a corpus holds, opened as it is needed."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._rows: dict[tuple[tuple[str, ...], int], SeenRows] = {}

    @cached_property
    def documents(self) -> SeenDocuments:
        """All documents."""
        return SeenDocuments(self._corpus)

    def rows(self, phase: SeenPhase) -> SeenRows:
        """The rows of a phase's sources, in its order's numbering."""
        names = tuple(source.name for source in phase.order.sources)
        wanted = (names, phase.phase.context_length)
        if wanted not in self._rows:
            self._rows[wanted] = SeenRows(self._corpus, *wanted, documents=self.documents)
        return self._rows[wanted]


def slabs(
    run: SeenRun, tables: Tables, *, after: int, until: int, slab_rows: int = SLAB_ROWS
) -> Iterator[Slab]:
    """All rows of the steps after one step of a run, up to and including another.

    Args:
        run: the run.
        tables: of its corpus.
        after: a step of the run.
        until: a later one.
        slab_rows: the most rows of a slab; changes nothing but speed and memory.
    """
    for part in run.parts(after=after, until=until):
        table = tables.rows(part.phase)
        begin, end = part.first_position, part.first_position + part.rows
        for first in range(begin, end, slab_rows):
            rows = part.phase.order.rows(first, min(slab_rows, end - first))
            held = table.chunks(rows)
            whole, ids = tables.documents.sizes_and_ids(held.document)
            tokens = held.length + 1 + (held.start + held.length == whole)
            yield Slab(part.phase, first, rows, held, tokens, ids)


class IntervalHash:
    """A hash over the rows of an interval and the ids of the documents in them, in their order.

    It is the xxh3_128 of three such hashes' digits: of source and row of every row (the source by
    its number in the corpus; int64, little-endian), of the lengths in bytes of the ids of all
    chunks' documents (int64), and of these ids (UTF-8). Steps and phases are not in it: the same
    rows in the same order have the same hash in every run on the corpus.
    """

    def __init__(self, source_names: tuple[str, ...]) -> None:
        self._names = source_names
        self._digests = [xxhash.xxh3_128() for _ in range(3)]

    def add(self, slab: Slab) -> None:
        """Go on with a slab."""
        names = [source.name for source in slab.phase.order.sources]
        numbers = np.array([self._names.index(name) for name in names], dtype=np.int64)
        rows = np.stack([numbers[slab.rows.source], slab.rows.row], axis=1)
        offsets, text = text_of(slab.ids)
        self._digests[0].update(rows.astype("<i8").data)
        self._digests[1].update(np.diff(offsets).astype("<i8").data)
        self._digests[2].update(text[int(offsets[0]) : int(offsets[-1])].data)

    @property
    def digits(self) -> str:
        """32 hexadecimal digits."""
        digits = "".join(each.hexdigest() for each in self._digests)
        return xxhash.xxh3_128_hexdigest(digits.encode())
