"""gigatoken behind the contract of `Tokenizer.encode`; `fast_encoding` decides where it is used.

    GigatokenEncoder(tokenizer).encode(["Some text, with [MASK] in it."])   # text stays text

It is given the pieces that `tokenizers` would be given, and what it is known to get wrong never
reaches it or does not stay: tokenizers that it would read otherwise than they are meant, text that
a normaliser changes, letters that only one of the two knows as letters, and special strings, which
it has no way to leave alone.
"""

import json
import unicodedata
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from ettin.errors import InputError
from ettin.text_pieces import pieces
from ettin.tokenizer import BATCH_CHARACTERS, TokenArray, Tokenizer

RENEWED_AFTER_BYTES = 1 << 26
"""Its cache of words has no bound (0.10) and grows by up to 5 bytes a byte of text: it is thrown
away whenever so much was encoded."""

# Letters and numbers of Unicode 17, which gigatoken 0.10 knows and tokenizers 0.23 (Unicode 16)
# takes for signs: first and last of each range. Found by comparing all characters, see the tests.
_NEWER_LETTERS = (
    (0x88F, 0x88F), (0xC5C, 0xC5C), (0xCDC, 0xCDC), (0xA7CE, 0xA7CF), (0xA7D2, 0xA7D2),
    (0xA7D4, 0xA7D4), (0xA7F1, 0xA7F1), (0x10940, 0x10959), (0x10EC5, 0x10EC7), (0x11DB0, 0x11DDB),
    (0x11DE0, 0x11DE9), (0x16EA0, 0x16EB8), (0x16EBB, 0x16ED3), (0x16FF2, 0x16FF6),
    (0x187F8, 0x187FF), (0x18D09, 0x18D1E), (0x18D80, 0x18DF2), (0x1E6C0, 0x1E6DE),
    (0x1E6E0, 0x1E6E2), (0x1E6E4, 0x1E6E5), (0x1E6E7, 0x1E6ED), (0x1E6F0, 0x1E6F4),
    (0x1E6FE, 0x1E6FF), (0x2B73A, 0x2B73F), (0x2CEA2, 0x2CEAD), (0x323B0, 0x33479),
)  # fmt: skip
# Where a range begins and where it has ended: what lies behind an odd number of these is inside.
_BORDERS = np.array(_NEWER_LETTERS, np.uint32).ravel() + np.tile([0, 1], len(_NEWER_LETTERS))

_NOTHING: TokenArray = np.zeros(0, np.uint32)


class GigatokenEncoder:
    """gigatoken behind the contract of `Tokenizer.encode`: same pieces, same ids.

    Raises:
        InputError: gigatoken is absent, or cannot do what this tokenizer does.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        found = gigatoken_version()
        if found is None:
            raise InputError("gigatoken is not installed; pip install 'ettin[fast]'")
        self.version = found
        self._tokenizer = tokenizer
        self._source = tokenizer.backend.to_str()
        described = json.loads(self._source)
        reason = unsupported(described)
        if reason:
            raise InputError(f"gigatoken {found} cannot stand in for this tokenizer: {reason}")
        self._normalises = described["normalizer"] is not None
        special = tokenizer.special_ids.astype(np.uint32)
        breaks = np.flatnonzero(np.diff(special) != 1) + 1
        self._special_runs = [(run[0], run[-1] - run[0]) for run in np.split(special, breaks)]
        self._renew()

    def encode(self, texts: Sequence[str]) -> list[TokenArray]:
        """Token ids of texts: one uint32 array a text."""
        parts: list[list[TokenArray]] = [[] for _ in texts]
        left: list[tuple[int, int, str]] = []
        characters = 0
        for number, text in enumerate(texts):
            for piece, forced in pieces(text):
                self._tokenizer.forced_cuts += forced
                ids = self._ids(piece)
                if ids is None:
                    left.append((number, len(parts[number]), piece))
                    characters += len(piece)
                parts[number].append(_NOTHING if ids is None else ids)
                if characters >= BATCH_CHARACTERS:
                    self._encode_slowly(left, parts)
                    left, characters = [], 0
        self._encode_slowly(left, parts)
        return [each[0] if len(each) == 1 else np.concatenate(each) for each in parts]

    def _ids(self, piece: str) -> TokenArray | None:
        """The ids of a piece; None if they have to come from `tokenizers`."""
        if self._normalises and not _is_normal(piece):
            return None
        if not piece.isascii() and _has_newer_letters(piece):
            return None
        content = piece.encode()
        self._bytes += len(content)
        if self._bytes > RENEWED_AFTER_BYTES:
            self._renew()
        ids: TokenArray = self._fast.encode(content)
        # It knows no way to leave a special string alone, but each that it met shows in the ids.
        return None if self._has_special(ids) else ids

    def _has_special(self, ids: TokenArray) -> bool:
        # Unsigned numbers below the first of a run wrap around and are large: one comparison
        # serves both ends, many times faster than looking each id up.
        return len(ids) > 0 and any(
            (ids - first).min() <= length for first, length in self._special_runs
        )

    def _encode_slowly(
        self, left: list[tuple[int, int, str]], parts: list[list[TokenArray]]
    ) -> None:
        encoded = self._tokenizer.encode([piece for _, _, piece in left])
        for (number, part, _), ids in zip(left, encoded, strict=True):
            parts[number][part] = ids

    def _renew(self) -> None:
        self._bytes = 0
        try:
            import gigatoken

            self._fast: Any = gigatoken.Tokenizer.from_json(self._source)
        except Exception as error:  # the library raises nothing narrower
            reason = str(error).splitlines()[0]
            raise InputError(
                f"gigatoken {self.version} cannot stand in for this tokenizer: {reason}"
            ) from error


def gigatoken_version() -> str | None:
    """The installed gigatoken; None if there is none."""
    try:
        return version("gigatoken")
    except PackageNotFoundError:
        return None


def unsupported(described: dict[str, Any]) -> str:
    """Why gigatoken would read a tokenizer otherwise than it is meant; empty if it would not.

    It refuses by itself what it does not know, except for what is listed here, which it passes
    over (read in the sources of 0.10.0).

    Args:
        described: a parsed tokenizer.json.
    """
    model = described["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        return "it is no byte-level BPE"
    for setting in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(setting):
            return f"its model has {setting}"
    if described["normalizer"] not in (None, {"type": "NFC"}):
        return "its normaliser is another than NFC"
    ordinary = [token for token in described["added_tokens"] if not token["special"]]
    for token in ordinary:
        if token["single_word"] or not _is_normal(token["content"]):
            return f"it looks for {token['content']!r} in its own way"
    return _unsupported_splitter(described["pre_tokenizer"])


def _unsupported_splitter(splitter: dict[str, Any] | None) -> str:
    """Known are `ByteLevel` with its own expression, and `Split`s before one without."""
    if splitter is None:
        return "nothing splits its text"
    members = splitter["pretokenizers"] if splitter["type"] == "Sequence" else [splitter]
    *splits, last = members or [splitter]
    if last["type"] != "ByteLevel" or last.get("use_regex", True) == bool(splits):
        return "its text is split by something else than one set of expressions"
    for split in splits:
        if split["type"] != "Split" or split["behavior"] != "Isolated" or split["invert"]:
            return "its text is split by something else than isolating expressions"
        if "Regex" not in split["pattern"]:
            return "its text is split at a fixed string"
    return ""


def _is_normal(text: str) -> bool:
    return text.isascii() or unicodedata.is_normalized("NFC", text)


def _has_newer_letters(text: str) -> bool:
    characters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    late = characters[characters >= _BORDERS[0]]
    return bool((np.searchsorted(_BORDERS, late, side="right") % 2).any())
