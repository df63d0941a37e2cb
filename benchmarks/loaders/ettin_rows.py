"""Ours: rows of a global batch in the order of training, as micro-batches of 8 rows of 1,024."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from benchmarks.loaders.packer import Batch
from ettin.data.batches import RowReader, prefetched, training_reader
from ettin.data.corpus import Corpus
from ettin.data.order import Order, make_order

LIBRARY = "ettin"
CONTEXT_LENGTH = 1024
MICRO_BATCH_ROWS = 8
PUBLISHED_STEP_ROWS = 4608
SMALL_STEP_ROWS = 512


def open_reader(folder: Path) -> tuple[Order, RowReader]:
    """The order and the rows of the corpus in a folder of `made_up`."""
    corpus = Corpus.open(folder / "corpus")
    rows = {name: len(corpus.table(name, CONTEXT_LENGTH)) for name in corpus.source_names}
    order = make_order(seed=0, phase="pretraining", rows=rows, mixture={})
    reader = training_reader(corpus, order, phase=order.phase, context_length=CONTEXT_LENGTH)
    return order, reader


def _steps(folder: Path, step_rows: int) -> Iterator[Batch]:
    order, reader = open_reader(folder)
    for step in count():
        rows = order.rows(step * step_rows, step_rows)
        for joined in reader.joined(rows, size=MICRO_BATCH_ROWS):
            yield joined.tokens, joined.boundaries


def published_steps(folder: Path) -> Iterator[Batch]:
    """576 micro-batches a step."""
    return _steps(folder, PUBLISHED_STEP_ROWS)


def small_steps(folder: Path) -> Iterator[Batch]:
    """64 micro-batches a step."""
    return _steps(folder, SMALL_STEP_ROWS)


def ahead_in_a_thread(folder: Path) -> Iterator[Batch]:
    """A step at a time, loaded in a thread while the one before it is used."""
    order, reader = open_reader(folder)

    def load(step: int) -> list[Batch]:
        rows = order.rows(step * SMALL_STEP_ROWS, SMALL_STEP_ROWS)
        return [
            (joined.tokens, joined.boundaries)
            for joined in reader.joined(rows, size=MICRO_BATCH_ROWS)
        ]

    for batches in prefetched(load, range(1 << 40)):
        yield from batches


def with_keys(folder: Path) -> Iterator[Batch]:
    """What training loads: a 64-bit random key for each token beside it."""
    order, reader = open_reader(folder)
    for step in count():
        rows = order.rows(step * PUBLISHED_STEP_ROWS, PUBLISHED_STEP_ROWS)
        for stream in reader.streams(rows, size=MICRO_BATCH_ROWS):
            yield stream.tokens, stream.boundaries


SETTINGS = {
    "rows, steps of 4,608": published_steps,
    "rows, steps of 512": small_steps,
    "rows, steps of 512, in a thread": ahead_in_a_thread,
    "rows and random keys": with_keys,
}
