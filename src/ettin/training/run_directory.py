"""The directory of a run: begun once, recognised when it is continued, declared finished last.

runs/encoder/
    start.json       what it was begun with: corpus, order, shape, hash of the first weights
    recipe.yaml      the complete recipe, every default written out
    tokenizer/       the corpus's, so that the run can be exported anywhere
    sample.json      a few held-out rows, on which an export proves itself
    metrics.jsonl    ledger.jsonl    tensorboard/    checkpoints/<tag>/
    baselines.json   n-gram losses, when asked for
    manifest.json    last
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ettin import files
from ettin.data.corpus import Corpus
from ettin.data.phase_orders import fingerprint_of, order_of
from ettin.errors import InputError
from ettin.files import Json
from ettin.recipe import Recipe
from ettin.recipe_file import load_recipe

START = "start.json"
RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"
LEDGER = "ledger.jsonl"
BASELINES = "baselines.json"
SAMPLE = "sample.json"
TOKENIZER = "tokenizer"


@dataclass(frozen=True)
class RunSummary:
    """What a finished run says of itself.

    Attributes:
        run: its directory.
        checkpoints: tags in order.
        tokens: text tokens trained on.
        loss: of the last step, nats per label.
        validation_loss: after the last step, nats per label.
    """

    run: Path
    checkpoints: tuple[str, ...]
    tokens: int
    loss: float
    validation_loss: float


def begin(
    run: Path, *, recipe: Recipe, corpus: Corpus, start: Json, sample: list[list[int]]
) -> None:
    """Write what never changes during a run; `start.json`, written last, makes it one.

    Raises:
        InputError: `run` holds something that is not a run.
    """
    begun = {RECIPE, TOKENIZER, SAMPLE}
    found = {path.name for path in run.iterdir()} if run.exists() else set()
    if not {name for name in found if not name.endswith(".tmp")} <= begun:
        files.refuse_occupied(run)
    run.mkdir(parents=True, exist_ok=True)
    shutil.copytree(corpus.tokenizer_directory, run / TOKENIZER, dirs_exist_ok=True)
    files.write_atomic(
        run / RECIPE, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    )
    files.write_json(run / SAMPLE, {"rows": sample})
    files.write_json(run / START, start)


def is_begun(run: Path) -> bool:
    """Whether `run` is a run directory, finished or not."""
    return (run / START).is_file()


def refuse_another(run: Path, *, recipe: Recipe, corpus: Corpus, start: Json | None) -> None:
    """Continue a run only with what it was begun with.

    Raises:
        InputError: the recipe, the corpus, the order or the start differs; each difference is
            named.
    """
    begun, began = load_recipe(run / RECIPE), files.read_json(run / START)
    was, now = _flat(begun.what_is_learned()), _flat(recipe.what_is_learned())
    differences = [
        f"{name}: begun with {was.get(name)!r}, now {now.get(name)!r}"
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]
    if began["corpus"]["fingerprint"] != corpus.fingerprint:
        differences.append(
            f"corpus: begun with {began['corpus']['path']}, now {corpus.path.absolute()} "
            "(its content differs, or the run is of an ettin that knew corpora by their manifests)"
        )
    if began["start"] and start and began["start"]["weights"] != start["weights"]:
        differences.append(f"start: the weights of {start['where']} are others by now")
    if not differences:
        order = fingerprint_of([order_of(recipe, phase, corpus) for phase in recipe.phases])
        if order != began["order"]:
            differences.append(
                f"order: begun with {began['order']}, now {order} (another row_order, or this "
                "ettin orders rows differently)"
            )
    if differences:
        listed = "\n".join(f"  - {difference}" for difference in differences)
        raise InputError(
            f"{run} is another run and cannot be continued with this recipe:\n{listed}\n"
            "choose another --out, or give what it was begun with"
        )


def recorded_start(run: Path, where: str) -> Json | None:
    """The start of a run that has begun, as it was then, if it was given by the same words.

    A run goes on without its start, which may be gone or have moved on meanwhile.
    """
    if not is_begun(run):
        return None
    facts: Json | None = files.read_json(run / START)["start"]
    return facts if facts is not None and facts["where"] == where else None


def summary(run: Path) -> RunSummary:
    """Read a finished run's summary from its manifest."""
    facts = files.read_manifest(run, "run")["facts"]
    return RunSummary(
        run=run.absolute(),
        checkpoints=tuple(facts["checkpoints"]),
        tokens=facts["tokens"],
        loss=facts["loss"],
        validation_loss=facts["validation_loss"],
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted paths."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)  # type: ignore[assignment]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, each in items:
        flat |= _flat(each, f"{prefix}.{name}" if prefix else str(name))
    return flat
