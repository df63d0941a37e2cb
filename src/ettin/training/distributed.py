"""Ranks: the processes of one run, which part of the work is whose, what they tell each other.

Under `torchrun` a run has as many ranks as processes were started; without it there is one, for
which every sum is what it was given. Nobody else asks which of the two it is.

    with started("auto", shard_ranks=1) as ranks:
        mine = ranks.block(512)                       # places of a batch: a range
        labels, tokens = ranks.sum_integers([own_labels, own_tokens])
        with ranks.together():                        # an error of one rank is raised by all
            write_own_file()
        newest = ranks.decided(find_newest)           # what the first rank finds, known to all

Ranks are laid out on a mesh of two axes, replicate × shard: those of a row share one copy of the
weights, and rows hold equal copies. What ranks tell each other is numbers and JSON, over the CPU's
backend (gloo), so that it never waits for a GPU; gradients and weights go over the device's.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from ettin.errors import CommandFailed, InputError, StoppedError
from ettin.training.device import choose_device

Decided = TypeVar("Decided")

AXES = ("replicate", "shard")
BUCKET_BYTES = 1 << 22
"""Small gradients are summed in buckets of about this size, larger ones by themselves: to copy
them takes longer than to send them one by one."""

SETTLING_SECONDS = 0.2
"""Threads of gloo that still let go of their work while Python ends would abort the process."""


@dataclass(frozen=True)
class Ranks:
    """One process among those of a run.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: what it computes on.
        mesh: all ranks, replicate × shard; None where no two ranks share weights.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    mesh: DeviceMesh | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes what belongs to all."""
        return self.rank == 0

    @property
    def copies(self) -> int:
        """How many copies of the weights there are."""
        return self.size if self.mesh is None else self.mesh.size(0)

    def block(self, count: int) -> range:
        """The places of this rank among `count`: one stretch, of ⌊count/size⌋ or one more."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def largest_block(self, count: int) -> int:
        """How many places the rank with most of them has."""
        return -(-count // self.size)

    def sum_integers(self, values: Sequence[int]) -> list[int]:
        """Sums over all ranks, mod 2⁶⁴.

        Args:
            values: as many on each rank, each in −2⁶³ … 2⁶⁴ − 1.

        Returns:
            Each in 0 … 2⁶⁴ − 1.
        """
        words = np.array([value % (1 << 64) for value in values], dtype=np.uint64)
        if self.size > 1:
            dist.all_reduce(torch.from_numpy(words.view(np.int64)))
        return [int(word) for word in words]

    def sum_numbers(self, values: Sequence[float]) -> list[float]:
        """Sums over all ranks, in float64."""
        numbers = torch.tensor(values, dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(numbers)
        return [float(number) for number in numbers]

    def sum_tensors(self, tensors: list[Tensor]) -> None:
        """Replace tensors, as many and as large on each rank, by their sums over all ranks.

        Always in the same buckets, so that a run which is resumed adds in the same order.
        """
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            if len(bucket) == 1 and bucket[0].is_contiguous():
                dist.all_reduce(bucket[0])
                continue
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block when all ranks have come to its end; an error of one is raised by all.

        Raises:
            CommandFailed: another rank failed here; it is named, and its exit code passed on.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again when all know of it
            failure = error
        failed = self._least(self.size if failure is None else self.rank)
        if failed < self.size:
            told = self._told({"code": _exit_code(failure), "why": _why(failure)}, by=failed)
            self._least(0)  # nobody leaves before all know
            if failure is not None:
                raise failure
            raise CommandFailed(
                f"rank {failed} of {self.size}: {told['why']}", exit_code=told["code"]
            )

    def decided(self, decide: Callable[[], Decided]) -> Decided:
        """What the first rank finds, for all; an error of it is raised by all.

        Args:
            decide: gives a JSON value; called on the first rank alone.
        """
        found: Any = None
        with self.together():
            if self.is_first:
                found = decide()
        decided: Decided = self._told(found, by=0)
        return decided

    @contextmanager
    def first_holds(self, resource: AbstractContextManager[Any]) -> Iterator[None]:
        """The first rank enters and leaves a context for all; errors of it are raised by all."""
        with ExitStack() as held:
            with self.together():
                if self.is_first:
                    held.enter_context(resource)
            yield
            with self.together():
                held.close()

    def _least(self, value: int) -> int:
        """The least of what all ranks give."""
        if self.size == 1:
            return value
        least = torch.tensor(value)
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
        return int(least)

    def _told(self, value: Any, *, by: int) -> Any:
        """A JSON value of one rank, known to all."""
        if self.size == 1:
            return value
        data = json.dumps(value).encode() if self.rank == by else b""
        length = torch.tensor(len(data))
        dist.broadcast(length, by)
        content = torch.zeros(int(length), dtype=torch.uint8)
        if self.rank == by:
            content.numpy()[:] = np.frombuffer(data, np.uint8)
        dist.broadcast(content, by)
        return json.loads(content.numpy().tobytes())


ALONE = Ranks()
"""One process on the CPU."""


def is_first() -> bool:
    """Whether this process speaks for all; known before they have met."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def started(device: str, *, shard_ranks: int) -> Iterator[Ranks]:
    """Meet the other processes that `torchrun` started, and part from them in the end.

    Args:
        device: of the recipe: `auto`, `cpu`, `cuda` or `mps`.
        shard_ranks: how many ranks share one copy of the weights and moments.

    Raises:
        InputError: the number of processes is no multiple of `shard_ranks`; the device is not
            there, or not for each process of this machine.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size % shard_ranks:
        processes = "1 process" if size == 1 else f"{size} processes"
        raise InputError(
            f"shard_ranks: {shard_ranks} does not divide {processes}; start a multiple of it: "
            f"torchrun --nproc-per-node={shard_ranks} -m ettin train …"
        )
    chosen = choose_device(device)
    if size == 1:
        yield Ranks(device=chosen)
        return
    chosen = _device_of_this_process(chosen)
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    mesh = None
    if shard_ranks > 1:
        axes = (size // shard_ranks, shard_ranks)
        mesh = init_device_mesh(chosen.type, axes, mesh_dim_names=AXES)
    ranks = Ranks(rank, size, chosen, mesh)
    try:
        yield ranks
    except StoppedError:
        # All stop after the same step, and nobody leaves before the first has closed its files.
        _part(ranks)
        raise
    else:
        _part(ranks)
    finally:
        # After other errors there is no good-bye: the others may wait for something else. They
        # hear that a connection is closed, or torchrun ends them; tracebacks name the rank.
        time.sleep(SETTLING_SECONDS)


def _part(ranks: Ranks) -> None:
    ranks._least(0)
    dist.destroy_process_group()


def _device_of_this_process(chosen: torch.device) -> torch.device:
    """A GPU of its own for each process of a machine."""
    if chosen.type == "cuda":
        local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", local + 1))
        if processes > there:
            raise InputError(
                f"{processes} processes were started on a machine with {there} GPUs; start as "
                "many as there are, or train with device=cpu"
            )
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
    if chosen.type != "cpu":
        raise InputError(
            f"device: {chosen.type} serves one process; start one, or train with device=cpu"
        )
    return chosen


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors in order, in portions of one type and of about `BUCKET_BYTES`."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(each.nbytes for each in bucket) + tensor.nbytes > BUCKET_BYTES
        if bucket and (full or bucket[0].dtype != tensor.dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _exit_code(error: Exception | None) -> int:
    return getattr(error, "exit_code", 1)


def _why(error: Exception | None) -> str:
    """The message of an error that is ours; others are told by their kind too."""
    return str(error) if hasattr(error, "exit_code") else f"{type(error).__name__}: {error}"
