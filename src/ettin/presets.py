"""Sizes and phases as tables: one row a size, one row a phase, plain numbers and no logic but one
function that completes a phase from its row.

The six published sizes and the four phases are those of "Seq vs Seq" (arXiv 2507.11412), read from
the configurations that trained the suite. `nano` and `micro` are ours, for CPUs; they keep the
rules: head size 64, and (layers − 1) divisible by 3, so that the first and the last layer are
global.
"""

from typing import Any, Literal, NamedTuple

Variant = Literal["intended", "as-executed"]


class Size(NamedTuple):
    """One row of the table of sizes; the same for both twins.

    Attributes:
        num_hidden_layers: L.
        hidden_size: H.
        intermediate_size: I.
        num_attention_heads: heads.
        peak_lr: the learning rate between warm-up and decay.
        weight_decay: of matrices, a step at the peak rate.
        warmup_tokens: of the learning rate, in pre-training.
        batch_warmup_tokens: stated for the batch size, though the executed code never used it;
            None where none was published.
        batch_warmup_rows: rows that it would have begun with: a micro-batch on each of 4 devices.
        budget_divisor: what the published budgets are divided by; None where none was published.
    """

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    peak_lr: float
    weight_decay: float
    warmup_tokens: int
    batch_warmup_tokens: int | None
    batch_warmup_rows: int | None
    budget_divisor: int | None


B = 1_000_000_000

SIZES: dict[str, Size] = {
    #            layers hidden  inter heads  peak_lr    decay  warm-up  batch warm-up  budget
    "nano":  Size(    4,   128,   192,    2,    3e-3,    3e-4,  4 * B,  None,  None,  None),
    "micro": Size(    4,   192,   288,    3,    3e-3,    3e-4,  4 * B,  None,  None,  None),
    "17m":   Size(    7,   256,   384,    4,    3e-3,    3e-4,  4 * B, 125 * B,  576,     1),
    "32m":   Size(   10,   384,   576,    6,    3e-3,    3e-4,  4 * B, 100 * B,  512,     1),
    "68m":   Size(   19,   512,   768,    8,    3e-3,    3e-4,  3 * B,  75 * B,  384,     1),
    "150m":  Size(   22,   768,  1152,   12,    8e-4,    1e-5,  3 * B,  50 * B,  288,     1),
    "400m":  Size(   28,  1024,  2624,   16,    5e-4,    1e-5,  2 * B,  10 * B,  192,     1),
    "1b":    Size(   28,  1792,  3840,   28,    5e-4,    5e-5,  2 * B,   3 * B,   96,     3),
}  # fmt: skip


PUBLISHED_VOCABULARY = 50_368
"""Entries of the published suite's tokenizer, that of ModernBERT."""


class PhaseRow(NamedTuple):
    """One row of the table of phases; the same for all sizes and both twins.

    Attributes:
        tokens: the published budget.
        context_length: tokens of the longest row.
        mask_rate: share of tokens that `mlm` and `mntp` hide.
        lr_factor: the phase's highest learning rate, as a share of the recipe's peak.
        warmup_share: share of the budget that warms up; None: the size's own warm-up tokens.
        decay_share: share of the budget, at its end, over which the learning rate falls.
        decay_shape: how it falls.
        final_lr_factor: where to, as a share of the phase's highest.
        rope_theta: base of the rotary embeddings in global and local layers.
        save_every_tokens: between two checkpoints.
        order: the phase whose order the rows follow.
    """

    tokens: int
    context_length: int
    mask_rate: float
    lr_factor: float
    warmup_share: float | None
    decay_share: float
    decay_shape: str
    final_lr_factor: float
    rope_theta: float
    save_every_tokens: int
    order: str


PHASES: dict[str, PhaseRow] = {
    "pretraining": PhaseRow(
        1_700 * B, 1024, 0.30, 1.0, None, 0.0, "linear", 0.02, 1e4, 8_500_000_000, "pretraining"
    ),
    "extension": PhaseRow(
        250 * B, 7999, 0.30, 1.0, 0.0, 1.0, "one_minus_sqrt", 0.5, 1.6e5, 8_500_000_000, "extension"
    ),
    "decay": PhaseRow(
        50 * B, 7999, 0.15, 0.5, 0.0, 1.0, "one_minus_sqrt", 0.04, 1.6e5, 8_500_000_000, "decay"
    ),
    # The published cross phase reads the decay data once more, in the same order.
    "cross": PhaseRow(50 * B, 7999, 0.15, 0.5, 0.06, 0.2, "linear", 0.02, 1.6e5, 10 * B, "decay"),
}

BATCH_ROWS = 4608
"""Rows of every published step, in all sizes and phases."""

LARGEST_WARMUP_SHARE = 0.1
"""A warm-up that nobody stated is never longer than this share of its phase."""

_UNMERGED_ROPE_THETA = 1e4
"""The base of local layers where the executed configurations did not follow the paper."""


def phase_values(
    name: str,
    *,
    size: str,
    objective: str,
    variant: Variant,
    tokens: int | None,
    decay_tokens: int | None,
) -> dict[str, Any]:
    """Values of a phase that a recipe does not state: those of its row, for its budget.

    Args:
        name: of the phase; a row of the table.
        size: of the model; sizes that are not in the table have no budget and no warm-up.
        objective: `mlm`, `clm` or `mntp`; matters to what was executed alone.
        variant: what the paper intends, or what its configurations and code did instead.
        tokens: the stated budget; the published one if None.
        decay_tokens: the stated decay; the row's share of the budget if None.

    Returns:
        Keys of `recipe.Phase`; without `tokens` where no budget is known.
    """
    row, of_size = PHASES[name], SIZES.get(size)
    divisor = of_size.budget_divisor if of_size else None
    values: dict[str, Any] = {
        "context_length": row.context_length,
        "batch_rows": BATCH_ROWS,
        "mask_rate": row.mask_rate,
        "lr_factor": row.lr_factor,
        "global_rope_theta": row.rope_theta,
        "local_rope_theta": row.rope_theta,
        "order": row.order,
    }
    if tokens is None and divisor is None:
        return values
    budget = tokens if tokens is not None else _divided(row.tokens, divisor or 1)
    values["tokens"] = budget
    if row.warmup_share is None:
        own = of_size.warmup_tokens if of_size else 0
        values["warmup_tokens"] = min(own, round(budget * LARGEST_WARMUP_SHARE))
    else:
        values["warmup_tokens"] = round(budget * row.warmup_share)
    values["decay_tokens"] = (
        round(budget * row.decay_share) if decay_tokens is None else decay_tokens
    )
    if values["decay_tokens"]:
        values |= {"decay_shape": row.decay_shape, "final_lr_factor": row.final_lr_factor}
    every = _divided(row.save_every_tokens, divisor or 1)
    if every <= budget:
        values["save_every_tokens"] = every
    if variant == "as-executed":
        values |= _as_executed(name, size=size, objective=objective)
    return values


def _as_executed(name: str, *, size: str, objective: str) -> dict[str, Any]:
    """Where configurations or code of the published runs went another way than the paper.

    A restored scheduler put the decay phase back to the peak rate, so that it fell from 1.0 to
    0.04 of it; and some configurations left the RoPE base of local layers at 10,000.
    """
    changed: dict[str, Any] = {}
    if name == "decay":
        changed["lr_factor"] = 1.0
        if objective == "clm" and size in {"17m", "32m", "68m", "400m"}:
            changed["local_rope_theta"] = _UNMERGED_ROPE_THETA
    if name == "extension" and size == "17m":
        changed["local_rope_theta"] = _UNMERGED_ROPE_THETA
    return changed


def _divided(tokens: int, divisor: int) -> int:
    return round(tokens / divisor)
