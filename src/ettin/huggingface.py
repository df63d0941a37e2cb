"""The border to `transformers`: what its two classes call things, and how windows are counted.

    architecture_problems(config)     # what our transformer would not compute alike
    shape_of_config(config)
    to_decoder(weights)               # our names → ModernBertDecoderForCausalLM's

Nothing here imports `transformers`: a configuration is JSON, and a key that it leaves out means
what both classes take it for.

Our weights carry the names of `ModernBertForMaskedLM`. `ModernBertDecoderForCausalLM` splits the
fused query-key-value matrix into three and calls the head `lm_head`; nothing else differs.

Windows: `local_reach` r is how many positions a local layer sees on each allowed side, the query
not counted. The encoder's configuration holds `local_attention = 2r`; the decoder's holds
`2(r + 1)`, because `transformers` counts the query there. Published decoders say 128 and thus
reach 63, one less than they were trained with.
"""

from torch import Tensor, cat

from ettin.errors import InputError
from ettin.files import Json
from ettin.records import Kind
from ettin.shape import Shape

MODEL_TYPES: dict[str, Kind] = {"modernbert": "encoder", "modernbert-decoder": "decoder"}
ARCHITECTURES: dict[Kind, str] = {
    "encoder": "ModernBertForMaskedLM",
    "decoder": "ModernBertDecoderForCausalLM",
}
DEFAULT_CONTEXT_LENGTH = 8192
"""What `max_position_embeddings` is when a configuration leaves it out."""

_SPLIT = ("q_proj", "k_proj", "v_proj")
_SHAPE_DEFAULTS = {
    "num_hidden_layers": 22,
    "hidden_size": 768,
    "intermediate_size": 1152,
    "num_attention_heads": 12,
    "vocab_size": 50_368,
}
# The only values that our transformer computes with; they are the defaults of both classes.
_FIXED: Json = {
    "hidden_activation": "gelu",
    "classifier_activation": "gelu",
    "norm_eps": 1e-5,
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_bias": False,
    "decoder_bias": True,
    "tie_word_embeddings": True,
}
_GLOBAL, _LOCAL = "full_attention", "sliding_attention"


def window_of(kind: Kind, reach: int) -> int:
    """The `local_attention` that gives a class this reach."""
    return 2 * reach if kind == "encoder" else 2 * (reach + 1)


def reach_of(config: Json) -> int:
    """The reach of a configuration, computed as `transformers` does.

    A `sliding_window`, which `transformers` writes for decoders, goes before `local_attention`.

    Raises:
        InputError: not a ModernBERT configuration, or no whole number.
    """
    kind = kind_of_config(config)
    key = "sliding_window" if "sliding_window" in config else "local_attention"
    window = config.get(key, 128)
    if type(window) is not int:
        raise InputError(f"{key} is {window!r}, expected a number of tokens")
    half = window if key == "sliding_window" else window // 2
    return half if kind == "encoder" else half - 1


def shape_of_config(config: Json) -> Shape:
    """Dimensions and vocabulary of a configuration, its reach as `transformers` computes it.

    Raises:
        InputError: not a ModernBERT configuration, or numbers that make no shape of ours.
    """
    kind_of_config(config)
    if problems := _dimension_problems(config):
        raise InputError(f"the configuration is of no shape of ours: {'; '.join(problems)}")
    return Shape(
        **{key: config.get(key, default) for key, default in _SHAPE_DEFAULTS.items()},
        local_reach=reach_of(config),
    )


def architecture_problems(config: Json) -> list[str]:
    """What in a configuration our transformer does not compute exactly as `transformers` does.

    Returns:
        One sentence each: the key, what it is, what was expected; empty when all is alike.

    Raises:
        InputError: not a ModernBERT configuration.
    """
    kind_of_config(config)
    problems = [
        f"{key} is {config[key]!r}, expected {expected!r}"
        for key, expected in _FIXED.items()
        if config.get(key, expected) != expected
    ]
    return [*problems, *_dimension_problems(config), *_rope_problems(config)]


def _dimension_problems(config: Json) -> list[str]:
    """Layers, heads and window that our transformer does not have."""
    numbers = {key: config.get(key, default) for key, default in _SHAPE_DEFAULTS.items()}
    problems = [
        f"{key} is {number!r}, expected a whole number above 0"
        for key, number in numbers.items()
        if type(number) is not int or number < 1
    ]
    if problems:
        return problems
    layers, heads = numbers["num_hidden_layers"], numbers["num_attention_heads"]
    width = numbers["hidden_size"]
    if (layers - 1) % 3:
        problems.append(f"num_hidden_layers is {layers}, expected 1 more than a multiple of 3")
    if width % (2 * heads):
        problems.append(
            f"hidden_size is {width}, expected an even number of dimensions for each of "
            f"{heads} heads"
        )
    for key, expected in (("num_key_value_heads", heads), ("head_dim", width // heads)):
        if config.get(key) not in (None, expected):
            problems.append(f"{key} is {config[key]!r}, expected {expected}")
    every = config.get("global_attn_every_n_layers", 3)
    types = config.get("layer_types")
    if types is None and every != 3:
        problems.append(f"global_attn_every_n_layers is {every!r}, expected 3")
    if types is not None and types != _layer_types(layers):
        problems.append(
            f"layer_types is {types!r}, expected {_GLOBAL} in layers 0, 3, 6, … and {_LOCAL} in "
            "the others"
        )
    try:
        reach = reach_of(config)
    except InputError as error:
        return [*problems, str(error)]
    if reach < 1:
        problems.append(
            f"local_attention gives local layers a reach of {reach}, expected 1 token or more"
        )
    return problems


def _rope_problems(config: Json) -> list[str]:
    """Rotary embeddings that are stretched, or stated in a way that no class reads."""
    if config.get("rope_scaling"):
        return [f"rope_scaling is {config['rope_scaling']!r}, expected none"]
    stated = config.get("rope_parameters") or {}
    problems = []
    for key, value in stated.items() if isinstance(stated, dict) else [("", stated)]:
        if key not in (_GLOBAL, _LOCAL) or not isinstance(value, dict | None):
            problems.append(
                f"rope_parameters holds {key!r}: {value!r}, expected {_GLOBAL} and {_LOCAL} with "
                "a rope_theta each"
            )
        elif value and value.get("rope_type", "default") != "default":
            problems.append(
                f"rope_type of {key} is {value['rope_type']!r}, expected 'default': no scaling"
            )
    return problems


def _layer_types(layers: int) -> list[str]:
    """Which layers are local, as configurations state it."""
    return [_LOCAL if layer % 3 else _GLOBAL for layer in range(layers)]


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
        (_GLOBAL, "global_rope_theta", 160_000.0),
        (_LOCAL, "local_rope_theta", 10_000.0),
    ):
        stated = (new.get(kind) or {}).get("rope_theta", config.get(older))
        bases.append(default if stated is None else float(stated))
    return bases[0], bases[1]


def rope_keys(*, global_rope_theta: float, local_rope_theta: float) -> Json:
    """The bases as configurations state them: the new key, and two that releases before 5 read."""
    return {
        "rope_parameters": {
            _GLOBAL: {"rope_type": "default", "rope_theta": global_rope_theta},
            _LOCAL: {"rope_type": "default", "rope_theta": local_rope_theta},
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
    config: Json = {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": next(name for name, each in MODEL_TYPES.items() if each == kind),
        **{key: getattr(shape, key) for key in _SHAPE_DEFAULTS},
        "max_position_embeddings": context_length,
        **_FIXED,
        "attention_dropout": 0.0,
        "embedding_dropout": 0.0,
        "mlp_dropout": 0.0,
        "local_attention": window_of(kind, shape.local_reach),
        "layer_types": _layer_types(shape.num_hidden_layers),
        **rope_keys(global_rope_theta=global_rope_theta, local_rope_theta=local_rope_theta),
        "global_attn_every_n_layers": 3,
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
    for key in ("is_decoder", "use_cache", "sliding_window", "torch_dtype", "auto_map"):
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
