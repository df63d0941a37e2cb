"""Classification as the paper has it: fine-tune a model on a task, then measure it.

    settings("cola", model, request)                       # names the record
    measure("cola", model, request, settings)              # GLUE and SNLI by name
    measure("mine", model, replace(request, path=folder), settings)

Twins are treated alike: both start from their pre-trained head, with the same new classifier on
it, see the same examples in the same order, and are given the same sweep. What differs is stated
in the settings: how hidden states are pooled, and that only encoders close a text with [SEP].

RTE, MRPC and STS-B start from the same model fine-tuned on MNLI with the same preset, where MNLI's
data are in the same place; that model is kept in `<out>/finetuned` and made once.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from ettin import files
from ettin.console import log
from ettin.errors import InputError, nearest
from ettin.evaluation.classification.classifier import Classifier, pooling_of
from ettin.evaluation.classification.data import (
    TRAINING_MULTIPLE,
    Place,
    TaskData,
    limited,
    locate,
    read_data,
)
from ettin.evaluation.classification.finetuning import (
    BATCH_SIZE,
    BETAS,
    EPSILON,
    WARMUP_SHARE,
    Plan,
)
from ettin.evaluation.classification.scores import (
    RESAMPLES,
    Numbers,
    scores,
    simple_answer,
    value_of,
)
from ettin.evaluation.classification.tasks import KNOWN, download
from ettin.evaluation.classification.tuning import (
    PATIENCE,
    Advance,
    Tuned,
    answers_of,
    truth_of,
    tune,
    within,
)
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.rows import write_json_rows
from ettin.evaluation.task import Measurement, Request
from ettin.files import Json
from ettin.records import file_name

GROUP = ("mnli", "cola", "sst2", "mrpc", "stsb", "qqp", "qnli", "rte")
"""GLUE, but for WNLI, which is left out as everywhere; MNLI first, since others start from it."""
VERSION = "1"
MAX_LENGTH = 256
FROM_MNLI = ("rte", "mrpc", "stsb")
QUICK_EXAMPLES = 10_000
QUICK = Plan(learning_rate=1e-4, weight_decay=1e-5, epochs=3)
PUBLISHED: dict[str, list[float]] = {
    "learning_rate": [1e-5, 3e-5, 5e-5, 8e-5],
    "weight_decay": [1e-6, 5e-6, 8e-6, 1e-5],
}
"""The published sweep, with one of these rows of epochs."""
FEW_EPOCHS, MANY_EPOCHS = [1, 2, 3], [2, 5, 10]
_FEW = ("sst2", "mnli", "snli", "rte")
PACKAGES = ("torch", "transformers", "tokenizers", "scikit-learn", "scipy")


def names() -> tuple[str, ...]:
    """The tasks that are known by name."""
    return tuple(KNOWN)


def settings(name: str, model: EvaluatedModel, request: Request) -> Json:
    """Everything that the result depends on.

    Args:
        name: of the task, or of a folder that `request.path` gives.
        model: what is fine-tuned.
        request: how.

    Raises:
        InputError: unknown task, preset or pooling; no data.
    """
    place = _place(name, request)
    start = _mnli_place(name, request)
    return {
        "preset": request.preset,
        "sweep": sweep(name, request.preset),
        "training_limit": _training_limit(request.preset),
        "patience": PATIENCE if request.preset == "published" else None,
        "batch_size": BATCH_SIZE,
        "optimizer": {"name": "AdamW", "betas": list(BETAS), "epsilon": EPSILON},
        "schedule": {"name": "linear", "warmup_share": WARMUP_SHARE},
        "max_length": MAX_LENGTH,
        "pooling": pooling_of(model, request.pooling),
        "starts_from": f"mnli ({start.identity})" if start else "the model",
        "data": place.identity,
        "layout": "of the known task" if place.known else "of a folder",
        "limit": request.limit,
        "training_multiple": TRAINING_MULTIPLE,
        "seed": _seed(request),
        "resamples": RESAMPLES,
        "version": VERSION,
    }


def sweep(name: str, preset: str) -> dict[str, list[float]]:
    """What is tried: every combination of these values.

    Raises:
        InputError: unknown preset.
    """
    if preset == "quick":
        return {key: [value] for key, value in asdict(QUICK).items()}
    if preset == "published":
        return {**PUBLISHED, "epochs": list(FEW_EPOCHS if name in _FEW else MANY_EPOCHS)}
    raise InputError(f"preset {preset!r}: {nearest(preset, ['quick', 'published'])}")


def measure(name: str, model: EvaluatedModel, request: Request, settings: Json) -> Measurement:
    """Fine-tune on the training split, choose on dev, and measure on test.

    Raises:
        InputError: the data or the model do not serve.
    """
    place = _place(name, request)
    data = _read(place, request, settings)
    start_place = _mnli_place(name, request)
    advance: Advance = request.advance
    start: Path | None = None
    if start_place is not None:
        start = _mnli_weights(
            model,
            request,
            start_place,
            within(request.advance, start=0.0, width=0.5, note="MNLI first"),
        )
        advance = within(request.advance, start=0.5, width=0.5)
    best = tune(data, model, request, settings, start=start, advance=advance)
    if name == "mnli" and request.path is None:
        _keep(best.classifier, model, request)
    return _measured(data, best, settings, batch_tokens=request.batch_tokens)


def _measured(data: TaskData, best: Tuned, settings: Json, *, batch_tokens: int) -> Measurement:
    truth = truth_of(data.test)
    how = {"max_length": int(settings["max_length"]), "batch_tokens": batch_tokens}
    answers, raw = answers_of(data, best.classifier, data.test, **how)
    metrics = scores(truth, answers, data.metrics)
    if data.mismatched:
        other = answers_of(data, best.classifier, data.mismatched, **how)[0]
        found = scores(truth_of(data.mismatched), other, ("accuracy",))
        metrics["accuracy_mismatched"] = found["accuracy"]
    called, constant = simple_answer(truth_of(data.train), regression=not data.labels)
    simple = value_of(data.metrics[0], truth, np.full(len(truth), constant))
    facts: Json = {
        **data.facts,
        "examples": {
            "train": len(data.train), "chosen_on": len(data.dev), "tested_on": len(data.test)
        },
        "picked": {**asdict(best.plan), "epochs_trained": best.epochs},
        "new_weights": best.classifier.new,
        "precision": "bfloat16" if best.classifier.uses_bf16 else "float32",
    }  # fmt: skip
    if best.dev is not None:
        facts["picked"]["dev"] = best.dev
        facts["tried"] = best.tried
    return Measurement(
        metric=data.metrics[0],
        metrics=metrics,
        examples=len(data.test),
        data=settings["data"],
        version=VERSION,
        baselines={called: simple},
        facts=facts,
        packages=PACKAGES,
        samples=_samples(data, answers, raw),
    )


def _samples(data: TaskData, answers: Numbers, raw: Numbers) -> list[Json]:
    def shown(value: float) -> str | float:
        return data.labels[int(value)] if data.labels else float(value)

    return [
        {
            "texts": list(example.texts),
            "label": shown(example.label),
            "answer": shown(answer),
            **({"logits": each.tolist()} if data.labels else {}),
        }
        for example, answer, each in zip(data.test, answers, raw, strict=True)
    ]


def _read(place: Place, request: Request, settings: Json) -> TaskData:
    training_limit: int | None = settings["training_limit"]
    return limited(read_data(place), request.limit, training_limit=training_limit)


def _place(name: str, request: Request) -> Place:
    return locate(name, data=request.data, path=request.path, offline=request.offline)


def _mnli_place(name: str, request: Request) -> Place | None:
    """Where MNLI is, for tasks that start from it; it must be where the task's own data are."""
    if name not in FROM_MNLI or request.path is not None:
        return None
    local = _place(name, request).folder is not None
    try:
        found = locate("mnli", data=request.data, path=None, offline=local or request.offline)
    except InputError:
        return None
    return found


def _mnli_weights(model: EvaluatedModel, request: Request, place: Place, advance: Advance) -> Path:
    """The weights after MNLI, made now if they are not there."""
    chosen = settings("mnli", model, request)
    path = _kept(model, request)
    if not files.is_finished(path.parent):
        log.info("%s: fine-tuning on MNLI first, to start from", model.name)
        data = _read(place, request, chosen)
        best = tune(data, model, request, chosen, start=None, advance=advance)
        _keep(best.classifier, model, request)
    return path


def _kept(model: EvaluatedModel, request: Request) -> Path:
    """Where the weights after MNLI lie: one folder for each model and setting."""
    chosen = settings("mnli", model, request)
    identity = files.fingerprint([chosen, model.surroundings])[:8]
    folder = f"{file_name(model.name)}-{model.weights[:8]}-mnli-{identity}"
    return request.out / "finetuned" / folder / "weights.safetensors"


def _keep(classifier: Classifier, model: EvaluatedModel, request: Request) -> None:
    """Keep weights after MNLI for the tasks that start from them."""
    chosen = settings("mnli", model, request)
    path = _kept(model, request)
    if files.is_finished(path.parent):
        return
    with files.staging(path.parent) as partial:
        classifier.save(partial / path.name)
        made_from = {"model": model.weights, "data": chosen["data"]}
        facts = {"task": "classification/mnli", "settings": chosen}
        files.write_manifest(partial, "finetuned", command=[], made_from=made_from, facts=facts)
    log.info("weights after MNLI, for %s: %s", ", ".join(FROM_MNLI), path.parent)


def _training_limit(preset: str) -> int | None:
    return QUICK_EXAMPLES if preset == "quick" else None


def _seed(request: Request) -> int:
    return 0 if request.seed is None else request.seed


def prefetch(name: str, out: Path) -> None:
    """Download a task, and MNLI where it starts from that, so that `--data out` has it.

    Args:
        name: of a known task.
        out: gets `classification/NAME/{train,dev,…}.jsonl.gz`.

    Raises:
        InputError: unknown task, or no network.
    """
    if name not in KNOWN:
        raise InputError(f"classification/{name}: no such task, {nearest(name, KNOWN)}")
    for each in (name, *(["mnli"] if name in FROM_MNLI else [])):
        folder = out / "classification" / each
        if folder.is_dir():
            continue
        splits = download(each)
        with files.staging(folder) as partial:
            for split, rows in splits.items():
                stem = "dev_mismatched" if split == "mismatched" else split
                write_json_rows(partial / f"{stem}.jsonl.gz", rows)
