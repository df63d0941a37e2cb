"""The ledger of a run: what every step saw, as sums that any number of processes can add up.

One line a step: `{"step": 3, "phase": "pretraining", "first_row": 16, "rows": 8, "tokens": 4093,
"rows_hash": "…", "places_hash": "…", "hash": "…"}`. The rows themselves are not written, since the
order computes them; the hashes prove that the bytes trained on were those that the order names.

    h(row)       xxh3_64 of place in the batch, source, epoch, row (int64) and tokens (int32), all
                 little-endian
    rows_hash    Σ h mod 2⁶⁴ over the rows of the step
    places_hash  Σ (place + 1) · h mod 2⁶⁴
    hash         xxh3_128 of the hash before and these two, as text; one chain through the run

A process that trains on a slice of the batch adds up its own rows, so the sums do not depend on
how many processes there are. Where one row of a step differs, the two sums say which: their
differences are d and (place + 1) · d. Twins have equal ledgers.

Lines of before have no sums: their hash chains the columns and tokens of the whole step.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from ettin.data.order import Rows

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]

EMPTY = ""
"""The hash before the first step."""
_WORD = (1 << 64) - 1


@dataclass(frozen=True)
class StepHash:
    """What some rows of a step add to its two sums, each mod 2⁶⁴."""

    rows: int = 0
    places: int = 0

    def __add__(self, other: "StepHash") -> "StepHash":
        """Of these rows and others of the same step."""
        return StepHash((self.rows + other.rows) & _WORD, (self.places + other.places) & _WORD)

    @property
    def words(self) -> tuple[str, str]:
        """Both as a line holds them: 16 hexadecimal digits."""
        return f"{self.rows:016x}", f"{self.places:016x}"


def row_hashes(
    rows: Rows, places: Int64Array, tokens: npt.NDArray[Any], row_tokens: Int64Array
) -> UInt64Array:
    """The h of each row, see above.

    Args:
        rows: n rows.
        places: int64 [n], where each stands in the batch of the step, from 0.
        tokens: integers [Σ row_tokens], of these rows one after another.
        row_tokens: int64 [n], how many each has.

    Returns:
        uint64 [n].
    """
    heads = np.stack([places, *rows], axis=1).astype("<i8")
    small = tokens.astype("<i4")
    ends = np.cumsum(row_tokens).tolist()
    hashes = [
        xxhash.xxh3_64_intdigest(head.tobytes() + small[end - count : end].tobytes())
        for head, end, count in zip(heads, ends, row_tokens.tolist(), strict=True)
    ]
    return np.array(hashes, dtype=np.uint64)


def sum_up(hashes: UInt64Array, places: Int64Array) -> StepHash:
    """The sums over some rows of a step.

    Args:
        hashes: uint64 [n], from `row_hashes`.
        places: int64 [n], their places.
    """
    # Unsigned arrays wrap around, which is the sum mod 2⁶⁴ that is meant.
    weighted = hashes * (places + 1).astype(np.uint64)
    return StepHash(int(hashes.sum(dtype=np.uint64)), int(weighted.sum(dtype=np.uint64)))


def hash_rows(
    rows: Rows, places: Int64Array, tokens: npt.NDArray[Any], row_tokens: Int64Array
) -> StepHash:
    """`sum_up` of `row_hashes`: what a process adds for the rows it trained on."""
    return sum_up(row_hashes(rows, places, tokens, row_tokens), places)


def chain(previous: str, step: StepHash) -> str:
    """The running hash after a step.

    Args:
        previous: the hash after the step before; `EMPTY` at the start.
        step: the sums over all rows of the step.

    Returns:
        32 hexadecimal digits (xxh3_128).
    """
    return xxhash.xxh3_128_hexdigest("".join([previous, *step.words]).encode())


def chain_of_before(previous: str, rows: Rows, tokens: npt.NDArray[Any]) -> str:
    """The running hash after a step whose line has no sums; see `chain`.

    Args:
        previous: the hash after the step before.
        rows: the step's rows in order.
        tokens: the tokens that these rows hold, in order.
    """
    digest = xxhash.xxh3_128(previous.encode())
    for column in (*rows, tokens):
        digest.update(np.ascontiguousarray(column, dtype="<i8").tobytes())
    return digest.hexdigest()


def differing_place(recorded: StepHash, derived: StepHash, count: int) -> int | None:
    """The place of the one row by which two hashes of a step differ.

    Args:
        recorded: sums over `count` rows.
        derived: sums over as many, of which one is another.
        count: rows of the step.

    Returns:
        None when they are equal, or more rows than one differ.
    """
    rows = (recorded.rows - derived.rows) & _WORD
    places = (recorded.places - derived.places) & _WORD
    if not rows:
        return None
    weights = np.arange(1, count + 1, dtype=np.uint64)
    found = np.flatnonzero(weights * np.uint64(rows) == np.uint64(places))
    return int(found[0]) if len(found) == 1 else None


def line(
    *,
    step: int,
    phase: str,
    first_row: int,
    rows: int,
    tokens: int,
    sums: StepHash,
    running_hash: str,
) -> dict[str, Any]:
    """One line of `ledger.jsonl`.

    Args:
        step: of the run, from 1.
        phase: its name.
        first_row: position in the phase's order where the step begins.
        rows: how many rows the step has.
        tokens: text tokens in them.
        sums: over all rows of the step.
        running_hash: from `chain`.
    """
    rows_hash, places_hash = sums.words
    return {
        "step": step,
        "phase": phase,
        "first_row": first_row,
        "rows": rows,
        "tokens": tokens,
        "rows_hash": rows_hash,
        "places_hash": places_hash,
        "hash": running_hash,
    }
