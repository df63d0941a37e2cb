"""From steps to tensors: which rows a step trains on, as streams of tokens ready for a device.

A micro-batch is one flat stream, without padding: the chunks of its rows one after another, the
places where they begin and end, and one random key a position. Everything is a function of the
step, so any step can be loaded first; a background thread loads ahead and holds no state.
"""

import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ettin.data.corpus import Corpus, RowTable
from ettin.data.order import Order, Rows
from ettin.random_bits import key, keys, name_key

Loaded = TypeVar("Loaded")

PREFETCHED_STEPS = 2


@dataclass(frozen=True)
class Stream:
    """Some rows as one flat stream of T tokens in n chunks.

    Attributes:
        tokens: int64 [T].
        boundaries: int32 [n + 1]: 0, …, T.
        position_keys: int64 [T], random keys of (seed, phase, source, epoch, row, position).
        row_tokens: int64 [rows], tokens of each row.
    """

    tokens: Tensor
    boundaries: Tensor
    position_keys: Tensor
    row_tokens: npt.NDArray[np.int64]

    @property
    def text_tokens(self) -> int:
        """Tokens, BOS and EOS included; there is no padding."""
        return len(self.tokens)


@dataclass(frozen=True)
class RowReader:
    """Reads rows of one phase.

    Attributes:
        tables: the row table of each source of the order, in its order.
        sources: names of the sources.
        seed: the recipe's.
        phase: keys the random bits, so that phases differ.
    """

    tables: tuple[RowTable, ...]
    sources: tuple[str, ...]
    seed: int
    phase: str

    def stream(self, rows: Rows) -> Stream:
        """Join rows into one stream."""
        tokens: list[npt.NDArray[np.int64]] = []
        lengths: list[npt.NDArray[np.int64]] = []
        position_keys: list[npt.NDArray[np.int64]] = []
        for source, epoch, row in zip(*(column.tolist() for column in rows), strict=True):
            row_tokens, row_lengths = self.tables[source].tokens(row)
            tokens.append(row_tokens.astype(np.int64))
            lengths.append(row_lengths)
            row_key = key(
                self.seed, name_key(self.phase), name_key(self.sources[source]), epoch, row
            )
            position_keys.append(keys(row_key, np.arange(len(row_tokens), dtype=np.int64)))
        ends = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
        return Stream(
            torch.from_numpy(np.concatenate(tokens)),
            torch.from_numpy(ends.astype(np.int32)),
            torch.from_numpy(np.concatenate(position_keys)),
            np.array([len(row) for row in tokens], dtype=np.int64),
        )


def training_reader(corpus: Corpus, order: Order, *, phase: str, context_length: int) -> RowReader:
    """Reads the rows that an order names, with the random keys of a phase."""
    names = tuple(source.name for source in order.sources)
    tables = tuple(corpus.table(name, context_length) for name in names)
    return RowReader(tables, names, order.seed, phase)


def held_out_reader(corpus: Corpus, *, context_length: int) -> RowReader:
    """Reads held-out rows; their keys do not depend on the recipe, so masks are always the same."""
    names = corpus.source_names
    tables = tuple(corpus.table(name, context_length, split="held-out") for name in names)
    return RowReader(tables, names, 0, "held-out")


def held_out_rows(reader: RowReader, count: int) -> Rows:
    """At most `count` held-out rows, spread evenly over each source in proportion to its rows."""
    sizes = [len(table) for table in reader.tables]
    taken = [max(1, count * size // sum(sizes)) if sum(sizes) > count else size for size in sizes]
    source = np.repeat(np.arange(len(sizes), dtype=np.int64), taken)
    row = np.concatenate(
        [np.arange(n, dtype=np.int64) * size // n for n, size in zip(taken, sizes, strict=True)]
    )
    return Rows(source, np.zeros_like(row), row)


def split_rows(rows: Rows, size: int) -> list[Rows]:
    """Rows in portions of at most `size`, in order."""
    return [
        Rows(*(column[start : start + size] for column in rows))
        for start in range(0, len(rows.row), size)
    ]


def prefetched(load: Callable[[int], Loaded], steps: range) -> Generator[Loaded, None, None]:
    """`load(step)` for each step, computed ahead in one background thread.

    An exception in the thread is raised here, in its place. Closing the generator ends the thread.
    """
    ready: queue.Queue[tuple[Loaded | None, BaseException | None]] = queue.Queue(PREFETCHED_STEPS)
    stopped = threading.Event()

    def put(item: tuple[Loaded | None, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for step in steps:
                if stopped.is_set():
                    return
                put((load(step), None))
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            put((None, error))

    thread = threading.Thread(target=work, name="ettin-loader", daemon=True)
    thread.start()
    try:
        for _ in steps:
            item, error = ready.get()
            if error is not None:
                raise error
            assert item is not None
            yield item
    finally:
        stopped.set()
        thread.join()
