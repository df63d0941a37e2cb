"""The samples of one MDS shard: its bytes checked against index and header, then read as columns.

    shard = MdsShard(described)                       # from `index.read_index`
    shard.sample(0)                                   # {"id": "a", "input_ids": array([…])}
    shard.arrays("input_ids", 0, 100)                 # values of 100 samples, and their lengths

Layout of the raw file, little endian:

    uint32                number of samples n
    uint32 [n + 1]        where each sample begins, counted from the start of the file; its end
    JSON                  the configuration: columns, compression, hashes, size limit
    n samples             uint32 for each column of variable size: its bytes; then the values

    ndarray:TYPE:SHAPE    the values
    ndarray:TYPE          a byte (axes · 4 + log2 of the bytes of a dimension), the dimensions,
                          the values
    ndarray               a byte that names the type, and then as above

Every number that leads somewhere is checked before anything is read through it, for all samples at
once. Raw files are memory-mapped; a compressed one is decompressed into memory, never to more bytes
than the index states. No pickle is ever read: see `index`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from ettin.data.mds.index import (
    ARRAY,
    COMPRESSIONS,
    SCALARS,
    VALUE_TYPES,
    Column,
    DamagedShard,
    ShardFile,
    StoredFile,
    array_parts,
)
from ettin.errors import InputError

ByteArray = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]


class ArrayPlaces(NamedTuple):
    """Where the values of an array column lie; three arrays [samples].

    Attributes:
        type: the byte that names each array's value type, a key of `VALUE_TYPES`; uint8.
        first: the byte of the file at which its values begin; int64.
        length: how many values it has; int64.
    """

    type: ByteArray
    first: Int64Array
    length: Int64Array


class MdsShard:
    """One shard, opened and checked.

    Attributes:
        described: what the index says of it.

    Args:
        described: from `index.read_index`.
        packed: read the compressed file; None for the raw one where it is there.

    Raises:
        DamagedShard: missing, truncated, altered, or not what the index says.
        InputError: the index states a hash that we cannot compute.
    """

    def __init__(self, described: ShardFile, *, packed: bool | None = None) -> None:
        self.described = described
        self._path = described.raw.path
        if packed is None:
            packed = described.packed is not None and not described.raw.path.is_file()
        self._bytes = _load(described, packed=packed)
        self._begins, self._sizes = self._lay_out()

    def __len__(self) -> int:
        return self.described.samples

    def sample(self, number: int) -> dict[str, Any]:
        """One sample, with the value of each column; arrays are copies.

        Raises:
            IndexError: there is no such sample.
            DamagedShard: a value is not of its column's encoding.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)} of {self._path}")
        values = {}
        for column in self.described.columns:
            content = self.contents(column.name, number, number + 1)[0]
            try:
                values[column.name] = _value(column, content)
            except (ValueError, RecursionError, KeyError, IndexError) as error:
                raise self._damage(f"sample {number}: {column.name} is no {column.encoding}: "
                                   f"{error}") from error  # fmt: skip
        return values

    def contents(self, column: str, first: int, end: int) -> list[bytes]:
        """The bytes of a column of the samples from `first` to `end` − 1."""
        place = self._place(column)
        begins, sizes = self._begins[first:end, place], self._sizes[first:end, place]
        ends = (begins + sizes).tolist()
        whole = self._bytes.data
        return [bytes(whole[begin:stop]) for begin, stop in zip(begins.tolist(), ends, strict=True)]

    def numbers(self, column: str) -> Int64Array:
        """The whole numbers of a column, of all samples; int64 [samples].

        Raises:
            InputError: the column does not hold whole numbers.
        """
        place = self._place(column)
        encoding = self.described.columns[place].encoding
        kind = np.dtype(SCALARS.get(encoding, "<f8"))
        if kind.kind not in "iu":
            raise InputError(f"{self._path}: column {column!r} has {encoding}, not whole numbers")
        spread = self._begins[:, place, None] + np.arange(kind.itemsize)
        values: Int64Array = self._bytes[spread].view(kind)[:, 0].astype(np.int64)
        return values

    def array_places(self, column: str) -> ArrayPlaces:
        """Where the arrays of a column lie, each of one axis, checked for all samples at once.

        Raises:
            InputError: the column holds no arrays of whole numbers.
            DamagedShard: the head of an array does not fit its size.
        """
        place = self._place(column)
        encoding = self.described.columns[place].encoding
        if encoding.partition(":")[0] != ARRAY:
            raise InputError(
                f"{self._path}: column {column!r} has {encoding}; tokens are read from "
                f"{ARRAY}, as {ARRAY}:uint32"
            )
        begins, sizes = self._begins[:, place].copy(), self._sizes[:, place]
        ends = begins + sizes
        value_type, shape = array_parts(encoding)
        types = {name: number for number, name in VALUE_TYPES.items()}
        if value_type is None:
            self._require(column, begins < ends)
            kinds = self._bytes[begins]
            begins += 1
        else:
            kinds = np.full(len(begins), types[value_type], np.uint8)
        bytes_each = np.zeros(256, np.int64)
        for number, name in VALUE_TYPES.items():
            bytes_each[number] = np.dtype(name).itemsize if "float" not in name else 0
        width = bytes_each[kinds]
        if value_type is not None and len(width) and not width[0]:
            raise InputError(f"{self._path}: column {column!r} has {encoding}, not whole numbers")
        self._require(column, width > 0)
        if shape is None:
            begins, count = self._dimension(column, begins, ends)
        else:
            count = np.full(len(begins), shape[0])
            self._require(column, np.full(len(begins), len(shape) == 1))
        # Divided, not multiplied: a dimension of 2⁶³ would overflow into a size that fits.
        room = ends - begins
        self._require(column, (room % np.maximum(width, 1) == 0) & (room // width == count))
        return ArrayPlaces(kinds, begins, count)

    def arrays(self, places: ArrayPlaces, first: int, end: int) -> Int64Array | npt.NDArray[Any]:
        """The values of arrays of samples `first` to `end` − 1, one after another; a copy.

        Values keep their type where all arrays have the same, else they become int64 (uint64
        beyond 2⁶³ excepted, which wraps to a negative number).
        """
        kinds = places.type[first:end].tolist()
        begins, counts = places.first[first:end].tolist(), places.length[first:end].tolist()
        named = {number: np.dtype(VALUE_TYPES[number]).newbyteorder("<") for number in set(kinds)}
        parts = [
            np.frombuffer(self._bytes, named[kind], count, begin)
            for kind, begin, count in zip(kinds, begins, counts, strict=True)
        ]
        if len(named) > 1:
            parts = [part.astype(np.int64) for part in parts]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _dimension(
        self, column: str, begins: Int64Array, ends: Int64Array
    ) -> tuple[Int64Array, Int64Array]:
        """Where the values begin, and how many there are, from the heads of arrays of one axis."""
        self._require(column, begins < ends)
        heads = self._bytes[begins]
        self._require(column, heads >> 2 == 1)
        width = 1 << (heads & 3).astype(np.int64)
        self._require(column, begins + 1 + width <= ends)
        count = np.zeros(len(begins), np.int64)
        for each in np.unique(width):
            mine = width == each
            spread = begins[mine][:, None] + 1 + np.arange(each)
            count[mine] = self._bytes[spread].view(f"<u{each}")[:, 0].astype(np.int64)
        return begins + 1 + width, count

    def _lay_out(self) -> tuple[Int64Array, Int64Array]:
        """Where the value of each column begins, and its bytes; int64 [samples, columns]."""
        size, samples = len(self._bytes), self.described.samples
        if size < 8 + 4 * samples:
            raise self._damage(f"{size} bytes are too few for the offsets of {samples} samples")
        stated = int(self._bytes[:4].view("<u4")[0])
        if stated != samples:
            raise self._damage(f"says that it holds {stated} samples, the index says {samples}")
        offsets = self._bytes[4 : 8 + 4 * samples].view("<u4").astype(np.int64)
        if offsets[0] < 8 + 4 * samples or (np.diff(offsets) < 0).any() or offsets[-1] != size:
            raise self._damage("the offsets of samples do not lead through the file")
        self._check_configuration(bytes(self._bytes[8 + 4 * samples : offsets[0]]))
        begin, end = offsets[:-1], offsets[1:]
        columns = self.described.columns
        variable = [number for number, column in enumerate(columns) if column.size is None]
        if (end - begin < 4 * len(variable)).any():
            raise self._damage("a sample has no room for the sizes of its columns")
        sizes = np.array([[column.size or 0 for column in columns]], np.int64)
        sizes = np.repeat(sizes, samples, axis=0)
        if variable:
            spread = begin[:, None] + np.arange(4 * len(variable))
            sizes[:, variable] = self._bytes[spread].view("<u4")
        begins = (begin + 4 * len(variable))[:, None] + np.cumsum(sizes, axis=1) - sizes
        wrong = np.flatnonzero(begin + 4 * len(variable) + sizes.sum(axis=1) != end)
        if len(wrong):
            raise self._damage(f"sample {wrong[0]}: the sizes of its columns do not fill it")
        return begins, sizes

    def _check_configuration(self, text: bytes) -> None:
        try:
            stated = json.loads(text)
            found = [stated[f"column_{key}"] for key in ("names", "encodings", "sizes")]
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise self._damage(f"its own configuration cannot be read: {error}") from error
        expected = [list(each) for each in zip(*self.described.columns, strict=True)] or [
            [],
            [],
            [],
        ]
        if found != expected:
            raise self._damage(f"its own columns are {found}, the index says {expected}")

    def _place(self, column: str) -> int:
        return self.described.columns.index(self.described.column(column))

    def _require(self, column: str, holds: npt.NDArray[np.bool_]) -> None:
        if not holds.all():
            number = int(np.argmin(holds))
            raise self._damage(f"sample {number}: {column} is no array of one axis as encoded")

    def _damage(self, what: str) -> DamagedShard:
        return DamagedShard(f"{self._path}: {what}")


def _load(described: ShardFile, *, packed: bool) -> ByteArray:
    """The bytes of the raw file, with the hashes that the index states compared."""
    if not packed:
        content = _mapped(described.raw)
        _compare(content, described.raw)
        return content
    assert described.packed is not None
    assert described.compression is not None
    packed_content = _mapped(described.packed)
    _compare(packed_content, described.packed)
    content = _decompress(packed_content, described.compression, described)
    _compare(content, described.raw)
    return content


def _mapped(file: StoredFile) -> ByteArray:
    try:
        size = file.path.stat().st_size
        if size != file.bytes:
            raise DamagedShard(f"{file.path}: {size} bytes, the index says {file.bytes}")
        # A view of the map is a plain array: slices of the map itself cost far more.
        return (np.memmap(file.path, np.uint8, "r") if size else np.zeros(0, np.uint8)).view(
            np.ndarray
        )
    except OSError as error:
        raise DamagedShard(f"{file.path} cannot be read: {error.strerror or error}") from error


def _decompress(content: ByteArray, compression: str, described: ShardFile) -> ByteArray:
    import pyarrow

    expected = described.raw.bytes
    try:
        source = pyarrow.BufferReader(pyarrow.py_buffer(content))
        with pyarrow.CompressedInputStream(source, COMPRESSIONS[compression]) as stream:
            # One byte more than stated shows that there is more; no bomb unfolds.
            unpacked = np.frombuffer(stream.read(expected + 1), np.uint8)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        where = described.packed.path if described.packed else described.raw.path
        raise DamagedShard(f"{where}: damaged {compression} compression ({error})") from error
    if len(unpacked) != expected:
        more = "more" if len(unpacked) > expected else str(len(unpacked))
        raise DamagedShard(f"{described.raw.path}: {more} bytes, the index says {expected}")
    return unpacked


def _compare(content: ByteArray, file: StoredFile) -> None:
    for algorithm, stated in file.hashes.items():
        found = digest(algorithm, content, file.path)
        if found != stated:
            raise DamagedShard(f"{file.path}: its {algorithm} is {found}, the index says {stated}")


def digest(algorithm: str, content: ByteArray, path: Path) -> str:
    """A hash as MosaicML Streaming names them: those of `hashlib` and of `xxhash`, hexadecimal.

    Raises:
        InputError: there is no such algorithm here.
    """
    if algorithm in xxhash.algorithms_available:
        return str(getattr(xxhash, algorithm)(content.data).hexdigest())
    if algorithm in hashlib.algorithms_available and not algorithm.startswith("shake"):
        return hashlib.new(algorithm, content.data, usedforsecurity=False).hexdigest()
    raise InputError(f"{path}: its index states a hash {algorithm!r} that cannot be computed here")


def _value(column: Column, content: bytes) -> Any:
    name = column.encoding.partition(":")[0]
    if name == ARRAY:
        return _array(column.encoding, content)
    if name in SCALARS:
        return np.frombuffer(content, SCALARS[name])[0].item()
    if name == "bytes":
        return content
    text = content.decode()
    if name == "json":
        return json.loads(text)
    return int(text) if name == "str_int" else float(text) if name == "str_float" else text


def _array(encoding: str, content: bytes) -> npt.NDArray[Any]:
    value_type, shape = array_parts(encoding)
    if value_type is None:
        value_type, content = VALUE_TYPES[content[0]], content[1:]
    if shape is None:
        axes, width = content[0] >> 2, 1 << (content[0] & 3)
        dimensions = np.frombuffer(content[1 : 1 + axes * width], f"<u{width}")
        content = content[1 + axes * width :]
        shape = tuple(dimensions.tolist())
    return np.frombuffer(content, np.dtype(value_type).newbyteorder("<")).reshape(shape).copy()
