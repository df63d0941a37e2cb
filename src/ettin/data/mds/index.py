"""What an MDS folder says of itself: `index.json` of MosaicML Streaming, version 2, read warily.

    for shard in read_index(Path("train/books/split_0")):
        print(shard.name, shard.samples, [column.encoding for column in shard.columns])

    {"version": 2, "shards": [{
        "format": "mds", "version": 2, "samples": 812, "compression": "zstd", "hashes": ["sha1"],
        "column_names": ["id", "input_ids"], "column_encodings": ["str", "ndarray:uint32"],
        "column_sizes": [null, null], "size_limit": 67108864,
        "raw_data": {"basename": "shard.00000.mds", "bytes": 67108201, "hashes": {"sha1": "…"}},
        "zip_data": {"basename": "shard.00000.mds.zstd", "bytes": 48123456, "hashes": {…}}}]}

A merged index names shards in folders below it. Encodings that hold plain data are known by name;
a pickled column is refused with the folder that has it, since reading a pickle can run any code.
Nothing in this module opens a shard.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ettin.errors import InputError

INDEX = "index.json"
VERSION = 2
ARRAY = "ndarray"
COMPRESSIONS = {"zstd": "zstd", "gz": "gzip", "bz2": "bz2", "br": "brotli"}
"""What follows the name of a compressed shard, and what `pyarrow` calls it."""

SCALARS = {"int": "<i8"} | {
    name: np.dtype(name).newbyteorder("<").str
    for name in (
        "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
        "float16", "float32", "float64",
    )
}  # fmt: skip
"""Encodings of one number, with the numpy type of its bytes."""

VARIABLE = ("str", "bytes", "json", "str_int", "str_float")
"""Encodings of plain data of any length."""

VALUE_TYPES = {8: "uint8", 9: "int8", 16: "uint16", 17: "int16", 18: "float16", 32: "uint32",
               33: "int32", 34: "float32", 64: "uint64", 65: "int64", 66: "float64"}  # fmt: skip
"""The byte that names the type of an array whose encoding does not."""


class DamagedShard(InputError):  # noqa: N818 - it names what was found
    """An index or a shard is not what it says it is; with `--on-error skip` it is left out."""


class Column(NamedTuple):
    """One column of the samples.

    Attributes:
        name: as the index gives it.
        encoding: such as `str`, `int`, `ndarray:uint32`, `ndarray:uint16:1024`, `ndarray`.
        size: bytes of every value; None where they differ and stand in the sample's head.
    """

    name: str
    encoding: str
    size: int | None


class StoredFile(NamedTuple):
    """One form of a shard on disk.

    Attributes:
        path: where it should lie.
        bytes: its size.
        hashes: hexadecimal digests by algorithm; often none.
    """

    path: Path
    bytes: int
    hashes: dict[str, str]


@dataclass(frozen=True)
class ShardFile:
    """What the index says of one shard.

    Attributes:
        name: of the raw file, relative to the index, with `/`.
        columns: in the order in which their values stand in a sample.
        samples: how many it holds.
        raw: the file as it is read.
        packed: the compressed file; None where there is none.
        compression: a key of `COMPRESSIONS`; None without a compressed file.
    """

    name: str
    columns: tuple[Column, ...]
    samples: int
    raw: StoredFile
    packed: StoredFile | None
    compression: str | None

    def column(self, name: str) -> Column:
        """The column of this name.

        Raises:
            InputError: there is none; those that are there are listed.
        """
        for column in self.columns:
            if column.name == name:
                return column
        names = ", ".join(column.name for column in self.columns)
        raise InputError(f"{self.raw.path} has no column {name!r}; it has: {names}")


def read_index(folder: Path) -> list[ShardFile]:
    """The shards that a folder's index lists, in its order, which is that of the samples.

    Args:
        folder: holds `index.json`, and the shards in it or below.

    Raises:
        DamagedShard: the index is no JSON, or lacks what belongs into it.
        InputError: another version or format, a name that leads out of the folder, or a column
            that is not plain data.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedShard(f"{path} is not JSON: {error}") from error
    if not isinstance(index, dict):
        raise DamagedShard(f"{path}: expected an object with version and shards")
    if index.get("version") != VERSION:
        raise InputError(f"{path}: version {index.get('version')!r}; only {VERSION} is known")
    shards = _field(index, "shards", list, path)
    return [_shard(each, folder, f"{path}, shard {number}") for number, each in enumerate(shards)]


def size_of(encoding: str) -> int | None:
    """Bytes that every value of an encoding takes; None where they differ.

    Raises:
        InputError: the encoding is not plain data, or unknown.
    """
    name = encoding.partition(":")[0]
    if encoding in SCALARS:
        return np.dtype(SCALARS[encoding]).itemsize
    if encoding in VARIABLE:
        return None
    if name == ARRAY:
        value_type, shape = array_parts(encoding)
        return prod(shape) * np.dtype(value_type).itemsize if value_type and shape else None
    if name == "pkl":
        raise InputError("holds pickles, and reading a pickle can run any code: refused unread")
    known = ", ".join([ARRAY, *VARIABLE, *SCALARS])
    raise InputError(f"has the encoding {encoding!r}, which is not plain data; read are: {known}")


def array_parts(encoding: str) -> tuple[str | None, tuple[int, ...] | None]:
    """The value type and the shape of an array's encoding; None for what stands in each value.

    Example:
        >>> array_parts("ndarray:uint16:4,2")
        ('uint16', (4, 2))

    Raises:
        InputError: it is not written like this.
    """
    parts = encoding.split(":")[1:]
    value_type = parts[0] if parts else None
    shape = parts[1].split(",") if len(parts) == 2 else None
    sound = len(parts) < 3 and (value_type is None or value_type in VALUE_TYPES.values())
    if not sound or (shape and not all(each.isdecimal() and int(each) for each in shape)):
        raise InputError(
            f"has the encoding {encoding!r}; expected ndarray, ndarray:TYPE or ndarray:TYPE:SHAPE"
        )
    return value_type, tuple(int(each) for each in shape) if shape else None


def _shard(described: Any, folder: Path, where: str) -> ShardFile:
    if not isinstance(described, dict):
        raise DamagedShard(f"{where}: expected an object")
    kind = (described.get("format"), described.get("version"))
    if kind != ("mds", VERSION):
        raise InputError(f"{where}: format and version are {kind}, only ('mds', {VERSION}) is read")
    raw_name, raw = _file(described, "raw_data", folder, where)
    packed, compression = None, described.get("compression")
    if described.get("zip_data") is not None:
        _, packed = _file(described, "zip_data", folder, where)
        compression = str(compression).partition(":")[0]
        if compression not in COMPRESSIONS:
            known = ", ".join(COMPRESSIONS)
            raise InputError(f"{where}: compressed with {compression!r}; read are: {known}")
    samples = _count(described, "samples", where)
    return ShardFile(
        name=raw_name,
        columns=_columns(described, where),
        samples=samples,
        raw=raw,
        packed=packed,
        compression=compression if packed else None,
    )


def _columns(described: dict[str, Any], where: str) -> tuple[Column, ...]:
    names = _field(described, "column_names", list, where)
    encodings = _field(described, "column_encodings", list, where)
    sizes = _field(described, "column_sizes", list, where)
    if not len(names) == len(encodings) == len(sizes) or len(set(map(str, names))) != len(names):
        raise DamagedShard(f"{where}: names, encodings and sizes of columns do not fit together")
    columns = []
    for name, encoding, size in zip(names, encodings, sizes, strict=True):
        if not isinstance(name, str) or not isinstance(encoding, str):
            raise DamagedShard(f"{where}: columns need names and encodings that are strings")
        try:
            expected = size_of(encoding)
        except InputError as error:
            raise InputError(f"{where}: column {name!r} {error}") from None
        if size != expected or isinstance(size, bool):
            raise DamagedShard(
                f"{where}: column {name!r} of {encoding} takes {size!r} bytes, expected {expected}"
            )
        columns.append(Column(name, encoding, expected))
    return tuple(columns)


def _file(described: dict[str, Any], key: str, folder: Path, where: str) -> tuple[str, StoredFile]:
    entry = _field(described, key, dict, where)
    name = _field(entry, "basename", str, f"{where}, {key}")
    hashes = entry.get("hashes") or {}
    pairs = hashes.items() if isinstance(hashes, dict) else [(hashes, None)]
    if not all(isinstance(each, str) for pair in pairs for each in pair):
        raise DamagedShard(f"{where}, {key}: expected hashes as digests by algorithm")
    path = _inside(folder, name, where)
    return name, StoredFile(path, _count(entry, "bytes", f"{where}, {key}"), dict(hashes))


def _inside(folder: Path, name: str, where: str) -> Path:
    """The path of a name that stays below a folder, whatever the system takes for a separator."""
    parts = PurePosixPath(name).parts
    outside = not parts or name.startswith("/") or ".." in parts
    if outside or any(each in name for each in "\\:\0"):
        raise InputError(
            f"{where}: the name {name!r} leads out of {folder}, or would elsewhere; refused"
        )
    return folder.joinpath(*parts)


def _count(entry: dict[str, Any], key: str, where: str) -> int:
    value = _field(entry, key, int, where)
    if isinstance(value, bool) or value < 0:
        raise DamagedShard(f"{where}: {key} is {value!r}, expected a number that is not negative")
    return int(value)


def _field(entry: dict[str, Any], key: str, kind: type, where: str | Path) -> Any:
    value = entry.get(key)
    if not isinstance(value, kind):
        raise DamagedShard(f"{where}: {key} is {value!r:.60}, expected a {kind.__name__}")
    return value
