"""The numbers of the paper, and which of ours may stand beside them.

    published("cross")              rows of published.csv, as printed, in percent
    ours(results, column)           our value for a column of the paper, or None

`published.csv` is data: table, model, size, parameters, role, task, metric, percent, whether the
value was read from a drawing (approximate), and where it stands. A number of ours stands in a
column only if task and metric are those of the column, nothing was limited, and the model was
fine-tuned as published.
"""

import csv
import statistics
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ettin.files import Json
from ettin.report.averages import Average, average, chosen
from ettin.report.collect import number
from ettin.report.tidy import Result

PAPER = "arXiv 2507.11412"
_FILE = Path(__file__).with_name("published.csv")
_GLUE = ("mnli", "cola", "sst2", "mrpc", "stsb", "qqp", "qnli", "rte")
_BESIDE = {"mrpc": "f1", "qqp": "f1", "mnli": "accuracy_mismatched"}
_MAIN = {"cola": "matthews", "stsb": "spearman"}


class Published(NamedTuple):
    """One published number.

    Attributes:
        table: `encoders`, `decoders`, `cross` or `pronouns`.
        model: as the paper calls it.
        size: of Ettin's models; empty for others.
        parameters: of Ettin's models.
        role: as `collect.Run.role`.
        task: as ours is called, or what it is a mean of.
        metric: of it.
        percent: the value, in percent.
        approximate: whether it was read from a drawing.
        source: where it is printed or drawn.
    """

    table: str
    model: str
    size: str
    parameters: int | None
    role: str
    task: str
    metric: str
    percent: float
    approximate: bool
    source: str


class PaperColumn(NamedTuple):
    """A column of the paper: its heading, what it is called here, and what it is the mean of.

    Attributes:
        heading: as the paper has it.
        task: as in `published.csv`.
        metric: as in `published.csv`.
        parts: task → metrics whose mean counts for it.
    """

    heading: str
    task: str
    metric: str
    parts: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def one(cls, heading: str, task: str, metric: str) -> "PaperColumn":
        """A column of a single task."""
        return cls(heading, task, metric, ((task, (metric,)),))


MNLI = PaperColumn.one("MNLI", "classification/mnli", "accuracy")
MSMARCO = PaperColumn.one("MS MARCO", "retrieval/msmarco", "ndcg_at_10")
DECODER_COLUMNS = tuple(
    PaperColumn.one(heading, f"lm/{name}", metric)
    for heading, name, metric in (
        ("ARC", "arc_challenge", "acc_norm"),
        ("HS", "hellaswag", "acc_norm"),
        ("LMB", "lambada_openai", "acc"),
        ("OBQA", "openbookqa", "acc_norm"),
        ("PIQA", "piqa", "acc"),
        ("SciQ", "sciq", "acc_norm"),
        ("SIQA", "social_iqa", "acc"),
        ("TQA", "triviaqa", "exact_match"),
        ("WG", "winogrande", "acc"),
        ("WSC", "wsc273", "acc"),
    )
)
GENERATIVE = PaperColumn(
    "mean of ten", "generative", "mean", tuple(column.parts[0] for column in DECODER_COLUMNS)
)
ENCODER_COLUMNS = (
    *(
        PaperColumn.one(heading, f"retrieval/{name}", metric)
        for heading, name, metric in (
            ("CSN", "codesearchnet", "ndcg_at_10"),
            ("MLDR", "mldr", "ndcg_at_10"),
            ("MTEB clustering", "mteb-all", "mean/Clustering"),
            ("MTEB retrieval", "mteb", "ndcg_at_10"),
            ("MTEB v2 mean", "mteb-all", "mean"),
        )
    ),
    PaperColumn.one("SST-2", "classification/sst2", "accuracy"),
    MNLI,
    PaperColumn(
        "GLUE", "glue", "mean",
        tuple(
            (f"classification/{name}",
             (_MAIN.get(name, "accuracy"), *([_BESIDE[name]] if name in _BESIDE else [])))
            for name in _GLUE
        ),
    ),
)  # fmt: skip


@cache
def published(table: str) -> tuple[Published, ...]:
    """The published numbers of one table, in its order."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == table]
    return tuple(
        Published(
            table=row["table"],
            model=row["model"],
            size=row["size"],
            parameters=int(row["parameters"]) if row["parameters"] else None,
            role=row["role"],
            task=row["task"],
            metric=row["metric"],
            percent=float(row["percent"]),
            approximate=row["approximate"] == "yes",
            source=row["source"],
        )
        for row in rows
    )


def ours(results: Iterable[Result], column: PaperColumn) -> Average | None:
    """What models of ours have in a column of the paper, as a share of 1.

    Args:
        results: of runs that differ in their training seeds alone.
        column: of the paper.

    Returns:
        None unless every task of it was measured whole and as published.
    """
    wanted = dict(column.parts)
    fitting = chosen(
        result for result in results if result.task in wanted and is_as_published(result)
    )
    parts = []
    for task, metrics in column.parts:
        rows = [
            each
            for each in (_of_metrics(result, metrics) for result in fitting if result.task == task)
            if each is not None
        ]
        if not rows:
            return None
        parts.append(average(rows))
    errors = [part.error for part in parts if part.error is not None]
    whole = len(errors) == len(parts)
    return Average(
        statistics.fmean(part.value for part in parts),
        sum(error**2 for error in errors) ** 0.5 / len(parts) if whole else None,
        min(part.seeds for part in parts),
    )


def is_as_published(result: Result) -> bool:
    """Whether a result was measured on a whole task, in the way of the published numbers."""
    stated = result.record.get("settings")
    settings: Json = stated if isinstance(stated, dict) else {}
    found = settings.get("found")
    if result.limit or (isinstance(found, dict) and found.get("filled_splits")):
        return False
    if result.family == "classification":
        known = settings.get("layout") == "of the known task"
        return known and settings.get("preset") == "published"
    if result.family == "retrieval":
        training = settings.get("training")
        source = training.get("data") if isinstance(training, dict) else None
        return source == "msmarco" and settings.get("preset") == "published"
    if result.family == "lm":
        return settings.get("mode") in ("causal", "ettin") and not settings.get("num_fewshot")
    return False


def _of_metrics(result: Result, metrics: tuple[str, ...]) -> Result | None:
    """The result with the mean of some metrics of its record as its value; None if one lacks."""
    if metrics == (result.metric,):
        return result if result.value is not None else None
    stated = result.record.get("metrics")
    scores = [stated.get(name) if isinstance(stated, dict) else None for name in metrics]
    pairs = [score if isinstance(score, dict) else {} for score in scores]
    values = [value for pair in pairs if (value := number(pair.get("value"))) is not None]
    errors = [error for pair in pairs if (error := number(pair.get("stderr"))) is not None]
    if len(values) < len(metrics):
        return None
    # Metrics of one task are measured on the same examples: their errors do not cancel out.
    error = statistics.fmean(errors) if len(errors) == len(metrics) else None
    return replace(result, value=statistics.fmean(values), error=error)
