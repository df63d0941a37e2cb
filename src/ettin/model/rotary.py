"""Rotary position embeddings (Su et al. 2021, arXiv 2104.09864) in the rotate-half layout.

Dimension k of a head is paired with dimension k + d/2, and the pair is turned by
`position · theta^(−2k/d)`. Angles and rotation are computed in fp32, whatever the activations
are, and the result is cast back.

    rotation = rotary_tables(positions, head_size=64, theta=10_000.0)   # once per forward pass
    query_and_key = rotate(query_and_key, rotation)                     # once per layer
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction, FunctionCtx


class Rotation(NamedTuple):
    """The angles of a stream of tokens.

    Attributes:
        cosines: fp32 [tokens, head_size], the second half repeats the first.
        sines: fp32 [tokens, head_size / 2].
    """

    cosines: Tensor
    sines: Tensor


@torch.no_grad()
def rotary_tables(positions: Tensor, *, head_size: int, theta: float) -> Rotation:
    """The angles' cosines and sines for tokens at `positions`.

    Args:
        positions: integers [tokens], counted from 0 in each document.
        head_size: dimensions of a head, all of them rotated; even.
        theta: the base; pair k of a head turns by theta^(−2k / head_size) a position.

    Returns:
        Tables on the device of `positions`.
    """
    exponents = torch.arange(0, head_size, 2, dtype=torch.float32, device=positions.device)
    angles = positions.float()[:, None] * (1.0 / theta ** (exponents / head_size))
    return Rotation(angles.cos().repeat(1, 2), angles.sin())


def rotate(states: Tensor, rotation: Rotation) -> Tensor:
    """Turn every head of every token by its position's angles.

    Args:
        states: [tokens, …, head_size], queries, keys, or both side by side.
        rotation: what `rotary_tables` gave for these tokens.

    Returns:
        Same shape and dtype as `states`.
    """
    rotated: Tensor = _Rotate.apply(states, *rotation)  # type: ignore[no-untyped-call]
    return rotated


class _Rotate(torch.autograd.Function):
    """The gradient of a rotation is the rotation back, so nothing but the tables is kept."""

    @staticmethod
    def forward(ctx: FunctionCtx, states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _turn(states, cosines, sines, direction=1)

    @staticmethod
    def backward(ctx: BackwardCFunction, *gradients: Tensor) -> tuple[Tensor, None, None]:
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        cosines, sines = saved
        return _turn(gradients[0], cosines, sines, direction=-1), None, None


def _turn(states: Tensor, cosines: Tensor, sines: Tensor, *, direction: int) -> Tensor:
    """(a, b) → (a · cos − b · sin, b · cos + a · sin), mostly in place: three times faster."""
    between = (1,) * (states.dim() - 2)
    cosines, sines = (
        table.view(len(table), *between, table.shape[1]) for table in (cosines, sines)
    )
    states_fp32 = states.float()
    first, second = states_fp32.chunk(2, dim=-1)
    turned = states_fp32 * cosines
    turned_first, turned_second = turned.chunk(2, dim=-1)
    turned_first.addcmul_(second, sines, value=-direction)
    turned_second.addcmul_(first, sines, value=direction)
    return turned.to(states.dtype)
