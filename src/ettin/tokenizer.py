"""Text ↔ token ids with any Hugging Face tokenizer.

    tokenizer = load_tokenizer("tokenizer")                  # a directory or a hub id
    tokenizer.encode(["Some text, with [MASK] in it."])      # text stays text

Special tokens are known by name only, never by id, and a string such as `[MASK]` inside raw text
never becomes one.
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ettin import files
from ettin.byte_level import bytes_of_ids, is_lossless
from ettin.console import log
from ettin.errors import InputError
from ettin.text_pieces import pieces, split_inside

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

TokenArray = npt.NDArray[np.uint32]

VOCABULARY_MULTIPLE = 64
BATCH_CHARACTERS = 1 << 20

SPECIAL_TOKENS = {"bos": "[CLS]", "eos": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
_SETTINGS = {
    "bos": ("cls_token", "bos_token"),
    "eos": ("sep_token", "eos_token"),
    "pad": ("pad_token",),
    "mask": ("mask_token",),
}
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
# What `transformers` writes for "no limit"; the model's own context length is the real one.
_NO_LIMIT = int(1e30)


class SpecialIds(NamedTuple):
    """Ids of the four special tokens that training needs."""

    bos: int
    eos: int
    pad: int
    mask: int


class Fertility(NamedTuple):
    """How finely a tokenizer cuts text; words are what whitespace separates, bytes are UTF-8's."""

    tokens_per_word: float
    bytes_per_token: float


@dataclass(eq=False)
class Tokenizer:
    """A tokenizer with its special ids; made by `load_tokenizer` and `train_tokenizer`.

    Attributes:
        backend: the `tokenizers` object, without truncation and padding.
        names: the special tokens by role: bos, eos, pad, mask.
        added: names of those that the loaded tokenizer lacked.
        forced_cuts: cuts inside an unbroken stretch of text that `encode` had to make so far.
    """

    backend: "Backend"
    names: dict[str, str]
    added: tuple[str, ...] = ()
    forced_cuts: int = 0

    def __post_init__(self) -> None:
        self.backend.no_truncation()
        self.backend.no_padding()
        if hasattr(self.backend, "encode_special_tokens"):
            self.backend.encode_special_tokens = True

    @cached_property
    def special(self) -> SpecialIds:
        """Ids of bos, eos, pad and mask."""
        vocabulary = self.backend.get_vocab()
        return SpecialIds(*(vocabulary[self.names[role]] for role in SPECIAL_TOKENS))

    @cached_property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self.backend.get_vocab().values()) + 1

    @property
    def padded_size(self) -> int:
        """Rows of the embedding: `size` rounded up to a multiple of 64."""
        return -(-self.size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE

    @cached_property
    def special_ids(self) -> npt.NDArray[np.int64]:
        """Ids of all special tokens, ascending; int64."""
        added = self.backend.get_added_tokens_decoder()
        named = {token_id for token_id, token in added.items() if token.special}
        return np.array(sorted(named | set(self.special)), dtype=np.int64)

    @cached_property
    def ordinary_ids(self) -> npt.NDArray[np.int64]:
        """Ids that text can have, ascending: present in the vocabulary and not special; int64."""
        present = np.array(sorted(set(self.backend.get_vocab().values())), dtype=np.int64)
        return np.setdiff1d(present, self.special_ids)

    def encode(self, texts: Sequence[str]) -> list[TokenArray]:
        """Token ids of texts, without special tokens; a special string in a text stays text.

        Long texts are encoded in pieces (see `pieces`), so that memory stays near the size of
        the ids.

        Returns:
            One uint32 array a text.
        """
        ids = [array("I") for _ in texts]
        run = getattr(self.backend, "encode_batch_fast", self.backend.encode_batch)
        for batch in self._batches(texts):
            encoded = run([piece for _, piece in batch], add_special_tokens=False)
            for (owner, _), encoding in zip(batch, encoded, strict=True):
                ids[owner].extend(array("I", encoding.ids))
        return [np.asarray(each, dtype=np.uint32) for each in ids]

    def decode(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """Text of ids, special ones left out; what a tokenizer does not keep stays lost."""
        return str(self.backend.decode([int(token) for token in ids], skip_special_tokens=True))

    def decode_bytes(self, ids: Sequence[int] | npt.NDArray[Any]) -> bytes:
        """The bytes of ids; special and absent ids stand for none.

        Raises:
            InputError: the tokenizer is not byte-level.
        """
        return b"".join([self._bytes_of_ids[int(token)] for token in ids])

    @cached_property
    def is_lossless(self) -> bool:
        """Whether every byte of every text comes back: byte-level and no normaliser."""
        return is_lossless(self._described)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the ids that a text gets: tokenizer.json as saved, names, library version."""
        return files.fingerprint([self._json(closing=True), self.names, library_version()])

    def fertility(self, texts: Iterable[str]) -> Fertility:
        """Tokens per word and bytes per token of texts; zeros when there is no text."""
        kept = list(texts)
        tokens = sum(len(ids) for ids in self.encode(kept))
        words = sum(len(text.split()) for text in kept)
        size = sum(len(text.encode()) for text in kept)
        return Fertility(tokens / max(words, 1), size / max(tokens, 1))

    def save(self, directory: Path, *, closing: bool, max_length: int = _NO_LIMIT) -> None:
        """Write the files from which `transformers` loads this tokenizer.

        Args:
            directory: is made if it is not there.
            closing: end a text with eos (`[CLS] x [SEP]`, encoders) or leave it open for
                generation (`[CLS] x`, decoders).
            max_length: the longest input in tokens that the model takes.
        """
        settings: dict[str, Any] = {
            name: self.names[role] for role, names in _SETTINGS.items() for name in names
        }
        settings |= {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
        }
        files.write_atomic(directory / "tokenizer.json", self._json(closing=closing))
        files.write_json(directory / "tokenizer_config.json", settings)

    def _batches(self, texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
        """Pieces with the number of their text, at most about a million characters at a time."""
        batch: list[tuple[int, str]] = []
        characters = 0
        for owner, text in enumerate(texts):
            for piece, forced in pieces(text):
                self.forced_cuts += forced
                for part in split_inside(piece, self._unsafe):
                    batch.append((owner, part))
                    characters += len(part)
                if characters >= BATCH_CHARACTERS:
                    yield batch
                    batch, characters = [], 0
        if batch:
            yield batch

    @cached_property
    def _unsafe(self) -> tuple[str, ...]:
        """Special strings that the library would not leave as text: none if it has the switch."""
        if hasattr(self.backend, "encode_special_tokens"):
            return ()
        added = self.backend.get_added_tokens_decoder().values()
        return tuple(token.content for token in added if token.special)

    @cached_property
    def _described(self) -> dict[str, Any]:
        return dict(json.loads(self.backend.to_str()))

    @cached_property
    def _bytes_of_ids(self) -> list[bytes]:
        found = [b""] * self.padded_size
        for number, content in bytes_of_ids(self._described).items():
            found[number] = content
        for number in self.special_ids:
            found[number] = b""
        return found

    def _json(self, *, closing: bool) -> str:
        from tokenizers import Tokenizer as Backend
        from tokenizers.processors import TemplateProcessing

        bos, eos = self.names["bos"], self.names["eos"]
        copy = Backend.from_str(self.backend.to_str())
        used = {bos: self.special.bos} | ({eos: self.special.eos} if closing else {})
        copy.post_processor = TemplateProcessing(
            single=[bos, "$A", eos] if closing else [bos, "$A"],
            pair=[bos, "$A", eos, "$B", eos] if closing else [bos, "$A", "$B"],
            special_tokens=list(used.items()),
        )
        return str(copy.to_str(pretty=True))


def load_tokenizer(where: str | Path) -> Tokenizer:
    """Load a tokenizer from a directory or from the hub (its files alone, `ID` or `ID@REVISION`).

    A missing special token is added and told. `HF_HUB_OFFLINE=1` keeps to the local cache.

    Raises:
        InputError: neither a directory with a tokenizer.json nor a tokenizer on the hub.
    """
    from tokenizers import Tokenizer as Backend

    directory = Path(where) if Path(where).exists() else _download(str(where))
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{where} holds no tokenizer.json; give a tokenizer's directory or hub id")
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"{path} is not a tokenizer: {error}") from error
    return _with_special_tokens(backend, _named_tokens(directory))


def library_version() -> str:
    """The installed `tokenizers`, whose Unicode tables are part of what ids mean."""
    return version("tokenizers")


def describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a manifest says of a tokenizer; `ordinary_ranges` are half-open ranges of ids."""
    ids = tokenizer.ordinary_ids
    breaks = np.flatnonzero(np.diff(ids) != 1) + 1
    return {
        "fingerprint": tokenizer.fingerprint,
        "library": f"tokenizers {library_version()}",
        "size": tokenizer.size,
        "padded_size": tokenizer.padded_size,
        "special": tokenizer.special._asdict(),
        "names": tokenizer.names,
        "added": list(tokenizer.added),
        "lossless": tokenizer.is_lossless,
        "ordinary_ranges": [[int(run[0]), int(run[-1]) + 1] for run in np.split(ids, breaks)],
    }


def _with_special_tokens(backend: "Backend", named: dict[str, str]) -> Tokenizer:
    from tokenizers import AddedToken

    known = backend.get_vocab()
    names = {role: named.get(role, default) for role, default in SPECIAL_TOKENS.items()}
    added = tuple(name for name in dict.fromkeys(names.values()) if name not in known)
    # Those that are there already keep their ids.
    backend.add_special_tokens([AddedToken(name, special=True) for name in added])
    if added:
        log.info("the tokenizer has no %s: added", ", ".join(added))
    return Tokenizer(backend, names, added)


def _named_tokens(directory: Path) -> dict[str, str]:
    """Special tokens by role, as a tokenizer's own files name them."""
    settings: dict[str, Any] = {}
    for name in reversed(_FILES[1:]):
        if (directory / name).is_file():
            settings |= files.read_json(directory / name)
    named: dict[str, str] = {}
    for role, keys in _SETTINGS.items():
        for key in keys:
            value = settings.get(key)
            content = value.get("content") if isinstance(value, dict) else value
            if isinstance(content, str):
                named.setdefault(role, content)
    return named


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        found = snapshot_download(
            repository, revision=revision or None, allow_patterns=list(_FILES)
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name!r} is neither a directory nor a tokenizer that the Hugging Face hub gives us: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return Path(found)
