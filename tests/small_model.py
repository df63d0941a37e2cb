"""A transformer small enough for tests, and streams of tokens for it."""

import torch

from ettin.model.transformer import Transformer
from ettin.shape import Shape

REACH = 6
SHAPE = Shape(
    num_hidden_layers=4, hidden_size=32, intermediate_size=48, num_attention_heads=2,
    local_reach=REACH, vocab_size=96,
)  # fmt: skip
GLOBAL_THETA, LOCAL_THETA = 160_000.0, 500.0


def model(*, seed: int = 21, stretch: float = 6.0, shape: Shape = SHAPE) -> Transformer:
    """A small model; weights stretched, because at their initial size attention is nearly flat."""
    made = Transformer(shape, global_rope_theta=GLOBAL_THETA, local_rope_theta=LOCAL_THETA)
    made.initialise(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if not name.endswith("norm.weight"):
                parameter.mul_(stretch)
    return made


def stream(lengths: list[int], *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random tokens, and the boundaries of documents of these lengths."""
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, SHAPE.vocab_size, (sum(lengths),), generator=draw)
    return tokens, torch.tensor([0, *lengths]).cumsum(0)
