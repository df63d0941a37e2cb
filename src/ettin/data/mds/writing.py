"""Write MDS: the shards and the index that MosaicML Streaming writes for the same samples.

    columns = {"id": "str", "input_ids": "ndarray:uint32"}
    with MdsWriter(Path("train/books"), columns) as writer:
        writer.write({"id": "poe/raven.txt", "input_ids": tokens})

Raw shards and indexes are those of its own writer byte for byte (see `shards` for the layout).
Compressed shards hold the same bytes; how small they become depends on the library that packs them.
No pickle is ever written.
"""

import json
from operator import index
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ettin import files
from ettin.data.mds.index import (
    ARRAY,
    INDEX,
    SCALARS,
    VALUE_TYPES,
    VERSION,
    array_parts,
    size_of,
)
from ettin.data.mds.shards import digest
from ettin.errors import InputError

if TYPE_CHECKING:
    import pyarrow

SHARD_BYTES = 1 << 26
"""The published shards' own limit."""

_LARGEST_SHARD = (1 << 32) - 1


class MdsWriter:
    """Writes the shards of one folder, and its index when the `with` block ends well.

    Attributes:
        folder: where they lie.

    Args:
        folder: is made, and must be new or empty.
        columns: encodings by column name; see `index.size_of`.
        compression: `zstd`, with `:LEVEL` if wanted; None for raw shards.
        hashes: names of hashes for the index to state, sorted: those of `hashlib` and `xxhash`.
        shard_bytes: a shard is closed before it grows beyond this, unless one sample does.

    Raises:
        InputError: an encoding that is not plain data, a compression or hash that is not known, or
            a folder that holds something.
    """

    def __init__(
        self,
        folder: Path,
        columns: dict[str, str],
        *,
        compression: str | None = None,
        hashes: tuple[str, ...] = (),
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        files.refuse_occupied(folder)
        self._columns = [(name, columns[name]) for name in sorted(columns)]
        sizes = []
        for name, encoding in self._columns:
            try:
                sizes.append(size_of(encoding))
            except InputError as error:
                raise InputError(f"column {name!r} {error}") from None
        if list(hashes) != sorted(set(hashes)):
            raise InputError(f"hashes {hashes}: each once, and sorted by name")
        if not 0 < shard_bytes <= _LARGEST_SHARD:
            raise InputError(f"shards of {shard_bytes} bytes; offsets end at {_LARGEST_SHARD}")
        self.folder = folder
        self._sizes, self._limit = sizes, shard_bytes
        self._codec, self._hashes = _compressor(compression), hashes
        self._settings = {
            "version": VERSION,
            "format": "mds",
            "compression": compression,
            "hashes": list(hashes),
            "size_limit": shard_bytes,
            "column_names": [name for name, _ in self._columns],
            "column_encodings": [encoding for _, encoding in self._columns],
            "column_sizes": sizes,
        }
        self._configuration = json.dumps(self._settings, sort_keys=True).encode()
        self._shards: list[dict[str, Any]] = []
        self._start_shard()
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            if self._samples:
                self._write_shard()
            write_index(self.folder, self._shards)

    @property
    def shards(self) -> list[dict[str, Any]]:
        """What the index says of each shard written so far."""
        return self._shards

    def write(self, sample: dict[str, Any]) -> None:
        """Append a sample, a value for each column.

        Raises:
            InputError: a column lacks its value, or the value is not of its encoding.
        """
        head, body = [], []
        for (name, encoding), size in zip(self._columns, self._sizes, strict=True):
            if name not in sample:
                raise InputError(f"a sample lacks {name!r}; it has: {', '.join(sample)}")
            content = _encode(name, encoding, sample[name])
            if size is None:
                head.append(len(content))
            body.append(content)
        encoded = np.array(head, "<u4").tobytes() + b"".join(body)
        # Where the very first sample is too long, this leaves an empty shard, as the original does.
        if self._bytes + len(encoded) + 4 > self._limit:
            self._write_shard()
        self._samples.append(encoded)
        self._bytes += len(encoded) + 4

    def _start_shard(self) -> None:
        self._samples: list[bytes] = []
        self._bytes = 8 + len(self._configuration)

    def _write_shard(self) -> None:
        count = len(self._samples)
        sizes = np.array([0, *map(len, self._samples)], np.int64)
        offsets = np.cumsum(sizes) + 8 + 4 * count + len(self._configuration)
        if offsets[-1] > _LARGEST_SHARD:
            raise InputError(f"a sample of {sizes.max()} bytes is too long for the offsets of MDS")
        raw = b"".join([
            np.uint32(count).astype("<u4").tobytes(), offsets.astype("<u4").tobytes(),
            self._configuration, *self._samples,
        ])  # fmt: skip
        name = f"shard.{len(self._shards):05d}.mds"
        stored, content, packed = name, raw, None
        if self._codec:
            stored = f"{name}.{self._codec.name}"
            content = self._codec.compress(raw, asbytes=True)
            packed = self._describe(stored, content)
        (self.folder / stored).write_bytes(content)
        described = {"samples": count, "raw_data": self._describe(name, raw), "zip_data": packed}
        self._shards.append(described | self._settings)
        self._start_shard()

    def _describe(self, name: str, content: bytes) -> dict[str, Any]:
        hashes = {
            each: digest(each, np.frombuffer(content, np.uint8), self.folder / name)
            for each in self._hashes
        }
        return {"basename": name, "bytes": len(content), "hashes": hashes}


def write_index(folder: Path, shards: list[dict[str, Any]]) -> None:
    """Write `index.json`.

    Args:
        folder: where.
        shards: what it says of each, names relative to the folder.
    """
    text = json.dumps({"version": VERSION, "shards": shards}, sort_keys=True)
    files.write_atomic(folder / INDEX, text)


def _encode(name: str, encoding: str, value: Any) -> bytes:
    """The bytes of one value."""
    kind = encoding.partition(":")[0]
    try:
        if kind == ARRAY:
            return _encode_array(encoding, np.asarray(value))
        if kind in SCALARS:
            number = float(value) if kind.startswith("float") else index(value)
            return np.array([number], SCALARS[kind]).tobytes()
        if kind == "bytes":
            return bytes(memoryview(value))
        if kind == "json":
            return json.dumps(value).encode()
        if kind == "str" and not isinstance(value, str):
            raise TypeError(f"expected text, not {type(value).__name__}")
        return str(value).encode()
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"column {name!r} of {encoding} cannot hold {value!r:.60}: {error}") from (
            error
        )


def _encode_array(encoding: str, values: npt.NDArray[Any]) -> bytes:
    value_type, shape = array_parts(encoding)
    types = {each: number for number, each in VALUE_TYPES.items()}
    if not values.size or values.dtype.name not in types or not 1 <= values.ndim < 64:
        raise ValueError("expected an array with axes, values, and a numeric type")
    if value_type not in (None, values.dtype.name):
        raise ValueError(f"its type is {values.dtype.name}")
    if shape not in (None, values.shape):
        raise ValueError(f"its shape is {values.shape}")
    head = b"" if value_type else bytes([types[values.dtype.name]])
    if shape is None:
        largest = max(values.shape)
        power = next(each for each in range(4) if largest < 1 << (8 << each))
        head += bytes([values.ndim << 2 | power])
        head += np.array(values.shape, f"<u{1 << power}").tobytes()
    return head + values.astype(values.dtype.newbyteorder("<")).tobytes()


def _compressor(compression: str | None) -> "pyarrow.Codec | None":
    """What packs shards: zstd alone, at level 3 unless another is named, as the published ones.

    Raises:
        InputError: another name, or no such level.
    """
    import pyarrow

    if compression is None:
        return None
    name, _, level = compression.partition(":")
    try:
        if name != "zstd" or not 0 < int(level or 3) < 23:
            raise ValueError(level)
    except ValueError:
        raise InputError(
            f"compression {compression!r}; expected zstd, or zstd:LEVEL from 1 to 22"
        ) from None
    return pyarrow.Codec(name, int(level or 3))
