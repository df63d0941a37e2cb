"""Sizes as a table: one row a size, plain numbers that `recipe.py` reads as defaults.

The six published sizes are rows of "Seq vs Seq" (arXiv 2507.11412, tables of shapes and of
hyperparameters). `nano` and `micro` are ours, for CPUs; they keep the rules: head size 64, and
(layers − 1) divisible by 3, so that the first and the last layer are global.
"""

from typing import NamedTuple


class Size(NamedTuple):
    """One row of the table of sizes; the same for both twins."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    peak_lr: float
    weight_decay: float


SIZES: dict[str, Size] = {
    #            layers hidden  inter heads  peak_lr weight_decay
    "nano":  Size(    4,   128,   192,    2,    3e-3,        3e-4),
    "micro": Size(    4,   192,   288,    3,    3e-3,        3e-4),
    "17m":   Size(    7,   256,   384,    4,    3e-3,        3e-4),
    "32m":   Size(   10,   384,   576,    6,    3e-3,        3e-4),
    "68m":   Size(   19,   512,   768,    8,    3e-3,        3e-4),
    "150m":  Size(   22,   768,  1152,   12,    8e-4,        1e-5),
    "400m":  Size(   28,  1024,  2624,   16,    5e-4,        1e-5),
    "1b":    Size(   28,  1792,  3840,   28,    5e-4,        5e-5),
}  # fmt: skip
