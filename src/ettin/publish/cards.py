"""Model cards: of each checkpoint, of the whole model, and of its resumable states.

The card under a tag says what that checkpoint is and nothing that may change later, so that a tag
published twice is the same twice. The card of `main` knows the rest: all tags, the twin, the data,
the recipe, the results. The front matter is dumped by `huggingface_hub`, never joined from text,
and read back by it before it is used.
"""

import re
from dataclasses import dataclass
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ettin.errors import InputError
from ettin.files import Json
from ettin.model_words import AUTO_CLASSES, facts_table, fenced, introduction, plain, usage
from ettin.publish import public
from ettin.publish.found import Export
from ettin.publish.models import Model
from ettin.publish.scores import model_index, results_section

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_ID = re.compile(rf"{_WORD.pattern}(/{_WORD.pattern})?")
_HUB_PAGE = "https://huggingface.co"
CITATION = """@misc{ettin,
  title = {Seq vs Seq: An Open Suite of Paired Encoders and Decoders},
  eprint = {2507.11412},
  archivePrefix = {arXiv},
  url = {https://arxiv.org/abs/2507.11412}
}"""
_CITING = (
    'The method is that of "Seq vs Seq: An Open Suite of Paired Encoders and Decoders"; this '
    "model was trained by its own recipe, not by the authors of the paper."
)


@dataclass(frozen=True)
class Metadata:
    """What the caller states about everything published in one call.

    Raises:
        InputError: a word that is no licence, language or data set on the hub.
    """

    license: str | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would not be metadata."""
        stated = {"--license": [self.license] if self.license else [], "--language": self.languages}
        for option, words in stated.items():
            for word in words:
                if not _WORD.fullmatch(word):
                    raise InputError(f"{option} {word!r}: expected a word such as mit or en")
        for name in self.datasets:
            if not _HUB_ID.fullmatch(name):
                raise InputError(f"--dataset {name!r}: expected the id of a data set on the hub")

    def values(self) -> Json:
        """As keywords of the hub's card data; what was not stated is None."""
        languages = list(self.languages)
        return {
            "license": self.license,
            "language": languages[0] if len(languages) == 1 else languages or None,
        }


@dataclass(frozen=True)
class Relatives:
    """Repositories that belong to a model, by id; None or empty when not published with it."""

    twin: str | None = None
    start: str | None = None
    order: str | None = None
    corpora: tuple[str, ...] = ()
    checkpoints: str | None = None
    records: tuple[Json, ...] = ()


def checkpoint_card(export: Export, *, name: str, metadata: Metadata) -> str:
    """The card under a tag.

    Args:
        export: the checkpoint.
        name: the repository.
        metadata: what the caller states.
    """
    described = public.config(export.config)["ettin"]
    kind = str(export.manifest["facts"]["kind"])
    where = f'"{name}", revision="{export.tag}"'
    task, example = usage(kind, described["objective"], where=where)
    data = ModelCardData(
        **metadata.values(),
        library_name="transformers",
        pipeline_tag=task,
        datasets=list(metadata.datasets) or None,
        tags=_tags(export, kind),
    )
    body = [
        f"# {name.partition('/')[2]}, {export.tag}",
        introduction(kind, described),
        f"This is one of its checkpoints; the card of `main` tells of all of them. "
        f"It loads in stock `transformers` as `{AUTO_CLASSES[kind]}`, without remote code.",
        fenced(example, "python"),
        _facts(export),
        _proof(export),
        *licence(metadata),
    ]
    return render(data, body)


def model_card(model: Model, *, name: str, metadata: Metadata, relatives: Relatives) -> str:
    """The card of `main`, which holds the last checkpoint.

    Args:
        model: with at least one export.
        name: its repository.
        metadata: what the caller states.
        relatives: what else is published in the same call.
    """
    last = model.exports[-1]
    described = public.config(last.config)["ettin"]
    task, example = usage(model.kind, model.objective, where=f'"{name}"')
    results = [each for each in relatives.records if each["weights"] == last.weights]
    own = [each for each in (relatives.order, *relatives.corpora) if each]
    base = relatives.start or _hub_id(described)
    relation: Json = {"base_model_relation": "finetune"} if base else {}
    data = ModelCardData(
        **metadata.values(),
        library_name="transformers",
        pipeline_tag=task,
        datasets=[*metadata.datasets, *own] or None,
        tags=_tags(last, model.kind),
        **model_index(name, results),
        base_model=base,
        **relation,
    )
    if relatives.start:
        tag = described["start"]["tag"]
        described = {**described, "start": {**described["start"],
                                            "where": f"{relatives.start}@{tag}"}}  # fmt: skip
    body = [
        f"# {name.partition('/')[2]}",
        introduction(model.kind, described),
        f"It loads in stock `transformers` as `{AUTO_CLASSES[model.kind]}`, without remote code.",
        fenced(example, "python"),
        _facts(last),
        _proof(last),
        *_checkpoints(model, name=name),
        *_relations(model, relatives),
        *_recipe(model),
        *results_section(results),
        *licence(metadata),
        "## Citation",
        _CITING,
        fenced(CITATION, "bibtex"),
    ]
    return render(data, body)


def resumable_card(model: Model, *, name: str, tag: str | None, metadata: Metadata) -> str:
    """The card of a repository of resumable checkpoints, under a tag or of `main`."""
    assert model.run is not None
    title = name.partition("/")[2]
    body = [
        f"# {title}, {tag}" if tag else f"# {title}",
        f"Not a model to load: a run of ettin as it was after a checkpoint of the {model.role} "
        f"({plain(str(model.described['size']))}), with the optimiser's complete state, in "
        "safetensors and JSON. Downloaded, a revision is a run directory: training goes on from "
        "it exactly, on the corpus that it was trained on, and any run can start from it.",
        fenced(
            f"hf download {name} --revision {tag or model.tags[-1]} --local-dir run\n"
            "ettin train run/recipe.yaml --corpus CORPUS --out run\n"
            f"ettin train RECIPE.yaml --from run@{tag or model.tags[-1]} --corpus CORPUS "
            "--out another",
            "sh",
        ),
        "Rows of held-out text, on which an export proves itself, come with it only where the "
        "corpus was published too; without them no export can be made of it.",
        *([] if tag else ["## Checkpoints", _tag_list(model.tags)]),
        *licence(metadata),
    ]
    data = ModelCardData(**metadata.values(), library_name="ettin", tags=["ettin", "checkpoints"])
    return render(data, body)


def render(data: Any, body: list[str], card: Any = ModelCard) -> str:
    """Front matter and paragraphs as the text of a `README.md`."""
    text = "\n\n".join(body)
    return str(card(f"---\n{data.to_yaml()}\n---\n\n{text}\n"))


def licence(metadata: Metadata, *, unless_stated: str = "") -> list[str]:
    """The paragraph on the licence; that none is stated is said too."""
    if metadata.license:
        stated = f"As stated by who published it: {plain(metadata.license)}."
    else:
        stated = f"None is stated.{unless_stated}"
    return ["## Licence", stated]


def link(name: str, *, dataset: bool = False) -> str:
    """A Markdown link to a repository on the hub."""
    return f"[{plain(name)}]({_HUB_PAGE}/{'datasets/' if dataset else ''}{name})"


def recipe_text(model: Model) -> str | None:
    """The recipe that a model was trained by, without places; None where it is not known."""
    if model.run is None:
        return None
    return public.recipe(model.run.recipe, begun_with=model.start)


def _hub_id(described: Json) -> str | None:
    """The model on the hub that a run started from, written as `hf:org/name@revision`."""
    forced, _, place = str((described.get("start") or {}).get("where")).partition(":")
    name = place.partition("@")[0]
    return name if forced == "hf" and _HUB_ID.fullmatch(name) else None


def _tags(export: Export, kind: str) -> list[str]:
    return ["ettin", kind, str(export.config["model_type"])]


def _facts(export: Export) -> str:
    return facts_table(public.config(export.config), **{"type of the weights": export.dtype})


def _proof(export: Export) -> str:
    return (
        "`parity.json`: the fp32 logits differ from those of the trained model by at most "
        f"{float(export.manifest['facts']['parity']):.1e}. `manifest.json` lists every file with "
        "its size and its hash; `ettin check` compares them."
    )


def _checkpoints(model: Model, *, name: str) -> list[str]:
    """All tags, with what each has seen, and how to load one."""
    rows = [
        f"| {each.tag} | {plain(str(each.described['phase']))} | {each.described['tokens']:,} |"
        for each in model.exports
    ]
    loading = (
        f"from transformers import {AUTO_CLASSES[model.kind]}\n"
        f'model = {AUTO_CLASSES[model.kind]}.from_pretrained("{name}", '
        f'revision="{model.exports[0].tag}")'
    )
    return [
        "## Checkpoints",
        "Each is a tag; `main` is the last. N in `stepN`, `extN`, `decayN` and `crossN` counts the "
        "steps of that phase.",
        fenced(loading, "python"),
        "\n".join(["| revision | phase | tokens seen |", "|---|---|--:|", *rows]),
    ]


def _tag_list(tags: tuple[str, ...]) -> str:
    return ", ".join(f"`{tag}`" for tag in tags)


def _relations(model: Model, relatives: Relatives) -> list[str]:
    """Twin, start, order, corpus and resumable states, where they are published too."""
    told = []
    if relatives.twin:
        told.append(
            f"Its twin is {link(relatives.twin)}: same shape, same data in the same order, the "
            "other objective."
        )
    if relatives.start and model.start:
        told.append(f"It went on from {link(relatives.start)} at `{model.start['tag']}`.")
    if relatives.order:
        told.append(
            f"What each checkpoint saw: {link(relatives.order, dataset=True)}, the order of its "
            "data step by step."
        )
    told += [f"Its corpus: {link(each, dataset=True)}." for each in relatives.corpora]
    if relatives.checkpoints:
        told.append(f"To train it on: {link(relatives.checkpoints)}, with optimiser states.")
    phases = model.run.facts.get("phases", []) if model.run else []
    rows = [
        f"| {plain(phase['name'])} | {plain(source)} | {tokens:,} | "
        f"{float(phase['epochs'][source]):.3g} |"
        for phase in phases
        for source, tokens in phase["source_tokens"].items()
    ]
    if rows:
        head = ["| phase | source | tokens read | epochs |", "|---|---|--:|--:|"]
        told.append("\n".join([*head, *rows]))
    return ["## Data and relatives", *told] if told else []


def _recipe(model: Model) -> list[str]:
    text = recipe_text(model)
    if text is None:
        return []
    start = model.start
    begun = " --from WHERE" if start else ""
    told = f"As `recipe.yaml`, `ettin train recipe.yaml --corpus CORPUS{begun} --out RUN` reads it."
    if start:
        told += f" WHERE is what it was made from, {plain(public.start(start)['where'])}."
    return ["## Recipe", told, fenced(text, "yaml")]
