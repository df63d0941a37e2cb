"""The loop that fine-tunes a classifier, and the one that asks it.

    fit(classifier, examples, targets, plan, seed=1, batch_tokens=16384)
    predict(classifier, examples, batch_tokens=16384)       # [examples, outputs], on the CPU

Own code and not `transformers.Trainer`: a batch stays the same batch when memory runs out (its
gradients are then summed over smaller parts), both kinds are pooled outside of the stock forward
pass, and a run of ten steps takes no second to begin.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ettin.errors import InputError
from ettin.evaluation.classification.classifier import Classifier, Encoded
from ettin.evaluation.task import halving

BATCH_SIZE = 64
BETAS, EPSILON = (0.9, 0.98), 1e-6
WARMUP_SHARE = 0.06
_CPU_TOKENS = 2048
"""Of one forward pass on a CPU: no slower than more, and parts of like lengths pad less."""


@dataclass(frozen=True)
class Plan:
    """One setting of what a sweep varies.

    Attributes:
        learning_rate: the highest, after warm-up.
        weight_decay: of a step at the highest learning rate, and shrinking with it: the share that
            weights lose. (Decoupled from the learning rate as the published one is;
            `torch.optim.AdamW` multiplies with it.)
        epochs: over the training split.
    """

    learning_rate: float
    weight_decay: float
    epochs: int


def fit(
    classifier: Classifier,
    examples: Sequence[Encoded],
    targets: Sequence[float],
    plan: Plan,
    *,
    seed: int,
    batch_tokens: int,
    go_on: Callable[[int], bool] = lambda _epoch: True,
    advance: Callable[[float], None] = lambda _share: None,
) -> list[float]:
    """Train all weights: AdamW, linear warm-up and decay, cross-entropy or squared error.

    Args:
        classifier: changed in place; left in evaluation mode.
        examples: what to learn from.
        targets: classes, or scores where the classifier has one output.
        plan: learning rate, weight decay, epochs.
        seed: of the order, and of dropout where the model has it.
        batch_tokens: of one forward pass, padding included; changes nothing but rounding.
        go_on: asked after each epoch (from 1); False ends it.
        advance: told the share of steps that are done.

    Returns:
        The mean loss of each step.
    """
    network = classifier.network
    batch_tokens = _parts(classifier, batch_tokens)
    batches = -(-len(examples) // BATCH_SIZE)
    steps = batches * plan.epochs
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=plan.learning_rate,
        betas=BETAS,
        eps=EPSILON,
        weight_decay=plan.weight_decay / plan.learning_rate,
    )
    torch.manual_seed(seed)
    losses = []
    for epoch in range(plan.epochs):
        network.train()
        order = np.random.default_rng((seed, epoch)).permutation(len(examples)).tolist()
        for batch in range(batches):
            step = epoch * batches + batch
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * rate_share(step, steps)
            chosen = order[batch * BATCH_SIZE : (batch + 1) * BATCH_SIZE]
            chosen.sort(key=lambda each: len(examples[each]))
            loss, batch_tokens = _gradients(classifier, examples, targets, chosen, batch_tokens)
            if not math.isfinite(loss):
                raise InputError(f"fine-tuning diverged: the loss of a batch is {loss}")
            losses.append(loss)
            optimizer.step()
            advance((step + 1) / steps)
        network.eval()
        if not go_on(epoch + 1):
            break
    return losses


def rate_share(step: int, steps: int) -> float:
    """The learning rate of a step (from 0) as a share of the highest: up in 6 %, then down to 0."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / (steps - warmup + 1)


def _gradients(
    classifier: Classifier,
    examples: Sequence[Encoded],
    targets: Sequence[float],
    chosen: list[int],
    batch_tokens: int,
) -> tuple[float, int]:
    """The gradients of one batch, in parts that fit; its mean loss, and the tokens that fitted."""
    longest = len(examples[chosen[-1]])

    def run(tokens: int) -> tuple[float, int]:
        classifier.network.zero_grad(set_to_none=True)
        size = max(1, tokens // longest)
        total = 0.0
        for start in range(0, len(chosen), size):
            part = chosen[start : start + size]
            answers = classifier.answers([examples[each] for each in part])
            loss = _loss(answers, [targets[each] for each in part]) / len(chosen)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total, tokens

    result: tuple[float, int] = halving(batch_tokens, run)
    return result


def _loss(answers: Tensor, targets: list[float]) -> Tensor:
    """Summed over the examples."""
    if answers.shape[1] == 1:
        return F.mse_loss(answers[:, 0], answers.new_tensor(targets), reduction="sum")
    classes = torch.tensor(targets, dtype=torch.long, device=answers.device)
    return F.cross_entropy(answers, classes, reduction="sum")


@torch.no_grad()
def predict(classifier: Classifier, examples: Sequence[Encoded], *, batch_tokens: int) -> Tensor:
    """Answers for all examples, `[examples, outputs]`, fp32 on the CPU, in the order given."""
    order = sorted(range(len(examples)), key=lambda each: len(examples[each]), reverse=True)
    found = torch.empty(0)
    batch_tokens = _parts(classifier, batch_tokens)
    start = 0
    while start < len(order):
        longest = len(examples[order[start]])

        def run(tokens: int) -> tuple[Tensor, int]:
            size = max(1, tokens // longest)  # noqa: B023 - called at once
            part = order[start : start + size]  # noqa: B023
            return classifier.answers([examples[each] for each in part]).cpu(), tokens

        answers, batch_tokens = halving(batch_tokens, run)
        if not len(found):
            found = torch.empty(len(examples), answers.shape[1])
        found[order[start : start + len(answers)]] = answers
        start += len(answers)
    return found


def _parts(classifier: Classifier, batch_tokens: int) -> int:
    return min(batch_tokens, _CPU_TOKENS) if classifier.device.type == "cpu" else batch_tokens
