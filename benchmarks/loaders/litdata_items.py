"""litdata: `StreamingDataset` in process, over chunks and over fixed blocks of tokens."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.loaders.numpy_memmap import open_chunks
from benchmarks.loaders.packer import Batch, packed

LIBRARY = "litdata"
ROWS, ROW_TOKENS = 8, 1024
BOS = 0
SHARD_BYTES = 1 << 26


def write(folder: Path) -> None:
    """Write the chunks in its form, as bytes and as numbers, unless they are there."""
    if (folder / "litdata-finished").exists():
        return
    flat, boundaries = open_chunks(folder)
    ends = boundaries.tolist()
    forms: dict[str, tuple[Any, Any]] = {
        "bytes": (None, lambda chunk: chunk.tobytes()),
        "arrays": (None, lambda chunk: chunk),
        "tokens": (_blocks_loader(), lambda chunk: torch.from_numpy(chunk.copy())),
    }
    make_cache = import_module("litdata.streaming").Cache
    for name, (loader, form) in forms.items():
        cache = make_cache(
            str(folder / f"litdata-{name}"), chunk_bytes=SHARD_BYTES, item_loader=loader
        )
        for number in range(len(ends) - 1):
            cache[number] = form(flat[ends[number] : ends[number + 1]])
        cache.done()
        cache.merge()
    (folder / "litdata-finished").touch()


def _items(folder: Path, **settings: Any) -> Iterator[Any]:
    items = import_module("litdata").StreamingDataset(str(folder), shuffle=True, **settings)
    while True:
        yield from items


def _blocks_loader() -> Any:
    return import_module("litdata.streaming.item_loader").TokensLoader(ROW_TOKENS)


def as_bytes(folder: Path) -> Iterator[Batch]:
    """A chunk's bytes are an item, decoded one by one."""
    items = _items(folder / "litdata-bytes", batch_decode=0)
    return packed(np.frombuffer(item, dtype=np.uint16) for item in items)


def as_bytes_in_windows(folder: Path) -> Iterator[Batch]:
    """The same, decoded in the windows that it chooses."""
    items = _items(folder / "litdata-bytes")
    return packed(np.frombuffer(item, dtype=np.uint16) for item in items)


def as_arrays(folder: Path) -> Iterator[Batch]:
    """A chunk's array is an item."""
    return packed(_items(folder / "litdata-arrays"))


def blocks(folder: Path) -> Iterator[Batch]:
    """`TokensLoader`: blocks of 1,024 that cut documents anywhere; boundaries found from BOS."""
    items = _items(folder / "litdata-tokens", item_loader=_blocks_loader())
    row_starts = np.arange(0, ROWS * ROW_TOKENS + 1, ROW_TOKENS)
    while True:
        rows = [next(items) for _ in range(ROWS)]
        tokens: npt.NDArray[np.int64] = np.concatenate(rows, dtype=np.int64)
        starts = np.union1d(np.flatnonzero(tokens == BOS), row_starts)
        yield torch.from_numpy(tokens), torch.from_numpy(starts.astype(np.int32))


SETTINGS = {
    "StreamingDataset of bytes": as_bytes,
    "StreamingDataset of bytes, in windows": as_bytes_in_windows,
    "StreamingDataset of arrays": as_arrays,
    "TokensLoader, boundaries from BOS": blocks,
}
