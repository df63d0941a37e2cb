"""Everything that can be wrong with an MDS folder: pickles, damage, counts, names, bombs."""

import json
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ettin.data.mds.index import DamagedShard, read_index
from ettin.data.mds.shards import MdsShard
from ettin.errors import InputError
from tests.mds_folders import (
    COLUMNS,
    CONFIGURATION,
    HEADER,
    INDEX,
    SHARD,
    lay_out,
    open_all,
    read,
    write,
)


class Canary:
    """Leaves a file behind when its pickle is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickles_are_refused_by_name_and_never_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    song = pickle.dumps(Canary(canary))
    folder = write(tmp_path / "mds", [{"id": "a", "x": song}], {"id": "str", "x": "bytes"})
    for name in ("index.json", "shard.00000.mds"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content.replace(b'["str", "bytes"]', b'["str", "pkl"]  '))
    with pytest.raises(InputError, match=r"column 'x' holds pickles.*any code"):
        open_all(folder)
    with pytest.raises(InputError, match="column 'x' holds pickles"):
        write(tmp_path / "out", [], {"x": "pkl"})
    assert not canary.exists()
    pickle.loads(song)  # it sings when it is let
    assert canary.exists()


@pytest.mark.parametrize("encoding", ["jpeg", "list[png]", "ndarray:complex64", "ndarray:uint8:x"])
def test_what_is_not_plain_data_is_refused_with_its_column(tmp_path: Path, encoding: str) -> None:
    folder = lay_out(tmp_path / "mds", SHARD, column_encodings=["str", encoding])
    with pytest.raises(InputError, match=r"column 'input_ids' has the encoding"):
        open_all(folder)


def test_truncation_anywhere_is_found_even_where_the_index_agrees(tmp_path: Path) -> None:
    open_all(lay_out(tmp_path / "mds", SHARD))
    for length in range(len(SHARD)):
        lay_out(tmp_path / "mds", SHARD[:length])
        with pytest.raises(DamagedShard, match=r"shard\.00000\.mds"):
            open_all(tmp_path / "mds")
        (tmp_path / "mds/index.json").write_text(INDEX)
        with pytest.raises(DamagedShard, match="the index says 266"):
            open_all(tmp_path / "mds")


def test_every_changed_byte_of_offsets_columns_and_sizes_is_found(tmp_path: Path) -> None:
    body = len(HEADER) // 2 + len(CONFIGURATION)
    samples = (body, body + 23)
    heads = [at for each in samples for at in range(each, each + 8)]
    arrays_begin = [body + 8 + 1, body + 9 + 1, body + 23 + 8 + 2, body + 23 + 8 + 3]
    for at in [*range(len(HEADER) // 2), *heads, *arrays_begin]:
        for flip in (1, 128):
            content = bytearray(SHARD)
            content[at] ^= flip
            lay_out(tmp_path / "mds", bytes(content))
            with pytest.raises(DamagedShard):
                open_all(tmp_path / "mds")
    content = bytearray(SHARD.replace(b'"id", "input_ids"', b'"input_ids", "id"'))
    with pytest.raises(DamagedShard, match="its own columns"):
        open_all(lay_out(tmp_path / "mds", bytes(content)))


def test_a_dimension_that_overflows_is_found(tmp_path: Path) -> None:
    """2⁶² + 1 values of 4 bytes take 4 bytes, modulo 2⁶⁴."""
    array = struct.pack("<BQI", 1 << 2 | 3, (1 << 62) + 1, 7)
    sample = struct.pack("<II", 1, len(array)) + b"a" + array
    begin = 12 + len(CONFIGURATION)
    head = struct.pack("<III", 1, begin, begin + len(sample))
    lay_out(tmp_path / "mds", head + CONFIGURATION.encode() + sample, samples=1)
    shard = MdsShard(read_index(tmp_path / "mds")[0])
    with pytest.raises(DamagedShard, match="sample 0: input_ids is no array"):
        shard.array_places("input_ids")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"samples": 3}, "too few|says that it holds 2"),
        ({"samples": 1}, "says that it holds 2 samples, the index says 1"),
        ({"samples": True}, "samples is True"),
        ({"samples": -1}, "not negative"),
        ({"column_names": ["id"]}, "do not fit together"),
        ({"column_names": ["id", "id"]}, "do not fit together"),
        ({"column_sizes": [None, 4]}, "takes 4 bytes, expected None"),
        ({"format": "json"}, "only .'mds', 2. is read"),
        ({"raw_data": None}, "raw_data is None"),
        ({"zip_data": {"basename": "a", "bytes": 1}, "compression": "lzma"}, "'lzma'; read are"),
        ({"raw_data": {"basename": "shard.00000.mds", "bytes": 266, "hashes": {"sha1": "00"}}},
         "its sha1 is .*, the index says 00"),
        ({"raw_data": {"basename": "shard.00000.mds", "bytes": 266, "hashes": {"crc": "00"}}},
         "'crc' that cannot be computed"),
    ],
)  # fmt: skip
def test_an_index_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        open_all(lay_out(tmp_path / "mds", SHARD, **changes))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 1}', '{"version": 2}', "[" * 9999])
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(InputError, match=r"index\.json"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    "name", ["../shard.mds", "/etc/passwd", "a/../../b", "", ".", "..\\b", "C:b", "a\0b"]
)
@pytest.mark.parametrize("key", ["raw_data", "zip_data"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str, key: str) -> None:
    changes = {key: {"basename": name, "bytes": 5, "hashes": {}}, "compression": "zstd"}
    with pytest.raises(InputError, match="leads out of"):
        read_index(lay_out(tmp_path / "mds", SHARD, **changes))


def test_a_compressed_shard_is_never_unpacked_beyond_the_stated_size(tmp_path: Path) -> None:
    rows = [{"id": "a", "input_ids": np.zeros(10**7, np.uint32)}]
    folder = write(tmp_path / "mds", rows, COLUMNS, compression="zstd", hashes=("sha1",))
    assert read(folder)[0]["input_ids"].shape == (10**7,)
    index = json.loads((folder / "index.json").read_text())
    for size, expected in ((10**6, "more bytes"), (5 * 10**7, "4000")):
        index["shards"][0]["raw_data"]["bytes"] = size
        (folder / "index.json").write_text(json.dumps(index))
        tracemalloc.start()
        with pytest.raises(DamagedShard, match=f"{expected}.*the index says {size}"):
            read(folder)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert size / 2 < peak < size + 2 * 10**6
