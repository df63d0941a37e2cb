"""What a language model thinks of given tokens at given places, for many inputs at once.

    surroundings = surroundings_of(model, tokenizer)
    readings = [Reading(tokens, positions, answers), …]
    log_probabilities(loaded, readings, batch_tokens=8192, device="cpu")    # one array a reading

Inputs are sorted by length, padded on the right and masked, so a result does not depend on what it
is batched with. The head is applied to the positions that are read and to no others.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ettin.errors import InputError
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.task import halving

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

LOGITS_PER_BATCH = 1 << 27
"""At most so many logits are made at once (512 MiB in fp32), unless one input needs more."""

PACKAGES = ("torch", "transformers", "tokenizers")
"""Distributions whose versions matter to these numbers."""


@dataclass(frozen=True)
class Reading:
    """One input and what is read in it.

    Attributes:
        tokens: int64 [L], the input as the model gets it.
        positions: int64 [N], whose outputs are read.
        answers: int64 [N], the tokens whose probabilities are asked for.
    """

    tokens: Int64Array
    positions: Int64Array
    answers: Int64Array


@dataclass(frozen=True)
class Surroundings:
    """Special tokens of a model's inputs.

    Attributes:
        begin: before a text: BOS, and EOS for decoders without one, as in pre-training.
        end: after it; nothing for decoders, whatever their tokenizer would append.
        mask: the token that hides others; None for decoders.
    """

    begin: tuple[int, ...]
    end: tuple[int, ...]
    mask: int | None

    @property
    def size(self) -> int:
        """Tokens that they take of the context."""
        return len(self.begin) + len(self.end)

    def around(self, tokens: Sequence[int] | Int64Array) -> Int64Array:
        """The tokens of a text as an input; int64 [begin + text + end]."""
        return np.array([*self.begin, *tokens, *self.end], dtype=np.int64)


def surroundings_of(model: EvaluatedModel, tokenizer: Any) -> Surroundings:
    """The special tokens that a model expects.

    Args:
        model: the model.
        tokenizer: its `transformers` tokenizer.

    Raises:
        InputError: an encoder without a mask token, or nothing to begin a text with.
    """
    if model.kind == "decoder":
        begin = _first(tokenizer.bos_token_id, tokenizer.eos_token_id)
        end, mask = None, None
    else:
        begin = _first(tokenizer.cls_token_id, tokenizer.bos_token_id)
        end = _first(tokenizer.sep_token_id, tokenizer.eos_token_id)
        mask = tokenizer.mask_token_id
        if mask is None:
            raise InputError(
                f"the tokenizer of {model.where} has no mask token, and an encoder is asked about "
                "masked tokens: name it as `mask_token` in tokenizer_config.json"
            )
    if begin is None:
        raise InputError(
            f"the tokenizer of {model.where} has no token that begins a text: name it as "
            "`bos_token` (encoders: `cls_token`) in tokenizer_config.json"
        )
    return Surroundings((begin,), () if end is None else (end,), mask)


def log_probabilities(
    model: Any,
    readings: Sequence[Reading],
    *,
    batch_tokens: int,
    device: str,
    advance: Callable[[float], None] = lambda _share: None,
) -> list[Float64Array]:
    """Log-probabilities in nats of all answers of all readings; softmax in fp32.

    Args:
        model: a `transformers` language model on the device.
        readings: what to read.
        batch_tokens: tokens of one forward pass, padding included; one input may be longer.
        device: where the model is.
        advance: is told which share is done.

    Returns:
        One float64 array [N] a reading.

    Raises:
        InputError: not even a single input fits into memory.
    """
    found: dict[int, Float64Array] = {}
    # The longest come first: if anything is too large, it shows at once.
    waiting = sorted(range(len(readings)), key=lambda number: -len(readings[number].tokens))
    per_batch = max(1, LOGITS_PER_BATCH // int(model.config.get_text_config().vocab_size))

    def run(size: int) -> None:
        while waiting:
            batch = _next_batch(readings, waiting, tokens=size, positions=per_batch)
            found.update(
                zip(batch, _read(model, [readings[n] for n in batch], device), strict=True)
            )
            del waiting[: len(batch)]
            advance(len(found) / len(readings))

    halving(batch_tokens, run)
    return [found[number] for number in range(len(readings))]


def ratio_error(sums: Float64Array, counts: Float64Array) -> float | None:
    """Standard error of Σ sums / Σ counts when whole groups are drawn, not single members.

    Sentences of one template, and tokens of one document, resemble each other, so their number
    overstates what is known. Linearised ratio estimator (Cochran 1977, "Sampling Techniques", 6.3).

    Args:
        sums: [G], of each group.
        counts: [G], its members.

    Returns:
        None when there is only one group.
    """
    groups = len(sums)
    if groups < 2:
        return None
    rest = sums - sums.sum() / counts.sum() * counts
    return float(math.sqrt(groups / (groups - 1) * float(rest @ rest)) / counts.sum())


def _first(*found: int | None) -> int | None:
    return next((each for each in found if each is not None), None)


def _next_batch(
    readings: Sequence[Reading], waiting: list[int], *, tokens: int, positions: int
) -> list[int]:
    """As many of the first ones as fit; at least one. The first is the longest."""
    longest = max(1, len(readings[waiting[0]].tokens))
    rows, read = 0, 0
    for number in waiting[: max(1, tokens // longest)]:
        read += len(readings[number].positions)
        if rows and read > positions:
            break
        rows += 1
    return waiting[:rows]


@torch.inference_mode()
def _read(model: Any, batch: list[Reading], device: str) -> list[Float64Array]:
    length = max(len(reading.tokens) for reading in batch)
    pad = max(0, getattr(model.config.get_text_config(), "pad_token_id", None) or 0)
    tokens = torch.full((len(batch), length), pad)
    attended = torch.zeros((len(batch), length), dtype=torch.long)
    for row, reading in enumerate(batch):
        tokens[row, : len(reading.tokens)] = torch.from_numpy(reading.tokens)
        attended[row, : len(reading.tokens)] = 1
    places = np.concatenate([row * length + reading.positions for row, reading in enumerate(batch)])
    with _head_at(model, torch.from_numpy(places).to(device)):
        logits = model(input_ids=tokens.to(device), attention_mask=attended.to(device)).logits
    logits = logits.float()
    answers = torch.from_numpy(np.concatenate([reading.answers for reading in batch])).to(device)
    right = logits.gather(1, answers[:, None]).squeeze(1) - logits.logsumexp(1)
    ends = np.cumsum([len(reading.positions) for reading in batch])[:-1]
    return list(np.split(right.double().cpu().numpy(), ends))


@contextmanager
def _head_at(model: Any, places: Tensor) -> Iterator[None]:
    """Let the output layer see some places of the flattened batch only: logits become [N, V].

    All that models do to logits afterwards is elementwise, so nothing else changes.
    """

    def choose(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].flatten(0, 1)[places], *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()
