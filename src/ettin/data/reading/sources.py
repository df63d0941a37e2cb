"""Documents out of files: plain text, csv, tsv, jsonl and parquet, plain or compressed (gz, zst).

    tally = Tally()
    for document in read_documents(Source("books", (Path("books"),)), tally=tally):
        print(document.id, len(document.text))         # poe/raven.txt 6514, notes.jsonl:17 980 …

Files lie in folders, match patterns, or are found by URLs on the web, in stores and on the Hugging
Face hub (see `places`), and give the same documents from everywhere. A store that fails ends the
reading; it is no defect of a file.

A plain text file is one document; its id is its path relative to the folder that was given. A line
or row of a table is one document; its id is that of the id column, or else `path:row` (lines count
from 1, parquet rows from 0), so a document has the same id in every corpus. What cannot be used is
skipped and counted with its reason and place; `on_error="fail"` stops at the first defect instead.
Memory: one record of a table, or one plain text file.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import xxhash

from ettin.data.reading.local_listing import Listed, list_local, top_of
from ettin.data.reading.places import (
    check_url,
    local_place,
    protocol_of,
    split_pattern,
    without_secrets,
)
from ettin.data.reading.readers import read_file
from ettin.data.reading.remote_listing import list_remote
from ettin.data.reading.tally import WHOLE, Document, OnError, Reading, SourceFile, Span, Tally
from ettin.errors import InputError
from ettin.mixtures import find_folders, published

__all__ = ["Document", "OnError", "Source", "SourceFile", "Tally", "list_files", "read_documents"]


@dataclass(frozen=True)
class Source:
    """Files and folders that are drawn from together, under one name of a mixture.

    Attributes:
        name: its name in the corpus.
        paths: files, folders that are read with all folders below, patterns of these, and URLs; see
            `places`.
        exclude: names, or patterns such as `test*`, of files and folders to leave out.
        form: `text`, or token ids that are given: `mds` (see `mds.source`) or `parquet` (see
            `token_tables`).
    """

    name: str
    paths: tuple[Path | str, ...]
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
        SourceUnavailableError: a store, or the way to it, failed; never a defect.
    """
    reading = Reading(text_column, id_column, on_error, tally)
    seen: dict[int, int] = {}
    for file in list_files([source], reading=reading):
        for document in read_counted(file, reading):
            # Places are unique by construction, so only ids from a column are remembered.
            if id_column is not None:
                name = make_unique(document.id, document.origin, seen, tally)
                document = document._replace(id=name)
            yield document


def read_counted(
    file: SourceFile, reading: Reading, span: Span = WHOLE, *, size: int | None = None
) -> Iterator[Document]:
    """The documents of one file that hold text, counted; ids from a column may come twice.

    Args:
        file: what to read.
        reading: how, and where to count.
        span: the stretch to read.
        size: bytes that it takes on disk; None for those of the file.
    """
    tally = reading.tally
    before = tally.bytes_read
    for document in read_file(file, reading, span):
        if not document.text or document.text.isspace():
            reading.empty("empty text", document.origin)
            continue
        tally.documents += 1
        tally.text_bytes += (
            len(document.text) if document.text.isascii() else len(document.text.encode())
        )
        yield document
    tally.bytes_read = before + (file.size if size is None else size)


def list_files(sources: list[Source], *, reading: Reading | None = None) -> list[SourceFile]:
    """All files of sources, sorted by path; hidden files and folders are left out.

    Args:
        sources: what to list.
        reading: counts what is left out; None to list silently.

    Raises:
        InputError: a path is neither a file nor a folder, a pattern matches nothing, or a URL leads
            nowhere or holds credentials.
        SourceUnavailableError: a store, or the way to it, failed.
    """
    reading = reading or Reading("", None, "skip", Tally())
    found = []
    for source in sources:
        used: Counter[str] = Counter()
        for place in source.paths:
            for each in _listed(place, source.exclude, reading):
                used[each.relative] += 1
                times = used[each.relative]
                name = each.relative if times == 1 else f"{each.relative}#{times}"
                found.append(SourceFile(source.name, each.location, name, each.size, each.version))
    return found


def local_tops(source: Source) -> list[Path]:
    """The files and folders of this machine that a source reads, whole or by a pattern."""
    places = (local_place(place) for place in source.paths)
    return [top_of(place)[0] for place in places if place is not None]


def _listed(place: Path | str, exclude: tuple[str, ...], reading: Reading) -> list[Listed]:
    """The files that one of a source's places means.

    Raises:
        InputError: a path that is not there, or a pattern without a match.
    """
    before = reading.tally.skipped.copy()
    local = local_place(place)
    if local is None:
        pattern = split_pattern(str(place))[1]
        found = list_remote(str(place), exclude=exclude, reading=reading)
    else:
        pattern = top_of(local)[1]
        found = list(list_local(local, exclude=exclude, reading=reading))
    if pattern and not found:
        left_out = reading.tally.skipped - before
        what = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise InputError(
            f"{place}: no file matches{f' (left out: {what})' if what else ''}. `*` stands for "
            "anything but `/` in a name, `**` for any folders"
        )
    return found


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
    text: Sequence[Path | str],
    named: list[str],
    *,
    exclude: tuple[str, ...] = (),
    mixture: str | None = None,
) -> list[Source]:
    """Sources as a person gives them.

    Args:
        text: paths, patterns and URLs of one source named `text`; with a mixture, the one folder
            that holds a folder for each of its sources.
        named: `NAME=PATH` of several sources; a pattern or a URL will do for the path.
        exclude: see `Source`.
        mixture: phases, separated by commas, to take the sources of their published mixtures.

    Raises:
        InputError: neither or both are given, one is not written `NAME=PATH`, the mixture is
            unknown or not found whole, or a URL holds credentials.
    """
    if mixture is not None:
        return _mixture_sources(text, named, exclude, mixture.split(","))
    if bool(text) == bool(named):
        raise InputError("give either --text PATH… or --source NAME=PATH…, or else --mds DIR")
    if text:
        return [Source("text", _checked(text), exclude=exclude)]
    paths: dict[str, list[Path | str]] = {}
    for each in named:
        name, equals, path = each.partition("=")
        if not (name and equals and path) or protocol_of(name):
            raise InputError(f"--source {without_secrets(each)}: expected NAME=PATH")
        paths.setdefault(name, []).append(path)
    return [Source(name, _checked(paths[name]), exclude=exclude) for name in paths]


def _checked(places: Sequence[Path | str]) -> tuple[Path | str, ...]:
    """Paths of this machine as such, and URLs that may be written down."""
    checked: list[Path | str] = []
    for place in places:
        local = local_place(place)
        if local is None:
            check_url(str(place))
        checked.append(str(place) if local is None else local)
    return tuple(checked)


def _mixture_sources(
    text: Sequence[Path | str], named: list[str], exclude: tuple[str, ...], phases: list[str]
) -> list[Source]:
    mixtures = [published(phase.strip()) for phase in phases]
    if named or len(text) != 1:
        raise InputError(
            "--mixture takes one --text ROOT, a folder that holds a folder for each source, and "
            f"no --source; given: {len(text)} --text and {len(named)} --source"
        )
    (root,) = _checked(text)
    if not isinstance(root, Path):
        raise InputError(f"--mixture takes a folder of this machine, not {root}")
    folders = find_folders(root, mixtures)
    for name, folder in folders.items():
        # The shards themselves would be skipped as binary, but the JSON beside them read as text.
        if any(True for below in ("", "*/") for _ in folder.glob(f"{below}shard.*.mds*")):
            raise InputError(
                f"{folder} holds MDS shards, as published: tokens, not text. Give --mds "
                f"{text[0]} with --mixture instead of --text, or put the text of {name} there"
            )
    return [Source(name, (folder,), exclude=exclude) for name, folder in folders.items()]
