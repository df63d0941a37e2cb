"""A document of a run: every step that was trained on a piece of it.

finder = Finder(open_run(Path("runs/encoder")))
finder.find("poe/raven.txt").steps[0]
# {"step": 12, "phase": "pretraining", "phase_step": 12, "checkpoint": "step15", "epoch": 0,
#  "place": 3, "position": 69, "source": "books", "row": 41, "tokens": [0, 62]}
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ettin.data.corpus import rows_path
from ettin.data.seen.rows import RowsOfDocument, SeenRows
from ettin.data.seen.runs import SeenPhase, SeenRun, open_run
from ettin.data.seen.slabs import Tables
from ettin.errors import InputError
from ettin.files import Json
from ettin.schedules import rows_before


@dataclass
class Found:
    """When a run was trained on a document.

    Attributes:
        id: of the document.
        sources: `source`, `tokens` (its text, BOS and EOS not counted) and `held_out` of each
            document with this id: one, unless sources share ids.
        steps: one entry for each piece of it in each step, in the order of training: `step` of
            the run, `phase`, `phase_step`, `checkpoint` (the first that had seen it; None when
            none has yet), `epoch`, `place` in the batch, `position` in the phase's order, `source`,
            `row`, and `tokens`, first and end of the piece in the document's text.
    """

    id: str
    sources: list[Json] = field(default_factory=list)
    steps: list[Json] = field(default_factory=list)

    @property
    def held_out(self) -> bool:
        """Whether it was kept for validation wherever it stands."""
        return all(each["held_out"] for each in self.sources)


class Finder:
    """Answers for one run after another question about documents.

    Args:
        run: the run.
    """

    def __init__(self, run: SeenRun) -> None:
        run.refuse_other_order()
        self._run, self._tables = run, Tables(run.corpus)
        self._parts = list(run.parts(after=0, until=run.last_step))

    def find(self, document_id: str) -> Found:
        """Every step in which any piece of a document was trained on.

        Raises:
            InputError: the corpus has no such document; the nearest ids are named.
        """
        documents = self._tables.documents
        numbers = documents.find(document_id)
        if not numbers:
            listed = ", ".join(repr(each) for each in documents.nearest(document_id))
            raise InputError(
                f"{self._run.corpus.path} has no document {document_id!r}; the nearest: {listed}"
            )
        found = Found(document_id)
        for number in numbers:
            source = documents.source_of(number)
            own = number - documents.first[source]
            size = int(documents.sizes(np.array([number]))[0])
            held_out = self._is_held_out(source, own)
            found.sources.append({"source": source, "tokens": size, "held_out": held_out})
            for part in self._parts:
                if any(each.name == source for each in part.phase.order.sources):
                    pieces = self._tables.rows(part.phase).rows_with(source, own)
                    found.steps += self._steps(part.phase, part.rows, source, pieces)
        found.steps.sort(key=lambda each: (each["step"], each["place"], each["tokens"]))
        return found

    def _steps(
        self, at: SeenPhase, consumed: int, source: str, pieces: RowsOfDocument
    ) -> list[Json]:
        """The steps of a phase, of which so many rows were consumed, that hold pieces."""
        epochs = at.order.epochs_until(source, consumed)
        positions = at.order.positions(source, pieces.row, epochs=epochs).tolist()
        steps: list[Json] = []
        columns = (each.tolist() for each in pieces)
        for row, start, length, found in zip(*columns, positions, strict=True):
            for epoch, position in enumerate(found):
                if position >= consumed:
                    continue
                phase_step = at.step_of(position)
                steps.append(
                    {
                        "step": at.first_step + phase_step,
                        "phase": at.phase.name,
                        "phase_step": phase_step,
                        "checkpoint": self._run.first_checkpoint(at.first_step + phase_step),
                        "epoch": epoch,
                        "place": position - rows_before(at.phase, phase_step),
                        "position": position,
                        "source": source,
                        "row": row,
                        "tokens": [start, start + length],
                    }
                )
        return steps

    def _is_held_out(self, source: str, document: int) -> bool:
        """Whether a document stands among the rows for validation."""
        corpus, length = self._run.corpus, self._run.recipe.phases[0].context_length
        if not rows_path(corpus.path / source, length, "held-out").is_file():
            return False
        rows = SeenRows(
            corpus, (source,), length, documents=self._tables.documents, split="held-out"
        )
        return bool(len(rows.rows_with(source, document).row))


def find(path: Path, document_id: str, *, corpus: Path | None = None) -> Found:
    """When a run was trained on a document.

    Args:
        path: the run.
        document_id: as in the corpus.
        corpus: where the corpus lies, if it has moved.

    Raises:
        InputError: no run, or no such document.
    """
    return Finder(open_run(path, corpus=corpus)).find(document_id)
