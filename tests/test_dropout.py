"""Dropout: pure functions of token, layer and channel, at the right rate, on the right values."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from ettin.model.transformer import Dropout
from ettin.random_bits import STRIDE, key, keys, scramble
from tests.small_model import model, stream
from tests.tolerances import FP32, STANDARD_ERRORS


def test_dropout_decisions_do_not_depend_on_the_layout() -> None:
    ours, lengths = model(), [30, 7, 45]
    tokens, boundaries = stream(lengths)
    token_keys = keys(key(5), torch.arange(len(tokens)))
    packed = ours(tokens, boundaries, visibility="causal", dropout=Dropout(0.3, token_keys))
    parts = zip(torch.split(tokens, lengths), torch.split(token_keys, lengths), strict=True)
    alone = [
        ours(part, torch.tensor([0, len(part)]), visibility="causal", dropout=Dropout(0.3, own))
        for part, own in parts
    ]
    # A different decision would move hidden states by tenths.
    assert (packed - torch.cat(alone)).abs().max() <= FP32
    scales = Dropout(0.3, token_keys).scales(layer=2, channels=32, dtype=torch.float32)
    own = Dropout(0.3, token_keys[30:37]).scales(layer=2, channels=32, dtype=torch.float32)
    assert torch.equal(scales[30:37], own)


@pytest.mark.parametrize("channels", [32, 30, 3])
def test_dropout_rate_and_scale_are_right(channels: int) -> None:
    tokens, rate = 20_000, 0.1
    dropout = Dropout(rate, keys(key(9), torch.arange(tokens)))
    scales = dropout.scales(layer=1, channels=channels, dtype=torch.float32)
    dropped = scales == 0
    assert scales.shape == (tokens, channels)
    assert sorted(set(scales[~dropped].tolist())) == pytest.approx([65_536 / (65_536 - 6_554)])
    for count, share in (
        (dropped.numel(), dropped.float().mean()),
        *((tokens, each) for each in dropped.float().mean(0)),
    ):
        assert abs(float(share) - rate) <= STANDARD_ERRORS * math.sqrt(rate * (1 - rate) / count)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_is_one_16_bit_comparison_for_each_channel(rate: float) -> None:
    """The definition, in NumPy: what may never change between two releases."""
    # So many that each of the 65,536 numbers comes up, those next to the threshold included.
    token_keys = keys(key(9), np.arange(100_000))
    found = Dropout(rate, torch.from_numpy(token_keys)).scales(
        layer=2, channels=10, dtype=torch.float32
    )
    counters = keys(key(2), token_keys)[:, None] + np.arange(3) * STRIDE
    lanes = scramble(counters).view(np.int16)[:, :10].astype(np.int64) + 32_768
    assert np.array_equal(found.numpy() == 0, lanes < round(rate * 65_536))


def test_dropout_falls_on_the_output_projection_of_each_layer_by_its_own_index() -> None:
    ours = model()
    tokens, boundaries = stream([20])
    dropout = Dropout(0.4, keys(key(1), torch.arange(20)))
    dropped = ours(tokens, boundaries, visibility="causal", dropout=dropout)

    def by_hand(index: int) -> Callable[[nn.Module, object, torch.Tensor], torch.Tensor]:
        scales = dropout.scales(layer=index, channels=32, dtype=torch.float32)
        return lambda _module, _inputs, projected: projected * scales

    for index, layer in enumerate(ours.model.layers):
        layer.get_submodule("attn.Wo").register_forward_hook(by_hand(index))
    expected = ours(tokens, boundaries, visibility="causal")
    assert (dropped - expected).abs().max() <= FP32


def test_dropout_differs_between_layers_channels_and_keys() -> None:
    dropout = Dropout(0.5, keys(key(9), torch.arange(20_000)))
    first, second = (
        dropout.scales(layer=layer, channels=8, dtype=torch.float32) > 0 for layer in (0, 1)
    )
    columns = torch.cat([first, second, first.roll(1, 0)], 1).float()
    agreement = torch.corrcoef(columns.T) - torch.eye(24)
    # 276 pairs: the largest of them lies about 3 standard errors out; 5 happens once in 6,000.
    assert agreement.abs().max() <= 5 / math.sqrt(20_000)


def test_dropout_does_not_depend_on_how_many_hashes_fit_in_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dropout = Dropout(0.5, keys(key(9), torch.arange(300)))
    whole = dropout.scales(layer=0, channels=32, dtype=torch.float32)
    monkeypatch.setattr("ettin.model.transformer.HASHES_AT_A_TIME", 56)
    assert torch.equal(dropout.scales(layer=0, channels=32, dtype=torch.float32), whole)


def test_without_dropout_nothing_is_random_whatever_the_mode() -> None:
    ours = model().train()
    tokens, boundaries = stream([20])
    plain = ours(tokens, boundaries, visibility="causal")
    assert torch.equal(plain, ours.eval()(tokens, boundaries, visibility="causal"))
    token_keys = keys(key(1), torch.arange(20))
    for rate, same in ((0.0, True), (0.1, False)):
        dropped = ours(tokens, boundaries, visibility="causal", dropout=Dropout(rate, token_keys))
        assert torch.equal(plain, dropped) is same
