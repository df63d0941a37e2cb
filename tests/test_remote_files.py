"""Text that lies elsewhere: the same documents as from a folder, and never fewer in silence."""

import gzip
import importlib.util
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pyarrow
import pytest
from pyarrow import parquet

from ettin.data.reading import remote_files
from ettin.data.reading.remote_files import SourceUnavailableError
from ettin.data.reading.sources import Document, Source, Tally, list_files, read_documents
from ettin.data.reading.tally import SourceFile
from ettin.errors import InputError
from tests.web_folder import WebFolder, web_folder

ROWS = 1500


def lines() -> bytes:
    """A megabyte of JSON lines that do not compress well."""
    made = ({"text": f"{n} {os.urandom(300).hex()}", "key": f"k{n}"} for n in range(ROWS))
    return b"".join(json.dumps(each).encode() + b"\n" for each in made)


def zstandard(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue().to_pybytes())


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every kind, in folders, with names that URLs must escape."""
    top = tmp_path_factory.mktemp("web") / "books"
    content = lines()
    texts = [json.loads(line)["text"] for line in content.splitlines()]
    table = pyarrow.table({"text": texts, "other": [os.urandom(3000) for _ in texts]})
    files = {
        "b.txt": b"plain",
        "a 100 % #1.md": "märchen".encode(),
        "empty.txt": b"",
        "z.txt": b"last of the files, before the folders",
        ".hidden.txt": b"no",
        "lines/a.jsonl": content,
        "lines/b.jsonl.gz": gzip.compress(content),
        "lines/c.jsonl.zst": zstandard(content),
        "lines/.git/config": b"no",
        "lines/.git/objects/a": b"no",
        "tables/b.csv": b"text,key\nc,1\n",
    }
    for name, each in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(each)
    parquet.write_table(table, top / "tables" / "a.parquet", row_group_size=500)
    return top


@pytest.fixture
def web(books: Path) -> Iterator[WebFolder]:
    with web_folder(books.parent) as serving:
        yield serving


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing between attempts."""
    monkeypatch.setattr(remote_files, "WAIT_SECONDS", (0.0, 0.0))


def read(place: Path | str) -> tuple[list[Document], Tally]:
    tally = Tally()
    return list(read_documents(Source("s", (place,)), tally=tally)), tally


def in_memory(folder: Path) -> str:
    store = fsspec.filesystem("memory")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        store.pipe(f"/{folder.name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"memory://{folder.name}"


@pytest.mark.parametrize("kind", ["web", "web pattern", "memory", "memory pattern", "file"])
def test_a_url_gives_the_documents_of_the_same_folder_here(
    books: Path, web: WebFolder, kind: str
) -> None:
    place = {
        "web": f"{web.url}/books/",
        "web pattern": f"{web.url}/books/**",
        "memory": in_memory(books),
        "memory pattern": f"{in_memory(books)}/**",
        "file": f"file://{books}",
    }[kind]
    expected, local = read(books)
    found, tally = read(place)
    assert found == expected
    assert len(found) == 4 * ROWS + 4
    assert tally.skipped == local.skipped == {"hidden": 2, "empty text": 1}
    assert (tally.bytes_read, tally.text_bytes) == (local.bytes_read, local.text_bytes)
    assert not tally.noted


def test_a_single_file_is_known_by_its_name(web: WebFolder, books: Path) -> None:
    assert read(f"{web.url}/books/a%20100%20%25%20%231.md")[0] == read(books / "a 100 % #1.md")[0]
    (file,) = list_files([Source("s", (f"{in_memory(books)}/lines/b.jsonl.gz",))])
    assert (file.relative, file.name) == ("b.jsonl.gz", "b.jsonl.gz")
    assert file.size == (books / "lines/b.jsonl.gz").stat().st_size


def test_files_elsewhere_travel_to_other_processes_and_seek(web: WebFolder, books: Path) -> None:
    (file,) = list_files([Source("s", (f"{web.url}/books/lines/a.jsonl",))])
    again: SourceFile = pickle.loads(pickle.dumps(file))
    assert again == file
    assert not again.is_local
    content = (books / "lines/a.jsonl").read_bytes()
    with again.open() as stream:
        stream.seek(-100, os.SEEK_END)
        assert stream.read() == content[-100:]
        stream.seek(500_000)
        assert stream.read(10) == content[500_000:500_010]
        assert stream.tell() == 500_010
    with pytest.raises(InputError, match="files of this machine only"):
        file.path  # noqa: B018


def test_a_parquet_file_elsewhere_is_read_in_part(web: WebFolder, books: Path) -> None:
    (file,) = list_files([Source("s", (f"{web.url}/books/tables/a.parquet",))])
    with file.open() as stream:
        assert parquet.ParquetFile(stream).metadata.num_rows == ROWS


def test_columns_that_are_not_asked_for_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    wide = pyarrow.table({"text": ["x"] * 30, "other": [os.urandom(1_000_000)] * 30})
    parquet.write_table(wide, path, use_dictionary=False, compression="none", row_group_size=10)
    with web_folder(tmp_path) as web:
        documents, tally = read(f"{web.url}/wide.parquet")
        assert [each.id for each in documents] == [f"wide.parquet:{row}" for row in range(30)]
        assert tally.bytes_read == path.stat().st_size > 30_000_000
        assert web.bytes_sent < 0.6 * path.stat().st_size


def test_a_long_text_comes_in_few_ranges(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"0123456789abcdef" * (17 << 16))
    with web_folder(tmp_path) as web:
        assert len(read(f"{web.url}/a.txt")[0][0].text) == 17 << 20
        assert [each.split()[-1] for each in web.requests if each.startswith("GET")] == [
            f"0-{(4 << 20) - 1}", f"{4 << 20}-{(17 << 20) - 1}",
        ]  # fmt: skip


def test_index_pages_are_read_once_and_hidden_files_not_at_all(web: WebFolder) -> None:
    list_files([Source("s", (f"{web.url}/books/",))])
    pages = sorted(each for each in web.requests if each.startswith("GET"))
    folders = ("", "lines/", "lines/.git/", "lines/.git/objects/", "tables/")
    assert pages == [f"GET /books/{folder}" for folder in folders]
    heads = [each for each in web.requests if each.startswith("HEAD")]
    assert len(heads) == len(set(heads)) == 9
    web.requests.clear()
    list_files([Source("s", (f"{web.url}/books/l*/*.gz",))])
    assert web.requests == ["GET /books/", "GET /books/lines/", "HEAD /books/lines/b.jsonl.gz"]


@pytest.mark.parametrize(
    "name", ["b.txt", "lines/a.jsonl", "lines/b.jsonl.gz", "lines/c.jsonl.zst", "tables/a.parquet"]
)
def test_a_connection_that_ends_in_a_file_is_mended_or_ends_the_command(
    web: WebFolder, books: Path, hasty: None, name: str
) -> None:
    expected = read(books / name)[0]
    web.faults.cut_at, web.faults.cuts = (books / name).stat().st_size // 2, 1
    assert read(f"{web.url}/books/{name}")[0] == expected
    assert web.faults.cuts == 0
    web.faults.cuts = 1 << 30
    with pytest.raises(
        SourceUnavailableError, match=r"bytes .* did not come in 3 attempts"
    ) as told:
        read(f"{web.url}/books/{name}")
    assert "the same command goes on" in str(told.value)
    assert told.value.exit_code == 1
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)


def test_a_range_that_comes_short_is_no_end_of_a_file(web: WebFolder, hasty: None) -> None:
    web.faults.short_by = 3
    with pytest.raises(SourceUnavailableError, match=r"attempts \(2 bytes came\)"):
        read(f"{web.url}/books/b.txt")


def test_headers_come_from_the_environment_and_ranges_are_not_compressed(
    web: WebFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.faults.authorization = "Bearer s3cr3t"
    with pytest.raises(InputError, match=r"no access .*401.*FSSPEC_HTTP="):
        read(f"{web.url}/books/b.txt")
    # What FSSPEC_HTTP='{"headers": {…}}' is read into when a command starts.
    headers = {"Authorization": "Bearer s3cr3t"}
    monkeypatch.setitem(fsspec.config.conf, "http", {"headers": headers})
    assert len(read(f"{web.url}/books/b.txt")[0]) == 1
    assert web.encodings == {"identity"}


def test_a_server_that_begins_to_fail_ends_the_command_and_no_file_is_skipped(
    web: WebFolder, hasty: None
) -> None:
    web.faults.status = lambda _, path: 503 if path.endswith("a.jsonl") else None
    for place in (f"{web.url}/books/", f"{web.url}/books/lines/a.jsonl"):
        with pytest.raises(SourceUnavailableError, match="503"):
            read(place)
    web.faults.status = lambda method, _: 503 if method == "GET" else None
    with pytest.raises(SourceUnavailableError, match="503"):
        read(f"{web.url}/books/")
    web.faults.status = lambda method, path: (
        404 if method == "GET" and path.endswith(".jsonl") else None
    )
    with pytest.raises(SourceUnavailableError, match="404"):
        read(f"{web.url}/books/lines/")


def test_a_file_that_changes_after_it_was_listed_is_not_read(tmp_path: Path, hasty: None) -> None:
    (tmp_path / "a.txt").write_text("first")
    with web_folder(tmp_path) as web:
        (file,) = list_files([Source("s", (f"{web.url}/a.txt",))])
        assert file.version.startswith("ETag ")
        (tmp_path / "a.txt").write_text("other")
        with pytest.raises(SourceUnavailableError, match="has changed since it was listed"):
            file.open()


def test_servers_that_do_not_say_enough_are_refused_or_noted(web: WebFolder, hasty: None) -> None:
    web.faults.without_version = True
    tally = Tally()
    documents = list(read_documents(Source("s", (f"{web.url}/books/b.txt",)), tally=tally))
    assert len(documents) == 1
    assert tally.noted == {"no version told by the store": 1}
    web.faults.without_length = True
    with pytest.raises(InputError, match="does not say how long it is"):
        read(f"{web.url}/books/b.txt")


def test_a_server_without_ranges_serves_small_files_alone(tmp_path: Path, hasty: None) -> None:
    (tmp_path / "small.txt").write_text("small")
    (tmp_path / "large.txt").write_bytes(b"x" * (5 << 20))
    with web_folder(tmp_path) as web:
        web.faults.without_ranges = True
        assert [each.text for each in read(f"{web.url}/small.txt")[0]] == ["small"]
        with pytest.raises(SourceUnavailableError, match="range requests"):
            read(f"{web.url}/large.txt")


def test_what_is_not_there_or_not_allowed_is_a_mistake_of_the_caller(web: WebFolder) -> None:
    with pytest.raises(InputError, match=r"books/none\.txt: there is nothing to read .*404"):
        read(f"{web.url}/books/none.txt")
    with pytest.raises(InputError, match="there is nothing to read"):
        read("memory://no/such/folder")
    with pytest.raises(InputError, match="no file matches"):
        read(f"{web.url}/books/*.html")
    web.faults.status = lambda _method, _path: 403
    with pytest.raises(InputError, match=r"no access .*403.*FSSPEC_HTTP="):
        read(f"{web.url}/books/b.txt")
    with pytest.raises(InputError, match="s4:// is unknown; did you mean 's3'"):
        read("s4://bucket/a.txt")
    with pytest.raises(SourceUnavailableError, match="Cannot connect to host"):
        read("http://127.0.0.1:1/a.txt")


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_filesystem_says_what_to_install(protocol: str, package: str) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(InputError, match=f"not installed: pip install {package}"):
        read(f"{protocol}://bucket/a.txt")


def test_signed_addresses_that_a_server_sends_on_to_are_not_repeated(web: WebFolder) -> None:
    with web_folder(web.folder / "nowhere") as other:
        web.faults.redirect = f"{other.url}/b.txt?X-Amz-Signature=s3cr3t"
        with pytest.raises(InputError) as told:
            read(f"{web.url}/books/b.txt")
        assert "b.txt" in str(told.value)
        assert "s3cr3t" not in str(told.value)
