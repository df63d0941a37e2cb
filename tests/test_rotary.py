"""Rotary embeddings: against complex numbers, relative, the gradient, the dtype."""

import pytest
import torch

from ettin.model.rotary import rotary_tables, rotate
from tests.tolerances import BF16, FP32, FP32_FAR_ANGLE, FP32_ROTATED

HEAD_SIZE = 16
POSITIONS = torch.tensor([0, 1, 2, 0, 1, 500, 7998])


def states(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def turned_as_complex_numbers(x: torch.Tensor, positions: torch.Tensor, theta: float):
    """The definition in float64: pair (k, k + d/2) is one complex number, multiplied by e^(iφ)."""
    half = x.shape[-1] // 2
    frequencies = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = positions.double()[:, None, None] * frequencies
    numbers = torch.complex(x[..., :half].double(), x[..., half:].double())
    numbers = numbers * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((numbers.real, numbers.imag), -1)


@pytest.mark.parametrize("theta", [10_000.0, 160_000.0])
def test_rotation_is_multiplication_by_complex_numbers(theta: float) -> None:
    x, positions = states(5, 2, HEAD_SIZE), POSITIONS[:5]
    rotation = rotary_tables(positions, head_size=HEAD_SIZE, theta=theta)
    expected = turned_as_complex_numbers(x, positions, theta)
    assert (rotate(x, rotation) - expected).abs().max() <= FP32


def test_far_positions_turn_by_fp32_angles() -> None:
    """fp32 holds an angle of 8,000 radians to 5e-4: what the published models were trained with."""
    x = states(len(POSITIONS), 2, HEAD_SIZE)
    rotation = rotary_tables(POSITIONS, head_size=HEAD_SIZE, theta=10_000.0)
    expected = turned_as_complex_numbers(x, POSITIONS, 10_000.0)
    assert (rotate(x, rotation) - expected).abs().max() <= FP32_FAR_ANGLE


def test_products_of_queries_and_keys_depend_on_distance_alone() -> None:
    query, key = states(1, 1, HEAD_SIZE), states(1, 1, HEAD_SIZE, seed=1)

    def product(query_at: int, key_at: int) -> float:
        tables = [
            rotary_tables(torch.tensor([at]), head_size=HEAD_SIZE, theta=10_000.0)
            for at in (query_at, key_at)
        ]
        return float((rotate(query, tables[0]) * rotate(key, tables[1])).sum())

    assert product(3, 10) == pytest.approx(product(103, 110), abs=FP32_ROTATED)
    assert product(3, 10) != pytest.approx(product(3, 11), abs=1e-2)


def test_gradient_is_the_rotation_back() -> None:
    x = states(len(POSITIONS), 2, HEAD_SIZE).requires_grad_()
    rotation = rotary_tables(POSITIONS, head_size=HEAD_SIZE, theta=100.0)
    upstream = states(*x.shape, seed=1)
    torch.autograd.backward(rotate(x, rotation), upstream)
    assert x.grad is not None
    assert (rotate(x.grad, rotation) - upstream).abs().max() <= FP32


def test_bfloat16_is_rotated_in_fp32_and_cast_back() -> None:
    x = states(len(POSITIONS), 2, HEAD_SIZE).bfloat16()
    rotation = rotary_tables(POSITIONS, head_size=HEAD_SIZE, theta=10_000.0)
    turned = rotate(x, rotation)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotate(x.float(), rotation).bfloat16())
    assert (turned.float() - rotate(x.float(), rotation)).abs().max() <= BF16


def test_queries_and_keys_side_by_side_turn_like_each_alone() -> None:
    both = states(4, 2, 3, HEAD_SIZE)
    rotation = rotary_tables(torch.arange(4), head_size=HEAD_SIZE, theta=10_000.0)
    assert torch.equal(rotate(both, rotation)[:, 1], rotate(both[:, 1], rotation))
