"""The README of an export: what the model is, how to load it, what it saw, how it was proved."""

import shlex
from pathlib import Path

from huggingface_hub import ModelCardData

from ettin import files
from ettin.files import Json
from ettin.huggingface import rope_bases_of

_PIPELINE = """from transformers import pipeline
print(pipeline("{task}", model=PATH)("{text}"))"""
_SHIFTED = """import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(PATH)
model = AutoModelForMaskedLM.from_pretrained(PATH)
inputs = tokenizer(f"The capital of France is {tokenizer.mask_token}.", return_tensors="pt")
place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
with torch.no_grad():
    answer = model(**inputs).logits[0, place - 1]  # after plain mlm it would be at `place`
print(tokenizer.decode(answer.argmax()))"""
_AUTO_CLASSES = {"encoder": "AutoModelForMaskedLM", "decoder": "AutoModelForCausalLM"}
_ARTICLES = {"encoder": "an encoder", "decoder": "a decoder"}
_OBJECTIVES = {
    "mlm": "to name hidden tokens (`mlm`): the answer for the token at position i is in the "
    "logits at i",
    "clm": "to name the next token (`clm`): the answer for the token at position i is in the "
    "logits at i - 1, which have seen nothing from i on",
    "mntp": "to name hidden tokens one position early (`mntp`, masked next-token prediction): the "
    "answer for the token at position i is in the logits at **i - 1**, where a model trained with "
    "plain `mlm` has it at i. A `fill-mask` pipeline reads position i and is wrong for this model",
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
    task, example = _use(kind, config["ettin"]["objective"])
    front = ModelCardData(
        library_name="transformers", pipeline_tag=task, tags=["ettin", kind, config["model_type"]]
    ).to_yaml()
    text = f"""---
{front}
---

# {_plain(name)}

{_introduction(kind, config["ettin"])}

It loads in stock `transformers` as `{_AUTO_CLASSES[kind]}`, without remote code.

```python
{example}
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


def _use(kind: str, objective: str) -> tuple[str, str]:
    """The hub's word for what a model is for, and lines of Python that use it."""
    if kind == "decoder":
        task = "text-generation"
        return task, _PIPELINE.format(task=task, text="The capital of France is")
    if objective != "mlm":
        return "feature-extraction", _SHIFTED  # the hub's fill-mask reads one position late
    return "fill-mask", _PIPELINE.format(task="fill-mask", text="The capital of France is [MASK].")


def _introduction(kind: str, described: Json) -> str:
    """What the model is, how it was trained and thus is read, and what it was made from."""
    objective = described["objective"]
    trained_as = "decoder" if objective == "clm" else "encoder"
    if "recipe_fingerprint" in described:
        origin = (
            f"{_ARTICLES[kind].capitalize()} trained with ettin, one of a pair that shares shape, "
            'data and order ("Seq vs Seq", [arXiv 2507.11412](https://arxiv.org/abs/2507.11412)).'
        )
    else:
        origin = f"{_ARTICLES[kind].capitalize()} that ettin converted and did not train."
    if kind != trained_as:
        origin = (
            f"The weights of {_ARTICLES[trained_as]}, converted to the class of {_ARTICLES[kind]} "
            "with ettin; nothing was trained anew."
        )
    paragraphs = [origin, f"It was trained {_OBJECTIVES[objective]}."]
    if start := described.get("start"):
        made = "made from" if described.get("variant") == "cross" else "trained on from"
        paragraphs.append(f"It was {made} {_of_start(start)}.")
    return "\n\n".join(paragraphs)


def _of_start(start: Json) -> str:
    """A model that a run started from, in words."""
    kind = "decoder" if start["objective"] == "clm" else "encoder"
    named = not start["tag"] or str(start["where"]).endswith(f"@{start['tag']}")
    tag = "" if named else f" at {start['tag']}"
    tokens = f" after {start['tokens']:,} tokens" if isinstance(start["tokens"], int) else ""
    told = f"{start['where']}{tag}, {_ARTICLES[kind]} trained with {start['objective']}{tokens}"
    return _plain(told)


def _facts_table(described: Json, config: Json) -> str:
    bases = rope_bases_of(config)
    told = {key: value for key, value in described.items() if key != "start"}
    if start := described.get("start"):
        told["start"] = start["where"]
    rows = {
        **told,
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
