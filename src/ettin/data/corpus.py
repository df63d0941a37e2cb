"""The corpus on disk: tokens of documents, and tables that say which of them form a row.

    corpus = Corpus.open(Path("corpus"))
    table = corpus.table("books", 1024)                 # split="held-out" for validation
    tokens, lengths = table.tokens(0)                   # one row: its chunks one after another
    table.document_id(table.chunks(0)[0].document)      # "poe/raven.txt"

    corpus/manifest.json                    kind `corpus`, written last; facts as `prepare` gives
    corpus/tokenizer/                       Hugging Face files
    corpus/<source>/tokens-00000.arrow      id, origin, tokens (uint16 or uint32): one a document
    corpus/<source>/rows-1024.arrow         chunks (document, start, length): one list a row
    corpus/<source>/held-out-1024.arrow     the same of the held-out documents

Arrow IPC files, as polars, duckdb and pandas read them. They are memory-mapped, each when it is
first needed; nothing is copied but the rows asked for. Documents are numbered through the shards
of their source. BOS and EOS are not stored: every chunk begins with BOS, and one that reaches the
end of its document has EOS (see `chunking`).
"""

from bisect import bisect_right
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import ipc

from ettin import files
from ettin.data.chunking import ChunkRule, Chunks, cut_into_chunks
from ettin.data.documents import BoolArray, Documents, integers
from ettin.data.packing import id_hash
from ettin.data.row_lookup import RowLookup
from ettin.errors import InputError, nearest
from ettin.identity import identity
from ettin.tokenizer import SpecialIds

Split = Literal["train", "held-out"]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

KIND = "corpus"
TOKENIZER = "tokenizer"


def is_corpus(path: Path) -> bool:
    """Whether a directory is a finished corpus."""
    return files.is_finished(path) and files.read_manifest(path)["kind"] == KIND


class Chunk(NamedTuple):
    """A piece of a document: its number in the source, first token, and text tokens."""

    document: int
    start: int
    length: int


class HeldTexts(NamedTuple):
    """What some rows hold, chunk by chunk in their order.

    Attributes:
        counts: int64 [rows], chunks of each row.
        lengths: int64 [chunks], tokens of each as a row holds it, BOS and EOS counted.
        texts: [chunks] of tokens, their bytes as stored; views, without BOS and EOS.
        ends: bool [chunks], whether EOS follows.
    """

    counts: Int64Array
    lengths: Int64Array
    texts: list[memoryview]
    ends: BoolArray


class Corpus:
    """A finished corpus, opened for reading.

    Attributes:
        path: its directory.
        fingerprint: its identity; the same for a copy, and for one made again of the same text.
        facts: what `prepare` found out; see there.
        source_names: in the order in which they were given.
        special: ids of bos, eos, pad and mask.
    """

    def __init__(self, path: Path, manifest: files.Json) -> None:
        self.path = path
        self.fingerprint = identity(path, manifest)
        self.facts: files.Json = manifest["facts"]
        self.source_names: tuple[str, ...] = tuple(self.facts["sources"])
        self.special = SpecialIds(**self.facts["tokenizer"]["special"])
        self._documents: dict[str, Documents] = {}
        self._tables: dict[tuple[str, int, str], RowTable] = {}

    @classmethod
    def open(cls, path: Path) -> "Corpus":
        """Open a directory.

        Raises:
            InputError: it is not a finished corpus.
        """
        return cls(path, files.read_manifest(path, KIND))

    @property
    def tokenizer_directory(self) -> Path:
        """Where its tokenizer lies."""
        return self.path / TOKENIZER

    @property
    def padded_vocab_size(self) -> int:
        """Rows that an embedding for it has: a multiple of 64."""
        return int(self.facts["tokenizer"]["padded_size"])

    @cached_property
    def ordinary_ids(self) -> Int64Array:
        """Ids that text can have, ascending; int64."""
        ranges = self.facts["tokenizer"]["ordinary_ranges"]
        return np.concatenate([np.arange(*each, dtype=np.int64) for each in ranges])

    def chunk_rule(self, context_length: int) -> ChunkRule:
        """How its documents are cut for rows of this length."""
        return ChunkRule(**self.facts.get("chunk_rules", {}).get(str(context_length), {}))

    def source_facts(self, source: str) -> files.Json:
        """What the manifest says of one source.

        Raises:
            InputError: there is no such source.
        """
        if source not in self.source_names:
            hint = nearest(source, self.source_names)
            raise InputError(f"{self.path} has no source {source!r}; {hint}")
        return dict(self.facts["sources"][source])

    def documents(self, source: str) -> "Documents":
        """All documents of a source, held-out ones included.

        Raises:
            InputError: there is no such source.
        """
        if source not in self._documents:
            counts = self.source_facts(source)["shards"]
            self._documents[source] = Documents(self.path / source, counts)
        return self._documents[source]

    def table(self, source: str, context_length: int, split: Split = "train") -> "RowTable":
        """The rows of a source at one context length.

        Raises:
            InputError: no such source, or the corpus was not prepared for this context length.
        """
        wanted = (source, context_length, split)
        if wanted not in self._tables:
            documents = self.documents(source)
            lengths = self.facts["context_lengths"]
            if context_length not in lengths:
                every = ",".join(str(each) for each in sorted({*lengths, context_length}))
                raise InputError(
                    f"{self.path} has rows for context length "
                    f"{' and '.join(str(each) for each in lengths)}, not {context_length}; "
                    f"run: ettin prepare … --context-length {every} --out ANOTHER_CORPUS"
                )
            path = rows_path(self.path / source, context_length, split)
            self._tables[wanted] = RowTable(path, documents, self.special, context_length)
        return self._tables[wanted]

    def problems(self) -> list[str]:
        """What is wrong with the structure, hashes aside (see `files.verify`); empty when sound.

        Checks that all ids are ordinary ones, and that the tables of each context length hold
        every piece that its chunk rule makes of each document exactly once, in rows that are not
        too long.
        """
        allowed = np.zeros(max(self.padded_vocab_size, 1 << 16), dtype=bool)
        allowed[self.ordinary_ids] = True
        found: list[str] = []
        for source in self.source_names:
            documents = self.documents(source)
            found += documents.problems(allowed)
            for length in self.facts["context_lengths"]:
                tables = [self.table(source, length, split) for split in ("train", "held-out")]
                found += [problem for table in tables for problem in table.problems()]
                if not found and not _covers(tables, documents, self.chunk_rule(length)):
                    found.append(
                        f"{self.path / source}: the rows for {length} do not hold every token "
                        "that the chunk rule keeps exactly once"
                    )
        return found


class RowTable:
    """The rows of one source, context length and split; made by `Corpus.table`."""

    def __init__(
        self, path: Path, documents: Documents, special: SpecialIds, context_length: int
    ) -> None:
        self.documents = documents
        self.context_length = context_length
        self.special = special
        self._path = path
        file = pyarrow.memory_map(str(path))
        reader = ipc.open_file(file)
        self._batches = [reader.get_batch(n).column(0) for n in range(reader.num_record_batches)]
        self._first = [0, *np.cumsum([len(batch) for batch in self._batches]).tolist()]
        self._arrays: dict[int, tuple[Int32Array, Chunks]] = {}
        file.seek(0)
        self._lookup = RowLookup(file.read_buffer(), self._batches)

    def __len__(self) -> int:
        return int(self._first[-1])

    def chunks(self, row: int) -> list[Chunk]:
        """The pieces of documents that a row holds, in their order."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} of {self._path}")
        number = bisect_right(self._first, row) - 1
        offsets, chunks = self._block(number)
        place = row - self._first[number]
        held = slice(offsets[place], offsets[place + 1])
        columns = (column[held].tolist() for column in chunks)
        return [Chunk(*each) for each in zip(*columns, strict=True)]

    def texts(self, rows: Int64Array) -> HeldTexts:
        """What many rows hold, in O(rows) whatever the size of the table.

        Args:
            rows: int64 [n], in any order.

        Raises:
            IndexError: there is no such row, or it names documents that are not there.
            ValueError: the table is damaged: it names tokens that are not there.
        """
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} of {self._path}")
        counts, chunks = self._lookup.chunks(rows, longest=self.context_length)
        texts, ends = self.documents.pieces(*chunks)
        return HeldTexts(counts, chunks.length + 1 + ends, texts, ends)

    def tokens(self, row: int) -> tuple[Int32Array, Int32Array]:
        """A row's tokens and the lengths of its chunks.

        Returns:
            tokens: int32 [n], n at most the context length: BOS + piece (+ EOS) of each chunk.
            lengths: int32 [chunks], their sum is n.
        """
        chunks = self.chunks(row)
        tokens = np.empty(self.context_length, dtype=np.int32)
        lengths = np.empty(len(chunks), dtype=np.int32)
        filled = 0
        for number, (document, start, length) in enumerate(chunks):
            text = self.documents.tokens(document)
            begin = filled
            tokens[filled] = self.special.bos
            tokens[filled + 1 : filled + 1 + length] = text[start : start + length]
            filled += 1 + length
            if start + length == len(text):
                tokens[filled] = self.special.eos
                filled += 1
            lengths[number] = filled - begin
        return tokens[:filled], lengths

    def document_id(self, document: int) -> str:
        """The id of a document by its number in the source."""
        return self.documents.id(document)

    def rows_of_document(self, document: int) -> Int64Array:
        """All rows that hold a piece of a document, ascending; int64. Scans the table."""
        rows = []
        for number, first in enumerate(self._first[:-1]):
            offsets, chunks = self._block(number)
            places = np.flatnonzero(chunks.document == document)
            rows.append(first + np.searchsorted(offsets, places, "right") - 1)
        return np.unique(np.concatenate([np.zeros(0, np.int64), *rows]))

    def rows_of_id(self, document_id: str) -> Int64Array:
        """`rows_of_document` by id; empty when the split holds no piece of it."""
        document = self.documents.find(document_id)
        return np.zeros(0, np.int64) if document is None else self.rows_of_document(document)

    def all_chunks(self) -> Chunks:
        """The chunks of all rows, in their order; int64 copies."""
        blocks = [self._block(number)[1] for number in range(len(self._batches))]
        columns = zip(*blocks, strict=True)
        return Chunks(*(np.concatenate(column).astype(np.int64) for column in columns))

    def problems(self) -> list[str]:
        """Sentences about chunks out of bounds and rows that are too long; empty when sound."""
        counts = self.documents.token_counts
        for number in range(len(self._batches)):
            offsets, small = self._block(number)
            chunks = Chunks(*(column.astype(np.int64) for column in small))
            if (np.diff(offsets) < 1).any() or offsets[-1] != len(chunks.document):
                return [f"{self._path}: the boundaries of rows are out of order"]
            if chunks.document.max() >= len(counts):
                return [f"{self._path}: names documents that are not there"]
            end = chunks.start + chunks.length
            whole = counts[chunks.document]
            if (chunks.length < 1).any() or (end > whole).any():
                return [f"{self._path}: names tokens that are not there"]
            sizes = np.add.reduceat(chunks.length + 1 + (end == whole), offsets[:-1])
            if sizes.max() > self.context_length:
                return [f"{self._path}: has rows of more than {self.context_length} tokens"]
        return []

    def _block(self, number: int) -> tuple[Int32Array, Chunks]:
        if number not in self._arrays:
            column = self._batches[number]
            fields = [integers(column.values.field(name)) for name in Chunks._fields]
            self._arrays[number] = (integers(column.offsets), Chunks(*fields))
        return self._arrays[number]


def rows_path(folder: Path, context_length: int, split: Split) -> Path:
    """The file of a row table in its source's folder."""
    return folder / f"{'rows' if split == 'train' else 'held-out'}-{context_length}.arrow"


def _covers(tables: list[RowTable], documents: Documents, rule: ChunkRule) -> bool:
    """Whether the chunks of tables, put in order, are those that a rule cuts documents into."""
    held = [table.all_chunks() for table in tables]
    chunks = Chunks(*(np.concatenate(column) for column in zip(*held, strict=True)))
    chunks = chunks.take(np.lexsort((chunks.start, chunks.document)))
    hashes = None
    if rule.minimum_length:
        shards = range(len(documents.shard_documents))
        ids = (each for shard in shards for each in documents.ids(shard))
        hashes = np.fromiter(map(id_hash, ids), np.uint64, len(documents))
    expected = cut_into_chunks(
        np.arange(len(documents)),
        documents.token_counts,
        context_length=tables[0].context_length,
        rule=rule,
        hashes=hashes,
    )
    return all(map(np.array_equal, chunks, expected))
