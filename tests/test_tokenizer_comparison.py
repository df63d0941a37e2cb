"""Tokenizers are told apart by what decides about ids, and by nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from ettin.tokenizer import Tokenizer, load_tokenizer
from ettin.tokenizer_comparison import differences
from ettin.tokenizer_training import train_tokenizer

TEXTS = ["bada kebi, nolu 12 tera.\n\nfoza dine", "naïve ... [MASK] Ωμέγα  x" * 3]


@pytest.fixture(scope="module")
def own(tokenizer_directory: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_directory)


def changed(directory: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Tokenizer:
    """The tokenizer of a directory after a change of its tokenizer.json."""
    described = json.loads((directory / "tokenizer.json").read_text())
    change(described)
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(described))
    (folder / "tokenizer_config.json").write_text((directory / "tokenizer_config.json").read_text())
    return load_tokenizer(folder)


def ids(tokenizer: Tokenizer) -> list[list[int]]:
    return [each.tolist() for each in tokenizer.encode(TEXTS)]


@pytest.mark.parametrize("closing", [True, False])
def test_copies_in_exports_are_equal_also_after_transformers_saved_them(
    own: Tokenizer, tmp_path: Path, closing: bool
) -> None:
    own.save(tmp_path / "export", closing=closing, max_length=64)
    stock = transformers.AutoTokenizer.from_pretrained(tmp_path / "export")
    stock.save_pretrained(tmp_path / "again")
    for copy in ("export", "again"):
        loaded = load_tokenizer(tmp_path / copy)
        assert differences(loaded, own) == differences(own, loaded) == []
        assert ids(loaded) == ids(own)


def _swap(described: dict[str, Any]) -> None:
    vocabulary = described["model"]["vocab"]
    one, other = list(vocabulary)[300:302]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]


def _drop_last(described: dict[str, Any]) -> None:
    described["model"]["merges"].pop()
    described["model"]["vocab"].popitem()


def _rename_mask(described: dict[str, Any]) -> None:
    described["added_tokens"][3]["content"] = "<hidden>"
    described["model"]["vocab"]["<hidden>"] = described["model"]["vocab"].pop("[MASK]")


def _add(described: dict[str, Any]) -> None:
    token = dict(described["added_tokens"][0], id=512, content="kebi", special=False)
    described["added_tokens"].append(token)


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (_swap, ["2 tokens have other ids: '"]),
        (
            _drop_last,
            ["it has 511 entries, expected 512", "1 token is missing: '", "from number 251 on"],
        ),
        (lambda each: each["model"]["merges"].reverse(), ["its merges differ from number 0 on ("]),
        (
            _add,
            [
                "it has 513 entries",
                "1 token is not expected: 'kebi' (512)",
                "in another way: 'kebi'",
            ],
        ),
        (
            lambda each: each.update(normalizer={"type": "NFC"}),
            ["its normaliser is NFC(), expected none"],
        ),
        (
            lambda each: each["pre_tokenizer"].update(add_prefix_space=True),
            ["its pre-tokeniser is ByteLevel(add_prefix_space=True"],
        ),
        (lambda each: each["model"].update(dropout=0.5), ["dropout of its model is 0.5"]),
        (lambda each: each["model"].update(ignore_merges=True), ["ignore_merges of its model"]),
    ],
    ids=["ids", "entries", "merges", "added", "normaliser", "pre-tokeniser", "dropout", "switch"],
)
def test_what_gives_other_ids_is_named(
    own: Tokenizer,
    tokenizer_directory: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    sentences: list[str],
) -> None:
    found = differences(changed(tokenizer_directory, tmp_path / "other", change), own)
    for sentence in sentences:
        assert any(sentence in each for each in found), found
    assert len(found) == len(sentences)


def test_special_tokens_are_compared_by_role(
    own: Tokenizer, tokenizer_directory: Path, tmp_path: Path
) -> None:
    other = changed(tokenizer_directory, tmp_path / "other", _rename_mask)
    other.names["mask"] = "<hidden>"
    found = differences(other, own)
    assert "its mask token is '<hidden>' (3), expected '[MASK]' (3)" in found
    swapped = load_tokenizer(tokenizer_directory)
    swapped.names |= {"bos": "[SEP]", "eos": "[CLS]"}
    assert differences(swapped, own) == [
        "its beginning token is '[SEP]' (1), expected '[CLS]' (0)",
        "its end token is '[CLS]' (0), expected '[SEP]' (1)",
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda each: each.update(post_processor=None),
        lambda each: each["pre_tokenizer"].update(trim_offsets=False),
        lambda each: each.update(
            pre_tokenizer={"type": "Sequence", "pretokenizers": [each["pre_tokenizer"]]}
        ),
        lambda each: each["model"].update(
            continuing_subword_prefix="",
            merges=[" ".join(pair) for pair in each["model"]["merges"]],
        ),
        lambda each: each.update(truncation=None),
        lambda each: each["added_tokens"][0].update(lstrip=True),
    ],
    ids=["post-processor", "offsets", "sequence", "spelling", "truncation", "special"],
)
def test_what_gives_the_same_ids_is_no_difference(
    own: Tokenizer,
    tokenizer_directory: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
) -> None:
    other = changed(tokenizer_directory, tmp_path / "other", change)
    assert differences(other, own) == []
    assert ids(other) == ids(own)


def test_long_lists_name_the_first_and_count_the_rest(own: Tokenizer, tmp_path: Path) -> None:
    train_tokenizer(["zzzz yyyy xxxx " * 9], vocab_size=320, out=tmp_path / "small")
    found = differences(load_tokenizer(tmp_path / "small"), own)
    missing = next(each for each in found if "are missing" in each)
    assert missing.count(";") == 3
    assert missing.endswith("more")
    assert all(len(each) < 400 for each in found)
