"""One request for a corpus: what it reads, the parts that it needs, and what becomes of them.

    request = Request(
        sources, settings, Path("corpus"), tokenizer="tokenizer", encoder="auto", decontaminate=[]
    )
    request.make(request.parts, workers=4)
    summary = request.put_together(command=[])

Everything is found out when it is first asked for: the pieces of the sources, the encoder that is
compared on the beginnings of some of them, the parts, and the fingerprints of it all.
"""

import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from ettin import files
from ettin.console import log, progress
from ettin.data.chunking import MINIMUM_CONTEXT_LENGTH, OURS, ChunkRule
from ettin.data.clean.decontamination import Decontamination
from ettin.data.clean.decontamination_count import DROPPED, DecontaminationCount, report, summary
from ettin.data.corpus import KIND, TOKENIZER
from ettin.data.packing import HELD_OUT_LIMIT, Packing
from ettin.data.preparation.merging import Layout, MergedSource, merge_source
from ettin.data.preparation.parts import Part, group_parts, remembered_spans
from ettin.data.preparation.pieces import Piece, list_pieces, read_piece
from ettin.data.preparation.samples import merge, summarise, summarise_loss
from ettin.data.preparation.summary import (
    PreparedSummary,
    nothing_found,
    source_line,
    summarise_corpus,
    summarise_task,
)
from ettin.data.preparation.workers import make_parts, stopping
from ettin.data.preparation.working import PartRecord, Workshop, is_made
from ettin.data.reading.sources import OnError, Source
from ettin.data.reading.tally import Document, Reading, Tally
from ettin.errors import InputError
from ettin.fast_encoding import Wanted, choose_encoder
from ettin.gigatoken_encoding import gigatoken_version
from ettin.tokenizer import describe, load_tokenizer

_COMPARED_CHARACTERS = 1 << 18


@dataclass(frozen=True)
class Settings:
    """Everything a corpus depends on besides the text and the tokenizer."""

    context_lengths: tuple[int, ...]
    packing: Packing
    held_out: float
    text_column: str
    id_column: str | None
    on_error: OnError
    part_bytes: int
    rules: dict[int, ChunkRule]

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


class Request:
    """What was asked for: the parts that it needs, and what becomes of them."""

    def __init__(
        self,
        sources: list[Source],
        settings: Settings,
        out: Path,
        *,
        tokenizer: str | Path,
        encoder: Wanted,
        decontaminate: list[Path],
    ) -> None:
        self._sources, self._settings, self._out = sources, settings, out
        self._wanted_encoder = encoder
        self._folder = out.with_name(out.name + ".parts")
        # Mistakes are told in the order in which a person looks for them: text, tokenizer, sets.
        self._listed = self._list()
        self._tokenizer = load_tokenizer(tokenizer)
        self._evaluation = Decontamination.load(decontaminate) if decontaminate else None

    def finished(self) -> PreparedSummary:
        """The summary of a corpus that was made from the same request; any other is refused."""
        manifest = files.read_manifest(self._out, KIND)
        made_from = self.made_from
        different = [key for key in made_from if manifest["made_from"].get(key) != made_from[key]]
        if different:
            raise InputError(
                f"{self._out} is a finished corpus made from something else (different: "
                f"{', '.join(different)}); choose another --out or remove it"
            )
        shutil.rmtree(self._folder, ignore_errors=True)
        log.info("%s is finished already, made from the same text and settings", self._out)
        return summarise_corpus(self._out, manifest["facts"])

    def run_task(
        self, number: int, tasks: int, *, workers: int, command: list[str]
    ) -> PreparedSummary:
        """Make every n-th part; put the corpus together if all are there."""
        if files.is_finished(self._out):
            return self.finished()
        with stopping():
            mine = self.parts[number % tasks :: tasks]
            try:
                self.make(mine, workers)
            except (OSError, RuntimeError):
                # Who made the same parts may have been faster, and have taken the folder away.
                if not files.is_finished(self._out):
                    raise
                return self.finished()
            left = [part for part in self.parts if not is_made(self._folder, part)]
            if left and not files.is_finished(self._out):
                records = [PartRecord.read(self._folder / part.identity) for part in mine]
                return summarise_task(self._out, records, len(left))
            with files.locked(self._out, wait=True):  # another task may have made the last part too
                if files.is_finished(self._out):
                    return self.finished()
                return self.put_together(command)

    @cached_property
    def parts(self) -> list[Part]:
        """All parts of all sources."""
        return [part for parts in self._planned.values() for part in parts]

    @cached_property
    def made_from(self) -> files.Json:
        """What identifies the request in the manifest."""
        lengths = list(self._settings.context_lengths)
        against = {"evaluation": self._evaluation.fingerprint} if self._evaluation else {}
        return against | {
            "tokenizer": self._tokenizer.fingerprint,
            "text": files.fingerprint(
                {
                    name: [piece.identity for piece in pieces]
                    for name, (pieces, _) in self._listed.items()
                }
            ),
            "settings": asdict(self._settings) | {"context_lengths": lengths, "rules": self._rules},
        }

    @property
    def _rules(self) -> files.Json:
        """The chunk rules other than ours, as manifests state them."""
        rules = self._settings.rules
        return {str(length): asdict(rule) for length, rule in rules.items() if rule != OURS}

    def make(self, parts: list[Part], workers: int) -> None:
        """Have parts made."""
        total = sum(part.size for part in parts)
        with progress("preparing", total=total, unit="B") as shown:
            make_parts(parts, self._workshop, workers=workers, shown=shown)

    def put_together(self, command: list[str]) -> PreparedSummary:
        """Finished parts → corpus; they are removed when it is there."""
        settings, known = self._settings, dict[str, files.Json]()
        layout = Layout(
            settings.context_lengths, settings.packing, settings.held_out, settings.rules
        )
        with files.staging(self._out) as partial:
            merged: dict[str, MergedSource] = {}
            for source in self._sources:
                one = merged[source.name] = merge_source(
                    source.name,
                    self._planned[source.name],
                    self._listed[source.name][1],
                    layout=layout,
                    folder=self._folder,
                    corpus=partial,
                )
                if not one.facts:
                    raise InputError(nothing_found(source, one.tally))
                known |= one.known
                log.info("%s", source_line(source.name, one.facts, one.tally))
            self._tokenizer.save(partial / TOKENIZER, closing=True)
            facts = {
                "tokenizer": describe(self._tokenizer) | self._measured(merged),
                "encoder": self._workshop.encoder,
                "context_lengths": list(settings.context_lengths),
                "packing": settings.packing,
                "chunk_rules": self._rules,
                "held_out": settings.held_out,
                "sources": {name: one.facts for name, one in merged.items()},
            }
            if self._evaluation:
                facts["decontamination"] = self._report(self._evaluation, merged, partial)
            files.write_manifest(
                partial, KIND, command=command, made_from=self.made_from, facts=facts, known=known
            )
        shutil.rmtree(self._folder, ignore_errors=True)
        return summarise_corpus(self._out, facts)

    def _report(
        self, evaluation: Decontamination, merged: dict[str, MergedSource], corpus: Path
    ) -> files.Json:
        """Write the list of documents that share text with evaluation data; returns its summary."""
        count = DecontaminationCount()
        for one in merged.values():
            count.merge(one.contaminated)
        files.write_atomic(corpus / DROPPED, count.as_lines())
        facts = report(evaluation, count)
        for line in summary(facts):
            log.info("%s", line)
        return facts

    @cached_property
    def _planned(self) -> dict[str, list[Part]]:
        """The parts of each source."""
        depends_on = self._workshop.depends_on(self._tokenizer.fingerprint)
        size = self._settings.part_bytes
        return {
            source.name: group_parts(
                source, self._listed[source.name][0], depends_on=depends_on, part_bytes=size
            )
            for source in self._sources
        }

    def _list(self) -> dict[str, tuple[list[Piece], Tally]]:
        """The pieces of each source, and what was left out when it was listed."""
        listed = {}
        size = self._settings.part_bytes
        spans_of = remembered_spans(self._folder, size)
        for source in self._sources:
            tally = Tally()
            reading = self._reading(self._settings.on_error, tally)
            pieces = list_pieces(source, reading, spans_of=spans_of, piece_bytes=size)
            if not pieces:
                raise InputError(nothing_found(source, tally))
            listed[source.name] = (pieces, tally)
        return listed

    @cached_property
    def _workshop(self) -> Workshop:
        """What the makers of parts need to know."""
        settings, tokenizer = self._settings, self._tokenizer
        return Workshop(
            folder=self._folder,
            tokenizer=(tokenizer.backend.to_str(), tokenizer.names, tokenizer.added),
            text_column=settings.text_column,
            id_column=settings.id_column,
            on_error=settings.on_error,
            encoder=choose_encoder(
                tokenizer, self._beginnings(), wanted=self._wanted_encoder
            ).identity,
            evaluation=self._evaluation,
        )

    def _beginnings(self) -> list[str]:
        """Some text of each source, to compare encoders on."""
        texts: list[str] = []
        if gigatoken_version() is None:
            return texts
        for source in (source for source in self._sources if source.form == "text"):
            reading = self._reading("skip", Tally())
            pieces, _ = self._listed[source.name]
            documents = (
                each for one in pieces for each in read_piece(one, reading=reading, rules=None)
            )
            taken = 0
            for document in documents:
                assert isinstance(document, Document)
                texts.append(document.text[:_COMPARED_CHARACTERS])
                taken += len(texts[-1])
                if taken >= _COMPARED_CHARACTERS:
                    break
        return texts

    def _reading(self, on_error: OnError, tally: Tally) -> Reading:
        return Reading(self._settings.text_column, self._settings.id_column, on_error, tally)

    def _measured(self, merged: dict[str, MergedSource]) -> files.Json:
        """Fertility, and what a lossy tokenizer does not give back, on the sample.

        Where tokens were given, what the tokenizer lost is gone, and only fertility is measured.
        """
        measured: files.Json = summarise(merge(one.sample for one in merged.values()))
        texts = [merged[source.name].sample for source in self._sources if source.form == "text"]
        if not self._tokenizer.is_lossless and texts:
            loss = measured["loss"] = summarise_loss(merge(texts))
            log.warning(
                "this tokenizer does not keep all text: %.1f %% of %d sampled documents come back "
                "changed, %.3g %% of their characters are lost",
                100 * loss["documents"], loss["sampled"], 100 * loss["characters"],
            )  # fmt: skip
        return measured
