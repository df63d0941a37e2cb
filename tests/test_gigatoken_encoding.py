"""gigatoken gives the ids that `tokenizers` gives, or does not get the text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies
from tokenizers import Tokenizer as Backend

from ettin import gigatoken_encoding
from ettin.errors import InputError
from ettin.fast_encoding import HARD_TEXTS, Encode, parity
from ettin.gigatoken_encoding import GigatokenEncoder, gigatoken_version, unsupported
from ettin.text_pieces import PIECE_CHARACTERS
from ettin.tokenizer import Tokenizer
from ettin.tokenizer_training import train_tokenizer

present = pytest.mark.skipif(gigatoken_version() is None, reason="gigatoken is not installed")

# The expression of the GPT-4 family, as tokenizers on the hub write it.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MASKS = "a [MASK][MASK] b [CLS][SEP] [PAD] c [MAS\u212a] [mask] [MASK"
TEXTS = [
    *HARD_TEXTS,
    MASKS,
    "x" * (PIECE_CHARACTERS + 1) + "文" * 3,
    "bada kebi " * (PIECE_CHARACTERS // 4) + MASKS + " nolu" * PIECE_CHARACTERS,
    "lone \ufffd half\r\n\0\r\n",
    "e\u0301 \u0340 \u09fe\u0334 \u0d3c\u0334 a\u0328\u0301 \ufb1d",
    "kebi     nolu   \n      tera        |||WORD||| x|||WORD|||y",
]


def _nfc(described: dict[str, Any]) -> None:
    """As the published tokenizer has it: normalised, with runs of spaces as tokens."""
    described["normalizer"] = {"type": "NFC"}
    entry = dict(described["added_tokens"][0], special=False, normalized=True)
    contents = [*(" " * count for count in range(8, 1, -1)), "|||WORD|||"]
    described["added_tokens"] += [
        dict(entry, id=512 + number, content=content) for number, content in enumerate(contents)
    ]


def _split(described: dict[str, Any]) -> None:
    described["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": SPLIT},
                "behavior": "Isolated",
                "invert": False,
            },
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": False,
            },
        ],
    }
    described["model"]["ignore_merges"] = True


def _prefixed(described: dict[str, Any]) -> None:
    described["pre_tokenizer"]["add_prefix_space"] = True


def _plain(described: dict[str, Any]) -> None:
    """As we train them."""


KINDS = [_plain, _nfc, _split, _prefixed]


@pytest.fixture(scope="module")
def described(tokenizer_directory: Path) -> dict[str, Any]:
    return dict(json.loads((tokenizer_directory / "tokenizer.json").read_text()))


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__.strip("_"))
def tokenizer(request: pytest.FixtureRequest, described: dict[str, Any]) -> Tokenizer:
    return changed(described, request.param)


@pytest.fixture(scope="module")
def encoder(tokenizer: Tokenizer) -> GigatokenEncoder:
    return GigatokenEncoder(tokenizer)


@pytest.fixture(scope="module")
def possessive(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """One that knows `'s`: a sign takes the quote behind it along, a letter does not."""
    folder = tmp_path_factory.mktemp("possessive") / "tokenizer"
    return train_tokenizer(["it's his, that's hers " * 20], vocab_size=320, out=folder)[0]


def changed(described: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> Tokenizer:
    copy = json.loads(json.dumps(described))
    change(copy)
    names = {"bos": "[CLS]", "eos": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
    return Tokenizer(Backend.from_str(json.dumps(copy)), names)


@present
def test_hard_texts_get_the_same_ids(tokenizer: Tokenizer, encoder: GigatokenEncoder) -> None:
    assert parity(encoder.encode, tokenizer, TEXTS) == []
    masked = encoder.encode([MASKS])[0]
    assert not set(masked.tolist()) & set(tokenizer.special_ids.tolist())


@present
@settings(max_examples=150, deadline=None)
@given(
    texts=strategies.lists(
        strategies.text(strategies.characters(exclude_categories=["Cs"]))
        | strategies.text(strategies.sampled_from(list("ab1_. \t\n\r'ß\u00a0\u0301[]MASK!-,🦊")))
    )
)
def test_random_unicode_gets_the_same_ids(
    tokenizer: Tokenizer, encoder: GigatokenEncoder, texts: list[str]
) -> None:
    assert parity(encoder.encode, tokenizer, texts) == []


@present
@pytest.mark.slow
def test_every_character_gets_the_same_ids(possessive: Tokenizer) -> None:
    encode = GigatokenEncoder(possessive).encode
    whole = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    for begin in range(0, len(whole), 1 << 16):
        texts = [
            "".join(f"{each}'s " for each in whole[place : place + 16])
            for place in range(begin, min(begin + (1 << 16), len(whole)), 16)
        ]
        assert parity(encode, possessive, texts) == []


@present
def test_letters_that_only_one_library_knows_are_left_to_tokenizers(
    possessive: Tokenizer,
) -> None:
    encoder = GigatokenEncoder(possessive)
    texts = [f"{each}'s" for each in "\u088f\u0c5c\ua7cf\U00010959\U000323b0\U00033479"]
    assert parity(encoder.encode, possessive, texts) == []
    # The day they agree, the table of such letters can go.
    assert len(parity(_unguarded(encoder), possessive, texts)) == len(texts)


def _unguarded(encoder: GigatokenEncoder) -> Encode:
    return lambda texts: [encoder._fast.encode(text) for text in texts]


@present
def test_forced_cuts_are_made_at_the_same_places_and_counted(described: dict[str, Any]) -> None:
    tokenizer = changed(described, _plain)
    text = "x" * (2 * PIECE_CHARACTERS + 9)
    (ids,) = GigatokenEncoder(tokenizer).encode([text])
    assert tokenizer.forced_cuts == 2
    assert ids.tolist() == tokenizer.encode([text])[0].tolist()


@present
def test_throwing_its_cache_away_changes_nothing(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gigatoken_encoding, "RENEWED_AFTER_BYTES", 100)
    encoder = GigatokenEncoder(tokenizer)
    before = encoder._fast
    assert parity(encoder.encode, tokenizer, TEXTS) == []
    assert encoder._fast is not before


@present
def test_an_expression_that_it_does_not_know_is_said(described: dict[str, Any]) -> None:
    def change(copy: dict[str, Any]) -> None:
        _split(copy)
        copy["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\w+|\W+"}

    with pytest.raises(InputError, match=r"cannot stand in for this tokenizer: Unknown pre_token"):
        GigatokenEncoder(changed(described, change))


@pytest.mark.parametrize("change", KINDS)
def test_what_it_reads_as_it_is_meant_is_supported(
    described: dict[str, Any], change: Callable[[dict[str, Any]], object]
) -> None:
    copy = json.loads(changed(described, change).backend.to_str())
    assert unsupported(copy) == ""


def _reach(described: dict[str, Any], *path: str | int) -> Any:
    for step in path:
        described = described[step]  # type: ignore[index]
    return described


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("model", "type"), "WordPiece", "no byte-level BPE"),
        (("model", "byte_fallback"), True, "no byte-level BPE"),
        (("model", "dropout"), 0.1, "has dropout"),
        (("model", "end_of_word_suffix"), "</w>", "has end_of_word_suffix"),
        (("normalizer",), {"type": "Lowercase"}, "another than NFC"),
        (("added_tokens", 6, "single_word"), True, "'      ' in its own way"),
        (("added_tokens", 6, "content"), "e\u0301", "in its own way"),
        (("pre_tokenizer",), None, "nothing splits"),
        (("pre_tokenizer",), {"type": "Sequence", "pretokenizers": []}, "one set"),
        (("pre_tokenizer",), {"type": "ByteLevel", "use_regex": False}, "one set"),
        (("pre_tokenizer", "pretokenizers", 1, "use_regex"), True, "one set"),
        (("pre_tokenizer", "pretokenizers", 0, "type"), "Digits", "isolating"),
        (("pre_tokenizer", "pretokenizers", 0, "behavior"), "Removed", "isolating"),
        (("pre_tokenizer", "pretokenizers", 0, "invert"), True, "isolating"),
        (("pre_tokenizer", "pretokenizers", 0, "pattern"), {"String": " "}, "fixed string"),
    ],
)
def test_what_it_would_pass_over_is_not_supported(
    described: dict[str, Any], path: tuple[str | int, ...], value: Any, reason: str
) -> None:
    copy = json.loads(json.dumps(described))
    _nfc(copy)
    _split(copy)
    _reach(copy, *path[:-1])[path[-1]] = value
    assert reason in unsupported(copy)
