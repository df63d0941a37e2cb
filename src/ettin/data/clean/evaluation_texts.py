"""Evaluation sets as texts: every record of every file, whatever its columns are called.

    for file in list_evaluation_files([Path("lm_eval"), Path("retrieval/scifact")]):
        for record in read_evaluation_file(file):
            print(file.set, record.place, record.texts)
            # lm_eval/arc_easy  arc_easy/test.jsonl.gz:1  ["Mercury_7175875", "Which factor …", …]

Read are `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet` and `.txt`, plain or compressed
(gz, zst). A record is a line, a row, an element of a JSON list, or a whole file of any other JSON
or of text; its texts are all strings in it, however deep in lists and tables. In a folder, files
that describe it (README, licences, `dataset_info.json`) and files with other endings are left out,
since a licence that stands in a text does not make it evaluation data; a file that is named itself
is always read.

A set is a folder that holds files; its name is the last part of the path that was given and the
folders below it. Unlike training text, evaluation data must be whole: damage ends
the reading, because text would otherwise be called clean of what nobody looked for.
"""

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from ettin.console import log
from ettin.data.reading.local_listing import top_of
from ettin.data.reading.sources import Source, list_files
from ettin.data.reading.tally import Reading, Tally
from ettin.errors import InputError

_TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_ENDINGS = (*_TABLES, ".txt")
_DESCRIBE = ("readme*", "licen[cs]e*", "copying*", "notice*", "citation*", "changelog*",
             "dataset_info*.json", "dataset_dict.json", "state.json")  # fmt: skip
_ENDLESS = (1 << 31) - 1
_PARQUET_ROWS = 256
_DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    RecursionError,
    NotImplementedError,
    csv.Error,
)


class EvaluationFile(NamedTuple):
    """A file of an evaluation set.

    Attributes:
        set: the name of its set.
        path: where it is.
        relative: its path below the one that was given.
    """

    set: str
    path: Path
    relative: str


class EvaluationRecord(NamedTuple):
    """The texts of one record.

    Attributes:
        file: where it stands.
        row: its line (from 1) or row (from 0); None where it is the whole file.
        texts: all strings in it.
    """

    file: EvaluationFile
    row: int | None
    texts: list[str]

    @property
    def place(self) -> str:
        """The file and, where it holds several records, the row."""
        return self.file.relative if self.row is None else f"{self.file.relative}:{self.row}"


def list_evaluation_files(paths: list[Path]) -> list[EvaluationFile]:
    """The files of evaluation sets, each once, in the order of the paths and sorted below them.

    Raises:
        InputError: a path is not there, or holds nothing that can be read.
    """
    files: dict[Path, EvaluationFile] = {}
    tops: Counter[str] = Counter()
    for path in paths:
        tally = Tally()
        found = list_files(
            [Source("evaluation", (path,))], reading=Reading("", None, "skip", tally)
        )
        if unread := [reason for reason in tally.skipped if reason.startswith("unreadable")]:
            raise InputError(f"{path} cannot be read whole: {', '.join(unread)}")
        top = top_of(path)[0]  # of a pattern, the folder before the wildcards
        wanted = [each for each in found if top.is_file() or _is_data(each.relative)]
        left_out = [each.relative for each in found if each not in wanted]
        if not wanted:
            endings = ", ".join(_ENDINGS)
            raise InputError(
                f"{path} holds no evaluation data among its {len(found)} files; expected files "
                f"that end in {endings}, plain or with .gz or .zst"
            )
        if left_out:
            names = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
            log.info("%s: %d files are no evaluation data: %s", path, len(left_out), names)
        name = top.resolve().name
        tops[name] += 1
        name = name if tops[name] == 1 else f"{name}#{tops[name]}"
        for each in wanted:
            folder = name if top.is_file() else _folder(name, each.relative)
            file = EvaluationFile(folder, each.path, each.relative)
            files.setdefault(each.path.resolve(), file)
    return list(files.values())


def read_evaluation_file(file: EvaluationFile) -> Iterator[EvaluationRecord]:
    """All records of a file, those without any text too.

    Raises:
        InputError: the file, or a record of it, is damaged.
    """
    endings = PurePosixPath(file.path.name.lower()).suffixes[-2:]
    packed = endings.pop() if endings and endings[-1] in (".gz", ".zst") else ""
    read = _READERS.get(endings[-1] if endings else "", _read_text)
    try:
        with file.path.open("rb") as raw, _decompressed(raw, packed) as stream:
            for row, value in read(stream):
                yield EvaluationRecord(file, row, list(_strings(value)))
    except _DAMAGE as error:
        # Arrow's errors are of these kinds too, as are those of bytes that are no UTF-8.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{file.path} cannot be read as evaluation data: {reason}. Mend it or leave it out: "
            "what is not read would not be looked for"
        ) from error


def _is_data(relative: str) -> bool:
    name = PurePosixPath(relative.lower()).name
    for packed in (".gz", ".zst"):
        name = name.removesuffix(packed)
    described = any(fnmatchcase(name, pattern) for pattern in _DESCRIBE)
    return name.endswith(_ENDINGS) and not described


def _folder(top: str, relative: str) -> str:
    return (PurePosixPath(top) / PurePosixPath(relative).parent).as_posix()


def _decompressed(raw: IO[bytes], packed: str) -> IO[bytes]:
    if packed == ".gz":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if packed == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(raw), "zstd"))
    return raw


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)


_Rows = Iterator[tuple[int | None, Any]]


def _read_text(stream: IO[bytes]) -> _Rows:
    yield None, stream.read().decode("utf-8-sig")


def _read_lines(stream: IO[bytes]) -> _Rows:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield number, _parsed(line, f"line {number}: ")


def _read_json(stream: IO[bytes]) -> _Rows:
    value = _parsed(stream.read(), "")
    if isinstance(value, list):
        yield from enumerate(value)
    else:
        yield None, value


def _parsed(content: bytes, place: str) -> Any:
    try:
        return json.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise ValueError(f"{place}{error}") from error


def _read_csv(stream: IO[bytes]) -> _Rows:
    yield from _read_table(stream, delimiter=",", quoting=csv.QUOTE_MINIMAL, strict=True)


def _read_tsv(stream: IO[bytes]) -> _Rows:
    yield from _read_table(stream, delimiter="\t", quoting=csv.QUOTE_NONE, strict=False)


def _read_table(stream: IO[bytes], **form: Any) -> _Rows:
    csv.field_size_limit(_ENDLESS)
    # Without a known header the first row counts as a record: names of columns are too short.
    lines = (line.decode("utf-8" if number else "utf-8-sig") for number, line in enumerate(stream))
    rows = csv.reader(lines, **form)
    line = 1
    for row in rows:
        yield line, row
        line = rows.line_num + 1


def _read_parquet(stream: IO[bytes]) -> _Rows:
    from pyarrow import parquet

    table = parquet.ParquetFile(io.BytesIO(stream.read()))
    number = 0
    for batch in table.iter_batches(_PARQUET_ROWS):
        for row in batch.to_pylist():
            yield number, row
            number += 1


_READERS = {
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
