"""The README of an export: what the model is, how to load it, what it saw, how it was proved."""

import shlex
from pathlib import Path

from huggingface_hub import ModelCardData

from ettin import files
from ettin.huggingface import rope_bases_of
from ettin.model_words import AUTO_CLASSES, facts_table, fenced, introduction, plain, usage


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
    task, example = usage(kind, config["ettin"]["objective"])
    front = ModelCardData(
        library_name="transformers", pipeline_tag=task, tags=["ettin", kind, config["model_type"]]
    ).to_yaml()
    bases = " and ".join(f"{base:g}" for base in rope_bases_of(config))
    text = f"""---
{front}
---

# {plain(name)}

{introduction(kind, config["ettin"])}

It loads in stock `transformers` as `{AUTO_CLASSES[kind]}`, without remote code.

{fenced(example, "python")}

{facts_table(config, **{"RoPE base, global and local": bases})}

`parity.json`: on {proof["rows"]} rows of up to {proof["longest_row_tokens"]} tokens the fp32 logits
differ from the source's by at most {proof["largest_logit_difference"]:.1e}.

Made by

{fenced(shlex.join(command))}
"""
    files.write_atomic(directory / "README.md", text)
