"""Rows → chunks → documents of a corpus, and back, many at once, from the memory-mapped tables.

    table = SeenRows(corpus, ("books", "web"), 1024)
    held = table.chunks(order.rows(0, 65_536))        # what these rows hold
    table.rows_with("books", 7)                       # which rows hold document 7

Only the tables are read, never tokens. A row's chunks are found without a search; the rows of a
document are found by looking through those blocks of a table whose range of documents holds it,
few of them, since rows are planned shard by shard.
"""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import ipc

from ettin.data.chunking import Chunks
from ettin.data.corpus import Corpus, Split, rows_path
from ettin.data.documents import integers
from ettin.data.order import Rows
from ettin.data.seen.documents import SeenDocuments, groups

Int64Array = npt.NDArray[np.int64]


class HeldChunks(NamedTuple):
    """The chunks of some rows, in their order.

    Attributes:
        counts: int64 [rows], chunks of each row.
        document: int64 [chunks], numbers over all sources of the corpus; see `SeenDocuments`.
        start: int64 [chunks], the first text token of each in its document.
        length: int64 [chunks], text tokens.
    """

    counts: Int64Array
    document: Int64Array
    start: Int64Array
    length: Int64Array

    @property
    def offsets(self) -> Int64Array:
        """int64 [rows + 1]; row r holds the chunks offsets[r] … offsets[r + 1] − 1."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts)])


class RowsOfDocument(NamedTuple):
    """The pieces of one document; three int64 arrays [n], ascending by row.

    Attributes:
        row: in the table of the source.
        start: the first text token in the document.
        length: text tokens.
    """

    row: Int64Array
    start: Int64Array
    length: Int64Array


class SeenRows:
    """The row tables of some sources of a corpus.

    Args:
        corpus: the corpus.
        sources: names, in the order of `Rows.source`.
        context_length: of the tables.
        documents: of the corpus.
        split: `train` or `held-out`.
    """

    def __init__(
        self,
        corpus: Corpus,
        sources: tuple[str, ...],
        context_length: int,
        *,
        documents: SeenDocuments,
        split: Split = "train",
    ) -> None:
        self.sources = sources
        self._blocks: list[_Block] = []
        firsts: list[int] = []
        sizes: list[int] = []
        self._own: dict[str, range] = {}
        for name in sources:
            firsts.append(sum(sizes))
            begin = len(self._blocks)
            path = rows_path(corpus.path / name, context_length, split)
            for column in _columns(path):
                self._blocks.append(_Block(column, documents.first[name]))
                sizes.append(len(column))
            self._own[name] = range(begin, len(self._blocks))
        self._first_of_source = np.array(firsts, dtype=np.int64)
        self._first = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])

    def chunks(self, rows: Rows) -> HeldChunks:
        """What rows hold, in their order; O(rows) whatever the size of the corpus."""
        numbers = self._first_of_source[rows.source] + rows.row
        block = np.searchsorted(self._first, numbers, "right") - 1
        begins = np.empty(len(numbers), dtype=np.int64)
        counts = np.empty(len(numbers), dtype=np.int64)
        found = [(self._blocks[int(block[which[0]])], which) for which in groups(block)]
        for here, which in found:
            inside = numbers[which] - self._first[block[which]]
            begins[which] = here.offsets[inside]
            counts[which] = here.offsets[inside + 1] - here.offsets[inside]
        target = np.cumsum(counts) - counts
        columns = np.empty((3, int(counts.sum())), dtype=np.int64)
        for here, which in found:
            taken = ranges(begins[which], counts[which])
            placed = ranges(target[which], counts[which])
            for number, column in enumerate(here.chunks):
                columns[number, placed] = column[taken]
            columns[0, placed] += here.first_document
        return HeldChunks(counts, *columns)

    def rows_with(self, source: str, document: int) -> RowsOfDocument:
        """The rows that hold a piece of a document, by its number in its source."""
        begin, found = 0, [np.zeros((3, 0), dtype=np.int64)]
        for number in self._own[source]:
            block = self._blocks[number]
            low, high = block.documents
            if low <= document <= high:
                places = np.flatnonzero(block.chunks.document == document)
                row = np.searchsorted(block.offsets, places, "right") - 1
                pieces = block.chunks.start[places], block.chunks.length[places]
                found.append(np.array([begin + row, *pieces], dtype=np.int64))
            begin += len(block.offsets) - 1
        return RowsOfDocument(*np.concatenate(found, axis=1))


class _Block:
    """One record batch of a row table."""

    def __init__(self, column: pyarrow.ListArray, first_document: int) -> None:
        self.offsets: npt.NDArray[np.int32] = integers(column.offsets)
        fields = [integers(column.values.field(name)) for name in Chunks._fields]
        self.chunks = Chunks(*fields)
        self.first_document = first_document

    @cached_property
    def documents(self) -> tuple[int, int]:
        """The lowest and the highest document in it; a reading of its column, once."""
        column = self.chunks.document
        return (int(column.min()), int(column.max())) if len(column) else (1, 0)


def ranges(begins: Int64Array, counts: Int64Array) -> Int64Array:
    """begins[0], begins[0] + 1, … as many as counts[0], then the next; int64 [Σ counts].

    Example:
        >>> ranges(np.array([5, 9]), np.array([3, 2])).tolist()
        [5, 6, 7, 9, 10]
    """
    before = np.cumsum(counts) - counts
    return np.repeat(begins - before, counts) + np.arange(int(counts.sum()), dtype=np.int64)


def _columns(path: Path) -> list[pyarrow.ListArray]:
    reader = ipc.open_file(pyarrow.memory_map(str(path)))
    return [reader.get_batch(number).column(0) for number in range(reader.num_record_batches)]
