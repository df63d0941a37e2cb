"""Objectives: what is hidden, what is asked, and that the loss is the plain formula."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ettin.objectives import ANSWER_OFFSETS, Vocabulary, make_task, summed_loss
from ettin.random_bits import key, keys
from tests.tolerances import BF16, FP64

BOS, EOS, PAD, MASK = 0, 1, 2, 3
SIZE = 200


def vocabulary() -> Vocabulary:
    special = torch.zeros(SIZE, dtype=torch.bool)
    special[:4] = True
    special[190:] = True  # rows that only pad the vocabulary
    return Vocabulary(MASK, special, torch.arange(4, 190))


def stream(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Chunks of BOS, text and EOS, of 3 to 41 tokens, with their boundaries and keys."""
    draw = np.random.default_rng(seed)
    chunks: list[np.ndarray] = []
    while sum(len(chunk) for chunk in chunks) < count:
        text = draw.integers(4, 190, draw.integers(1, 40))
        chunks.append(np.concatenate([[BOS], text, [EOS]]))
    tokens = torch.from_numpy(np.concatenate(chunks))
    boundaries = torch.tensor([0, *np.cumsum([len(chunk) for chunk in chunks])])
    return tokens, boundaries, torch.from_numpy(keys(key(seed), np.arange(len(tokens))))


def task(objective, tokens, boundaries, position_keys, *, rate=0.3):
    return make_task(
        objective,
        tokens=tokens,
        boundaries=boundaries,
        position_keys=position_keys,
        mask_rate=rate,
        vocabulary=vocabulary(),
    )


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.3, 0.9])
def test_masked_tokens_follow_the_rate_and_the_80_10_10_split(rate):
    tokens, boundaries, position_keys = stream(100_000)
    made = task("mlm", tokens, boundaries, position_keys, rate=rate)
    ordinary = int((~vocabulary().special[tokens]).sum())
    labels = len(made.labels)
    assert abs(labels / ordinary - rate) < 4 * np.sqrt(rate * (1 - rate) / ordinary)
    after = made.inputs[made.positions]
    masked = (after == MASK).float().mean().item()
    kept = (after == made.labels).float().mean().item()
    spread = 4 * np.sqrt(0.16 / labels)
    assert abs(masked - 0.8) < spread
    assert abs(kept - 0.1 - 0.1 / 186) < spread


def test_special_tokens_are_never_hidden_nor_used_as_replacement():
    tokens, boundaries, position_keys = stream(50_000)
    made = task("mlm", tokens, boundaries, position_keys, rate=0.9)
    untouched = vocabulary().special[tokens]
    assert torch.equal(made.inputs[untouched], tokens[untouched])
    replaced = made.inputs[made.positions]
    assert (vocabulary().special[replaced] == (replaced == MASK)).all()
    assert set(replaced[replaced != MASK].tolist()) == set(range(4, 190))


def test_labels_are_the_true_tokens_and_nothing_else_changes():
    tokens, boundaries, position_keys = stream(5000)
    made = task("mlm", tokens, boundaries, position_keys)
    assert torch.equal(made.labels, tokens[made.positions])
    others = torch.ones_like(tokens, dtype=torch.bool)
    others[made.positions] = False
    assert torch.equal(made.inputs[others], tokens[others])


def test_a_row_is_masked_alike_alone_and_in_a_batch():
    tokens, boundaries, position_keys = stream(2000)
    whole = task("mlm", tokens, boundaries, position_keys)
    cut = int(boundaries[7])
    alone = task("mlm", tokens[:cut], boundaries[:8], position_keys[:cut])
    assert torch.equal(alone.inputs, whole.inputs[:cut])
    assert torch.equal(alone.positions, whole.positions[whole.positions < cut])


def test_mntp_asks_for_the_same_tokens_one_position_earlier_in_the_same_chunk():
    tokens, boundaries, position_keys = stream(5000)
    mlm = task("mlm", tokens, boundaries, position_keys, rate=0.5)
    mntp = task("mntp", tokens, boundaries, position_keys, rate=0.5)
    assert torch.equal(mntp.inputs, mlm.inputs)
    assert torch.equal(mntp.labels, mlm.labels)
    assert torch.equal(mntp.positions + 1, mlm.positions)
    chunk = torch.bucketize(torch.arange(len(tokens)), boundaries[1:], right=True)
    assert torch.equal(chunk[mntp.positions], chunk[mlm.positions])


def test_clm_asks_for_every_next_token_of_the_same_chunk():
    tokens, boundaries, position_keys = stream(3000)
    made = task("clm", tokens, boundaries, position_keys)
    assert torch.equal(made.inputs, tokens)
    assert torch.equal(made.labels, tokens[made.positions + 1])
    assert BOS not in made.labels
    assert len(made.labels) == len(tokens) - (len(boundaries) - 1)
    assert int((made.labels == EOS).sum()) == len(boundaries) - 1


@pytest.mark.parametrize("objective", ["mlm", "clm", "mntp"])
def test_the_offset_leads_from_the_position_read_to_the_token_asked_for(objective):
    tokens, boundaries, position_keys = stream(3000)
    made = task(objective, tokens, boundaries, position_keys)
    assert torch.equal(tokens[made.positions + ANSWER_OFFSETS[objective]], made.labels)


def test_empty_chunks_and_single_tokens_ask_for_nothing():
    tokens = torch.tensor([BOS, BOS, 5])
    boundaries = torch.tensor([0, 1, 1, 3, 3])
    made = task("clm", tokens, boundaries, torch.zeros(3, dtype=torch.int64))
    assert made.positions.tolist() == [1]


@pytest.mark.parametrize("labels", [0, 1, 255, 256, 700])
def test_the_summed_loss_and_its_gradients_are_those_of_the_plain_formula(labels):
    generator = torch.Generator().manual_seed(labels)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, dtype=torch.float64, generator=generator).requires_grad_()

    features, weight, bias = draw(labels, 16), draw(SIZE, 16), draw(SIZE)
    right = torch.randint(0, SIZE, (labels,), generator=generator)
    inputs = (features, weight, bias)
    loss = summed_loss(*inputs, right)
    gradients = torch.autograd.grad(loss / 7, inputs)
    plain = F.cross_entropy(features @ weight.T + bias, right, reduction="sum")
    expected = torch.autograd.grad(plain / 7, inputs)
    assert torch.allclose(loss, plain, rtol=FP64)
    for gradient, reference in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, reference, atol=FP64, rtol=FP64)


def test_under_autocast_the_loss_stays_fp32_and_near():
    features, weight, bias = torch.randn(300, 64), torch.randn(90, 64) / 8, torch.zeros(90)
    labels = torch.randint(0, 90, (300,))
    exact = summed_loss(features, weight, bias, labels)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = summed_loss(features, weight, bias, labels)
    assert rounded.dtype == torch.float32
    assert rounded != exact
    assert abs(rounded / exact - 1) < BF16
