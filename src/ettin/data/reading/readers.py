"""One reader a format: a file in, documents out; damage is counted and what precedes it is kept.

`.csv` is read as RFC 4180 has it, quotes included; `.tsv` as IANA's text/tab-separated-values,
where a quote is a character like any other. `.gz` and `.zst` may follow any name. Whatever has no
known ending is plain text, unless its beginning says that it is binary.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING

from ettin.data.reading.remote_files import RemoteFile
from ettin.data.reading.tally import WHOLE, Document, Reading, SourceFile, Span

if TYPE_CHECKING:
    import pyarrow

_HEAD_BYTES = 8192
_MAX_INVALID_SHARE = 0.1
_BYTE_ORDER_MARK = "\ufeff"
_SURROGATES = re.compile("[\ud800-\udfff]")
_ENDLESS = (1 << 31) - 1  # a C long is the most that csv accepts, and 32 bits on Windows
_PARQUET_ROWS = 64

_Reader = Callable[[IO[bytes], SourceFile, Reading, Span], Iterator[Document]]


def read_file(file: SourceFile, reading: Reading, span: Span = WHOLE) -> Iterator[Document]:
    """The documents of one file; what is skipped goes to the tally of `reading`.

    Args:
        file: what to read.
        reading: how.
        span: the stretch to read, of a file that `can_be_cut`.

    Raises:
        InputError: a table lacks a column, or there is a defect and defects are to fail.
    """
    endings = PurePosixPath(file.name.lower()).suffixes[-2:]
    packed = endings.pop() if endings and endings[-1] in (".gz", ".zst") else ""
    read = _READERS.get(endings[-1] if endings else "", _read_text)
    before = reading.tally.bytes_read
    try:
        raw = file.open()
    except OSError as error:
        reading.defect("unreadable file", file.relative, f"({error.strerror})")
        return
    with raw:
        try:
            stream = _decompressed(raw, packed)
            problem = _not_text(stream.peek(_HEAD_BYTES)) if read is not _read_parquet else ""
            if problem:
                if not span.begin:  # told once, not for each stretch
                    reading.defect(problem, file.relative)
                return
            for document in read(stream, file, reading, span):
                if read is not _read_parquet:  # whose readers jump to and fro
                    done = max(0, raw.tell() - span.begin)
                    reading.tally.bytes_read = before + min(done, file.size)
                yield document
        except (EOFError, zlib.error, OSError) as error:
            reason = f"damaged {packed[1:]} compression" if packed else "unreadable file"
            reading.defect(reason, file.relative, f"({error})")


def _decompressed(raw: IO[bytes], packed: str) -> io.BufferedReader:
    if packed == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))
    if packed == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(raw), "zstd"))
    assert isinstance(raw, io.BufferedReader)
    return raw


def _not_text(head: bytes) -> str:
    """Why a file beginning like this is no text; empty when it may be."""
    head = head[:_HEAD_BYTES]
    if b"\0" in head:
        return "binary file"
    invalid = len(head) - len(head.decode(errors="ignore").encode())
    return "not UTF-8 text" if invalid > _MAX_INVALID_SHARE * len(head) else ""


def _read_text(
    stream: IO[bytes], file: SourceFile, reading: Reading, _: Span
) -> Iterator[Document]:
    # The bytes are gone before the text is handed on: one copy of a long text is enough.
    text = reading.decode(stream.read(), file.relative).removeprefix(_BYTE_ORDER_MARK)
    yield Document(file.relative, text, file.relative)


def _read_lines(
    stream: IO[bytes], file: SourceFile, reading: Reading, span: Span
) -> Iterator[Document]:
    number = span.first
    if span.begin:
        stream.seek(span.begin)
    # One copy of a long record at a time: a `for` would keep the bytes while the text is used.
    while (span.end is None or stream.tell() < span.end) and (line := stream.readline()):
        number += 1
        place = f"{file.relative}:{number}"
        text = reading.decode(line, place)
        del line
        text = text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text
        if text.isspace():
            reading.empty("blank line", place)
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            reading.defect("broken JSON line", place, f"({error})")
            continue
        del text
        if not isinstance(record, dict):
            reading.defect("JSON line without keys", place, f"({type(record).__name__})")
        elif reading.text_column not in record:
            keys = ", ".join(list(record)[:8])
            reading.defect("no text column", place, f"({reading.text_column!r} among {keys})")
        else:
            name = record.get(reading.id_column) if reading.id_column else None
            content = record.pop(reading.text_column)
            del record
            yield from _document(content, name, place, reading)


def _read_table(
    stream: IO[bytes], file: SourceFile, reading: Reading, *, tabs: bool
) -> Iterator[Document]:
    def lines() -> Iterator[str]:
        for number, line in enumerate(stream, 1):
            text = reading.decode(line, f"{file.relative}:{number}")
            yield text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text

    csv.field_size_limit(_ENDLESS)
    rows = csv.reader(
        lines(),
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=not tabs,
    )
    header: list[str] = []
    last_line = 0
    while True:
        place = f"{file.relative}:{last_line + 1}"
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            reading.defect("broken csv record", place, f"({error})")
            continue
        finally:
            last_line = rows.line_num
        if not row:
            reading.empty("blank line", place)
        elif not header:
            header = row
            reading.require_columns(header, file.relative)
        elif len(row) <= header.index(reading.text_column):
            reading.defect("no text column", place, f"({len(row)} of {len(header)} columns)")
        else:
            columns = dict(zip(header, row, strict=False))
            name = columns.get(reading.id_column) if reading.id_column else None
            yield from _document(columns[reading.text_column], name, place, reading)
    if not header:
        reading.empty("empty text", file.relative)


def _read_csv(stream: IO[bytes], file: SourceFile, reading: Reading, _: Span) -> Iterator[Document]:
    yield from _read_table(stream, file, reading, tabs=False)


def _read_tsv(stream: IO[bytes], file: SourceFile, reading: Reading, _: Span) -> Iterator[Document]:
    yield from _read_table(stream, file, reading, tabs=True)


def _read_parquet(
    stream: IO[bytes], file: SourceFile, reading: Reading, span: Span
) -> Iterator[Document]:
    import pyarrow
    from pyarrow import parquet

    packed = not isinstance(getattr(stream, "raw", None), io.FileIO | RemoteFile)
    columns = [name for name in (reading.text_column, reading.id_column) if name]
    number = span.first
    try:
        table = parquet.ParquetFile(io.BytesIO(stream.read()) if packed else stream)
        reading.require_columns(table.schema_arrow.names, file.relative)
        groups = list(range(table.num_row_groups))[span.begin : span.end]
        for batch in table.iter_batches(_PARQUET_ROWS, row_groups=groups, columns=columns):
            # As bytes: Arrow does not promise that strings in a file are valid UTF-8.
            texts = _as_bytes(batch.column(reading.text_column))
            names = batch.column(reading.id_column) if reading.id_column else None
            for row, content in enumerate(texts):
                place = f"{file.relative}:{number}"
                name = names[row].as_py() if names is not None else None
                text = reading.decode(content, place) if isinstance(content, bytes) else content
                yield from _document(text, name, place, reading)
                number += 1
    except (pyarrow.ArrowException, OSError) as error:
        detail = f"(after {number} rows: {str(error).splitlines()[0]})"
        reading.defect("damaged parquet", file.relative, detail)


def _as_bytes(column: "pyarrow.Array") -> list[object]:
    """Strings of an Arrow column as bytes; values of other types as they are."""
    from pyarrow import large_binary, types

    kind = column.type
    if types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if types.is_string(kind) or types.is_large_string(kind):
        column = column.cast(large_binary())
    return list(column.to_pylist())


def _document(content: object, name: object, place: str, reading: Reading) -> Iterator[Document]:
    """A record as a document, unless it holds no text."""
    if content is None:
        reading.empty("null text", place)
    elif not isinstance(content, str):
        reading.defect("text is not a string", place, f"({type(content).__name__})")
    else:
        if name is None or name == "":
            if reading.id_column:
                reading.note("no id (the place stands for it)", place)
            name = place
        yield Document(_whole(str(name), place, reading), _whole(content, place, reading), place)


def _whole(text: str, place: str, reading: Reading) -> str:
    """Text that UTF-8 can write: JSON can hold halves of surrogate pairs."""
    if text.isascii() or not _SURROGATES.search(text):
        return text
    whole, count = _SURROGATES.subn("\ufffd", text)
    reading.note("halves of surrogate pairs", place, count)
    return whole


_READERS: dict[str, _Reader] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
    ".parquet": _read_parquet,
}
