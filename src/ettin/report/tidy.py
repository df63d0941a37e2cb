"""Result records made tidy: whose score each is, and where in its run it was measured.

    results_of(records)     records → results, sorted, each with its run, role and place in the run
    finals(results)         of each run the last checkpoint alone

Nothing here depends on when or where something was measured, so that a suite that was interrupted
gives the same results as one that was not.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from ettin.files import Json, fingerprint
from ettin.presets import PHASES, SIZES
from ettin.records import role_words
from ettin.report.collect import number
from ettin.report.figures import STYLES

Measure = tuple[str, str, str, str]
"""What two models must share to be compared: task, metric, limit and examples."""
ELSEWHERE = "from elsewhere"
"""The role of models that no suite of ours trained."""
ROLES = (*STYLES, ELSEWHERE)
_PHASES = tuple(PHASES)
_LARGEST = 2**63 - 1
SEEDLESS = ("seed", "found", "model_files")
"""Settings that differ between seeds, or follow from the model."""


@dataclass(frozen=True)
class Result:
    """One record, and what a table says of it.

    Attributes:
        run: what its run is called: the model's name without the tag of a checkpoint.
        model: what the model is called.
        role: as `collect.Run.role`, or `ELSEWHERE`.
        size: of the model; empty where it is not stated.
        parameters: of the model.
        training_seed: of its run.
        phase: of its checkpoint.
        tag: of its checkpoint.
        tokens: text tokens of its run up to the checkpoint.
        task: `family/name`.
        metric: the main one.
        value: of it; None where the record states no number.
        error: one standard error over examples.
        baselines: simple methods on the same examples.
        examples: how many were asked.
        limit: how many were asked at most; None: all.
        task_seed: of what is random in the task.
        settings: identifies them, as the name of the record's file does.
        data: identifies the examples.
        weights: fingerprint.
        path: of the record, within its results.
        last: whether no later checkpoint of its run was measured on anything.
        record: everything else.
    """

    run: str
    model: str
    role: str
    size: str
    parameters: int | None
    training_seed: int | None
    phase: str
    tag: str
    tokens: int | None
    task: str
    metric: str
    value: float | None
    error: float | None
    baselines: dict[str, float]
    examples: int | None
    limit: str
    task_seed: int | None
    settings: str
    data: str
    weights: str
    path: str
    last: bool
    record: Json

    @property
    def family(self) -> str:
        """What stands before the first `/` of the task."""
        return self.task.partition("/")[0]

    @property
    def measure(self) -> Measure:
        """What two models must share to be compared: task, metric, limit and examples."""
        return self.task, self.metric, self.limit, self.data

    @cached_property
    def seedless(self) -> str:
        """Identifies its settings but for seeds, and for what follows from the model."""
        return fingerprint(without(self.record.get("settings"), SEEDLESS))


def results_of(records: tuple[Json, ...]) -> tuple[Result, ...]:
    """Every record as a result, models in the order of their suite."""
    names = _runs(records)
    ends: dict[str, tuple[int, float]] = {}
    for record in records:
        name = names[_model(record)]
        ends[name] = max(ends.get(name, _place(record)), _place(record))
    found = [
        _result(record, names[_model(record)], ends[names[_model(record)]] == _place(record))
        for record in records
    ]
    return tuple(sorted(found, key=_order))


def finals(results: tuple[Result, ...]) -> tuple[Result, ...]:
    """The results of the last checkpoint of each run."""
    return tuple(result for result in results if result.last)


def metric_words(metric: str) -> str:
    """`ndcg_at_10` as `nDCG@10`, `balanced_accuracy` as `balanced accuracy`."""
    return metric.replace("_at_", "@").replace("ndcg", "nDCG").replace("_", " ")


def size_order(result: Result) -> tuple[float, str]:
    """Sorts sizes by parameters, and those without by name, last."""
    known = result.parameters
    return (float("inf") if known is None else known), result.size


def baselines_of(record: Json) -> dict[str, float]:
    """Name → value of the simple methods that a record states a number of."""
    stated = record.get("baselines")
    pairs = stated.items() if isinstance(stated, dict) else ()
    return {str(name): known for name, value in pairs if (known := number(value)) is not None}


def without(value: object, keys: tuple[str, ...], *, depth: int = 99) -> object:
    """A nested dictionary without some keys, wherever they stand down to a depth."""
    if not isinstance(value, dict) or not depth:
        return value
    return {
        key: without(inside, keys, depth=depth - 1)
        for key, inside in value.items()
        if key not in keys
    }


def _result(record: Json, run: str, last: bool) -> Result:  # noqa: FBT001 - private
    return Result(
        run=run,
        model=str(record.get("model", "a model")),
        role=role_of(record),
        size=_text(record.get("size")),
        parameters=_whole(record.get("parameters")),
        training_seed=_whole(record.get("training_seed")),
        phase=_text(record.get("phase")),
        tag=_text(record.get("tag")),
        tokens=_whole(record.get("tokens")),
        task=str(record.get("task")),
        metric=str(record.get("metric")),
        value=number(record.get("value")),
        error=number(record.get("stderr")),
        baselines=baselines_of(record),
        examples=_whole(record.get("examples")),
        limit=_text(record.get("limit")),
        task_seed=_whole(record.get("seed")),
        settings=fingerprint(without(record.get("settings"), ("found",), depth=1))[:8],
        data=_text(record.get("data")),
        weights=_text(record.get("weights")),
        path=_text(record.get("path")),
        last=last,
        record=record,
    )


def role_of(record: Json) -> str:
    """A model's place in its suite, told by the record."""
    if record.get("tag") is None or record.get("kind") not in ("encoder", "decoder"):
        return ELSEWHERE
    variant, objective = str(record.get("variant")), str(record.get("objective"))
    role = role_words(str(record["kind"]), variant=variant, objective=objective)
    return role if role in STYLES else ELSEWHERE


def _runs(records: tuple[Json, ...]) -> dict[tuple[str, ...], str]:
    """(name, weights, tag) of a model → its run.

    Checkpoints of one recipe, role and seed are one run, whatever their exports are called. Two
    models that claim the same place in the same run are two runs.
    """
    stems: dict[tuple[str, ...], str] = {}
    runs: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for record in records:
        model = _model(record)
        name, _, tag, *rest = model
        stems[model] = re.sub(rf"[-@.]{re.escape(tag)}$", "", name) if tag else name
        runs.setdefault((_text(record.get("recipe")) or stems[model], *rest), set()).add(model)
    names: dict[tuple[str, ...], str] = {}
    for models in runs.values():
        shared, disputed = min(stems[model] for model in models), _disputed_tags(models)
        names |= {model: stems[model] if disputed else shared for model in models}
    for stem in sorted(set(names.values())):
        places: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for model in (each for each in names if names[each] == stem):
            places.setdefault(model[3:], set()).add(model)
        for place, models in places.items():
            told = [stem, *filter(None, place)] if len(places) > 1 else [stem]
            disputed = _disputed_tags(models)
            for model in models:
                mark = f" ({model[1][:8]})" if model[2] in disputed else ""
                names[model] = ", ".join(told) + mark
    return names


def _disputed_tags(models: set[tuple[str, ...]]) -> set[str]:
    """Checkpoints that have several weights, as after another training."""
    weights: dict[str, set[str]] = {}
    for _, of_model, tag, *_ in models:
        weights.setdefault(tag, set()).add(of_model)
    return {tag for tag, several in weights.items() if len(several) > 1}


def _model(record: Json) -> tuple[str, ...]:
    return (
        str(record.get("model", "a model")), _text(record.get("weights")),
        _text(record.get("tag")), role_of(record), _text(record.get("size")),
        _text(record.get("training_seed")),
    )  # fmt: skip


def _place(record: Json) -> tuple[int, float]:
    """Where in its run a checkpoint stands."""
    phase = record.get("phase")
    return _PHASES.index(phase) if phase in _PHASES else 0, number(record.get("tokens")) or 0.0


def _order(result: Result) -> tuple[object, ...]:
    sizes = list(SIZES)
    known = sizes.index(result.size) if result.size in sizes else len(sizes)
    return (
        *size_order(result), known, ROLES.index(result.role), _or_less(result.training_seed),
        result.run, *_place(result.record), result.task, result.metric, result.limit,
        _or_less(result.task_seed), result.settings, result.weights, result.path,
    )  # fmt: skip


def _or_less(value: int | None) -> int:
    return -1 if value is None else value


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _whole(value: object) -> int | None:
    """A whole number that a table can hold; None for anything else."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and isinstance(value, int) and abs(value) <= _LARGEST else None
