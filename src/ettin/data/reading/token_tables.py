"""Parquet tables of token ids as a source: the published order files, to be replayed.

    source = Source("replay", (Path("ettin-data-order"),), form="parquet")
    for file in list_files([source]):
        for document in read_table(file, rules=SampleRules(tokenizer), reading=reading):
            print(document.origin, len(document.tokens))         # step-00000.parquet:0 1022

A row is a sample: its tokens a list of whole numbers in the column `input_ids`, else `tokens`.
Other columns, such as `step`, are left alone: rows come in the order of the files' names and stand
in training order there, and `order_writing.write_order(…, order="files")` keeps it. What is done to
the tokens is told in `tokenised`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import parquet, types

from ettin.data.reading.tally import WHOLE, Reading, SourceFile, Span
from ettin.data.reading.tokenised import TOKEN_COLUMNS, SampleRules, TokenisedDocument
from ettin.errors import InputError

_ROWS = 1024


def holds_token_tables(folder: Path) -> bool:
    """Whether a folder holds parquet files, in it or below."""
    return any(True for _ in folder.rglob("*.parquet"))


def read_table(
    file: SourceFile,
    span: Span = WHOLE,
    *,
    rules: SampleRules,
    reading: Reading,
    size: int | None = None,
) -> Iterator[TokenisedDocument]:
    """All rows of a parquet file as documents; ids from a column may come twice.

    Args:
        file: the table; one that is not `.parquet` is left out.
        span: the row groups to read.
        rules: what is done to the tokens.
        reading: the column of ids (None for the place of a row), what to do about damage, and where
            to count.
        size: bytes that the span takes on disk; None for those of the file.

    Raises:
        InputError: ids that the tokenizer does not have, a table without the columns asked for, or
            any defect if defects are to fail.
    """
    id_column, tally = reading.id_column, reading.tally
    before, number = tally.bytes_read, span.first
    try:
        with file.open() as stream, parquet.ParquetFile(stream) as table:
            column = _token_column(table.schema_arrow, file, id_column)
            wanted = [each for each in (column, id_column) if each]
            groups = list(range(table.num_row_groups))[span.begin : span.end]
            for batch in table.iter_batches(_ROWS, row_groups=groups, columns=wanted):
                names = batch.column(id_column).to_pylist() if id_column else None
                for document, row in _rows(batch.column(column), number, file, rules, reading):
                    name = None if names is None else names[row - number]
                    if id_column and name in (None, ""):
                        reading.note("no id (the place stands for it)", document.origin)
                    elif id_column:
                        document = document._replace(id=str(name))
                    tally.documents += 1
                    yield document
                number += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        detail = f"(after {number} rows: {str(error).splitlines()[0]})"
        reading.defect("damaged parquet", file.relative, detail)
    tally.bytes_read = before + (file.size if size is None else size)


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
