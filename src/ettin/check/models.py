"""Checkpoints and exports: every tensor in its place, and the proof of parity."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ettin import files
from ettin.check import weights
from ettin.check.directories import Directory
from ettin.check.formats import safetensors_header
from ettin.check.tokenizers import Tokenizers
from ettin.files import Json

_IDS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "pad"}


def check_checkpoint(checkpoint: Directory) -> Iterator[str]:
    """What is wrong with a checkpoint whose bytes are right."""
    path = checkpoint.path
    index = files.read_json(path / "index.json")
    for kind, places in index.items():
        for file in sorted(set(places.values())):
            holder = files.inside(path, file)
            expected = {tensor for tensor, place in places.items() if place == file}
            held = set(safetensors_header(holder)) if holder.is_file() else set()
            for tensor in sorted(expected - held):
                yield f"{holder}: no tensor {tensor}, which the index names among the {kind}"
    state = files.read_json(path / "state.json")
    for name in ("tag", "step"):
        if (
            name in checkpoint.facts
            and state.get(name, checkpoint.facts[name]) != (checkpoint.facts[name])
        ):
            yield f"{path}: {name} {state[name]!r}, the manifest says {checkpoint.facts[name]!r}"
    shape: Json = state.get("shape") or {}
    if weights.states_shape(shape):
        found = weights.tensors_of(path)
        needed = weights.expected_shapes(shape, is_decoder=False)
        for problem in weights.shape_problems(found, needed):
            yield f"{path}: {problem}"


def check_export(export: Directory, tokenizers: Tokenizers) -> Iterator[str]:
    """What is wrong with an export whose bytes are right."""
    path = export.path
    missing = [
        f"{path / name}: missing"
        for name in ("config.json", "model.safetensors", "parity.json")
        if not (path / name).is_file()
    ]
    if missing:
        yield from missing
        return
    yield from _check_parity(path / "parity.json", export.facts)
    config = files.read_json(path / "config.json")
    if "ettin" in config and config["ettin"] != export.facts["ettin"]:
        yield f"{path / 'config.json'}: what it says below `ettin` is not what the manifest says"
    if weights.states_shape(config):
        yield from _check_tensors(path, config, export.facts)
        if (path / "tokenizer.json").is_file():
            yield from _check_tokenizer(path, config, tokenizers)


def _check_parity(path: Path, facts: Json) -> Iterator[str]:
    parity = files.read_json(path)
    largest: Any = parity.get("largest_logit_difference")
    allowed: Any = parity.get("tolerance")
    numbers = isinstance(largest, int | float) and isinstance(allowed, int | float)
    if not (numbers and largest <= allowed):
        yield f"{path}: logits differ by {largest}, allowed are {allowed}"
    elif facts.get("parity", largest) != largest:
        yield f"{path}: logits differ by {largest}, the manifest says {facts['parity']}"


def _check_tensors(path: Path, config: Json, facts: Json) -> Iterator[str]:
    """The weights are those that the configuration asks for."""
    is_decoder = config["model_type"] == "modernbert-decoder"
    if facts.get("kind") not in (None, "decoder" if is_decoder else "encoder"):
        yield f"{path}: a {config['model_type']}, the manifest says {facts['kind']}"
    found = weights.tensors_of(path)
    needed = weights.expected_shapes(config, is_decoder=is_decoder)
    for problem in weights.shape_problems(found, needed):
        yield f"{path / 'model.safetensors'}: {problem}"
    types = {"float32": "F32", "bfloat16": "BF16"}
    stored = {tensor.dtype for _, tensor in found.values()}
    if "dtype" in facts and stored != {types[facts["dtype"]]}:
        listed = ", ".join(sorted(stored))
        yield f"{path / 'model.safetensors'}: holds {listed}, the manifest says {facts['dtype']}"


def _check_tokenizer(path: Path, config: Json, tokenizers: Tokenizers) -> Iterator[str]:
    """The tokenizer gives ids that the model has embeddings for."""
    found = tokenizers.describe(path)
    if found["size"] > config["vocab_size"]:
        yield (
            f"{path}: its tokenizer has ids up to {found['size'] - 1:,}, its model embeddings for "
            f"{config['vocab_size']:,}"
        )
    for key, role in _IDS.items():
        if config.get(key, found["special"][role]) != found["special"][role]:
            yield f"{path}: {key} is {config[key]}, the tokenizer's is {found['special'][role]}"
