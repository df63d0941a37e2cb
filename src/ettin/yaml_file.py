"""YAML that recipes and suites are written in: no key twice, and changed by `key.path=value`."""

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from ettin.errors import InputError, nearest

_VALUES_AT_MOST = 100_000
_MERGE = "tag:yaml.org,2002:merge"
_MIXTURE = "mixture"


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key written twice is an error and not the last one's win.

    So are aliases that stand for more values than anybody writes, or for themselves.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        if _size(node, {}) > _VALUES_AT_MOST:
            raise yaml.constructor.ConstructorError(
                None, None, f"its aliases stand for more than {_VALUES_AT_MOST:,} values"
            )
        return super().construct_document(node)

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - the parent's signature
    ) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if key.tag != _MERGE]
        names = [self.construct_object(key, deep=True) for key in keys]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} stands here twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a recipe or a suite as the file has them; no key may stand there twice.

    Raises:
        InputError: the file cannot be read, is no YAML, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the recipe {path}: {error}") from error
    try:
        values = yaml.load(text, Loader=_UniqueKeyLoader)  # a SafeLoader  # noqa: S506
    except (yaml.YAMLError, TypeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    except RecursionError:
        raise InputError(f"{path} is nested more deeply than any recipe or suite") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} should hold keys and values, found {type(values).__name__}")
    return values


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for, aliases written out; infinite for one inside itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(_size(part, known) for part in inner)
    return known[id(node)]


def override(values: dict[str, Any], text: str, *, known: Iterable[str]) -> str | None:
    """Apply one `key.path=value`; returns what is wrong with it, if anything.

    Args:
        values: of the file; changed in place. Objects of a list are named by number or by `name`.
        text: what was typed.
        known: the keys there may be, to name the nearest.
    """
    path, equals, value = text.partition("=")
    if not equals or not path:
        return f"{text!r}: an override is written key.path=value"
    target: Any = values
    *parents, last = path.split(".")
    for before, parent in pairwise(["", *parents]):
        target = _enter(target, parent, inside=before)
        if target is None:
            hint = nearest(parents[0], known)
            return f"{path}: there is no {parent!r} to set this in; {hint}"
    if not isinstance(target, dict):
        return f"{path}: {'.'.join(parents)} holds no keys"
    try:
        target[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        return f"{path}: {value!r} is not a value: {error}"
    return None


def _enter(target: Any, name: str, *, inside: str) -> Any:
    """What `name` stands for in a mapping or list that itself is called `inside`."""
    if isinstance(target, dict) and inside == _MIXTURE:
        # `mixture.books.tokens` says the whole share of a source that had a weight, or none yet.
        if not isinstance(target.get(name), dict):
            target[name] = {}
        return target[name]
    if isinstance(target, dict):
        return target.setdefault(name, {}) if name in ("shape", _MIXTURE) else target.get(name)
    if isinstance(target, list):
        if name.isdigit() and int(name) < len(target):
            return target[int(name)]
        return next(
            (item for item in target if isinstance(item, dict) and item.get("name") == name), None
        )
    return None
