"""Checkpoints: everything needed to go on exactly, as safetensors and JSON, whole or absent.

    checkpoints/step1200/
        weights-0000.safetensors     tensors of rank 0 (one file a rank)
        optimizer-0000.safetensors
        index.json                   which file holds which tensor
        state.json                   step, tokens, the optimiser's plain values, shape, tag
        manifest.json                sizes and hashes, last

Tensors are stored whole, under their own names, so a checkpoint does not know how many processes
wrote it. A *permanent* checkpoint belongs to the run; a temporary one insures against an end
between two permanent ones and goes when the next is there.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from optimi import StableAdamW
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ettin import files
from ettin.console import log
from ettin.errors import InputError, nearest
from ettin.files import Json
from ettin.schedules import TAG_PREFIXES
from ettin.training.optimizer import load_optimizer_state, optimizer_state

FOLDER = "checkpoints"
_TAG = re.compile(rf"({'|'.join(TAG_PREFIXES.values())})(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A finished checkpoint.

    Attributes:
        path: its directory.
        state: what `state.json` holds.
    """

    path: Path
    state: Json

    @property
    def tag(self) -> str:
        """Its name, e.g. `step1200`."""
        return self.path.name

    @property
    def step(self) -> int:
        """Optimiser steps of the run behind it."""
        return int(self.state["step"])


def save_checkpoint(
    run: Path,
    *,
    tag: str,
    model: nn.Module,
    optimizer: StableAdamW,
    state: Json,
    permanent: bool,
    command: list[str],
) -> Path:
    """Write a checkpoint under `run/checkpoints/tag`, then drop temporary ones it replaces.

    Raises:
        NoSpaceError: the disk is full; older checkpoints are untouched.
    """
    target = run / FOLDER / tag
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        # A resumed run gets here: this one is damaged, temporary, or from a lost future.
        shutil.rmtree(target)
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    moments, values = optimizer_state(optimizer, model)
    moments = {name: tensor.detach().cpu().contiguous() for name, tensor in moments.items()}
    with files.staging(target) as partial:
        index = {}
        for kind, tensors in (("weights", weights), ("optimizer", moments)):
            name = f"{kind}-0000.safetensors"
            save_file(tensors, partial / name)
            index[kind] = dict.fromkeys(sorted(tensors), name)
        files.write_json(partial / "index.json", index)
        files.write_json(
            partial / "state.json",
            {**state, "tag": tag, "permanent": permanent, "optimizer": values},
        )
        files.write_manifest(
            partial,
            "checkpoint",
            command=command,
            made_from={
                "recipe": state["recipe_fingerprint"],
                "corpus": state["corpus"],
                "start": state["start"] and state["start"]["weights"],
            },
            facts={"tag": tag, "step": state["step"], "permanent": permanent},
        )
    for other in list_checkpoints(run):
        if other.tag != tag and not other.state["permanent"] and other.step <= state["step"]:
            shutil.rmtree(other.path)
    return target


def list_checkpoints(run: Path) -> list[Checkpoint]:
    """All finished checkpoints of a run, oldest first. Their hashes are not looked at."""
    return [Checkpoint(path, files.read_json(path / "state.json")) for path in _finished(run)]


def newest_checkpoint(run: Path) -> Checkpoint | None:
    """The newest checkpoint whose hashes are right; damaged ones are named and passed over."""
    for path in reversed(_finished(run)):
        problems = files.verify(path)
        if not problems:
            return Checkpoint(path, files.read_json(path / "state.json"))
        log.warning("%s is damaged and passed over: %s", path, problems[0])
    return None


def _finished(run: Path) -> list[Path]:
    """Directories of finished checkpoints, by the phase and the step in their names."""
    folder = run / FOLDER
    named = (
        [path for path in folder.iterdir() if _TAG.fullmatch(path.name)] if folder.is_dir() else []
    )
    return sorted((path for path in named if files.is_finished(path)), key=_age)


def _age(path: Path) -> tuple[int, int]:
    """Sorts tags as a run makes them; phases stand in their table in that order."""
    named = _TAG.fullmatch(path.name)
    assert named is not None
    return list(TAG_PREFIXES.values()).index(named[1]), int(named[2])


def discard_leftovers(run: Path) -> None:
    """Remove what a killed process left half written among a run's checkpoints."""
    for path in (run / FOLDER).glob("*.partial"):
        shutil.rmtree(path)


def find_checkpoint(where: str) -> Checkpoint:
    """The checkpoint that a person names: its directory, `RUN@TAG`, or `RUN` for the last.

    Raises:
        InputError: there is no such run or tag, or it is damaged.
    """
    path = Path(where)
    run, tag = path, ""
    if not path.exists():
        name, _, tag = where.rpartition("@")
        run = Path(name)
    if not run.is_dir():
        raise InputError(f"{where} is neither a directory nor RUN@TAG")
    if (run / "state.json").is_file() and not tag:
        found = Checkpoint(run, files.read_json(run / "state.json"))
    else:
        checkpoints = list_checkpoints(run)
        tags = [each.tag for each in checkpoints]
        if not checkpoints:
            raise InputError(f"{run} holds no checkpoint; is it a run directory?")
        if tag and tag not in tags:
            raise InputError(f"{run} has no checkpoint {tag!r}; {nearest(tag, tags)}")
        found = checkpoints[tags.index(tag)] if tag else checkpoints[-1]
    if problems := files.verify(found.path):
        raise InputError(f"{found.path} is damaged: {problems[0]}")
    return found


def load_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """All weights of a checkpoint, on the CPU, by parameter name."""
    return _load(checkpoint, "weights")


def restore(checkpoint: Checkpoint, *, model: nn.Module, optimizer: StableAdamW) -> None:
    """Load weights and the optimiser's complete state in place."""
    with torch.no_grad():
        model.load_state_dict(load_weights(checkpoint), strict=True)
    restore_optimizer(checkpoint, model=model, optimizer=optimizer)


def restore_optimizer(
    checkpoint: Checkpoint, *, model: nn.Module, optimizer: StableAdamW, settings: bool = True
) -> None:
    """Load the optimiser's state in place, its settings (rates, weight decay) too or not."""
    load_optimizer_state(
        optimizer,
        model,
        _load(checkpoint, "optimizer"),
        checkpoint.state["optimizer"],
        settings=settings,
    )


def _load(checkpoint: Checkpoint, kind: str) -> dict[str, Tensor]:
    index = files.read_json(checkpoint.path / "index.json")[kind]
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(index.values())):
        tensors |= load_file(files.inside(checkpoint.path, name))
    return tensors
