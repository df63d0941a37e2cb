"""An order that is stored, not computed: the published permutation, or files as they stand.

    order = StoredOrder.open(Path("corpus-order"), corpus, context_length=1024)
    order.rows(0, 4608)                                                   # as `order.Order` does

A directory of `order_writing.write_order`:

    manifest.json         kind `row-order`; facts: order, seed, epochs, samples, rows,
                          context_length, rows by source; made from the fingerprint of the corpus
    epoch-00000.arrow     source (uint16), row (uint32 or uint64) of each position, in blocks of
                          1,048,576 positions, memory-mapped

Every epoch holds every row of the corpus once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import ipc

from ettin import files
from ettin.data.corpus import Corpus
from ettin.data.documents import integers
from ettin.data.order import Order, Rows, Source, number_of, refuse_other_rows
from ettin.errors import InputError
from ettin.identity import identity

Int64Array = npt.NDArray[np.int64]

KIND = "row-order"
"""Not `order`, which is what the published repository of a run's ledger calls itself."""

_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
BLOCK_ROWS = 1 << 20
"""Positions of a block, all but the last of an epoch."""


class StoredOrder:
    """A stored order, opened; answers as `order.Order` does.

    Attributes:
        path: its directory.
        fingerprint: identifies every position of it.
        seed: of the permutation.
        context_length: of the rows.
        sources: with their rows in one epoch.
        epochs: how many are stored.
        length: rows of one epoch.
    """

    def __init__(self, path: Path, manifest: files.Json) -> None:
        facts = manifest["facts"]
        self.path = path
        self.fingerprint = identity(path, manifest)
        self.seed: int = facts["seed"]
        self.context_length: int = facts["context_length"]
        self.sources = tuple(Source(name, rows, rows) for name, rows in facts["sources"].items())
        self.epochs: int = facts["epochs"]
        self.length: int = facts["rows"]
        self._files: dict[int, ipc.RecordBatchFileReader] = {}

    @classmethod
    def open(cls, path: Path, corpus: Corpus, *, context_length: int) -> "StoredOrder":
        """Open a directory.

        Raises:
            InputError: it is no finished order, or one of another corpus or context length.
        """
        manifest = files.read_manifest(path, KIND)
        if manifest["made_from"]["corpus"] != corpus.fingerprint:
            raise InputError(f"{path} orders the rows of another corpus than {corpus.path}")
        order = cls(path, manifest)
        if order.context_length != context_length:
            raise InputError(
                f"{path} orders rows of {order.context_length:,} tokens, not of {context_length:,};"
                f" store another one: ettin order store {corpus.path} --context-length "
                f"{context_length} --out ANOTHER_ORDER"
            )
        return order

    def rows(self, start: int, count: int) -> Rows:
        """The rows at positions start … start + count − 1, in O(count) time and memory.

        Raises:
            InputError: positions beyond the stored epochs.
        """
        parts = []
        position, end = start, start + count
        while position < end:
            epoch, place = divmod(position, self.length)
            block, first = divmod(place, self._block_rows(epoch))
            held = self._block(epoch, block)
            taken = min(end - position, held.num_rows - first)
            source, row = (
                integers(held.column(name)[first : first + taken]).astype(np.int64)
                for name in ("source", "row")
            )
            parts.append(Rows(source, np.full(taken, epoch), row))
            position += taken
        if not parts:
            nothing = np.zeros(0, np.int64)
            return Rows(nothing, nothing, nothing)
        return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def positions(self, source: str, rows: Int64Array, *, epochs: int) -> Int64Array:
        """Where rows stand in the first epochs of the order, which are read through.

        Args:
            source: its name.
            rows: int64 [n], rows of it.
            epochs: how many.

        Returns:
            int64 [n, epochs].

        Raises:
            InputError: the order has no such source, the source no such row, or epochs are not
                stored.
        """
        number = number_of(self.sources, source)
        refuse_other_rows(self.sources[number], rows)
        found = np.empty((len(rows), epochs), dtype=np.int64)
        ascending = np.argsort(rows, kind="stable")
        wanted = rows[ascending]
        for epoch in range(epochs if len(rows) else 0):
            for first, held in self._blocks(epoch):
                row = integers(held.column("row"))
                # A document has one row as a rule: then one comparison leaves next to nothing.
                low, high = (row.dtype.type(end) for end in wanted[[0, -1]])
                is_near = row == low if low == high else (row >= low) & (row <= high)
                near = np.flatnonzero(is_near)
                near = near[integers(held.column("source"))[near] == number]
                row = row[near].astype(np.int64)
                begin, end = (np.searchsorted(wanted, row, side) for side in _SIDES)
                for repeated in range(int((end - begin).max(initial=0))):
                    hit = begin + repeated < end
                    position = epoch * self.length + first + near[hit]
                    found[ascending[(begin + repeated)[hit]], epoch] = position
        return found

    def epochs_until(self, source: str, count: int) -> int:
        """How many epochs of a source the first `count` positions touch, the last one in part."""
        number = number_of(self.sources, source)
        whole, rest = divmod(count, self.length)
        for first, held in self._blocks(whole) if rest else ():
            if first < rest and (integers(held.column("source")[: rest - first]) == number).any():
                return whole + 1
        return whole

    def _blocks(self, epoch: int) -> Iterator[tuple[int, pyarrow.RecordBatch]]:
        rows = self._block_rows(epoch)
        for block in range(-(-self.length // rows)):
            yield block * rows, self._block(epoch, block)

    def _block_rows(self, epoch: int) -> int:
        """Positions of each block of an epoch but the last."""
        return int(self._block(epoch, 0).num_rows)

    def _block(self, epoch: int, block: int) -> pyarrow.RecordBatch:
        if epoch >= self.epochs:
            raise InputError(
                f"{self.path} holds {self.epochs} epochs of {self.length:,} rows; a position in "
                f"epoch {epoch} was asked for: store more epochs"
            )
        if epoch not in self._files:
            path = epoch_path(self.path, epoch)
            self._files[epoch] = ipc.open_file(pyarrow.memory_map(str(path)))
        return self._files[epoch].get_batch(block)


AnyOrder = Order | StoredOrder
"""An order of either kind: they give the same answers to the same questions."""


def epoch_path(folder: Path, epoch: int) -> Path:
    """The file of an epoch in the directory of an order."""
    return folder / f"epoch-{epoch:05d}.arrow"
