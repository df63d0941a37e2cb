"""Token ids at the speed of a disk: `gigatoken` where it gives the same ids, else `tokenizers`.

    encoder = choose_encoder(tokenizer, sample_of_the_corpus)     # once a corpus
    encoder = open_encoder(tokenizer, encoder.identity)           # in every worker
    spot = SpotCheck(encoder, tokenizer)
    encoder.encode(texts)                                         # as `Tokenizer.encode`
    spot.look(names, texts)                                       # raises if the two differ

`gigatoken` is an extra (`pip install ettin[fast]`). It is used only if it gives every sampled
document the ids that `tokenizers` gives it, and workers go on comparing a small share of all text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from ettin.console import log
from ettin.errors import InputError, nearest
from ettin.gigatoken_encoding import GigatokenEncoder, gigatoken_version
from ettin.random_bits import key
from ettin.tokenizer import TokenArray, Tokenizer, library_version

Wanted = Literal["auto", "tokenizers", "gigatoken"]
Encode = Callable[[Sequence[str]], list[TokenArray]]

SLOW, FAST = "tokenizers", "gigatoken"

HARD_TEXTS = (
    "",
    "\0",
    " \t\r\n \r\n\n  x \u00a0\u2003\u3000 y\v\f\x1c\x85 ",
    "I'll we've it's THEY'RE don'T ''s 's's",
    "1 12 123 1234 ١٢٣ Ⅷ ½ ² 1e-5 0x1F",
    "naïve na\u0131\u0308ve A\u030a\u0323 \u212b \u212a \u1e9b\u0323 \u1100\u1161\u11a8 가각",
    "文字の列。漢字、かな！　全角ＡＢＣ　ᠭᠣᠪᠢ हिन्दी ภาษาไทย العربية עברית Ωμέγα ß ﬁ ǅ",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇫🇮 1️⃣ \U0001f98a\U000e0067\u200b\ufeff\ufffd\u00ad",
    "def f(x):\n    return {'a': [1, 2], \"b\": x != 3}  # …\n\n\n\tif True:\r\n\t\tpass\n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 9,
    "_-_-=+*/\\<>|^~`@#$%&(){}[];:,.?! …„“”‘’«»—– ————————————————————————————————————————",
    "\x7f\x80\x9f\ud7ff\ue000\ufdd0\ufffe\U00010000\U0010ffff",
)
"""Texts that implementations disagree about; always compared, beside the sample."""

SPOT_CHARACTERS = 2048
SPOT_SHARE = 1 / 256

_AROUND = 4


@dataclass(frozen=True, eq=False)
class Encoder:
    """How the texts of a corpus become ids; made by `choose_encoder` and `open_encoder`.

    Attributes:
        name: `tokenizers` or `gigatoken`.
        version: of that library.
        encode: as `Tokenizer.encode`, forced cuts counted in the same place; for one thread.
        checked_documents: compared with `tokenizers` before it was chosen.
        checked_bytes: their UTF-8 bytes.
    """

    name: str
    version: str
    encode: Encode
    checked_documents: int = 0
    checked_bytes: int = 0

    @property
    def identity(self) -> str:
        """Name and version, to be recorded: a corpus is continued by the same one only."""
        return f"{self.name} {self.version}"


class Difference(NamedTuple):
    """Where two encoders part ways in a document.

    Attributes:
        document: its number among the texts.
        token: the first that differs.
        expected: the text of tokens around it, by `tokenizers`; bars stand between tokens.
        found: the same by the other.
    """

    document: int
    token: int
    expected: str
    found: str

    def __str__(self) -> str:
        return f"token {self.token:,} is {self.expected!r} and not {self.found!r}"


def choose_encoder(
    tokenizer: Tokenizer, sample_texts: Sequence[str], *, wanted: Wanted = "auto"
) -> Encoder:
    """Choose by a comparison on documents of the corpus and on a list of hard texts.

    Args:
        tokenizer: the corpus's tokenizer.
        sample_texts: documents of the corpus, or beginnings of them.
        wanted: `auto` takes gigatoken where it is installed and equal, and says so if it is not
            equal; `gigatoken` insists on it; `tokenizers` asks for no comparison.

    Raises:
        InputError: gigatoken is insisted upon and is absent or differs; another name is wanted.
    """
    if wanted not in get_args(Wanted):
        hint = nearest(wanted, get_args(Wanted))
        raise InputError(f"{wanted!r} encodes no text; {hint}")
    if wanted == SLOW or (wanted == "auto" and gigatoken_version() is None):
        return _slow(tokenizer)
    texts = [*sample_texts, *HARD_TEXTS, *_texts_with_special_strings(tokenizer)]
    try:
        fast = GigatokenEncoder(tokenizer)
        different = parity(fast.encode, tokenizer, texts)
        if different:
            raise InputError(_not_equal(different, texts))
    except InputError as error:
        if wanted == FAST:
            raise
        log.warning("%s; texts are encoded by tokenizers, more slowly", error)
        return _slow(tokenizer)
    size = sum(len(text.encode()) for text in texts)
    return Encoder(FAST, fast.version, fast.encode, len(texts), size)


def open_encoder(tokenizer: Tokenizer, identity: str) -> Encoder:
    """The encoder that was chosen before, perhaps in another process or on another machine.

    Args:
        tokenizer: the corpus's tokenizer.
        identity: as `Encoder.identity` gives.

    Raises:
        InputError: that library is not installed here in that version.
    """
    if identity.partition(" ")[0] == FAST:
        fast = GigatokenEncoder(tokenizer)
        found = Encoder(FAST, fast.version, fast.encode)
    else:
        found = _slow(tokenizer)
    if found.identity != identity:
        raise InputError(
            f"this corpus was begun with {identity}, here {found.identity} is installed; "
            "install the former, or begin another corpus"
        )
    return found


def parity(encode: Encode, tokenizer: Tokenizer, texts: Sequence[str]) -> list[Difference]:
    """Compare the ids of texts with those of `Tokenizer.encode`.

    Returns:
        The first difference of each document that has one.
    """
    forced = tokenizer.forced_cuts
    try:
        expected, found = tokenizer.encode(texts), encode(texts)
    finally:
        tokenizer.forced_cuts = forced
    return [
        _first_difference(number, one, other, tokenizer)
        for number, (one, other) in enumerate(zip(expected, found, strict=True))
        if not np.array_equal(one, other)
    ]


class SpotCheck:
    """Goes on comparing while a part of a corpus is encoded; nothing to do for `tokenizers`.

    Windows of 2,048 characters are encoded a second time, by both: one in the first document, then
    as many as it takes to look at 1/256 of all characters. Where they lie depends on the texts and
    their order alone, so that a part is checked at the same places by every worker.

    Attributes:
        checked: characters compared so far.

    Args:
        encoder: the one in use.
        tokenizer: the corpus's tokenizer.
        share: of all characters to compare.
    """

    def __init__(
        self, encoder: Encoder, tokenizer: Tokenizer, *, share: float = SPOT_SHARE
    ) -> None:
        self.checked = 0
        self._encoder, self._tokenizer = encoder, tokenizer
        self._share = share if encoder.name == FAST else 0.0
        self._seen = self._windows = 0

    def look(self, names: Sequence[str], texts: Sequence[str]) -> None:
        """Compare windows of the next texts.

        Args:
            names: ids of the documents.
            texts: the documents that were encoded.

        Raises:
            InputError: the ids of a window differ; the corpus has to be made without gigatoken.
        """
        owners: list[str] = []
        windows: list[str] = []
        for name, text in zip(names, texts, strict=True):
            self._seen += len(text)
            while text and self.checked < self._share * self._seen:
                windows.append(self._window(text))
                owners.append(name)
        different = parity(self._encoder.encode, self._tokenizer, windows)
        if different:
            place = owners[different[0].document]
            raise InputError(
                f"{self._encoder.identity} gives document {place} other ids than tokenizers "
                f"{library_version()}: {different[0]}; make this corpus with tokenizers alone"
            )

    def _window(self, text: str) -> str:
        self._windows += 1
        start = key(self._windows) % max(1, len(text) - SPOT_CHARACTERS + 1)
        window = text[start : start + SPOT_CHARACTERS]
        self.checked += len(window)
        return window


def _slow(tokenizer: Tokenizer) -> Encoder:
    return Encoder(SLOW, library_version(), tokenizer.encode)


def _texts_with_special_strings(tokenizer: Tokenizer) -> list[str]:
    added = tokenizer.backend.get_added_tokens_decoder().values()
    contents = [token.content for token in added]
    return [f"a {each}{each} b\n{each}" for each in contents] + [" ".join(contents)]


def _first_difference(
    document: int, expected: TokenArray, found: TokenArray, tokenizer: Tokenizer
) -> Difference:
    both = min(len(expected), len(found))
    unequal = np.flatnonzero(expected[:both] != found[:both])
    token = int(unequal[0]) if len(unequal) else both
    shown = (
        "|".join(
            tokenizer.decode([each]) for each in ids[max(0, token - _AROUND) : token + _AROUND]
        )
        for ids in (expected, found)
    )
    return Difference(document, token, *shown)


def _not_equal(different: list[Difference], texts: Sequence[str]) -> str:
    first = different[0]
    return (
        f"gigatoken {gigatoken_version()} gives {len(different):,} of {len(texts):,} texts other "
        f"ids than tokenizers {library_version()}: in the text that begins "
        f"{texts[first.document][:40]!r} {first}"
    )
