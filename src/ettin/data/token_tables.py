"""Parquet tables of token ids as a source: the published order files, to be replayed.

    source = Source("replay", (Path("ettin-data-order"),), form="parquet")
    for document in read_token_tables(source, tally=tally, rules=SampleRules(tokenizer)):
        print(document.origin, len(document.tokens))             # step-00000.parquet:0 1022

A row is a sample: its tokens a list of whole numbers in the column `input_ids`, else `tokens`.
Other columns, such as `step`, are left alone: rows come in the order of the files' names and stand
in training order there, and `stored_order.write_order(…, order="files")` keeps it. What is done to
the tokens is told in `tokenised`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import parquet, types

from ettin.data.sources import OnError, Source, list_files, make_unique
from ettin.data.tally import Reading, SourceFile, Tally
from ettin.data.tokenised import TOKEN_COLUMNS, SampleRules, TokenisedDocument
from ettin.errors import InputError

_ROWS = 1024


def holds_token_tables(folder: Path) -> bool:
    """Whether a folder holds parquet files, in it or below."""
    return any(True for _ in folder.rglob("*.parquet"))


def read_token_tables(
    source: Source,
    *,
    tally: Tally,
    rules: SampleRules,
    id_column: str | None = None,
    on_error: OnError = "skip",
) -> Iterator[TokenisedDocument]:
    """All rows of a source's parquet files as documents.

    Args:
        source: files, and folders with files below; those that are not `.parquet` are left out.
        tally: counts what is read and what is skipped, while it goes on.
        rules: what is done to the tokens.
        id_column: the column that holds ids; None for the place of a row.
        on_error: `skip` counts damaged files and rows; `fail` stops at the first.

    Raises:
        InputError: ids that the tokenizer does not have, a table without the columns asked for, or
            any defect if `on_error` is `fail`.
    """
    reading = Reading("", id_column, on_error, tally)
    seen: dict[int, int] = {}
    for file in list_files([source], reading=reading):
        if file.path.suffix.lower() != ".parquet":
            reading.empty("not a parquet file", file.relative)
            continue
        before, number = tally.bytes_read, 0
        try:
            table = parquet.ParquetFile(file.path)
            column = _token_column(table.schema_arrow, file, id_column)
            wanted = [each for each in (column, id_column) if each]
            for batch in table.iter_batches(_ROWS, columns=wanted):
                names = batch.column(id_column).to_pylist() if id_column else None
                for document, row in _rows(batch.column(column), number, file, rules, reading):
                    name = None if names is None else names[row - number]
                    if id_column and name in (None, ""):
                        reading.note("no id (the place stands for it)", document.origin)
                    elif id_column:
                        unique = make_unique(str(name), document.origin, seen, tally)
                        document = document._replace(id=unique)
                    tally.documents += 1
                    yield document
                number += batch.num_rows
        except (pyarrow.ArrowException, OSError) as error:
            detail = f"(after {number} rows: {str(error).splitlines()[0]})"
            reading.defect("damaged parquet", file.relative, detail)
        tally.bytes_read = before + file.size


def _rows(
    column: pyarrow.Array, first: int, file: SourceFile, rules: SampleRules, reading: Reading
) -> Iterator[tuple[TokenisedDocument, int]]:
    """The documents of one column of a batch, with their numbers in the file."""
    values, lengths = _flat(column)
    samples = rules.clean(
        values, lengths, place=lambda number: f"{file.relative}:{first + number}", reading=reading
    )
    reading.tally.text_bytes += samples.text_bytes
    for number, (start, end) in enumerate(
        zip(samples.start.tolist(), samples.end.tolist(), strict=True)
    ):
        if end > start:
            place = f"{file.relative}:{first + number}"
            yield TokenisedDocument(place, samples.values[start:end], place), first + number


def _flat(column: pyarrow.Array) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """All values of a list column, and how many each row has; nothing where a row is null."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values = column.flatten()
    if values.null_count:
        raise pyarrow.ArrowInvalid("a list of tokens holds nulls")
    return values.to_numpy(zero_copy_only=False), lengths.astype(np.int64)


def _token_column(schema: pyarrow.Schema, file: SourceFile, id_column: str | None) -> str:
    """The column of tokens.

    Raises:
        InputError: there is none, or it does not hold lists of whole numbers, or no id column.
    """
    names = ", ".join(schema.names)
    if id_column and id_column not in schema.names:
        raise InputError(f"{file.relative} has no column {id_column!r}; it has: {names}")
    for name in TOKEN_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            lists = types.is_list(kind) or types.is_large_list(kind)
            if lists and types.is_integer(kind.value_type):
                return name
            raise InputError(f"{file.relative}: column {name!r} is {kind}, expected list<int>")
    raise InputError(
        f"{file.relative} has no column {' or '.join(map(repr, TOKEN_COLUMNS))}; it has: {names}"
    )
