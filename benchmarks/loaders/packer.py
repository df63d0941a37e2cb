"""The packer that every library but ours is given: chunks one after another until a batch is full.

    for tokens, boundaries in packed(chunks): ...

It is the cheapest one that keeps boundaries: it holds one batch, looks at no row, pads nothing, and
copies each token once. What it makes has the form of ours: int64 tokens, int32 boundaries.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch

BATCH_TOKENS = 8 * 1024

Batch = tuple[torch.Tensor, torch.Tensor]
"""int64 [T] tokens and int32 [n + 1] boundaries 0, …, T of n chunks."""


def packed(chunks: Iterable[npt.NDArray[np.uint16]]) -> Iterator[Batch]:
    """Batches of whole chunks, each of at most 8 × 1,024 tokens."""
    held: list[npt.NDArray[np.uint16]] = []
    ends, filled = [0], 0
    for chunk in chunks:
        size = len(chunk)
        if filled + size > BATCH_TOKENS:
            yield joined(held, ends)
            held, ends, filled = [], [0], 0
        held.append(chunk)
        filled += size
        ends.append(filled)


def joined(chunks: list[npt.NDArray[np.uint16]], ends: list[int]) -> Batch:
    """Chunks as one batch; `ends` begins with 0."""
    tokens: npt.NDArray[np.int64] = np.concatenate(chunks, dtype=np.int64)
    return torch.from_numpy(tokens), torch.from_numpy(np.array(ends, dtype=np.int32))
