"""Which inputs a masked language model must see to score continuations: each of them once.

    planned([Pair(context, continuation), …], end=1)        # left to right, the end scored too
    planned([Pair(context, continuation), …], end=None)     # both sides visible

Left to right, what is asked of token 3 of a continuation depends on the context and the tokens
before it alone, so all continuations that begin alike share inputs, and always the first one. With
both sides visible only equal pairs do.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """What is scored: a continuation after a context, without special tokens.

    Attributes:
        context: tokens; may be none.
        continuation: tokens.
        words: for each token of the continuation which word it belongs to: equal neighbours are
            one word. Only scoring within words needs them.
    """

    context: tuple[int, ...]
    continuation: tuple[int, ...]
    words: tuple[int, ...] = ()


class Row(NamedTuple):
    """One input: token `step` of the continuation of pair number `pair` is asked for."""

    pair: int
    step: int


class Plan(NamedTuple):
    """Unique rows, and all that is asked of them.

    Attributes:
        rows: the inputs.
        asked: int64 [targets], the row that answers.
        pairs: int64 [targets], the pair that asks.
        tokens: int64 [targets], whose probability it wants.
    """

    rows: list[Row]
    asked: Int64Array
    pairs: Int64Array
    tokens: Int64Array


class _Paths:
    """Texts as paths from one root: equal beginnings lead to the same node."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], int] = {}
        self._ends: dict[tuple[int, ...], int] = {(): 0}

    def after(self, node: int, token: int) -> int:
        """The node one token further."""
        return self._nodes.setdefault((node, token), len(self._nodes) + 1)

    def end_of(self, tokens: tuple[int, ...]) -> int:
        """The node at which a text that begins at the root ends."""
        if tokens not in self._ends:
            node = 0
            for token in tokens:
                node = self.after(node, token)
            self._ends[tokens] = node
        return self._ends[tokens]


def planned(pairs: Sequence[Pair], *, end: int | None, within_word: bool = False) -> Plan:
    """Every token that is asked for, and the fewest rows that answer.

    Args:
        pairs: what is scored.
        end: the token that ends a text, asked for after each continuation, which is then read left
            to right; None: both sides are visible, and no end is asked for.
        within_word: inputs depend on the words too.
    """
    paths = _Paths()
    numbers: dict[Hashable, int] = {}
    rows: list[Row] = []
    targets: list[tuple[int, int, int]] = []

    def ask(key: Hashable, row: Row, token: int) -> None:
        number = numbers.setdefault(key, len(rows))
        if number == len(rows):
            rows.append(row)
        targets.append((number, row.pair, token))

    for number, pair in enumerate(pairs):
        node = paths.end_of(pair.context)
        if end is not None:
            for step, token in enumerate((*pair.continuation, end)):
                ask(node, Row(number, step), token)
                node = paths.after(node, token)
            continue
        for token in pair.continuation:
            node = paths.after(node, token)
        words = pair.words if within_word else ()
        for step, token in enumerate(pair.continuation):
            ask((node, len(pair.context) + step, words), Row(number, step), token)
    asked, asking, tokens = np.array(targets, dtype=np.int64).reshape(-1, 3).T
    return Plan(rows, asked, asking, tokens)
