"""Checkpoints: everything needed to go on exactly, as safetensors and JSON, whole or absent.

    checkpoints/step1200/
        weights-0000.safetensors     tensors that rank 0 wrote (one file a rank)
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from optimi import StableAdamW
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ettin import files
from ettin.console import log
from ettin.errors import InputError, nearest
from ettin.files import Json
from ettin.schedules import TAG_PREFIXES
from ettin.training.distributed import ALONE, Ranks
from ettin.training.engine import load_model, whole
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
    ranks: Ranks = ALONE,
) -> Path:
    """Write a checkpoint under `run/checkpoints/tag`, then drop temporary ones it replaces.

    All ranks must ask for it: each writes a share of the tensors, into files of its own, and the
    first one everything else.

    Raises:
        NoSpaceError: the disk is full; older checkpoints are untouched.
    """
    target = run / FOLDER / tag
    partial = target.with_name(f"{tag}.partial")  # where `files.staging` builds it
    weights = dict(model.state_dict())
    moments, values = optimizer_state(optimizer, model)
    with ranks.together():
        if ranks.is_first:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                # A resumed run gets here: this one is damaged, temporary, or from a lost future.
                shutil.rmtree(target)
    with ranks.first_holds(files.staging(target)):
        index = {}
        for kind, tensors in (("weights", weights), ("optimizer", moments)):
            own, index[kind] = _share(tensors, kind=kind, ranks=ranks)
            with ranks.together(), files.space_checked(partial):
                if own or ranks.is_first:
                    save_file(own, partial / _file_name(kind, ranks.rank))
        with ranks.together():
            if ranks.is_first:
                state = {**state, "tag": tag, "permanent": permanent, "optimizer": values}
                files.write_json(partial / "index.json", index)
                _declare_finished(partial, state=state, command=command)
    with ranks.together():
        if ranks.is_first:
            _drop_replaced(run, tag=tag, step=state["step"])
    return target


def _share(
    tensors: Mapping[str, Tensor], *, kind: str, ranks: Ranks
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that a rank writes, whole and on the CPU; and which file holds which tensor.

    They are gathered one at a time, so that a rank holds little more than it writes.
    """
    own, index = {}, {}
    for place, name in enumerate(sorted(tensors)):
        writer = place % ranks.size
        gathered = whole(tensors[name].detach())
        index[name] = _file_name(kind, writer)
        if writer == ranks.rank:
            own[name] = gathered.cpu().contiguous()
    return own, index


def _file_name(kind: str, rank: int) -> str:
    return f"{kind}-{rank:04d}.safetensors"


def _declare_finished(partial: Path, *, state: Json, command: list[str]) -> None:
    """Write `state.json` and the manifest."""
    files.write_json(partial / "state.json", state)
    files.write_manifest(
        partial,
        "checkpoint",
        command=command,
        made_from={
            "recipe": state["recipe_fingerprint"],
            "corpus": state["corpus"],
            "start": state["start"] and state["start"]["weights"],
        },
        facts={"tag": state["tag"], "step": state["step"], "permanent": state["permanent"]},
    )


def _drop_replaced(run: Path, *, tag: str, step: int) -> None:
    """Remove temporary checkpoints up to a step, but for that of `tag`."""
    for other in list_checkpoints(run):
        if other.tag != tag and not other.state["permanent"] and other.step <= step:
            shutil.rmtree(other.path)


def list_checkpoints(run: Path) -> list[Checkpoint]:
    """All finished checkpoints of a run, oldest first. Their hashes are not looked at."""
    return [checkpoint_at(path) for path in _finished(run)]


def checkpoint_at(path: Path) -> Checkpoint:
    """The finished checkpoint in a directory. Its hashes are not looked at."""
    return Checkpoint(path, files.read_json(path / "state.json"))


def newest_checkpoint(run: Path) -> Checkpoint | None:
    """The newest checkpoint whose hashes are right; damaged ones are named and passed over."""
    for path in reversed(_finished(run)):
        problems = files.verify(path)
        if not problems:
            return checkpoint_at(path)
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
        found = checkpoint_at(run)
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
    return dict(stored_tensors(checkpoint, "weights"))


def restore(checkpoint: Checkpoint, *, model: nn.Module, optimizer: StableAdamW) -> None:
    """Load weights and the optimiser's complete state in place; a rank keeps its part of each."""
    load_model(model, stored_tensors(checkpoint, "weights"))
    restore_optimizer(checkpoint, model=model, optimizer=optimizer)


def restore_optimizer(
    checkpoint: Checkpoint, *, model: nn.Module, optimizer: StableAdamW, settings: bool = True
) -> None:
    """Load the optimiser's state in place, its settings (rates, weight decay) too or not."""
    load_optimizer_state(
        optimizer,
        model,
        stored_tensors(checkpoint, "optimizer"),
        checkpoint.state["optimizer"],
        settings=settings,
    )


def stored_tensors(checkpoint: Checkpoint, kind: str) -> Iterator[tuple[str, Tensor]]:
    """Names and whole tensors, read one at a time."""
    index = files.read_json(checkpoint.path / "index.json")[kind]
    for name in sorted(set(index.values())):
        with safe_open(files.inside(checkpoint.path, name), framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - it is no dictionary
                yield key, opened.get_tensor(key)
