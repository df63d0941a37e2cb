"""A directory of `transformers` as a start: its weights by our names, what it says of itself.

    weights_of(directory)     # fp32; refused unless our transformer computes exactly what it does
    facts_of(directory)       # kind, objective, shape, RoPE bases, …

Only JSON and safetensors are read.
"""

from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ettin import files
from ettin.errors import InputError
from ettin.files import Json
from ettin.huggingface import (
    DEFAULT_CONTEXT_LENGTH,
    architecture_problems,
    kind_of_config,
    rope_bases_of,
    shape_of_config,
    to_decoder,
    to_encoder,
)
from ettin.model.transformer import Transformer
from ettin.recipe import Objective
from ettin.records import kind_of_objective
from ettin.shape import Shape

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

_TIED = "decoder.weight"
_EMBEDDING = "model.embeddings.tok_embeddings.weight"


def weights_of(directory: Path) -> dict[str, Tensor]:
    """The weights of a directory by our parameter names, fp32, on the CPU.

    Raises:
        InputError: another architecture, each difference named; or other tensors than those of
            our model, each named; or whatever `read_model` refuses.
    """
    config = files.read_json(directory / CONFIG)
    if problems := architecture_problems(config):
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise InputError(f"{directory} is a model that ettin does not compute exactly:\n{listed}")
    expected = tensors_of(shape_of_config(config))
    config, weights = read_model(directory)
    if kind_of_config(config) == "encoder":
        refuse_other_tensors(directory, weights, expected=expected)
        return weights
    refuse_other_tensors(directory, weights, expected=to_decoder(expected))
    return to_encoder(weights)


def facts_of(directory: Path) -> Json:
    """What `Start.facts` holds of a directory; our exports say more of themselves than others."""
    config = files.read_json(directory / CONFIG)
    told = ettin_of(config)
    global_base, local_base = rope_bases_of(config)
    return {
        "format": "huggingface",
        "kind": kind_of_objective(told["objective"]),
        "objective": told["objective"],
        "variant": told.get("variant", "native"),
        **{key: told.get(key) for key in ("phase", "tag", "tokens", "size")},
        "shape": shape_of_config(config).model_dump(),
        "context_length": config.get("max_position_embeddings", DEFAULT_CONTEXT_LENGTH),
        "global_rope_theta": global_base,
        "local_rope_theta": local_base,
    }


def ettin_of(config: Json) -> Json:
    """What a configuration says of how its weights were trained, `objective` at least.

    A model that was merely converted to the other class still is what it was trained as. Of a
    model that was not made by ettin the class alone is known.

    Raises:
        InputError: the objective is none that we know.
    """
    stated: Any = config.get("ettin") or {}
    objective = "clm" if kind_of_config(config) == "decoder" else "mlm"
    told: Json = {
        "objective": objective,
        **(stated if isinstance(stated, dict) else {"objective": stated}),
    }
    if told["objective"] not in get_args(Objective):
        raise InputError(
            f"the configuration's ettin.objective is {told['objective']!r}, expected one of "
            f"{', '.join(get_args(Objective))}"
        )
    return told


def read_model(directory: Path) -> tuple[Json, dict[str, Tensor]]:
    """Configuration and weights of a ModernBERT or ModernBertDecoder directory.

    Weights have the names of the directory's own class. They are read from the files that
    `transformers` would take, and made fp32, which is exact. The tied output matrix is left out:
    it is the embedding.

    Raises:
        InputError: not such a directory, or its weights are no safetensors, damaged, of a type
            that fp32 does not hold, or not tied.
    """
    config = files.read_json(directory / CONFIG)
    kind_of_config(config)
    weights: dict[str, Tensor] = {}
    for path in _weight_files(directory):
        try:
            weights |= load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} is missing or damaged: {error}") from error
    for name, tensor in weights.items():
        if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise InputError(
                f"{directory}: {name} is stored as {tensor.dtype}, expected float32, bfloat16 or "
                "float16"
            )
    weights = {name: tensor.float() for name, tensor in weights.items()}
    tied = weights.pop(_TIED, None)
    if tied is not None and _EMBEDDING in weights and not torch.equal(tied, weights[_EMBEDDING]):
        raise InputError(f"{directory}: {_TIED} differs from the embeddings, expected the same")
    return config, weights


def _weight_files(directory: Path) -> list[Path]:
    """The safetensors of a model: one file, or those that its index names."""
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    index = directory / f"{WEIGHTS}.index.json"
    if not index.is_file():
        raise InputError(
            f"{directory} holds no safetensors; other formats may run code and are never read. "
            "Save it once more with transformers' save_pretrained"
        )
    named = files.read_json(index).get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    # Files of the hub's cache are links, so that where they lead to says nothing.
    if not names or any(Path(name).name != name for name in names):
        raise InputError(f"{index} should name files beside it in its weight_map")
    return [directory / name for name in names]


def tensors_of(shape: Shape) -> dict[str, Tensor]:
    """The tensors of our model of a shape, without storage."""
    with torch.device("meta"):
        return Transformer(shape, global_rope_theta=1.0, local_rope_theta=1.0).state_dict()


def refuse_other_tensors(
    path: Path, given: dict[str, Tensor], *, expected: dict[str, Tensor]
) -> None:
    """Compare the tensors of a model with those it should have.

    Args:
        path: where they were found.
        given: by name.
        expected: by name, with or without storage.

    Raises:
        InputError: some are missing, not expected, or of another shape; each is named.
    """
    wrong = [
        f"{name} is {list(given[name].shape)}, expected {list(expected[name].shape)}"
        for name in expected.keys() & given.keys()
        if given[name].shape != expected[name].shape
    ]
    problems = [
        f"{said}: {', '.join(sorted(names)[:4])}{f' and {len(names) - 4} more' * (len(names) > 4)}"
        for said, names in (
            ("missing", list(expected.keys() - given.keys())),
            ("not expected", list(given.keys() - expected.keys())),
            ("of another shape", wrong),
        )
        if names
    ]
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise InputError(
            f"{path} does not hold the tensors of a whole model:\n{listed}\n"
            "a start needs the backbone and the language-model head: a ModernBertForMaskedLM or a "
            "ModernBertDecoderForCausalLM, and no other head"
        )
