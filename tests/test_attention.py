"""Every attention path against the dense definition, which is itself held to a loop in words."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from ettin.errors import InputError
from ettin.model import attention as module
from ettin.model.attention import AttentionPlan, attention, reference_attention
from ettin.shape import Visibility
from tests.tolerances import BF16, FP32, FP64

HEADS, HEAD_SIZE = 2, 16
CPU = torch.device("cpu")

LENGTHS = {
    "one token": [1],
    "ragged, with empty documents": [0, 1, 2, 0, 130, 17, 63, 1, 200, 0],
    "window and its neighbours": [63, 64, 65, 66, 127, 128, 129],
    "no longer than the window": [65, 3, 65],
    "one longer than the window": [3, 66, 65],
    "one long document": [333],
    "many short documents": [3, 1, 2, 5, 4, 7] * 20,
    "a full number of blocks": [100, 28, 64],
    "short among long": [150, 3, 4, 5, 150, 1, 150],
}
WITHIN = {torch.float64: FP64, torch.float32: FP32, torch.bfloat16: BF16}
REACHES = [None, 0, 1, 7, 64]


def boundaries_of(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def inputs(tokens: int, *, device: torch.device = CPU) -> list[torch.Tensor]:
    """Queries, keys, values, strided views of one tensor as in the model; and a gradient."""
    draw = torch.Generator().manual_seed(tokens)
    fused = torch.randn(tokens, 3, HEADS, HEAD_SIZE, generator=draw) * 1.5
    upstream = torch.randn(tokens, HEADS, HEAD_SIZE, generator=draw)
    return [*fused.to(device).unbind(1), upstream.to(device)]


def outputs_and_gradients(
    function: Callable[..., torch.Tensor], states: list[torch.Tensor]
) -> list[torch.Tensor]:
    leaves = [each.detach().requires_grad_() for each in states[:3]]
    output = function(*leaves)
    torch.autograd.backward(output, states[3].to(output.dtype))
    return [output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def definition(
    states: list[torch.Tensor],
    *,
    boundaries: torch.Tensor,
    visibility: Visibility,
    reach: int | None,
) -> list[torch.Tensor]:
    """Outputs and gradients of the definition in float64, so that no error but ours is measured."""
    return outputs_and_gradients(
        lambda query, key, value: reference_attention(
            query, key, value, boundaries=boundaries, visibility=visibility, reach=reach
        ),
        [each.double() for each in states],
    )


def assert_close(
    found: list[torch.Tensor], expected: list[torch.Tensor], *, dtype: torch.dtype
) -> None:
    assert len(found) == len(expected) == 4
    names = ("output", "query", "key", "value")
    for name, ours, theirs in zip(names, found, expected, strict=True):
        assert torch.isfinite(ours).all(), name
        unit = max(1.0, float(theirs.abs().max())) if dtype is torch.bfloat16 else 1.0
        assert (ours.double() - theirs).abs().max() <= WITHIN[dtype] * unit, name


def test_definition_says_what_the_words_say() -> None:
    lengths = [4, 0, 1, 6]
    query, key, value, _ = inputs(sum(lengths))
    documents = [index for index, length in enumerate(lengths) for _ in range(length)]
    for visibility in get_args(Visibility):
        for reach in (None, 2):
            found = reference_attention(
                query, key, value,
                boundaries=boundaries_of(lengths), visibility=visibility, reach=reach,
            )  # fmt: skip
            for i in range(len(query)):
                seen = [
                    j
                    for j in range(len(key))
                    if documents[i] == documents[j]
                    and (visibility == "bidirectional" or j <= i)
                    and (reach is None or abs(i - j) <= reach)
                ]
                for head in range(HEADS):
                    weights = (key[seen, head] @ query[i, head] / HEAD_SIZE**0.5).softmax(0)
                    expected = weights @ value[seen, head]
                    assert (found[i, head] - expected).abs().max() <= FP32


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("visibility", get_args(Visibility))
@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("case", LENGTHS)
def test_attention_equals_its_definition(
    case: str, reach: int | None, visibility: Visibility, dtype: torch.dtype
) -> None:
    boundaries = boundaries_of(LENGTHS[case])
    # Rounded first, so that the definition starts from the numbers that the kernel sees.
    states = [each.to(dtype) for each in inputs(int(boundaries[-1]))]
    plan = AttentionPlan.of(boundaries, visibility=visibility, reach=reach or 0, device=CPU)
    found = outputs_and_gradients(
        lambda q, k, v: attention(q, k, v, plan=plan, local=reach is not None), states
    )
    expected = definition(states, boundaries=boundaries, visibility=visibility, reach=reach)
    assert_close(found, expected, dtype=dtype)


@pytest.mark.parametrize("visibility", get_args(Visibility))
def test_blocks_serve_documents_shorter_than_the_window_too(visibility: Visibility) -> None:
    """`attention` treats such a batch as global; the block path must not depend on that."""
    boundaries = boundaries_of([5, 40, 1, 30])
    states = inputs(76)
    plan = AttentionPlan.of(boundaries, visibility=visibility, reach=64, device=CPU)
    found = outputs_and_gradients(lambda q, k, v: module._in_blocks(q, k, v, plan.blocks), states)
    expected = definition(states, boundaries=boundaries, visibility=visibility, reach=64)
    assert_close(found, expected, dtype=torch.float32)


@pytest.mark.parametrize("visibility", get_args(Visibility))
def test_a_reach_longer_than_a_block_is_honoured(visibility: Visibility) -> None:
    boundaries = boundaries_of([420, 90])
    states = inputs(510)
    plan = AttentionPlan.of(boundaries, visibility=visibility, reach=150, device=CPU)
    found = outputs_and_gradients(lambda q, k, v: attention(q, k, v, plan=plan, local=True), states)
    expected = definition(states, boundaries=boundaries, visibility=visibility, reach=150)
    assert_close(found, expected, dtype=torch.float32)


def test_no_mask_grows_with_the_square_of_the_stream() -> None:
    boundaries = boundaries_of([1024] * 7 + [4] * 256)
    plan = AttentionPlan.of(boundaries, visibility="bidirectional", reach=64, device=CPU)
    assert plan.blocks.mask.numel() == plan.tokens * 192
    shared = [mask.numel() for _, mask in plan.calls if mask is not None]
    assert 0 < sum(shared) <= 1024 * 128


@pytest.mark.parametrize("visibility", get_args(Visibility))
@pytest.mark.parametrize("reach", [0, 7, 64])
def test_every_row_of_every_mask_sees_something(reach: int, visibility: Visibility) -> None:
    """Also the surplus queries of the last block: some kernels answer an empty row with NaN."""
    boundaries = boundaries_of([130, 3, 4])
    plan = AttentionPlan.of(boundaries, visibility=visibility, reach=reach, device=CPU)
    assert (plan.blocks.mask == 0).any(-1).all()
    assert all((mask == 0).any(-1).all() for _, mask in plan.calls if mask is not None)


def test_plan_restarts_positions_and_drops_empty_documents() -> None:
    plan = AttentionPlan.of(
        torch.tensor([0, 0, 3, 3, 5], dtype=torch.int32),
        visibility="causal", reach=64, device=CPU,
    )  # fmt: skip
    assert plan.positions.tolist() == [0, 1, 2, 0, 1]
    assert plan.lengths == (3, 2)
    assert plan.boundaries.tolist() == [0, 3, 5]
    assert plan.boundaries.dtype == torch.int32


@pytest.mark.parametrize("boundaries", [[0], [0, 0, 0]])
def test_an_empty_stream_passes(boundaries: list[int]) -> None:
    states = inputs(0)
    plan = AttentionPlan.of(torch.tensor(boundaries), visibility="causal", reach=64, device=CPU)
    for local in (False, True):
        assert attention(*states[:3], plan=plan, local=local).shape == (0, HEADS, HEAD_SIZE)


@pytest.mark.parametrize("boundaries", [[1, 4], [0, 3, 2, 5], []])
def test_boundaries_that_are_none_are_refused(boundaries: list[int]) -> None:
    with pytest.raises(InputError, match="begin with 0 and never fall"):
        AttentionPlan.of(torch.tensor(boundaries), visibility="causal", reach=64, device=CPU)


def test_a_plan_of_another_stream_is_refused() -> None:
    plan = AttentionPlan.of(torch.tensor([0, 4]), visibility="causal", reach=64, device=CPU)
    with pytest.raises(InputError, match="boundaries end at 4"):
        attention(*inputs(5)[:3], plan=plan, local=True)


def test_an_unknown_visibility_and_a_negative_reach_are_refused() -> None:
    edges = torch.tensor([0, 4])
    with pytest.raises(InputError, match="visibility 'casual'"):
        AttentionPlan.of(edges, visibility="casual", reach=64, device=CPU)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reach -1"):
        AttentionPlan.of(edges, visibility="causal", reach=-1, device=CPU)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("visibility", get_args(Visibility))
@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("case", LENGTHS)
def test_attention_on_a_gpu_equals_its_definition(
    case: str, reach: int | None, visibility: Visibility, dtype: torch.dtype
) -> None:
    device = torch.device("cuda")
    boundaries = boundaries_of(LENGTHS[case])
    states = [each.to(dtype) for each in inputs(int(boundaries[-1]), device=device)]
    plan = AttentionPlan.of(boundaries, visibility=visibility, reach=reach or 0, device=device)
    found = outputs_and_gradients(
        lambda q, k, v: attention(q, k, v, plan=plan, local=reach is not None), states
    )
    expected = definition(states, boundaries=boundaries, visibility=visibility, reach=reach)
    assert_close(found, expected, dtype=dtype)


@pytest.mark.gpu
def test_the_kernel_serves_bfloat16_and_says_why_not_fp32() -> None:
    device = torch.device("cuda")
    assert module._kernel_obstacle(device, torch.bfloat16, 64) == ""
    assert "float32" in module._kernel_obstacle(device, torch.float32, 64)
