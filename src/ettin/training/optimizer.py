"""StableAdamW as the paper's recipe has it, and its whole state as tensors and plain values.

The update is torch-optimi's (AdamW with Adafactor's update clipping, Wortsman et al. 2023), with
β = (0.9, 0.98), ε = 1e-6 and fully decoupled weight decay: a parameter shrinks by
(lr / peak_lr) · weight_decay a step, whatever the peak. Vectors (norms, biases) are not decayed;
the tied embedding is.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from optimi import StableAdamW
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ettin.files import Json
from ettin.training.engine import as_held

BETAS = (0.9, 0.98)
EPSILON = 1e-6

_HERE_NOT_THERE = ("triton", "foreach")
"""Choices of implementation, made for the device at hand and never taken from a checkpoint."""

_COUNTED = ("setup", "step")
"""What a group counts, as opposed to its settings."""


def build_optimizer(model: nn.Module, *, peak_lr: float, weight_decay: float) -> StableAdamW:
    """The optimiser over all parameters, in two groups: vectors, and everything else (decayed)."""
    named = list(model.named_parameters())
    vectors = [parameter for _, parameter in named if parameter.ndim <= 1]
    matrices = [parameter for _, parameter in named if parameter.ndim > 1]
    return StableAdamW(
        [
            {"params": vectors, "weight_decay": 0.0},
            {"params": matrices, "weight_decay": weight_decay},
        ],
        lr=peak_lr,
        max_lr=peak_lr,
        betas=BETAS,
        eps=EPSILON,
        decouple_lr=True,
        # Its kernels know whole tensors alone; over shared ones PyTorch's operations give the
        # mean over all parts by which an update is clipped.
        triton=bool(named) and named[0][1].is_cuda and not isinstance(named[0][1], DTensor),
    )


def set_learning_rate(optimizer: StableAdamW, value: float) -> None:
    """Use `value` for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = value


def optimizer_state(optimizer: StableAdamW, model: nn.Module) -> tuple[dict[str, Tensor], Json]:
    """The complete state: tensors by `parameter/key`, and everything else as JSON.

    Moments alone resume wrongly: the step, `max_lr` and the flags of a group belong to it.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    values: Json = {"groups": [], "values": {}}
    for group in optimizer.param_groups:
        scalars = {key: _plain(value) for key, value in group.items() if key != "params"}
        values["groups"].append(scalars)
        for parameter in group["params"]:
            name = names[id(parameter)]
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{name}/{key}"] = value
                else:
                    values["values"][f"{name}/{key}"] = value
    return tensors, values


def load_optimizer_state(
    optimizer: StableAdamW,
    model: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    values: Json,
    *,
    settings: bool = True,
) -> None:
    """Put back what `optimizer_state` took out, on the device of each parameter.

    Args:
        optimizer: over the model's parameters.
        model: names them.
        tensors: from `optimizer_state`, whole; a rank keeps its part of each.
        values: from `optimizer_state`.
        settings: also the groups' settings; without, only what they count (their step).
    """
    named = dict(model.named_parameters())
    optimizer.state.clear()
    for group, saved in zip(optimizer.param_groups, values["groups"], strict=True):
        group.update(
            {
                key: _restored(value)
                for key, value in saved.items()
                if key not in _HERE_NOT_THERE and (settings or key in _COUNTED)
            }
        )
    for entry, value in chain(values["values"].items(), tensors):
        name, _, key = entry.rpartition("/")
        parameter = named[name]
        if isinstance(value, Tensor):
            value = as_held(value, like=parameter).to(parameter.device)
        optimizer.state[parameter][key] = value
    _complete_for_kernels(optimizer)


def _complete_for_kernels(optimizer: StableAdamW) -> None:
    """What the kernels for one GPU keep besides, where a state comes from another implementation.

    See `StableAdamW._init_state`, which makes them together with the moments alone.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["triton"] else ():
            state = optimizer.state.get(parameter, {})
            if state.get("mean_square") is None and state:
                state["mean_square"] = torch.zeros(1, device=parameter.device)
            if state.get("kahan_comp") is None and state:
                state["kahan_comp"] = torch.zeros(1, dtype=torch.uint8, device=parameter.device)


def _plain(value: Any) -> Any:
    """Group values are plain but for the step, a 0-dimensional int32 tensor."""
    return {"int32": int(value)} if isinstance(value, Tensor) else value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return torch.tensor(value["int32"], dtype=torch.int32)
    return value
