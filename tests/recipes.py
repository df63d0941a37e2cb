"""Recipes small enough to train inside a test, and shapes of the table of sizes."""

from pathlib import Path
from typing import Any

import yaml

from ettin.presets import SIZES
from ettin.recipe import Recipe
from ettin.recipe_file import resolve
from ettin.shape import Dimensions, Shape

CONTEXT_LENGTH = 64


def tiny_values(**changes: Any) -> dict[str, Any]:
    """A recipe of 20 steps as a dictionary; `phase_…` keys change its phase."""
    phase: dict[str, Any] = {
        "name": "pretraining",
        "tokens": 20 * 6 * CONTEXT_LENGTH,
        "context_length": CONTEXT_LENGTH,
        "batch_rows": 6,
        "warmup_tokens": 4 * 6 * CONTEXT_LENGTH,
        "decay_tokens": 8 * 6 * CONTEXT_LENGTH,
        "save_every_tokens": 7 * 6 * CONTEXT_LENGTH,
        "validate_every_tokens": 5 * 6 * CONTEXT_LENGTH,
    }
    values: dict[str, Any] = {
        "size": "nano",
        "shape": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 2,
            "local_reach": 16,
        },
        "validation_rows": 8,
        "micro_batch_rows": 4,
    }
    for key, value in changes.items():
        if key.startswith("phase_"):
            phase[key.removeprefix("phase_")] = value
        else:
            values[key] = value
    return {**values, "phases": [phase]}


def phased_values(**changes: Any) -> dict[str, Any]:
    """All four phases, 28 steps in the native three and 6 in the cross phase."""
    step = 6 * CONTEXT_LENGTH
    longer: dict[str, Any] = {"context_length": 2 * CONTEXT_LENGTH, "batch_rows": 3}
    phases: list[dict[str, Any]] = [
        {
            "name": "pretraining",
            "tokens": 14 * step,
            "context_length": CONTEXT_LENGTH,
            "batch_rows": 6,
            "warmup_tokens": 4 * step,
            "save_every_tokens": 5 * step,
            "validate_every_tokens": 7 * step,
        },
        {"name": "extension", "tokens": 8 * step, "save_every_tokens": 5 * step, **longer},
        {"name": "decay", "tokens": 6 * step, "save_every_tokens": 4 * step, **longer},
        {"name": "cross", "tokens": 6 * step, "save_every_tokens": 4 * step, **longer},
    ]
    return {**tiny_values(**changes), "micro_batch_rows": 2, "phases": phases}


def tiny_recipe(**changes: Any) -> Recipe:
    """`tiny_values`, checked."""
    return resolve(tiny_values(**changes))


def write_recipe(path: Path, **changes: Any) -> Path:
    """`tiny_values` as a file."""
    path.write_text(yaml.safe_dump(tiny_values(**changes)))
    return path


def shape_of(size: str, *, vocab_size: int) -> Shape:
    """The shape of a row of the table of sizes."""
    row = SIZES[size]._asdict()
    dimensions = {key: value for key, value in row.items() if key in Dimensions.model_fields}
    return Shape(vocab_size=vocab_size, **dimensions)
