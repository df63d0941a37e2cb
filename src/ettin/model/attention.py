"""Attention over a flat stream of documents: visibility × reach × documents, behind one function.

The stream holds documents one after another, without padding. Query i sees key j when both stand
in the same document and

    bidirectional   |i − j| ≤ reach
    causal          0 ≤ i − j ≤ reach          (reach None: no limit, a global layer)

`reference_attention` says just that with a dense mask; it is the definition, and the tests hold
every other path to it. `attention` is what the model calls. What all layers of a batch share
(lengths, positions, masks) is worked out once, in an `AttentionPlan`:

    plan = AttentionPlan.of(boundaries, visibility="causal", reach=64, device=tokens.device)
    mixed = attention(query, key, value, plan=plan, local=True)

Two fast paths. On CUDA, in 16 bits, one variable-length FlashAttention kernel. Everywhere else:
global layers run `scaled_dot_product_attention` over one document at a time (short neighbours
share a call and a small mask), local layers run blocks of queries against the window of keys
around each block, so that cost and memory grow linearly with the stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Self, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ettin.console import log
from ettin.errors import InputError
from ettin.shape import Visibility

SHORTEST_BLOCK = 64
"""Queries of one local block; of 32, 64, 96, 128 and 256 the fastest on CPU for a reach of 64."""

SHARED_CALL_TOKENS = 128
"""Consecutive documents share one masked call up to this many tokens: below that, the price of
a call outweighs that of the scores which the mask throws away."""


@dataclass(frozen=True, eq=False)
class LocalBlocks:
    """How a local layer cuts the stream: block b of queries meets window b of keys.

    Attributes:
        keys: int64 [blocks · window], the position in the stream of each key of each window.
        mask: fp32 [blocks, 1, block, window], 0 where a query sees a key and −inf elsewhere.
    """

    keys: Tensor
    mask: Tensor


@dataclass(frozen=True, eq=False)
class AttentionPlan:
    """What every layer needs to know about one batch; built by `of`, once per forward pass.

    Attributes:
        visibility: what a token may see.
        reach: positions a local layer sees on each allowed side, the query not counted.
        lengths: tokens of each document, empty documents left out.
        boundaries: int32 [documents + 1] on the device: 0, …, tokens (the kernels' `cu_seqlens`).
        positions: int64 [tokens] on the device, from 0 in each document.
    """

    visibility: Visibility
    reach: int
    lengths: tuple[int, ...]
    boundaries: Tensor
    positions: Tensor

    @classmethod
    def of(
        cls, boundaries: Tensor, *, visibility: Visibility, reach: int, device: torch.device
    ) -> Self:
        """Work out the plan.

        Args:
            boundaries: int32 or int64 [documents + 1], 0, …, tokens; equal neighbours are empty
                documents. Best on the CPU: elsewhere reading it waits for the device.
            visibility: what a token may see.
            reach: of local layers, at least 0.
            device: where the layers run.

        Raises:
            InputError: boundaries that do not begin with 0 or that fall; an unknown visibility;
                a negative reach.
        """
        if visibility not in get_args(Visibility):
            expected = " or ".join(get_args(Visibility))
            raise InputError(f"visibility {visibility!r} is unknown; give {expected}")
        if reach < 0:
            raise InputError(f"reach {reach} is negative; give the positions visible on a side")
        edges: list[int] = boundaries.tolist()
        if not edges or edges[0] != 0 or any(left > right for left, right in pairwise(edges)):
            raise InputError(
                "boundaries should begin with 0 and never fall (the documents' edges in the "
                f"stream), got {edges[:8]}{' …' if len(edges) > 8 else ''}"
            )
        lengths = tuple(right - left for left, right in pairwise(edges) if right > left)
        starts = torch.tensor([0, *lengths]).cumsum(0)
        positions = torch.arange(edges[-1]) - starts[:-1].repeat_interleave(
            torch.tensor(lengths, dtype=torch.int64)
        )
        return cls(
            visibility,
            reach,
            lengths,
            starts.to(torch.int32).to(device, non_blocking=True),
            positions.to(device, non_blocking=True),
        )

    @property
    def tokens(self) -> int:
        """Length of the stream."""
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest document; 0 for an empty stream."""
        return max(self.lengths, default=0)

    @property
    def causal(self) -> bool:
        """Whether a token sees nothing after itself."""
        return self.visibility == "causal"

    @cached_property
    def calls(self) -> tuple[tuple[int, Tensor | None], ...]:
        """The stream in stretches for global layers: tokens, and a mask [tokens, tokens] if shared.

        The mask is fp32, 0 where a query sees a key and −inf elsewhere; a stretch without one is
        a single document.
        """
        return tuple(
            (sum(stretch), self._shared_mask(stretch) if len(stretch) > 1 else None)
            for stretch in _stretches(self.lengths, tokens=SHARED_CALL_TOKENS)
        )

    @cached_property
    def blocks(self) -> LocalBlocks:
        """The stream in blocks for local layers."""
        device, block = self.positions.device, max(SHORTEST_BLOCK, self.reach)
        count = -(-self.tokens // block)
        after = 0 if self.causal else self.reach
        starts = torch.arange(0, count * block, block, device=device)[:, None]
        queries = starts + torch.arange(block, device=device)
        keys = starts + torch.arange(-self.reach, block + after, device=device)
        inside = keys.clamp(0, self.tokens - 1)
        documents = torch.arange(len(self.lengths), device=device).repeat_interleave(
            self.boundaries.diff().long(), output_size=self.tokens
        )
        distance = queries[:, :, None] - keys[:, None, :]
        same = (
            documents[queries.clamp(max=self.tokens - 1)][:, :, None]
            == documents[inside][:, None, :]
        )
        visible = (
            same & (keys == inside)[:, None, :] & (distance <= self.reach) & (distance >= -after)
            # The last block's surplus queries are thrown away, but a row that sees nothing is NaN.
            | (queries >= self.tokens)[:, :, None]
        )
        return LocalBlocks(inside.flatten(), _additive(visible)[:, None])

    def _shared_mask(self, stretch: Sequence[int]) -> Tensor:
        device = self.positions.device
        documents = torch.arange(len(stretch)).repeat_interleave(torch.tensor(stretch))
        visible = documents[:, None] == documents[None, :]
        return _additive(visible.tril() if self.causal else visible).to(device, non_blocking=True)


def attention(
    query: Tensor, key: Tensor, value: Tensor, *, plan: AttentionPlan, local: bool
) -> Tensor:
    """Mix the values that each query sees, weighted by softmax(query · key / √head_size).

    Args:
        query: [tokens, heads, head_size], positions already rotated in.
        key: like `query`.
        value: like `query`.
        plan: the batch.
        local: whether `plan.reach` limits what is seen.

    Returns:
        [tokens, heads, head_size] in the dtype of `query`.

    Raises:
        InputError: the plan is of a stream of another length.
    """
    if len(query) != plan.tokens:
        raise InputError(
            f"boundaries end at {plan.tokens} but the stream holds {len(query)} tokens; "
            "the last boundary should be the length of the stream"
        )
    if not plan.tokens:
        return value
    local = local and plan.longest > plan.reach + 1
    if query.is_cuda:
        obstacle = _kernel_obstacle(query.device, query.dtype, query.shape[-1])
        if not obstacle:
            return _variable_length_kernel(query, key, value, plan=plan, local=local)
        _say_once(f"attention runs in blocks instead of the variable-length kernel: {obstacle}")
    if local:
        return _in_blocks(query, key, value, plan.blocks)
    return _by_document(query, key, value, plan)


def reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    boundaries: Tensor,
    visibility: Visibility,
    reach: int | None,
) -> Tensor:
    """The definition, with dense masks: memory grows with the square of the stream. For tests.

    Args:
        query: [tokens, heads, head_size].
        key: like `query`.
        value: like `query`.
        boundaries: integers [documents + 1].
        visibility: what a token may see.
        reach: positions visible on each allowed side; None for all of the document.

    Returns:
        [tokens, heads, head_size].
    """
    index = torch.arange(len(query), device=query.device)
    document = torch.bucketize(index, boundaries.to(index), right=True)
    distance = index[:, None] - index[None, :]
    visible = document[:, None] == document[None, :]
    if visibility == "causal":
        visible &= distance >= 0
    if reach is not None:
        visible &= distance.abs() <= reach
    scores = torch.einsum("ihd,jhd->hij", query, key) * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, value)


def _by_document(query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan) -> Tensor:
    sizes = [tokens for tokens, _ in plan.calls]
    # [tokens, heads, head_size] → stretches of [1, heads, tokens, head_size], all of them views.
    queries, keys, values = (
        torch.split(states.transpose(0, 1)[None], sizes, dim=2) for states in (query, key, value)
    )
    mixed = [
        _attend(*states, mask=mask, causal=plan.causal and mask is None)[0].transpose(0, 1)
        for *states, (_, mask) in zip(queries, keys, values, plan.calls, strict=True)
    ]
    return torch.cat(mixed)


def _in_blocks(query: Tensor, key: Tensor, value: Tensor, blocks: LocalBlocks) -> Tensor:
    tokens, heads, head_size = query.shape
    count, _, block, window = blocks.mask.shape
    surplus = count * block - tokens
    queries = F.pad(query, (0, 0, 0, 0, 0, surplus)) if surplus else query
    mixed = _attend(
        queries.view(count, block, heads, head_size).transpose(1, 2),
        key.index_select(0, blocks.keys).view(count, window, heads, head_size).transpose(1, 2),
        value.index_select(0, blocks.keys).view(count, window, heads, head_size).transpose(1, 2),
        mask=blocks.mask,
        causal=False,
    )
    return mixed.transpose(1, 2).reshape(count * block, heads, head_size)[:tokens]


def _attend(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, causal: bool
) -> Tensor:
    """One kernel call on [batch, heads, tokens, head_size]; the mask takes the queries' dtype."""
    if mask is not None:
        mask = mask.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)


def _variable_length_kernel(
    query: Tensor, key: Tensor, value: Tensor, *, plan: AttentionPlan, local: bool
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    before = plan.reach if local else -1
    mixed = varlen_attn(
        query,
        key,
        value,
        plan.boundaries,
        plan.boundaries,
        plan.longest,
        plan.longest,
        window_size=(before, 0 if plan.causal else before),
    )
    assert isinstance(mixed, Tensor)  # a pair only when auxiliary outputs are asked for
    return mixed


@lru_cache
def _kernel_obstacle(device: torch.device, dtype: torch.dtype, head_size: int) -> str:
    """Why the variable-length kernel cannot serve here; empty when it can."""
    if dtype not in (torch.bfloat16, torch.float16):
        return f"it knows bfloat16 and float16, not {str(dtype).removeprefix('torch.')}"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} is older than Ampere"
    if head_size % 8 or head_size > 256:
        return f"head size {head_size} is not a multiple of 8 up to 256"
    return ""


@lru_cache
def _say_once(message: str) -> None:
    log.info("%s", message)


def _stretches(lengths: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Consecutive lengths in groups of at most `tokens`; a longer one stands alone."""
    groups: list[list[int]] = []
    room = 0
    for length in lengths:
        if groups and length <= room:
            groups[-1].append(length)
        else:
            groups.append([length])
            room = tokens
        room -= length
    return groups


def _additive(visible: Tensor) -> Tensor:
    """fp32: 0 where `visible`, −inf elsewhere."""
    return torch.zeros(visible.shape, device=visible.device).masked_fill_(~visible, float("-inf"))
