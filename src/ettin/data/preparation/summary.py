"""What `prepare` tells about a corpus: to its caller, and in the log."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin.console import human
from ettin.data.preparation.samples import merge, summarise
from ettin.data.preparation.working import PartRecord
from ettin.data.reading.sources import Source, Tally, list_files
from ettin.tokenizer import Fertility


@dataclass(frozen=True)
class PreparedSummary:
    """What a corpus holds; or, while `parts_left` is not 0, what one of several tasks has made.

    Attributes:
        corpus: its directory, absolute.
        documents: of all sources, held-out ones included.
        tokens: of all documents, BOS and EOS not counted.
        bytes: UTF-8 bytes of their text; 0 where tokens were given that do not tell it.
        held_out_tokens: of the held-out documents.
        skipped: files, lines and rows left out, by reason.
        fertility: of the tokenizer on a sample of the documents.
        fill: by context length, the share of the positions of training rows that hold tokens.
        parts_left: how many parts other tasks have not made yet; with them, there is no corpus.
    """

    corpus: Path
    documents: int
    tokens: int
    bytes: int
    held_out_tokens: int
    skipped: dict[str, int]
    fertility: Fertility
    fill: dict[int, float]
    parts_left: int = 0


def summarise_corpus(out: Path, facts: dict[str, Any]) -> PreparedSummary:
    """The summary of a corpus, out of the facts of its manifest."""
    sources = list(facts["sources"].values())
    skipped: Counter[str] = Counter()
    for source in sources:
        skipped.update(source["skipped"])
    fill = {}
    for length in facts["context_lengths"]:
        rows = [source["rows"][str(length)] for source in sources]
        fill[length] = sum(each["tokens"] for each in rows) / (
            sum(each["train"] for each in rows) * length
        )
    tokenizer = facts["tokenizer"]
    return PreparedSummary(
        corpus=out.resolve(),
        documents=sum(source["documents"] for source in sources),
        tokens=sum(source["tokens"] for source in sources),
        bytes=sum(source["bytes"] for source in sources),
        held_out_tokens=sum(source["held_out_tokens"] for source in sources),
        skipped=dict(skipped),
        fertility=Fertility(tokenizer["tokens_per_word"], tokenizer["bytes_per_token"]),
        fill=fill,
    )


def summarise_task(out: Path, records: list[PartRecord], parts_left: int) -> PreparedSummary:
    """The summary of what one task has made, while parts of others are missing."""
    skipped: Counter[str] = Counter()
    for record in records:
        skipped.update(record.skipped)
    measured = summarise(merge(record.sample for record in records))
    return PreparedSummary(
        corpus=out.resolve(),
        documents=sum(record.documents for record in records),
        tokens=sum(record.tokens for record in records),
        bytes=sum(record.text_bytes for record in records),
        held_out_tokens=0,
        skipped=dict(skipped),
        fertility=Fertility(**measured),
        fill={},
        parts_left=parts_left,
    )


_EXPECTED = {
    "text": "plain text, csv, tsv, jsonl or parquet, plain or .gz/.zst",
    "mds": "MDS: index.json and the shards that it lists",
    "parquet": "parquet tables of token ids",
}


def nothing_found(source: Source, tally: Tally) -> str:
    """What to say when a source gave no document at all."""
    places = ", ".join(str(path) for path in source.paths)
    met = tally.describe()
    return (
        f"source {source.name}: no {'text' if source.form == 'text' else 'tokens'} "
        f"in {places} ({len(list_files([source])):,} files); "
        + (f"left out: {met}" if met else "the folder is empty")
        + f". Expected {_EXPECTED[source.form]}"
    )


def source_line(name: str, facts: dict[str, Any], tally: Tally) -> str:
    """What the log says of a source when it is done."""
    rows = ", ".join(
        f"{each['train']:,} + {each['held_out']:,} rows of {length} "
        f"({100 * each['fill']:.2f} % full"
        f"{f', {skipped:,} tokens left out' if (skipped := each['skipped_tokens']) else ''})"
        for length, each in facts["rows"].items()
    )
    # Ids of a vocabulary that is not byte-level do not tell how many bytes their text had.
    each = f", {facts['bytes'] / facts['tokens']:.2f} bytes a token" if facts["bytes"] else ""
    line = (
        f"{name}: {facts['documents']:,} documents, {human(facts['tokens'])} "
        f"tokens{each}; held out "
        f"{facts['held_out_documents']:,} documents, {human(facts['held_out_tokens'])} tokens; "
        f"{rows}"
    )
    met = tally.describe()
    return f"{line}; left out or changed: {met}" if met else line
