"""The documents of one source of a corpus: ids, origins and tokens, out of memory-mapped shards."""

from bisect import bisect_right
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import compute, ipc

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
TokenArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class Documents:
    """The documents of one source, over all its shards.

    Args:
        folder: where the shards lie.
        shard_documents: how many documents each holds.
    """

    def __init__(self, folder: Path, shard_documents: list[int]) -> None:
        self.shard_documents = shard_documents
        self._folder = folder
        self._first = [0, *np.cumsum(shard_documents).tolist()]
        self._first_documents = np.array(self._first, dtype=np.int64)
        self._shards: dict[int, _Shard] = {}

    def __len__(self) -> int:
        return int(self._first[-1])

    def tokens(self, document: int) -> TokenArray:
        """Its tokens as stored, without BOS and EOS; a view, not a copy."""
        shard, place = self._locate(document)
        tokens: TokenArray = shard.values[shard.offsets[place] : shard.offsets[place + 1]]
        return tokens

    @property
    def token_type(self) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
        """How tokens are stored, in all shards."""
        stored: np.dtype[np.uint16] | np.dtype[np.uint32] = self._shard(0).values.dtype
        return stored

    def pieces(
        self, documents: Int64Array, starts: Int64Array, lengths: Int64Array
    ) -> tuple[list[memoryview], BoolArray]:
        """Tokens of many pieces of documents, and which of them end where their document ends.

        Args:
            documents: int64 [n], numbers of documents.
            starts: int64 [n], the first token of each piece in its document.
            lengths: int64 [n], tokens of each piece.

        Returns:
            The bytes of each piece as stored (views, not copies; see `token_type`), and bool [n].

        Raises:
            IndexError: there is no such document.
            ValueError: a piece goes beyond the end of its document.
        """
        if not len(documents):
            return [], np.zeros(0, dtype=np.bool_)
        if not 0 <= documents.min() <= documents.max() < len(self):
            raise IndexError(f"documents {documents.min()} to {documents.max()} of {len(self)}")
        shard_of = np.searchsorted(self._first_documents, documents, "right") - 1
        by_shard = np.argsort(shard_of, kind="stable")
        places = (documents - self._first_documents[shard_of])[by_shard]
        sorted_shards = shard_of[by_shard]
        # `np.unique` would import masked arrays for this, which takes longer than a first batch.
        edges = [*np.flatnonzero(np.diff(sorted_shards, prepend=-1)).tolist(), len(documents)]
        sorted_bounds = np.empty((2, len(documents)), dtype=np.int64)
        content: dict[int, memoryview] = {}
        for begin, end in pairwise(edges):
            number = int(sorted_shards[begin])
            shard = self._shard(number)
            content[number] = shard.content
            sorted_bounds[0, begin:end] = shard.offsets[places[begin:end]]
            sorted_bounds[1, begin:end] = shard.offsets[places[begin:end] + 1]
        bounds = np.empty_like(sorted_bounds)
        bounds[:, by_shard] = sorted_bounds
        begins = bounds[0] + starts
        ends = begins + lengths
        if (ends > bounds[1]).any():
            raise ValueError("a piece goes beyond the end of its document")
        size = self.token_type.itemsize
        spans = zip(
            shard_of.tolist(), (begins * size).tolist(), (ends * size).tolist(), strict=True
        )
        return [content[number][begin:end] for number, begin, end in spans], ends == bounds[1]

    def id(self, document: int) -> str:
        """Its id, the same in every corpus."""
        shard, place = self._locate(document)
        return str(shard.batch.column("id")[place].as_py())

    def origin(self, document: int) -> str:
        """The file, and the row where it was read from."""
        shard, place = self._locate(document)
        return str(shard.batch.column("origin")[place].as_py())

    def find(self, document_id: str) -> int | None:
        """The number of the document with this id; None when there is none. Scans all ids."""
        for number in range(len(self._first) - 1):
            place = compute.index(self._shard(number).batch.column("id"), document_id).as_py()
            if place >= 0:
                return int(self._first[number] + place)
        return None

    @cached_property
    def token_counts(self) -> Int64Array:
        """Tokens of every document; int64 [documents]. Reads all shards' offsets."""
        shards = [self._shard(number) for number in range(len(self._first) - 1)]
        return np.concatenate([np.diff(shard.offsets) for shard in shards] or [np.zeros(0, int)])

    def ids(self, shard: int) -> list[str]:
        """Ids of all documents of one shard."""
        return [str(each) for each in self._shard(shard).batch.column("id").to_pylist()]

    def problems(self, allowed: npt.NDArray[np.bool_]) -> list[str]:
        """Sentences about shards whose offsets or ids cannot be; `allowed` is indexed by id."""
        found = []
        for number, (first, end) in enumerate(zip(self._first, self._first[1:], strict=False)):
            shard = self._shard(number)
            name = self._folder / shard_name(number)
            if shard.batch.num_rows != end - first:
                found.append(f"{name}: {shard.batch.num_rows} documents, expected {end - first}")
            if (np.diff(shard.offsets) < 1).any() or shard.offsets[-1] > len(shard.values):
                found.append(f"{name}: the boundaries of documents are out of order")
            elif shard.values.max() >= len(allowed) or not allowed[shard.values].all():
                found.append(f"{name}: holds ids that no text has")
        return found

    def _locate(self, document: int) -> tuple["_Shard", int]:
        if not 0 <= document < len(self):
            raise IndexError(f"document {document} of {len(self)}")
        number = bisect_right(self._first, document) - 1
        return self._shard(number), document - self._first[number]

    def _shard(self, number: int) -> "_Shard":
        if number not in self._shards:
            self._shards[number] = _Shard(self._folder / shard_name(number))
        return self._shards[number]


class _Shard:
    """One mapped token file; a single record batch, so offsets and values are two plain arrays."""

    def __init__(self, path: Path) -> None:
        reader = ipc.open_file(pyarrow.memory_map(str(path)))
        self.batch = reader.get_batch(0)
        column = self.batch.column("tokens")
        self.offsets: Int64Array = integers(column.offsets)
        self.values: TokenArray = integers(column.values)
        self.content = self.values.data.cast("B")


def integers(values: pyarrow.Array) -> npt.NDArray[Any]:
    """An integer array without nulls as numpy's, a view.

    `to_numpy` does the same but imports pandas, where that is installed: 0.2 s at the first row.
    """
    kind = np.dtype(values.type.to_pandas_dtype())
    content = values.buffers()[1]
    return np.frombuffer(content, kind, len(values), values.offset * kind.itemsize)


def shard_name(number: int) -> str:
    """The file of a shard in its source's folder."""
    return f"tokens-{number:05d}.arrow"
