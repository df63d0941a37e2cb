"""Reading documents: every format, and everything that can be wrong with a file."""

import gzip
import json
import os
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from ettin.data.reading.sources import (
    Document,
    OnError,
    Source,
    Tally,
    list_files,
    named_sources,
    read_documents,
)
from ettin.errors import InputError
from ettin.mixtures import published


def read(
    path: Path,
    *,
    on_error: OnError = "skip",
    text_column: str = "text",
    id_column: str | None = None,
) -> tuple[list[Document], Tally]:
    tally = Tally()
    source = Source("s", (path,))
    documents = read_documents(
        source, tally=tally, on_error=on_error, text_column=text_column, id_column=id_column
    )
    return list(documents), tally


def compressed(content: bytes, how: str) -> bytes:
    if how == "zst":
        sink = pyarrow.BufferOutputStream()
        with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(content)
        return bytes(sink.getvalue().to_pybytes())
    return gzip.compress(content) if how == "gz" else content


ROWS = [("a", "first\ntext"), ("b", 'second "text", é'), ("c", "third")]


def table(kind: str) -> bytes:
    if kind == "jsonl":
        return b"".join(json.dumps({"id": i, "text": t}).encode() + b"\n" for i, t in ROWS)
    if kind == "csv":
        cell = ['"' + t.replace('"', '""') + '"' for _, t in ROWS]
        return (
            "id,text\r\n" + "".join(f"{i},{t}\r\n" for (i, _), t in zip(ROWS, cell, strict=True))
        ).encode()
    if kind == "tsv":
        return (
            "id\ttext\n" + "".join(f"{i}\t{t}\n" for i, t in ROWS).replace("\nt", " t")
        ).encode()
    sink = pyarrow.BufferOutputStream()
    columns = {"id": [i for i, _ in ROWS], "text": [t for _, t in ROWS], "n": [1, 2, 3]}
    parquet.write_table(pyarrow.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize("how", ["", "gz", "zst"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_tables_are_read_in_every_format_and_compression(
    tmp_path: Path, kind: str, how: str
) -> None:
    path = tmp_path / f"t.{kind}{'.' if how else ''}{how}"
    path.write_bytes(compressed(table(kind), how))
    documents, tally = read(path, id_column="id")
    expected = [t.replace("\n", " ") if kind == "tsv" else t for _, t in ROWS]
    assert [(each.id, each.text) for each in documents] == list(zip("abc", expected, strict=True))
    assert tally.documents == 3
    assert tally.text_bytes == sum(len(text.encode()) for text in expected)
    assert tally.bytes_read == path.stat().st_size
    assert not tally.skipped
    assert not tally.noted
    places = [each.id for each in read(path)[0]]
    rows = {"jsonl": "123", "csv": "245", "tsv": "234", "parquet": "012"}[kind]
    assert places == [f"{path.name}:{row}" for row in rows]


@pytest.mark.parametrize("how", ["", "gz", "zst"])
def test_plain_text_comes_byte_for_byte_but_for_its_byte_order_mark(
    tmp_path: Path, how: str
) -> None:
    text = "line\r\nline\rline\n\x0b tab\té\ufeff\n"
    path = tmp_path / f"a.md{'.' if how else ''}{how}"
    path.write_bytes(compressed(b"\xef\xbb\xbf" + text.encode(), how))
    assert read(path)[0] == [Document(path.name, text, path.name)]


def test_folders_are_read_in_order_with_ids_relative_to_them(tmp_path: Path) -> None:
    for name in ("b.txt", "a.py", "sub/c.md", ".hidden", ".git/config", "tests/t.py", "x.pyc"):
        path = tmp_path / "one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\1" if name == "x.pyc" else name.encode())
    (tmp_path / "two").mkdir()
    (tmp_path / "two/b.txt").write_text("other b")
    (tmp_path / "one/loop").symlink_to(tmp_path / "one")
    os.mkfifo(tmp_path / "one/pipe")
    source = Source("s", (tmp_path / "one", tmp_path / "two", tmp_path / "one/a.py"), ("test*",))
    tally = Tally()
    found = [(each.id, each.text) for each in read_documents(source, tally=tally)]
    assert found == [
        ("a.py", "a.py"), ("b.txt", "b.txt"), ("sub/c.md", "sub/c.md"),
        ("b.txt#2", "other b"), ("a.py#2", "a.py"),
    ]  # fmt: skip
    assert tally.skipped == {
        "hidden": 2, "excluded": 1, "link to a folder": 1, "not a regular file": 1,
        "binary file": 1,
    }  # fmt: skip
    files = list_files([source])
    assert [each.relative for each in files] == [
        "a.py",
        "b.txt",
        "x.pyc",
        "sub/c.md",
        "b.txt#2",
        "a.py#2",
    ]
    assert tally.bytes_read == sum(each.size for each in files)


def test_broken_lines_are_counted_with_their_places(tmp_path: Path) -> None:
    good = '{"text": "good"}'
    bad = [
        '{"text": "open',
        "[1]",
        '{"other": 1}',
        '{"text": null}',
        "",
        '{"text": " "}',
        '{"text": 3}',
    ]
    lines = [good, *bad, '{"text": "half \\ud800"}', good]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    documents, tally = read(tmp_path)
    assert [each.text for each in documents] == ["good", "half \ufffd", "good"]
    assert [each.origin for each in documents] == ["a.jsonl:1", "a.jsonl:9", "a.jsonl:10"]
    assert tally.skipped == {
        "broken JSON line": 1, "JSON line without keys": 1, "no text column": 1, "null text": 1,
        "blank line": 1, "empty text": 1, "text is not a string": 1,
    }  # fmt: skip
    assert tally.noted == {"halves of surrogate pairs": 1}
    assert tally.examples["broken JSON line"][0].startswith("a.jsonl:2 ")
    assert tally.examples["null text"] == ["a.jsonl:5"]
    assert "blank line: 1 (a.jsonl:6)" in tally.describe()
    with pytest.raises(InputError, match=r"a\.jsonl:2: broken JSON line"):
        read(tmp_path, on_error="fail")


def test_emptiness_is_no_error_even_when_errors_fail(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n\t")
    (tmp_path / "b.jsonl").write_text('{"text": null}\n\n{"text": "x"}\n')
    (tmp_path / "c.csv").write_text("")
    documents, tally = read(tmp_path, on_error="fail")
    assert [each.text for each in documents] == ["x"]
    assert tally.skipped == {"empty text": 2, "null text": 1, "blank line": 1}


def test_broken_csv_records_are_counted_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,one\n2\n3,"a"b\n4,four\n5,"open')
    documents, tally = read(path)
    assert [each.text for each in documents] == ["one", "four"]
    assert tally.skipped == {"no text column": 1, "broken csv record": 2}


def test_a_csv_field_may_be_longer_than_the_modules_own_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    assert len(read(path)[0][0].text) == 200_000


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_without_the_column_names_its_columns(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    path.write_bytes(table(kind))
    with pytest.raises(InputError, match=r"'body'; it has: id, text.*--text-column"):
        read(path, text_column="body")
    with pytest.raises(InputError, match=r"'key'; it has: id, text.*--id-column"):
        read(path, id_column="key")


def test_invalid_bytes_are_replaced_and_counted_and_foreign_encodings_skipped(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 and \xff\xfe more text, long enough to be text")
    (tmp_path / "b.txt").write_bytes("жизнь".encode("cp1251") * 50)
    (tmp_path / "c.txt").write_bytes("utf-16".encode("utf-16"))
    documents, tally = read(tmp_path)
    assert [each.text for each in documents] == [
        "caf\ufffd and \ufffd\ufffd more text, long enough to be text"
    ]
    assert tally.noted == {"invalid UTF-8 bytes": 3}
    assert tally.skipped == {"not UTF-8 text": 1, "binary file": 1}
    with pytest.raises(InputError, match=r"a\.txt: invalid UTF-8 bytes"):
        read(tmp_path, on_error="fail")


def test_a_character_cut_by_the_end_of_the_examined_beginning_is_valid(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 8191 + "é")
    documents, tally = read(tmp_path)
    assert len(documents[0].text) == 8192
    assert not tally.noted


@pytest.mark.parametrize("how", ["gz", "zst"])
def test_records_before_damage_are_kept_and_damaged_texts_are_not(tmp_path: Path, how: str) -> None:
    lines = b"".join(
        b'{"text": "%d %s"}\n' % (n, os.urandom(60).hex().encode()) for n in range(9000)
    )
    whole = compressed(lines, how)
    (tmp_path / f"a.jsonl.{how}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / f"b.txt.{how}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / f"c.txt.{how}").write_bytes(b"not compressed at all")
    documents, tally = read(tmp_path)
    assert 3000 < len(documents) < 6000
    assert [int(each.text.split()[0]) for each in documents] == list(range(len(documents)))
    assert tally.skipped == {f"damaged {how} compression": 3}


def test_damaged_and_odd_parquet_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(table("parquet")[:-20])
    parquet.write_table(pyarrow.table({"text": [1, 2]}), tmp_path / "b.parquet")
    parquet.write_table(pyarrow.table({"text": [None, "x"]}), tmp_path / "c.parquet")
    documents, tally = read(tmp_path)
    assert [each.id for each in documents] == ["c.parquet:1"]
    assert tally.skipped == {"damaged parquet": 1, "text is not a string": 2, "null text": 1}


def test_duplicate_and_missing_ids_are_mended_and_counted(tmp_path: Path) -> None:
    ids = ["x", "x#2", "x", "y", "x", None]
    lines = [json.dumps({"key": name, "text": "t"}) for name in ids]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    documents, tally = read(tmp_path, id_column="key")
    names = [each.id for each in documents]
    assert names == ["x", "x#2", "x#3", "y", "x#4", "a.jsonl:6"]
    assert tally.noted == {"duplicate ids, made unique": 2, "no id (the place stands for it)": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("secret")
    (tmp_path / "a.txt").chmod(0)
    assert read(tmp_path)[1].skipped == {"unreadable file": 1}


def test_a_broken_link_is_counted_and_a_missing_path_refused(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "nowhere")
    assert read(tmp_path)[1].skipped == {"unreadable file": 1}
    with pytest.raises(InputError, match="neither a file nor a folder"):
        read(tmp_path / "absent")


def test_sources_of_a_mixture_are_its_folders_and_keep_what_to_leave_out(tmp_path: Path) -> None:
    for phase in ("extension", "decay"):
        for source in published(phase).sources:
            (tmp_path / source.name).mkdir(exist_ok=True)
    sources = named_sources([tmp_path], [], mixture="decay", exclude=("a*",))
    assert [each.name for each in sources] == list(published("decay").weights())
    assert sources[2] == Source("books", (tmp_path / "books",), exclude=("a*",))
    both = named_sources([tmp_path], [], mixture="extension, cross")
    assert {each.name for each in both} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("text", "named"), [([], []), (["a", "b"], []), ([], ["a=b"]), (["a"], ["b=c"])]
)
def test_a_mixture_takes_one_root_and_no_named_sources(text: list[str], named: list[str]) -> None:
    paths = [Path(each) for each in text]
    given = f"given: {len(text)} --text and {len(named)} --source"
    with pytest.raises(InputError, match=f"--mixture takes one --text ROOT.*{given}"):
        named_sources(paths, named, mixture="decay")


@pytest.mark.parametrize("place", ["shard.00000.mds", "split_3/shard.00000.mds.zstd"])
def test_published_shards_are_not_taken_for_text(tmp_path: Path, place: str) -> None:
    for source in published("decay").sources:
        (tmp_path / source.name).mkdir()
    path = tmp_path / "books" / place
    path.parent.mkdir(exist_ok=True)
    path.with_name("index.json").write_text('{"version": 2}')
    named_sources([tmp_path], [], mixture="decay")
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"books holds MDS shards.*the text of books"):
        named_sources([tmp_path], [], mixture="decay")
