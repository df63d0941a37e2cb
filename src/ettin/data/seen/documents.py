"""The documents of all sources of a corpus under one numbering: sizes and ids of many at once.

Numbers run through the sources in the corpus's order, and through the shards of each. Ids and
boundaries are memory-mapped; tokens are not touched.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import compute, ipc

from ettin.data.corpus import Corpus
from ettin.data.documents import integers, shard_name

Int64Array = npt.NDArray[np.int64]

_LIKELY = 64
"""More documents than this with one key are looked through by their ids, all of them."""
_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
_NEAREST = 3
_COMPARED = 2000


class SeenDocuments:
    """The documents of a corpus.

    Attributes:
        first: the number of the first document of each source.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._sources = corpus.source_names
        self._paths, counts, self.first = [], [0], {}
        for name in self._sources:
            self.first[name] = sum(counts)
            for number, count in enumerate(corpus.source_facts(name)["shards"]):
                self._paths.append(corpus.path / name / shard_name(number))
                counts.append(int(count))
        self._first = np.cumsum(np.array(counts, dtype=np.int64))
        self._first_of_source = np.array([self.first[name] for name in self._sources])
        self._shards: dict[int, _Shard] = {}
        self._asked = False

    def __len__(self) -> int:
        return int(self._first[-1])

    def source_of(self, document: int) -> str:
        """The name of the source that a document belongs to."""
        number = np.searchsorted(self._first_of_source, document, "right") - 1
        return self._sources[int(number)]

    def sizes(self, documents: Int64Array) -> Int64Array:
        """Text tokens of documents; int64 [n]."""
        sizes = np.empty(len(documents), dtype=np.int64)
        for shard, which, places in self._grouped(documents):
            sizes[which] = shard.offsets[places + 1] - shard.offsets[places]
        return sizes

    def ids(self, documents: Int64Array) -> pyarrow.LargeStringArray:
        """Ids of documents, in their order."""
        return self.sizes_and_ids(documents)[1]

    def sizes_and_ids(self, documents: Int64Array) -> tuple[Int64Array, pyarrow.LargeStringArray]:
        """Both at once, which is faster."""
        sizes = np.empty(len(documents), dtype=np.int64)
        taken, placed = [pyarrow.array([], pyarrow.large_string())], [np.zeros(0, np.int64)]
        for shard, which, places in self._grouped(documents):
            sizes[which] = shard.offsets[places + 1] - shard.offsets[places]
            taken.append(shard.ids.take(pyarrow.array(places)))
            placed.append(which)
        if len(taken) == 2:  # of one shard, and in their order
            return sizes, taken[1]
        back = np.empty(len(documents), dtype=np.int64)
        back[np.concatenate(placed)] = np.arange(len(documents))
        return sizes, pyarrow.concat_arrays(taken).take(pyarrow.array(back))

    def find(self, document_id: str) -> list[int]:
        """The numbers of all documents of this id, at most one a source unless ids repeat.

        The first question looks through all ids; the second one sorts keys, 16 bytes a
        document, by which further ones are answered without a search through all.
        """
        wanted = document_id.encode()
        if self._asked:
            keys, numbers = self._keys
            first, end = (int(np.searchsorted(keys, _key(wanted), side)) for side in _SIDES)
            likely = np.sort(numbers[first:end])
            if len(likely) <= _LIKELY:
                ids = self.ids(likely).to_pylist()
                return [int(n) for n, each in zip(likely, ids, strict=True) if each == document_id]
        self._asked = True
        found: list[int] = []
        for number, first in enumerate(self._first[:-1]):
            ids, begin = self._shard(number).ids, 0
            while (place := compute.index(ids, document_id, start=begin).as_py()) >= 0:
                found.append(int(first) + place)
                begin = place + 1
        return found

    def nearest(self, document_id: str) -> list[str]:
        """The ids most like one that is not there, at most three; the likest first."""
        likely: list[str] = []
        for share in (1.0, 0.75, 0.5, 0.25, 0.0):
            kept = int(len(document_id) * share)
            begin, end = document_id[:kept], document_id[len(document_id) - kept :]
            likely = []
            for number in range(len(self._paths)):
                ids = self._shard(number).ids
                mask = compute.or_(
                    compute.match_substring(ids, begin), compute.match_substring(ids, end)
                )
                likely += ids.filter(mask)[: _COMPARED - len(likely)].to_pylist()
            found = get_close_matches(document_id, likely, n=_NEAREST, cutoff=0.3)
            if found:
                return found
        return likely[:_NEAREST]

    @cached_property
    def _keys(self) -> tuple[npt.NDArray[np.uint64], Int64Array]:
        """The keys of all documents, ascending, and the numbers of these documents."""
        shards = [self._shard(number) for number in range(len(self._paths))]
        keys = np.concatenate([_keys_of(shard.ids) for shard in shards])
        numbers = np.argsort(keys)
        return keys[numbers], numbers

    def _grouped(self, documents: Int64Array) -> Iterator[tuple["_Shard", Int64Array, Int64Array]]:
        """Shard by shard: which of the documents lie in it, and their places there."""
        number = np.searchsorted(self._first, documents, "right") - 1
        for which in groups(number):
            shard = int(number[which[0]])
            yield self._shard(shard), which, documents[which] - self._first[shard]

    def _shard(self, number: int) -> "_Shard":
        if number not in self._shards:
            self._shards[number] = _Shard(str(self._paths[number]))
        return self._shards[number]


class _Shard:
    """Ids and boundaries of one shard."""

    def __init__(self, path: str) -> None:
        batch = ipc.open_file(pyarrow.memory_map(path)).get_batch(0)
        self.ids: pyarrow.LargeStringArray = batch.column("id")
        self.offsets: Int64Array = integers(batch.column("tokens").offsets)


def groups(numbers: Int64Array) -> list[Int64Array]:
    """Places of equal numbers, ascending in each group; the groups by their numbers, ascending.

    Example: of the numbers 7, 3, 7, 3 the groups are the places 1 and 3, then 0 and 2.
    """
    # Numbers of 16 bits are sorted by radix, several times as fast.
    small = not len(numbers) or int(numbers.max()) < 1 << 15
    order = np.argsort(numbers.astype(np.int16) if small else numbers, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    return [part for part in parts if len(part)]


def text_of(ids: pyarrow.LargeStringArray) -> tuple[Int64Array, npt.NDArray[np.uint8]]:
    """Ids as they lie in memory: text n is bytes offsets[n] … offsets[n + 1] − 1.

    Returns:
        offsets: int64 [n + 1].
        text: uint8, UTF-8.
    """
    _, offset_bytes, text_bytes = ids.buffers()
    if offset_bytes is None or not len(ids):
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    offsets = np.frombuffer(offset_bytes, np.int64)[ids.offset : ids.offset + len(ids) + 1]
    text = np.frombuffer(text_bytes, np.uint8) if text_bytes else np.zeros(0, np.uint8)
    return offsets, text


def _keys_of(ids: pyarrow.LargeStringArray) -> npt.NDArray[np.uint64]:
    """For each id 64 bits out of its length, its last 8 bytes and the 8 before; uint64 [n]."""
    offsets, text = text_of(ids)
    # Room for words before the first byte and at the last.
    padded = np.concatenate([np.zeros(16, np.uint8), text[: int(offsets[-1])]])
    words = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))
    length = np.diff(offsets)
    ends = offsets[1:] + 16
    return _mix(length, words[ends - 8], words[ends - 16])


def _key(wanted: bytes) -> np.uint64:
    words = np.frombuffer(wanted.rjust(16, b"\0")[-16:], "<u8")
    return np.uint64(_mix(np.array([len(wanted)]), words[1:], words[:1])[0])


def _mix(
    length: Int64Array, last: npt.NDArray[np.uint64], before: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Three numbers as one; bytes that belong to the id before are cut off first."""
    known = np.clip(length, 0, 16).astype(np.uint64) * np.uint64(8)
    full = np.uint64(64)
    # A shift by 64 is undefined, so that 8 bytes or more, or none, are told apart.
    cut = np.where(known < full, full - known, np.uint64(0)) & np.uint64(63)
    last = np.where(known == 0, np.uint64(0), (last >> cut) << cut)
    rest = np.where(known > full, known - full, np.uint64(0))
    cut = (full - rest) & np.uint64(63)
    before = np.where(rest == 0, np.uint64(0), (before >> cut) << cut)
    odd = np.uint64(0x9E3779B97F4A7C15)
    mixed = (last ^ (length.astype(np.uint64) * odd)) * odd
    result: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31)) ^ (before * odd)
    return result
