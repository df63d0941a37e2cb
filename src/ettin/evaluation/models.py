"""Models to evaluate: any Hugging Face directory or hub id, ours or anyone's.

    model = open_model("exports/encoder")           # or "google-bert/bert-base-uncased@main"
    model.kind, model.objective, model.tag          # tag and tokens where the model says so

Nothing is known of a model but its files: no code of it is run, and no pickle is read.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ettin import files
from ettin.errors import InputError, nearest
from ettin.files import Json
from ettin.records import Kind, fingerprint_of_weights

_KINDS: dict[str, Kind] = {"ForMaskedLM": "encoder", "ForCausalLM": "decoder"}
_LM_HEADS: dict[str, Kind] = {"LMHeadModel": "decoder", "BertForPreTraining": "encoder"}
"""Older names of the same: GPT-2's, and that of BERT's original checkpoints."""
_BESIDE_WEIGHTS = ("config.json", "tokenizer*.json", "special_tokens_map.json", "vocab.*",
                   "merges.txt", "*.model")  # fmt: skip
"""What else decides how a model answers."""
_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]


@dataclass(frozen=True)
class EvaluatedModel:
    """A model and what its files say of it.

    Attributes:
        where: as it was given.
        path: its directory.
        name: its directory's name, or its hub id.
        revision: the commit on the hub; None for directories.
        config: its `config.json`.
        stated_objective: what the caller says that it was trained with; wins over the config.
    """

    where: str
    path: Path
    name: str
    revision: str | None
    config: Json
    stated_objective: str | None = None

    @cached_property
    def kind(self) -> Kind:
        """`encoder` for masked language models, `decoder` for causal ones."""
        return _kind_of(self.where, self.config)

    @property
    def described(self) -> Json:
        """What ettin wrote into the configuration; empty for models from elsewhere."""
        described = self.config.get("ettin")
        return described if isinstance(described, dict) else {}

    @property
    def objective(self) -> str:
        """`mlm`, `clm` or `mntp`; by its kind where it does not say."""
        by_kind = "clm" if self.kind == "decoder" else "mlm"
        stated = self.stated_objective or str(self.described.get("objective", by_kind))
        # A converted model keeps what it was trained with, which is not how it is read now.
        return stated if (stated == "clm") == (self.kind == "decoder") else by_kind

    @property
    def answer_offset(self) -> int:
        """How far before a hidden token its answer is read: 1 for `mntp`, else 0."""
        return 1 if self.objective == "mntp" else 0

    @cached_property
    def weights(self) -> str:
        """Fingerprint of all weight files, 32 hexadecimal digits."""
        paths = sorted(self.path.glob("*.safetensors"))
        return fingerprint_of_weights(files.fingerprint_file(path) for path in paths)

    @cached_property
    def surroundings(self) -> str:
        """Fingerprint of its configuration and its tokenizer's files, 32 hexadecimal digits."""
        paths = {path for pattern in _BESIDE_WEIGHTS for path in self.path.glob(pattern)}
        return files.fingerprint(
            [[path.name, files.fingerprint_file(path)] for path in sorted(paths)]
        )

    def load(self, head: str, **settings: Any) -> Any:
        """The stock `transformers` model with a head, fp32 unless told, in evaluation mode.

        Args:
            head: the part of an auto class's name, such as `ForMaskedLM` or
                `ForSequenceClassification`.
            settings: passed to `from_pretrained`.

        Raises:
            InputError: a weight is missing, which `transformers` would draw at random.
        """
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        auto = getattr(transformers, f"AutoModel{head}")
        settings = {"dtype": torch.float32, "local_files_only": True, **settings}
        model, report = auto.from_pretrained(self.path, output_loading_info=True, **settings)
        lacking = sorted({*map(str, report["missing_keys"]), *map(str, report["mismatched_keys"])})
        if lacking:
            raise InputError(
                f"{self.where} has no weights for {', '.join(lacking[:4])}; they would be random. "
                "Give a model that was saved with its language-model head"
            )
        return model.eval()

    def load_language_model(self, **settings: Any) -> Any:
        """The model with the head that it was trained with."""
        return self.load("ForMaskedLM" if self.kind == "encoder" else "ForCausalLM", **settings)

    def load_tokenizer(self) -> Any:
        """The `transformers` tokenizer of the model.

        Raises:
            InputError: it has none.
        """
        import transformers

        try:
            return transformers.AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.where} has no tokenizer: {error}") from error


def open_model(where: str, *, objective: str | None = None) -> EvaluatedModel:
    """Find a model: an existing directory wins, then a hub id with an optional @revision.

    Args:
        where: directory or hub id.
        objective: what it was trained with, where it does not say so itself.

    Raises:
        InputError: neither, or a directory without config.json or safetensors.
    """
    path = Path(where)
    if path.exists():
        return _opened(
            where, path.absolute(), name=path.absolute().name, revision=None, objective=objective
        )
    identifier, _, revision = where.removeprefix("hf:").partition("@")
    if identifier.count("/") != 1:
        beside = [str(each) for each in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = f"; {nearest(where, beside)}" if beside else ""
        raise InputError(f"{where} is no directory, and no hub id (owner/name){hint}")
    from huggingface_hub import snapshot_download

    try:
        found = Path(
            snapshot_download(identifier, revision=revision or None, allow_patterns=_PATTERNS)
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot get {where} from the hub: {reason}") from error
    return _opened(where, found, name=identifier, revision=found.name, objective=objective)


def _opened(
    where: str, path: Path, *, name: str, revision: str | None, objective: str | None
) -> EvaluatedModel:
    if not (path / "config.json").is_file():
        raise InputError(
            f"{where} holds no config.json: evaluations load Hugging Face directories; make one "
            "of a checkpoint with `ettin export`"
        )
    if not any(path.glob("*.safetensors")):
        raise InputError(f"{where} holds no safetensors; pickled weights are never read")
    config = files.read_json(path / "config.json")
    model = EvaluatedModel(where, path, name, revision, config, objective)
    if (objective == "clm") != (model.kind == "decoder") and objective is not None:
        raise InputError(f"--objective {objective}: {where} is an {model.kind}")
    return model


def _kind_of(where: str, config: Json) -> Kind:
    """By the class that the weights were saved from."""
    architectures = [str(each) for each in config.get("architectures") or []]
    for name in architectures:
        for ending, kind in (*_KINDS.items(), *_LM_HEADS.items()):
            if name.endswith(ending):
                return kind
    listed = ", ".join(architectures) or "none"
    raise InputError(
        f"{where} is neither a masked nor a causal language model (architectures: {listed})"
    )
