"""The border to `transformers`: what its two classes call things, and how windows are counted.

Our weights carry the names of `ModernBertForMaskedLM`. `ModernBertDecoderForCausalLM` splits the
fused query-key-value matrix into three and calls the head `lm_head`; nothing else differs.

Windows: `local_reach` r is how many positions a local layer sees on each allowed side, the query
not counted. The encoder's configuration holds `local_attention = 2r`; the decoder's holds
`2(r + 1)`, because `transformers` counts the query there. Published decoders say 128 and thus
reach 63, one less than they were trained with.
"""

from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file
from torch import Tensor, cat

from ettin import files
from ettin.errors import InputError
from ettin.files import Json
from ettin.recipe import Objective, Shape

Kind = Literal["encoder", "decoder"]

MODEL_TYPES: dict[str, Kind] = {"modernbert": "encoder", "modernbert-decoder": "decoder"}
ARCHITECTURES: dict[Kind, str] = {
    "encoder": "ModernBertForMaskedLM",
    "decoder": "ModernBertDecoderForCausalLM",
}
_SPLIT = ("q_proj", "k_proj", "v_proj")


def kind_of(objective: Objective) -> Kind:
    """`decoder` for clm, `encoder` for mlm and mntp."""
    return "decoder" if objective == "clm" else "encoder"


def window_of(kind: Kind, reach: int) -> int:
    """The `local_attention` that gives a class this reach."""
    return 2 * reach if kind == "encoder" else 2 * (reach + 1)


def reach_of(config: Json) -> int:
    """The reach of a configuration, computed as `transformers` does.

    Raises:
        InputError: not a ModernBERT configuration.
    """
    kind = kind_of_config(config)
    half = int(config.get("local_attention", 128)) // 2
    return half if kind == "encoder" else half - 1


def kind_of_config(config: Json) -> Kind:
    """Which of the two classes a configuration is for.

    Raises:
        InputError: neither.
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise InputError(f"model_type {model_type!r} is not one of {', '.join(MODEL_TYPES)}")
    return MODEL_TYPES[model_type]


def rope_bases_of(config: Json) -> tuple[float, float]:
    """RoPE bases of global and local layers, from the new keys, the older ones, or the defaults.

    A configuration without any means 160,000 and 10,000, as both classes of `transformers` do.
    """
    new: Json = config.get("rope_parameters") or {}
    bases = []
    for kind, older, default in (
        ("full_attention", "global_rope_theta", 160_000.0),
        ("sliding_attention", "local_rope_theta", 10_000.0),
    ):
        stated = (new.get(kind) or {}).get("rope_theta", config.get(older))
        bases.append(default if stated is None else float(stated))
    return bases[0], bases[1]


def rope_keys(*, global_rope_theta: float, local_rope_theta: float) -> Json:
    """The bases as configurations state them: the new key, and two that releases before 5 read."""
    return {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": global_rope_theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": local_rope_theta},
        },
        "global_rope_theta": global_rope_theta,
        "local_rope_theta": local_rope_theta,
    }


def make_config(
    kind: Kind,
    shape: Shape,
    *,
    context_length: int,
    global_rope_theta: float,
    local_rope_theta: float,
    special: dict[str, int],
    ettin: Json,
) -> Json:
    """The content of `config.json` for one of the two classes.

    Args:
        kind: which class.
        shape: dimensions and vocabulary.
        context_length: tokens; becomes `max_position_embeddings`.
        global_rope_theta: RoPE base of global layers.
        local_rope_theta: RoPE base of local layers.
        special: ids of `bos`, `eos`, `pad`, `mask`.
        ettin: what the model is, for people and for our own tools.
    """
    layer_types = [
        "sliding_attention" if layer % 3 else "full_attention"
        for layer in range(shape.num_hidden_layers)
    ]
    config: Json = {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": next(name for name, each in MODEL_TYPES.items() if each == kind),
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "hidden_activation": "gelu",
        "max_position_embeddings": context_length,
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "decoder_bias": True,
        "classifier_bias": False,
        "attention_dropout": 0.0,
        "embedding_dropout": 0.0,
        "mlp_dropout": 0.0,
        "local_attention": window_of(kind, shape.local_reach),
        "layer_types": layer_types,
        **rope_keys(global_rope_theta=global_rope_theta, local_rope_theta=local_rope_theta),
        "global_attn_every_n_layers": 3,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "initializer_cutoff_factor": 2.0,
        "bos_token_id": special["bos"],
        "eos_token_id": special["eos"],
        "cls_token_id": special["bos"],
        "sep_token_id": special["eos"],
        "pad_token_id": special["pad"],
        "dtype": "float32",
        "ettin": ettin,
    }
    if kind == "decoder":
        config |= {"is_decoder": True, "use_cache": True}
    return config


def convert_config(config: Json) -> Json:
    """The configuration of the other class, for the same weights and the same reach."""
    kind, reach = kind_of_config(config), reach_of(config)
    other: Kind = "decoder" if kind == "encoder" else "encoder"
    converted = dict(config)
    for key in ("is_decoder", "use_cache", "sliding_window"):
        converted.pop(key, None)
    global_base, local_base = rope_bases_of(config)
    converted |= rope_keys(global_rope_theta=global_base, local_rope_theta=local_base)
    converted |= {
        "architectures": [ARCHITECTURES[other]],
        "model_type": next(name for name, each in MODEL_TYPES.items() if each == other),
        "local_attention": window_of(other, reach),
    }
    if other == "decoder":
        converted |= {"is_decoder": True, "use_cache": True}
    return converted


def to_decoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the encoder's names → by the decoder's names."""
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if ".attn.Wqkv." in name:
            for part, piece in zip(_SPLIT, tensor.chunk(3, dim=0), strict=True):
                result[name.replace("Wqkv", part)] = piece.contiguous()
        elif name.startswith("head."):
            result[f"lm_{name}"] = tensor
        else:
            result[name] = tensor
    return result


def to_encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the decoder's names → by the encoder's names; undoes `to_decoder` bit for bit."""
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if ".attn.q_proj." in name:
            parts = [weights[name.replace("q_proj", part)] for part in _SPLIT]
            result[name.replace("q_proj", "Wqkv")] = cat(parts, dim=0)
        elif ".attn.k_proj." in name or ".attn.v_proj." in name:
            continue
        else:
            result[name.removeprefix("lm_") if name.startswith("lm_head.") else name] = tensor
    return result


def read_model(directory: Path) -> tuple[Json, dict[str, Tensor]]:
    """Configuration and weights of a ModernBERT or ModernBertDecoder directory.

    The tied output matrix is left out: it is the embedding.

    Raises:
        InputError: not such a directory, or its weights are not safetensors.
    """
    config = files.read_json(directory / "config.json")
    kind_of_config(config)
    shards = sorted(directory.glob("*.safetensors"))
    if not shards:
        raise InputError(
            f"{directory} holds no safetensors; other formats may run code and are never read. "
            "Save it once more with transformers' save_pretrained"
        )
    weights: dict[str, Tensor] = {}
    for shard in shards:
        weights |= load_file(shard)
    weights.pop("decoder.weight", None)
    return config, weights


def load_pretrained(directory: Path, kind: Kind) -> Any:
    """The stock `transformers` model of a directory, fp32, in evaluation mode, no remote code."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    auto = {
        "encoder": transformers.AutoModelForMaskedLM,
        "decoder": transformers.AutoModelForCausalLM,
    }[kind]
    model, report = auto.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    unexpected = {key: sorted(map(str, report[key])) for key in report if report[key]}
    if unexpected:
        raise InputError(f"{directory} does not load cleanly in transformers: {unexpected}")
    return model.eval()
