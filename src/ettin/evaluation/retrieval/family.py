"""Retrieval: which documents answer a query, by the nearest embeddings.

    retrieval=my-collection     a folder in BEIR layout (`collections.py`); also DATA/retrieval/NAME
    retrieval/scifact           a task of `mteb`, by a short name or by its own
    retrieval/mteb              the ten retrieval tasks of its English benchmark, and their mean
    retrieval/mteb-all          all 41 tasks of the benchmark, and their mean

A model is trained to embed first: on the collection's own training judgements, or for tasks of
`mteb` on the published triples of MS MARCO. A collection without training judgements is measured
with the model as it stands, and the record says so. BM25 and chance stand beside every score.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ettin import files
from ettin.errors import InputError, nearest
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.retrieval import benchmark, collections, embedding, mteb_tasks, training_pairs
from ettin.evaluation.retrieval.mteb_tasks import Results
from ettin.evaluation.retrieval.places import (
    ALL_TASKS,
    FAMILY,
    RETRIEVAL_TASKS,
    Place,
    names,
    places_of,
    retrieval_of_benchmark,
    triples_of,
)
from ettin.evaluation.retrieval.training_pairs import Pairs
from ettin.evaluation.task import Measurement, Request, halving
from ettin.files import Json
from ettin.records import Score

__all__ = ["GROUP", "measure", "names", "prefetch", "settings"]

GROUP = ("msmarco", "mldr", "codesearchnet", RETRIEVAL_TASKS)
"""What was published of this family; without local data, the group `retrieval` means these."""
MAIN_METRIC = "ndcg_at_10"
VERSION = "1"
_PACKAGES = ("sentence-transformers", "mteb", "tokenizers", "datasets")
_WORDS = ("bm25s", "PyStemmer")
_BM25_DOCUMENTS = 1_000_000
"""BM25 holds its index in memory; of larger collections it is left out, and the record says so."""
_TRAINING_SHARE = 0.7
"""Of the progress, for a task that is trained for."""
_BATCH_ROWS = 128


@dataclass(frozen=True)
class Searched:
    """What was found of one collection.

    Attributes:
        scores: by metric.
        baselines: nDCG@10 of simple methods.
        queries: how many.
        facts: what was left out or cut.
        samples: one object a query.
    """

    scores: dict[str, Score]
    baselines: dict[str, float]
    queries: int
    facts: Json
    samples: list[Json] = field(default_factory=list)


def settings(name: str, model: EvaluatedModel, request: Request) -> Json:
    """Everything that the result depends on.

    Args:
        name: of a task, or of a collection in `request.data`, or of that in `request.path`.
        model: what is measured.
        request: how; its `data`, `path`, `limit`, `seed`, `preset`, `pooling` and `device` count.

    Raises:
        InputError: unknown task or pooling; data that cannot be had.
    """
    if name == ALL_TASKS and request.limit is not None:
        raise InputError(f"{FAMILY}/{ALL_TASKS} cannot be limited; {RETRIEVAL_TASKS} can")
    places = places_of(name, request)
    pooling = embedding.pooling_of(model, request.pooling)
    if request.preset not in training_pairs.PRESETS:
        hint = nearest(request.preset, training_pairs.PRESETS)
        raise InputError(f"there is no preset {request.preset!r}; {hint}")
    bf16 = training_pairs.bf16_on(request.device)
    max_tokens = training_pairs.longest(request.preset, embedding.longest_text(model))
    shared: Json = {"max_tokens": max_tokens, "pooling": pooling, "bf16": bf16}
    own = places[0].folder if places[0].task is None else None
    training = None
    if own is None or collections.TRAINING_SPLIT in collections.split_files(own):
        source = "msmarco" if own is None else "own"
        training = training_pairs.training_settings(
            request.preset,
            source=source,
            identity=places[0].identity if source == "own" else training_pairs.MSMARCO,
            seed=request.seed or 0,
            **shared,
        )
    return {
        **shared,
        "preset": request.preset,
        "limit": request.limit,
        "data": [place.identity for place in places],
        "split": collections.measured_split(own) if own is not None else "test, or else dev",
        "training": training or "none: the model as it stands",
        "version": VERSION,
    }


def measure(name: str, model: EvaluatedModel, request: Request, settings: Json) -> Measurement:
    """Train the model to embed, where there is something to train on, and search.

    Args:
        name: as in `settings`.
        model: what is measured.
        request: how.
        settings: what `settings` gave.

    Raises:
        InputError: the data are malformed or cannot be had.
    """
    places = places_of(name, request)
    training = settings["training"] if isinstance(settings["training"], dict) else None
    path, found = model.path, {"trained": False}
    advance = request.advance
    if training is not None:
        path, found = _trained(places[0], model, request, settings, training)
        found = {"trained": True, **found}
        advance = _later(request.advance)
    embedder = _load(path, settings, request)
    data = files.fingerprint(settings["data"])[:16] if len(places) != 1 else places[0].identity
    if name == ALL_TASKS:
        with _precision(settings):
            scores = benchmark.measure_all(
                embedder,
                data=request.data,
                offline=request.offline,
                batch_rows=_batch_rows(request, settings),
                advance=advance,
            )
        count = len(mteb_tasks.benchmark_tasks())
        return Measurement("mean", scores, count, data, VERSION, facts=found, packages=_PACKAGES)
    parts: dict[str, Searched] = {}
    for number, place in enumerate(places):

        def part(share: float, note: str, number: int = number) -> None:
            advance((number + share) / len(places), note)

        parts[place.name] = _searched(place, embedder, request, settings, advance=part)
    return _joined(parts, data=data, found=found)


def prefetch(name: str, out: Path) -> None:
    """Fetch a task's data, and the triples that models are trained on, for `--data OUT`.

    Raises:
        InputError: unknown task, or no network.
    """
    if name == ALL_TASKS:
        benchmark.prefetch_all(out)
    else:
        given = retrieval_of_benchmark() if name == RETRIEVAL_TASKS else [name]
        for each in given:
            task = mteb_tasks.from_hub(each)
            folder = out / FAMILY / mteb_tasks.short_name(task.metadata.name)
            if not (folder / collections.DESCRIPTION).is_file():
                mteb_tasks.load(task, None)
                mteb_tasks.store(task, folder)
    if not (out / training_pairs.MSMARCO_FOLDER / "train.parquet").is_file():
        training_pairs.store_msmarco(out / training_pairs.MSMARCO_FOLDER)


def _trained(
    place: Place, model: EvaluatedModel, request: Request, settings: Json, training: Json
) -> tuple[Path, Json]:
    """The directory of the trained model, and what was found out on the way."""
    pairs = functools.cache(lambda: _pairs(place, request, training))

    def search(task: Any, embedder: Any) -> Results:
        return _search(task, embedder, request, settings, advance=lambda _share, _note: None)

    return embedding.fine_tuned(
        model,
        training,
        name=f"{FAMILY}-{training['data']}",
        examples=lambda: pairs().examples,
        judge=lambda embedder: training_pairs.judge_on(pairs().held_out, search)(embedder),
        out=request.out,
        device=request.device,
        advance=lambda share, note: request.advance(_TRAINING_SHARE * share, note),
    )


def _pairs(place: Place, request: Request, training: Json) -> Pairs:
    if training["data"] == "msmarco":
        return training_pairs.msmarco_pairs(
            triples_of(request), training=training, offline=request.offline
        )
    assert place.folder is not None
    collection = collections.open_collection(place.folder)
    split = collections.measured_split(place.folder)
    return training_pairs.own_pairs(collection, test_split=split, training=training)


def _later(advance: Callable[[float, str], None]) -> Callable[[float, str], None]:
    return lambda share, note: advance(_TRAINING_SHARE + (1 - _TRAINING_SHARE) * share, note)


def _load(path: Path, settings: Json, request: Request) -> Any:
    return embedding.load(
        path,
        pooling=settings["pooling"],
        max_tokens=settings["max_tokens"],
        device=request.device,
    )


def _batch_rows(request: Request, settings: Json) -> int:
    return max(1, min(_BATCH_ROWS, request.batch_tokens // int(settings["max_tokens"])))


def _searched(
    place: Place,
    embedder: Any,
    request: Request,
    settings: Json,
    *,
    advance: Callable[[float, str], None],
) -> Searched:
    """Search one collection with the model and with BM25."""
    facts: Json = {}
    if place.task is None:
        assert place.folder is not None
        collection = collections.open_collection(place.folder)
        task = mteb_tasks.from_collection(collection, collections.measured_split(place.folder))
        if collection.empty_documents:
            facts["empty_documents_left_out"] = collection.empty_documents
    else:
        task = mteb_tasks.from_hub(place.task)
        mteb_tasks.load(task, place.folder, offline=request.offline)
    facts |= mteb_tasks.cut(task, request.limit)
    results = _search(task, embedder, request, settings, advance=advance)
    splits = [each[task.eval_splits[0]] for each in task.dataset.values()]
    baselines = {
        "chance": sum(
            collections.chance(each["relevant_docs"], documents=len(each["corpus"]))
            for each in splits
        )
        / len(splits)
    }
    facts["documents"] = sum(len(each["corpus"]) for each in splits)
    if facts["documents"] <= _BM25_DOCUMENTS:
        facts["bm25"] = mteb_tasks.BM25
        by_words = mteb_tasks.search(task, mteb_tasks.bm25(), batch_rows=1)
        baselines["bm25"] = mteb_tasks.summary(by_words)[MAIN_METRIC].value
    else:
        facts["bm25"] = f"left out: more than {_BM25_DOCUMENTS:,} documents"
    samples = [
        {
            "collection": place.name,
            "subset": subset,
            "query": query,
            **result.metrics,
            "best": [{"document": document, "score": score} for document, score in result.best],
        }
        for subset, queries in results.items()
        for query, result in queries.items()
    ]
    return Searched(mteb_tasks.summary(results), baselines, len(samples), facts, samples)


def _search(
    task: Any,
    embedder: Any,
    request: Request,
    settings: Json,
    *,
    advance: Callable[[float, str], None],
) -> Results:
    """Search with an embedding model, telling how many texts are embedded."""
    total = mteb_tasks.size(task)
    done = 0

    def count(_module: Any, given: tuple[Any, ...]) -> None:
        nonlocal done
        done += given[0]["input_ids"].shape[0]
        advance(min(done / total, 1.0), "embedding")

    def run(batch_rows: int) -> Results:
        nonlocal done
        done = 0
        return mteb_tasks.search(task, embedder, batch_rows=batch_rows)

    hook = embedder.register_forward_pre_hook(count)
    try:
        with _precision(settings):
            found: Results = halving(_batch_rows(request, settings), run)
    finally:
        hook.remove()
    return found


@contextlib.contextmanager
def _precision(settings: Json) -> Iterator[None]:
    """Multiply in the precision that the settings state; fp32 on CPUs."""
    import torch

    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=settings["bf16"]):
        yield


def _joined(parts: dict[str, Searched], *, data: str, found: Json) -> Measurement:
    """One collection's results as they are; of several, means, and each beside them."""
    if len(parts) == 1:
        ((_, only),) = parts.items()
        scores, baselines, facts = only.scores, only.baselines, {**found, **only.facts}
    else:
        each = list(parts.values())
        scores = {
            metric: mteb_tasks.mean_of([part.scores[metric] for part in each])
            for metric in mteb_tasks.METRICS
        }
        scores |= {
            f"{MAIN_METRIC}/{name}": part.scores[MAIN_METRIC] for name, part in parts.items()
        }
        shared = set.intersection(*(set(part.baselines) for part in each))
        baselines = {
            name: sum(part.baselines[name] for part in each) / len(each) for name in sorted(shared)
        }
        facts = {**found, "collections": {name: part.facts for name, part in parts.items()}}
    return Measurement(
        metric=MAIN_METRIC,
        metrics=scores,
        baselines=baselines,
        examples=sum(part.queries for part in parts.values()),
        data=data,
        version=VERSION,
        facts=facts,
        packages=(*_PACKAGES, *_WORDS),
        samples=[sample for part in parts.values() for sample in part.samples],
    )
