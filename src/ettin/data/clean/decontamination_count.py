"""What decontamination dropped and why: counted by workers, merged, reported, and listed.

    count = DecontaminationCount()
    count.add("books", document, matches)                      # for each document that is dropped
    count.merge(DecontaminationCount.from_json(other))         # of another worker
    facts = report(decontamination, count)                     # for the manifest
    files.write_atomic(corpus / DROPPED, count.as_lines())     # every dropped document

Neither report nor list depends on how the work was split or in which order counts were merged.

`facts`:

    ngram_words, shortest_words, fingerprint
    documents, bytes            dropped, of all sources; `bytes` of UTF-8 text
    sources.<name>              documents, bytes
    sets.<name>                 records, looked_for, ngrams (see `EvaluationSet`); documents and
                                bytes that were dropped for it; met, how many records were found in
                                dropped documents; share, of those looked for; examples, five;
                                frequent, the n-grams that most documents were dropped for

A line of the list is one document: source, document (its id), origin, bytes, and matches, each with
set, place, ngram and records (how many of the set it has an n-gram in common with).
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from ettin import files
from ettin.data.clean.decontamination import Decontamination, Match
from ettin.data.reading.tally import EXAMPLES_KEPT, Document

DROPPED = "decontamination.jsonl"
"""The file of a corpus that lists what was dropped."""

FREQUENT_DOCUMENTS = 10
"""N-grams that more documents than this have are ignored by Brown et al. (2020), and told by us."""


class _Reason(NamedTuple):
    """One match of a dropped document."""

    set: str
    place: str
    ngram: str
    records: int


class _Dropped(NamedTuple):
    """One dropped document."""

    source: str
    document: str
    origin: str
    bytes: int
    reasons: tuple[_Reason, ...]


@dataclass
class DecontaminationCount:
    """Documents that were dropped, and the evaluation records that were found in them."""

    _dropped: list[_Dropped] = field(default_factory=list)
    _met: dict[str, set[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._dropped)

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the texts of all dropped documents."""
        return sum(each.bytes for each in self._dropped)

    def add(self, source: str, document: Document, matches: list[Match]) -> None:
        """Count a document that is dropped.

        Args:
            source: the name of its source.
            document: with the id that it would have in the corpus.
            matches: what `Decontamination.search` found in it; not empty.
        """
        reasons = tuple(_Reason(*match[:3], len(match.records)) for match in matches)
        size = len(document.text) if document.text.isascii() else len(document.text.encode())
        self._dropped.append(_Dropped(source, document.id, document.origin, size, reasons))
        for match in matches:
            self._met.setdefault(match.set, set()).update(match.records)

    def merge(self, other: "DecontaminationCount") -> None:
        """Add what another worker has counted in other documents."""
        self._dropped += other._dropped
        for name, records in other._met.items():
            self._met.setdefault(name, set()).update(records)

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file; equal counts give equal JSON."""
        return {
            "dropped": [list(each) for each in self._sorted()],
            "met": {name: sorted(self._met[name]) for name in sorted(self._met)},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The count that `as_json` described."""
        dropped = [
            _Dropped(source, document, origin, size, tuple(_Reason(*each) for each in reasons))
            for source, document, origin, size, reasons in value["dropped"]
        ]
        return cls(dropped, {name: set(records) for name, records in value["met"].items()})

    def as_lines(self) -> str:
        """JSON lines, one a dropped document, by source and place."""
        return "".join(
            files.canonical_json({
                "source": each.source,
                "document": each.document,
                "origin": each.origin,
                "bytes": each.bytes,
                "matches": [reason._asdict() for reason in each.reasons],
            }).decode() + "\n"
            for each in self._sorted()
        )  # fmt: skip

    def _sorted(self) -> list[_Dropped]:
        return sorted(self._dropped, key=lambda each: (each.source, _place(each.origin), each))


def report(decontamination: Decontamination, count: DecontaminationCount) -> dict[str, Any]:
    """The facts of a manifest; see the module.

    Args:
        decontamination: what was looked for.
        count: what was found, of all documents.
    """
    dropped = count._sorted()
    return {
        "ngram_words": decontamination.ngram_words,
        "shortest_words": decontamination.shortest_words,
        "fingerprint": decontamination.fingerprint,
        **_size(dropped),
        "sources": {
            name: _size(each for each in dropped if each.source == name)
            for name in sorted({each.source for each in dropped})
        },
        "sets": {
            each.name: {
                "records": each.records,
                "looked_for": each.looked_for,
                "ngrams": each.ngrams,
                **_of_set(each.name, dropped),
                "met": len(count._met.get(each.name, ())),
                "share": len(count._met.get(each.name, ())) / max(each.looked_for, 1),
            }
            for each in decontamination.sets
        },
    }


def summary(facts: dict[str, Any]) -> list[str]:
    """A line for the log about each set that was met, and about n-grams that look like boilerplate.

    Args:
        facts: what `report` gave.
    """
    lines = [f"decontamination dropped {facts['documents']:,} documents ({facts['bytes']:,} bytes)"]
    for name, each in facts["sets"].items():
        if each["documents"]:
            lines.append(
                f"{name}: {each['documents']:,} documents dropped, which hold text of "
                f"{each['met']:,} of {each['looked_for']:,} records ({100 * each['share']:.1f} %)"
            )
        lines += [
            f"{name}: {common['documents']:,} documents were dropped for the same words, which may "
            f"be boilerplate: {common['ngram']!r} ({common['place']})"
            for common in each["frequent"]
            if common["documents"] > FREQUENT_DOCUMENTS
        ]
    return lines


def _size(dropped: Iterable[_Dropped]) -> dict[str, int]:
    sizes = [each.bytes for each in dropped]
    return {"documents": len(sizes), "bytes": sum(sizes)}


def _of_set(name: str, dropped: list[_Dropped]) -> dict[str, Any]:
    ours = [(each, reason) for each in dropped for reason in each.reasons if reason.set == name]
    frequent = Counter((reason.ngram, reason.place) for _, reason in ours)
    most = sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES_KEPT]
    return {
        **_size(each for each, _ in ours),
        "examples": [
            {
                "source": each.source,
                "document": each.document,
                "place": reason.place,
                "ngram": reason.ngram,
            }
            for each, reason in ours[:EXAMPLES_KEPT]
        ],
        "frequent": [
            {"ngram": ngram, "place": place, "documents": documents}
            for (ngram, place), documents in most
        ],
    }


def _place(origin: str) -> list[tuple[int, str]]:
    """A key that sorts rows of a file by their numbers."""
    return [
        (int(part), "") if part.isdecimal() and part.isascii() else (-1, part)
        for part in re.split(r"([0-9]+)", origin)
    ]
