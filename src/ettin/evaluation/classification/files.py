"""Tables of examples on this machine: which file holds which split, and its rows.

`.tsv` has one header line and no quoting, a quote being a character like any other; `.csv` is read
as RFC 4180 has it; `.jsonl` holds an object a line. `.gz` may follow any of them.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ettin.errors import InputError, nearest
from ettin.evaluation.rows import read_json_rows, text_of

Row = dict[str, Any]

ENDINGS = (".tsv", ".csv", ".jsonl")
SPLITS = {
    "train": "train",
    "in_domain_train": "train",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
    "in_domain_dev": "dev",
    "out_of_domain_dev": "dev",
    "dev_matched": "dev",
    "validation_matched": "dev",
    "dev_mismatched": "mismatched",
    "validation_mismatched": "mismatched",
    "test": "test",
}
"""What files are called; CoLA's two dev files together are GLUE's validation split."""
_TOGETHER = {"in_domain_dev", "out_of_domain_dev"}


def split_files(folder: Path) -> dict[str, list[Path]]:
    """The files of each split of a folder, in order of their names.

    Raises:
        InputError: no folder, no split, a table of an unknown name, or two files for one split.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a directory; give a folder with train and dev tables")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        stem, ending = _stem_and_ending(path)
        if ending not in ENDINGS:
            continue
        if stem not in SPLITS:
            raise InputError(f"{path}: {stem!r} is no split, {nearest(stem, SPLITS)}")
        split = found.setdefault(SPLITS[stem], [])
        if split and not {stem, _stem_and_ending(split[0])[0]} == _TOGETHER:
            raise InputError(f"{split[0]} and {path} both hold the {SPLITS[stem]} split; keep one")
        split.append(path)
    if not set(found) - {"mismatched"}:
        listed = ", ".join(ENDINGS)
        raise InputError(f"{folder} holds no train, dev or test file ({listed}, plain or .gz)")
    return {
        split: found[split] for split in ("train", "dev", "mismatched", "test") if split in found
    }


def _stem_and_ending(path: Path) -> tuple[str, str]:
    plain = Path(path.name.removesuffix(".gz"))
    return plain.stem, plain.suffix


def read_rows(path: Path) -> list[Row]:
    """The rows of a table, by column.

    Raises:
        InputError: it cannot be read as what its name says, with the line.
    """
    ending = _stem_and_ending(path)[1]
    if ending == ".jsonl":
        return list(read_json_rows(path))
    text = text_of(path)
    if ending == ".tsv":
        lines = (line.removesuffix("\r") for line in text.split("\n"))
        return list(_records((line.split("\t") for line in lines if line), path))
    return list(_records((row for row in csv.reader(io.StringIO(text, newline="")) if row), path))


def _records(rows: Iterator[list[str]], path: Path) -> Iterator[Row]:
    header = next(rows, [])
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InputError(
                f"{path}: example {number} has {len(row)} fields, and there are {len(header)} "
                f"columns ({', '.join(header)})"
            )
        yield dict(zip(header, row, strict=True))
