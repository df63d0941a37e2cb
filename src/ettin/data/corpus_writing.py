"""Write the files of a corpus: token shards and row tables; `corpus` describes and reads them."""

import re
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import ipc

from ettin.data.chunking import OURS, ChunkRule, Chunks, HashArray
from ettin.data.corpus import TOKENIZER, rows_path
from ettin.data.documents import shard_name
from ettin.data.packing import Packing, RowBlock, plan_rows
from ettin.errors import InputError

SHARD_TOKENS = 1 << 25
_CONVERTED_TOKENS = 1 << 20

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHUNK = pyarrow.struct([(name, pyarrow.uint32()) for name in Chunks._fields])


class SourceWriter:
    """Writes the token shards of one source; use it in a `with` block.

    Attributes:
        shard_documents: documents of each shard written.

    Args:
        folder: the source's folder in the corpus; is made.
        padded_vocab_size: ids take 2 bytes up to 65,536 and 4 above.
        shard_tokens: a shard is closed when it holds this many.
    """

    def __init__(
        self, folder: Path, *, padded_vocab_size: int, shard_tokens: int = SHARD_TOKENS
    ) -> None:
        folder.mkdir(parents=True)
        self.shard_documents: list[int] = []
        self._folder, self._limit = folder, shard_tokens
        self._small = padded_vocab_size <= 1 << 16
        self._start_shard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._ids:
            self._write_shard()

    def add(self, document_id: str, origin: str, tokens: npt.NDArray[np.uint32]) -> None:
        """Append a document of at least one token."""
        assert len(tokens), f"document {document_id!r} has no tokens"
        self._ids.append(document_id)
        self._origins.append(origin)
        # An array grows in place, where joining a list of arrays would need all tokens twice.
        for begin in range(0, len(tokens), _CONVERTED_TOKENS):
            part = tokens[begin : begin + _CONVERTED_TOKENS]
            stored = part.astype(np.uint16 if self._small else np.uint32)
            self._tokens.frombytes(stored.view(np.uint8).data)
        self._offsets.append(len(self._tokens))
        if len(self._tokens) >= self._limit:
            self._write_shard()

    def _start_shard(self) -> None:
        self._ids: list[str] = []
        self._origins: list[str] = []
        self._offsets = array("q", [0])
        self._tokens = array("H" if self._small else "I")

    def _write_shard(self) -> None:
        kind = pyarrow.uint16() if self._small else pyarrow.uint32()
        values = pyarrow.Array.from_buffers(
            kind, len(self._tokens), [None, pyarrow.py_buffer(self._tokens)]
        )
        offsets = pyarrow.Array.from_buffers(
            pyarrow.int64(), len(self._offsets), [None, pyarrow.py_buffer(self._offsets)]
        )
        tokens = pyarrow.LargeListArray.from_arrays(offsets, values)
        origins = pyarrow.array(self._origins, pyarrow.large_string())
        path = self._folder / shard_name(len(self.shard_documents))
        _write_columns(path, self._ids, origins, tokens)
        self.shard_documents.append(len(self._ids))
        self._start_shard()


def rename_documents(shard: Path, target: Path, names: Mapping[int, str]) -> None:
    """Write a token shard once more, with other ids for some of its documents.

    Args:
        shard: the file to read.
        target: the file to write.
        names: new ids by the number of the document in the shard.
    """
    batch = ipc.open_file(pyarrow.memory_map(str(shard))).get_batch(0)
    ids = batch.column("id").to_pylist()
    for number, name in names.items():
        ids[number] = name
    _write_columns(target, ids, batch.column("origin"), batch.column("tokens"))


def write_rows(
    folder: Path,
    documents: npt.NDArray[np.int64],
    document_tokens: npt.NDArray[np.int64],
    *,
    context_length: int,
    packing: Packing,
    held_out: bool,
    rule: ChunkRule = OURS,
    hashes: HashArray | None = None,
) -> tuple[int, int]:
    """Plan and write one row table.

    Args:
        folder: the source's folder.
        documents: int64 [n], numbers of documents in the order in which they are packed.
        document_tokens: int64 [n], their tokens.
        context_length: the longest row.
        packing: see `packing.plan_rows`.
        held_out: write the validation table instead of the training table.
        rule: how documents are cut.
        hashes: uint64 [n], of the documents' ids; see `packing.plan_rows`.

    Returns:
        The rows, and the tokens in them with BOS and EOS.
    """
    path = rows_path(folder, context_length, "held-out" if held_out else "train")
    blocks = plan_rows(
        documents, document_tokens, context_length=context_length, packing=packing, rule=rule,
        hashes=hashes,
    )  # fmt: skip
    return _write_blocks(path, blocks)


def check_source_names(names: Iterable[str]) -> None:
    """Raise `InputError` unless all names can be folders of one corpus on every file system."""
    seen: set[str] = {TOKENIZER, "manifest.json"}
    for name in names:
        if not _SAFE_NAME.fullmatch(name):
            raise InputError(
                f"source name {name!r}: use letters, digits, '.', '_' and '-', at most 100, "
                "the first a letter or a digit"
            )
        if name.casefold() in seen:
            raise InputError(f"source name {name!r} is taken; every source needs its own")
        seen.add(name.casefold())


def _write_columns(
    path: Path, ids: list[str], origins: pyarrow.Array, tokens: pyarrow.Array
) -> None:
    columns = [pyarrow.array(ids, pyarrow.large_string()), origins, tokens]
    batch = pyarrow.RecordBatch.from_arrays(columns, names=["id", "origin", "tokens"])
    with pyarrow.OSFile(str(path), "wb") as file, ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def _write_blocks(path: Path, blocks: Iterable[RowBlock]) -> tuple[int, int]:
    schema = pyarrow.schema([("chunks", pyarrow.list_(_CHUNK))])
    rows = tokens = 0
    with pyarrow.OSFile(str(path), "wb") as file, ipc.new_file(file, schema) as writer:
        for block in blocks:
            columns = [pyarrow.array(column.astype(np.uint32)) for column in block.chunks]
            chunks = pyarrow.StructArray.from_arrays(columns, fields=list(_CHUNK))
            offsets = pyarrow.array(block.offsets.astype(np.int32))
            lists = pyarrow.ListArray.from_arrays(offsets, chunks)
            writer.write_batch(pyarrow.RecordBatch.from_arrays([lists], schema=schema))
            rows += len(block.offsets) - 1
            tokens += block.tokens
    return rows, tokens
