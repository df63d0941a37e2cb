"""No library: chunks out of a memory map, in the order of numpy's permutation."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.loaders.packer import Batch, packed

LIBRARY = "numpy"


def open_chunks(folder: Path) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    """All chunks as one array in a map, and their boundaries."""
    # A plain view: slicing a `np.memmap` costs several times as much.
    flat = np.load(folder / "chunks.npy", mmap_mode="r").view(np.ndarray)
    return flat, np.load(folder / "boundaries.npy")


def shuffled(folder: Path) -> Iterator[Batch]:
    """Another permutation in each epoch; all of it in memory."""
    flat, boundaries = open_chunks(folder)
    ends = boundaries.tolist()

    def chunks() -> Iterator[npt.NDArray[np.uint16]]:
        epoch = 0
        while True:
            for number in np.random.default_rng(epoch).permutation(len(ends) - 1).tolist():
                yield flat[ends[number] : ends[number + 1]]
            epoch += 1

    return packed(chunks())


SETTINGS = {"memory map, permutation": shuffled}
