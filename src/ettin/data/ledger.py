"""The ledger of a run: which rows every step saw, chained by a hash over rows and tokens.

One line a step: `{"step": 3, "phase": "pretraining", "first_row": 16, "rows": 8, "tokens": 4093,
"hash": "…"}`. The rows themselves are not written, since the order computes them; the hash proves
that the bytes trained on were those that the order names. Twins have equal ledgers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from ettin.data.order import Rows

EMPTY = ""
"""The hash before the first step."""


def hash_step(previous: str, rows: Rows, tokens: list[npt.NDArray[np.int64]]) -> str:
    """The running hash after a step.

    Args:
        previous: the hash after the step before; `EMPTY` at the start.
        rows: the step's rows in order.
        tokens: the tokens that these rows hold, in order, in any number of pieces.

    Returns:
        32 hexadecimal digits (xxh3_128).
    """
    digest = xxhash.xxh3_128(previous.encode())
    for column in (*rows, *tokens):
        digest.update(np.ascontiguousarray(column, dtype="<i8").tobytes())
    return digest.hexdigest()


def line(
    *, step: int, phase: str, first_row: int, rows: Rows, tokens: int, running_hash: str
) -> dict[str, Any]:
    """One line of `ledger.jsonl`.

    Args:
        step: of the run, from 1.
        phase: its name.
        first_row: position in the phase's order where the step begins.
        rows: the step's rows.
        tokens: text tokens in them.
        running_hash: from `hash_step`.
    """
    return {
        "step": step,
        "phase": phase,
        "first_row": first_row,
        "rows": len(rows.row),
        "tokens": tokens,
        "hash": running_hash,
    }
