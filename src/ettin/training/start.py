"""Where a run starts from: any checkpoint of ours, any ModernBERT or ModernBertDecoder.

    start = open_start("runs/decoder@decay6")       # or a directory, or owner/name@revision
    start.facts["objective"], start.facts["tokens"]
    refuse_misfit(start.facts, tokenizer=start.tokenizer, recipe=recipe, corpus=corpus)
    model.load_state_dict(start.weights())

WHERE: an existing path wins; then RUN@TAG if RUN exists (no tag: the last checkpoint); then a hub
id with an optional @revision, which `hf:` forces. Only JSON, text and safetensors are ever
downloaded or read, so that a model of unknown origin cannot run code.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ettin.console import log
from ettin.data.corpus import Corpus
from ettin.errors import InputError, nearest
from ettin.files import Json
from ettin.identity import fingerprint_arrays
from ettin.recipe import CROSS, Recipe
from ettin.records import Kind, kind_of_objective
from ettin.shape import Dimensions, Shape
from ettin.tokenizer import load_tokenizer
from ettin.tokenizer_comparison import differences
from ettin.training import run_directory
from ettin.training.checkpoint import Checkpoint, find_checkpoint, load_weights
from ettin.training.pretrained import (
    CONFIG,
    facts_of,
    refuse_other_tensors,
    tensors_of,
    weights_of,
)

_HUB = "hf:"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.txt")
_SPARE_ROWS = 128
"""Embeddings are padded to multiples of 64 or 128; more spare rows mean another tokenizer."""
_DOWNLOADED = ["*.json", "*.safetensors", "*.txt"]


@dataclass(frozen=True, eq=False)
class Start:
    """The model that a run starts from.

    Attributes:
        facts: what is known of it, as JSON: `where` as given, `path`, `format` (`checkpoint` or
            `huggingface`), `kind` and `objective` that it was trained as, `variant`, `phase`,
            `tag`, `tokens` and `size` (None where unknown), `shape`, `context_length`,
            `global_rope_theta`, `local_rope_theta`, `weights` (fingerprint).
        path: the directory of the checkpoint or of the model, absolute.
        tokenizer: the directory of its tokenizer.
        checkpoint: None when it is no checkpoint of ours.
    """

    facts: Json
    path: Path
    tokenizer: Path
    checkpoint: Checkpoint | None

    def weights(self) -> dict[str, Tensor]:
        """Its weights by our parameter names, fp32, on the CPU: exactly those of our model.

        Raises:
            InputError: a tensor is missing, of another shape, or not expected; each is named.
        """
        return _weights(self.checkpoint or self.path)


def open_start(where: str) -> Start:
    """Find a model, check that our transformer computes what it does, and describe it.

    Args:
        where: WHERE, see above.

    Raises:
        InputError: nothing of the kind is there, or it is another architecture; every difference
            is named.
    """
    found = locate(where)
    weights = _weights(found)
    facts = _facts_of_checkpoint(found) if isinstance(found, Checkpoint) else facts_of(found)
    path = found.path.absolute() if isinstance(found, Checkpoint) else found
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    return Start(
        facts={
            "where": where,
            "path": str(path),
            **facts,
            "weights": fingerprint_arrays(arrays),
        },
        path=path,
        tokenizer=(
            path.parent.parent / run_directory.TOKENIZER if isinstance(found, Checkpoint) else path
        ),
        checkpoint=found if isinstance(found, Checkpoint) else None,
    )


def reopen_start(facts: Json, *, run: Path) -> Start:
    """The start of a run that has begun, as the run remembers it; it need not be there any more.

    Args:
        facts: from the run's `start.json`.
        run: the run's directory, which holds the tokenizer.
    """
    path = Path(facts["path"])
    is_checkpoint = facts["format"] == "checkpoint" and path.exists()
    return Start(
        facts=facts,
        path=path,
        tokenizer=run / run_directory.TOKENIZER,
        checkpoint=find_checkpoint(str(path)) if is_checkpoint else None,
    )


def locate(where: str) -> Checkpoint | Path:
    """What WHERE names: a checkpoint, or a Hugging Face directory (absolute; downloaded if on hub).

    Raises:
        InputError: there is neither, with the nearest name.
    """
    if where.startswith(_HUB):
        return _download(where)
    path = Path(where)
    if (path / CONFIG).is_file():
        return path.absolute()
    run, _, tag = where.rpartition("@")
    if run and not path.exists() and (Path(run) / CONFIG).is_file():
        raise InputError(f"{run} is a Hugging Face directory: it has no tags, leave out @{tag}")
    if path.exists() or (run and Path(run).exists()):
        return find_checkpoint(where)
    return _download(where)


def refuse_misfit(facts: Json, *, tokenizer: Path, recipe: Recipe, corpus: Corpus) -> None:
    """Refuse a start that a recipe cannot train on a corpus.

    Args:
        facts: of a `Start`.
        tokenizer: its directory.
        recipe: of the run that is to start.
        corpus: what it is to read.

    Raises:
        InputError: every problem at once: what was given, what was expected, what to do.
    """
    problems = [
        *misfits_of_recipe(facts, recipe),
        *_misfits_of_corpus(facts, tokenizer=tokenizer, corpus=corpus),
    ]
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise InputError(f"this run cannot start from {facts['where']}:\n{listed}")


def misfits_of_recipe(facts: Json, recipe: Recipe) -> list[str]:
    """Why a start does not suit a recipe, whatever the corpus: its shape, the objective."""
    return [*_misfits_of_shape(facts, recipe), *_misfits_of_objective(facts, recipe)]


def _misfits_of_shape(facts: Json, recipe: Recipe) -> list[str]:
    wanted = recipe.shape.model_dump(include=set(Dimensions.model_fields))
    if facts["format"] == "huggingface":
        del wanted["local_reach"]  # there the start's own is used, and said
    found = [
        f"{key} is {facts['shape'][key]}, expected {expected}"
        for key, expected in wanted.items()
        if facts["shape"][key] != expected
    ]
    if not found:
        return []
    return [
        f"its shape is not the recipe's ({recipe.size}): {', '.join(found)}; "
        "write `size: start` in the recipe to take the shape of the start"
    ]


def _misfits_of_objective(facts: Json, recipe: Recipe) -> list[str]:
    """Cross-objective training makes an encoder from a decoder, or a decoder from an encoder."""
    kind: Kind = facts["kind"]
    if recipe.phases[0].name != CROSS or kind_of_objective(recipe.objective) != kind:
        return []
    if kind == "encoder":
        own, other, fitting = "an encoder", "a decoder", "`objective: clm`"
    else:
        own, other, fitting = "a decoder", "an encoder", "`objective: mntp` (or mlm)"
    return [
        f"it is {own} already (trained with {facts['objective']}), and `{recipe.objective}` in "
        f"phase {CROSS} is for {own} made from {other}; make {other} of this one with {fitting}, "
        f"or train it on in a phase other than {CROSS}"
    ]


def _misfits_of_corpus(facts: Json, *, tokenizer: Path, corpus: Corpus) -> list[str]:
    """Another tokenizer than the corpus's, or too few embeddings for it."""
    problems = []
    entries, rows = int(corpus.facts["tokenizer"]["size"]), facts["shape"]["vocab_size"]
    if not any((tokenizer / name).exists() for name in _TOKENIZER_FILES):
        return _misfits_without_tokenizer(facts["where"], rows=rows, entries=entries)
    try:
        unlike = differences(load_tokenizer(tokenizer), load_tokenizer(corpus.tokenizer_directory))
    except InputError as error:
        problems.append(f"its tokenizer cannot be compared with the corpus's: {error}")
    else:
        if unlike:
            listed = "".join(f"\n      {each}" for each in unlike)
            problems.append(
                f"its tokenizer is not that of {corpus.path}:{listed}\n"
                f"    prepare a corpus with it: ettin prepare … --tokenizer {tokenizer} --out "
                "ANOTHER_CORPUS"
            )
    if rows < entries:
        problems.append(
            f"it has embeddings for {rows:,} tokens, and the tokenizer of {corpus.path} has "
            f"{entries:,} entries; prepare a corpus with the tokenizer it was trained with"
        )
    return problems


def _misfits_without_tokenizer(where: str, *, rows: int, entries: int) -> list[str]:
    """A model that was saved without its tokenizer is taken on trust if its size can be right."""
    if 0 <= rows - entries < _SPARE_ROWS:
        log.warning("%s holds no tokenizer; its embeddings are taken to be the corpus's", where)
        return []
    return [
        f"it holds no tokenizer and has embeddings for {rows:,} tokens, while the corpus's "
        f"tokenizer has {entries:,} entries; save its tokenizer beside it"
    ]


def _weights(found: Checkpoint | Path) -> dict[str, Tensor]:
    """Weights by our names; refused unless they are exactly those of our model."""
    if isinstance(found, Path):
        return weights_of(found)
    weights = load_weights(found)
    refuse_other_tensors(found.path, weights, expected=tensors_of(Shape(**found.state["shape"])))
    return weights


def _facts_of_checkpoint(checkpoint: Checkpoint) -> Json:
    state = checkpoint.state
    copied = ("phase", "tokens", "size", "shape", "context_length")
    return {
        "format": "checkpoint",
        "kind": kind_of_objective(state["objective"]),
        "objective": state["objective"],
        "variant": state.get("variant", "native"),
        "tag": checkpoint.tag,
        **{key: state[key] for key in (*copied, "global_rope_theta", "local_rope_theta")},
    }


def _download(where: str) -> Path:
    """The directory of a hub id's files."""
    identifier, _, revision = where.removeprefix(_HUB).partition("@")
    if not _HUB_ID.fullmatch(identifier):
        raise InputError(
            f"{where} is no directory, no RUN@TAG of an existing run, and no hub id (owner/name)"
        )
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            identifier,
            revision=revision or None,
            allow_patterns=_DOWNLOADED,
            ignore_patterns=["*/*"],
        )
    except (OSError, ValueError) as error:
        looked = "" if where.startswith(_HUB) else f"no path{_nearest_path(identifier)}, and "
        raise InputError(
            f"{where} is {looked}no model that the hub gives us: {str(error).splitlines()[0]}"
        ) from error
    path = Path(found)
    if not (path / CONFIG).is_file():
        raise InputError(f"{where} on the hub holds no {CONFIG}: it is no model directory")
    return path


def _nearest_path(identifier: str) -> str:
    """A hint for what may be a mistyped path."""
    parent = Path(identifier).parent
    if not parent.is_dir():
        return ""
    names = [str(parent / each.name) for each in parent.iterdir() if each.is_dir()]
    hint = nearest(identifier, names)
    return f" ({hint})" if hint.startswith("did you mean") else ""
