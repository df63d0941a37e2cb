"""The stage from text to corpus: read, tokenise, hold out, pack, and say what happened.

    books = Source("books", (Path("books"),))
    summary = prepare([books], tokenizer="tokenizer", out=Path("corpus"))

One pass over the text with bounded memory writes the token shards; each source then gets its row
tables from the numbers of tokens and the hashes of ids alone. The same request again says that the
corpus is finished; an interrupted one leaves nothing that looks whole.

`facts` of the manifest:

    tokenizer           as `ettin.tokenizer.describe` gives, with fertility, and `loss` if any
    context_lengths, packing, held_out
    sources.<name>      documents, tokens, bytes, held_out_documents, held_out_tokens, skipped,
                        noted, examples, shards (documents of each),
                        rows.<S> = {train, held_out, tokens, fill}
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ettin import files
from ettin.console import Progress, log, progress
from ettin.data.corpus import KIND, TOKENIZER
from ettin.data.corpus_writing import SourceWriter, check_source_names, write_rows
from ettin.data.documents import Documents
from ettin.data.mds_source import read_mds
from ettin.data.packing import (
    HELD_OUT_LIMIT,
    MINIMUM_CONTEXT_LENGTH,
    Int64Array,
    Packing,
    hold_out,
    id_hash,
)
from ettin.data.prepared_summary import PreparedSummary, nothing_found, source_line, summarise
from ettin.data.sources import Document, OnError, Source, Tally, list_files, read_documents
from ettin.data.token_tables import read_token_tables
from ettin.data.tokenised import SampleRules, TokenisedDocument, TokenSample
from ettin.errors import InputError
from ettin.text_pieces import TextSample
from ettin.tokenizer import Tokenizer, describe, load_tokenizer

BATCH_CHARACTERS = 1 << 20
BATCH_DOCUMENTS = 4096


@dataclass(frozen=True)
class Settings:
    """Everything a corpus depends on besides the text and the tokenizer."""

    context_lengths: tuple[int, ...]
    packing: Packing
    held_out: float
    text_column: str
    id_column: str | None
    on_error: OnError

    def __post_init__(self) -> None:
        for length in self.context_lengths:
            if length < MINIMUM_CONTEXT_LENGTH:
                raise InputError(
                    f"context length {length} is too short; {MINIMUM_CONTEXT_LENGTH} at least"
                )
        if not self.context_lengths:
            raise InputError("at least one context length is needed")
        if not 0 <= self.held_out <= HELD_OUT_LIMIT:
            raise InputError(
                f"the held-out fraction is {self.held_out}; it should lie between 0 and "
                f"{HELD_OUT_LIMIT} (at least 32,768 tokens are held out where there are enough)"
            )


def prepare(
    sources: list[Source],
    *,
    tokenizer: str | Path,
    out: Path,
    context_lengths: tuple[int, ...] = (1024,),
    packing: Packing = "chunks",
    held_out: float = 0.01,
    text_column: str = "text",
    id_column: str | None = None,
    on_error: OnError = "skip",
    command: list[str] | None = None,
) -> PreparedSummary:
    """Make a corpus.

    Args:
        sources: what to read, text or token ids; each needs its own name.
        tokenizer: a directory or a hub id; of token ids that are given, the one that made them.
        out: the corpus directory.
        context_lengths: the row tables to make, in tokens.
        packing: `chunks` fills rows with whole chunks, `none` gives each a row of its own.
        held_out: the share of each source's tokens kept for validation; 32,768 tokens at least.
        text_column: the column of tables that holds the text.
        id_column: the column that holds ids; the place of a record stands for it otherwise (for
            MDS, a column named `id` is taken where there is one).
        on_error: `skip` and count what is broken, or `fail` at the first.
        command: the command line, for the manifest.

    Raises:
        InputError: no text was found, too little to hold any out, a wrong path, column or
            setting, or `out` holds something else.
        NoSpaceError: the disk is full.
    """
    lengths = tuple(sorted(set(context_lengths)))
    settings = Settings(lengths, packing, held_out, text_column, id_column, on_error)
    check_source_names(source.name for source in sources)
    _refuse_inside(out, sources)
    found = list_files(sources)
    loaded = load_tokenizer(tokenizer)
    identity: list[Any] = [[each.source, each.relative, each.size, each.mtime_ns] for each in found]
    identity += [[source.name, source.form] for source in sources if source.form != "text"]
    made_from = {
        "tokenizer": loaded.fingerprint,
        "text": files.fingerprint(identity),
        "settings": asdict(settings) | {"context_lengths": list(lengths)},
    }
    with files.locked(out):
        if files.is_finished(out):
            return _finished(out, made_from)
        with files.staging(out) as partial:
            work = _Work(loaded, settings, partial)
            with progress("preparing", total=sum(each.size for each in found), unit="B") as shown:
                described = {source.name: work.source(source, shown) for source in sources}
            loaded.save(partial / TOKENIZER, closing=True)
            facts = {
                "tokenizer": describe(loaded) | work.measure(),
                "context_lengths": list(lengths),
                "packing": packing,
                "held_out": held_out,
                "sources": described,
            }
            files.write_manifest(
                partial, KIND, command=command or [], made_from=made_from, facts=facts
            )
    return summarise(out, facts)


class _Work:
    """Makes sources one after another; keeps a sample of all documents."""

    def __init__(self, tokenizer: Tokenizer, settings: Settings, corpus: Path) -> None:
        self._tokenizer, self._settings, self._corpus = tokenizer, settings, corpus
        self._sample, self._token_sample = TextSample(), TokenSample()
        self._bytes_before = 0

    def source(self, source: Source, shown: Progress) -> dict[str, Any]:
        """Write one source; returns its facts."""
        folder, tally = self._corpus / source.name, Tally()
        with SourceWriter(folder, padded_vocab_size=self._tokenizer.padded_size) as writer:
            if source.form == "text":
                for batch in self._batches(source, tally):
                    self._write(batch, writer, tally)
                    del batch  # before the next, perhaps very long, document is read
                    shown.update(self._bytes_before + tally.bytes_read, source.name)
            else:
                for document in self._tokenised(source, tally):
                    writer.add(document.id, document.origin, document.tokens)
                    if tally.documents % BATCH_DOCUMENTS == 0:
                        shown.update(self._bytes_before + tally.bytes_read, source.name)
        self._bytes_before += tally.bytes_read
        if self._tokenizer.forced_cuts:
            place = f"source {source.name}"
            tally.note("cuts inside unbroken text", place, self._tokenizer.forced_cuts)
            self._tokenizer.forced_cuts = 0
        if not tally.documents:
            raise InputError(nothing_found(source, tally))
        facts = self._lay_out(source.name, Documents(folder, writer.shard_documents), tally)
        log.info("%s", source_line(source.name, facts, tally))
        return facts

    def _write(self, batch: list[Document], writer: SourceWriter, tally: Tally) -> None:
        encoded = self._tokenizer.encode([document.text for document in batch])
        for document, tokens in zip(batch, encoded, strict=True):
            if len(tokens):
                writer.add(document.id, document.origin, tokens)
            else:
                tally.skip("text without tokens", document.origin)
                tally.documents -= 1
                tally.text_bytes -= len(document.text.encode())

    def measure(self) -> dict[str, Any]:
        """Fertility, and what a lossy tokenizer does not give back, on the sample.

        Where tokens were given, what the tokenizer lost is gone, and only fertility is measured.
        """
        decoded = [self._tokenizer.decode(tokens) for tokens in self._token_sample.tokens]
        tokens_per_word, bytes_per_token = self._tokenizer.fertility(self._sample.texts + decoded)
        measured: dict[str, Any] = {
            "tokens_per_word": tokens_per_word,
            "bytes_per_token": bytes_per_token,
        }
        if not self._tokenizer.is_lossless and self._sample.texts:
            loss = measured["loss"] = measure_loss(self._tokenizer, self._sample.texts)
            log.warning(
                "this tokenizer does not keep all text: %.1f %% of %d sampled documents come back "
                "changed, %.3g %% of their characters are lost",
                100 * loss["documents"], loss["sampled"], 100 * loss["characters"],
            )  # fmt: skip
        return measured

    def _batches(self, source: Source, tally: Tally) -> Iterator[list[Document]]:
        """Documents with about a million characters at a time; a longer one comes alone."""
        settings = self._settings
        batch: list[Document] = []
        characters = 0
        for document in read_documents(
            source,
            tally=tally,
            text_column=settings.text_column,
            id_column=settings.id_column,
            on_error=settings.on_error,
        ):
            self._sample.add(document.text)
            batch.append(document)
            characters += len(document.text)
            if characters >= BATCH_CHARACTERS or len(batch) >= BATCH_DOCUMENTS:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def _tokenised(self, source: Source, tally: Tally) -> Iterator[TokenisedDocument]:
        """Documents whose tokens are given."""
        read = read_mds if source.form == "mds" else read_token_tables
        for document in read(
            source,
            tally=tally,
            rules=self._rules,
            id_column=self._settings.id_column,
            on_error=self._settings.on_error,
        ):
            self._token_sample.add(document.tokens)
            yield document

    @cached_property
    def _rules(self) -> SampleRules:
        return SampleRules(self._tokenizer)

    def _lay_out(self, name: str, documents: Documents, tally: Tally) -> dict[str, Any]:
        """Hold out, pack, and write the row tables; returns the source's facts."""
        counts = documents.token_counts
        hashes, order = _hashes_and_order(documents)
        try:
            kept_out = hold_out(hashes, counts, fraction=self._settings.held_out)
        except InputError as error:
            raise InputError(f"source {name}: {error}") from error
        rows: dict[str, Any] = {}
        for length in self._settings.context_lengths:
            made = []
            for held in (False, True):
                chosen = order[kept_out[order] == held]
                made.append(write_rows(
                    self._corpus / name, chosen, counts[chosen], context_length=length,
                    packing=self._settings.packing, held_out=held,
                ))  # fmt: skip
            (train_rows, train_tokens), (held_out_rows, _) = made
            rows[str(length)] = {
                "train": train_rows,
                "held_out": held_out_rows,
                "tokens": train_tokens,
                "fill": train_tokens / (train_rows * length),
            }
        return {
            "documents": len(counts),
            "tokens": int(counts.sum()),
            "bytes": tally.text_bytes,
            "held_out_documents": int(kept_out.sum()),
            "held_out_tokens": int(counts[kept_out].sum()),
            "rows": rows,
            "skipped": dict(tally.skipped),
            "noted": dict(tally.noted),
            "examples": tally.examples,
            "shards": documents.shard_documents,
        }


def measure_loss(tokenizer: Tokenizer, texts: list[str]) -> dict[str, Any]:
    """What does not come back when texts are encoded and decoded.

    Returns:
        `sampled` documents; `documents`, the share of them that come back changed; `characters`,
        the share of characters that the decoded text has too few of.
    """
    changed = lost = 0
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        decoded = tokenizer.decode(ids)
        changed += decoded != text
        lost += (Counter(text) - Counter(decoded)).total()
    characters = sum(len(text) for text in texts)
    return {
        "sampled": len(texts),
        "documents": changed / max(len(texts), 1),
        "characters": lost / max(characters, 1),
    }


def _hashes_and_order(
    documents: Documents,
) -> tuple[np.ndarray[Any, np.dtype[np.uint64]], Int64Array]:
    """The hash of each document's id, and the documents by shard and hash."""
    shards = [
        np.array([id_hash(each) for each in documents.ids(number)], dtype=np.uint64)
        for number in range(len(documents.shard_documents))
    ]
    hashes = np.concatenate(shards)
    number = np.repeat(np.arange(len(shards)), documents.shard_documents)
    return hashes, np.lexsort((hashes, number)).astype(np.int64)


def _refuse_inside(out: Path, sources: list[Source]) -> None:
    for path in (path for source in sources for path in source.paths):
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"--out {out} lies in the text folder {path} and would be read as text; "
                "choose a place outside"
            )


def _finished(out: Path, made_from: dict[str, Any]) -> PreparedSummary:
    """The summary of a corpus that was made from the same request; any other is refused."""
    manifest = files.read_manifest(out, KIND)
    different = [key for key in made_from if manifest["made_from"].get(key) != made_from[key]]
    if different:
        raise InputError(
            f"{out} is a finished corpus made from something else (different: "
            f"{', '.join(different)}); choose another --out or remove it"
        )
    log.info("%s is finished already, made from the same text and settings", out)
    return summarise(out, manifest["facts"])
