"""Small MDS folders: one as the original writer left it, others made or damaged by tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ettin.data.mds.index import read_index
from ettin.data.mds.shards import MdsShard
from ettin.data.mds.writing import MdsWriter
from ettin.data.preparation.pieces import list_pieces, read_piece
from ettin.data.reading.sources import Source
from ettin.data.reading.tally import Reading
from ettin.data.reading.tokenised import SampleRules, TokenisedDocument

COLUMNS = {"input_ids": "ndarray:uint32", "id": "str"}
SAMPLES = [
    {"id": "a", "input_ids": np.array([1, 2, 70000], np.uint32)},
    {"id": "é", "input_ids": np.array([5], np.uint32)},
]

# What MosaicML Streaming 0.13.0 wrote for SAMPLES with hashes=["xxh64"]: the shard in three parts
# (count and offsets, configuration, samples), and the index.
HEADER = "02000000e3000000fa0000000a010000"
CONFIGURATION = (
    '{"column_encodings": ["str", "ndarray:uint32"], "column_names": ["id", "input_ids"], '
    '"column_sizes": [null, null], "compression": null, "format": "mds", "hashes": ["xxh64"], '
    '"size_limit": 67108864, "version": 2}'
)
BODY = "010000000e0000006104030100000002000000701101000200000006000000c3a9040105000000"
SHARD = bytes.fromhex(HEADER) + CONFIGURATION.encode() + bytes.fromhex(BODY)
INDEX = (
    '{"shards": [{"column_encodings": ["str", "ndarray:uint32"], '
    '"column_names": ["id", "input_ids"], "column_sizes": [null, null], "compression": null, '
    '"format": "mds", "hashes": ["xxh64"], "raw_data": {"basename": "shard.00000.mds", '
    '"bytes": 266, "hashes": {"xxh64": "7379cb74df0ce485"}}, "samples": 2, '
    '"size_limit": 67108864, "version": 2, "zip_data": null}], "version": 2}'
)


def read_tokens(source: Source, rules: SampleRules, reading: Reading) -> list[TokenisedDocument]:
    """All documents of a source of tokens."""
    found = []
    for piece in list_pieces(source, reading):
        for document in read_piece(piece, reading=reading, rules=rules):
            assert isinstance(document, TokenisedDocument)
            found.append(document)
    return found


def write(
    folder: Path, samples: list[dict[str, Any]], columns: dict[str, str], **settings: Any
) -> Path:
    """A folder of these samples; returns it."""
    with MdsWriter(folder, columns, **settings) as writer:
        for sample in samples:
            writer.write(sample)
    return folder


def read(folder: Path) -> list[dict[str, Any]]:
    """All samples of a folder."""
    shards = [MdsShard(described) for described in read_index(folder)]
    return [shard.sample(number) for shard in shards for number in range(len(shard))]


def lay_out(folder: Path, content: bytes, **changes: Any) -> Path:
    """A folder with this shard, and an index that fits its size, but for `changes`."""
    folder.mkdir(exist_ok=True)
    index = json.loads(INDEX)
    shard = index["shards"][0]
    shard["raw_data"] |= {"bytes": len(content), "hashes": {}}
    shard |= changes
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "shard.00000.mds").write_bytes(content)
    return folder


def open_all(folder: Path) -> None:
    """Open a shard, and look at all that is in it."""
    shard = MdsShard(read_index(folder)[0])
    shard.array_places("input_ids")
    for number in range(len(shard)):
        shard.sample(number)
