"""Shares of a mixture: weights, tokens and epochs come to exact rows, for every phase and rank."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin.data.order import WINDOW_ROWS, Order, make_order
from ettin.errors import InputError
from ettin.fields import Share
from ettin.recipe_file import load_recipe
from ettin.recipe_file import resolve as complete
from ettin.shares import (
    LARGEST_MISFIT,
    Supply,
    apportion,
    describe_sources,
    drawn,
    has_budgets,
    resolve,
    weights_of,
)
from tests.recipes import tiny_recipe, tiny_values, write_recipe

FEW = settings(deadline=None, max_examples=40)
"""An order of thousands of rows takes its time; the cases that matter are small."""
SUPPLY = {
    "books": Supply(1000, 1_000_000),
    "web": Supply(9000, 8_100_000),
    "code": Supply(300, 300_000),
}


def shares(given: dict[str, Any]) -> dict[str, Share]:
    """A mixture as a recipe has it."""
    return tiny_recipe(mixture=given).mixture


# --- what people write


def test_weights_alone_are_taken_as_they_are_written_whatever_the_phase() -> None:
    mixture = shares({"web": 3, "books": {"weight": "1k"}})
    assert resolve(mixture, supply=SUPPLY, rows=77) == {"web": 3, "books": 1000}
    assert not has_budgets(mixture)


def test_no_mixture_takes_all_sources_in_proportion_to_their_rows() -> None:
    assert resolve({}, supply=SUPPLY, rows=77) == {"books": 1000, "web": 9000, "code": 300}


def test_budgets_are_rows_of_their_source_and_weights_share_what_is_left() -> None:
    mixture = shares({"code": {"epochs": 3}, "books": {"tokens": "250k"}, "web": 1})
    found = resolve(mixture, supply=SUPPLY, rows=5000)
    assert found == {"code": 900, "books": 250, "web": 3850}
    both = resolve(shares({"code": {"epochs": 3}, "books": 1, "web": 2}), supply=SUPPLY, rows=1801)
    assert both == {"code": 900, "books": 300, "web": 601}


def test_tokens_are_those_of_the_source_and_not_of_full_rows() -> None:
    # Rows of `web` hold 900 tokens, rows of `books` 1,000: equal tokens are unequal rows.
    mixture = shares({"books": {"tokens": "900k"}, "web": {"tokens": "900k"}})
    found = resolve(mixture, supply=SUPPLY, rows=1900)
    assert found == {"books": 900, "web": 1000}
    told = drawn(found, supply=SUPPLY, rows=1900)
    assert [told[name].tokens for name in found] == [900_000, 900_000]


def test_epochs_below_one_sample_down_and_above_one_up() -> None:
    mixture = shares({"web": {"epochs": "10 %"}, "code": {"epochs": 2.5}, "books": {"epochs": 0.1}})
    found = resolve(mixture, supply=SUPPLY, rows=1750)
    assert found == {"web": 900, "code": 750, "books": 100}
    assert [each.epochs for each in drawn(found, supply=SUPPLY, rows=1750).values()] == [
        0.1, 2.5, 0.1,
    ]  # fmt: skip


def test_budgets_alone_are_scaled_to_a_phase_that_they_nearly_fill() -> None:
    mixture = shares({"books": {"epochs": 1}, "code": {"epochs": 2}})
    assert resolve(mixture, supply=SUPPLY, rows=1600) == {"books": 1000, "code": 600}
    assert resolve(mixture, supply=SUPPLY, rows=1640) == {"books": 1025, "code": 615}


@pytest.mark.parametrize(
    ("given", "rows", "message"),
    [
        ({"boks": 1}, 100, "no source 'boks'; did you mean 'books'"),
        (
            {"books": {"epochs": 1}, "code": {"epochs": 2}},
            1800,
            r"\(books 1,000, code 600\) are 1,600, less than .* 1,800\. .* to 1,600, or give one",
        ),
        (
            {"books": {"tokens": "2M"}},
            1800,
            r"are 2,000, more than the phase has: 1,800\. .* or ask for less",
        ),
        (
            {"books": {"epochs": 2}, "web": 1},
            2000,
            "leave none of its 2,000 rows to web; make",
        ),
        ({"books": {"tokens": 300}, "web": 1}, 50, "books would get less than one of its 50 rows"),
        ({"books": {"epochs": 1}, "web": 1, "code": "1M"}, 1100, "web would get less than one"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], rows: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(shares(given), supply=SUPPLY, rows=rows)


def test_a_source_without_training_rows_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="empty: the corpus has no rows of it"):
        resolve(shares({"empty": 1}), supply={"empty": Supply(0, 0)}, rows=10)


def test_a_refusal_names_the_phase_and_its_length() -> None:
    recipe = tiny_recipe(mixture={"code": {"epochs": 9}})
    with pytest.raises(InputError, match=r"of pretraining: .* Set its `tokens` to 172,800"):
        weights_of(recipe, recipe.phases[0], SUPPLY)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": {}}, "mixture.a: expected one of weight, tokens, epochs, got none"),
        ({"a": {"weight": 1, "epochs": 2}}, "mixture.a: expected one of .*, got weight and epochs"),
        ({"a": {"tokns": 2}}, r"mixture.a.tokns: unknown key; did you mean 'tokens'\?"),
        ({"a": {"tokens": 2.5}}, "mixture.a.tokens: expected a whole number, got 2.5"),
        ({"a": {"epochs": 0}}, "mixture.a.epochs: Input should be greater than 0"),
        ({"a": 1.5}, "mixture.a.weight: expected a whole number, got 1.5"),
        ({"a": None}, "mixture.a: expected one of weight, tokens, epochs, got none"),
        ({"a": [1]}, "mixture.a.weight: expected a number"),
    ],
)
def test_shares_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    for values in (tiny_values(mixture=given), tiny_values(phase_mixture=given)):
        with pytest.raises(InputError, match=message):
            complete(values)


def test_shares_are_set_on_the_command_line_and_survive_the_file_of_a_run(tmp_path: Any) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", mixture={"web": 3, "books": {"epochs": 2}})
    words = ["mixture.books=4", "mixture.web.tokens=2.5B", "mixture.code={epochs: 50 %}"]
    recipe = load_recipe(path, overrides=words)
    assert recipe.mixture == {
        "web": Share(tokens=2_500_000_000), "books": Share(weight=4), "code": Share(epochs=0.5),
    }  # fmt: skip
    stored = recipe.model_dump(mode="json")
    assert stored["mixture"] == {
        "web": {"tokens": 2_500_000_000}, "books": 4, "code": {"epochs": 0.5},
    }  # fmt: skip
    assert complete(stored) == recipe
    path = write_recipe(tmp_path / "phase.yaml")
    words = ["phases.pretraining.mixture.web.epochs=2", "phases.0.mixture.books=1"]
    found = load_recipe(path, overrides=words).phases[0].mixture
    assert found == {"web": Share(epochs=2), "books": Share(weight=1)}


# --- what is realised


@st.composite
def phases(draw: st.DrawFn) -> tuple[dict[str, Share], dict[str, Supply], int, dict[str, int]]:
    """Random sources, shares that fit a random phase, its rows, and the weights they come to."""
    count = draw(st.integers(1, 5))
    supply = {}
    mixture = {}
    for number in range(count):
        rows = draw(st.integers(1, 40) | st.integers(40, 3000))
        supply[f"s{number}"] = Supply(rows, rows * draw(st.integers(2, 64)))
        kind = draw(st.sampled_from(["weight", "tokens", "epochs"]))
        if kind == "weight":
            mixture[f"s{number}"] = Share(weight=draw(st.integers(1, 20)))
        elif kind == "epochs":
            epochs = draw(st.floats(0.05, 4, allow_nan=False))
            mixture[f"s{number}"] = Share(epochs=max(round(epochs, 2), 1 / rows))
        else:
            tokens = supply[f"s{number}"].tokens
            mixture[f"s{number}"] = Share(
                tokens=draw(st.integers(max(1, tokens // 20), 3 * tokens))
            )
    fixed = 0
    for name, share in mixture.items():
        if share.weight is None:
            alone = {name: share, "rest": Share(weight=1)}
            try:
                found = resolve(alone, supply={**supply, "rest": Supply(1, 1)}, rows=10**6)
            except InputError:  # less than a row
                mixture[name] = Share(tokens=supply[name].tokens)
                found = {name: supply[name].rows}
            fixed += found[name]
    weighted = any(share.weight for share in mixture.values())
    rows = fixed + draw(st.integers(200, 4000)) if weighted else max(1, fixed)
    return mixture, supply, rows, resolve(mixture, supply=supply, rows=rows)


def order_for(
    mixture: dict[str, Share], supply: dict[str, Supply], rows: int, weights: dict[str, int]
) -> Order:
    """The order of a phase, as `phase_orders.order_of` makes it."""
    return make_order(
        seed=21, phase="pretraining", rows={name: each.rows for name, each in supply.items()},
        mixture=weights, pass_rows=rows if has_budgets(mixture) else None,
    )  # fmt: skip


@given(made=phases())
def test_budgets_come_to_rows_that_add_up_to_the_phase(made: Any) -> None:
    mixture, supply, rows, weights = made
    assert list(weights) == list(mixture)
    if not has_budgets(mixture):
        return
    assert sum(weights.values()) == rows
    for name, share in mixture.items():
        exact = share.weight is None and any(each.weight for each in mixture.values())
        if exact and share.epochs is not None:
            assert abs(weights[name] - share.epochs * supply[name].rows) <= 0.51
        elif exact and share.tokens is not None:
            asked = share.tokens * supply[name].rows / supply[name].tokens
            assert abs(weights[name] - asked) <= 0.51


@FEW
@given(made=phases())
def test_a_phase_with_budgets_reads_exactly_its_rows_and_none_twice_in_an_epoch(made: Any) -> None:
    mixture, supply, rows, weights = made
    if not has_budgets(mixture):
        return
    seen = order_for(mixture, supply, rows, weights).rows(0, rows)
    for number, (name, count) in enumerate(weights.items()):
        mine = seen.source == number
        assert mine.sum() == count
        pairs = set(zip(seen.epoch[mine].tolist(), seen.row[mine].tolist(), strict=True))
        assert len(pairs) == count
        # Every epoch but the last is whole: no row is lost.
        for epoch in range(count // supply[name].rows):
            assert sum(each == epoch for each, _ in pairs) == supply[name].rows


@FEW
@given(made=phases(), data=st.data())
def test_proportions_keep_the_stated_bound_at_windows_and_inside(made: Any, data: Any) -> None:
    mixture, supply, rows, weights = made
    order = order_for(mixture, supply, rows, weights)
    cycle = order.pass_rows or sum(each.rows for each in supply.values())
    total = sum(weights.values())
    first = WINDOW_ROWS * data.draw(st.integers(0, (cycle - 1) // WINDOW_ROWS))
    size = min(WINDOW_ROWS, cycle - first)
    inside = data.draw(st.integers(0, size))
    seen = order.rows(0, first + size).source
    for number, weight in enumerate(weights.values()):
        mine = np.concatenate([[0], np.cumsum(seen == number)])
        for border in (first, first + size) if len(weights) > 1 else ():
            share = border * weight / total
            assert share - 1 < mine[border] <= share + number
        held = mine[first + size] - mine[first]
        so_far = mine[first + inside] - mine[first]
        assert max(0, held - (size - inside)) <= so_far <= min(held, inside)


@FEW
@given(made=phases(), begin=st.integers(0, 2000))
def test_positions_are_the_inverse_of_rows_for_every_mixture(made: Any, begin: int) -> None:
    order = order_for(*made)
    seen = order.rows(begin, 6)
    for number, source in enumerate(order.sources):
        mine = np.flatnonzero(seen.source == number)
        epochs = int(seen.epoch[mine].max(initial=0)) + 1
        found = order.positions(source.name, seen.row[mine], epochs=epochs)
        assert (found[np.arange(len(mine)), seen.epoch[mine]] == begin + mine).all()


@settings(FEW, max_examples=15)
@given(made=phases(), batch=st.integers(1, 40), step=st.integers(0, 60))
def test_slices_of_any_number_of_ranks_unite_to_the_same_batch(
    made: Any, batch: int, step: int
) -> None:
    order = order_for(*made)
    whole = order.rows(step * batch, batch)
    for ranks in (1, 2, 3, 4, 8):
        borders = [batch * rank // ranks for rank in range(ranks + 1)]
        parts = [order.rows(step * batch + first, end - first) for first, end in pairwise(borders)]
        for column, expected in zip(zip(*parts, strict=True), whole, strict=True):
            assert (np.concatenate(column) == expected).all()


@given(
    count=st.integers(0, 10**6),
    weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=6).filter(any),
)
def test_apportioned_parts_add_up_and_are_within_one_of_the_exact_ones(
    count: int, weights: list[int]
) -> None:
    named = {str(number): weight for number, weight in enumerate(weights)}
    parts = apportion(count, named)
    assert sum(parts.values()) == count
    for name, weight in named.items():
        assert abs(parts[name] - count * weight / sum(weights)) < 1


def test_sources_are_told_with_rows_tokens_and_epochs() -> None:
    told = describe_sources(drawn({"books": 1, "web": 3}, supply=SUPPLY, rows=4000))
    assert told == [
        "books: 1,000 rows (25.0%), 1M tokens, 1.00 epochs",
        "web: 3,000 rows (75.0%), 2.7M tokens, 0.33 epochs",
    ]


def test_the_tolerance_of_budgets_is_the_one_that_is_documented() -> None:
    assert LARGEST_MISFIT == 0.05
