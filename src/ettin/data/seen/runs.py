"""A run opened to be asked what it had seen: recipe, corpus, and the order of each phase.

    run = open_run(Path("runs/encoder"))
    run.step_of("ext4")                   # 18: the checkpoint stands after step 18 of the run
    for part in run.parts(after=14, until=18):
        part.phase.order.rows(part.first_position, part.rows)

An unfinished run can be asked about everything up to its last checkpoint.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ettin import files
from ettin.data.corpus import Corpus
from ettin.data.phase_orders import fingerprint_of, order_of
from ettin.data.stored_order import AnyOrder
from ettin.errors import InputError, nearest
from ettin.files import Json
from ettin.recipe import Phase, Recipe
from ettin.recipe_file import load_recipe
from ettin.schedules import TAG_PREFIXES, place, rows_before, tag, total_steps

Int64Array = npt.NDArray[np.int64]

LEDGER = "ledger.jsonl"
_TAG = re.compile(r"([a-z]+)(\d{1,18})")


@dataclass(frozen=True)
class SeenPhase:
    """One phase of a run.

    Attributes:
        phase: as the recipe has it.
        order: of its rows.
        first_step: steps of the run before it.
        steps: how many it has.
    """

    phase: Phase
    order: AnyOrder
    first_step: int
    steps: int

    def step_of(self, position: int) -> int:
        """The step of the phase that trains on a position of its order."""
        steps = range(1, self.steps + 1)
        return bisect_right(steps, position, key=lambda step: rows_before(self.phase, step))

    def steps_of(self, first: int, count: int) -> tuple[Int64Array, Int64Array]:
        """Steps of the phase, and places in their batches, of positions that follow one another.

        Args:
            first: the first position.
            count: how many.

        Returns:
            Two int64 arrays [count].
        """
        steps = np.empty(count, dtype=np.int64)
        starts = np.empty(count, dtype=np.int64)
        step, filled = self.step_of(first), 0
        while filled < count:
            end = min(rows_before(self.phase, step + 1) - first, count)
            steps[filled:end], starts[filled:end] = step, rows_before(self.phase, step)
            step, filled = step + 1, end
        return steps, np.arange(first, first + count, dtype=np.int64) - starts


@dataclass(frozen=True)
class Part:
    """Steps of a run that belong to one phase.

    Attributes:
        phase: the phase.
        first: its first step asked for, counted in the phase.
        last: its last one.
    """

    phase: SeenPhase
    first: int
    last: int

    @property
    def first_position(self) -> int:
        """Where in the order of the phase it begins."""
        return rows_before(self.phase.phase, self.first)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return rows_before(self.phase.phase, self.last + 1) - self.first_position


@dataclass(frozen=True)
class SeenCheckpoint:
    """A checkpoint of a run: its tag, the steps of the run behind it, the ledger's hash there."""

    tag: str
    step: int
    ledger_hash: str | None


@dataclass(frozen=True)
class SeenRun:
    """A run and what it was trained on.

    Attributes:
        path: its directory.
        recipe: as the run keeps it.
        corpus: of the fingerprint that the run recorded.
        phases: with their orders.
        checkpoints: oldest first.
        manifest: None while it is unfinished.
        order: the fingerprint of all orders that the run recorded.
    """

    path: Path
    recipe: Recipe
    corpus: Corpus
    phases: tuple[SeenPhase, ...]
    checkpoints: tuple[SeenCheckpoint, ...]
    manifest: Json | None
    order: str

    @cached_property
    def last_step(self) -> int:
        """The last step that can be asked about: of the end, or of the last checkpoint."""
        if self.manifest is not None:
            return self.phases[-1].first_step + self.phases[-1].steps
        return max((each.step for each in self.checkpoints), default=0)

    @property
    def derived_order(self) -> str:
        """The fingerprint of the orders that recipe and corpus give; the run recorded `order`."""
        return fingerprint_of([each.order for each in self.phases])

    def refuse_other_order(self) -> None:
        """Refuse to answer from an order that is not the one trained on.

        Raises:
            InputError: recipe and corpus give another one.
        """
        if self.derived_order != self.order:
            raise InputError(
                f"{self.path}: its recipe.yaml and the corpus give the order "
                f"{self.derived_order}, the run recorded {self.order}: the recipe was changed "
                "since, or this ettin orders rows differently; restore recipe.yaml, or use the "
                "ettin that trained the run"
            )

    def phase_at(self, step: int) -> tuple[SeenPhase, int]:
        """The phase of a step of the run, and its number in the phase."""
        found = place(self.recipe.phases, step)
        return self.phases[found.phase], found.phase_step

    def name_of(self, step: int) -> str:
        """The tag that a checkpoint after a step of the run has."""
        at, phase_step = self.phase_at(step)
        return tag(at.phase, phase_step)

    def step_of(self, name: str) -> int:
        """The step of the run after which a tag stands, whether there is a checkpoint or not.

        Raises:
            InputError: no such step, or the run has not come so far.
        """
        known = [each.tag for each in self.checkpoints]
        matched = _TAG.fullmatch(name)
        for at in self.phases if matched else ():
            assert matched is not None
            if TAG_PREFIXES[at.phase.name] == matched[1] and int(matched[2]) <= at.steps:
                step = at.first_step + int(matched[2])
                if step > self.last_step:
                    raise InputError(
                        f"{self.path} is unfinished and its last checkpoint is "
                        f"{self.name_of(self.last_step)}; {name} is not reached"
                    )
                return step
        hint = nearest(name, known) if known else "it has no checkpoints yet"
        raise InputError(f"{self.path} has no step {name!r}; {hint}")

    def first_checkpoint(self, step: int) -> str | None:
        """The tag of the first checkpoint that had seen a step; None when there is none."""
        steps = [each.step for each in self.checkpoints]
        number = bisect_left(steps, step)
        return self.checkpoints[number].tag if number < len(steps) else None

    def parts(self, *, after: int, until: int) -> Iterator[Part]:
        """The steps after one step of the run, up to and including another, phase by phase."""
        for each in self.phases:
            first = max(after - each.first_step, 0) + 1
            last = min(until - each.first_step, each.steps)
            if first <= last:
                yield Part(each, first, last)


def open_run(path: Path, *, corpus: Path | None = None) -> SeenRun:
    """Open a run, finished or not.

    Args:
        path: its directory.
        corpus: where its corpus lies now; where it lay then unless given.

    Raises:
        InputError: not a run; the corpus or a stored order is not there, or is another one.
    """
    began = path / "start.json"
    if not began.is_file():
        raise InputError(f"{path} is not a run: it has no start.json; give what `ettin train` made")
    start = files.read_json(began)
    manifest = files.read_manifest(path, "run") if files.is_finished(path) else None
    recipe = load_recipe(path / "recipe.yaml")
    opened = _open_corpus(path, start["corpus"], corpus)
    firsts = accumulate((total_steps(phase) for phase in recipe.phases), initial=0)
    places = {name: Path(each["path"]) for name, each in start.get("row_orders", {}).items()}
    orders = [
        order_of(recipe, phase, opened, stored_at=places.get(phase.name)) for phase in recipe.phases
    ]
    phases = tuple(
        SeenPhase(phase, order, first, total_steps(phase))
        for phase, order, first in zip(recipe.phases, orders, firsts, strict=False)
    )
    checkpoints = _checkpoints(path, phases, manifest)
    return SeenRun(path, recipe, opened, phases, checkpoints, manifest, str(start["order"]))


def _open_corpus(run: Path, recorded: Json, given: Path | None) -> Corpus:
    """The corpus of a run.

    Raises:
        InputError: it is not there, or is another one.
    """
    where = given or Path(str(recorded.get("path", "")))
    if given is None and not where.is_dir():
        raise InputError(f"the corpus of {run}, {where}, is not there; give --corpus CORPUS")
    corpus = Corpus.open(where)
    if corpus.fingerprint != recorded["fingerprint"]:
        raise InputError(
            f"{where} is not the corpus that {run} was trained on: its fingerprint is "
            f"{corpus.fingerprint}, the run recorded {recorded['fingerprint']}; "
            "give --corpus CORPUS"
        )
    return corpus


def _checkpoints(
    run: Path, phases: tuple[SeenPhase, ...], manifest: Json | None
) -> tuple[SeenCheckpoint, ...]:
    """Those that the manifest of a finished run names, whether they are still there or not; those
    that an unfinished run has.
    """
    folder = run / "checkpoints"
    names = [each.name for each in folder.glob("*") if files.is_finished(each)]
    if manifest is not None:
        names = [str(name) for name in manifest["facts"]["checkpoints"]]
    found = []
    for name in names:
        matched = _TAG.fullmatch(name)
        step = next(
            (
                at.first_step + int(matched[2])
                for at in phases
                if matched and TAG_PREFIXES[at.phase.name] == matched[1]
            ),
            None,
        )
        if step is not None:
            state = files.inside(folder, name) / "state.json"
            stated = files.read_json(state).get("ledger_hash") if state.is_file() else None
            found.append(SeenCheckpoint(name, step, stated))
    return tuple(sorted(found, key=lambda each: each.step))
