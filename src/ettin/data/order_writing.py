"""Orders are stored: the published permutation is made once, or files are kept as they stand.

    write_order(corpus, Path("corpus-order"), context_length=1024)        # permutation, seed 21
    write_order(corpus, Path("replay-order"), context_length=1024, order="files")

The published runs took samples in the order of numpy's `Generator(PCG64DXSM(21 + epoch))
.permutation(n)` over all samples of their root index, batch after batch, each sample a sequence of
its own. It needs a corpus in which a sample is a row: prepared with `--packing none` and rows as
long as the longest sample. Samples that are not in the training rows (held out, or skipped when
the corpus was prepared) are left out of the order, and counted; what follows moves up.

What is held in memory is the permutation, 4 bytes a sample, and the runs: stretches in which
sample and row go up together. Runs end where a sample was held out or a shard begins, so that
there are few of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import compute, ipc

from ettin import files
from ettin.console import log, progress
from ettin.data.corpus import Corpus, rows_path
from ettin.data.documents import shard_name
from ettin.data.mds.index import read_index
from ettin.data.stored_order import BLOCK_ROWS, KIND, epoch_path
from ettin.errors import InputError

Int64Array = npt.NDArray[np.int64]
StoredAs = Literal["published", "files"]

PUBLISHED_SEED = 21

_PLACE = r"(?s)^(?P<shard>.*):(?P<place>[0-9]{1,18})$"
"""The origin of a document that was a sample: `split_0/shard.00000.mds:17`."""
_BUCKET_SAMPLES = 64
_BLOCK_BYTES = 104 * BLOCK_ROWS
"""What gathering one block takes beside the permutation."""


def write_order(
    corpus: Corpus,
    out: Path,
    *,
    context_length: int,
    order: StoredAs = "published",
    seed: int = PUBLISHED_SEED,
    epochs: int = 1,
    index: Path | None = None,
    command: list[str] | None = None,
    block_rows: int = BLOCK_ROWS,
) -> files.Json:
    """Store an order of a corpus; how much memory that takes is logged before it begins.

    Args:
        corpus: in which each document is one row.
        out: a new directory, or one that the same call has finished.
        context_length: the rows to order.
        order: `published`: `permutation`, another one in every epoch; `files`: documents as they
            stand, source after source, to replay data that lie in training order.
        seed: of the first epoch; the one after it has the next seed.
        epochs: how many to store.
        index: a folder whose merged MDS index numbers the samples, as the published order counts
            them; None to number the documents of the corpus, source after source.
        command: the command line, for the manifest.
        block_rows: positions of a block of the files.

    Returns:
        The manifest.

    Raises:
        InputError: documents of several rows or rows of several documents, an index that the
            corpus was not made from, or `out` holds something else.
        NoSpaceError: the disk is full; nothing appears.
    """
    counts = {name: len(corpus.table(name, context_length)) for name in corpus.source_names}
    shards = None if index is None else _Shards(index)
    documents = sum(len(corpus.documents(name)) for name in corpus.source_names)
    samples = documents if shards is None else shards.samples
    rows = sum(counts.values())
    facts = {
        "order": order, "seed": seed, "epochs": epochs, "samples": samples, "rows": rows,
        "context_length": context_length, "sources": counts,
    }  # fmt: skip
    made_from = {"corpus": corpus.fingerprint}
    if files.is_finished(out):
        manifest = files.read_manifest(out, KIND)
        if (manifest["facts"], manifest["made_from"]) != (facts, made_from):
            raise InputError(f"{out} is another order; choose another --out or remove it")
        log.info("%s is finished already; nothing to do", out)
        return manifest
    runs = _runs_of_corpus(corpus, context_length, shards)
    if len(runs) != rows:
        raise InputError(
            f"{rows - len(runs):,} of {rows:,} rows of {corpus.path} are no samples of {index}: "
            "it was made from other shards"
        )
    _tell(samples, runs, epochs=epochs, permuted=order == "published")
    with files.locked(out), files.staging(out) as partial:
        for epoch in range(epochs):
            path = epoch_path(partial, epoch)
            # Nothing else refers to a permutation, so that the next epoch's takes its place.
            _write_epoch(
                path, runs, samples, block_rows,
                permutation(samples, seed + epoch) if order == "published" else None,
            )  # fmt: skip
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


def _tell(samples: int, runs: "_Runs", *, epochs: int, permuted: bool) -> None:
    """Say what it will take, before it is taken."""
    wide = 0 if not permuted else 4 if samples < 1 << 32 else 8
    memory = samples * wide + runs.nbytes + _BLOCK_BYTES
    log.info(
        "an order of %s samples takes %s MB of memory while it is made, and %s MB on disk for "
        "each of %d epochs",
        f"{samples:,}", f"{memory / 1e6:,.0f}",
        f"{len(runs) * (2 + runs.row_kind.itemsize) / 1e6:,.0f}", epochs,
    )  # fmt: skip
    if len(runs) < samples:
        missing = f"{samples - len(runs):,}"
        log.info("%s samples are not among the training rows and left out", missing)


class _Shards:
    """Where each shard of a merged index begins in the numbering of all samples."""

    def __init__(self, index: Path) -> None:
        self._known: dict[tuple[str, str], tuple[int, int]] = {}
        self.samples = 0
        for shard in read_index(index):
            folder, _, name = shard.name.removeprefix("train/").partition("/")
            self._known[_letters(folder), name] = self.samples, shard.samples
            self.samples += shard.samples

    def samples_of(self, source: str, origins: pyarrow.LargeStringArray) -> Int64Array:
        """The samples that documents were read from, by their origins; −1 where there is none."""
        found = compute.extract_regex(origins, _PLACE)
        names = compute.struct_field(found, "shard").dictionary_encode()
        known = [
            self._known.get((_letters(source), str(name)), (0, 0))
            for name in names.dictionary.to_pylist()
        ]
        number = names.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        place = compute.struct_field(found, "place").cast(pyarrow.int64()).fill_null(0).to_numpy()
        first, count = np.array([*known, (0, 0)], dtype=np.int64).T[:, number]
        samples: Int64Array = np.where(place < count, first + place, -1)
        return samples


def _letters(name: str) -> str:
    """What of a folder's name is compared, as sources of mixtures are found."""
    return "".join(each for each in name.casefold() if each.isalnum())


@dataclass(frozen=True)
class _Runs:
    """Which row each sample is, as stretches in which both go up by one.

    Attributes:
        first: int64 [runs], the sample with which each begins, ascending.
        count: int64 [runs].
        source: uint16 [runs].
        row: int64 [runs], the row of the first sample in its source's table.
        row_kind: the smallest kind that holds every row.
    """

    first: Int64Array
    count: Int64Array
    source: npt.NDArray[np.uint16]
    row: Int64Array
    row_kind: np.dtype[Any]

    def __len__(self) -> int:
        return int(self.count.sum())

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        held = (self.first, self.count, self.source, self.row, self._of_bucket)
        return sum(each.nbytes for each in held)

    @cached_property
    def _of_bucket(self) -> npt.NDArray[np.uint32]:
        """The run that the first sample of each bucket lies in or after: where a search begins."""
        ends = int(self.first[-1] + self.count[-1])
        begins = np.arange(0, ends + _BUCKET_SAMPLES, _BUCKET_SAMPLES)
        return (np.searchsorted(self.first, begins, "right") - 1).clip(0).astype(np.uint32)

    def rows(self, samples: Int64Array) -> tuple[npt.NDArray[np.uint16], npt.NDArray[Any]]:
        """Source and row of samples, in their order; those that are no row are left out."""
        bucket = np.minimum(samples // _BUCKET_SAMPLES, len(self._of_bucket) - 1)
        run = self._of_bucket[bucket].astype(np.int64)
        last = len(self.first) - 1
        behind = np.flatnonzero(run < last)
        while len(behind):
            behind = behind[self.first[run[behind] + 1] <= samples[behind]]
            run[behind] += 1
            behind = behind[run[behind] < last]
        inside = samples - self.first[run]
        present = (inside >= 0) & (inside < self.count[run])
        run, inside = run[present], inside[present]
        return self.source[run], (self.row[run] + inside).astype(self.row_kind)


class _Stretches(NamedTuple):
    """The runs of one block of a table; three int64 arrays as of `_Runs`."""

    first: Int64Array
    length: Int64Array
    row: Int64Array


def _runs_of_corpus(corpus: Corpus, context_length: int, shards: _Shards | None) -> _Runs:
    """All runs of a corpus; memory grows with their number alone."""
    firsts, counts, sources, rows = [], [], [], []
    before = 0
    for number, name in enumerate(corpus.source_names):
        for each in _runs_of_source(corpus, name, context_length, shards, before=before):
            firsts.append(each.first)
            counts.append(each.length)
            sources.append(np.full(len(each.first), number, np.uint16))
            rows.append(each.row)
        before += len(corpus.documents(name))
    largest = max(len(corpus.table(name, context_length)) for name in corpus.source_names)
    by_sample = np.argsort(np.concatenate(firsts))
    return _Runs(
        np.concatenate(firsts)[by_sample],
        np.concatenate(counts)[by_sample],
        np.concatenate(sources)[by_sample],
        np.concatenate(rows)[by_sample],
        np.dtype(np.uint32 if largest < 1 << 32 else np.uint64),
    )


def _runs_of_source(
    corpus: Corpus, source: str, context_length: int, shards: _Shards | None, *, before: int
) -> Iterator[_Stretches]:
    """The runs of a source, block by block of its row table."""
    samples_of = _SamplesOfSource(corpus, source, shards, before=before)
    path = rows_path(corpus.path / source, context_length, "train")
    reader = ipc.open_file(pyarrow.memory_map(str(path)))
    first_row = 0
    for number in range(reader.num_record_batches):
        column = reader.get_batch(number).column(0)
        start = column.values.field("start").to_numpy()
        if len(start) != len(column) or start.any():
            _refuse_packed(corpus, source)
        sample = samples_of(column.values.field("document").to_numpy().astype(np.int64))
        known = np.flatnonzero(sample >= 0)
        rows, sample = first_row + known, sample[known]
        ends = (np.diff(sample) != 1) | (np.diff(rows) != 1)
        begins = np.concatenate([np.zeros(min(1, len(rows)), np.int64), np.flatnonzero(ends) + 1])
        count = np.diff(np.append(begins, len(rows)))
        yield _Stretches(sample[begins], count, rows[begins])
        first_row += len(column)


class _SamplesOfSource:
    """Numbers of samples out of numbers of documents of one source."""

    def __init__(self, corpus: Corpus, source: str, shards: _Shards | None, *, before: int) -> None:
        self._source, self._shards, self._before = source, shards, before
        self._folder = corpus.path / source
        counts = corpus.documents(source).shard_documents
        self._first = np.cumsum([0, *counts])
        self._open = -1
        self._samples: Int64Array = np.zeros(0, np.int64)

    def __call__(self, documents: Int64Array) -> Int64Array:
        """The sample of each document; −1 where it has none."""
        if self._shards is None:
            return self._before + documents
        samples = np.empty_like(documents)
        number = np.searchsorted(self._first, documents, "right") - 1
        for shard in np.unique(number).tolist():
            mine = number == shard
            samples[mine] = self._of_shard(shard)[documents[mine] - self._first[shard]]
        return samples

    def _of_shard(self, shard: int) -> Int64Array:
        """The samples of all documents of a shard of tokens; the last shard's are kept."""
        if shard != self._open:
            assert self._shards is not None
            path = self._folder / shard_name(shard)
            batch = ipc.open_file(pyarrow.memory_map(str(path))).get_batch(0)
            self._samples = self._shards.samples_of(self._source, batch.column("origin"))
            self._open = shard
        return self._samples


def _refuse_packed(corpus: Corpus, source: str) -> None:
    longest = int(corpus.documents(source).token_counts.max())
    raise InputError(
        f"{corpus.path}, source {source}: a stored order needs rows of one whole document each; "
        f"its longest has {longest:,} tokens. Prepare it with --packing none and --context-length "
        f"{longest + 2} at least"
    )


def _write_epoch(
    path: Path, runs: _Runs, samples: int, block_rows: int, order: npt.NDArray[Any] | None
) -> None:
    """Write one epoch in blocks of positions; `order` None is that of the samples."""
    kind = pyarrow.from_numpy_dtype(runs.row_kind)
    schema = pyarrow.schema([("source", pyarrow.uint16()), ("row", kind)])
    kept: list[npt.NDArray[Any]] = [np.zeros(0, np.uint16), np.zeros(0, runs.row_kind)]
    with (
        pyarrow.OSFile(str(path), "wb") as file,
        ipc.new_file(file, schema) as writer,
        progress("storing the order", total=samples, unit="samples") as shown,
    ):
        for first in range(0, samples, block_rows):
            end = min(first + block_rows, samples)
            taken = np.arange(first, end) if order is None else order[first:end].astype(np.int64)
            kept = [np.concatenate(pair) for pair in zip(kept, runs.rows(taken), strict=True)]
            while len(kept[0]) >= block_rows or (end == samples and len(kept[0])):
                block = [pyarrow.array(column[:block_rows]) for column in kept]
                writer.write_batch(pyarrow.RecordBatch.from_arrays(block, schema=schema))
                kept = [column[block_rows:] for column in kept]
            shown.update(end, path.name)
