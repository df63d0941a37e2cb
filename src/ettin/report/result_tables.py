"""All results as one tidy table, and as the table that people read.

result_table(results)   tables/results.csv and .parquet: a row a measurement
score_table(results)    one row a model, one column a task
"""

from ettin.files import Json
from ettin.report.averages import average, chosen
from ettin.report.tables import Column, Table, amount, score, whole
from ettin.report.tidy import Measure, Result, finals

_ON_PAGE = ("model", "role", "size", "tag", "tokens", "task", "metric", "value", "stderr",
            "examples", "limit", "task_seed")  # fmt: skip


def result_table(results: tuple[Result, ...]) -> Table:
    """All results, a row each; the page shows those of last checkpoints, the files hold all."""
    baselines = sorted({name for result in results for name in result.baselines})
    rows = tuple(_row(result, baselines) for result in results)
    shown = tuple(row for row, result in zip(rows, results, strict=True) if result.last)
    shows = {"tokens": amount, "value": score, "stderr": score, "examples": whole}
    notes = ["One row a measurement; stderr is one standard error over examples."]
    if len(shown) < len(rows):
        notes.append(
            f"Shown are the last checkpoints; the files hold all {len(rows):,} measurements."
        )
    if baselines:
        notes.append("Columns of simple methods hold the same metric on the same examples.")
    if any(result.limit for result in results):
        notes.append("A record with a limit is a part of its task, and no benchmark's score.")
    return Table(
        name="results",
        title="All results, in numbers",
        note=" ".join(notes),
        columns=(
            *(Column(key, key.replace("_", " "), shows.get(key, str)) for key in _ON_PAGE),
            *(Column(f"baseline_{name}", name.replace("_", " "), score) for name in baselines),
        ),
        rows=rows,
        rows_on_page=shown,
        types={**_TYPES, **{f"baseline_{name}": "float64" for name in baselines}},
    )


def score_table(results: tuple[Result, ...]) -> Table:
    """One row a model, one column a task: the last checkpoints; seeds of a task are averaged."""
    ended = chosen(tuple(result for result in finals(results) if result.value is not None))
    measures = list(dict.fromkeys(sorted(result.measure for result in ended)))
    headings = _headings(measures)
    rows = []
    for run in dict.fromkeys(result.run for result in ended):
        own = [result for result in ended if result.run == run]
        row: Json = {
            "model": run, "role": own[0].role, "size": own[0].size or None,
            "parameters": own[0].parameters, "training_seed": own[0].training_seed,
            "tokens": own[0].tokens,
        }  # fmt: skip
        for measure in measures:
            same = [result for result in own if result.measure == measure]
            row[headings[measure]] = average(same).value if same else None
        rows.append(row)
    return Table(
        name="scores",
        title="What they can do, in numbers",
        note="One row a model, at its last checkpoint; standard errors, chance and everything else "
        "stand in the table of all results.",
        columns=(
            Column("model", "model"),
            Column("role", "role"),
            Column("size", "size"),
            Column("parameters", "parameters", amount),
            Column("training_seed", "seed"),
            Column("tokens", "tokens", amount),
            *(Column(heading, heading, score) for heading in headings.values()),
        ),
        rows=tuple(rows),
    )


def _row(result: Result, baselines: list[str]) -> Json:
    return {
        "run": result.run, "model": result.model, "role": result.role, "size": result.size or None,
        "parameters": result.parameters, "training_seed": result.training_seed,
        "phase": result.phase or None, "tag": result.tag or None, "tokens": result.tokens,
        "last": result.last, "task": result.task, "family": result.family,
        "metric": result.metric, "value": result.value, "stderr": result.error,
        **{f"baseline_{name}": result.baselines.get(name) for name in baselines},
        "examples": result.examples, "limit": result.limit or None,
        "task_seed": result.task_seed, "settings": result.settings, "data": result.data or None,
        "weights": result.weights or None, "path": result.path or None,
    }  # fmt: skip


_TYPES = {
    "run": "string", "model": "string", "role": "string", "size": "string", "parameters": "int64",
    "training_seed": "int64", "phase": "string", "tag": "string", "tokens": "int64",
    "last": "bool", "task": "string", "family": "string", "metric": "string", "value": "float64",
    "stderr": "float64", "examples": "int64", "limit": "string", "task_seed": "int64",
    "settings": "string", "data": "string", "weights": "string", "path": "string",
}  # fmt: skip


def _headings(measures: list[Measure]) -> dict[Measure, str]:
    """A column's name: the task; and what tells it apart, where it was measured in several ways."""
    headings: dict[Measure, str] = {}
    for task, metric, limit, data in measures:
        others = [other for other in measures if other[0] == task]
        parts = [task]
        if len({other[1] for other in others}) > 1:
            parts.append(metric)
        if limit:
            parts.append(f"limit {limit}")
        heading = ", ".join(parts)
        if heading in headings.values():
            heading += f", data {data[:8]}"
        headings[task, metric, limit, data] = heading
    return headings
