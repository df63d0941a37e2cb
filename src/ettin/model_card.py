"""The README of an export: what the model is, how to load it, what it saw, how it was proved."""

import shlex
from pathlib import Path

from huggingface_hub import ModelCardData

from ettin import files
from ettin.files import Json

_USES = {
    "encoder": (
        "fill-mask",
        "AutoModelForMaskedLM",
        'pipeline("fill-mask", model=PATH)("The capital of France is [MASK].")',
    ),
    "decoder": (
        "text-generation",
        "AutoModelForCausalLM",
        'pipeline("text-generation", model=PATH)("The capital of France is")',
    ),
}

_MARKUP = frozenset(r"\`*_{}[]()#+!|<>")


def write_card(directory: Path, *, name: str, command: list[str]) -> None:
    """Write `README.md` from the directory's own `config.json` and `parity.json`.

    Args:
        directory: an export, complete but for its card and manifest.
        name: what the export is called.
        command: the command line that made it.
    """
    config = files.read_json(directory / "config.json")
    proof = files.read_json(directory / "parity.json")
    kind = "decoder" if config["model_type"].endswith("decoder") else "encoder"
    task, auto_class, example = _USES[kind]
    front = ModelCardData(
        library_name="transformers", pipeline_tag=task, tags=["ettin", kind, config["model_type"]]
    ).to_yaml()
    text = f"""---
{front}
---

# {_plain(name)}

{"An" if kind == "encoder" else "A"} {kind} trained with ettin, one of a pair that shares shape,
data and order ("Seq vs Seq", [arXiv 2507.11412](https://arxiv.org/abs/2507.11412)). It loads in
stock `transformers` as `{auto_class}`, without remote code.

```python
from transformers import pipeline
print({example})
```

{_facts_table(config["ettin"], config)}

`parity.json`: on {proof["rows"]} rows of up to {proof["longest_row_tokens"]} tokens the fp32 logits
differ from the source's by at most {proof["largest_logit_difference"]:.1e}.

Made by

```
{shlex.join(command)}
```
"""
    files.write_atomic(directory / "README.md", text)


def _facts_table(described: Json, config: Json) -> str:
    bases = [config[key] for key in ("global_rope_theta", "local_rope_theta")]
    rows = {
        **described,
        "layers × width": f"{config['num_hidden_layers']} × {config['hidden_size']}",
        "vocabulary": config["vocab_size"],
        "context": config["max_position_embeddings"],
        "RoPE base, global and local": " and ".join(f"{base:g}" for base in bases),
    }
    lines = [f"| {_plain(str(key))} | {_plain(str(value))} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no links, no HTML."""
    escaped = (f"\\{each}" if each in _MARKUP else each for each in text)
    return "".join(escaped).replace("\n", " ")
