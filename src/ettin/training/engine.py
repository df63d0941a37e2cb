"""The engine: how ranks share one model, its gradients and its optimiser's moments.

With `shard_ranks: 1` every rank has all weights, and gradients are summed once a step, after the
last micro-batch. Otherwise PyTorch's `fully_shard` keeps on each rank its part of every tensor,
gathers a layer when it computes, and hands each rank its part of the summed gradients.

Losses are divided by the labels of the whole global batch before gradients are taken, so that
gradients are summed over ranks and never averaged.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ettin.model.transformer import Transformer
from ettin.recipe import Recipe
from ettin.training.distributed import Ranks
from ettin.training.step import MicroBatch, micro_batch_loss


class Engine(nn.Module):
    """The loss of a micro-batch as one module: sharded weights are whole from embedding to loss.

    Args:
        model: on the device of its rank; sharded in place if ranks share it.
        recipe: gives visibility and dropout.
        ranks: who shares.
    """

    def __init__(self, model: Transformer, *, recipe: Recipe, ranks: Ranks) -> None:
        super().__init__()
        self.model, self.recipe, self.ranks = model, recipe, ranks
        if ranks.mesh is not None:
            for layer in model.model.layers:
                fully_shard(layer, mesh=ranks.mesh)
            fully_shard(self, mesh=ranks.mesh, reshard_after_forward=True)
        for part in self._sharded():
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)  # gloo has no other

    def forward(self, micro_batch: MicroBatch, *, training: bool) -> Tensor:
        """Σ loss over the labels of a micro-batch, in nats; see `micro_batch_loss`."""
        return micro_batch_loss(self.model, micro_batch, recipe=self.recipe, training=training)

    def expect(self, *, last: bool) -> None:
        """Say before a micro-batch whether it is the step's last: gradients wait for that one."""
        for part in self._sharded():
            part.set_requires_gradient_sync(last, recurse=False)
            part.set_is_last_backward(last)

    def sum_gradients(self) -> None:
        """Make gradients those of all ranks, after the last micro-batch; sharded ones are so."""
        if self.ranks.mesh is None:
            self.ranks.sum_tensors(_gradients(self.model))

    def gradient_norm(self) -> float:
        """√Σ g² over all parameters. Logged only: StableAdamW clips its updates."""
        return whole(torch.nn.utils.get_total_norm(_gradients(self.model))).item()

    def _sharded(self) -> Iterable[FSDPModule]:
        return (part for part in self.modules() if isinstance(part, FSDPModule))


def _gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def whole(tensor: Tensor) -> Tensor:
    """A tensor that ranks may share, whole; all ranks must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def as_held(tensor: Tensor, *, like: Tensor | None) -> Tensor:
    """A whole tensor as a rank holds it: its own part, where `like` is shared and as large."""
    if not isinstance(like, DTensor) or like.shape != tensor.shape:
        return tensor
    # Every rank has the whole tensor already, so that none needs to send it.
    return distribute_tensor(
        tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


@torch.no_grad()
def load_model(model: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Give a model whole tensors by their names, of which a rank keeps its part.

    Raises:
        RuntimeError: they are not exactly those of the model.
    """
    held = model.state_dict()
    own = {name: as_held(tensor, like=held.get(name)) for name, tensor in tensors}
    model.load_state_dict(own, strict=True)
