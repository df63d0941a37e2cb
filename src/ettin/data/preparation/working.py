"""One part: its documents → token shards and a record, in a folder that is whole or absent.

    maker = PartMaker(workshop)
    record = maker.make(part, told=print)

    corpus.parts/<identity>/tokens-00000.arrow      as they will stand in the corpus
    corpus.parts/<identity>/hashes.npy              uint64, `id_hash` of each document
    corpus.parts/<identity>/part.json               `PartRecord`, with size and hash of each shard

A folder that is there is finished: it is made under another name and renamed when all is on disk.
Whoever makes the same part at the same time makes the same bytes, so the first one wins.
"""

import shutil
import uuid
from array import array
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ettin import files
from ettin.data.clean.decontamination import Decontamination
from ettin.data.clean.decontamination_count import DecontaminationCount
from ettin.data.corpus_writing import SourceWriter
from ettin.data.packing import id_hash
from ettin.data.preparation.parts import Part
from ettin.data.preparation.pieces import Piece, read_piece
from ettin.data.preparation.samples import SAMPLED_CHARACTERS, DocumentSample, Measured, measure
from ettin.data.reading.sources import OnError
from ettin.data.reading.tally import Document, Reading, Tally
from ettin.data.reading.tokenised import SampleRules, TokenisedDocument
from ettin.fast_encoding import SpotCheck, open_encoder
from ettin.tokenizer import Tokenizer

RECORD = "part.json"
HASHES = "hashes.npy"
FORMAT = 1

BATCH_CHARACTERS = 1 << 20
BATCH_DOCUMENTS = 4096
_READ_BLOCK_DOCUMENTS = 1024


@dataclass(frozen=True)
class Workshop:
    """What all makers of parts share; can be sent to other processes.

    Attributes:
        folder: where the parts are made.
        tokenizer: its definition as JSON, its special tokens by role, those that were added.
        text_column: the column of tables that holds the text.
        id_column: the column that holds ids.
        on_error: `skip` and count what is broken, or `fail` at the first.
        encoder: what makes ids of text; see `Encoder.identity`.
        evaluation: documents of text that share n-grams with it are left out.
    """

    folder: Path
    tokenizer: tuple[str, dict[str, str], tuple[str, ...]]
    text_column: str
    id_column: str | None
    on_error: OnError
    encoder: str
    evaluation: Decontamination | None = None

    def depends_on(self, fingerprint: str) -> str:
        """Fingerprint of all that parts depend on besides their text; see `Part`.

        Args:
            fingerprint: of the tokenizer.
        """
        return files.fingerprint(
            [
                FORMAT,
                fingerprint,
                self.encoder,
                self.text_column,
                self.id_column,
                self.on_error,
                self.evaluation and self.evaluation.fingerprint,
            ]
        )


@dataclass(frozen=True)
class PartRecord:
    """What is known of a finished part.

    Attributes:
        documents: how many it has.
        tokens: of all of them.
        text_bytes: UTF-8 bytes of their text.
        skipped: how many files, lines and rows were left out, by reason.
        noted: what was read but changed, by reason.
        examples: the first places of each reason.
        sample: what the sampled documents tell of the tokenizer.
        shards: documents of each token shard.
        shard_files: size and hash of each token shard, as in a manifest.
        contaminated: what was left out for sharing text with evaluation data.
    """

    documents: int
    tokens: int
    text_bytes: int
    skipped: dict[str, int]
    noted: dict[str, int]
    examples: dict[str, list[str]]
    sample: list[Measured]
    shards: list[int]
    shard_files: dict[str, files.Json]
    contaminated: files.Json

    @classmethod
    def read(cls, folder: Path) -> "PartRecord":
        """The record of a finished part, out of its folder."""
        stored = files.read_json(folder / RECORD)
        return cls(**stored | {"sample": [Measured(*each) for each in stored["sample"]]})


def is_made(folder: Path, part: Part) -> bool:
    """Whether a part is finished; one whose files have other sizes than they had is not."""
    home = folder / part.identity
    try:
        record = PartRecord.read(home)
        # Nothing can be mapped of an empty array.
        hashes = len(np.load(home / HASHES, mmap_mode="r")) if record.documents else 0
        sizes = {name: (home / name).stat().st_size for name in record.shard_files}
    except (OSError, ValueError, TypeError, EOFError):
        return False
    described = {name: each["bytes"] for name, each in record.shard_files.items()}
    return sizes == described and hashes == record.documents


class PartMaker:
    """Makes parts, one after another.

    Args:
        workshop: what all makers share.
    """

    def __init__(self, workshop: Workshop) -> None:
        from tokenizers import Tokenizer as Backend

        self._workshop = workshop
        definition, names, added = workshop.tokenizer
        self._tokenizer = Tokenizer(Backend.from_str(definition), names, added)
        self._encoder = open_encoder(self._tokenizer, workshop.encoder)
        self._rules: SampleRules | None = None

    def make(self, part: Part, told: Callable[[int], None]) -> None:
        """Make a part, unless it is there.

        Args:
            part: what to make.
            told: is told the bytes read so far.

        Raises:
            InputError: a defect of the text that ends the work; see `read_piece`.
            NoSpaceError: the disk is full.
        """
        final = self._workshop.folder / part.identity
        if is_made(self._workshop.folder, part):
            return
        partial = final.with_name(f".{part.identity}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with files.space_checked(final, part.size):
                self._write(part, partial, told)
                files.synchronise(partial)
            # Somebody else may have made it in the meantime: then ours is not needed.
            if not is_made(self._workshop.folder, part):
                shutil.rmtree(final, ignore_errors=True)
                try:
                    partial.rename(final)
                except OSError:
                    if not is_made(self._workshop.folder, part):
                        raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _write(self, part: Part, folder: Path, told: Callable[[int], None]) -> None:
        tally, sample, hashes = Tally(), DocumentSample(), array("Q")
        self._contaminated = DecontaminationCount()
        tokens_written = 0
        with SourceWriter(folder, padded_vocab_size=self._tokenizer.padded_size) as writer:
            for document_id, origin, tokens, text in self._documents(part, tally, told):
                hashed = id_hash(document_id)
                hashes.append(hashed)
                if sample.wants(hashed):
                    if text is None:
                        text = self._tokenizer.decode(tokens[:SAMPLED_CHARACTERS])
                    sample.offer(hashed, text)
                tokens_written += len(tokens)
                writer.add(document_id, origin, tokens)
        if self._tokenizer.forced_cuts:
            place = part.pieces[0].file.relative
            tally.note("cuts inside unbroken text", place, self._tokenizer.forced_cuts)
            self._tokenizer.forced_cuts = 0
        np.save(folder / HASHES, np.frombuffer(hashes, np.uint64))
        record = PartRecord(
            documents=tally.documents,
            tokens=tokens_written,
            text_bytes=tally.text_bytes,
            skipped=dict(tally.skipped),
            noted=dict(tally.noted),
            examples=tally.examples,
            sample=measure(self._tokenizer, sample.texts(), encode=self._encoder.encode),
            shards=writer.shard_documents,
            shard_files={
                path.name: files.describe(path) for path in sorted(folder.glob("*.arrow"))
            },
            contaminated=self._contaminated.as_json(),
        )
        files.write_json(folder / RECORD, asdict(record))

    def _documents(
        self, part: Part, tally: Tally, told: Callable[[int], None]
    ) -> Iterator[tuple[str, str, npt.NDArray[np.uint32], str | None]]:
        """Id, origin, tokens and, of sources of text, the text of all documents."""
        reading = Reading(
            self._workshop.text_column, self._workshop.id_column, self._workshop.on_error, tally
        )
        if part.form == "text":
            spot = SpotCheck(self._encoder, self._tokenizer)
            for batch in _batches(part.pieces, reading):
                yield from self._encoded(self._clean(part.source, batch, tally), tally, spot)
                del batch  # before the next, perhaps very long, document is read
                told(tally.bytes_read)
            return
        self._rules = self._rules or SampleRules(self._tokenizer)
        for piece in part.pieces:
            for number, document in enumerate(
                read_piece(piece, reading=reading, rules=self._rules), 1
            ):
                assert isinstance(document, TokenisedDocument)
                yield document.id, document.origin, document.tokens, None
                if number % _READ_BLOCK_DOCUMENTS == 0:
                    told(tally.bytes_read)

    def _clean(self, source: str, batch: list[Document], tally: Tally) -> list[Document]:
        """The documents that share no text with evaluation data."""
        if self._workshop.evaluation is None:
            return batch
        kept = []
        found = self._workshop.evaluation.search([document.text for document in batch])
        for document, matches in zip(batch, found, strict=True):
            if matches:
                self._contaminated.add(source, document, matches)
                _leave_out(document, "text of evaluation data", tally)
            else:
                kept.append(document)
        return kept

    def _encoded(
        self, batch: list[Document], tally: Tally, spot: SpotCheck
    ) -> Iterator[tuple[str, str, npt.NDArray[np.uint32], str | None]]:
        texts = [document.text for document in batch]
        encoded = self._encoder.encode(texts)
        spot.look([document.id for document in batch], texts)
        for document, tokens in zip(batch, encoded, strict=True):
            if len(tokens):
                yield document.id, document.origin, tokens, document.text
            else:
                _leave_out(document, "text without tokens", tally)


def _leave_out(document: Document, reason: str, tally: Tally) -> None:
    """Count a document that was counted as read as left out."""
    tally.skip(reason, document.origin)
    tally.documents -= 1
    tally.text_bytes -= len(document.text.encode())


def _batches(pieces: tuple[Piece, ...], reading: Reading) -> Iterator[list[Document]]:
    """Documents with about a million characters at a time; a longer one comes alone."""
    batch: list[Document] = []
    characters = 0
    for piece in pieces:
        for document in read_piece(piece, reading=reading, rules=None):
            assert isinstance(document, Document)
            batch.append(document)
            characters += len(document.text)
            if characters >= BATCH_CHARACTERS or len(batch) >= BATCH_DOCUMENTS:
                yield batch
                batch, characters = [], 0
    if batch:
        yield batch
