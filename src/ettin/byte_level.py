"""Byte-level vocabularies (GPT-2's): the alphabet, what ids stand for, whether all bytes come back.

Works on a parsed `tokenizer.json`. Source: Radford et al. 2019, "Language Models are Unsupervised
Multitask Learners"; the alphabet is the published encoder's.
"""

from typing import Any

from ettin.errors import InputError

_KEEPING = {"ByteLevel", "Split", "Digits", "Punctuation"}


def byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 stands for itself, other bytes from U+0100 upwards."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


def is_lossless(described: dict[str, Any]) -> bool:
    """Whether every byte of every text comes back from its ids.

    True for a byte-level vocabulary that holds the whole alphabet, without normaliser, without a
    splitter that drops or adds anything, and without added tokens that swallow spaces.

    Args:
        described: a parsed tokenizer.json.
    """
    splitters = _flat(described["pre_tokenizer"], "pretokenizers")
    kinds = {splitter["type"] for splitter in splitters}
    ordinary = [token for token in described["added_tokens"] if not token["special"]]
    return (
        described["normalizer"] is None
        and "ByteLevel" in kinds
        and kinds <= _KEEPING
        and not any(splitter.get("add_prefix_space") for splitter in splitters)
        and not any(splitter.get("behavior") == "Removed" for splitter in splitters)
        and not any(token["lstrip"] or token["rstrip"] for token in ordinary)
        and set(byte_of_character()) <= set(described["model"]["vocab"])
    )


def bytes_of_ids(described: dict[str, Any]) -> dict[int, bytes]:
    """The bytes that each id stands for; added tokens stand for their own text.

    Args:
        described: a parsed tokenizer.json.

    Raises:
        InputError: the vocabulary is not byte-level.
    """
    decoders = _flat(described["decoder"], "decoders")
    if not any(decoder["type"] == "ByteLevel" for decoder in decoders):
        raise InputError("this tokenizer is not byte-level: its ids have no bytes of their own")
    table = byte_of_character()
    added = {token["id"]: token["content"].encode() for token in described["added_tokens"]}
    ordinary = {
        number: bytes(table[character] for character in token)
        for token, number in described["model"]["vocab"].items()
        if number not in added
    }
    return ordinary | added


def _flat(described: dict[str, Any] | None, members: str) -> list[dict[str, Any]]:
    """A component of a tokenizer.json as a list, whether it is none, one or a sequence."""
    if described is None:
        return []
    return list(described[members]) if described["type"] == "Sequence" else [described]
