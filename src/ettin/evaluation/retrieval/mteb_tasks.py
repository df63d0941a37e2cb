"""Retrieval as `mteb` measures it: tasks by name or made of folders, one way of scoring them all.

A collection in a folder becomes a task object of `mteb`; one from the hub is one already. Models
and BM25 are searched with by the same call, and the score of every query is kept, so that means
have standard errors.
"""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from ettin import files
from ettin.errors import InputError, nearest
from ettin.evaluation.libraries import allow_hub, quiet
from ettin.evaluation.retrieval import collections
from ettin.evaluation.retrieval.collections import Collection, Judgements
from ettin.files import Json
from ettin.records import Score

BENCHMARK = "MTEB(eng, v2)"
TASKS = {
    "arguana": "ArguAna", "climate-fever": "ClimateFEVER",
    "codesearchnet": "CodeSearchNetRetrieval", "dbpedia": "DBPedia",
    "fever": "FEVER", "fiqa": "FiQA2018", "hotpotqa": "HotpotQA",
    "mldr": "MultiLongDocRetrieval", "msmarco": "MSMARCO", "nfcorpus": "NFCorpus", "nq": "NQ",
    "quora": "QuoraRetrieval", "scidocs": "SCIDOCS", "scifact": "SciFact",
    "touche2020": "Touche2020", "trec-covid": "TRECCOVID",
}  # fmt: skip
"""Short names of tasks of `mteb`."""
METRICS = {
    "ndcg_at_10": "ndcg_cut_10", "recall_at_10": "recall_10", "recall_at_100": "recall_100"
}  # fmt: skip
"""What is recorded, by what the scorer behind `mteb` calls it."""
OTHER_DOCUMENTS = 1_000
"""Of documents that are not judged, a limited task keeps so many."""
BM25 = "bm25s, lucene, k1 1.5, b 0.75; stop words and Snowball stemmer of the language (English)"


@dataclass(frozen=True)
class QueryResult:
    """What a search found for one query: its metrics, and the ten best documents with scores."""

    metrics: dict[str, float]
    best: list[tuple[str, float]]


Results = dict[str, dict[str, QueryResult]]
"""Subset (a language, say; `default` where there is one) → query id → result."""


def from_hub(name: str) -> Any:
    """A retrieval task of `mteb` without its data, measured on its test split.

    Args:
        name: one of `TASKS`, or the name that `mteb` gives to it.

    Raises:
        InputError: there is no such task, or it is none of retrieval.
    """
    import mteb
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    given = TASKS.get(name, name)
    try:
        task: Any = mteb.get_task(given, languages=["eng"] if name == "mldr" else None)
    except KeyError as error:
        raise InputError(f"mteb has no task {given!r}; {nearest(name, TASKS)}") from error
    if not isinstance(task, AbsTaskRetrieval):
        raise InputError(f"{given} is a task of {task.metadata.type}, not of retrieval")
    if "test" in task.eval_splits:
        task._eval_splits = ["test"]
    return task


def benchmark_tasks() -> list[Any]:
    """The tasks of the English benchmark, without their data."""
    import mteb

    return list(mteb.get_benchmark(BENCHMARK).tasks)


def load(task: Any, folder: Path | None, *, offline: bool = False) -> None:
    """Give a task its data: those of a folder that `store` filled, or else from the hub.

    Args:
        task: changed in place.
        folder: with the data; None: the hub, or what is left of it in the hub's own cache.
        offline: the hub must not be asked.

    Raises:
        InputError: the data cannot be had.
    """
    if folder is not None:
        parts = {path.name: path for path in folder.iterdir() if path.is_dir()}
        if collections.is_collection(folder):
            parts = {"default": folder}
        task.dataset = {}
        for subset, part in sorted(parts.items()):
            collection = collections.open_collection(part)
            split = collections.measured_split(part)
            task.dataset[subset] = {split: _split_data(collection, split)}
            task._eval_splits = [split]
        task.data_loaded = True
        return
    try:
        allow_hub(offline=offline)
        task.load_data()
        if hasattr(task, "convert_v1_dataset_format_to_v2"):
            task.convert_v1_dataset_format_to_v2(num_proc=None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        short = short_name(task.metadata.name)
        raise InputError(
            f"the data of {task.metadata.name} cannot be had ({reason}); fetch them where there is "
            f"a network, with `ettin prefetch --tasks retrieval/{short} --out DIR`, and give "
            "--data DIR"
        ) from error


def store(task: Any, folder: Path) -> None:
    """Write the data of a loaded retrieval task as collections: one, or one for each subset."""
    split = task.eval_splits[0]
    single = list(task.dataset) == ["default"]
    for subset, splits in task.dataset.items():
        collections.write_collection(
            folder if single else folder / subset,
            corpus=splits[split]["corpus"],
            queries=splits[split]["queries"],
            relevant=splits[split]["relevant_docs"],
            split="test" if split == "test" else "dev",
        )
    # Written last: a folder without it is no task of mteb's.
    files.write_json(
        folder / collections.DESCRIPTION,
        {"task": task.metadata.name, "revision": revision(task), "split": split},
    )


def short_name(name: str) -> str:
    """Our name of a task of `mteb`: the short one where there is one."""
    return next((short for short, long in TASKS.items() if long == name), name)


def revision(task: Any) -> str:
    """The commit of a task's data on the hub."""
    return str(task.metadata.dataset["revision"])


def from_collection(collection: Collection, split: str) -> Any:
    """A task object of `mteb` over one split of a collection."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    described = TaskMetadata.model_validate({
        "name": f"Local-{collection.name}", "description": f"The collection {collection.name}.",
        "dataset": {"path": "local/collection", "revision": "local"}, "reference": None,
        "type": "Retrieval", "category": "t2t", "modalities": ["text"],
        "eval_splits": [split], "eval_langs": [f"{collection.language}-Latn"],
        "main_score": "ndcg_at_10",
    })  # fmt: skip

    class Local(AbsTaskRetrieval):
        metadata = described

        def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:  # noqa: ARG002 - mteb's
            self.dataset = {"default": {split: _split_data(collection, split)}}
            self.data_loaded = True

    task = Local()
    task.load_data()
    return task


def _split_data(collection: Collection, split: str) -> Any:
    from datasets import Dataset

    relevant = collection.relevant(split)
    ids, documents = list(collection.documents), list(collection.documents.values())
    corpus = {"id": ids, "title": [each.title for each in documents]}
    return {
        "corpus": Dataset.from_dict({**corpus, "text": [each.text for each in documents]}),
        "queries": Dataset.from_dict({
            "id": list(relevant), "text": [collection.queries[query] for query in relevant]
        }),
        "relevant_docs": relevant,
        "top_ranked": None,
    }  # fmt: skip


def cut(task: Any, limit: int | None) -> Json:
    """Keep the first queries of every subset, their judged documents and a fixed sample of others.

    Args:
        task: with its data; changed in place.
        limit: queries of each subset; None keeps everything.

    Returns:
        What was done, for the record; empty where nothing was.
    """
    if limit is None:
        return {}
    said: Json = {}
    for subset, splits in task.dataset.items():
        for split, data in splits.items():
            splits[split], said[subset] = _cut(data, limit)
    return {"limited": said}


def _cut(data: Any, limit: int) -> tuple[Any, str]:
    relevant: Judgements = data["relevant_docs"]
    queries, corpus = list(data["queries"]["id"]), list(data["corpus"]["id"])
    kept = [query for query in queries if relevant.get(query)][:limit]
    judged = {document for query in kept for document in relevant[query]}
    others = [document for document in corpus if document not in judged]
    others = sorted(others, key=lambda each: xxhash.xxh3_64_intdigest(each.encode()))[
        :OTHER_DOCUMENTS
    ]
    wanted, chosen = judged | set(others), set(kept)
    cut_data = {
        **data,
        "queries": data["queries"].select([n for n, each in enumerate(queries) if each in chosen]),
        "corpus": data["corpus"].select([n for n, each in enumerate(corpus) if each in wanted]),
        "relevant_docs": {query: relevant[query] for query in kept},
    }
    return cut_data, (
        f"{len(kept)} of {len(queries)} queries, {len(judged)} judged and {len(others)} other "
        f"documents of {len(corpus)}"
    )


def size(task: Any) -> int:
    """Texts of a task: its queries and documents."""
    splits = [each[task.eval_splits[0]] for each in task.dataset.values()]
    return sum(len(each["queries"]) + len(each["corpus"]) for each in splits)


def search(task: Any, searcher: Any, *, batch_rows: int) -> Results:
    """Search for every query of a task, and score what was found.

    Args:
        task: with its data.
        searcher: a model of `sentence-transformers`, or `bm25()`.
        batch_rows: texts that are embedded at once.
    """
    import mteb

    results: Results = {}

    def keep(
        scores: dict[str, dict[str, float]], _judged: Any, found: Any, *, hf_subset: str, **_: Any
    ) -> dict[str, float]:
        results[hf_subset] = {
            query: QueryResult(
                {ours: value[theirs] for ours, theirs in METRICS.items()},
                _ranked(found[query])[:10],
            )
            for query, value in scores.items()
        }
        return {}

    task.task_specific_scores = keep
    with quiet(bars=hasattr(searcher, "encode")):
        mteb.evaluate(
            searcher, [task], encode_kwargs={"batch_size": batch_rows, "show_progress_bar": False},
            cache=None, co2_tracker=False, show_progress_bar=False,
        )  # fmt: skip
    return results


def bm25() -> Any:
    """What words alone find: BM25, to be searched with like a model."""
    import mteb

    with quiet():
        return mteb.get_model("mteb/baseline-bm25s")


def _ranked(found: dict[str, float]) -> list[tuple[str, float]]:
    """Best first; of equal scores the greater id first, which is the scorer's order."""
    return sorted(found.items(), key=lambda each: (each[1], each[0]), reverse=True)


def rank_by_words(task: Any, *, depth: int) -> dict[str, dict[str, float]]:
    """The best documents for each query by BM25, with their scores; a task of one subset."""
    ((subset, splits),) = task.dataset.items()
    ((split, data),) = splits.items()
    about: Any = {"task_metadata": task.metadata, "hf_split": split, "hf_subset": subset}
    searcher = bm25()
    with quiet(bars=False):
        searcher.index(data["corpus"], encode_kwargs={}, **about)
        found = searcher.search(data["queries"], top_k=depth, encode_kwargs={}, **about)
    return dict(found)


def summary(results: Results) -> dict[str, Score]:
    """Means over queries with their standard errors; over subsets, the mean of their means."""
    scores: dict[str, Score] = {}
    for metric in METRICS:
        parts = {
            subset: mean([each.metrics[metric] for each in queries.values()])
            for subset, queries in results.items()
        }
        scores[metric] = mean_of(list(parts.values()))
        if len(parts) > 1:
            scores |= {f"{metric}/{subset}": part for subset, part in parts.items()}
    return scores


def mean(values: list[float]) -> Score:
    """The mean of independent values, with its standard error."""
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Score(value=statistics.fmean(values), stderr=spread)


def mean_of(parts: list[Score]) -> Score:
    """The mean of scores of different examples, with its standard error where all have one."""
    value = statistics.fmean(part.value for part in parts)
    errors = [part.stderr for part in parts if part.stderr is not None]
    if len(errors) < len(parts):
        return Score(value=value)
    return Score(value=value, stderr=math.hypot(*errors) / len(parts))
