"""The one source of randomness: a counter-based generator of 64-bit integers.

Every random decision of a step (mask, replacement, dropout, permutation, held-out split) is a
pure function of *what it decides about*, never of when, where or on which device it is made:

    stream = key(seed, USE_MASK, epoch, row)            # Python int
    bits   = scramble(stream + position * STRIDE)       # one 64-bit integer a position

`scramble` is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable
pseudorandom number generators"; constants by Stafford, variant 13), written with signed
wrapping arithmetic so that NumPy and PyTorch give the same bits, eager and compiled.
"""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import xxhash

if TYPE_CHECKING:
    import torch

Int64Array = npt.NDArray[np.int64]
Integers = TypeVar("Integers", Int64Array, "torch.Tensor")

STRIDE = 0x9E3779B97F4A7C15 - (1 << 64)
"""SplitMix64's increment (2⁶⁴ divided by the golden ratio), as a signed 64-bit integer."""

USE_MASK = 1
USE_REPLACE = 2
USE_TOKEN = 3
USE_DROPOUT = 4
USE_ORDER = 5
USE_WINDOW = 6

_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_WORD = (1 << 64) - 1


def scramble(counters: Integers) -> Integers:
    """Turn distinct counters into independent-looking bits; a bijection on 64-bit integers.

    Args:
        counters: int64 NumPy array or int64 tensor, any shape.

    Returns:
        Same type and shape, all 64 bits random.
    """
    # `>>` is arithmetic on signed integers; the masks make it logical. In place from the second
    # operation on: dropout makes millions of these, and memory is what it waits for.
    bits = counters >> 30
    bits &= 0x3_FFFF_FFFF
    bits ^= counters
    bits *= _FIRST
    shifted = bits >> 27
    shifted &= 0x1F_FFFF_FFFF
    bits ^= shifted
    bits *= _SECOND
    shifted = bits >> 31
    shifted &= 0x1_FFFF_FFFF
    bits ^= shifted
    return bits


def key(*parts: int) -> int:
    """Fold integers into one signed 64-bit key; every part and its place matter.

    Raises:
        OverflowError: a part does not fit in 64 bits.
    """
    state = 0
    for part in parts:
        state = int(keys(state, np.array([signed(part)], dtype=np.int64))[0])
    return state


def keys(stream: int, parts: Integers) -> Integers:
    """`key(…, part)` for many last parts: `keys(key(a, b), p)[i] == key(a, b, p[i])`."""
    return scramble(parts + signed(stream) + STRIDE)


def name_key(name: str) -> int:
    """A 64-bit integer for a name, the same on every machine and in every release."""
    return xxhash.xxh64_intdigest(name.encode())


def signed(value: int) -> int:
    """Read an integer modulo 2⁶⁴ as a signed one.

    Raises:
        OverflowError: `value` does not fit in 64 bits, signed or unsigned.
    """
    if not -(1 << 63) <= value < 1 << 64:
        raise OverflowError(f"{value} does not fit in 64 bits")
    value &= _WORD
    return value - (1 << 64) if value >> 63 else value


def threshold(rate: float) -> int:
    """The integer below which `nonnegative(bits)` falls with probability `rate`, in [0, 1]."""
    return min(int(rate * (1 << 63)), (1 << 63) - 1)


def nonnegative(bits: Integers) -> Integers:
    """Drop the lowest bit: uniform integers in [0, 2⁶³)."""
    return (bits >> 1) & ((1 << 63) - 1)
