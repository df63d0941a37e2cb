"""Retrieval collections in folders of the BEIR layout, and what simple methods reach on them.

    my-collection/
      corpus.jsonl[.gz]      {"_id": "d1", "title": "…", "text": "…"}     title may be missing
      queries.jsonl[.gz]     {"_id": "q1", "text": "…"}
      qrels_test.tsv         query-id, corpus-id, score; a header or none; also qrels/test.tsv
      qrels_train.tsv        training judgements, if there are any
      collection.json        optional: {"language": "deu"} (ISO 639-3; English unless told)

Judgements above 0 are relevant, and their number is the gain. Nothing is guessed: an id that is
not there, or is there twice, is refused.
"""

import gzip
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ettin import files
from ettin.errors import InputError
from ettin.evaluation.rows import opened, read_json_rows
from ettin.files import Json

DESCRIPTION = "collection.json"
TEST_SPLITS = ("test", "dev", "validation")
"""The first of these that has judgements is what a model is measured on."""
TRAINING_SPLIT = "train"

Judgements = dict[str, dict[str, int]]
"""Query id → document id → score."""


class Document(NamedTuple):
    """What is searched for."""

    title: str
    text: str

    @property
    def whole(self) -> str:
        """Title and text as a model reads them, joined as `mteb` joins them."""
        return f"{self.title} {self.text}".strip() if self.title else self.text.strip()


@dataclass(frozen=True)
class Collection:
    """Documents, queries, and which documents answer which query.

    Attributes:
        name: its folder's name.
        documents: by id, in the order of the file; those without any text are left out.
        queries: text by id, in the order of the file.
        judgements: by split.
        language: ISO 639-3, such as `eng`.
        empty_documents: how many had no text.
    """

    name: str
    documents: dict[str, Document]
    queries: dict[str, str]
    judgements: dict[str, Judgements]
    language: str
    empty_documents: int

    def relevant(self, split: str) -> Judgements:
        """Judgements of the queries of a split that have a relevant document."""
        judged = self.judgements.get(split, {})
        return {query: found for query, found in judged.items() if max(found.values()) > 0}

    def training(self, *, test_split: str) -> Judgements:
        """Training judgements, without queries that are measured on too, by id or by text."""
        measured = self.judgements[test_split]
        asked = {_same(self.queries[query]) for query in measured}
        return {
            query: found
            for query, found in self.relevant(TRAINING_SPLIT).items()
            if query not in measured and _same(self.queries[query]) not in asked
        }


def _same(text: str) -> str:
    """Equal for texts that differ in spaces and capitals alone."""
    return " ".join(text.split()).casefold()


def is_collection(folder: Path) -> bool:
    """Whether a folder looks like a collection: it holds a corpus, or a description."""
    return any((folder / name).is_file() for name in ("corpus.jsonl", "corpus.jsonl.gz"))


def split_files(folder: Path) -> dict[str, Path]:
    """The files of judgements of a collection, by split."""
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("qrels_*.tsv"), *folder.glob("qrels/*.tsv")]):
        split = path.stem.removeprefix("qrels_")
        if split in found:
            raise InputError(f"{folder}: judgements of {split} stand in {found[split]} and {path}")
        found[split] = path
    return found


def measured_split(folder: Path) -> str:
    """The split that a model is measured on: test, or else dev, or else validation.

    Raises:
        InputError: none of them is there.
    """
    found = split_files(folder)
    for split in TEST_SPLITS:
        if split in found:
            return split
    listed = ", ".join(found) or "none"
    raise InputError(
        f"{folder}: no judgements to measure on (splits found: {listed}); expected "
        "qrels_test.tsv, or else qrels_dev.tsv or qrels_validation.tsv"
    )


def fingerprint(folder: Path) -> str:
    """32 hexadecimal digits that identify the files of a collection."""
    paths = [*folder.glob("*.jsonl*"), *folder.glob(DESCRIPTION), *split_files(folder).values()]
    return files.fingerprint(
        {path.relative_to(folder).as_posix(): files.fingerprint_file(path) for path in paths}
    )


def open_collection(folder: Path) -> Collection:
    """Read a collection.

    Raises:
        InputError: a file is missing or malformed, a split is empty, an id is unknown or doubled.
    """
    documents, empty = {}, set()
    corpus = _rows_file(folder, "corpus")
    for identifier, row in _rows(corpus):
        document = Document(_text(corpus, identifier, row, "title"), "")
        document = document._replace(text=_text(corpus, identifier, row, "text"))
        if identifier in documents or identifier in empty:
            raise InputError(f"{corpus}: the document id {identifier!r} occurs twice")
        if document.whole:
            documents[identifier] = document
        else:
            empty.add(identifier)
    queries: dict[str, str] = {}
    for identifier, row in _rows(_rows_file(folder, "queries")):
        if identifier in queries:
            raise InputError(f"{folder}: the query id {identifier!r} occurs twice")
        queries[identifier] = _text(folder / "queries.jsonl", identifier, row, "text")
    if not documents or not queries:
        raise InputError(f"{folder}: no documents with text, or no queries")
    measured_split(folder)
    judgements = {
        split: _judgements(path, queries=set(queries), documents=set(documents), empty=empty)
        for split, path in split_files(folder).items()
    }
    description = description_of(folder)
    return Collection(
        name=folder.absolute().name,
        documents=documents,
        queries=queries,
        judgements=judgements,
        language=str(description.get("language", "eng")),
        empty_documents=len(empty),
    )


def description_of(folder: Path) -> Json:
    """What `collection.json` says; empty when it is not there."""
    path = folder / DESCRIPTION
    return files.read_json(path) if path.is_file() else {}


def write_collection(
    folder: Path, *, corpus: Any, queries: Any, relevant: Judgements, split: str
) -> None:
    """Write a collection that `open_collection` reads.

    Args:
        folder: where; made if it is not there.
        corpus: rows with `id`, `text` and perhaps `title`.
        queries: rows with `id` and `text`.
        relevant: judgements.
        split: their split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8", newline="\n") as file:
            for row in rows:
                kept = {"_id": row["id"], "title": row.get("title") or "", "text": row["text"]}
                file.write(json.dumps(kept, ensure_ascii=False) + "\n")
    lines = [
        f"{query}\t{document}\t{score}\n"
        for query, found in relevant.items()
        for document, score in found.items()
    ]
    header = "query-id\tcorpus-id\tscore\n"
    files.write_atomic(folder / f"qrels_{split}.tsv", header + "".join(lines))


def chance(relevant: Judgements, *, documents: int, cutoff: int = 10) -> float:
    """Expected nDCG of documents in random order, as a mean over queries.

    Every rank holds each document equally often, so the expected gain of a rank is the mean gain
    of a document, and nDCG is linear in gains.

    Args:
        relevant: judgements; scores below 0 count as 0.
        documents: how many there are to be ordered.
        cutoff: ranks that count.
    """
    discounts = [1 / math.log2(rank + 2) for rank in range(min(cutoff, documents))]
    values = []
    for found in relevant.values():
        gains = sorted((max(score, 0) for score in found.values()), reverse=True)
        ideal = sum(gain * each for gain, each in zip(gains, discounts, strict=False))
        values.append(sum(gains) / documents * sum(discounts) / ideal)
    return sum(values) / len(values)


def _rows_file(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder} is no directory; expected a collection in BEIR layout")
    for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if path.is_file():
            return path
    present = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise InputError(f"{folder} holds no {name}.jsonl or {name}.jsonl.gz (it holds {present})")


def _rows(path: Path) -> Iterator[tuple[str, Json]]:
    for number, row in enumerate(read_json_rows(path), start=1):
        if not isinstance(row.get("_id"), str | int):
            raise InputError(f"{path}, object {number}: expected an object with an _id")
        yield str(row["_id"]), row


def _text(path: Path, identifier: str, row: Json, column: str) -> str:
    value = row.get(column, "" if column == "title" else None)
    if value is None and column == "title":
        return ""
    if not isinstance(value, str):
        columns = ", ".join(row)
        raise InputError(f"{path}: {identifier!r} has no text in {column!r} (columns: {columns})")
    return value


def _judgements(
    path: Path, *, queries: set[str], documents: set[str], empty: set[str]
) -> Judgements:
    found: Judgements = {}
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            fields = line.rstrip("\r\n").split("\t")
            if fields == [""]:
                continue
            if len(fields) != 3:
                raise InputError(
                    f"{path}, line {number}: {len(fields)} columns, expected query-id, corpus-id "
                    "and score between tabs"
                )
            query, document, score = fields
            if not re.fullmatch(r"-?\d+", score):
                if number == 1:
                    continue
                raise InputError(f"{path}, line {number}: the score {score!r} is no whole number")
            if query not in queries:
                raise InputError(f"{path}, line {number}: the query {query!r} is not in queries")
            if document in empty:
                continue
            if document not in documents:
                raise InputError(
                    f"{path}, line {number}: the document {document!r} is not in the corpus"
                )
            if found.setdefault(query, {}).setdefault(document, int(score)) != int(score):
                raise InputError(f"{path}, line {number}: another score for the same pair above")
    if not any(score > 0 for each in found.values() for score in each.values()):
        raise InputError(f"{path}: the split is empty: no judgement above 0")
    return found
