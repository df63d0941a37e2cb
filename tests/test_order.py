"""The order: a bijection every epoch, exact in proportion, invertible, frozen, and in O(batch)."""

import time
from collections import Counter

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from ettin.data.order import WINDOW_ROWS, Order, Source, make_order, permute
from ettin.errors import InputError
from ettin.random_bits import key

SIZES = [1, 2, 3, 4, 5, 7, 15, 16, 17, 63, 64, 65, 101, 255, 256, 257, 1021, 4097, 65_536, 65_537]

MIXED = Order(21, "pretraining", (Source("a", 5000, 7), Source("b", 3000, 2), Source("c", 20, 1)))
NATURAL = Order(3, "pretraining", (Source("a", 50, 50), Source("b", 30, 30), Source("c", 21, 21)))

GOLDEN = "1af9ec2e4036727490e9ad7ab9a22f82"


def uniform(values, size, stream):
    return permute(values, np.full_like(values, size), np.full_like(values, stream))


@pytest.mark.parametrize("size", SIZES)
def test_permute_is_a_bijection_for_every_size_and_invert_undoes_it(size):
    values = np.arange(size, dtype=np.int64)
    for seed in range(3):
        streams = np.full(size, key(seed, size), np.int64)
        sizes = np.full(size, size, np.int64)
        permuted = permute(values, sizes, streams)
        assert np.array_equal(np.sort(permuted), values)
        assert np.array_equal(permute(permuted, sizes, streams, invert=True), values)


def test_permutation_is_statistically_sound():
    # Limits from 200,000 rows in batches of 512: ideal chi² over 64 blocks 63 ± 11, ideal
    # standard deviation of even rows a batch 11.3, no correlation at any lag.
    size, batch = 200_000, 512
    permuted = uniform(np.arange(size, dtype=np.int64), size, key(1))
    batches = permuted[: size // batch * batch].reshape(-1, batch)
    counts = [np.bincount(each * 64 // size, minlength=64) for each in batches]
    chi_squared = np.mean([((count - 8) ** 2 / 8).sum() for count in counts])
    assert 60 < chi_squared < 66
    assert 10 < (batches % 2 == 0).sum(1).std() < 12.6
    correlations = [abs(np.corrcoef(permuted[:-lag], permuted[lag:])[0, 1]) for lag in range(1, 50)]
    assert max(correlations) < 0.012


@pytest.mark.parametrize("rows", [1, 2, 16, 17, 257, 1000])
def test_one_source_is_seen_once_an_epoch_in_another_order(rows):
    order = Order(21, "pretraining", (Source("text", rows, rows),))
    epochs = [order.rows(epoch * rows, rows) for epoch in range(3)]
    for number, seen in enumerate(epochs):
        assert np.array_equal(np.sort(seen.row), np.arange(rows))
        assert (seen.epoch == number).all()
    if rows > 16:
        assert not np.array_equal(epochs[0].row, epochs[1].row)


def test_several_sources_in_proportion_are_each_seen_once_a_pass():
    for epoch in range(3):
        seen = NATURAL.rows(epoch * 101, 101)
        assert len(set(zip(seen.source.tolist(), seen.row.tolist(), strict=True))) == 101
        assert (seen.epoch == epoch).all()


def test_proportions_are_exact():
    # 8,020 rows a pass: the first window border lies at 4,096, then at 8,020.
    for count in (4096, 8020):
        seen = Counter(MIXED.rows(0, count).source.tolist())
        for number, weight in enumerate((7, 2, 1)):
            assert abs(seen[number] - count * weight / 10) <= 2


def test_any_slice_equals_the_same_part_of_the_whole():
    whole = MIXED.rows(0, 9000)
    for start, count in ((0, 1), (4095, 2), (8019, 3), (1234, 777)):
        part = MIXED.rows(start, count)
        for column, expected in zip(part, whole, strict=True):
            assert np.array_equal(column, expected[start : start + count])


@pytest.mark.parametrize("order", [MIXED, NATURAL], ids=["mixed", "natural"])
def test_positions_invert_rows(order):
    rows = order.rows(0, 9000)
    for position in range(0, 9000, 97):
        source, epoch, row = (int(column[position]) for column in rows)
        found = order.positions(order.sources[source].name, np.array([row]), epochs=epoch + 1)
        assert found[0, epoch] == position


@given(count=st.integers(1, 12_000))
def test_epochs_until_covers_every_epoch_touched(count):
    rows = MIXED.rows(0, count)
    for number, source in enumerate(MIXED.sources):
        touched = rows.epoch[rows.source == number]
        if len(touched):
            assert MIXED.epochs_until(source.name, count) >= touched.max() + 1


def test_the_cost_of_a_step_does_not_grow_with_its_position_or_the_corpus():
    order = Order(21, "pretraining", (Source("a", 10**12, 3), Source("b", 10**11 + 7, 1)))
    order.rows(0, 2048)
    started = time.perf_counter()
    rows = order.rows(10**12, 2048)
    assert time.perf_counter() - started < 0.5
    assert all(column.nbytes == 8 * 2048 for column in rows)
    assert rows.row.min() >= 0


def test_seed_phase_and_source_name_change_the_order():
    def first(seed: int, phase: str, name: str) -> list[int]:
        return Order(seed, phase, (Source(name, 1000, 1),)).rows(0, 50).row.tolist()

    orders = [first(1, "p", "a"), first(2, "p", "a"), first(1, "q", "a"), first(1, "p", "b")]
    assert all(one != other for one in orders for other in orders if one is not other)


def test_adding_a_source_does_not_reshuffle_the_others():
    size = 20_000
    alone = Order(1, "p", (Source("a", size, 1),)).rows(0, size).row
    both = Order(1, "p", (Source("a", size, 1), Source("b", size, 1))).rows(0, 2 * size)
    beside = both.row[both.source == 0]
    # Windows move a row by less than their own length; beyond that the sequence is the same.
    moved = np.abs(np.argsort(alone) - np.argsort(beside))
    assert moved.max() < WINDOW_ROWS


def test_the_first_ten_thousand_rows_never_change():
    order = Order(
        21, "pretraining", (Source("books", 700_001, 700_001), Source("web", 299_999, 299_999))
    )
    columns = order.rows(0, 10_000)
    digest = xxhash.xxh3_128(b"".join(column.astype("<i8").tobytes() for column in columns))
    assert digest.hexdigest() == GOLDEN


def test_a_mixture_of_unknown_sources_is_refused():
    with pytest.raises(InputError, match="did you mean 'books'"):
        make_order(seed=1, phase="p", rows={"books": 3}, mixture={"boks": 1})


def test_positions_of_what_is_not_there_are_refused():
    with pytest.raises(InputError, match="no source"):
        MIXED.positions("z", np.array([0]), epochs=1)
    with pytest.raises(InputError, match="has rows 0 to 19"):
        MIXED.positions("c", np.array([3, 20]), epochs=1)
