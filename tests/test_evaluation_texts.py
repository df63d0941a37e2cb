"""Reading evaluation sets: every format, what is left out, and damage that ends the reading."""

import gzip
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from ettin.data.clean.evaluation_texts import list_evaluation_files, read_evaluation_file
from ettin.errors import InputError

RECORDS = [
    {"id": "q1", "question": 'Who said "never"?', "choices": {"text": ["raven", "é"], "n": [1, 2]}},
    {"id": "q2", "question": "two\nlines", "choices": {"text": [], "n": []}},
]
TEXTS = [["q1", 'Who said "never"?', "raven", "é"], ["q2", "two\nlines"]]


def read(*paths: Path) -> list[tuple[str, str, list[str]]]:
    return [
        (file.set, record.place, record.texts)
        for file in list_evaluation_files(list(paths))
        for record in read_evaluation_file(file)
    ]


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        content = gzip.compress(content)
    if path.suffix == ".zst":
        content = pyarrow.compress(content, codec="zstd", asbytes=True)
    path.write_bytes(content)
    return path


def as_lines(records: list[object]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in records)


def as_parquet() -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(RECORDS), sink)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("t.jsonl", as_lines(list(RECORDS)), [1, 2]),
        ("t.ndjson", b"\xef\xbb\xbf" + as_lines(list(RECORDS)).replace(b"\n", b"\n\n"), [1, 3]),
        ("t.json", json.dumps(RECORDS).encode(), [0, 1]),
        ("t.parquet", as_parquet(), [0, 1]),
    ],
)
def test_all_strings_of_all_records_are_read(
    name: str, content: bytes, rows: list[int], packed: str, tmp_path: Path
) -> None:
    written(tmp_path / "arc" / f"{name}{packed}", content)
    assert read(tmp_path / "arc") == [
        ("arc", f"{name}{packed}:{row}", texts) for row, texts in zip(rows, TEXTS, strict=True)
    ]


def test_tables_and_plain_text_are_read_without_knowing_their_columns(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", b'question,label\r\n"two\nlines, ""q""",1\r\nlast,0\r\n')
    written(tmp_path / "b.tsv.gz", b'question\tlabel\nsaid "never\t1\n')
    written(tmp_path / "c.txt", b"\xef\xbb\xbfall\n\nof it")
    written(tmp_path / "d.json", b'{"data": [{"text": "deep"}]}')
    name = tmp_path.name
    assert read(tmp_path) == [
        (name, "a.csv:1", ["question", "label"]),
        (name, "a.csv:2", ['two\nlines, "q"', "1"]),
        (name, "a.csv:4", ["last", "0"]),
        (name, "b.tsv.gz:1", ["question", "label"]),
        (name, "b.tsv.gz:2", ['said "never', "1"]),
        (name, "c.txt", ["all\n\nof it"]),
        (name, "d.json", ["deep"]),
    ]


def test_sets_are_folders_and_files_that_describe_them_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("arc/test.jsonl", "arc/train.jsonl", "scifact/corpus.jsonl", "scifact/q/a.jsonl"):
        written(tmp_path / "sets" / name, as_lines([name]))
    for name in ("README.md", "arc/LICENSE.txt", "arc/dataset_info.json", "arc/x.png", ".h.jsonl"):
        written(tmp_path / "sets" / name, b"{}")
    with caplog.at_level("INFO"):
        found = read(tmp_path / "sets")
    assert [(name, texts[0]) for name, _, texts in found] == [
        ("sets/arc", "arc/test.jsonl"),
        ("sets/arc", "arc/train.jsonl"),
        ("sets/scifact", "scifact/corpus.jsonl"),
        ("sets/scifact/q", "scifact/q/a.jsonl"),
    ]
    assert "4 files are no evaluation data: README.md" in caplog.text
    assert read(tmp_path / "sets" / "README.md") == [("README.md", "README.md", ["{}"])]


def test_paths_that_overlap_are_read_once_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    for side in ("a", "b"):
        written(tmp_path / side / "test" / "t.jsonl", as_lines([side]))
    paths = [tmp_path / "a" / "test", tmp_path / "b" / "test", tmp_path / "b"]
    assert read(*paths) == [("test", "t.jsonl:1", ["a"]), ("test#2", "t.jsonl:1", ["b"])]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"a": "b"}\n{"a": \n', r"a.jsonl .* line 2: "),
        ("a.json", b"[1, 2", "a.json cannot be read"),
        ("a.csv", b'a,b\n"c" d,e\n', "a.csv cannot be read"),
        ("a.txt", b"caf\xe9", "utf-8"),
        ("a.parquet", b"PAR1 and nothing", "a.parquet cannot be read"),
        ("a.jsonl.gz", None, "a.jsonl.gz cannot be read"),
        ("a.jsonl.zst", None, "a.jsonl.zst cannot be read"),
    ],
)
def test_damage_ends_the_reading(
    name: str, content: bytes | None, said: str, tmp_path: Path
) -> None:
    path = written(tmp_path / name, content or as_lines(list(RECORDS)))
    if content is None:
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=said):
        read(tmp_path)


def test_paths_without_evaluation_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    written(tmp_path / "code" / "a.py", b"print()")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no evaluation data among its 0 files"):
        read(tmp_path / "empty")
    with pytest.raises(InputError, match=r"among its 1 files; expected .*\.jsonl"):
        read(tmp_path / "code")
