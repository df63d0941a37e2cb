"""The layout of MDS shards both ways, and what the writer refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ettin.data.corpus import Corpus
from ettin.data.mds.export import write_mds
from ettin.data.mds.index import DamagedShard, read_index
from ettin.data.mds.shards import MdsShard
from ettin.errors import InputError
from ettin.files import read_manifest, verify
from tests.mds_folders import COLUMNS, INDEX, SAMPLES, SHARD, read, write


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    return type(one) is type(other) and one == other


def test_the_layout_is_that_of_the_original_writer_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path / "mds", SAMPLES, COLUMNS, hashes=("xxh64",))
    assert (tmp_path / "mds/shard.00000.mds").read_bytes() == SHARD
    assert (tmp_path / "mds/index.json").read_text() == INDEX
    assert sorted(path.name for path in (tmp_path / "mds").iterdir()) == [
        "index.json", "shard.00000.mds"
    ]  # fmt: skip


def test_what_the_original_writer_wrote_reads_back(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(INDEX)
    (tmp_path / "shard.00000.mds").write_bytes(SHARD)
    found = read(tmp_path)
    assert all(
        same(a[key], b[key])
        for a, b in zip(found, SAMPLES, strict=True)
        for key in ("id", *COLUMNS)
    )
    shard = MdsShard(read_index(tmp_path)[0])
    places = shard.array_places("input_ids")
    assert shard.arrays(places, 0, 2).tolist() == [1, 2, 70000, 5]
    assert places.length.tolist() == [3, 1]
    assert shard.contents("id", 1, 2) == ["é".encode()]


@pytest.mark.parametrize("compression", [None, "zstd:7"])
@pytest.mark.parametrize("shard_bytes", [1, 2000, 1 << 26])
def test_files_equal_those_of_the_original_package_where_it_is_installed(
    tmp_path: Path, compression: str | None, shard_bytes: int
) -> None:
    streaming = pytest.importorskip("streaming")
    draw = np.random.default_rng(0)
    columns = {"id": "str", "a": "ndarray", "b": "ndarray:uint16", "n": "int", "h": "uint16",
               "j": "json", "f": "float32", "r": "bytes", "x": "ndarray:int64:2,3"}  # fmt: skip
    rows: list[dict[str, Any]] = [
        {
            "id": f"é{n}", "a": draw.integers(0, 99, 2 * n).astype(kind),
            "b": np.arange(n, dtype=np.uint16), "n": -n, "h": n % 999, "j": {"n": [n]}, "f": n / 3,
            "r": b"\0" * n, "x": np.full((2, 3), n, np.int64),
        }
        for n, kind in ((1, "u1"), (255, "i8"), (256, "u2"), (70_000, "u4"))
    ]  # fmt: skip
    hashes = ["sha1", "xxh64"]
    with streaming.MDSWriter(
        out=str(tmp_path / "theirs"), columns=columns, compression=compression,
        size_limit=shard_bytes, hashes=hashes,
    ) as writer:  # fmt: skip
        for row in rows:
            writer.write(row)
    ours = write(tmp_path / "ours", rows, columns, compression=compression,
                 shard_bytes=shard_bytes, hashes=tuple(hashes))  # fmt: skip
    found = [
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (tmp_path / "theirs", ours)
    ]
    if compression is None:
        assert found[0] == found[1]
    for one, row in zip(read(tmp_path / "theirs"), rows, strict=True):
        assert abs(one.pop("f") - row["f"]) < 1e-3
        assert all(same(one[key], row[key]) for key in one)


VALUE_TYPES = st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64"])
ANY_ARRAY = VALUE_TYPES.flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(max_dims=3, max_side=5))
)
TOKENS = arrays.arrays(np.uint32, st.integers(1, 300))
ROW = st.fixed_dictionaries({
    "any": ANY_ARRAY,
    "bytes": st.binary(max_size=20),
    "fixed": arrays.arrays(np.uint16, 7),
    "id": st.text(max_size=20),
    "int": st.integers(-(1 << 63), (1 << 63) - 1),
    "json": st.dictionaries(st.text(max_size=4), st.integers()),
    "number": st.integers(0, 65535),
    "str_int": st.integers(),
    "tokens": TOKENS,
})  # fmt: skip
ENCODINGS = {"any": "ndarray", "bytes": "bytes", "fixed": "ndarray:uint16:7", "id": "str",
             "int": "int", "json": "json", "number": "uint16", "str_int": "str_int",
             "tokens": "ndarray:uint32"}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(ROW, min_size=1, max_size=8),
    st.sets(st.sampled_from(sorted(ENCODINGS)), min_size=1),
    st.sampled_from([None, "zstd"]),
    st.integers(1, 5000),
)
def test_any_samples_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    names: set[str],
    compression: str | None,
    shard_bytes: int,
) -> None:
    columns = {name: ENCODINGS[name] for name in names}
    folder = write(tmp_path_factory.mktemp("mds"), rows, columns,
                   compression=compression, shard_bytes=shard_bytes, hashes=("md5",))  # fmt: skip
    found = read(folder)
    assert len(found) == len(rows)
    for one, row in zip(found, rows, strict=True):
        assert one.keys() == names
        assert all(same(one[name], row[name]) for name in names)
    for column in names & {"tokens", "fixed"}:
        shards = [MdsShard(each) for each in read_index(folder)]
        values = [each.arrays(each.array_places(column), 0, len(each)) for each in shards]
        assert np.concatenate(values).tolist() == np.concatenate(
            [row[column] for row in rows]
        ).tolist()  # fmt: skip


def test_the_raw_form_is_read_where_both_are_there(tmp_path: Path) -> None:
    folder = write(tmp_path / "mds", SAMPLES, COLUMNS, compression="zstd")
    write(tmp_path / "raw", SAMPLES, COLUMNS, compression=None)
    [described] = read_index(folder)
    [raw] = read_index(tmp_path / "raw")
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0] |= {"raw_data": {"basename": raw.name, "bytes": raw.raw.bytes}}
    (folder / "index.json").write_text(json.dumps(index))
    assert described.packed is not None
    described.packed.path.write_bytes(b"")
    with pytest.raises(DamagedShard, match="zstd: 0 bytes"):
        read(folder)
    described.raw.path.write_bytes(raw.raw.path.read_bytes())
    assert [row["id"] for row in read(folder)] == ["a", "é"]


@pytest.mark.parametrize(
    ("encoding", "value"),
    [("str", 3), ("int", 1.5), ("int", 1 << 63), ("uint16", -1), ("ndarray:uint16", np.zeros(2)),
     ("ndarray", np.zeros(0, np.uint8)), ("ndarray:uint8:3", np.zeros(2, np.uint8)),
     ("json", {1, 2}), ("bytes", "a"), ("ndarray", np.uint8(1))],
)  # fmt: skip
def test_values_that_a_column_cannot_hold_are_refused(
    tmp_path: Path, encoding: str, value: Any
) -> None:
    with pytest.raises(InputError, match=r"column 'x' of .* cannot hold"):
        write(tmp_path / "mds", [{"x": value}], {"x": encoding})
    assert not (tmp_path / "mds/index.json").exists()


def test_settings_of_the_writer_are_checked(tmp_path: Path) -> None:
    for settings_, expected in (
        ({"compression": "lz4"}, "expected zstd"),
        ({"compression": "zstd:99"}, "from 1 to 22"),
        ({"hashes": ("sha1", "md5")}, "sorted"),
        ({"shard_bytes": 1 << 32}, "offsets end"),
    ):
        with pytest.raises(InputError, match=expected):
            write(tmp_path / "mds", SAMPLES, COLUMNS, **settings_)
    write(tmp_path / "mds", SAMPLES, COLUMNS)
    with pytest.raises(InputError):
        write(tmp_path / "mds", SAMPLES, COLUMNS)


@pytest.mark.parametrize("context_length", [None, 64])
def test_a_corpus_is_written_whole_or_by_chunks(
    corpus_directory: Path, tmp_path: Path, context_length: int | None
) -> None:
    corpus = Corpus.open(corpus_directory)
    manifest = write_mds(corpus, tmp_path / "mds", context_length=context_length)
    assert verify(tmp_path / "mds") == []
    assert read_manifest(tmp_path / "mds", "mds") == manifest
    bos, eos = corpus.special.bos, corpus.special.eos
    for source in corpus.source_names:
        documents, found = corpus.documents(source), dict[str, list[int]]()
        for split in ("train", "validation"):
            rows = read(tmp_path / "mds" / split / source)
            assert len(rows) == manifest["facts"][split][source]["samples"]
            for row in rows:
                ids = row["input_ids"].tolist()
                name, _, first = row["id"].partition("@")
                assert ids[0] == bos
                assert context_length is None or len(ids) <= context_length
                so_far = found.setdefault(name, [])
                assert int(first or 0) == len(so_far)
                so_far += ids[1:]
        for number in range(len(documents)):
            assert found.pop(documents.id(number)) == [*documents.tokens(number).tolist(), eos]
        assert not found
    merged = read_index(tmp_path / "mds/train")
    assert [each.name for each in merged] == [
        f"{source}/shard.00000.mds" for source in corpus.source_names
    ]
    assert sum(each.samples for each in merged) > 0
