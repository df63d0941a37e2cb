"""An interval of a run: its rows, documents and sources, how much of each, and a hash of all."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ettin.data.seen.runs import SeenRun, open_run
from ettin.data.seen.slabs import IntervalHash, Slab, Tables, slabs
from ettin.errors import InputError
from ettin.files import Json

Int64Array = npt.NDArray[np.int64]


@dataclass
class Shown:
    """What a run was trained on between two of its steps.

    Attributes:
        run: which run.
        after: the step of the run behind which the interval begins.
        until: its last step.
        rows: `step`, `phase`, `phase_step`, `place` in the batch, `source`, `epoch` and `row` of
            each row in the order of training; at most the limit.
        documents: `id`, `source`, and `tokens` read in the interval, of each document in the order
            in which they first appear; at most the limit.
        row_count: all rows.
        document_count: all different documents.
        tokens: all tokens, BOS and EOS included, as the ledger counts them.
        sources: `rows`, `documents` and `tokens` of each source.
        hash: over all rows and document ids; see `slabs.IntervalHash`.
    """

    run: SeenRun
    after: int
    until: int
    rows: list[Json] = field(default_factory=list)
    documents: list[Json] = field(default_factory=list)
    row_count: int = 0
    document_count: int = 0
    tokens: int = 0
    sources: dict[str, dict[str, int]] = field(default_factory=dict)
    hash: str = ""

    def facts(self) -> Json:
        """For `--json`."""
        return {
            "run": str(self.run.path.absolute()),
            "after": self.run.name_of(self.after),
            "until": self.run.name_of(self.until),
            "steps": self.until - self.after,
            "counts": {
                "rows": self.row_count,
                "documents": self.document_count,
                "tokens": self.tokens,
            },
            "sources": self.sources,
            "rows": self.rows,
            "documents": self.documents,
            "hash": self.hash,
        }


def show(
    path: Path,
    *,
    corpus: Path | None = None,
    after: str | None = None,
    until: str | None = None,
    limit: int | None = None,
) -> Shown:
    """What a run was trained on after one tag, up to and including another.

    Args:
        path: the run.
        corpus: where its corpus lies, if it has moved.
        after: a tag; the beginning of the run unless given.
        until: a tag; the last checkpoint unless given.
        limit: the most rows, and the most documents, that are listed. All are counted and hashed.

    Raises:
        InputError: no run, no such tags, or `after` is not before `until`.
    """
    run = open_run(path, corpus=corpus)
    run.refuse_other_order()
    first = run.step_of(after) if after is not None else 0
    last = run.step_of(until) if until is not None else run.last_step
    if first > last:
        raise InputError(
            f"--after {after} stands after step {first} of the run, --until "
            f"{until or run.name_of(last)} after step {last}; give them the other way round"
        )
    return show_steps(run, after=first, until=last, limit=limit)


def show_steps(
    run: SeenRun, *, after: int, until: int, limit: int | None, tables: Tables | None = None
) -> Shown:
    """The same by steps of an opened run; `tables` of its corpus may be kept between calls."""
    tables = tables or Tables(run.corpus)
    shown, running = Shown(run, after, until), IntervalHash(run.corpus.source_names)
    # Zeros are not memory before they are touched.
    read = np.zeros(len(tables.documents), dtype=np.int64)
    listed: list[int] = []
    for slab in slabs(run, tables, after=after, until=until):
        running.add(slab)
        _list_rows(shown, slab, limit)
        _count(shown, slab)
        if limit is None or len(listed) < limit:
            documents = slab.held.document[read[slab.held.document] == 0]
            new, first = np.unique(documents, return_index=True)
            room = None if limit is None else limit - len(listed)
            listed += new[np.argsort(first)][:room].tolist()
        np.add.at(read, slab.held.document, slab.tokens)
    _count_documents(shown, read, tables)
    names = tables.documents.ids(np.array(listed, dtype=np.int64)).to_pylist()
    shown.documents = [
        {"id": name, "source": tables.documents.source_of(number), "tokens": int(read[number])}
        for number, name in zip(listed, names, strict=True)
    ]
    shown.hash = running.digits
    return shown


def _count(shown: Shown, slab: Slab) -> None:
    """Add the rows and tokens of a slab."""
    source_of_chunk = np.repeat(slab.rows.source, slab.held.counts)
    names = [source.name for source in slab.phase.order.sources]
    rows = np.bincount(slab.rows.source, minlength=len(names))
    # Sums of whole numbers below 2⁵³ are exact as floating-point numbers.
    tokens = np.bincount(source_of_chunk, weights=slab.tokens, minlength=len(names))
    for name, more_rows, more_tokens in zip(names, rows.tolist(), tokens.tolist(), strict=True):
        counted = shown.sources.setdefault(name, {"rows": 0, "documents": 0, "tokens": 0})
        counted["rows"] += more_rows
        counted["tokens"] += int(more_tokens)
    shown.row_count += len(slab.rows.row)
    shown.tokens += int(slab.tokens.sum())


def _count_documents(shown: Shown, read: Int64Array, tables: Tables) -> None:
    """Count the documents of which any token was read, by source."""
    firsts = tables.documents.first
    ends = [*list(firsts.values())[1:], len(read)]
    for (name, first), end in zip(firsts.items(), ends, strict=True):
        count = int(np.count_nonzero(read[first:end]))
        if count:
            shown.sources[name]["documents"] = count
        shown.document_count += count


def _list_rows(shown: Shown, slab: Slab, limit: int | None) -> None:
    """List the rows of a slab as far as the limit allows."""
    count = len(slab.rows.row)
    if limit is not None:
        count = min(count, limit - len(shown.rows))
    if count <= 0:
        return
    steps, places = slab.phase.steps_of(slab.first_position, count)
    names = [source.name for source in slab.phase.order.sources]
    columns: list[Any] = [steps, places, *(column[:count] for column in slab.rows)]
    for step, place, source, epoch, row in zip(*(each.tolist() for each in columns), strict=True):
        shown.rows.append(
            {
                "step": slab.phase.first_step + step,
                "phase": slab.phase.phase.name,
                "phase_step": step,
                "place": place,
                "source": names[source],
                "epoch": epoch,
                "row": row,
            }
        )
