"""Grain: `MapDataset` over a memory map, in process."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.loaders.numpy_memmap import open_chunks
from benchmarks.loaders.packer import Batch, packed

LIBRARY = "grain"
READ_AT_ONCE = 512

_Chunk = npt.NDArray[np.uint16]


class Chunks:
    """Random access to all chunks, one by one and many at once."""

    def __init__(self, folder: Path) -> None:
        self._flat, boundaries = open_chunks(folder)
        self._ends = boundaries.tolist()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: Any) -> _Chunk:
        return self._flat[self._ends[number] : self._ends[number + 1]]

    def _getitems(self, numbers: Sequence[Any]) -> list[_Chunk]:
        flat, ends = self._flat, self._ends
        return [flat[ends[number] : ends[number + 1]] for number in numbers]


def _shuffled(folder: Path) -> Any:
    return import_module("grain").MapDataset.source(Chunks(folder)).seed(0).shuffle().repeat()


def iterated(folder: Path) -> Iterator[Batch]:
    """As documented; without read threads, which only cost over memory."""
    options = import_module("grain").ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return packed(_shuffled(folder).to_iter_dataset(options))


def indexed(folder: Path) -> Iterator[Batch]:
    """The map asked by number, without an iterator around it."""
    chunks = _shuffled(folder)
    return packed(chunks[number] for number in range(1 << 40))


def many_at_once(folder: Path) -> Iterator[Batch]:
    """512 chunks asked for at a time, by the method that its own batching uses inside."""
    chunks = _shuffled(folder)

    def read() -> Iterator[_Chunk]:
        for first in range(0, 1 << 40, READ_AT_ONCE):
            yield from chunks._getitems(range(first, first + READ_AT_ONCE))

    return packed(read())


SETTINGS = {
    "MapDataset, iterated": iterated,
    "MapDataset, indexed": indexed,
    "MapDataset, 512 at once": many_at_once,
}
