"""Examples in files: text plain or compressed (gz), and JSON lines, read with clear errors.

A line ends at a line feed alone. Python's `splitlines` also ends it at U+2028 and U+0085, which
stand inside texts.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ettin import files
from ettin.errors import InputError
from ettin.files import Json


@contextmanager
def opened(path: Path) -> Iterator[IO[str]]:
    """A text file, plain or `.gz`, to be read line by line; a byte order mark is left out.

    Raises:
        InputError: it is not there, damaged, or not UTF-8; also while it is read.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="\n") as file:
            yield file
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def text_of(path: Path) -> str:
    """All of a text file, plain or `.gz`.

    Raises:
        InputError: as `opened`.
    """
    with opened(path) as file:
        return file.read()


def read_json_rows(path: Path) -> Iterator[Json]:
    """The objects of a file of JSON lines, one after another; empty lines are passed over.

    Raises:
        InputError: a line is no JSON object; it is named.
    """
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                kind = type(row).__name__
                raise InputError(f"{path}, line {number}: expected an object, found {kind}")
            yield row


def write_json_rows(path: Path, rows: Iterable[Json]) -> None:
    """Write a `.jsonl.gz`, and its folder; equal rows give equal bytes."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, gzip.compress(text.encode(), mtime=0))
