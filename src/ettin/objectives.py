"""What a model is asked: tokens in, then inputs, positions to read and labels out; and the loss.

    mlm   hide a share of the tokens; read the hidden token where it stood
    clm   hide nothing; at every position read the next token of the same chunk
    mntp  hide as mlm does; read each hidden token one position earlier (LLM2Vec's masked next
          token prediction), which is what a decoder turned into an encoder is trained on

Which tokens are hidden is decided by the random keys of their positions alone, so a row is masked
alike in every batch, on every device and for every number of processes.

The loss is a *sum* over labels. The caller divides it by the number of labels of the whole global
batch, which is exact for any mixture of masks, micro-batches and ranks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ettin.random_bits import (
    USE_MASK,
    USE_REPLACE,
    USE_TOKEN,
    key,
    keys,
    nonnegative,
    threshold,
)
from ettin.recipe import Objective

LABELS_PER_BLOCK = {"cpu": 256}
LABELS_PER_BLOCK_ELSEWHERE = 4096
"""Labels whose logits are held at once, so that memory does not grow with the batch. On a CPU 256
keep the logits of small vocabularies in cache; fewer make the weight's gradient dominate."""


ANSWER_OFFSETS: dict[Objective, int] = {"mlm": 0, "clm": 1, "mntp": 1}
"""How far behind the position that is read the token stands that is asked for."""


@dataclass(frozen=True)
class Vocabulary:
    """What an objective needs to know of the tokenizer.

    Attributes:
        mask_id: the token that hides others.
        special: bool [V], tokens that are never hidden.
        ordinary: int64 [n], tokens that may replace a hidden one.
    """

    mask_id: int
    special: Tensor
    ordinary: Tensor


@dataclass(frozen=True)
class Task:
    """One micro-batch as the model gets it.

    Attributes:
        inputs: int64 [T], tokens with the hidden ones replaced.
        positions: int64 [N], where in the stream the answers are read, ascending.
        labels: int64 [N], the right answers.
    """

    inputs: Tensor
    positions: Tensor
    labels: Tensor


def make_task(
    objective: Objective,
    *,
    tokens: Tensor,
    boundaries: Tensor,
    position_keys: Tensor,
    mask_rate: float,
    vocabulary: Vocabulary,
) -> Task:
    """Turn a stream of tokens into inputs, positions and labels.

    Args:
        objective: `mlm`, `clm` or `mntp`.
        tokens: int64 [T], chunks one after another.
        boundaries: int [n + 1], where chunks begin and end: 0, …, T.
        position_keys: int64 [T], one random key a position.
        mask_rate: share of ordinary tokens to hide; `clm` hides none.
        vocabulary: special and ordinary tokens.

    Returns:
        The task; no position's answer lies in another chunk.
    """
    if objective == "clm":
        continues = torch.ones_like(tokens, dtype=torch.bool)
        ends = boundaries[1:].long() - 1
        continues[ends[ends >= 0]] = False
        positions = continues.nonzero().squeeze(1)
        return Task(tokens, positions, tokens[positions + 1])
    hidden = _chosen(position_keys, USE_MASK, mask_rate) & ~vocabulary.special[tokens]
    places = hidden.nonzero().squeeze(1)
    inputs = tokens.clone()
    inputs[places] = _replacements(tokens[places], position_keys[places], vocabulary)
    # Position 0 of a chunk is its BOS, which is special: a hidden token always has one before it.
    return Task(inputs, places - 1 if objective == "mntp" else places, tokens[places])


def _replacements(tokens: Tensor, position_keys: Tensor, vocabulary: Vocabulary) -> Tensor:
    """80 % the mask, 10 % an ordinary token at random, 10 % the token (Devlin et al. 2018)."""
    kind = nonnegative(keys(key(USE_REPLACE), position_keys))
    draws = nonnegative(keys(key(USE_TOKEN), position_keys)) % len(vocabulary.ordinary)
    result = torch.where(kind < threshold(0.9), vocabulary.ordinary[draws], tokens)
    return result.masked_fill_(kind < threshold(0.8), vocabulary.mask_id)


def _chosen(position_keys: Tensor, use: int, rate: float) -> Tensor:
    return nonnegative(keys(key(use), position_keys)) < threshold(rate)


def summed_loss(features: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Σ cross-entropy of `features · weightᵀ + bias` against `labels`, in nats.

    Logits are made block by block and their gradients taken at once, so that neither all logits
    nor a second forward pass is needed; under autocast the products run in its type and the
    softmax in fp32. Gradients are those of the plain formula.

    Args:
        features: [N, H], N may be 0.
        weight: [V, H], the tied embedding.
        bias: [V].
        labels: int64 [N].

    Returns:
        fp32 scalar; 0 with zero gradients when there are no labels.
    """
    if torch.is_autocast_enabled(features.device.type):
        product_type = torch.get_autocast_dtype(features.device.type)
    else:
        product_type = features.dtype
    wants_gradient = torch.is_grad_enabled()
    loss: Tensor = _SummedLoss.apply(  # type: ignore[no-untyped-call]
        features, weight, bias, labels, product_type, wants_gradient
    )
    return loss


class _SummedLoss(torch.autograd.Function):
    """Blockwise cross-entropy that computes its gradients in the forward pass."""

    @staticmethod
    def forward(
        context: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        labels: Tensor,
        product_type: torch.dtype,
        wants_gradient: bool,  # noqa: FBT001
    ) -> Tensor:
        block = LABELS_PER_BLOCK.get(features.device.type, LABELS_PER_BLOCK_ELSEWHERE)
        cast_weight = weight.detach().to(product_type)
        cast_features = features.detach().to(product_type)
        loss = torch.zeros((), dtype=_at_least_fp32(features), device=features.device)
        if wants_gradient:
            d_features = torch.empty_like(cast_features)
            d_weight = torch.zeros_like(weight, dtype=_at_least_fp32(weight))
            d_bias = torch.zeros_like(bias, dtype=_at_least_fp32(bias))
        for start in range(0, len(labels), block):
            here = slice(start, start + block)
            logits = (cast_features[here] @ cast_weight.T).to(loss.dtype) + bias.detach()
            right = labels[here, None]
            log_sum = logits.logsumexp(1, keepdim=True)
            loss += (log_sum - logits.gather(1, right)).sum()
            if wants_gradient:
                # d loss / d logits = softmax − one-hot, in place of the logits.
                gradient = logits.sub_(log_sum).exp_()
                gradient.scatter_add_(1, right, gradient.new_full(right.shape, -1))
                d_bias += gradient.sum(0)
                gradient = gradient.to(product_type)
                d_features[here] = gradient @ cast_weight
                d_weight += gradient.T @ cast_features[here]
        if wants_gradient:
            context.save_for_backward(
                d_features.to(features.dtype), d_weight.to(weight.dtype), d_bias.to(bias.dtype)
            )
        return loss

    @staticmethod
    def backward(context: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = upstream
        d_features, d_weight, d_bias = context.saved_tensors
        return scale * d_features, scale * d_weight, scale * d_bias, None, None, None


def _at_least_fp32(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
