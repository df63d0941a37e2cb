"""The ledger's hash: sums that any split of a batch adds up to, and that name the row at fault."""

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from ettin.data import ledger
from ettin.data.order import Rows


def batch(count: int, seed: int = 0) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Made-up rows, their tokens, and how many each has."""
    draw = np.random.default_rng(seed)
    rows = Rows(*(draw.integers(0, 1000, count) for _ in range(3)))
    row_tokens = draw.integers(1, 40, count)
    return rows, draw.integers(0, 60_000, int(row_tokens.sum())), row_tokens


def hash_of(rows: Rows, tokens: np.ndarray, row_tokens: np.ndarray) -> ledger.StepHash:
    return ledger.hash_rows(rows, np.arange(len(row_tokens)), tokens, row_tokens)


def slice_of(rows, tokens, row_tokens, which):
    """What a process adds that trains on some places of a batch."""
    ends = np.cumsum(row_tokens)
    pieces = [tokens[ends[place] - row_tokens[place] : ends[place]] for place in which]
    own = Rows(*(column[which] for column in rows))
    joined = np.concatenate([np.zeros(0, np.int64), *pieces])
    return ledger.hash_rows(own, np.array(which, dtype=np.int64), joined, row_tokens[which])


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 100))
def test_the_sums_of_any_number_of_processes_are_those_of_one(count, processes, seed):
    made = batch(count, seed)
    for places in (
        [list(range(rank, count, processes)) for rank in range(processes)],
        [list(part) for part in np.array_split(np.arange(count), processes)],
    ):
        total = sum((slice_of(*made, own) for own in places if own), ledger.StepHash())
        assert total == hash_of(*made)


def test_the_hash_of_a_row_is_the_one_that_is_documented():
    rows = Rows(*(np.array([each], dtype=np.int64) for each in (1, 2, 3)))
    tokens = np.array([7, 60_000])
    head = np.array([0, 1, 2, 3], "<i8").tobytes() + np.array([7, 60_000], "<i4").tobytes()
    expected = xxhash.xxh3_64_intdigest(head)
    sums = hash_of(rows, tokens, np.array([2]))
    assert sums == ledger.StepHash(expected, expected)
    text = "before" + f"{expected:016x}" * 2
    assert ledger.chain("before", sums) == xxhash.xxh3_128_hexdigest(text.encode())


@pytest.mark.parametrize("column", [0, 1, 2, 3])
def test_another_source_epoch_row_or_token_at_any_place_is_told_from_all_others(column):
    rows, tokens, row_tokens = batch(9)
    sums = hash_of(rows, tokens, row_tokens)
    ends = np.cumsum(row_tokens)
    for place in range(9):
        changed, other = [each.copy() for each in rows], tokens.copy()
        if column < 3:
            changed[column][place] += 1
        else:
            other[ends[place] - 1] += 1
        recorded = hash_of(Rows(*changed), other, row_tokens)
        assert ledger.differing_place(recorded, sums, 9) == place


def test_two_rows_that_changed_places_differ_and_no_single_place_is_named():
    rows, tokens, row_tokens = batch(6)
    row_tokens[:] = 4
    tokens = tokens[:24] if len(tokens) >= 24 else np.arange(24)
    swapped = np.array([0, 4, 2, 3, 1, 5])
    other = Rows(*(column[swapped] for column in rows))
    moved = tokens.reshape(6, 4)[swapped].ravel()
    one, two = hash_of(rows, tokens, row_tokens), hash_of(other, moved, row_tokens)
    assert one != two
    assert ledger.differing_place(two, one, 6) is None
    assert ledger.differing_place(one, one, 6) is None


def test_a_chain_depends_on_everything_before():
    steps = [hash_of(*batch(4, seed)) for seed in range(3)]

    def end(of):
        running = ledger.EMPTY
        for each in of:
            running = ledger.chain(running, each)
        return running

    assert len({end(steps), end(steps[::-1]), end(steps[1:]), end(steps[:2])}) == 4
