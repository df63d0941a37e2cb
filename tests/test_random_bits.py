"""The one generator: equal on NumPy and PyTorch, sensitive to every part, uniform."""

import numpy as np
import pytest
import torch

from ettin.random_bits import key, keys, name_key, nonnegative, scramble, threshold

COUNTERS = np.random.default_rng(7).integers(-(2**63), 2**63 - 1, 4096, dtype=np.int64)


def test_numpy_and_torch_give_the_same_bits():
    assert np.array_equal(scramble(COUNTERS), scramble(torch.from_numpy(COUNTERS)).numpy())


def test_the_bits_are_those_of_splitmix64():
    # First outputs of SplitMix64 seeded with 0, as published with xoshiro's reference code.
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    state = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert scramble(state.view(np.int64)).view(np.uint64).tolist() == expected


def test_compiled_scramble_equals_eager():
    counters = torch.from_numpy(COUNTERS)
    compiled = torch.compile(scramble, backend="aot_eager")
    assert torch.equal(compiled(counters), scramble(counters))


def test_many_keys_at_once_equal_single_keys():
    parts = np.array([0, 1, -1, 2**62], dtype=np.int64)
    assert keys(key(3, 4), parts).tolist() == [key(3, 4, int(part)) for part in parts]


def test_every_part_of_a_key_and_its_place_matter():
    different = {key(1, 2), key(2, 1), key(1, 2, 0), key(1), key(1, 3), key(name_key("a"), 2)}
    assert len(different) == 6


def test_a_part_beyond_64_bits_is_refused():
    with pytest.raises(OverflowError, match="64 bits"):
        key(1 << 64)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.8, 1.0])
def test_the_share_below_a_threshold_is_the_rate(rate):
    draws = nonnegative(scramble(np.arange(200_000, dtype=np.int64)))
    share = (draws < threshold(rate)).mean()
    assert abs(share - rate) <= 4 * np.sqrt(rate * (1 - rate) / 200_000) + 1e-12
