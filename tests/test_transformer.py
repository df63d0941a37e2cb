"""The transformer: names, counts, parity with `transformers`, isolation, initial weights."""

import math
from typing import Any, get_args

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    ModernBertConfig,
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    ModernBertForMaskedLM,
    PreTrainedModel,
)

from ettin.errors import InputError
from ettin.model.transformer import Dropout, Transformer
from ettin.random_bits import key, keys
from ettin.shape import Visibility
from tests.recipes import shape_of
from tests.small_model import GLOBAL_THETA, LOCAL_THETA, REACH, SHAPE, model, stream
from tests.tolerances import BF16, FP32, STANDARD_ERRORS

LENGTHS = [40, 1, 0, 2 * REACH, 2 * REACH + 1, 2 * REACH + 2, REACH + 1, REACH + 2, 70]
PUBLISHED = {
    "17m": 16_913_600,
    "32m": 32_081_344,
    "68m": 68_457_664,
    "150m": 149_655_232,
    "400m": 395_881_664,
    "1b": 1_031_314_112,
}


def counterpart(ours: Transformer, visibility: Visibility, implementation: str) -> PreTrainedModel:
    """`transformers`' model of the same weights, windows in its own convention."""
    shape = ours.shape
    settings: dict[str, Any] = {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": GLOBAL_THETA},
            "sliding_attention": {"rope_type": "default", "rope_theta": LOCAL_THETA},
        },
        "attn_implementation": implementation,
        **dict.fromkeys(
            ["pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"], 0
        ),
    }
    weights = {**ours.state_dict(), "decoder.weight": ours.output_weight}
    theirs: PreTrainedModel
    if visibility == "bidirectional":
        theirs = ModernBertForMaskedLM(
            ModernBertConfig(**settings, local_attention=2 * shape.local_reach)
        )
    else:
        # `sliding_window` is half of it here, and counts the query itself.
        theirs = ModernBertDecoderForCausalLM(
            ModernBertDecoderConfig(**settings, local_attention=2 * (shape.local_reach + 1))
        )
        assert theirs.config.sliding_window == shape.local_reach + 1
        for name in [name for name in weights if name.endswith("Wqkv.weight")]:
            parts = weights.pop(name).chunk(3)
            for letter, part in zip("qkv", parts, strict=True):
                weights[name.replace("Wqkv", f"{letter}_proj")] = part
        for name in [name for name in weights if name.startswith("head.")]:
            weights[f"lm_{name}"] = weights.pop(name)
    theirs.load_state_dict(weights, strict=True)
    theirs.train(mode=False)
    return theirs


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_the_published_numbers_of_parameters(size: str) -> None:
    shape = shape_of(size, vocab_size=50_368)
    with torch.device("meta"):
        made = Transformer(shape, global_rope_theta=1e4, local_rope_theta=1e4)
        theirs = ModernBertForMaskedLM(
            ModernBertConfig(
                vocab_size=shape.vocab_size, hidden_size=shape.hidden_size,
                intermediate_size=shape.intermediate_size,
                num_hidden_layers=shape.num_hidden_layers,
                num_attention_heads=shape.num_attention_heads,
            )
        )  # fmt: skip
    assert sum(parameter.numel() for parameter in made.parameters()) == PUBLISHED[size]
    assert shape.parameters == PUBLISHED[size]
    assert theirs.num_parameters() == PUBLISHED[size]


def test_parameters_are_named_as_in_transformers() -> None:
    theirs = counterpart(model(), "bidirectional", "eager").state_dict()
    ours = model().state_dict()
    assert ours.keys() == theirs.keys() - {"decoder.weight"}
    assert {name: value.shape for name, value in ours.items()} == {
        name: theirs[name].shape for name in ours
    }


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("visibility", get_args(Visibility))
def test_packed_stream_equals_transformers_one_document_at_a_time(
    visibility: Visibility, implementation: str
) -> None:
    ours = model()
    theirs = counterpart(ours, visibility, implementation)
    tokens, boundaries = stream(LENGTHS)
    with torch.no_grad():
        found = ours.logits(ours(tokens, boundaries, visibility=visibility))
        expected = torch.cat(
            [theirs(part[None]).logits[0] for part in torch.split(tokens, LENGTHS) if len(part)]
        )
    assert expected.std() > 0.5  # far from the flat logits that any two models share
    assert (found - expected).abs().max() <= FP32


@pytest.mark.parametrize("visibility", get_args(Visibility))
def test_gradients_equal_those_of_transformers(visibility: Visibility) -> None:
    ours = model(stretch=3.0)
    theirs = counterpart(ours, visibility, "eager")
    tokens, boundaries = stream([50])
    for logits in (
        ours.logits(ours(tokens, boundaries, visibility=visibility)),
        theirs(tokens[None]).logits[0],
    ):
        torch.autograd.backward(F.cross_entropy(logits, tokens))
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    prefix = "" if visibility == "bidirectional" else "lm_"
    for name, parameter in ours.named_parameters():
        if "Wqkv" in name and visibility == "causal":
            wanted = torch.cat([expected[name.replace("Wqkv", f"{x}_proj")] for x in "qkv"])  # type: ignore[misc]
        else:
            wanted = expected[prefix + name if name.startswith("head.") else name]  # type: ignore[assignment]
        # Index 0 is `transformers`' padding here: its embedding gets no gradient from the input.
        skip = 1 if "tok_embeddings" in name else 0
        assert parameter.grad is not None
        assert (parameter.grad - wanted)[skip:].abs().max() <= FP32, name


def test_windows_are_one_off_where_the_reach_is() -> None:
    """The parity above would not notice a window if a neighbouring one passed too."""
    ours = model()
    tokens, boundaries = stream([70])
    wider = Transformer(
        SHAPE.model_copy(update={"local_reach": REACH + 1}),
        global_rope_theta=GLOBAL_THETA, local_rope_theta=LOCAL_THETA,
    )  # fmt: skip
    wider.load_state_dict(ours.state_dict())
    for visibility in get_args(Visibility):
        hidden = [each(tokens, boundaries, visibility=visibility) for each in (ours, wider)]
        assert (hidden[0] - hidden[1]).abs().max() > 1e-2


@pytest.mark.parametrize("visibility", get_args(Visibility))
def test_a_changed_token_moves_only_those_who_may_see_it(visibility: Visibility) -> None:
    ours, lengths, changed = model(), [30, 50, 20], 55
    tokens, boundaries = stream(lengths)
    other = tokens.clone()
    other[changed] = (other[changed] + 1) % SHAPE.vocab_size
    with torch.no_grad():
        before, after = (ours(each, boundaries, visibility=visibility) for each in (tokens, other))
    moved = (before != after).any(1).nonzero().flatten().tolist()
    first = changed if visibility == "causal" else 30
    assert moved == list(range(first, 80))


def test_initial_weights_follow_their_distributions() -> None:
    shape = shape_of("17m", vocab_size=2_048)
    made = Transformer(shape, global_rope_theta=1e4, local_rope_theta=1e4)
    made.initialise(3)
    for name, parameter in made.named_parameters():
        values = parameter.detach().double()
        if name.endswith("norm.weight"):
            assert (values == 1).all(), name
            continue
        if name == "decoder.bias":
            bound = 256**-0.5
            assert values.abs().max() <= bound
            expected = bound / math.sqrt(3)
        else:
            sigma = 0.02 / math.sqrt(14) if name.endswith(".Wo.weight") else 0.02
            assert 1.9 * sigma < values.abs().max() <= 2 * sigma * (1 + 1e-6), name
            expected = 0.87963 * sigma
        # Both are flatter than a normal: σ / √(2n) is more than their standard error of the std.
        error = expected / math.sqrt(2 * values.numel())
        assert abs(values.std() - expected) <= STANDARD_ERRORS * error, name
        assert abs(values.mean()) <= STANDARD_ERRORS * expected / math.sqrt(values.numel()), name


def test_same_seed_gives_the_same_bits_whatever_was_drawn_before() -> None:
    first = model(seed=4).state_dict()
    torch.rand(7)
    second, other = model(seed=4).state_dict(), model(seed=5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [name for name in first if torch.equal(first[name], other[name])] == [
        name for name in first if name.endswith("norm.weight")
    ]
    state = torch.get_rng_state()
    made = model()
    torch.set_rng_state(state)
    made.initialise(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_layers_of_one_shape_start_from_different_weights() -> None:
    weights = model().state_dict()
    assert not torch.equal(
        weights["model.layers.1.attn.Wo.weight"], weights["model.layers.2.attn.Wo.weight"]
    )


def test_an_empty_stream_passes_forwards_and_backwards() -> None:
    ours = model()
    tokens, boundaries = stream([0])
    hidden = ours(tokens, boundaries, visibility="bidirectional")
    logits = ours.logits(hidden)
    assert logits.shape == (0, SHAPE.vocab_size)
    torch.autograd.backward(logits.sum())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@pytest.mark.parametrize("visibility", get_args(Visibility))
def test_bfloat16_autocast_stays_near_fp32(visibility: Visibility) -> None:
    ours = model(stretch=1.0)
    tokens, boundaries = stream(LENGTHS)
    dropout = Dropout(0.1, keys(key(2), torch.arange(len(tokens))))
    plain = ours(tokens, boundaries, visibility=visibility, dropout=dropout)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = ours(tokens, boundaries, visibility=visibility, dropout=dropout)
        loss = F.cross_entropy(ours.logits(hidden).float(), tokens)
    torch.autograd.backward(loss)
    assert (hidden - plain).abs().max() <= BF16 * plain.abs().max()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_mistakes_of_the_caller_are_named() -> None:
    ours = model()
    tokens, boundaries = stream([10])
    with pytest.raises(InputError, match="boundaries end at 10 but there are 9 tokens"):
        ours(tokens[:9], boundaries, visibility="causal")
    with pytest.raises(InputError, match="10 tokens need as many dropout keys"):
        ours(tokens, boundaries, visibility="causal", dropout=Dropout(0.1, torch.arange(9)))
    with pytest.raises(InputError, match="dropout rate"):
        Dropout(1.0, torch.arange(9))
    with torch.device("meta"):
        unmade = Transformer(SHAPE, global_rope_theta=1e4, local_rope_theta=1e4)
    with pytest.raises(InputError, match="to_empty"):
        unmade.initialise(1)
