"""A sweep: train with every setting from the same start, and keep what is best on dev.

One setting alone is not chosen: it is trained to its end and dev is not looked at.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from torch import Tensor

from ettin.evaluation.classification.classifier import Classifier, Encoded
from ettin.evaluation.classification.data import Example, TaskData
from ettin.evaluation.classification.finetuning import Plan, fit, predict
from ettin.evaluation.classification.scores import Numbers, value_of
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.task import Request
from ettin.files import Json

PATIENCE = 2
"""Epochs without a better dev score after which a training of a sweep ends."""

Advance = Callable[[float, str], None]


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned model.

    Attributes:
        classifier: with the best weights.
        plan: the setting that was picked.
        epochs: how long it was trained for these weights.
        dev: the main metric on dev; None where there was nothing to choose.
        tried: every setting with its `epochs_trained` and `dev`.
    """

    classifier: Classifier
    plan: Plan
    epochs: int
    dev: float | None
    tried: list[Json]


def tune(
    data: TaskData,
    model: EvaluatedModel,
    request: Request,
    settings: Json,
    *,
    start: Path | None,
    advance: Advance,
) -> Tuned:
    """Fine-tune a model on a task.

    Args:
        data: its examples.
        model: what to start from.
        request: for `device` and `batch_tokens`.
        settings: for `sweep`, `pooling`, `max_length` and `seed`.
        start: weights of another task to start from (`Classifier.save`).
        advance: told how much is done.

    Raises:
        InputError: the model cannot be fine-tuned.
    """
    plans = [
        Plan(rate, decay, int(epochs))
        for rate, decay, epochs in product(*settings["sweep"].values())
    ]
    best: Tuned | None = None
    tried: list[Json] = []
    for number, plan in enumerate(plans):
        classifier = Classifier(
            model,
            outputs=len(data.labels) or 1,
            pooling=settings["pooling"],
            seed=settings["seed"],
            device=request.device,
        )
        if start is not None:
            classifier.start_from(start)
        training = _Training(data, classifier, settings["max_length"], request.batch_tokens)
        note = f"setting {number + 1} of {len(plans)}" if len(plans) > 1 else "fine-tuning"
        found = training.run(
            plan,
            seed=settings["seed"],
            choose=len(plans) > 1,
            advance=within(advance, start=number / len(plans), width=1 / len(plans), note=note),
        )
        tried.append({**asdict(plan), "epochs_trained": found.epochs, "dev": found.dev})
        if best is None or (found.dev is not None and found.dev > (best.dev or float("-inf"))):
            best = found
    assert best is not None
    return Tuned(best.classifier, best.plan, best.epochs, best.dev, tried)


def within(advance: Advance, *, start: float, width: float, note: str = "") -> Advance:
    """A part of the progress, which is a whole to who works on it."""
    return lambda share, said: advance(start + width * share, said or note)


class _Training:
    """One training; `best` holds the weights that did best on dev so far."""

    def __init__(
        self, data: TaskData, classifier: Classifier, max_length: int, batch_tokens: int
    ) -> None:
        self.data = data
        self.classifier = classifier
        self.batch_tokens = batch_tokens
        self.max_length = max_length
        self.weights: dict[str, Tensor] = {}
        self.best: float | None = None
        self.best_epoch = 0

    def run(self, plan: Plan, *, seed: int, choose: bool, advance: Advance) -> Tuned:
        data = self.data
        center, spread = _scale(data)
        dev = _encoded(self.classifier, data.dev, self.max_length) if choose else []
        fit(
            self.classifier,
            _encoded(self.classifier, data.train, self.max_length),
            [(each.label - center) / spread for each in data.train],
            plan,
            seed=seed,
            batch_tokens=self.batch_tokens,
            go_on=(lambda epoch: self._look(dev, epoch)) if choose else (lambda _epoch: True),
            advance=lambda share: advance(share, ""),
        )
        if self.weights:
            self.classifier.restore(self.weights)
        epochs = self.best_epoch or plan.epochs
        return Tuned(self.classifier, plan, epochs, self.best, [])

    def _look(self, dev: list[Encoded], epoch: int) -> bool:
        """Measure on dev after an epoch; whether to go on."""
        raw = predict(self.classifier, dev, batch_tokens=self.batch_tokens).numpy()
        value = value_of(self.data.metrics[0], truth_of(self.data.dev), _read_off(self.data, raw))
        if self.best is None or value > self.best:
            self.best, self.best_epoch, self.weights = value, epoch, self.classifier.state()
        return epoch - self.best_epoch < PATIENCE


def answers_of(
    data: TaskData,
    classifier: Classifier,
    examples: list[Example],
    *,
    max_length: int,
    batch_tokens: int,
) -> tuple[Numbers, Numbers]:
    """The class or score of each example, and what the classifier said, `[examples, outputs]`."""
    encoded = _encoded(classifier, examples, max_length)
    raw = predict(classifier, encoded, batch_tokens=batch_tokens).numpy()
    return _read_off(data, raw), raw


def truth_of(examples: list[Example]) -> Numbers:
    """The right answers, `[examples]`."""
    return np.array([example.label for example in examples])


def _read_off(data: TaskData, raw: Numbers) -> Numbers:
    if data.labels:
        classes: Numbers = raw.argmax(1)
        return classes
    center, spread = _scale(data)
    scores: Numbers = raw[:, 0].astype(np.float64) * spread + center
    return scores


def _encoded(classifier: Classifier, examples: list[Example], max_length: int) -> list[Encoded]:
    return classifier.encode([example.texts for example in examples], max_length=max_length)


def _scale(data: TaskData) -> tuple[float, float]:
    """Mean and deviation of the scores that are learnt from: learning rates are for such targets.

    Neither correlation sees the difference.
    """
    if data.labels:
        return 0.0, 1.0
    values = truth_of(data.train)
    return float(values.mean()), float(values.std()) or 1.0
