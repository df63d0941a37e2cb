"""The order of training: global position → row, and row → global positions. No state, no arrays.

Position g counts rows from the start of a phase. Three pure functions lead from it to a row:

    g  → g'         inside windows of 4,096 positions, shuffled, so that the regular pattern of a
                    mixture never lines up with batches or ranks (not needed for one source)
    g' → source, k  nested exact proportions: after n positions the source that stands i-th, from 0,
                    has had more than its share of n less a row, and at most its share plus i rows
    k  → epoch, row a keyed permutation of the source's rows, another one in every epoch

A source takes ⌊r · w / t⌋ of the r positions that those before it left, w being its weight and t
that of all from it on; each rounding down leaves less than one row to those that follow. A window
holds its own positions and no others, so the bound stands at the border of every window; where
weights are the rows of a phase, windows end with it, and every source has had its rows exactly
(from 2³¹ rows on, where weights are rounded, to within a few).

All three are bijections computed in closed form, so a step in the middle of a run of 10¹² rows
costs what the first step costs, and "when was this row trained on?" is the inverse.

Example: 3 sources with 50, 30 and 20 rows. Positions 0…99 hold each row exactly once (epoch 0);
positions 100…199 hold each once more, in another order (epoch 1).
"""

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ettin.errors import InputError, nearest
from ettin.files import fingerprint
from ettin.random_bits import USE_ORDER, USE_WINDOW, key, keys, name_key, scramble

Int64Array = npt.NDArray[np.int64]

ORDER_VERSION = 1
WINDOW_ROWS = 4096
_ROUNDS = 6
_MAX_TOTAL_WEIGHT = (1 << 31) - 1


class Source(NamedTuple):
    """What the order needs to know of a source.

    Attributes:
        name: keys the permutation, so that adding another source does not reshuffle this one.
        rows: how many rows it has.
        weight: its share of the mixture, in rows, relative to the other weights.
    """

    name: str
    rows: int
    weight: int


class Rows(NamedTuple):
    """Rows in training order; three int64 arrays [n].

    Attributes:
        source: index into `Order.sources`.
        epoch: how often that source had been seen in full.
        row: the row in that source's table.
    """

    source: Int64Array
    epoch: Int64Array
    row: Int64Array


@dataclass(frozen=True)
class Order:
    """The training order of one phase: a pure function of a seed, a phase name and the sources.

    Attributes:
        seed: the recipe's.
        phase: keys the order, so that phases differ.
        sources: what it draws from.
        pass_rows: positions after which windows begin anew; the rows of all sources unless given.
    """

    seed: int
    phase: str
    sources: tuple[Source, ...]
    pass_rows: int | None = None

    def __post_init__(self) -> None:
        for source in self.sources:
            if source.rows < 1 or source.weight < 1:
                raise InputError(f"source {source.name}: needs rows and a weight of at least 1")
        if not self.sources:
            raise InputError("an order needs at least one source")

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the order: equal fingerprints give equal rows at every position."""
        sources = [list(source) for source in self.sources]
        passes = [] if self.pass_rows is None else [self.pass_rows]
        return fingerprint([ORDER_VERSION, self.seed, self.phase, sources, *passes])

    def rows(self, start: int, count: int) -> Rows:
        """The rows at positions start … start + count − 1, in O(count) time and memory.

        Example:
            >>> Order(21, "pretraining", (Source("books", 3, 1),)).rows(0, 3).row.tolist()
            [1, 0, 2]
        """
        positions = np.arange(start, start + count, dtype=np.int64)
        index, draws = self._mixture(self._shuffle_windows(positions))
        rows = np.empty_like(draws)
        epochs = np.empty_like(draws)
        for number, source in enumerate(self.sources):
            mine = index == number
            epochs[mine], rows_in_epoch = np.divmod(draws[mine], source.rows)
            streams = keys(self._source_key(source), epochs[mine])
            rows[mine] = permute(rows_in_epoch, np.full_like(streams, source.rows), streams)
        return Rows(index, epochs, rows)

    def positions(self, source: str, rows: Int64Array, *, epochs: int) -> Int64Array:
        """Where rows stand in the order in the first `epochs` epochs of their source.

        Args:
            source: its name.
            rows: int64 [n], rows of it.
            epochs: how many.

        Returns:
            int64 [n, epochs].

        Raises:
            InputError: the order has no such source, or the source no such row.
        """
        number = number_of(self.sources, source)
        refuse_other_rows(self.sources[number], rows)
        size = self.sources[number].rows
        which = np.repeat(np.arange(epochs, dtype=np.int64), len(rows))
        streams = keys(self._source_key(self.sources[number]), which)
        inside = permute(np.tile(rows, epochs), np.full_like(which, size), streams, invert=True)
        draws = (which * size + inside).tolist()
        mixed = np.array([self._mixture_position(number, draw) for draw in draws], np.int64)
        found = self._shuffle_windows(mixed, invert=True)
        return found.reshape(epochs, len(rows)).T

    def epochs_until(self, source: str, count: int) -> int:
        """How many epochs of a source the first `count` positions touch, the last one in part."""
        number = number_of(self.sources, source)
        # A window may draw from positions beyond `count`, but never from beyond its own end.
        end = count + min(WINDOW_ROWS, self._pass) - 1
        seen = self._drawn(number, end)
        return -(-seen // self.sources[number].rows)

    def _source_key(self, source: Source) -> int:
        return key(self.seed, USE_ORDER, name_key(self.phase), name_key(source.name))

    # --- windows

    @cached_property
    def _pass(self) -> int:
        return self.pass_rows or sum(source.rows for source in self.sources)

    def _shuffle_windows(self, positions: Int64Array, *, invert: bool = False) -> Int64Array:
        """Permute positions inside windows that restart with every pass over all rows."""
        if len(self.sources) == 1:
            return positions
        first = positions - positions % self._pass % WINDOW_ROWS
        size = np.minimum(WINDOW_ROWS, self._pass - first % self._pass)
        stream = key(self.seed, USE_WINDOW, name_key(self.phase))
        return first + permute(positions - first, size, keys(stream, first), invert=invert)

    # --- mixture

    @cached_property
    def _weights(self) -> tuple[int, ...]:
        """Weights without common factor, small enough for exact 64-bit arithmetic."""
        weights = [source.weight for source in self.sources]
        while sum(weights) > _MAX_TOTAL_WEIGHT:
            weights = [max(1, weight >> 1) for weight in weights]
        divisor = gcd(*weights)
        return tuple(weight // divisor for weight in weights)

    def _mixture(self, positions: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Which source each position belongs to, and which draw of that source it is."""
        index = np.full_like(positions, len(self.sources) - 1)
        draws = np.empty_like(positions)
        open_places, remaining = np.arange(len(positions)), positions
        total = sum(self._weights)
        for number, weight in enumerate(self._weights[:-1]):
            before = _share(remaining, weight, total)
            mine = _share(remaining + 1, weight, total) > before
            index[open_places[mine]] = number
            draws[open_places[mine]] = before[mine]
            open_places, remaining = open_places[~mine], (remaining - before)[~mine]
            total -= weight
        draws[open_places] = remaining
        return index, draws

    def _mixture_position(self, number: int, draw: int) -> int:
        """The inverse of `_mixture` for one draw, level by level from the innermost outwards."""
        totals = [sum(self._weights[level:]) for level in range(len(self._weights))]
        position = draw
        if number < len(self._weights) - 1:
            position = -(-(draw + 1) * totals[number] // self._weights[number]) - 1
        for level in range(min(number, len(self._weights) - 1) - 1, -1, -1):
            position = position * totals[level] // (totals[level] - self._weights[level])
        return position

    def _drawn(self, number: int, count: int) -> int:
        """How many of the first `count` positions, windows aside, belong to a source."""
        remaining, total = count, sum(self._weights)
        for level, weight in enumerate(self._weights):
            taken = remaining * weight // total
            if level == number:
                return taken
            remaining, total = remaining - taken, total - weight
        raise AssertionError(number)


def make_order(
    *,
    seed: int,
    phase: str,
    rows: dict[str, int],
    mixture: dict[str, int],
    pass_rows: int | None = None,
) -> Order:
    """The order over the sources of a corpus.

    Args:
        seed: the recipe's.
        phase: its name; every phase has an order of its own.
        rows: rows of each source of the corpus.
        mixture: integer weights by source; empty means in proportion to rows.
        pass_rows: of the phase, where weights are rows of it and it is to end exactly.

    Raises:
        InputError: the mixture names a source that the corpus lacks.
    """
    for name in mixture:
        if name not in rows:
            raise InputError(f"mixture: the corpus has no source {name!r}; {nearest(name, rows)}")
    weights = mixture or rows
    sources = tuple(Source(name, rows[name], weights[name]) for name in weights)
    return Order(seed, phase, sources, pass_rows)


def number_of(sources: tuple[Source, ...], name: str) -> int:
    """The place of a source in an order.

    Raises:
        InputError: there is none of that name.
    """
    names = [source.name for source in sources]
    if name not in names:
        raise InputError(f"there is no source {name!r}; {nearest(name, names)}")
    return names.index(name)


def refuse_other_rows(source: Source, rows: Int64Array) -> None:
    """Refuse numbers that no row of a source has.

    Raises:
        InputError: there are such.
    """
    beyond = rows[(rows < 0) | (rows >= source.rows)]
    if len(beyond):
        raise InputError(f"source {source.name} has rows 0 to {source.rows - 1}, not {beyond[0]}")


def permute(
    values: Int64Array, size: Int64Array, streams: Int64Array, *, invert: bool = False
) -> Int64Array:
    """Keyed bijections of [0, size), one an element: a Feistel network with cycle walking.

    A Feistel network of six rounds permutes the smallest power of two that holds `size`; values
    that land beyond `size` are permuted again until they fall inside, which keeps the map a
    bijection (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").

    Args:
        values: int64 [n], each in [0, size).
        size: int64 [n], the domain of each element; the same wherever its stream is the same.
        streams: int64 [n], keys.
        invert: the inverse permutation.

    Returns:
        int64 [n].
    """
    result = values.copy()
    outside = np.flatnonzero(size > 1)
    while len(outside):
        walked = _feistel(result[outside], _bit_length(size[outside] - 1), streams[outside], invert)
        result[outside] = walked
        outside = outside[walked >= size[outside]]
    return result


def _feistel(values: Int64Array, bits: Int64Array, streams: Int64Array, invert: bool) -> Int64Array:  # noqa: FBT001
    """Six rounds on numbers of `bits` bits; the two parts differ by at most one bit."""
    low_bits = bits // 2
    low_mask = (np.int64(1) << low_bits) - 1
    high_mask = (np.int64(1) << (bits - low_bits)) - 1
    low, high = values & low_mask, values >> low_bits
    for number in reversed(range(_ROUNDS)) if invert else range(_ROUNDS):
        if number % 2:
            low = low ^ (_round(high, streams, number) & low_mask)
        else:
            high = high ^ (_round(low, streams, number) & high_mask)
    return (high << low_bits) | low


def _round(half: Int64Array, streams: Int64Array, number: int) -> Int64Array:
    return scramble(streams ^ scramble(half * _ROUNDS + number))


def _bit_length(values: Int64Array) -> Int64Array:
    """Bits needed for each value; exact up to 2⁵³, which `frexp` represents."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _share(count: Int64Array, weight: int, total: int) -> Int64Array:
    """⌊count · weight / total⌋ without overflow: both factors stay below 2³¹."""
    whole, rest = np.divmod(count, total)
    share: Int64Array = whole * weight + rest * weight // total
    return share
