"""What changes over time, as pure functions of the step.

There is one clock: nominal tokens, `clock(phase, n) = Σ batch_rows(s) · row_tokens` over the
first n steps of a phase. Learning rates, checkpoints and validation read this clock and nothing
else, so a step's values are known without having trained the steps before it.

Steps count from 1, in every phase anew. Step n trains with the learning rate at the clock before
it, `clock(n − 1)`. A run of several phases counts its steps through; `place` tells which step of
which phase one of them is.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from ettin.recipe import Phase, Recipe
from ettin.shape import Shape

_FLOOR = 1e-10
"""The share of the peak at clock 0 (the published scheduler's value), so that it is never 0."""


def batch_rows(phase: Phase, step: int) -> int:
    """Rows of optimiser step `step`, over all processes.

    Over `batch_warmup_tokens` the batch grows linearly with the step from `batch_warmup_rows` to
    `batch_rows`: as many steps at each size, the rule of the published scheduler (which its runs
    never called, see docs/fidelity.md).
    """
    assert step >= 1
    first, steps = _ramp(phase)
    if step > steps:
        return phase.batch_rows
    return first + (step - 1) * (phase.batch_rows - first) // steps


def rows_before(phase: Phase, step: int) -> int:
    """Rows consumed before step `step`: the place in the order where the step begins."""
    first, steps = _ramp(phase)
    grown = min(step - 1, steps)
    during = first * grown + _floor_sum(grown, phase.batch_rows - first, steps)
    return during + (step - 1 - grown) * phase.batch_rows


def clock(phase: Phase, step: int) -> int:
    """Nominal tokens after `step` steps."""
    return rows_before(phase, step + 1) * phase.nominal_row_tokens


def total_steps(phase: Phase) -> int:
    """Steps of the phase: the first whose clock reaches the budget is the last."""
    _, steps = _ramp(phase)
    if clock(phase, steps) >= phase.tokens:
        return bisect_left(range(steps + 1), phase.tokens, key=lambda step: clock(phase, step))
    left = phase.tokens - clock(phase, steps)
    return steps + math.ceil(left / (phase.batch_rows * phase.nominal_row_tokens))


def _ramp(phase: Phase) -> tuple[int, int]:
    """Rows of the first step, and how many steps the batch takes to grow; 0 without a warm-up."""
    first = phase.batch_warmup_rows
    if first is None:
        return phase.batch_rows, 0
    # The mean of the sizes first … batch_rows − 1, each held for as many steps.
    mean_tokens = phase.nominal_row_tokens * (first + phase.batch_rows - 1) / 2
    return first, max(1, round(phase.batch_warmup_tokens / mean_tokens))


def _floor_sum(count: int, slope: int, divisor: int) -> int:
    """Σ ⌊i · slope / divisor⌋ over i = 0 … count − 1, in as many rounds as Euclid's algorithm.

    Lattice points below a line, counted from both axes in turn (Graham, Knuth and Patashnik,
    "Concrete Mathematics", section 3.5).
    """
    total, offset = 0, 0
    while count > 0:
        whole, slope = divmod(slope, divisor)
        total += whole * count * (count - 1) // 2
        whole, offset = divmod(offset, divisor)
        total += whole * count
        top = slope * count + offset
        if top < divisor:
            break
        # Points counted along the other axis.
        count, offset = divmod(top, divisor)
        slope, divisor = divisor, slope
    return total


def learning_rate_factor(phase: Phase, clock_tokens: float) -> float:
    """The learning rate at a clock reading, as a share of the recipe's peak.

    `lr_factor` times the phase's own course: linear from 1e-10 to 1 over `warmup_tokens`, 1 until
    `decay_tokens` before the end, then to α = `final_lr_factor` by the decay's shape, with d the
    share of the decay that is done:

        linear           1 − d · (1 − α)
        one_minus_sqrt   α + (1 − α) · (1 − √d)

    Source: the published schedulers "warmup_stable_decay" and "one_minus_sqrt" (the paper calls
    the second one inverse square root).
    """
    if clock_tokens < phase.warmup_tokens:
        return phase.lr_factor * (_FLOOR + (1 - _FLOOR) * clock_tokens / phase.warmup_tokens)
    decay_start = phase.tokens - phase.decay_tokens
    final = phase.final_lr_factor
    if clock_tokens <= decay_start or final is None:
        return phase.lr_factor
    done = min(1.0, (clock_tokens - decay_start) / phase.decay_tokens)
    fallen = math.sqrt(done) if phase.decay_shape == "one_minus_sqrt" else done
    return phase.lr_factor * (1 - fallen * (1 - final))


def falls_on(phase: Phase, step: int, every_tokens: int | None) -> bool:
    """Whether something due every so many tokens is due after this step.

    True on the first step whose clock reaches a multiple of `every_tokens`, and on the last step.
    """
    if step == total_steps(phase):
        return True
    if every_tokens is None:
        return False
    return clock(phase, step) // every_tokens > clock(phase, step - 1) // every_tokens


def saves_after(phase: Phase, step: int) -> bool:
    """Whether a checkpoint of the run falls on this step.

    As `falls_on` says; with `save_early` also on steps 1, 2, 4, 8, … as long as the clock has not
    reached `save_every_tokens`.
    """
    if falls_on(phase, step, phase.save_every_tokens):
        return True
    before_first = phase.save_every_tokens is None or clock(phase, step) < phase.save_every_tokens
    return phase.save_early and before_first and step.bit_count() == 1


def saved_steps(phase: Phase) -> list[int]:
    """All steps of a phase after which a checkpoint falls, ascending; see `saves_after`."""
    last, every = total_steps(phase), phase.save_every_tokens
    regular = (
        {_reached(phase, due) for due in range(every, phase.tokens + 1, every)} if every else set()
    )
    early = {1 << power for power in range(last.bit_length())}
    return sorted(step for step in {*regular, *early, last} if saves_after(phase, step))


def _reached(phase: Phase, tokens: int) -> int:
    """The first step after which the clock shows that many tokens; the last one at most."""
    steps = range(total_steps(phase) + 1)
    return min(bisect_left(steps, tokens, key=lambda step: clock(phase, step)), steps[-1])


def training_flops(recipe: Recipe, phase: Phase, shape: Shape) -> float:
    """Floating-point operations of a whole phase, forward and backward, on full rows.

    Args:
        recipe: whose objective says which tokens are labelled and what is seen.
        phase: one of its phases.
        shape: of the model.
    """
    a_token = shape.flops_per_token(
        context_length=phase.context_length,
        labelled=1.0 if recipe.objective == "clm" else phase.mask_rate,
        visibility=recipe.visibility,
    )
    return a_token * clock(phase, total_steps(phase))


TAG_PREFIXES = {"pretraining": "step", "extension": "ext", "decay": "decay", "cross": "cross"}
"""How the checkpoints of a phase are named, after the published suite."""


def tag(phase: Phase, step: int) -> str:
    """The name of the checkpoint after `step` steps of a phase, e.g. `step1200`."""
    return f"{TAG_PREFIXES[phase.name]}{step}"


class Place(NamedTuple):
    """Where a step of a run stands: the number of its phase, from 0, and the step in it."""

    phase: int
    phase_step: int


def place(phases: Sequence[Phase], step: int) -> Place:
    """Which phase a step of the run belongs to; what is before the first step, to the first phase.

    Args:
        phases: of the run.
        step: of the run, from 0 to the sum of all phases' steps.
    """
    ends = list(accumulate(total_steps(phase) for phase in phases))
    number = bisect_left(ends, step)
    return Place(number, step - (ends[number - 1] if number else 0))
