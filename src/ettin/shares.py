"""What each source gives to a phase: the shares of a mixture as numbers of rows, and their tokens.

    supply = {"books": Supply(rows=1000, tokens=1_020_000), "web": Supply(9000, 9_180_000)}
    resolve({"books": Share(epochs=2), "web": Share(weight=1)}, supply=supply, rows=5000)
    # {"books": 2000, "web": 3000}: integer weights of an order; here rows, since budgets are given

A mixture of weights alone is taken as it is, whatever the length of the phase. Budgets (`tokens`,
`epochs`) are turned into rows of their source; weights beside them share the rows that are left.
Budgets alone should fill the phase, and are scaled by the few percent that they miss it by.

A corpus need not be opened: what its manifest states of a source is enough.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from ettin.console import human
from ettin.errors import InputError, nearest
from ettin.fields import Share
from ettin.files import Json
from ettin.recipe import Phase, Recipe
from ettin.schedules import rows_before, total_steps

LARGEST_MISFIT = 0.05
"""Budgets alone may miss the length of their phase by this share of it: rows are not quite full,
and nobody knows by how much before the corpus is made."""


class Supply(NamedTuple):
    """What a corpus has of a source for training, at one context length.

    Attributes:
        rows: how many.
        tokens: in them, BOS and EOS counted.
    """

    rows: int
    tokens: int


class Drawn(NamedTuple):
    """What a phase reads of a source.

    Attributes:
        rows: how many; a row that is read again counts again.
        tokens: in them, by the mean of the source's rows; exact for whole epochs.
        epochs: how often the source is gone through.
    """

    rows: int
    tokens: int
    epochs: float


def supply_of(facts: Json, context_length: int) -> dict[str, Supply]:
    """The sources of a corpus, in their order.

    Args:
        facts: of the corpus's manifest.
        context_length: one that it has rows for.
    """
    tables = {name: each["rows"][str(context_length)] for name, each in facts["sources"].items()}
    return {name: Supply(each["train"], each["tokens"]) for name, each in tables.items()}


def rows_of(phase: Phase) -> int:
    """The rows that a phase trains on."""
    return rows_before(phase, total_steps(phase) + 1)


def weights_of(recipe: Recipe, phase: Phase, supply: Mapping[str, Supply]) -> dict[str, int]:
    """Integer weights of the sources of a phase: by name, in the order of the mixture.

    Raises:
        InputError: see `resolve`.
    """
    try:
        return resolve(
            recipe.mixture_of(phase),
            supply=supply,
            rows=rows_of(phase),
            row_tokens=phase.nominal_row_tokens,
        )
    except InputError as error:
        raise InputError(f"the mixture of {phase.name}: {error}") from error


def has_budgets(mixture: Mapping[str, Share]) -> bool:
    """Whether the weights that a mixture comes to are rows of its phase."""
    return any(share.weight is None for share in mixture.values())


def resolve(
    mixture: Mapping[str, Share], *, supply: Mapping[str, Supply], rows: int, row_tokens: int = 1
) -> dict[str, int]:
    """Integer weights of the sources, by which `data.order` draws from them.

    Args:
        mixture: a share for each source; empty for all sources in proportion to their rows.
        supply: of each source of the corpus.
        rows: of the phase.
        row_tokens: what the clock counts for a row; to say how long the phase should be.

    Returns:
        The weights as they are given where no source has a budget; else rows, `rows` in all.

    Raises:
        InputError: a source that the corpus lacks or has no rows of; budgets that do not fit the
            phase, or leave nothing to the weights; a source that would get no row.
    """
    for name in mixture:
        if name not in supply:
            hint = nearest(name, supply)
            raise InputError(f"the corpus has no source {name!r}; {hint}")
    empty = [name for name in mixture or supply if not supply[name].rows]
    if empty:
        raise InputError(f"{', '.join(empty)}: the corpus has no rows of it to train on")
    if not mixture:
        return {name: each.rows for name, each in supply.items()}
    weights = {name: share.weight for name, share in mixture.items() if share.weight is not None}
    if len(weights) == len(mixture):
        return weights
    budgets = {
        name: _rows_of_budget(share, supply[name])
        for name, share in mixture.items()
        if name not in weights
    }
    shared = _share_out(budgets, weights, rows=rows, row_tokens=row_tokens)
    nothing = [name for name, count in shared.items() if not count]
    if nothing:
        raise InputError(f"{', '.join(nothing)} would get less than one of its {rows:,} rows")
    return {name: shared[name] for name in mixture}


def drawn(
    weights: Mapping[str, int], *, supply: Mapping[str, Supply], rows: int
) -> dict[str, Drawn]:
    """What a phase of so many rows reads of each source; of rows, `rows` in all.

    Where weights are no budgets, the last rows of a phase may be one more of this source and one
    less of that.
    """
    return {
        name: Drawn(
            count,
            round(Fraction(count * supply[name].tokens, supply[name].rows)),
            count / supply[name].rows,
        )
        for name, count in apportion(rows, weights).items()
    }


def apportion(count: int, weights: Mapping[str, int]) -> dict[str, int]:
    """`count` in parts proportional to weights, each to within one: the largest remainders.

    Example:
        >>> apportion(10, {"a": 1, "b": 1, "c": 1})
        {'a': 4, 'b': 3, 'c': 3}
    """
    total = sum(weights.values())
    parts = {name: count * weight // total for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: -(count * weights[name] % total))
    for name in by_remainder[: count - sum(parts.values())]:
        parts[name] += 1
    return parts


def describe_sources(sources: Mapping[str, Drawn]) -> list[str]:
    """What a phase reads of each source, a line each, for people."""
    rows = sum(each.rows for each in sources.values())
    return [
        f"{name}: {each.rows:,} rows ({each.rows / rows:.1%}), {human(each.tokens)} tokens, "
        f"{each.epochs:.2f} epochs"
        for name, each in sources.items()
    ]


def _share_out(
    budgets: Mapping[str, int], weights: Mapping[str, int], *, rows: int, row_tokens: int
) -> dict[str, int]:
    """Rows of a phase by source: what budgets ask for, and of what is left by weight.

    Raises:
        InputError: they do not fit.
    """
    asked = sum(budgets.values())
    listed = ", ".join(f"{name} {count:,}" for name, count in budgets.items())
    if weights:
        if rows - asked < len(weights):
            raise InputError(
                f"its budgets of rows ({listed}) leave none of its {rows:,} rows to "
                f"{', '.join(weights)}; make the phase longer or the budgets smaller"
            )
        return dict(budgets) | apportion(rows - asked, weights)
    if abs(rows - asked) > LARGEST_MISFIT * rows:
        less = asked < rows
        raise InputError(
            f"its budgets of rows ({listed}) are {asked:,}, {'less' if less else 'more'} than the "
            f"phase has: {rows:,}. Set its `tokens` to {asked * row_tokens:,}, or "
            + ("give one source a weight, which takes what is left" if less else "ask for less")
        )
    return apportion(rows, budgets)


def _rows_of_budget(share: Share, of: Supply) -> int:
    """The rows of a source that a budget comes to, to the nearest."""
    if share.tokens is not None:
        return round(Fraction(share.tokens * of.rows, of.tokens))
    # As it was written: 0.1 is a tenth, and not the binary fraction nearest to it.
    return round(Fraction(str(share.epochs)) * of.rows)
