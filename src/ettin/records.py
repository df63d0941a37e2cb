"""The schema of a result: one number about one model on one task, and everything that made it.

results/<model>-<8 hex of its weights>/<family>/<task>/<8 hex of the settings>.json

A record is written once, whole. The same model, task and settings name the same file, so a
finished task is not run twice, and a changed setting is a new record beside the old one.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from ettin import files
from ettin.errors import InputError

RESULTS = "results"
"""What the manifest of a directory of results says that it is."""
SAMPLES = "samples.json"
"""A first look at a model, which is no record."""
FINETUNED = "finetuned"
"""The folder, beside those of the models, of what was trained to be measured."""

Kind = Literal["encoder", "decoder"]


class Score(BaseModel):
    """A number and how far it may be from the one that more examples would give."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    stderr: float | None = None
    """Standard error over examples, where it is known."""


class Record(BaseModel):
    """One result.

    `metric`, `value` and `stderr` are the task's main score; `metrics` holds all of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """What the model is called: its directory's name, or its hub id."""
    revision: str | None
    weights: str
    """Fingerprint of the weights."""
    kind: Kind
    objective: Literal["mlm", "clm", "mntp"]
    variant: Literal["native", "cross"]
    size: str | None
    phase: str | None
    tag: str | None
    tokens: int | None
    """Text tokens that the model was trained on, where it says so."""
    parameters: int | None
    recipe: str | None = None
    """Fingerprint of the recipe that it was trained by; checkpoints of one run share it."""
    training_seed: int | None = None
    """Seed of its training, where it says so."""
    seed: int | None
    """Of what is random in the task, such as the order of fine-tuning; None where nothing is."""
    task: str
    """`family/name`."""
    task_version: str
    data: str
    """What identifies the examples: a revision on the hub, or a fingerprint of local files."""
    metric: str
    value: float
    stderr: float | None
    metrics: dict[str, Score]
    baselines: dict[str, float]
    """The main metric of something simple on the same examples: chance, majority, bm25, …"""
    examples: int
    limit: int | None
    """At most so many examples were asked for; None: all. A limited score is no benchmark's."""
    settings: dict[str, Any]
    samples: str | None
    """The file beside the record that holds every example with its answer, if it was asked for."""
    seconds: float
    versions: dict[str, str]
    command: list[str]


def folder_of(out: Path, *, model: str, weights: str, task: str) -> Path:
    """Where records of a model on a task lie.

    Args:
        out: the results directory.
        model: what the model is called; anything but letters, digits, `.`, `-`, `_` becomes `-`.
        weights: their fingerprint.
        task: `family/name`.
    """
    family, _, name = task.partition("/")
    return out / f"{file_name(model)}-{weights[:8]}" / file_name(family) / file_name(name)


def record_path(folder: Path, settings: dict[str, Any]) -> Path:
    """The file of the record with these settings."""
    return folder / f"{files.fingerprint(settings)[:8]}.json"


def settings_of(record: Record) -> dict[str, Any]:
    """The settings that name the record's file: what was asked for, not what was found."""
    return {key: record.settings[key] for key in record.settings if key != "found"}


def read_records(out: Path) -> dict[str, Record | str]:
    """All records below a directory of results.

    Returns:
        Name, relative to the directory → the record, or why it is none.
    """
    found: dict[str, Record | str] = {}
    for path in sorted(out.glob("*/*/*/*.json")):
        if path.relative_to(out).parts[0] == FINETUNED:
            continue
        name = path.relative_to(out).as_posix()
        try:
            found[name] = Record.model_validate(files.read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            found[name] = f"{place}: {first['msg']}"
        except (InputError, RecursionError) as error:
            found[name] = str(error)
    return found


def fingerprint_of_weights(digests: Iterable[str]) -> str:
    """What identifies a model's weights, 32 hexadecimal digits (xxh3_128).

    Args:
        digests: xxh3_128 of each of its safetensors files, in the order of their names.
    """
    return xxhash.xxh3_128_hexdigest("".join(digests).encode())


def file_name(text: str) -> str:
    """A name that is safe as one part of a path."""
    return re.sub(r"[^\w.-]+", "-", text).strip(".-") or "unnamed"


def kind_of_objective(objective: str) -> Kind:
    """What a model trained with an objective is: `decoder` after clm, `encoder` otherwise."""
    return "decoder" if objective == "clm" else "encoder"


def role_words(kind: str, *, variant: str, objective: str) -> str:
    """A model's place in its suite, in words.

    Example:
        >>> role_words("encoder", variant="cross", objective="mntp")
        'encoder from decoder (mntp)'
    """
    if variant != "cross":
        return kind
    if kind == "decoder":
        return "decoder from encoder"
    return f"encoder from decoder ({objective})"
