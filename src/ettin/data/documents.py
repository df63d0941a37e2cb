"""The documents of one source of a corpus: ids, origins and tokens, out of memory-mapped shards."""

from bisect import bisect_right
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import compute, ipc

Int64Array = npt.NDArray[np.int64]
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
        self._shards: dict[int, _Shard] = {}

    def __len__(self) -> int:
        return int(self._first[-1])

    def tokens(self, document: int) -> TokenArray:
        """Its tokens as stored, without BOS and EOS; a view, not a copy."""
        shard, place = self._locate(document)
        tokens: TokenArray = shard.values[shard.offsets[place] : shard.offsets[place + 1]]
        return tokens

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
        self.offsets: Int64Array = column.offsets.to_numpy()
        self.values: TokenArray = column.values.to_numpy()


def shard_name(number: int) -> str:
    """The file of a shard in its source's folder."""
    return f"tokens-{number:05d}.arrow"
