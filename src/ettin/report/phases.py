"""The phases of runs: where each begins, what it was trained with, and what it read.

Twins went through the same phases, so that rows of a table that differ in the run alone are one.
"""

from pathlib import Path
from typing import NamedTuple

from ettin.files import Json
from ettin.report.collect import Run, number
from ettin.report.labels import Border, labels_of, shortened
from ettin.report.tables import Column, Table, amount, small, whole

_NAMED_AT_MOST = 4


class PhaseOfRun(NamedTuple):
    """One phase of one run.

    Attributes:
        name: `pretraining`, `extension`, `decay` or `cross`.
        begins: text tokens of the run before it.
        tokens: text tokens in it; None when nobody stated or measured them.
        steps: steps of it.
        recipe: what the recipe says of it.
        facts: what the run's manifest states of it; empty for runs that state nothing.
    """

    name: str
    begins: float
    tokens: float | None
    steps: float | None
    recipe: Json
    facts: Json


def phases_of(run: Run) -> tuple[PhaseOfRun, ...]:
    """The phases that a run's recipe lists, with what its metrics and manifest know of them."""
    stated = {str(fact.get("name")): fact for fact in _objects(run.facts.get("phases"))}
    found = []
    before = 0.0
    for recipe in _objects(run.recipe.get("phases")):
        name = str(recipe.get("name"))
        lines = [line for line in run.metrics if line.get("phase") == name]
        counted = [at for line in lines if (at := number(line.get("tokens"))) is not None]
        done = [step for line in lines if (step := number(line.get("phase_step"))) is not None]
        facts = stated.get(name, {})
        tokens = number(facts.get("tokens"))
        if tokens is None and counted:
            tokens = counted[-1] - before
        steps = number(facts.get("steps"))
        if steps is None and done:
            steps = done[-1]
        found.append(PhaseOfRun(name, before, tokens, steps, recipe, facts))
        before = counted[-1] if counted else before + (tokens or 0)
    return tuple(found)


def names_of(run: Run) -> list[str]:
    """The names of a run's phases, in order."""
    return [str(recipe.get("name")) for recipe in _objects(run.recipe.get("phases"))]


def borders_of(runs: tuple[Run, ...], names: dict[Path, str]) -> list[Border]:
    """Where the phases of some runs begin; nothing for runs of a single phase.

    A phase that begins elsewhere in another run is named with the runs that it belongs to.
    """
    holders: dict[tuple[str, float], list[str]] = {}
    for run in runs:
        phases = phases_of(run)
        for phase in phases if len(phases) > 1 else ():
            key = shortened(phase.name), phase.begins
            holders.setdefault(key, []).append(names[run.path])
    places = [name for name, _ in holders]
    return [
        Border(name if places.count(name) == 1 else f"{name} ({', '.join(held)})", tokens)
        for (name, tokens), held in holders.items()
    ]


def phase_table(runs: tuple[Run, ...]) -> Table:
    """One row a phase: how long it was, and what it was trained with."""
    names = labels_of(runs)
    rows = []
    for same, row in _merged([(run, _row(run, phase)) for run in runs for phase in phases_of(run)]):
        reads_mask_rate = any(run.kind == "encoder" for run in same)
        rows.append(
            {
                "run": _named(same, runs, names),
                **row,
                "mask_rate": row["mask_rate"] if reads_mask_rate else None,
            }
        )
    return Table(
        name="phases",
        title="Phases",
        note="Learning rates are those of a phase's first step, the highest, and of its last step. "
        "The mask rate is the share of tokens that mlm and mntp hide; clm reads none.",
        columns=(
            Column("run", "run"),
            Column("phase", "phase"),
            Column("steps", "steps", whole),
            Column("tokens", "text tokens", amount),
            Column("context_length", "context", whole),
            Column("mask_rate", "mask rate", _percent),
            *_rope_columns(rows),
            Column("learning_rate_first", "first learning rate", _rate),
            Column("learning_rate_highest", "highest", _rate),
            Column("learning_rate_last", "last", _rate),
        ),
        rows=tuple(rows),
    )


def source_table(runs: tuple[Run, ...]) -> Table:
    """One row a phase and source: how much of it was read, and how often."""
    names = labels_of(runs)
    read = [(run, row) for run in runs for phase in phases_of(run) for row in _sources(phase)]
    return Table(
        name="sources",
        title="What each phase read",
        note="Text tokens of each source, its share of the phase, and how often the phase went "
        "through it.",
        columns=(
            Column("run", "run"),
            Column("phase", "phase"),
            Column("source", "source"),
            Column("tokens", "text tokens", amount),
            Column("share", "share", _percent),
            Column("epochs", "epochs", "{:.2f}".format),
        ),
        rows=tuple({"run": _named(same, runs, names), **row} for same, row in _merged(read)),
    )


def start_table(runs: tuple[Run, ...]) -> Table:
    """Runs that began with weights of another one: which, and what those lost under the objective.

    Whether it was the twin's last checkpoint is known only of runs in the same report.
    """
    names = labels_of(runs)
    rows = []
    for run in runs:
        if run.start is None:
            continue
        origin = origin_of(run, runs)
        rows.append(
            {
                "run": names[run.path],
                "began_with": described_start(run, runs, names),
                "where": run.start.get("where"),
                "objective_before": run.start.get("objective"),
                "objective": run.objective,
                "tokens_before": number(run.start.get("tokens")),
                "first_held_out_loss": number(run.facts.get("initial_validation_loss")),
                "held_out_loss": run.validation_loss,
                "last_checkpoint": None
                if origin is None
                else "yes"
                if run.start.get("tag") == _last(origin.facts.get("checkpoints"))
                else "no",
            }
        )
    return Table(
        name="starts",
        title="Runs that began with trained weights",
        note="The first held-out loss is that of the weights that were taken over, before any "
        "step, under the objective of this run, which may be new to them.",
        columns=(
            Column("run", "run"),
            Column("began_with", "began with"),
            Column("objective_before", "trained before with"),
            Column("tokens_before", "for tokens", amount),
            Column("last_checkpoint", "its last checkpoint"),
            Column("objective", "trained here with"),
            Column("first_held_out_loss", "first held-out loss", "{:.2f}".format),
            Column("held_out_loss", "last held-out loss", "{:.2f}".format),
        ),
        rows=tuple(rows),
    )


def origin_of(run: Run, runs: tuple[Run, ...]) -> Run | None:
    """The run whose weights another one began with, if it is among those given."""
    path = (run.start or {}).get("path")
    if not isinstance(path, str):
        return None
    place = Path(path)
    return next((one for one in runs if one.path == place or one.path in place.parents), None)


def described_start(run: Run, runs: tuple[Run, ...], names: dict[Path, str]) -> str:
    """`decoder, decay30`: whose weights a run began with; or where they were, as it was given."""
    start = run.start or {}
    origin = origin_of(run, runs)
    tag = start.get("tag")
    if origin is not None:
        return names[origin.path] + (f", {tag}" if tag else "")
    return str(start.get("where") or start.get("path") or "trained weights")


def _rope_columns(rows: list[Json]) -> list[Column]:
    """One column where global and local layers have the same base, as they mostly have."""
    if all(row["global_rope_theta"] == row["local_rope_theta"] for row in rows):
        return [Column("global_rope_theta", "RoPE base", whole)]
    return [
        Column("global_rope_theta", "RoPE base, global layers", whole),
        Column("local_rope_theta", "RoPE base, local layers", whole),
    ]


def _row(run: Run, phase: PhaseOfRun) -> Json:
    """What the table of phases says of one, whichever run it belongs to."""
    rates = [rate for _, rate in run.series("learning_rate", phase=phase.name)]
    keys = ("context_length", "batch_rows", "mask_rate", "global_rope_theta", "local_rope_theta")
    return {
        "phase": phase.name,
        "steps": phase.steps,
        "tokens": phase.tokens,
        **{key: number(phase.recipe.get(key)) for key in keys},
        "learning_rate_first": rates[0] if rates else None,
        "learning_rate_highest": max(rates, default=None),
        "learning_rate_last": rates[-1] if rates else None,
    }


def _sources(phase: PhaseOfRun) -> list[Json]:
    """What the table of sources says of a phase, whichever run it belongs to."""
    stated, epochs = phase.facts.get("source_tokens"), phase.facts.get("epochs")
    counts = stated if isinstance(stated, dict) else {}
    known = {source: number(count) for source, count in counts.items()}
    total = sum(count for count in known.values() if count)
    return [
        {
            "phase": phase.name,
            "source": source,
            "tokens": count,
            "share": None if count is None or not total else count / total,
            "epochs": number(epochs.get(source)) if isinstance(epochs, dict) else None,
        }
        for source, count in known.items()
    ]


def _merged(pairs: list[tuple[Run, Json]]) -> list[tuple[list[Run], Json]]:
    """Each row once, with the runs that it is true of."""
    merged: dict[str, tuple[list[Run], Json]] = {}
    for run, row in pairs:
        merged.setdefault(repr(row), ([], row))[0].append(run)
    return list(merged.values())


def _named(same: list[Run], runs: tuple[Run, ...], names: dict[Path, str]) -> str:
    """The runs that a row is true of: their names, or in a few words where they are many."""
    if len(same) <= _NAMED_AT_MOST:
        return ", ".join(names[run.path] for run in same)
    variants = dict.fromkeys(run.variant for run in same)
    if len(same) == sum(run.variant in variants for run in runs):
        return f"all {len(same)} {' and '.join(variants)} runs"
    sizes = ", ".join(dict.fromkeys(str(run.facts.get("size", "?")) for run in same))
    roles = ", ".join(dict.fromkeys(run.role for run in same))
    return f"{len(same)} runs ({sizes}; {roles})"


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _last(value: object) -> object:
    return value[-1] if isinstance(value, list) and value else None


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _rate(value: float) -> str:
    return small(value) if value >= 1e-8 else "0"
