"""Result records as what a figure and a table show: whose score, how sure, and beside what.

    panels(records)       tasks, each with a score a model and the simple methods beside it

Records that differ in nothing but their seed are one score, their mean. A figure shows metrics
that lie between 0 and 1 with 1 the best; a table shows all.
"""

import json
from typing import NamedTuple

from ettin.files import Json
from ettin.report.averages import mean_of_known, of_seeds
from ettin.report.chart import PALETTE
from ettin.report.collect import number
from ettin.report.figures import STYLES
from ettin.report.labels import shortened
from ettin.report.tidy import ELSEWHERE, SEEDLESS, baselines_of, role_of, without

UNTRAINED = "untrained"
"""The baseline that each model has of its own: the same shape with random weights."""
CHANCE = "chance"

_BOUNDED = ("accuracy", "acc", "f1", "ndcg", "mrr", "map", "recall", "precision", "exact_match",
            "matthews", "spearman", "pearson", "auc")  # fmt: skip


class ModelScore(NamedTuple):
    """The score of one model: its name and colour, the value, one standard error if it is known,
    and the value of the same model without training if it was measured.
    """

    model: str
    color: str
    value: float
    error: float | None
    untrained: float | None


class Panel(NamedTuple):
    """One task: its name, its metric, the scores, and simple methods as (name, value)."""

    task: str
    metric: str
    scores: tuple[ModelScore, ...]
    baselines: tuple[tuple[str, float], ...]


def panels(records: tuple[Json, ...]) -> list[Panel]:
    """Every task whose metric can be drawn, in the order of records; encoders come first."""
    drawn = sorted(
        (record for record in records if can_be_drawn(record)),
        key=lambda record: (record.get("variant") == "cross", record.get("kind") == "decoder"),
    )
    called = model_names(tuple(drawn))
    order = [(str(record.get("task")), str(record.get("metric"))) for record in records]
    tasks: dict[tuple[str, str], list[Json]] = {}
    for record in drawn:
        tasks.setdefault((str(record["task"]), str(record["metric"])), []).append(record)
    return [
        Panel(task, metric, _scores(members, called), _shared_baselines(members))
        for (task, metric), members in sorted(tasks.items(), key=lambda item: order.index(item[0]))
    ]


def model_names(records: tuple[Json, ...]) -> dict[tuple[str, str], tuple[str, str]]:
    """What to call each model, and its colour: by its role where every model is one of a suite's
    and no two have the same, by its name otherwise.

    Args:
        records: of these models.

    Returns:
        (name, weights) of a model → what it is called, colour.
    """
    roles: dict[tuple[str, str], str] = {}
    for record in records:
        roles.setdefault(_identity(record), role_of(record))
    if ELSEWHERE not in roles.values() and len(set(roles.values())) == len(roles):
        return {key: (role, STYLES[role].color) for key, role in roles.items()}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for place, key in enumerate(roles):
        name = shortened(key[0])
        same = sum(called.partition(" (")[0] == name for called, _ in found.values())
        found[key] = (f"{name} ({same + 1})" if same else name, PALETTE[place % len(PALETTE)])
    return found


def can_be_drawn(record: Json) -> bool:
    """Whether a record's metric lies between 0 and 1 (or −1) with 1 the best."""
    value = number(record.get("value"))
    words = str(record.get("metric")).lower().replace("@", "_").split("_")
    bounded = any(word in words or str(record.get("metric")) == word for word in _BOUNDED)
    return value is not None and -1 <= value <= 1 and bounded


def _scores(
    records: list[Json], called: dict[tuple[str, str], tuple[str, str]]
) -> tuple[ModelScore, ...]:
    """One score for each model and settings; records of several seeds are one."""
    groups: dict[str, list[Json]] = {}
    for record in records:
        rest = without(record.get("settings"), SEEDLESS)
        key = json.dumps([_identity(record), rest], sort_keys=True, default=str)
        groups.setdefault(key, []).append(record)
    return tuple(_score(members, *called[_identity(members[0])]) for members in groups.values())


def _score(records: list[Json], model: str, color: str) -> ModelScore:
    """The mean of records that differ in their seed alone."""
    measured = [(float(record["value"]), number(record.get("stderr"))) for record in records]
    mean = of_seeds(measured, seeds=1)
    untrained = mean_of_known(baselines_of(record).get(UNTRAINED) for record in records)
    return ModelScore(model, color, mean.value, mean.error, untrained)


def _shared_baselines(records: list[Json]) -> tuple[tuple[str, float], ...]:
    """Simple methods of all records of a task, each value once; chance first."""
    found: dict[tuple[str, str], float] = {}
    for record in records:
        for name, value in baselines_of(record).items():
            if name != UNTRAINED and -1 <= value <= 1:
                found.setdefault((name, f"{value:.3f}"), value)
    ordered = sorted(found.items(), key=lambda item: item[0][0] != CHANCE)
    return tuple((name.replace("_", " "), value) for (name, _), value in ordered)


def _identity(record: Json) -> tuple[str, str]:
    return str(record.get("model", "a model")), str(record.get("weights", ""))
