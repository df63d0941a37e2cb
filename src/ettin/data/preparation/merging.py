"""Finished parts → corpus: one folder a source, ids unique, documents held out, rows laid out.

    merged = merge_source("books", parts, listing, settings=settings, folder=parts_folder, corpus=…)

Token shards are linked, not copied, into the corpus. An id that comes twice in a source is given
`#2`, `#3` … at each later document; only the shards of those are written again. What is needed of
all documents at once is 16 bytes of each: the hash of its id, and its tokens.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ettin import files
from ettin.data.chunking import ChunkRule, skipped_tokens
from ettin.data.clean.decontamination_count import DecontaminationCount
from ettin.data.corpus_writing import rename_documents, write_rows
from ettin.data.documents import Documents, shard_name
from ettin.data.packing import Int64Array, Packing, hold_out, id_hash
from ettin.data.preparation.parts import Part
from ettin.data.preparation.samples import Measured, merge
from ettin.data.preparation.working import HASHES, PartRecord
from ettin.data.reading.tally import EXAMPLES_KEPT, Tally
from ettin.errors import InputError

HashArray = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Layout:
    """How the documents of a source become rows.

    Attributes:
        context_lengths: the row tables to make, in tokens.
        packing: see `packing.plan_rows`.
        held_out: the share of the tokens kept for validation.
        rules: how documents are cut, by context length.
    """

    context_lengths: tuple[int, ...]
    packing: Packing
    held_out: float
    rules: Mapping[int, ChunkRule]


@dataclass(frozen=True)
class MergedSource:
    """One source of a corpus.

    Attributes:
        facts: what the manifest says of it.
        tally: what reading met, over all parts.
        sample: what its sampled documents tell of the tokenizer.
        known: size and hash of its token shards, by their names in the corpus.
        contaminated: what was left out for sharing text with evaluation data.
    """

    facts: files.Json
    tally: Tally
    sample: list[Measured]
    known: dict[str, files.Json]
    contaminated: DecontaminationCount


def merge_tallies(listing: Tally, records: Iterable[PartRecord]) -> Tally:
    """What reading met in a source: when it was listed, and in its parts, in their order."""
    whole = Tally()
    whole.skipped.update(listing.skipped)
    whole.noted.update(listing.noted)
    whole.examples.update({reason: list(places) for reason, places in listing.examples.items()})
    for record in records:
        whole.documents += record.documents
        whole.text_bytes += record.text_bytes
        whole.skipped.update(record.skipped)
        whole.noted.update(record.noted)
        for reason, places in record.examples.items():
            kept = whole.examples.setdefault(reason, [])
            kept += [place for place in places if place not in kept]
            del kept[EXAMPLES_KEPT:]
    return whole


def merge_source(
    name: str, parts: list[Part], listing: Tally, *, layout: Layout, folder: Path, corpus: Path
) -> MergedSource:
    """Put the finished parts of a source together.

    Args:
        name: of the source.
        parts: all of them, in the order of its documents.
        listing: what was met when it was listed.
        layout: how documents become rows.
        folder: where the parts are.
        corpus: the corpus that is being made.

    Returns:
        The source; without documents its facts are empty.

    Raises:
        InputError: too little text to hold any out.
    """
    homes = [folder / part.identity for part in parts]
    records = [PartRecord.read(home) for home in homes]
    tally = merge_tallies(listing, records)
    sample = merge(record.sample for record in records)
    contaminated = DecontaminationCount()
    for record in records:
        contaminated.merge(DecontaminationCount.from_json(record.contaminated))
    if not tally.documents:
        return MergedSource({}, tally, sample, {}, contaminated)
    target = corpus / name
    target.mkdir(parents=True)
    hashes: HashArray = np.concatenate([np.load(home / HASHES) for home in homes])
    shards = [
        (home / shard_name(number), documents, record.shard_files[shard_name(number)])
        for home, record in zip(homes, records, strict=True)
        for number, documents in enumerate(record.shards)
    ]
    shard_documents = [documents for _, documents, _ in shards]
    made = [Documents(home, record.shards) for home, record in zip(homes, records, strict=True)]
    renamed = _by_shard(_new_ids(made, hashes, tally), shard_documents)
    known: dict[str, files.Json] = {}
    for number, (path, _, described) in enumerate(shards):
        own = target / shard_name(number)
        if number in renamed:
            rename_documents(path, own, renamed[number])
        else:
            _link(path, own)
            known[f"{name}/{own.name}"] = described
    documents = Documents(target, shard_documents)
    try:
        facts = _lay_out(documents, hashes, layout, target)
    except InputError as error:
        raise InputError(f"source {name}: {error}") from error
    facts |= {
        "bytes": tally.text_bytes,
        "skipped": dict(tally.skipped),
        "noted": dict(tally.noted),
        "examples": tally.examples,
        "shards": shard_documents,
    }
    return MergedSource(facts, tally, sample, known, contaminated)


def _new_ids(made: list[Documents], hashes: HashArray, tally: Tally) -> dict[int, str]:
    """New ids for documents whose id came before, by number in the source; mends their hashes."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    later = np.sort(order[1:][ordered[1:] == ordered[:-1]]).tolist()
    first = np.cumsum([0, *(len(documents) for documents in made)])
    renamed: dict[int, str] = {}
    times: dict[int, int] = {}
    taken: set[int] = set()
    for document in later:
        part = int(np.searchsorted(first, document, "right")) - 1
        inside = document - int(first[part])
        name, hashed = made[part].id(inside), int(hashes[document])
        new = hashed
        while new in taken or _holds(ordered, new):
            times[hashed] = times.get(hashed, 1) + 1
            new = id_hash(f"{name}#{times[hashed]}")
        taken.add(new)
        hashes[document] = new
        renamed[document] = f"{name}#{times[hashed]}"
        tally.note("duplicate ids, made unique", f"{made[part].origin(inside)} {name!r}")
    return renamed


def _holds(ordered: HashArray, hashed: int) -> bool:
    place = int(np.searchsorted(ordered, np.uint64(hashed)))
    return place < len(ordered) and int(ordered[place]) == hashed


def _by_shard(renamed: dict[int, str], shard_documents: list[int]) -> dict[int, dict[int, str]]:
    """New ids by shard, and by number in it."""
    first = np.cumsum([0, *shard_documents])
    shards: dict[int, dict[int, str]] = {}
    for document, name in renamed.items():
        shard = int(np.searchsorted(first, document, "right")) - 1
        shards.setdefault(shard, {})[document - int(first[shard])] = name
    return shards


def _lay_out(
    documents: Documents, hashes: HashArray, layout: Layout, folder: Path
) -> dict[str, Any]:
    """Hold out, pack, and write the row tables; returns what the manifest says of them."""
    counts = documents.token_counts
    order = _packing_order(documents, hashes)
    kept_out = hold_out(hashes, counts, fraction=layout.held_out)
    rows: dict[str, Any] = {}
    for length in layout.context_lengths:
        made = []
        for held in (False, True):
            chosen = order[kept_out[order] == held]
            made.append(write_rows(
                folder, chosen, counts[chosen], context_length=length,
                packing=layout.packing, held_out=held, rule=layout.rules[length],
                hashes=hashes[chosen],
            ))  # fmt: skip
        (train_rows, train_tokens), (held_out_rows, _) = made
        rows[str(length)] = {
            "train": train_rows,
            "held_out": held_out_rows,
            "tokens": train_tokens,
            "fill": train_tokens / (train_rows * length),
            "skipped_tokens": skipped_tokens(
                counts, context_length=length, rule=layout.rules[length]
            ),
        }
    return {
        "documents": len(counts),
        "tokens": int(counts.sum()),
        "held_out_documents": int(kept_out.sum()),
        "held_out_tokens": int(counts[kept_out].sum()),
        "rows": rows,
    }


def _packing_order(documents: Documents, hashes: HashArray) -> Int64Array:
    """Documents by shard and hash."""
    number = np.repeat(np.arange(len(documents.shard_documents)), documents.shard_documents)
    return np.lexsort((hashes, number)).astype(np.int64)


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, target)
