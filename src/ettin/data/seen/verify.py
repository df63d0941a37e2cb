"""The order derived from recipe and corpus, against what a run recorded, step by step.

For every step the rows are derived, their tokens read, and the sums of the ledger's line computed
anew. A line that says otherwise is named, with the row where one alone differs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ettin.console import progress, read_json_lines
from ettin.data import ledger
from ettin.data.order import Rows
from ettin.data.seen.runs import LEDGER, SeenPhase, SeenRun, open_run
from ettin.files import Json
from ettin.schedules import rows_before

Int64Array = npt.NDArray[np.int64]

_STEPS_AT_ONCE = 64


@dataclass(frozen=True)
class DerivedStep:
    """A step as recipe and corpus give it.

    Attributes:
        step: of the run.
        at: its phase.
        phase_step: its number there.
        first_row: where in the phase's order it begins.
        rows: its rows.
        tokens: of all of them, one after another; int64.
        row_tokens: int64 [rows].
        unreadable: the place of a row that cannot be read; None when all can.
    """

    step: int
    at: SeenPhase
    phase_step: int
    first_row: int
    rows: Rows
    tokens: Int64Array
    row_tokens: Int64Array
    unreadable: int | None

    @property
    def sums(self) -> ledger.StepHash:
        """What its line should hold."""
        places = np.arange(len(self.rows.row), dtype=np.int64)
        return ledger.hash_rows(self.rows, places, self.tokens, self.row_tokens)


@dataclass
class Verified:
    """How a ledger compares with what is derived.

    Attributes:
        run: whose order is derived.
        path: the run whose ledger it is.
        steps: how many were compared.
        hash: derived, after the last of them.
        recorded: as the ledger has it; None when it has no line.
        differing: how many lines are not as derived.
        first: the first difference: `step`, `phase`, `phase_step`, `what`, and where one row alone
            differs `place`, `source`, `row`, `documents`; None when there is none.
    """

    run: SeenRun
    path: Path
    steps: int = 0
    hash: str = ledger.EMPTY
    recorded: str | None = None
    differing: int = 0
    first: Json | None = None

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.first is None

    def differs(self, step: int, what: str, row: Json | None = None) -> None:
        """Count a difference; the first is kept."""
        self.differing += 1
        if self.first is None:
            at, phase_step = self.run.phase_at(step)
            place = {"step": step, "phase": at.phase.name, "phase_step": phase_step}
            self.first = {**place, "what": what, **(row or {})}

    def facts(self) -> Json:
        """For `--json`."""
        return {
            "run": str(self.path.absolute()),
            "equal": self.equal,
            "hash": self.hash,
            "recorded": self.recorded,
            "steps": self.steps,
            "differing_steps": self.differing,
            "first_difference": self.first,
        }


@dataclass
class Verification:
    """What `verify` found.

    Attributes:
        run: the run against its own ledger.
        against: the other run's ledger against the order of this one; None when not asked for.
    """

    run: Verified
    against: Verified | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether all that was compared is equal."""
        return self.run.equal and (self.against is None or self.against.equal)


def verify(path: Path, *, corpus: Path | None = None, against: Path | None = None) -> Verification:
    """Compare a run's ledger, and another's, with the order that recipe and corpus give.

    Args:
        path: the run.
        corpus: where its corpus lies, if it has moved.
        against: another run, such as the twin; compared as far as both have come.

    Raises:
        InputError: not a run, or its corpus is not there or another one.
    """
    run = open_run(path, corpus=corpus)
    own = Verified(run, path)
    books = [_Book(own, run)]
    found = Verification(own)
    if against is not None:
        other = open_run(against, corpus=corpus)
        found.against = Verified(run, against)
        common = min(run.last_step, other.last_step)
        if other.corpus.fingerprint != run.corpus.fingerprint:
            found.against.differs(1, f"{against} was trained on another corpus")
        elif not common:
            found.against.differs(0, "one of the two has made no step, so nothing can be compared")
        else:
            books.append(_Book(found.against, other, until=common))
        if run.last_step != other.last_step:
            longer = run if run.last_step > other.last_step else other
            found.notes.append(
                f"{longer.path} goes on to step {longer.last_step}, after the other's last, "
                f"{common}"
            )
    if run.derived_order != run.order:
        own.differs(
            min(1, run.last_step),
            f"recipe and corpus give the order {run.derived_order}, the run recorded {run.order}",
        )
    for derived in derive(run):
        for book in books:
            book.compare(derived)
    return found


def derive(run: SeenRun) -> Iterator[DerivedStep]:
    """Every step of a run up to its last checkpoint, its tokens read from the corpus."""
    with progress("verify", total=run.last_step) as shown:
        for part in run.parts(after=0, until=run.last_step):
            at = part.phase
            for begin in range(part.first, part.last + 1, _STEPS_AT_ONCE):
                end = min(begin + _STEPS_AT_ONCE, part.last + 1)
                firsts = [rows_before(at.phase, each) for each in range(begin, end + 1)]
                rows = at.order.rows(firsts[0], firsts[-1] - firsts[0])
                for phase_step, (first, after) in enumerate(pairwise(firsts), start=begin):
                    own = Rows(*(column[first - firsts[0] : after - firsts[0]] for column in rows))
                    step = at.first_step + phase_step
                    yield DerivedStep(step, at, phase_step, first, own, *_read(run, at, own))
                    shown.update(step)


def _read(run: SeenRun, at: SeenPhase, rows: Rows) -> tuple[Int64Array, Int64Array, int | None]:
    """The tokens of rows, how many each has, and the place of one that cannot be read."""
    names = [source.name for source in at.order.sources]
    tables = [run.corpus.table(name, at.phase.context_length) for name in names]
    parts: list[Int64Array] = []
    unreadable = None
    for place, (source, row) in enumerate(
        zip(rows.source.tolist(), rows.row.tolist(), strict=True)
    ):
        try:
            tokens = tables[source].tokens(row)[0].astype(np.int64)
        except (IndexError, ValueError):  # a changed table names what is not there
            tokens, unreadable = np.zeros(0, dtype=np.int64), place
        parts.append(tokens)
    counts = np.array([len(part) for part in parts], dtype=np.int64)
    return np.concatenate(parts), counts, unreadable


class _Book:
    """A ledger that is read along with the derived steps."""

    def __init__(self, verified: Verified, run: SeenRun, *, until: int | None = None) -> None:
        self._verified, self._run, self._path = verified, run, run.path / LEDGER
        self._until = run.last_step if until is None else until
        self._lines = read_json_lines(self._path)
        self._checkpoints = {each.step: each for each in run.checkpoints}

    def compare(self, derived: DerivedStep) -> None:
        """Hold the line of a step against the step."""
        step, found = derived.step, self._verified
        if step > self._until:
            return
        found.steps = step
        if step > len(self._lines):
            found.differs(step, f"{self._path} has no line for step {step}")
            return
        line, before = self._lines[step - 1], found.recorded or ledger.EMPTY
        found.recorded = str(line.get("hash"))
        expected: Json = {
            "step": step,
            "phase": self._run.phase_at(step)[0].phase.name,
            "first_row": derived.first_row,
            "rows": len(derived.rows.row),
            "tokens": int(derived.row_tokens.sum()),
        }
        sums = derived.sums if "rows_hash" in line or "places_hash" in line else None
        if sums is not None:
            expected["rows_hash"], expected["places_hash"] = sums.words
            expected["hash"] = ledger.chain(before, sums)
            found.hash = ledger.chain(found.hash, sums)
        else:
            expected["hash"] = ledger.chain_of_before(before, derived.rows, derived.tokens)
            found.hash = ledger.chain_of_before(found.hash, derived.rows, derived.tokens)
        wrong = [name for name, value in expected.items() if line.get(name) != value]
        if wrong:
            self._say(derived, line, expected, wrong, sums)
        else:
            self._compare_checkpoint(step)

    def _say(
        self,
        derived: DerivedStep,
        line: Json,
        expected: Json,
        wrong: list[str],
        sums: ledger.StepHash | None,
    ) -> None:
        what = ", ".join(
            f"{name} is {line.get(name)!r}, derived {expected[name]!r}" for name in wrong
        )
        place = derived.unreadable
        if place is None and sums is not None and {"rows_hash", "places_hash"} & set(wrong):
            place = _place(line, sums, len(derived.rows.row))
        row = None if place is None else self._name_row(derived, place)
        self._verified.differs(derived.step, f"{self._path}: {what}", row)

    def _name_row(self, derived: DerivedStep, place: int) -> Json:
        """Which row stands at a place of a step, and the ids of the documents in it."""
        source = derived.at.order.sources[int(derived.rows.source[place])].name
        row = int(derived.rows.row[place])
        table = self._verified.run.corpus.table(source, derived.at.phase.context_length)
        known = len(table.documents)
        documents = [
            table.document_id(chunk.document)
            for chunk in table.chunks(row)
            if chunk.document < known
        ]
        return {
            "place": place,
            "source": source,
            "row": row,
            "documents": list(dict.fromkeys(documents)),
        }

    def _compare_checkpoint(self, step: int) -> None:
        """A checkpoint states the hash of the ledger's line that it was saved after."""
        at = self._checkpoints.get(step)
        if at is not None and at.ledger_hash not in (None, self._verified.recorded):
            self._verified.differs(
                step,
                f"checkpoint {at.tag} was saved with the hash {at.ledger_hash}, the ledger has "
                f"{self._verified.recorded}",
            )


def _place(line: Json, sums: ledger.StepHash, count: int) -> int | None:
    """The place of the one row that differs, if the line's sums can be read and say so."""
    try:
        recorded = ledger.StepHash(int(line["rows_hash"], 16), int(line["places_hash"], 16))
    except (TypeError, ValueError):
        return None
    return ledger.differing_place(recorded, sums, count)
