"""An order that is stored, not computed: the published permutation, or files as they stand.

    write_order(corpus, Path("corpus-order"), context_length=1024)        # permutation, seed 21
    write_order(corpus, Path("replay-order"), context_length=1024, order="files")
    order = StoredOrder.open(Path("corpus-order"), corpus)
    order.rows(0, 4608)                                                   # as `order.Order` does

The published runs took samples in the order of numpy's `Generator(PCG64DXSM(21 + epoch))
.permutation(n)` over all samples of their root index, batch after batch, each sample a sequence of
its own. No part of such a permutation can be had without the whole, so it is made once and stored:

    manifest.json         kind `order`; facts: order, seed, epochs, samples, rows, context_length,
                          rows by source; made from the fingerprint of the corpus
    epoch-00000.arrow     source (uint16), row (uint32 or uint64) of each position, in blocks of
                          1,048,576 positions, memory-mapped

It needs a corpus in which a sample is a row: prepared with `--packing none` and rows as long as the
longest sample. Samples that are not in the training rows (held out, or skipped when the corpus was
prepared) are left out of the order, and counted; what follows moves up.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import ipc

from ettin import files
from ettin.console import log, progress
from ettin.data.corpus import Corpus
from ettin.data.mds_index import read_index
from ettin.data.order import Rows, Source
from ettin.errors import InputError, nearest

Int64Array = npt.NDArray[np.int64]

KIND = "order"
PUBLISHED_SEED = 21
BLOCK_ROWS = 1 << 20

_NOWHERE = np.iinfo(np.uint16).max


class StoredOrder:
    """A stored order, opened; answers as `order.Order` does.

    Attributes:
        path: its directory.
        fingerprint: identifies every position of it.
        seed: of the permutation, and of the masks of a run that follows it.
        sources: with their rows in one epoch.
        epochs: how many are stored.
        length: rows of one epoch.
    """

    def __init__(self, path: Path, manifest: files.Json) -> None:
        facts = manifest["facts"]
        self.path = path
        self.fingerprint: str = manifest["digest"]
        self.seed: int = facts["seed"]
        self.sources = tuple(Source(name, rows, rows) for name, rows in facts["sources"].items())
        self.epochs: int = facts["epochs"]
        self.length: int = facts["rows"]
        self._files: dict[int, ipc.RecordBatchFileReader] = {}

    @classmethod
    def open(cls, path: Path, corpus: Corpus) -> "StoredOrder":
        """Open a directory.

        Raises:
            InputError: it is no finished order, or one of another corpus.
        """
        manifest = files.read_manifest(path, KIND)
        if manifest["made_from"]["corpus"] != corpus.fingerprint:
            raise InputError(f"{path} orders the rows of another corpus than {corpus.path}")
        return cls(path, manifest)

    def rows(self, start: int, count: int) -> Rows:
        """The rows at positions start … start + count − 1, in O(count) time and memory.

        Raises:
            InputError: positions beyond the stored epochs.
        """
        parts = []
        position, end = start, start + count
        while position < end:
            epoch, place = divmod(position, self.length)
            block, first = divmod(place, BLOCK_ROWS)
            held = self._block(epoch, block)
            taken = min(end - position, held.num_rows - first)
            source, row = (
                held.column(name)[first : first + taken].to_numpy().astype(np.int64)
                for name in ("source", "row")
            )
            parts.append(Rows(source, np.full(taken, epoch), row))
            position += taken
        if not parts:
            nothing = np.zeros(0, np.int64)
            return Rows(nothing, nothing, nothing)
        return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def positions(self, source: str, row: int, *, epochs: int) -> list[int]:
        """Where a row stands in the order in its first epochs; scans them.

        Raises:
            InputError: the order has no such source, or epochs are not stored.
        """
        number = self._number(source)
        return [
            epoch * self.length + first + int(place)
            for epoch in range(epochs)
            for first, held in self._blocks(epoch)
            for place in np.flatnonzero(
                (held.column("source").to_numpy() == number)
                & (held.column("row").to_numpy() == row)
            )
        ]

    def epochs_until(self, source: str, count: int) -> int:
        """How many epochs of a source the first `count` positions touch, the last one in part."""
        number = self._number(source)
        whole, rest = divmod(count, self.length)
        for first, held in self._blocks(whole) if rest else ():
            if first < rest and (held.column("source")[: rest - first].to_numpy() == number).any():
                return whole + 1
        return whole

    def _number(self, source: str) -> int:
        names = [each.name for each in self.sources]
        if source not in names:
            raise InputError(f"there is no source {source!r}; {nearest(source, names)}")
        return names.index(source)

    def _blocks(self, epoch: int) -> Iterator[tuple[int, pyarrow.RecordBatch]]:
        for block in range(-(-self.length // BLOCK_ROWS)):
            yield block * BLOCK_ROWS, self._block(epoch, block)

    def _block(self, epoch: int, block: int) -> pyarrow.RecordBatch:
        if epoch >= self.epochs:
            raise InputError(
                f"{self.path} holds {self.epochs} epochs of {self.length:,} rows; a position in "
                f"epoch {epoch} was asked for: store more epochs"
            )
        if epoch not in self._files:
            self._files[epoch] = ipc.open_file(pyarrow.memory_map(str(_path(self.path, epoch))))
        return self._files[epoch].get_batch(block)


def write_order(
    corpus: Corpus,
    out: Path,
    *,
    context_length: int,
    order: Literal["published", "files"] = "published",
    seed: int = PUBLISHED_SEED,
    epochs: int = 1,
    index: Path | None = None,
    command: list[str] | None = None,
) -> files.Json:
    """Store an order of a corpus; how much memory that takes is logged before it begins.

    Args:
        corpus: in which each document is one row.
        out: a new directory.
        context_length: the rows to order.
        order: `published`: `permutation`, another one in every epoch; `files`: documents as they
            stand, source after source, to replay data that lie in training order.
        seed: of the first epoch; the one after it has the next seed.
        epochs: how many to store.
        index: a folder whose merged MDS index numbers the samples, as the published order counts
            them; None to number the documents of the corpus, source after source.
        command: the command line, for the manifest.

    Returns:
        The manifest.

    Raises:
        InputError: documents of several rows or rows of several documents, an index that the
            corpus was not made from, or `out` holds something.
        NoSpaceError: the disk is full.
    """
    shards = None if index is None else _first_samples(index)
    documents = sum(len(corpus.documents(name)) for name in corpus.source_names)
    samples = documents if shards is None else shards[1]
    wide = 4 if samples < 1 << 32 else 8
    largest = max(len(corpus.table(name, context_length)) for name in corpus.source_names)
    log.info(
        "an order of %s samples takes %s MB of memory while it is made, and up to %s MB on disk "
        "for each of %d epochs",
        f"{samples:,}", f"{(samples * (wide + 6) + 32 * largest) / 1e6:,.0f}",
        f"{6 * samples / 1e6:,.0f}", epochs,
    )  # fmt: skip
    source, row = _rows_of_samples(corpus, context_length, samples, shards[0] if shards else None)
    rows = int((source != _NOWHERE).sum())
    counts = {name: len(corpus.table(name, context_length)) for name in corpus.source_names}
    if rows != sum(counts.values()):
        raise InputError(
            f"{sum(counts.values()) - rows:,} of {sum(counts.values()):,} rows of {corpus.path} "
            f"are no samples of {index}: it was made from other shards"
        )
    if rows < samples:
        log.info("%s samples are not among the training rows and left out", f"{samples - rows:,}")
    with files.staging(out) as partial:
        for epoch in range(epochs):
            order_of = None if order == "files" else permutation(samples, seed + epoch)
            _write_epoch(_path(partial, epoch), source, row, order_of)
        facts = {
            "order": order, "seed": seed, "epochs": epochs, "samples": samples, "rows": rows,
            "context_length": context_length, "sources": counts,
        }  # fmt: skip
        made_from = {"corpus": corpus.fingerprint}
        return files.write_manifest(
            partial, KIND, command=command or [], made_from=made_from, facts=facts
        )


def permutation(count: int, seed: int) -> npt.NDArray[np.uint32 | np.uint64]:
    """What numpy's `Generator(PCG64DXSM(seed)).permutation(count)` gives, in half its memory.

    Example:
        >>> permutation(5, 21).tolist() == np.random.Generator(
        ...     np.random.PCG64DXSM(21)).permutation(5).tolist()
        True
    """
    kind = np.uint32 if count < 1 << 32 else np.uint64
    numbers: npt.NDArray[np.uint32 | np.uint64] = np.arange(count, dtype=kind)
    # The draws of a shuffle depend on the count alone, not on what is shuffled.
    np.random.Generator(np.random.PCG64DXSM(seed)).shuffle(numbers)
    return numbers


def _rows_of_samples(
    corpus: Corpus, context_length: int, samples: int, shards: dict[tuple[str, str], int] | None
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[Any]]:
    """Source and row of each sample; the source is `_NOWHERE` where a sample has no row."""
    source = np.full(samples, _NOWHERE, np.uint16)
    largest = max(len(corpus.table(name, context_length)) for name in corpus.source_names)
    row = np.zeros(samples, np.uint32 if largest < 1 << 32 else np.uint64)
    before = 0
    for number, name in enumerate(corpus.source_names):
        table, documents = corpus.table(name, context_length), corpus.documents(name)
        chunks = table.all_chunks()
        whole = documents.token_counts[chunks.document]
        if len(chunks.document) != len(table) or not (chunks.length == whole).all():
            raise InputError(
                f"{corpus.path}, source {name}: a stored order needs rows of one whole document "
                f"each; its longest has {int(documents.token_counts.max()):,} tokens. Prepare it "
                f"with --packing none and --context-length "
                f"{int(documents.token_counts.max()) + 2} at least"
            )
        if shards is None:
            sample = before + chunks.document
        else:
            sample = _samples_of_documents(corpus, name, shards)[chunks.document]
        known = sample >= 0
        source[sample[known]] = number
        row[sample[known]] = np.flatnonzero(known)
        before += len(documents)
    return source, row


def _first_samples(index: Path) -> tuple[dict[tuple[str, str], int], int]:
    """Where each shard of a merged index begins, by folder and name in it, and all samples."""
    first: dict[tuple[str, str], int] = {}
    samples = 0
    for shard in read_index(index):
        folder, _, name = shard.name.removeprefix("train/").partition("/")
        first[_letters(folder), name] = samples
        samples += shard.samples
    return first, samples


def _samples_of_documents(
    corpus: Corpus, source: str, shards: dict[tuple[str, str], int]
) -> Int64Array:
    """The sample that each document of a source was read from; −1 where the index has none."""
    documents = corpus.documents(source)
    found = np.full(len(documents), -1, np.int64)
    for document in range(len(documents)):
        name, _, place = documents.origin(document).rpartition(":")
        first = shards.get((_letters(source), name))
        if first is not None and place.isdecimal():
            found[document] = first + int(place)
    return found


def _letters(name: str) -> str:
    """What of a folder's name is compared, as sources of mixtures are found."""
    return "".join(each for each in name.casefold() if each.isalnum())


def _write_epoch(
    path: Path,
    source: npt.NDArray[np.uint16],
    row: npt.NDArray[Any],
    order: npt.NDArray[Any] | None,
) -> None:
    """Write one epoch in blocks of `BLOCK_ROWS` positions; `order` None is that of the samples."""
    kind = pyarrow.uint32() if row.dtype == np.uint32 else pyarrow.uint64()
    schema = pyarrow.schema([("source", pyarrow.uint16()), ("row", kind)])
    kept: list[npt.NDArray[Any]] = [np.zeros(0, np.uint16), np.zeros(0, row.dtype)]
    with (
        pyarrow.OSFile(str(path), "wb") as file,
        ipc.new_file(file, schema) as writer,
        progress("storing the order", total=len(source), unit="rows") as shown,
    ):
        for first in range(0, len(source), BLOCK_ROWS):
            end = min(first + BLOCK_ROWS, len(source))
            taken: Any = slice(first, end) if order is None else order[first:end]
            present = source[taken] != _NOWHERE
            kept = [
                np.concatenate([left, column[taken][present]])
                for left, column in zip(kept, (source, row), strict=True)
            ]
            while len(kept[0]) >= BLOCK_ROWS or (end == len(source) and len(kept[0])):
                block = [pyarrow.array(column[:BLOCK_ROWS]) for column in kept]
                writer.write_batch(pyarrow.RecordBatch.from_arrays(block, schema=schema))
                kept = [column[BLOCK_ROWS:] for column in kept]
            shown.update(end, path.name)


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:05d}.arrow"
