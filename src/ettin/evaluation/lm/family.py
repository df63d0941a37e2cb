"""Generative tasks (family `lm`): lm-eval's prompts and metrics, on both kinds of model.

    settings("piqa", model, request)     what the result depends on
    measure("piqa", model, request, settings)

The ten tasks of the paper, ARC-Easy and BLiMP are known by name; any other task of lm-eval is
accepted. No examples are put before a question. Encoders are asked by one of the modes of
`scorers.py`, which is part of the settings; decoders as lm-eval does.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ettin.errors import InputError, nearest
from ettin.evaluation.lm.files import FOLDER, ONE_FILE, find_local_data
from ettin.evaluation.lm.scorers import MODES
from ettin.evaluation.lm.tasks import Built, build
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.rows import write_json_rows
from ettin.evaluation.task import Measurement, Request
from ettin.files import Json
from ettin.records import Score

GROUP = (
    "arc_challenge",
    "hellaswag",
    "lambada_openai",
    "openbookqa",
    "piqa",
    "sciq",
    "social_iqa",
    "triviaqa",
    "winogrande",
    "wsc273",
)
"""The ten of the paper, in its order."""

TASKS = (*GROUP, "arc_easy", "blimp")
"""Those that have names here; any other task of lm-eval goes by its own."""

MAIN_METRICS = {
    "arc_challenge": "acc_norm",
    "hellaswag": "acc_norm",
    "openbookqa": "acc_norm",
    "sciq": "acc_norm",
}
"""Of the paper's tables, as far as known scores of a known model tell (Llama 3.2 1B); else the
first of `acc`, `exact_match` and what the task names."""

PACKAGES = ("lm_eval", "datasets", "torch", "transformers", "tokenizers")


def names() -> tuple[str, ...]:
    """The tasks of the paper, ARC-Easy and BLiMP."""
    return TASKS


def settings(name: str, model: EvaluatedModel, request: Request) -> Json:
    """What a result depends on beside the model and the number of examples.

    Raises:
        InputError: an unknown mode; local data were named that are not there.
    """
    if request.mode not in MODES:
        raise InputError(f"unknown mode {request.mode!r}; {nearest(request.mode, MODES)}")
    local = find_local_data(name, data=request.data, path=request.path)
    by_kind: Json = {"mode": "causal"}
    if model.kind == "encoder":
        by_kind = {"mode": request.mode, "answer_offset": model.answer_offset}
    return {
        **by_kind,
        "num_fewshot": 0,
        "precision": "float32",
        "data": local.fingerprint if local else "hub",
    }


def measure(name: str, model: EvaluatedModel, request: Request, _settings: Json) -> Measurement:
    """Ask all questions, and count right answers as lm-eval does.

    Args:
        name: of the task, ours or any of lm-eval's.
        model: either kind.
        request: data, limit, batch size, device.
        _settings: what `settings` returned, all of which follows from the others.

    Raises:
        InputError: no such task; its data are not there or do not fit the prompt; a model without
            the tokens that the mode needs.
    """
    from lm_eval.evaluator import evaluate

    from ettin.evaluation.lm.likelihood import Encoder, language_model, quiet

    local = find_local_data(name, data=request.data, path=request.path)
    with quiet():
        built = build(name, local, limit=request.limit)
        asked = language_model(model, request)
        results = evaluate(
            asked,
            task_dict={"tasks": built.tasks, "groups": {}, "group_map": {}},
            samples={each: list(range(count)) for each, count in built.counts.items()},
            bootstrap_iters=0,
            log_samples=True,
        )
    metrics = _metrics(name, built, results["results"], results["samples"])
    facts = dict(built.facts)
    if isinstance(asked, Encoder):
        facts["forwards"] = asked.scorer.forwards
        facts["forwards_one_token_at_a_time"] = asked.scorer.single_forwards
        facts["shortened_inputs"] = asked.scorer.shortened
    metric = _main_metric(name, metrics)
    chance = _chance(built) if metric in {"acc", "acc_norm"} else None
    return Measurement(
        metric=metric,
        metrics=metrics,
        baselines={} if chance is None else {"chance": chance},
        examples=sum(built.counts.values()),
        data=built.data,
        version=built.version,
        facts=facts,
        packages=PACKAGES,
        samples=_samples(name, results["samples"]),
    )


def prefetch(name: str, out: Path) -> None:
    """Download what a task asks, in the layout that `--data` reads.

    Only the split that is measured is kept: no examples are put before a question.

    Raises:
        InputError: no such task, or the hub cannot be reached.
    """
    from ettin.evaluation.lm.likelihood import quiet

    with quiet():
        built = build(name, None, limit=None)
    rows: dict[Path, list[Json]] = {}
    for member, task in built.tasks.items():
        split = str(task.config.test_split or task.config.validation_split)
        # Members of a group are tasks of their own, unless one file holds them all.
        folder = name if name in ONE_FILE or len(built.tasks) == 1 else member
        path = out / FOLDER / folder / f"{split}.jsonl.gz"
        rows.setdefault(path, []).extend(dict(row) for row in task.dataset[split])
    for path, content in rows.items():
        write_json_rows(path, content)


def _metrics(name: str, built: Built, results: Json, samples: Json) -> dict[str, Score]:
    """Metrics of the task; of a group their mean, and each member's main one by its own name."""
    by_task = {
        task: _scores(built.tasks[task], results[task], samples[task]) for task in built.tasks
    }
    if list(by_task) == [name]:
        return by_task[name]
    shared = set.intersection(*(set(scores) for scores in by_task.values()))
    combined = {
        metric: _mean(
            [scores[metric] for scores in by_task.values()],
            list(built.counts.values()) if built.weighted else [1] * len(by_task),
        )
        for metric in sorted(shared)
    }
    if not combined:
        raise InputError(f"the tasks of lm/{name} have no metric in common; measure them by name")
    main = _main_metric(name, combined)
    each = {task.removeprefix(f"{name}_"): scores[main] for task, scores in by_task.items()}
    return {**combined, **each}


def _scores(task: Any, results: Json, samples: list[Json]) -> dict[str, Score]:
    """The metrics of one task, with standard errors of those that are means over examples."""
    scores: dict[str, Score] = {}
    for key, value in results.items():
        metric, comma, chosen = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            continue
        values = [
            sample[metric]
            for sample in samples
            if sample["filter"] == chosen and isinstance(sample.get(metric), int | float)
        ]
        # The answers of several filters may be counted; the first is the task's own.
        metric = metric if metric not in scores else f"{metric} {chosen}"
        scores[metric] = Score(value=float(value), stderr=_stderr(values, float(value)))
    if not scores:
        raise InputError(f"{task.config.task} has no metric that is a number")
    return scores


def _stderr(values: Sequence[float], mean: float) -> float | None:
    """Standard error of a mean over examples; None for what is no such mean."""
    if len(values) < 2 or abs(float(np.mean(values)) - mean) > 1e-9:
        return None
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def _mean(scores: list[Score], weights: list[int]) -> Score:
    """Weighted mean, its standard error by that of independent parts."""
    total = sum(weights)
    value = sum(score.value * weight for score, weight in zip(scores, weights, strict=True)) / total
    if any(score.stderr is None for score in scores):
        return Score(value=value)
    squares = ((score.stderr or 0) * weight for score, weight in zip(scores, weights, strict=True))
    return Score(value=value, stderr=math.sqrt(sum(each**2 for each in squares)) / total)


def _main_metric(name: str, metrics: dict[str, Score]) -> str:
    preferred = (MAIN_METRICS.get(name), "acc", "exact_match", *metrics)
    return next(metric for metric in preferred if metric in metrics)


def _chance(built: Built) -> float | None:
    """What guessing gets, if there are choices; averaged as the metric is."""
    shares: list[float] = []
    for name, task in built.tasks.items():
        if task.OUTPUT_TYPE != "multiple_choice":
            return None
        examples = (task.eval_docs[number] for number in range(built.counts[name]))
        shares.append(float(np.mean([1 / len(task.doc_to_choice(each)) for each in examples])))
    weights = list(built.counts.values()) if built.weighted else None
    return float(np.average(shares, weights=weights))


def _samples(name: str, samples: dict[str, list[Json]]) -> list[Json]:
    """One object a request: what was asked, and what the model thinks of it."""
    found = []
    for task, examples in samples.items():
        first = examples[0]["filter"]
        for example in (each for each in examples if each["filter"] == first):
            part = {} if task == name else {"task": task}
            for choice, (arguments, answers) in enumerate(
                zip(example["arguments"], example["resps"], strict=True)
            ):
                facts = {**part, "example": example["doc_id"], "choice": choice}
                found.append({**facts, **_answer(arguments, answers[0], example)})
    return found


def _answer(arguments: Sequence[Any], answer: Any, example: Json) -> Json:
    metrics = {metric: example[metric] for metric in example["metrics"]}
    target = example["target"]
    if isinstance(answer, str):
        context: Json = {"context": arguments[0], "generated": answer}
        return {**context, "answer": example["filtered_resps"][0], "target": target, **metrics}
    log_likelihood, is_greedy = answer if isinstance(answer, tuple) else (answer, None)
    return {
        "context": arguments[0],
        "continuation": arguments[1] if len(arguments) > 1 else "",
        "log_likelihood": log_likelihood,
        "is_greedy": is_greedy,
        "target": target,
        **{key: value for key, value in metrics.items() if isinstance(value, int | float)},
    }
