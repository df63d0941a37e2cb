"""Why two tokenizers do not give a text the same ids, in sentences.

    differences(load_tokenizer("a"), load_tokenizer("b"))
    ["2 tokens have other ids: 'Ġthe' is 260, expected 262; 'Ġof' is 262, expected 260"]

Compared is what decides about ids: vocabulary, merges, normaliser, pre-tokeniser, added tokens and
the special ones by role. What is put around a text (the post-processor) and how ids become text
again (the decoder) do not matter, so a tokenizer equals its copies in exports of both kinds.
"""

import json
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from ettin.tokenizer import SPECIAL_TOKENS, Tokenizer

NAMED = 3
"""How many of the tokens that differ are named."""

_ROLES = {"bos": "beginning", "eos": "end", "pad": "padding", "mask": "mask"}
# Settings of a component that leave ids alone: offsets into the text are never asked for.
_IDLE = {"trim_offsets"}
_SHOWN_CHARACTERS = 80


def differences(given: Tokenizer, expected: Tokenizer) -> list[str]:
    """Compare what two tokenizers make of texts.

    Returns:
        One sentence a difference, the given one first; empty when all texts get the same ids.
    """
    one, other = (json.loads(each.backend.to_str()) for each in (given, expected))
    return [
        *_of_vocabularies(given.backend.get_vocab(), expected.backend.get_vocab()),
        *_of_special_tokens(given, expected),
        *_of_added_tokens(one["added_tokens"], other["added_tokens"]),
        *_of_merges(one["model"].get("merges"), other["model"].get("merges")),
        *_of_settings(one["model"], other["model"]),
        *_of_components("normaliser", one["normalizer"], other["normalizer"]),
        *_of_components("pre-tokeniser", one["pre_tokenizer"], other["pre_tokenizer"]),
    ]


def _of_vocabularies(given: dict[str, int], expected: dict[str, int]) -> list[str]:
    """Sizes, tokens with another id, and tokens that only one of the two has."""
    found = []
    if len(given) != len(expected):
        found.append(f"it has {len(given):,} entries, expected {len(expected):,}")
    moved = [
        f"{token!r} is {given[token]}, expected {number}"
        for token, number in _by_id(expected)
        if given.get(token, number) != number
    ]
    missing = [f"{token!r} ({number})" for token, number in _by_id(expected) if token not in given]
    unknown = [f"{token!r} ({number})" for token, number in _by_id(given) if token not in expected]
    for listed, one, many in (
        (moved, "token has another id", "tokens have other ids"),
        (missing, "token is missing", "tokens are missing"),
        (unknown, "token is not expected", "tokens are not expected"),
    ):
        if listed:
            said = one if len(listed) == 1 else many
            found.append(f"{len(listed):,} {said}: {_some(listed)}")
    return found


def _of_special_tokens(given: Tokenizer, expected: Tokenizer) -> list[str]:
    """Special tokens by role: another name, another id."""
    return [
        f"its {_ROLES[role]} token is {given.names[role]!r} ({one}), "
        f"expected {expected.names[role]!r} ({other})"
        for role, one, other in zip(SPECIAL_TOKENS, given.special, expected.special, strict=True)
        if (given.names[role], one) != (expected.names[role], other)
    ]


def _of_added_tokens(given: list[dict[str, Any]], expected: list[dict[str, Any]]) -> list[str]:
    """Added tokens that are found in text; special ones never are."""
    one, other = (
        {token["content"]: token for token in tokens if not token["special"]}
        for tokens in (given, expected)
    )
    changed = [
        repr(content)
        for content in sorted({*one, *other})
        if _without_id(one.get(content)) != _without_id(other.get(content))
    ]
    if not changed:
        return []
    return [f"added tokens are looked for in text in another way: {_some(changed)}"]


def _without_id(token: dict[str, Any] | None) -> dict[str, Any] | None:
    return token and {key: value for key, value in token.items() if key != "id"}


def _of_merges(given: list[Any] | None, expected: list[Any] | None) -> list[str]:
    """The first merge that differs, and how many there are."""
    one, other = [_merge(each) for each in given or []], [_merge(each) for each in expected or []]
    for number, pair in enumerate(zip_longest(one, other, fillvalue="none")):
        if pair[0] != pair[1]:
            return [
                f"its merges differ from number {number:,} on ({pair[0]}, expected {pair[1]}); "
                f"it has {len(one):,}, expected {len(other):,}"
            ]
    return []


def _merge(pair: list[str] | str) -> str:
    """One merge as text; files of older libraries hold it so."""
    return repr(pair if isinstance(pair, str) else " ".join(pair))


def _of_settings(given: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The kind of model, its switches, and scores where a vocabulary has them."""
    found = [
        f"{key} of its model is {given.get(key)!r}, expected {expected.get(key)!r}"
        for key in sorted({*given, *expected} - {"vocab", "merges"})
        if _setting(given.get(key)) != _setting(expected.get(key))
    ]
    if isinstance(given["vocab"], list) and given["vocab"] != expected["vocab"]:
        found.append("the scores of its vocabulary differ")
    return found


def _setting(value: Any) -> Any:
    """Not set equals off; the number 0 may be an id."""
    return value if type(value) is int else value or None


def _of_components(name: str, given: Any, expected: Any) -> list[str]:
    """Normalisers or pre-tokenisers, whether one, a sequence or none."""
    one, other = _steps(given), _steps(expected)
    if one == other:
        return []
    return [f"its {name} is {_shown(one)}, expected {_shown(other)}"]


def _steps(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A component as a list of steps without what is idle; nested sequences are flattened."""
    if component is None:
        return []
    if component["type"] == "Sequence":
        members = component.get("pretokenizers") or component.get("normalizers") or []
        return [step for member in members for step in _steps(member)]
    return [{key: value for key, value in component.items() if key not in _IDLE}]


def _shown(steps: list[dict[str, Any]]) -> str:
    """Steps by name, with their settings."""
    shown = []
    for step in steps:
        settings = [f"{key}={value!r}" for key, value in step.items() if key != "type"]
        cut = [
            each[:_SHOWN_CHARACTERS] + "…" * (len(each) > _SHOWN_CHARACTERS) for each in settings
        ]
        shown.append(f"{step['type']}({', '.join(cut)})")
    return ", then ".join(shown) or "none"


def _by_id(vocabulary: dict[str, int]) -> Iterable[tuple[str, int]]:
    return sorted(vocabulary.items(), key=lambda entry: entry[1])


def _some(listed: list[str]) -> str:
    """The first few, and how many more there are."""
    more = len(listed) - NAMED
    return "; ".join(listed[:NAMED]) + (f"; and {more:,} more" if more > 0 else "")
