"""What a source is read in: whole files, and stretches of files too long for one go.

    pieces = list_pieces(source, reading)
    for piece in pieces:
        for document in read_piece(piece, source.form, reading=reading, rules=rules):
            …

Lines of JSON and tables of parquet can be read from the middle, so a long file of them becomes
several pieces; compressed files, csv (where a line end may stand inside a field) and plain text
(one document a file) are read whole, and an MDS shard is a piece. Where a piece begins depends on
the file alone.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from ettin.data.mds.index import ShardFile
from ettin.data.mds.source import NamedShard, list_shards, read_shard
from ettin.data.reading.sources import Source, list_files, read_counted
from ettin.data.reading.tally import WHOLE, Document, Reading, SourceFile, Span
from ettin.data.reading.token_tables import read_table
from ettin.data.reading.tokenised import SampleRules, TokenisedDocument
from ettin.errors import InputError
from ettin.files import Json

_BLOCK_BYTES = 1 << 22
_LINES = (".jsonl", ".ndjson")
_SHARD = re.compile(r"shard\.\d+\.mds(\.\w+)?")

SpansOf = Callable[[SourceFile, Callable[[], list[Span]]], list[Span]]
"""Gives the spans of a file: remembered ones, or those that the function finds by reading it."""


class Piece(NamedTuple):
    """Something to read in one go.

    Attributes:
        file: where it lies.
        size: bytes that it takes there.
        span: the stretch of the file.
        shard: what the index says of an MDS shard, and its name; None for other files.
    """

    file: SourceFile
    size: int
    span: Span = WHOLE
    shard: tuple[str, ShardFile] | None = None

    @property
    def identity(self) -> Json:
        """What its documents depend on, as JSON."""
        described: Json = {
            "file": self.file.relative,
            "bytes": self.file.size,
            "version": self.file.version,
            "span": list(self.span),
        }
        if self.shard:
            name, shard = self.shard
            described["shard"] = [name, shard.samples, [list(each) for each in shard.columns]]
        return described


def list_pieces(
    source: Source,
    reading: Reading,
    *,
    spans_of: SpansOf = lambda _, find: find(),
    piece_bytes: int = 1 << 25,
) -> list[Piece]:
    """All pieces of a source, in the order of its documents.

    Args:
        source: what to list.
        reading: counts what is left out, and what to do about shards that are missing.
        spans_of: where to look for the spans of a long file of lines before it is read.
        piece_bytes: a file is cut when it has more.

    Raises:
        InputError: a path that is not there, MDS shards in a source of text, or a defect if defects
            are to fail.
    """
    listed = list_files([source], reading=reading)
    if source.form == "mds":
        return [
            Piece(shard.file, shard.file.size, shard=(shard.name, shard.described))
            for shard in list_shards(source, listed, reading)
        ]
    pieces: list[Piece] = []
    shard = next((file for file in listed if _SHARD.fullmatch(file.name)), None)
    if source.form == "text" and shard:
        # It would be skipped as binary, but the JSON beside it read as text.
        raise InputError(
            f"source {source.name}: {shard.relative} is an MDS shard: tokens, not text; give the "
            "folder with --mds"
        )
    for file in listed:
        ending = PurePosixPath(file.name.lower()).suffix
        if source.form == "parquet" and ending != ".parquet":
            reading.empty("not a parquet file", file.relative)
        elif file.size > piece_bytes and ending == ".parquet":
            pieces += _row_groups(file, piece_bytes)
        elif file.size > piece_bytes and ending in _LINES and file.is_local:
            spans = spans_of(file, lambda file=file: line_spans(file, piece_bytes))  # type: ignore[misc]
            pieces += [Piece(file, (each.end or file.size) - each.begin, each) for each in spans]
        else:
            pieces.append(Piece(file, file.size))
    return pieces


def read_piece(
    piece: Piece, *, reading: Reading, rules: SampleRules | None
) -> Iterator[Document | TokenisedDocument]:
    """The documents of a piece; ids from a column may come twice.

    Args:
        piece: from `list_pieces`.
        reading: how to read, and where to count.
        rules: what is done to tokens that are given; None for a source of text.

    Raises:
        InputError: a table without the columns asked for, tokens of another tokenizer, or a defect
            if defects are to fail.
    """
    if piece.shard:
        assert rules is not None
        shard = NamedShard(*piece.shard, piece.file)
        return read_shard(shard, rules=rules, reading=reading)
    if rules is not None:
        return read_table(piece.file, piece.span, rules=rules, reading=reading, size=piece.size)
    return read_counted(piece.file, reading, piece.span, size=piece.size)


def line_spans(file: SourceFile, piece_bytes: int) -> list[Span]:
    """Cut a file of lines after the first line end at or behind every `piece_bytes` bytes.

    Reads the file once; a file that cannot be read is left whole, for its reader to tell.
    """
    spans: list[Span] = []
    begin = first = lines = position = 0
    try:
        with file.open() as stream:
            while block := stream.read(_BLOCK_BYTES):
                place = 0
                while True:
                    wanted = max(begin + piece_bytes - 1 - position, place)
                    cut = block.find(b"\n", wanted) + 1 if wanted < len(block) else 0
                    if not cut:
                        break
                    lines += block.count(b"\n", place, cut)
                    spans.append(Span(begin, position + cut, first))
                    begin, first, place = position + cut, lines, cut
                lines += block.count(b"\n", place)
                position += len(block)
    except OSError:
        return [WHOLE]
    if position > begin:
        spans.append(Span(begin, position, first))
    return spans or [WHOLE]


def _row_groups(file: SourceFile, piece_bytes: int) -> list[Piece]:
    """Runs of row groups with about `piece_bytes` bytes each; the whole file if it is damaged."""
    import pyarrow
    from pyarrow import parquet

    try:
        with file.open() as stream:
            metadata = parquet.ParquetFile(stream).metadata
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            # Of all columns, on disk: they share what the file takes beside.
            sizes = [
                sum(group.column(each).total_compressed_size for each in range(group.num_columns))
                for group in groups
            ]
    except (pyarrow.ArrowException, OSError):
        return [Piece(file, file.size)]
    pieces: list[Piece] = []
    begin = first = rows = taken = 0
    for number, (group, size) in enumerate(zip(groups, sizes, strict=True), 1):
        rows += group.num_rows
        taken += size
        if taken >= piece_bytes or number == len(groups):
            pieces.append(Piece(file, taken, Span(begin, number, first)))
            begin, first, taken = number, rows, 0
    return pieces or [Piece(file, file.size)]
