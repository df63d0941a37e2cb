"""The shape of a model in Hugging Face's words, and what follows: parameters, FLOPs, memory.

shape = Shape(num_hidden_layers=7, hidden_size=256, intermediate_size=384,
num_attention_heads=4, vocab_size=50_368)
shape.parameters        # 16.9 million, equal for both twins
"""

from typing import Literal, Self

from pydantic import model_validator

from ettin.fields import Positive, Strict

Visibility = Literal["bidirectional", "causal"]
"""What a token may see: the whole document, or what stands before it."""


class Dimensions(Strict):
    """The dimensions of a model without its vocabulary, in Hugging Face's words."""

    num_hidden_layers: Positive
    hidden_size: Positive
    intermediate_size: Positive
    num_attention_heads: Positive
    local_reach: Positive = 64
    """Positions that a local layer sees on each allowed side, the query not counted."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.head_size % 2:
            raise ValueError(f"head size {self.head_size} is odd, rotary embeddings need pairs")
        if (self.num_hidden_layers - 1) % 3:
            raise ValueError(
                f"num_hidden_layers {self.num_hidden_layers}: (layers - 1) must be divisible by 3, "
                "so that the first and the last layer are global"
            )
        return self

    @property
    def head_size(self) -> int:
        """Dimensions of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def global_layers(self) -> int:
        """How many layers see the whole document: every third, counted from the first."""
        return (self.num_hidden_layers + 2) // 3


class Shape(Dimensions):
    """The dimensions of a model, and what follows from them."""

    vocab_size: Positive

    @property
    def body_parameters(self) -> int:
        """Weights of the matrices in the layers: L · (4H² + 3HI)."""
        hidden, inner = self.hidden_size, self.intermediate_size
        return self.num_hidden_layers * (4 * hidden * hidden + 3 * hidden * inner)

    @property
    def parameters(self) -> int:
        """All parameters, tied embeddings counted once; equal for both twins.

        L(4H² + 3HI) + (2L + 1)H norms + VH embedding + H² + H head + V bias.
        """
        hidden = self.hidden_size
        norms = (2 * self.num_hidden_layers + 1) * hidden
        head = hidden * hidden + hidden
        return self.body_parameters + norms + self.vocab_size * hidden + head + self.vocab_size

    def flops_per_token(
        self, *, context_length: int, labelled: float, visibility: Visibility
    ) -> float:
        """Floating-point operations to train on one token, forward and backward.

        Args:
            context_length: tokens that a global layer sees, taken as full.
            labelled: share of tokens that reach the head (the mask rate; 1 for `clm`).
            visibility: causal attention costs half in global layers and one side in local ones.

        Returns:
            6 · (body + labelled · (H² + VH)) + 12 · H · (G · S_global + (L − G) · S_local).
        """
        hidden, causal = self.hidden_size, visibility == "causal"
        seen_global = context_length / 2 if causal else context_length
        seen_local = min(context_length, self.local_reach * (1 if causal else 2) + 1)
        local_layers = self.num_hidden_layers - self.global_layers
        attention = self.global_layers * seen_global + local_layers * seen_local
        head = labelled * (hidden * hidden + self.vocab_size * hidden)
        return 6 * (self.body_parameters + head) + 12 * hidden * attention

    @property
    def state_bytes(self) -> int:
        """Bytes of weights, gradients and both moments in fp32; activations come on top."""
        return 16 * self.parameters

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of a checkpoint: weights and both moments in fp32."""
        return 12 * self.parameters
