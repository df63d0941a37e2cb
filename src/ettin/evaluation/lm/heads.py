"""A masked language model's logits at one position a row, whatever the model is called inside.

    logits = gathered_logits(model)
    logits(input_ids, attention_mask, read)         # [rows, vocabulary], fp32

Full logits are rows × length × vocabulary numbers, of which scoring needs one in `length`. So the
body runs first, one hidden state a row is picked, and only then the head. Where the head lies is
tried out on a small input: what does not give the model's own logits is not used.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ettin.console import log

Logits = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(input_ids [rows, length], attention_mask alike, positions [rows]) → fp32 [rows, vocabulary]."""

_HEADS = (("head", "decoder"), ("cls",), ("lm_head",), ("predictions",), ("lm_predictions",))
"""Modules of known models, applied one after the other: ModernBERT, BERT, RoBERTa, ALBERT, …"""
_PROBE_TOKENS = 5
_SAME = 1e-3
"""As a share of the largest logit: far above rounding, far below another layer's output."""


def gathered_logits(model: Any) -> Logits:
    """The fastest way to this model's logits that gives what the model itself gives.

    Args:
        model: a `transformers` model with a masked-language-model head, in evaluation mode.
    """
    body = model.base_model
    for names in _HEADS:
        modules = [getattr(model, name, None) for name in names]
        if all(isinstance(module, torch.nn.Module) for module in modules):
            gathered = _through(body, modules)
            if _equals_the_model(gathered, model):
                return gathered
    log.warning(
        "%s: its head was not found by any known name (%s), so logits of all positions are "
        "computed, which is slower and takes more memory",
        type(model).__name__,
        ", ".join(".".join(names) for names in _HEADS),
    )
    return _all_positions(model)


def _through(body: Any, modules: list[Any]) -> Logits:
    def logits(input_ids: Tensor, attention_mask: Tensor, read: Tensor) -> Tensor:
        hidden = body(input_ids=input_ids, attention_mask=attention_mask)[0]
        picked = hidden[torch.arange(len(read), device=read.device), read]
        for module in modules:
            picked = module(picked)
        return torch.as_tensor(picked.float())

    return logits


def _all_positions(model: Any) -> Logits:
    def logits(input_ids: Tensor, attention_mask: Tensor, read: Tensor) -> Tensor:
        every = model(input_ids=input_ids, attention_mask=attention_mask).logits
        return torch.as_tensor(every[torch.arange(len(read), device=read.device), read].float())

    return logits


@torch.inference_mode()
def _equals_the_model(gathered: Logits, model: Any) -> bool:
    device = next(model.parameters()).device
    vocabulary = model.config.get_text_config().vocab_size
    tokens = torch.arange(_PROBE_TOKENS, device=device)[None] % vocabulary
    probe = (tokens, torch.ones_like(tokens), torch.tensor([_PROBE_TOKENS // 2], device=device))
    expected = _all_positions(model)(*probe)
    try:
        found = gathered(*probe)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        # A module of that name with another use, such as one that also wants the embeddings.
        return False
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= _SAME * expected.abs().max().clamp(min=1.0))
