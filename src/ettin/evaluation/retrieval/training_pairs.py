"""What embedding models are trained on: queries, documents that answer them, others that do not.

Either a collection's own training judgements, or the triples of MS MARCO that the published models
were trained on (arXiv 2507.11412, section 4; settings of its `retrieval_eval/train_st.py`). Where
several learning rates are tried, a part is held out to choose between them, so that no test
split is ever looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import xxhash

from ettin.errors import InputError, nearest
from ettin.evaluation.libraries import allow_hub
from ettin.evaluation.retrieval import mteb_tasks
from ettin.evaluation.retrieval.collections import Collection, Document, Judgements
from ettin.files import Json

PUBLISHED_RATES = [1e-5, 2e-5, 3e-5, 5e-5, 8e-5, 1e-4, 3e-4]
"""The published sweep, and 3e-4, which the published examples use: small models want more."""
PRESETS: dict[str, Json] = {
    "quick": {"learning_rates": [3e-4], "batch_rows": 32, "steps": 60, "epochs": None,
              "negatives": "in-batch"},
    "published": {"learning_rates": PUBLISHED_RATES, "batch_rows": 1024, "steps": None,
                  "epochs": 1, "negatives": "in-batch and one hard"},
}  # fmt: skip
OWN_PUBLISHED: Json = {"batch_rows": 128, "epochs": 4}
"""Instead, with a collection's own judgements: they are hundreds, and one step would see all."""
COMMON: Json = {"loss": "CachedMultipleNegativesRankingLoss", "scale": 20.0,
                "mini_batch_rows": 64, "warmup": 0.05, "schedule": "linear", "optimizer": "AdamW",
                "sampler": "no duplicates"}  # fmt: skip
QUICK_TOKENS = 256
"""Longest text with the preset `quick`; `published` takes all that the model takes."""

MSMARCO = "sentence-transformers/msmarco-co-condenser-margin-mse-sym-mnrl-mean-v1"
MSMARCO_CONFIG = "triplet-hard"
MSMARCO_FOLDER = Path("training") / "msmarco"
"""Of the triples, in the folder with data."""
_MSMARCO_TRIPLES, _MSMARCO_HELD_OUT, _MSMARCO_SEED = 1_250_000, 1_000, 12
_MSMARCO_COLUMNS = ["query", "positive", "negative"]
_HELD_OUT_QUERIES = 200
_HARD_DEPTH = 20
"""A hard negative is the best of so many that BM25 finds and nobody judged relevant."""


@dataclass(frozen=True)
class Pairs:
    """Examples (`anchor`, `positive`, perhaps `negative`), and a task of what was held out."""

    examples: Any
    held_out: Any | None


def training_settings(
    preset: str, *, source: str, identity: str, max_tokens: int, pooling: str, seed: int, bf16: bool
) -> Json:
    """Everything that a training depends on, but for the model.

    Args:
        preset: one of `PRESETS`.
        source: `own` judgements or `msmarco`.
        identity: fingerprint or revision of the examples.
        max_tokens: longest text.
        pooling: how a text becomes a vector.
        seed: of the order of examples.
        bf16: whether matrices are multiplied in bfloat16.

    Raises:
        InputError: unknown preset.
    """
    own = OWN_PUBLISHED if preset == "published" and source == "own" else {}
    if preset not in PRESETS:
        raise InputError(f"there is no preset {preset!r}; {nearest(preset, PRESETS)}")
    settings = {**COMMON, **PRESETS[preset], **own, "data": source, "identity": identity}
    return {**settings, "max_tokens": max_tokens, "pooling": pooling, "seed": seed, "bf16": bf16}


def bf16_on(device: str) -> bool:
    """Whether a device multiplies in bfloat16, as the published models were trained."""
    return device == "cuda" and torch.cuda.is_bf16_supported()


def longest(preset: str, model_tokens: int) -> int:
    """Tokens of the longest text with a preset, for a model that takes so many."""
    return min(QUICK_TOKENS, model_tokens) if preset == "quick" else model_tokens


def own_pairs(collection: Collection, *, test_split: str, training: Json) -> Pairs:
    """The training judgements of a collection, without queries that are measured on.

    Args:
        collection: with a training split.
        test_split: what is measured on.
        training: `learning_rates` (several: a fifth of the queries is held out, at most 200) and
            `negatives`.

    Raises:
        InputError: nothing is left to train on.
    """
    judged = collection.training(test_split=test_split)
    queries = sorted(judged, key=lambda query: xxhash.xxh3_64_intdigest(query.encode()))
    sweeping = len(training["learning_rates"]) > 1
    held = set(queries[: min(len(queries) // 5, _HELD_OUT_QUERIES)] if sweeping else [])
    kept = {query: found for query, found in judged.items() if query not in held}
    if len(kept) < 2 or (sweeping and not held):
        raise InputError(
            f"{collection.name}: {len(judged)} training queries beside those of {test_split} are "
            "too few to train on; remove the training judgements to score the model as it stands"
        )
    examples = _examples(collection, kept, hard=training["negatives"] != "in-batch")
    if not held:
        return Pairs(examples, None)
    part = {query: judged[query] for query in held}
    chosen = replace(collection, judgements={"held-out": part})
    task = mteb_tasks.from_collection(chosen, "held-out")
    mteb_tasks.cut(task, _HELD_OUT_QUERIES)
    return Pairs(examples, task)


def _examples(collection: Collection, judged: Judgements, *, hard: bool) -> Any:
    from datasets import Dataset

    rows = [
        (query, document)
        for query, found in judged.items()
        for document, score in found.items()
        if score > 0
    ]
    columns = {
        "anchor": [collection.queries[query] for query, _ in rows],
        "positive": [collection.documents[document].whole for _, document in rows],
    }
    if hard:
        negatives = _hard_negatives(collection, judged)
        columns["negative"] = [collection.documents[negatives[query]].whole for query, _ in rows]
    return Dataset.from_dict(columns)


def _hard_negatives(collection: Collection, judged: Judgements) -> dict[str, str]:
    """For each query, what BM25 ranks highest of the documents that are not relevant."""
    task = mteb_tasks.from_collection(replace(collection, judgements={"all": judged}), "all")
    depth = _HARD_DEPTH + max(len(found) for found in judged.values())
    rankings = mteb_tasks.rank_by_words(task, depth=depth)
    chosen = {}
    for query, found in judged.items():
        ranked = sorted(rankings[query].items(), key=lambda each: (-each[1], each[0]))
        candidates = (document for document, _ in ranked if found.get(document, 0) <= 0)
        negative = next(candidates, None)
        if negative is None:
            raise InputError(f"{collection.name}: every document answers the query {query!r}")
        chosen[query] = negative
    return chosen


def msmarco_pairs(folder: Path | None, *, training: Json, offline: bool) -> Pairs:
    """The published triples: 1.25 million to train on, and 1,000 held out.

    Args:
        folder: where `store_msmarco` left them; None: the hub.
        training: `learning_rates`, `steps` and `batch_rows`.
        offline: the hub must not be asked.

    Raises:
        InputError: they cannot be had.
    """
    import pyarrow.parquet as parquet
    from datasets import Dataset

    if folder is None:
        train, held_out = _msmarco_from_hub(offline=offline)
    else:
        try:
            train, held_out = (
                Dataset(parquet.read_table(folder / name))
                for name in ("train.parquet", "held_out.parquet")
            )
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the training triples in {folder}: {error}") from error
    if training["steps"] is not None:
        wanted = training["steps"] * training["batch_rows"]
        train = train.select(range(min(wanted, len(train))))
    task = None
    if len(training["learning_rates"]) > 1:
        task = mteb_tasks.from_collection(_triples_collection(held_out), "held-out")
    names = dict(zip(_MSMARCO_COLUMNS, ("anchor", "positive", "negative"), strict=True))
    return Pairs(train.select_columns(_MSMARCO_COLUMNS).rename_columns(names), task)


def store_msmarco(folder: Path) -> None:
    """Fetch the triples from the hub into a folder."""
    train, held_out = _msmarco_from_hub(offline=False)
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("held_out", held_out), ("train", train)):
        partial = folder / f".{name}.parquet.tmp"
        part.to_parquet(partial)
        partial.replace(folder / f"{name}.parquet")


def _msmarco_from_hub(*, offline: bool) -> tuple[Any, Any]:
    import datasets

    try:
        allow_hub(offline=offline)
        loaded = datasets.load_dataset(MSMARCO, MSMARCO_CONFIG, split="train")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the training triples {MSMARCO} cannot be had ({reason}); fetch them where there is "
            "a network, with `ettin prefetch --tasks retrieval/msmarco --out DIR`, and give "
            "--data DIR"
        ) from error
    parts = loaded.train_test_split(test_size=_MSMARCO_HELD_OUT, seed=_MSMARCO_SEED)
    train = parts["train"]
    return train.select(range(min(_MSMARCO_TRIPLES, len(train)))), parts["test"]


def _triples_collection(held_out: Any) -> Collection:
    """Held-out triples as a collection: each query among the passages of all."""
    passages: dict[str, str] = {}
    for row in held_out:
        for column in ("positive", "negative"):
            passages.setdefault(row[column], f"d{len(passages)}")
    return Collection(
        name="msmarco-held-out",
        documents={identifier: Document("", text) for text, identifier in passages.items()},
        queries={f"q{number}": row["query"] for number, row in enumerate(held_out)},
        judgements={
            "held-out": {
                f"q{number}": {passages[row["positive"]]: 1} for number, row in enumerate(held_out)
            }
        },
        language="eng",
        empty_documents=0,
    )


def judge_on(task: Any | None, search: Callable[[Any, Any], Any]) -> Callable[[Any], float]:
    """How good a model is on what was held out: its mean nDCG@10.

    Args:
        task: of what was held out; None where nothing was, and nobody will ask.
        search: scores a model on a task.
    """

    def judge(embedder: Any) -> float:
        assert task is not None
        return mteb_tasks.summary(search(task, embedder))["ndcg_at_10"].value

    return judge
