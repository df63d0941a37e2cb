"""Exports and runs put together as models: one a run, its checkpoints in order, and its relatives.

A model is told by the fingerprint of its recipe, which every export and every run states. Its twin
saw the same data in the same order (equal ledger hashes at equal tags) under the other objective;
its start is the model whose checkpoint it went on from.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ettin import files
from ettin.console import log
from ettin.errors import InputError, ProblemsFound, nearest
from ettin.files import Json
from ettin.publish.found import WEIGHTS, Export, Found, Run, is_tag, place_of_tag, source_run
from ettin.records import kind_of_objective


@dataclass(frozen=True)
class Thinning:
    """Which checkpoints of a run are published.

    Attributes:
        every: each N-th, in the order of the run; the first and the last of each phase stay.
        tags: these alone.
        allow_gaps: whether checkpoints that the run lists may be missing among the exports.
    """

    every: int | None = None
    tags: tuple[str, ...] = ()
    allow_gaps: bool = False

    def __post_init__(self) -> None:
        """Refuse two answers to one question."""
        if self.every is not None and self.tags:
            raise InputError("--every and --tags both say which checkpoints: give one of them")

    @property
    def is_asked(self) -> bool:
        """Whether the caller said which checkpoints."""
        return self.every is not None or bool(self.tags)

    def choose(self, tags: Iterable[str]) -> list[str]:
        """The tags that are to be published, in order."""
        ordered = sorted(tags, key=place_of_tag)
        if self.tags:
            return [tag for tag in ordered if tag in self.tags]
        if self.every is None:
            return ordered
        last = {place_of_tag(tag)[0]: tag for tag in ordered}
        kept = {*ordered[:: self.every], *ordered[:1], *last.values()}
        return [tag for tag in ordered if tag in kept]


@dataclass(frozen=True)
class Model:
    """One model: what a repository on the hub holds.

    Attributes:
        described: the object `ettin` of its last checkpoint, or as much of it as its run states.
        exports: those to publish, in the order of the run; none when only a run was given.
        run: its run, where it is known.
        tags: all checkpoints to publish, whether or not there are exports.
    """

    described: Json
    exports: tuple[Export, ...]
    run: Run | None
    tags: tuple[str, ...]

    @property
    def key(self) -> str:
        """What tells it from every other model: the fingerprint of its recipe."""
        return str(self.described["recipe_fingerprint"])

    @property
    def objective(self) -> str:
        """`mlm`, `clm` or `mntp`."""
        return str(self.described["objective"])

    @property
    def kind(self) -> str:
        """`encoder` or `decoder`."""
        return kind_of_objective(self.objective)

    @property
    def role(self) -> str:
        """Its kind, and for a cross-trained one what it was made from."""
        if self.described.get("variant") != "cross":
            return self.kind
        return "decoder-from-encoder" if self.kind == "decoder" else "encoder-from-decoder"

    @property
    def start(self) -> Json | None:
        """What is known of the checkpoint that it went on from."""
        start: Json | None = self.described.get("start")
        return start

    def fields(self) -> dict[str, str]:
        """What a template of names may hold."""
        known = {"size": self.described.get("size"), "seed": self.described.get("seed")}
        return {
            "role": self.role,
            "objective": self.objective,
            **{key: "unknown" if value is None else str(value) for key, value in known.items()},
        }

    def ledger_hashes(self) -> set[tuple[str, str]]:
        """(tag, hash of all that was trained on until then), for what is known of it."""
        known = {(each.tag, str(each.described["ledger_hash"])) for each in self.exports}
        if self.run is not None:
            known.add((self.run.facts["checkpoints"][-1], str(self.run.facts["ledger_hash"])))
        return {(tag, told) for tag, told in known if told}


def put_together(found: Found, *, thinning: Thinning, dtype: str | None) -> list[Model]:
    """All models of what was found, native before cross-trained, encoders first.

    Args:
        found: what the paths hold.
        thinning: which checkpoints.
        dtype: publish exports of this type alone; None: all, which must be of one type.

    Raises:
        InputError: one checkpoint twice, mixed types, or unknown tags.
        ProblemsFound: checkpoints are missing, two of them have identical weights, or an export
            and a run do not belong together.
    """
    exports = _of_dtype(found.exports, dtype)
    runs = _runs(found.runs, exports)
    grouped: dict[str, list[Export]] = {key: [] for key in runs}
    for export in exports:
        grouped.setdefault(export.described["recipe_fingerprint"], []).append(export)
    for group in grouped.values():
        _refuse_twice(group)
    listed = {key: _listed(group, runs.get(key)) for key, group in grouped.items()}
    known = {tag for tags in listed.values() for tag in tags}
    proposed = ",".join(sorted({each.tag for each in exports}, key=place_of_tag))
    for tag in thinning.tags:
        if tag not in known:
            raise InputError(f"--tags {tag}: no such checkpoint; {nearest(tag, known)}")
    models, problems = [], []
    for key, group in grouped.items():
        run, chosen = runs.get(key), thinning.choose(listed[key])
        kept = tuple(each for each in group if each.tag in chosen)
        if group and not kept:
            log.info("left out, since it has none of the checkpoints asked for: %s", group[0].path)
            continue
        problems += _gaps(group, chosen, run, thinning, proposed)
        problems += _duplicates(kept) + _strangers(group, run)
        tags = chosen if run is not None and run.given else [each.tag for each in kept]
        models.append(_model(kept, run, tuple(tags)))
    if problems:
        raise ProblemsFound("not published:\n" + "\n".join(f"  - {each}" for each in problems))
    return sorted(models, key=lambda each: (each.role != each.kind, each.kind != "encoder"))


def twin_of(model: Model, models: list[Model]) -> Model | None:
    """The model that saw the same data in the same order under the other objective."""
    for other in models:
        same = all(other.described.get(key) == model.described.get(key) for key in ("size", "seed"))
        if same and other.kind != model.kind and other.ledger_hashes() & model.ledger_hashes():
            return other
    return None


def start_of(model: Model, models: list[Model]) -> Model | None:
    """The model that this one went on from, when it is among those given, beyond doubt."""
    start = model.start
    if start is None:
        return None
    candidates = [
        other
        for other in models
        if other is not model
        and (other.objective, other.described.get("size"))
        == (start["objective"], model.described.get("size"))
        and _has_checkpoint(other, start)
    ]
    if len(candidates) > 1:
        same_seed = model.described.get("seed")
        candidates = [each for each in candidates if each.described.get("seed") == same_seed]
    return candidates[0] if len(candidates) == 1 else None


def _has_checkpoint(model: Model, start: Json) -> bool:
    """Whether a model has a checkpoint with the tag and the tokens of a start."""
    known = {(each.tag, each.described["tokens"]) for each in model.exports}
    if (run := model.run) is not None and start["tag"] in run.facts["checkpoints"]:
        state = run.path / "checkpoints" / start["tag"]
        known |= {(start["tag"], run.state(start["tag"])["tokens"])} if state.is_dir() else set()
    return (start["tag"], start["tokens"]) in known


def _of_dtype(exports: tuple[Export, ...], dtype: str | None) -> list[Export]:
    kept = [each for each in exports if dtype in (None, each.dtype)]
    types = sorted({each.dtype for each in kept})
    if len(types) > 1:
        raise InputError(
            f"the exports hold weights of different types: {', '.join(types)}; "
            "say which with --dtype"
        )
    if exports and not kept:
        raise InputError(
            f"--dtype {dtype}: the exports hold {exports[0].dtype}. Publish casts nothing, since "
            f"what it uploads is proved; make such exports with `ettin export RUN --dtype {dtype} "
            "--out EXPORT`"
        )
    if left_out := len(exports) - len(kept):
        log.info("--dtype %s leaves out %d exports of another type", dtype, left_out)
    return kept


def _runs(given: tuple[Run, ...], exports: list[Export]) -> dict[str, Run]:
    """Runs by the fingerprint of their recipes: those given, then sources of exports."""
    runs: dict[str, Run] = {}
    for run in given:
        key = str(run.facts["recipe_fingerprint"])
        if key in runs:
            raise InputError(
                f"{runs[key].path} and {run.path} are two runs of the same recipe: publish one"
            )
        runs[key] = run
    looked_at: set[Path] = set()
    for export in exports:
        key = str(export.described["recipe_fingerprint"])
        source = Path(str(export.manifest["made_from"].get("source", ""))).parent
        if key in runs or source in looked_at:
            continue
        looked_at.add(source)
        source_of_it = source_run(export)
        if source_of_it is not None and source_of_it.facts["recipe_fingerprint"] == key:
            runs[key] = source_of_it
    return runs


def _refuse_twice(group: list[Export]) -> None:
    seen: dict[str, Export] = {}
    for export in group:
        if (other := seen.get(export.tag)) is not None:
            raise InputError(
                f"{other.path} and {export.path} are the same checkpoint, {export.tag} of one "
                "model; give one of them"
            )
        seen[export.tag] = export


def _strangers(group: list[Export], run: Run | None) -> list[str]:
    """An export belongs to a run when the run's checkpoint of that tag saw the same data."""
    if run is None:
        return []
    problems = []
    for export in group:
        folder = run.path / "checkpoints" / export.tag
        stated = run.state(export.tag)["ledger_hash"] if files.is_finished(folder) else None
        if stated not in (None, export.described["ledger_hash"]):
            problems.append(
                f"{export.path} and {run.path} share a recipe, but saw other data until "
                f"{export.tag}; publish them under names of their own, one call each"
            )
    return problems


def _listed(group: list[Export], run: Run | None) -> list[str]:
    listed = {each.tag for each in group}
    if run is not None:
        listed |= {str(tag) for tag in run.facts["checkpoints"]}
    return [tag for tag in listed if is_tag(tag)]


def _gaps(
    group: list[Export], chosen: list[str], run: Run | None, thinning: Thinning, proposed: str
) -> list[str]:
    """Checkpoints that are wanted and have no export; one export alone is no trajectory.

    `proposed` are the tags of all exports of all models, as `--tags` takes them.
    """
    if not group or run is None or thinning.allow_gaps:
        return []
    if not (run.given or thinning.is_asked or len(group) > 1):
        return []
    present = {each.tag for each in group}
    missing = [tag for tag in chosen if tag not in present]
    if not missing:
        return []
    return [
        f"{run.path} has checkpoints that are not among the exports: {', '.join(missing)}; export "
        f"them (`ettin export RUN@{missing[0]} --out EXPORT`), choose with --tags "
        f"{proposed} or --every N, or say --allow-gaps"
    ]


def _duplicates(exports: tuple[Export, ...]) -> list[str]:
    seen: dict[str, Export] = {}
    problems = []
    for export in exports:
        stated = export.manifest["files"][WEIGHTS]
        other = seen.setdefault(stated["xxh3_128"], export)
        if other is not export:
            problems.append(
                f"{other.tag} and {export.tag} have identical weights ({other.path} and "
                f"{export.path}): one of them is not what it says; export it again"
            )
    return problems


def _model(exports: tuple[Export, ...], run: Run | None, tags: tuple[str, ...]) -> Model:
    ordered = tuple(sorted(exports, key=lambda each: place_of_tag(each.tag)))
    if ordered:
        described = ordered[-1].described
    else:
        assert run is not None
        facts = run.facts
        described = {
            key: facts.get(key)
            for key in ("objective", "variant", "size", "parameters", "recipe_fingerprint",
                        "ledger_hash", "tokens", "start")
        }  # fmt: skip
        described["tag"] = facts["checkpoints"][-1]
    if described.get("seed") is None and run is not None:
        described = {**described, "seed": run.recipe.get("seed")}
    return Model(described=described, exports=ordered, run=run, tags=tags)
