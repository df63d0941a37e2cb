"""What the ending of a file's name promises of its content."""

import gzip
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ettin.files import Json

_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8,
         "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8}  # fmt: skip
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_SMALLEST = 12


class Tensor(NamedTuple):
    """A tensor in a safetensors file: its type there, its shape, and its bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def check_file(path: Path) -> None:
    """Look into a file as far as its ending says what it is.

    Raises:
        ValueError: it is not what its ending says.
    """
    for ending, look in _ENDINGS.items():
        if path.name.endswith(ending):
            look(path)
            return


def is_ours(path: Path) -> bool:
    """Whether a file has an ending that stages give to what they write."""
    return path.name.endswith(tuple(_ENDINGS))


def safetensors_header(path: Path) -> dict[str, Tensor]:
    """Tensor name → type, shape and place; the format is described at
    https://huggingface.co/docs/safetensors.

    Raises:
        ValueError: no such header, or the tensors do not fill the file exactly.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length:
            raise ValueError("its safetensors header is longer than the file")
        header: Json = dict(json.loads(file.read(length)))
    header.pop("__metadata__", None)
    tensors = {name: _tensor(name, stated, 8 + length) for name, stated in header.items()}
    end = 8 + length
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != end:
            raise ValueError(f"its tensors leave a gap or overlap at byte {end - 8 - length}")
        end = tensor.stop
    if end != size:
        raise ValueError(f"it has {size} bytes, its tensors end at {end}")
    return tensors


def read_tensor(path: Path, tensor: Tensor) -> npt.NDArray[np.float32]:
    """A tensor of floating-point numbers as fp32; one stored so is mapped, not copied."""
    # A tensor without elements has no bytes that could be mapped.
    if tensor.start == tensor.stop:
        return np.zeros(tensor.shape, np.float32)
    stored = np.memmap(path, _STORED[tensor.dtype], "r", tensor.start, tensor.shape)
    if tensor.dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32, copy=False)


def _tensor(name: str, stated: Json, begin: int) -> Tensor:
    shape, (start, stop) = stated["shape"], stated["data_offsets"]
    if stated["dtype"] not in _BITS or not all(
        type(number) is int and number >= 0 for number in (*shape, start, stop)
    ):
        raise ValueError(f"its tensor {name!r} has a type, shape or place that cannot be")
    if math.prod(shape) * _BITS[stated["dtype"]] != 8 * (stop - start):
        raise ValueError(f"its tensor {name!r} has other bytes than its shape asks for")
    return Tensor(stated["dtype"], tuple(shape), begin + start, begin + stop)


def _tensors(path: Path) -> None:
    safetensors_header(path)


def _json(path: Path) -> None:
    _parsed(path.read_bytes(), "it is not JSON")


def _json_lines(path: Path) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            _parsed(line, f"its line {number} is not JSON")


def _compressed_json_lines(path: Path) -> None:
    with gzip.open(path) as file:
        for number, line in enumerate(file, start=1):
            _parsed(line, f"its line {number} is not JSON")


def _parsed(content: bytes, otherwise: str) -> None:
    try:
        json.loads(content)
    except ValueError as error:
        raise ValueError(f"{otherwise}: {error}") from error


def _marked(mark: bytes, what: str, end: bytes | None = None) -> Callable[[Path], None]:
    """A check that a file has its marks at both ends."""

    def look(path: Path) -> None:
        last = mark if end is None else end
        with path.open("rb") as file:
            head = file.read(len(mark))
            file.seek(-min(len(last), path.stat().st_size), os.SEEK_END)
            tail = file.read()
        if head != mark or tail != last or path.stat().st_size < _SMALLEST:
            raise ValueError(f"it is not a complete {what} file")

    return look


def _closed(tag: str) -> Callable[[Path], None]:
    """A check that a text ends by closing its outermost element."""

    def look(path: Path) -> None:
        if not path.read_text(encoding="utf-8").rstrip().endswith(f"</{tag}>"):
            raise ValueError(f"it does not end with </{tag}>: it was cut short")

    return look


def _text(path: Path) -> None:
    path.read_text(encoding="utf-8")


_ENDINGS: dict[str, Callable[[Path], None]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".jsonl.gz": _compressed_json_lines,
    ".safetensors": _tensors,
    ".arrow": _marked(b"ARROW1", "Arrow"),
    ".parquet": _marked(b"PAR1", "Parquet"),
    ".png": _marked(b"\x89PNG\r\n\x1a\n", "PNG", b"IEND\xaeB`\x82"),
    ".svg": _closed("svg"),
    ".html": _closed("html"),
    ".csv": _text,
}
