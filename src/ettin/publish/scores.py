"""Results in the card of a model: as a table for people, and as the hub's `model-index`."""

from huggingface_hub import EvalResult

from ettin.files import Json
from ettin.model_words import plain


def results_section(records: list[Json]) -> list[str]:
    """A table of results, in paragraphs of Markdown; none without results."""
    if not records:
        return []
    rows = [
        f"| {plain(str(each['task']))} | {plain(str(each['metric']))} | {_score(each)} | "
        f"{plain(str(each.get('examples', '')))}{_limited(each)} |"
        for each in _sorted(records)
    ]
    head = ["| task | metric | value | examples |", "|---|---|--:|--:|"]
    return ["## Results", "Of the last checkpoint.", "\n".join([*head, *rows])]


def model_index(name: str, records: list[Json]) -> Json:
    """Results as the hub's `model-index`; limited ones are no benchmark's and stay out of it."""
    results = [
        EvalResult(
            task_type=_task_type(str(each["task"])),
            dataset_type=str(each["task"]),
            dataset_name=str(each["task"]),
            metric_type=str(each["metric"]),
            metric_value=round(float(each["value"]), 6),
        )
        for each in _sorted(records)
        if not each.get("limit")
    ]
    if not results:
        return {}
    return {"model_name": name.partition("/")[2], "eval_results": results}


def _sorted(records: list[Json]) -> list[Json]:
    return sorted(records, key=lambda each: (str(each["task"]), str(each["metric"])))


def _limited(record: Json) -> str:
    return f" (the first {record['limit']})" if record.get("limit") else ""


def _score(record: Json) -> str:
    stderr = record.get("stderr")
    value = f"{float(record['value']):.4g}"
    return f"{value} ± {float(stderr):.2g}" if isinstance(stderr, int | float) else value


def _task_type(task: str) -> str:
    family = task.partition("/")[0]
    known = {"classification": "text-classification", "retrieval": "sentence-similarity"}
    return known.get(family, "text-generation" if family == "lm" else "other")
