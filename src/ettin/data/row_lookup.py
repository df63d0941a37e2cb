"""Rows of a table → their chunks, many at once, straight from the memory-mapped file."""

import numpy as np
import numpy.typing as npt
import pyarrow

from ettin.data.chunking import Chunks

Int64Array = npt.NDArray[np.int64]


class RowLookup:
    """A whole row table as one array of 32-bit words, and where in it each column begins.

    With it the chunks of rows all over the table are found at once, whichever record batches they
    stand in: rows of a step come from all of them.

    Args:
        content: the file, mapped.
        batches: its record batches' column of chunks, views of the same mapping.
    """

    def __init__(self, content: pyarrow.Buffer, batches: list[pyarrow.ListArray]) -> None:
        self._words = np.frombuffer(content, np.uint32, count=content.size // 4)
        self._first = np.cumsum([0, *map(len, batches)], dtype=np.int64)
        begins = [
            [_address(batch.offsets), *(_address(batch.values.field(n)) for n in Chunks._fields)]
            for batch in batches
        ]
        # [columns, batches]; the columns are those of Chunks after the boundaries of rows.
        self._begins = (np.array(begins, dtype=np.int64).reshape(-1, 4).T - content.address) // 4

    def chunks(self, rows: Int64Array, *, longest: int) -> tuple[Int64Array, Chunks]:
        """The chunks of rows; O(rows) whatever the size of the table.

        Args:
            rows: int64 [n], rows of the table in any order.
            longest: the most chunks that a row can have.

        Returns:
            int64 [n], how many chunks each row has; and the chunks, row after row.

        Raises:
            IndexError: the table is damaged: chunks of a row lie beyond its end.
            ValueError: a row has more than `longest` chunks, or none.
        """
        batch = np.searchsorted(self._first, rows, "right") - 1
        place = self._begins[0, batch] + rows - self._first[batch]
        begin = self._words[place].astype(np.int64)
        counts = self._words[place + 1] - begin
        if len(rows) and not 1 <= counts.min() <= counts.max() <= longest:
            raise ValueError(f"rows hold {counts.min()} to {counts.max()} chunks")
        begin -= np.cumsum(counts) - counts
        inside = np.repeat(begin, counts) + np.arange(counts.sum(), dtype=np.int64)
        batch = np.repeat(batch, counts)
        columns = (self._words[column[batch] + inside] for column in self._begins[1:])
        return counts, Chunks(*(column.astype(np.int64) for column in columns))


def _address(values: pyarrow.Array) -> int:
    """Where the values of an integer array of 32 bits begin in memory."""
    address: int = values.buffers()[1].address
    return address + 4 * int(values.offset)
