"""What a model is and how it is read, in words and lines of Python: what all its cards share.

    introduction("encoder", {"objective": "mntp", …})    # paragraphs of Markdown
    usage("encoder", "mntp", where='"org/name", revision="cross40"')
    plain("<script>")                                    # text that Markdown shows as it is

Nothing here looks at files; `model_card` writes the card of an export, `publish` those of the hub.
"""

import unicodedata

from ettin.files import Json
from ettin.records import kind_of_objective

AUTO_CLASSES = {"encoder": "AutoModelForMaskedLM", "decoder": "AutoModelForCausalLM"}
"""The class of `transformers` that loads each kind."""
_GENERATION = """from transformers import pipeline

generate = pipeline("text-generation", model={where})
print(generate("The capital of France is", max_new_tokens=20))"""
_FILLING = """from transformers import pipeline

fill = pipeline("fill-mask", model={where})
print(fill(f"The capital of France is {{fill.tokenizer.mask_token}}."))"""
_SHIFTED = """import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({where})
model = AutoModelForMaskedLM.from_pretrained({where})
inputs = tokenizer(f"The capital of France is {{tokenizer.mask_token}}.", return_tensors="pt")
place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
with torch.no_grad():
    answer = model(**inputs).logits[0, place - 1]  # after plain mlm it would be at `place`
print(tokenizer.decode(answer.argmax()))"""
_COUNTS = ("tokens", "parameters", "vocabulary", "context")
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
_MARKUP = frozenset(r"\`*_{}[]()#+!|<>&~")
_DIRECTIONS = frozenset("\u202a\u202b\u202d\u202e\u2066\u2067\u2068")


def usage(kind: str, objective: str, *, where: str = "PATH") -> tuple[str, str]:
    """The hub's word for what a model is for, and lines of Python that use it.

    Args:
        kind: `encoder` or `decoder`.
        objective: what it was trained with.
        where: what the lines hand to `from_pretrained`, as Python.
    """
    if kind == "decoder":
        return "text-generation", _GENERATION.format(where=where)
    if objective != "mlm":
        return "feature-extraction", _SHIFTED.format(where=where)  # fill-mask reads one place late
    return "fill-mask", _FILLING.format(where=where)


def introduction(kind: str, described: Json) -> str:
    """What the model is, how it was trained and thus is read, and what it was made from.

    Args:
        kind: `encoder` or `decoder`: the class that it is stored for.
        described: the object `ettin` of its configuration.

    Returns:
        Paragraphs of Markdown.
    """
    objective = described["objective"]
    trained_as = kind_of_objective(objective)
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


def facts_table(config: Json, **more: object) -> str:
    """What a configuration says of its model, as a Markdown table.

    Args:
        config: a `config.json` with what ettin wrote into it.
        more: further rows.
    """
    described: Json = config["ettin"]
    told = {key: value for key, value in described.items() if key != "start"}
    if start := described.get("start"):
        told["start"] = start["where"]
    told |= {
        "layers × width": f"{config['num_hidden_layers']} × {config['hidden_size']}",
        "vocabulary": config["vocab_size"],
        "context": config["max_position_embeddings"],
    }
    counts = {key: f"{told[key]:,}" for key in _COUNTS if isinstance(told.get(key), int)}
    return table({**told, **counts, **more})


def table(rows: Json) -> str:
    """A Markdown table of two columns, every name and value as plain text."""
    lines = [f"| {plain(str(key))} | {plain(str(value))} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line: no markup, no links, no HTML.

    Control characters become spaces; direction overrides and lone surrogates become `�`.
    """
    return "".join(f"\\{each}" if each in _MARKUP else _printable(each) for each in text)


def fenced(text: str, language: str = "") -> str:
    """Text in a code block that it cannot end, whatever back quotes it holds."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"


def _of_start(start: Json) -> str:
    """A model that a run started from, in words."""
    kind = kind_of_objective(start["objective"])
    named = not start["tag"] or str(start["where"]).endswith(f"@{start['tag']}")
    tag = "" if named else f" at {start['tag']}"
    tokens = f" after {start['tokens']:,} tokens" if isinstance(start["tokens"], int) else ""
    told = f"{start['where']}{tag}, {_ARTICLES[kind]} trained with {start['objective']}{tokens}"
    return plain(told)


def _printable(character: str) -> str:
    category = unicodedata.category(character)
    if character in _DIRECTIONS or category == "Cs":
        return "\ufffd"
    return " " if category in {"Cc", "Zl", "Zp"} else character
