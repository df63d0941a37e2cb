"""From steps to tensors: which rows a step trains on, as streams of tokens ready for a device.

A micro-batch is one flat stream, without padding: the chunks of its rows one after another, the
places where they begin and end, and one random key a position. Everything is a function of the
step, so any step can be loaded first; a background thread loads ahead and holds no state.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ettin.data.corpus import Corpus, HeldTexts, RowTable
from ettin.data.order import Rows
from ettin.data.stored_order import AnyOrder
from ettin.random_bits import STRIDE, key, name_key, scramble

Loaded = TypeVar("Loaded")

PREFETCHED_STEPS = 2
BLOCK_ROWS = 512


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


class Joined(NamedTuple):
    """The text of some rows; see `Stream`."""

    tokens: Tensor
    boundaries: Tensor
    row_tokens: npt.NDArray[np.int64]


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
        (stream,) = self.streams(rows, size=max(1, len(rows.row)))
        return stream

    def streams(self, rows: Rows, *, size: int) -> Iterator[Stream]:
        """Join rows into streams of at most `size` rows each, in order."""
        row_keys = self._row_keys(rows)
        first = 0
        for joined in self.joined(rows, size=size):
            end = first + len(joined.row_tokens)
            position_keys = _position_keys(row_keys[first:end], joined.row_tokens)
            yield Stream(
                joined.tokens, joined.boundaries, torch.from_numpy(position_keys), joined.row_tokens
            )
            first = end

    def joined(self, rows: Rows, *, size: int) -> Iterator[Joined]:
        """The same without random keys, for who asks for text alone.

        Raises:
            IndexError, ValueError: the corpus is damaged; `ettin check` says where.
        """
        # A block's chunks are found together, which costs little a row; more rows at once would
        # only leave the caches.
        for block in split_rows(rows, size * max(1, BLOCK_ROWS // size)):
            yield from self._joined_block(block, size)

    def _joined_block(self, rows: Rows, size: int) -> Iterator[Joined]:
        held = self._texts(rows)
        edges = _sums(held.lengths)
        begins = _sums(held.counts)
        row_tokens = np.diff(edges[begins])
        small_edges = edges.astype(np.int32)
        borders = [*begins[:-1:size].tolist(), len(held.texts)]
        ends = held.ends.tolist()
        stored = self.tables[0].documents.token_type
        special = self.tables[0].special
        bos, eos = (stored.type(token).tobytes() for token in (special.bos, special.eos))
        # Bytes are joined and made integers once: assigning chunk by chunk costs twice as much.
        parts: list[memoryview | bytes] = [b""] * (2 * len(ends))
        parts[::2] = held.texts
        parts[1::2] = [eos + bos if is_end else bos for is_end in ends]
        for number, (begin, end) in enumerate(pairwise(borders)):
            own = [bos, *parts[2 * begin : 2 * end]]
            own[-1] = eos if ends[end - 1] else b""
            tokens = np.frombuffer(b"".join(own), stored).astype(np.int64)
            boundaries = small_edges[begin : end + 1] - small_edges[begin]
            if boundaries[-1] != len(tokens):
                raise ValueError("a shard holds less than its documents; run: ettin check CORPUS")
            yield Joined(
                torch.from_numpy(tokens),
                torch.from_numpy(boundaries),
                row_tokens[number * size : (number + 1) * size],
            )

    def _texts(self, rows: Rows) -> HeldTexts:
        """What rows hold, in their order, whichever sources they are of."""
        if len(self.tables) == 1:
            return self.tables[0].texts(rows.row)
        own = [np.flatnonzero(rows.source == source) for source in range(len(self.tables))]
        held = [table.texts(rows.row[mine]) for table, mine in zip(self.tables, own, strict=True)]
        counts = np.empty(len(rows.row), dtype=np.int64)
        for mine, each in zip(own, held, strict=True):
            counts[mine] = each.counts
        row_of_chunk = [np.repeat(mine, counts[mine]) for mine in own]
        places = np.argsort(np.concatenate(row_of_chunk), kind="stable")
        texts = [text for each in held for text in each.texts]
        return HeldTexts(
            counts,
            np.concatenate([each.lengths for each in held])[places],
            [texts[place] for place in places.tolist()],
            np.concatenate([each.ends for each in held])[places],
        )

    def _row_keys(self, rows: Rows) -> npt.NDArray[np.int64]:
        """`key(seed, phase, source, epoch, row)` of each row; int64 [rows]."""
        name = name_key(self.phase)
        sources = [key(self.seed, name, name_key(source)) for source in self.sources]
        first = np.array(sources, dtype=np.int64)[rows.source]
        return _keys_of_each(_keys_of_each(first, rows.epoch), rows.row)


def _sums(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0, then the sum of the first, of the first two …; int64 [n + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])


def _keys_of_each(
    streams: npt.NDArray[np.int64], parts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """`keys(stream, part)` for each pair."""
    return scramble(parts + streams + STRIDE)


def _position_keys(
    row_keys: npt.NDArray[np.int64], row_tokens: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """`keys(row_key, 0 … n − 1)` of each row, one row after another; int64 [Σ row_tokens]."""
    begins = np.cumsum(row_tokens) - row_tokens
    counters = np.repeat(row_keys + STRIDE - begins, row_tokens)
    counters += np.arange(len(counters), dtype=np.int64)
    return scramble(counters)


def training_reader(
    corpus: Corpus, order: AnyOrder, *, phase: str, context_length: int
) -> RowReader:
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
