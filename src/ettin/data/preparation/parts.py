"""Pieces that make one piece of work, told apart by a fingerprint of what its result depends on.

    parts = group_parts(source, list_pieces(source, reading), depends_on="4be1…")
    parts[0].identity                       # "9f0c…": the name of the folder of its result

Small files are put together until a part has about 32 MiB on disk, as compressed files count for
more than they take: whoever makes parts is busy for ten seconds or so with each, which is what is
lost when it is killed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from ettin import files
from ettin.data.preparation.pieces import Piece, SpansOf
from ettin.data.reading.sources import Source
from ettin.data.reading.tally import SourceFile, Span

PART_BYTES = 1 << 25

_UNPACKED = {".gz": 4, ".zst": 4, ".parquet": 3}
"""About how many times as large the text is as the file."""


@dataclass(frozen=True)
class Part:
    """Some documents of a source, to be made at one go.

    Attributes:
        source: the name of their source.
        form: what the source holds; see `Source`.
        pieces: what to read.
        depends_on: the fingerprint of the tokenizer and of how records are read.
    """

    source: str
    form: str
    pieces: tuple[Piece, ...]
    depends_on: str

    @cached_property
    def identity(self) -> str:
        """32 hexadecimal digits: equal parts give equal bytes, whoever makes them."""
        described = [piece.identity for piece in self.pieces]
        return files.fingerprint([self.source, self.form, self.depends_on, described])

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(piece.size for piece in self.pieces)


def group_parts(
    source: Source, pieces: list[Piece], *, depends_on: str, part_bytes: int = PART_BYTES
) -> list[Part]:
    """All parts of a source, in the order of its documents.

    Args:
        source: what the pieces are of.
        pieces: from `list_pieces`.
        depends_on: the fingerprint of what the result depends on besides the text.
        part_bytes: about how large a part is, of text that is not compressed.
    """
    parts: list[Part] = []
    gathered: list[Piece] = []
    weight = 0
    for piece in pieces:
        gathered.append(piece)
        weight += piece.size * _UNPACKED.get(PurePosixPath(piece.file.name.lower()).suffix, 1)
        if weight >= part_bytes:
            parts.append(Part(source.name, source.form, tuple(gathered), depends_on))
            gathered, weight = [], 0
    if gathered:
        parts.append(Part(source.name, source.form, tuple(gathered), depends_on))
    return parts


def remembered_spans(folder: Path, piece_bytes: int) -> SpansOf:
    """Looks spans of long files of lines up in a folder; writes those that had to be found there.

    So a long file is read once to be cut, however often the stage is interrupted.
    """

    def spans_of(file: SourceFile, find: Callable[[], list[Span]]) -> list[Span]:
        known = files.fingerprint([str(file.location), file.size, file.version, piece_bytes])
        path = folder / f"spans-{known}.json"
        if path.is_file():
            return [Span(*each) for each in files.read_json(path)["spans"]]
        spans = find()
        files.write_json(path, {"file": file.relative, "spans": spans})
        return spans

    return spans_of
