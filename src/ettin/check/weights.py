"""Weights as they lie on the disk, without torch: names, shapes, numbers and fingerprints.

Checkpoints and exported encoders name their tensors as `ModernBertForMaskedLM` does; exported
decoders as `ModernBertDecoderForCausalLM`, which splits the matrix of queries, keys and values.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ettin.check.formats import Tensor, read_tensor, safetensors_header
from ettin.files import Json
from ettin.identity import fingerprint_arrays

Arrays = dict[str, npt.NDArray[np.float32]]

_SHAPE = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")
_PARTS = ("q_proj", "k_proj", "v_proj")


def tensors_of(directory: Path) -> dict[str, tuple[Path, Tensor]]:
    """Tensor name → its file and place, of the weights of a checkpoint or a model's directory.

    Raises:
        ValueError: a file that holds some is not whole.
    """
    checkpoint = (directory / "state.json").is_file()
    pattern = "weights-*.safetensors" if checkpoint else "*.safetensors"
    return {
        name: (path, tensor)
        for path in sorted(directory.glob(pattern))
        for name, tensor in safetensors_header(path).items()
    }


def expected_shapes(stated: Json, *, is_decoder: bool) -> dict[str, tuple[int, ...]]:
    """Tensor name → shape, of a model.

    Args:
        stated: a configuration, or the `shape` of a checkpoint's state.
        is_decoder: whether the names are the decoder's.

    Raises:
        ValueError: a number that is none, or of a model beyond all sizes.
    """
    layers, hidden, between, vocabulary = (stated[name] for name in _SHAPE)
    if not all(type(stated[name]) is int and 0 < stated[name] < 1 << 24 for name in _SHAPE):
        raise ValueError(f"{', '.join(_SHAPE)} are {[stated[name] for name in _SHAPE]}")
    head = "lm_head" if is_decoder else "head"
    shapes: dict[str, tuple[int, ...]] = {
        "model.embeddings.tok_embeddings.weight": (vocabulary, hidden),
        "model.embeddings.norm.weight": (hidden,),
        "model.final_norm.weight": (hidden,),
        f"{head}.dense.weight": (hidden, hidden),
        f"{head}.norm.weight": (hidden,),
        "decoder.bias": (vocabulary,),
    }
    for layer in range(layers):
        place = f"model.layers.{layer}"
        if layer:  # the first layer follows the embeddings' norm and has none of its own
            shapes[f"{place}.attn_norm.weight"] = (hidden,)
        if is_decoder:
            shapes |= {f"{place}.attn.{part}.weight": (hidden, hidden) for part in _PARTS}
        else:
            shapes[f"{place}.attn.Wqkv.weight"] = (3 * hidden, hidden)
        shapes[f"{place}.attn.Wo.weight"] = (hidden, hidden)
        shapes[f"{place}.mlp_norm.weight"] = (hidden,)
        shapes[f"{place}.mlp.Wi.weight"] = (2 * between, hidden)
        shapes[f"{place}.mlp.Wo.weight"] = (hidden, between)
    return shapes


def shape_problems(
    found: dict[str, tuple[Path, Tensor]], expected: dict[str, tuple[int, ...]]
) -> list[str]:
    """How tensors differ from those that a model needs; the first few, and how many more."""
    problems = [f"has no tensor {name}" for name in sorted(set(expected) - set(found))]
    problems += [f"has a tensor {name} too much" for name in sorted(set(found) - set(expected))]
    problems += [
        f"{name} is {list(found[name][1].shape)}, by the stated shape {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name][1].shape != shape
    ]
    more = [f"and {len(problems) - 3} more such differences"] if len(problems) > 4 else []
    return [*problems[: 3 if more else 4], *more]


def states_shape(stated: Json) -> bool:
    """Whether all numbers that decide the tensors are stated."""
    return all(name in stated for name in _SHAPE)


def weights_by_our_names(directory: Path) -> Arrays:
    """The weights of a checkpoint or an export, as fp32, by the names of the encoder.

    Tensors are mapped, so that memory is taken for those alone that have to be converted.

    Raises:
        KeyError: a part of queries, keys and values is missing.
        ValueError: a file is not whole.
    """
    found = {name: read_tensor(*place) for name, place in tensors_of(directory).items()}
    ours: Arrays = {}
    for name, array in found.items():
        if ".attn.q_proj." in name:
            parts = [found[name.replace("q_proj", part)] for part in _PARTS]
            ours[name.replace("q_proj", "Wqkv")] = np.concatenate(parts)
        elif ".attn.k_proj." not in name and ".attn.v_proj." not in name:
            ours[name.removeprefix("lm_") if name.startswith("lm_head.") else name] = array
    return ours


def fingerprint_of(directory: Path) -> str:
    """What runs call `weights` and `initial_weights_hash`: see `fingerprint_arrays`."""
    return fingerprint_arrays(dict(weights_by_our_names(directory)))


def first_difference(export: Path, source: Path, *, dtype: str) -> str | None:
    """The first tensor in which an export is not its source; None when all are equal.

    Args:
        export: an exported model.
        source: the checkpoint or model that it was made of.
        dtype: how the export is stored; `bfloat16` has the nearest numbers, ties to even.
    """
    ours, theirs = weights_by_our_names(export), weights_by_our_names(source)
    if set(ours) != set(theirs):
        return min(set(ours) ^ set(theirs))
    for name in sorted(ours):
        expected = _rounded(theirs[name]) if dtype == "bfloat16" else theirs[name]
        if not np.array_equal(ours[name], expected, equal_nan=True):
            return name
    return None


def _rounded(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    bits = np.ascontiguousarray(array).view(np.uint32)
    nearest = bits + (((bits >> 16) & 1) + 0x7FFF)
    return ((nearest >> 16) << 16).view(np.float32)
