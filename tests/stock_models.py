"""Small random models of both classes, made and saved by `transformers`."""

from pathlib import Path
from typing import Any

import torch
import transformers

from ettin.records import Kind
from ettin.tokenizer import load_tokenizer

CLASSES: dict[Kind, tuple[Any, Any]] = {
    "encoder": (transformers.ModernBertConfig, transformers.ModernBertForMaskedLM),
    "decoder": (transformers.ModernBertDecoderConfig, transformers.ModernBertDecoderForCausalLM),
}
SMALL: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 2, "local_attention": 16, "pad_token_id": 2, "bos_token_id": 0,
    "eos_token_id": 1, "cls_token_id": 0, "sep_token_id": 1,
}  # fmt: skip


def stock(kind: Kind, **changes: Any) -> Any:
    """A random model made by `transformers`, its weights stretched or attention would be flat."""
    config_class, model_class = CLASSES[kind]
    torch.manual_seed(3)
    model = model_class(config_class(**{**SMALL, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model


def save_models(folder: Path, *, tokenizer_directory: Path) -> Path:
    """Fill a folder with `encoder/` and `decoder/`, each with this tokenizer; returns it."""
    for kind in CLASSES:
        stock(kind).save_pretrained(folder / kind)
        load_tokenizer(tokenizer_directory).save(folder / kind, closing=kind == "encoder")
    return folder
