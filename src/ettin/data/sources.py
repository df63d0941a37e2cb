"""Documents out of files: plain text, csv, tsv, jsonl and parquet, plain or compressed (gz, zst).

    tally = Tally()
    for document in read_documents(Source("books", (Path("books"),)), tally=tally):
        print(document.id, len(document.text))         # poe/raven.txt 6514, notes.jsonl:17 980 …

A plain text file is one document; its id is its path relative to the folder that was given. A line
or row of a table is one document; its id is that of the id column, or else `path:row` (lines count
from 1, parquet rows from 0), so a document has the same id in every corpus. What cannot be used is
skipped and counted with its reason and place; `on_error="fail"` stops at the first defect instead.
Memory: one record of a table, or one plain text file.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import xxhash

from ettin.data.readers import read_file
from ettin.data.tally import Document, OnError, Reading, SourceFile, Tally
from ettin.errors import InputError
from ettin.mixtures import find_folders, published

__all__ = ["Document", "OnError", "Source", "SourceFile", "Tally", "list_files", "read_documents"]


@dataclass(frozen=True)
class Source:
    """Files and folders that are drawn from together, under one name of a mixture.

    Attributes:
        name: its name in the corpus.
        paths: files, and folders that are read with all folders below.
        exclude: names, or patterns such as `test*`, of files and folders to leave out.
        form: `text`, or token ids that are given: `mds` (see `mds_source`) or `parquet` (see
            `token_tables`).
    """

    name: str
    paths: tuple[Path, ...]
    exclude: tuple[str, ...] = ()
    form: Literal["text", "mds", "parquet"] = "text"


def read_documents(
    source: Source,
    *,
    tally: Tally,
    text_column: str = "text",
    id_column: str | None = None,
    on_error: OnError = "skip",
) -> Iterator[Document]:
    """All documents of a source, in the order of its sorted files.

    Args:
        source: what to read.
        tally: counts what is read and what is skipped, while it goes on.
        text_column: the column of tables, or key of JSON lines, that holds the text.
        id_column: the one that holds the id; where a record lacks it, its place is the id.
        on_error: `skip` counts broken files and records; `fail` stops at the first. Texts that are
            empty or null are no defects. `fail` also refuses invalid UTF-8.

    Raises:
        InputError: a path that is not there, a table without the text or id column, or any defect
            if `on_error` is `fail`.
    """
    reading = Reading(text_column, id_column, on_error, tally)
    seen: dict[int, int] = {}
    for file in list_files([source], reading=reading):
        before = tally.bytes_read
        for document in read_file(file, reading):
            if not document.text or document.text.isspace():
                reading.empty("empty text", document.origin)
                continue
            # Places are unique by construction, so only ids from a column are remembered.
            if id_column is not None:
                name = make_unique(document.id, document.origin, seen, tally)
                document = document._replace(id=name)
            tally.documents += 1
            tally.text_bytes += (
                len(document.text) if document.text.isascii() else len(document.text.encode())
            )
            yield document
        tally.bytes_read = before + file.size


def list_files(sources: list[Source], *, reading: Reading | None = None) -> list[SourceFile]:
    """All files of sources, sorted by path; hidden files and folders are left out.

    Args:
        sources: what to list.
        reading: counts what is left out; None to list silently.

    Raises:
        InputError: a path is neither a file nor a folder.
    """
    reading = reading or Reading("", None, "skip", Tally())
    found = []
    for source in sources:
        used: Counter[str] = Counter()
        for path in source.paths:
            for file, relative in _walk(path, source.exclude, reading):
                used[relative] += 1
                name = relative if used[relative] == 1 else f"{relative}#{used[relative]}"
                state = file.stat()
                found.append(SourceFile(source.name, file, name, state.st_size, state.st_mtime_ns))
    return found


def _walk(top: Path, exclude: tuple[str, ...], reading: Reading) -> Iterator[tuple[Path, str]]:
    """Regular files at and below a path, with the part of the path that a document is known by."""
    if top.is_file():
        yield top, _printable(top.name)
        return
    if not top.is_dir():
        raise InputError(f"{top} is neither a file nor a folder")

    def unreadable(error: OSError) -> None:
        reading.defect("unreadable folder", str(error.filename), str(error.strerror))

    for folder, subfolders, names in os.walk(top, onerror=unreadable):
        here = Path(folder)
        subfolders[:] = sorted(
            name for name in subfolders if _wanted(here / name, top, exclude, reading)
        )
        for name in sorted(names):
            path = here / name
            if _wanted(path, top, exclude, reading) and _is_regular(path, top, reading):
                yield path, _relative(path, top)


def _wanted(path: Path, top: Path, exclude: tuple[str, ...], reading: Reading) -> bool:
    if path.name.startswith("."):
        reading.empty("hidden", _relative(path, top))
        return False
    if any(fnmatchcase(path.name, pattern) for pattern in exclude):
        reading.empty("excluded", _relative(path, top))
        return False
    if path.is_symlink() and path.is_dir():
        reading.empty("link to a folder", _relative(path, top))
        return False
    return True


def _is_regular(path: Path, top: Path, reading: Reading) -> bool:
    """Whether reading ends: a pipe or a device would block or never end."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return True
        reading.defect("not a regular file", _relative(path, top))
    except OSError as error:
        reading.defect("unreadable file", _relative(path, top), str(error.strerror))
    return False


def _relative(path: Path, top: Path) -> str:
    return _printable(path.relative_to(top).as_posix())


def _printable(name: str) -> str:
    """A file's name as text; names need not be valid UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def make_unique(name: str, place: str, seen: dict[int, int], tally: Tally) -> str:
    """An id with `#2`, `#3` … appended when it came before.

    Args:
        name: the id.
        place: where it was met; counted there when it is changed.
        seen: 64-bit hashes of ids so far, with how often each came; goes on.
        tally: where to count.
    """
    first = xxhash.xxh3_64_intdigest(name.encode())
    unique, known = name, first
    while known in seen:
        seen[first] += 1
        unique = f"{name}#{seen[first]}"
        known = xxhash.xxh3_64_intdigest(unique.encode())
    seen[known] = 1
    if known != first:
        tally.note("duplicate ids, made unique", f"{place} {name!r}")
    return unique


def named_sources(
    text: list[Path],
    named: list[str],
    *,
    exclude: tuple[str, ...] = (),
    mixture: str | None = None,
) -> list[Source]:
    """Sources as a person gives them.

    Args:
        text: paths of one source named `text`; with a mixture, the one folder that holds a folder
            for each of its sources.
        named: `NAME=PATH` of several sources.
        exclude: see `Source`.
        mixture: phases, separated by commas, to take the sources of their published mixtures.

    Raises:
        InputError: neither or both are given, one is not written `NAME=PATH`, or the mixture is
            unknown or not found whole.
    """
    if mixture is not None:
        return _mixture_sources(text, named, exclude, mixture.split(","))
    if bool(text) == bool(named):
        raise InputError("give either --text PATH… or --source NAME=PATH…, or else --mds DIR")
    if text:
        return [Source("text", tuple(text), exclude=exclude)]
    paths: dict[str, list[Path]] = {}
    for each in named:
        name, equals, path = each.partition("=")
        if not (name and equals and path):
            raise InputError(f"--source {each}: expected NAME=PATH")
        paths.setdefault(name, []).append(Path(path))
    return [Source(name, tuple(paths[name]), exclude=exclude) for name in paths]


def _mixture_sources(
    text: list[Path], named: list[str], exclude: tuple[str, ...], phases: list[str]
) -> list[Source]:
    mixtures = [published(phase.strip()) for phase in phases]
    if named or len(text) != 1:
        raise InputError(
            "--mixture takes one --text ROOT, a folder that holds a folder for each source, and "
            f"no --source; given: {len(text)} --text and {len(named)} --source"
        )
    folders = find_folders(text[0], mixtures)
    for name, folder in folders.items():
        # The shards themselves would be skipped as binary, but the JSON beside them read as text.
        if any(True for below in ("", "*/") for _ in folder.glob(f"{below}shard.*.mds*")):
            raise InputError(
                f"{folder} holds MDS shards, as published: tokens, not text. Give --mds "
                f"{text[0]} with --mixture instead of --text, or put the text of {name} there"
            )
    return [Source(name, (folder,), exclude=exclude) for name, folder in folders.items()]
