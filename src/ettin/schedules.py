"""What changes over time, as pure functions of the step.

There is one clock: nominal tokens, `clock(phase, n) = Σ batch_rows(s) · row_tokens` over the
first n steps. Learning rates, checkpoints and validation read this clock and nothing else, so a
step's values are known without having trained the steps before it.

Steps count from 1. Step n trains with the learning rate at the clock before it, `clock(n − 1)`.
"""

import math

from ettin.recipe import Phase

_FLOOR = 1e-10
"""The share of the peak at clock 0 (the published scheduler's value), so that it is never 0."""


def batch_rows(phase: Phase, step: int) -> int:
    """Rows of optimiser step `step`, over all processes."""
    assert step >= 1
    return phase.batch_rows


def rows_before(phase: Phase, step: int) -> int:
    """Rows consumed before step `step`: the place in the order where the step begins."""
    return (step - 1) * phase.batch_rows


def clock(phase: Phase, step: int) -> int:
    """Nominal tokens after `step` steps."""
    return step * phase.batch_rows * phase.nominal_row_tokens


def total_steps(phase: Phase) -> int:
    """Steps of the phase: the first whose clock reaches the budget is the last."""
    return math.ceil(phase.tokens / (phase.batch_rows * phase.nominal_row_tokens))


def learning_rate_factor(phase: Phase, clock_tokens: float) -> float:
    """Warm-up, stable, decay: the learning rate at a clock reading, as a share of the peak.

    Linear from 1e-10 to 1 over `warmup_tokens`, 1 until `decay_tokens` before the end, then
    linear to `final_lr_factor` (recipe of arXiv 2507.11412; its scheduler "warmup_stable_decay").
    """
    if clock_tokens < phase.warmup_tokens:
        return _FLOOR + (1 - _FLOOR) * clock_tokens / phase.warmup_tokens
    decay_start = phase.tokens - phase.decay_tokens
    if clock_tokens <= decay_start or not phase.decay_tokens:
        return 1.0
    done = min(1.0, (clock_tokens - decay_start) / phase.decay_tokens)
    return 1 - done * (1 - phase.final_lr_factor)


def falls_on(phase: Phase, step: int, every_tokens: int | None) -> bool:
    """Whether something due every so many tokens is due after this step.

    True on the first step whose clock reaches a multiple of `every_tokens`, and on the last step.
    """
    if step == total_steps(phase):
        return True
    if every_tokens is None:
        return False
    return clock(phase, step) // every_tokens > clock(phase, step - 1) // every_tokens


TAG_PREFIXES = {"pretraining": "step"}
"""How the checkpoints of a phase are named, after the published suite."""


def tag(phase: Phase, step: int) -> str:
    """The name of the checkpoint after `step` steps of a phase, e.g. `step1200`."""
    return f"{TAG_PREFIXES[phase.name]}{step}"
