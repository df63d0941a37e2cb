"""The transformer of both twins: ModernBERT's layers over a flat, unpadded stream of documents.

What a token may see is an argument of `forward`; nothing else, not one weight, differs between an
encoder and a decoder. Parameters carry the names of `transformers`' `ModernBertForMaskedLM`, so
that an export renames nothing.

    model = Transformer(shape, global_rope_theta=10_000.0, local_rope_theta=10_000.0)
    model.initialise(seed=21)
    hidden = model(tokens, boundaries, visibility="bidirectional")    # [tokens, hidden_size]
    logits = model.logits(hidden[labelled])                           # [labelled, vocab_size]

Source: "Seq vs Seq" (arXiv 2507.11412) and ModernBERT (arXiv 2412.13663); where the papers and
the code that trained the published suite differ, the code is followed.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ettin import random_bits
from ettin.errors import InputError
from ettin.model.attention import AttentionPlan, attention
from ettin.model.rotary import Rotation, rotary_tables, rotate
from ettin.shape import Shape, Visibility

NORM_EPSILON = 1e-5
GLOBAL_EVERY = 3
"""Layers 0, 3, 6, … see the whole document, the others `local_reach` positions on a side."""

INITIAL_STD = 0.02
INITIAL_CUTOFF = 2.0
"""Initial weights beyond this many standard deviations are drawn again."""

HASHES_AT_A_TIME = 1 << 15
"""Dropout's hashes are made in portions whose temporaries (256 KiB each) stay in cache."""


@dataclass(frozen=True, eq=False)
class Dropout:
    """Dropout whose every decision is a pure function of the token's key, the layer, the channel.

    Attributes:
        rate: share of values set to zero, 0 ≤ rate < 1; applied as the nearest multiple of 2⁻¹⁶.
        keys: int64 [tokens], one random key per token position, on the device of the tokens.
    """

    rate: float
    keys: Tensor

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise InputError(f"dropout rate {self.rate} should lie in [0, 1)")

    @property
    def threshold(self) -> int:
        """Of 65,536 equally likely 16-bit numbers, how many mean zero."""
        return min(round(self.rate * 65_536), 65_535)

    @torch.no_grad()
    def scales(self, *, layer: int, channels: int, dtype: torch.dtype) -> Tensor:
        """Factors for the values of one layer: 0, or 1 / (1 − rate).

        Equal on every device and for every way of laying rows out in batches: each 64-bit hash
        of (key, layer, channel // 4) is four signed 16-bit numbers, lowest bits first, of which
        the `threshold` smallest values mean zero.

        Returns:
            [tokens, channels] in `dtype`.
        """
        groups = -(-channels // 4)
        device = self.keys.device
        counters = torch.arange(groups, device=device) * random_bits.STRIDE
        streams = random_bits.keys(random_bits.key(layer), self.keys)
        scales = torch.empty(len(streams), channels, dtype=dtype, device=device)
        rows = max(1, HASHES_AT_A_TIME // groups if device.type == "cpu" else len(streams))
        for part, kept in zip(torch.split(streams, rows), torch.split(scales, rows), strict=True):
            lanes = random_bits.scramble(part[:, None] + counters).view(torch.int16)[:, :channels]
            # Compared straight into floats: a detour over booleans costs three times as much.
            torch.ge(lanes, self.threshold - 32_768, out=kept)
        return scales.mul_(65_536 / (65_536 - self.threshold))


class Transformer(nn.Module):
    """One model for both twins.

    Args:
        shape: its dimensions.
        global_rope_theta: base of the rotary embeddings in global layers.
        local_rope_theta: the same in local layers.
    """

    def __init__(self, shape: Shape, *, global_rope_theta: float, local_rope_theta: float) -> None:
        super().__init__()
        self.shape = shape
        self.global_rope_theta = global_rope_theta
        self.local_rope_theta = local_rope_theta
        self.model = Backbone(shape)
        self.head = Head(shape.hidden_size)
        self.decoder = OutputBias(shape.vocab_size)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw all weights anew; equal for both twins, whatever was drawn before or elsewhere.

        Truncated normal of σ = 0.02, cut at 2σ; σ / √(2 · layers) for the two output projections
        of a layer (Megatron's rule, "full_megatron" in ModernBERT's code); norms 1; the output
        bias uniform in ±1 / √hidden_size, as the published suite was started from. Each
        parameter has its own generator, keyed by its name, and is drawn on the CPU.

        Raises:
            InputError: the parameters have no storage yet (device `meta`).
        """
        for name, parameter in self.named_parameters():
            if parameter.is_meta:
                raise InputError(
                    f"{name} is on the meta device; call to_empty(device=…) before initialise"
                )
            generator = torch.Generator().manual_seed(
                random_bits.key(seed, random_bits.name_key(name))
            )
            parameter.copy_(self._initial(name, parameter.shape, generator))

    def _initial(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        if name.endswith("norm.weight"):
            return torch.ones(shape)
        if name == "decoder.bias":
            bound = self.shape.hidden_size**-0.5
            return torch.empty(shape).uniform_(-bound, bound, generator=generator)
        std = INITIAL_STD
        if name.endswith(".Wo.weight"):
            std /= math.sqrt(2 * self.shape.num_hidden_layers)
        cut = INITIAL_CUTOFF * std
        return nn.init.trunc_normal_(
            torch.empty(shape), std=std, a=-cut, b=cut, generator=generator
        )

    def forward(
        self,
        tokens: Tensor,
        boundaries: Tensor,
        *,
        visibility: Visibility,
        dropout: Dropout | None = None,
    ) -> Tensor:
        """Read a stream of documents that do not see each other.

        Args:
            tokens: int64 [tokens], the documents one after another, without padding.
            boundaries: int32 or int64 [documents + 1], 0, …, tokens; documents may be empty.
                Best on the CPU: elsewhere reading it waits for the device.
            visibility: what a token may see in its document.
            dropout: for training; none when absent. Falls on attention's output projection only.

        Returns:
            Hidden states after the final norm, [tokens, hidden_size].

        Raises:
            InputError: boundaries that do not fit the tokens; one dropout key per token missing.
        """
        plan = AttentionPlan.of(
            boundaries,
            visibility=visibility,
            reach=self.shape.local_reach,
            device=tokens.device,
        )
        if len(tokens) != plan.tokens:
            raise InputError(
                f"boundaries end at {plan.tokens} but there are {len(tokens)} tokens; "
                "the last boundary should be the number of tokens"
            )
        if dropout is not None and dropout.keys.shape != tokens.shape:
            raise InputError(
                f"{len(tokens)} tokens need as many dropout keys, got {list(dropout.keys.shape)}"
            )
        thetas = {self.global_rope_theta, self.local_rope_theta}
        tables = {
            theta: rotary_tables(plan.positions, head_size=self.shape.head_size, theta=theta)
            for theta in thetas
        }
        hidden: Tensor = self.model(
            tokens,
            plan=plan,
            global_rotation=tables[self.global_rope_theta],
            local_rotation=tables[self.local_rope_theta],
            dropout=dropout if dropout is not None and dropout.threshold else None,
        )
        return hidden

    def features(self, hidden: Tensor) -> Tensor:
        """The head: what is compared with the embeddings, for any subset of positions.

        Args:
            hidden: [positions, hidden_size].

        Returns:
            [positions, hidden_size].
        """
        features: Tensor = self.head(hidden)
        return features

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities, [positions, hidden_size] → [positions, vocab_size]."""
        return F.linear(self.features(hidden), self.output_weight, self.output_bias)

    @property
    def output_weight(self) -> Tensor:
        """The embeddings, tied: [vocab_size, hidden_size]."""
        return self.model.embeddings.tok_embeddings.weight

    @property
    def output_bias(self) -> Tensor:
        """The only bias of the model: [vocab_size]."""
        return self.decoder.bias


class Backbone(nn.Module):
    """Everything but the head: embeddings, layers, final norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embeddings = Embeddings(shape)
        self.layers = nn.ModuleList(Layer(shape, index) for index in range(shape.num_hidden_layers))
        self.final_norm = _norm(shape.hidden_size)

    def forward(
        self,
        tokens: Tensor,
        *,
        plan: AttentionPlan,
        global_rotation: Rotation,
        local_rotation: Rotation,
        dropout: Dropout | None,
    ) -> Tensor:
        """[tokens] → [tokens, hidden_size]."""
        hidden = self.embeddings(tokens)
        for index, layer in enumerate(self.layers):
            rotation = local_rotation if index % GLOBAL_EVERY else global_rotation
            hidden = layer(hidden, plan=plan, rotation=rotation, dropout=dropout)
        normed: Tensor = self.final_norm(hidden)
        return normed


class Embeddings(nn.Module):
    """Token embeddings and their norm; positions enter through rotation alone."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.norm = _norm(shape.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """[tokens] → [tokens, hidden_size]."""
        normed: Tensor = self.norm(self.tok_embeddings(tokens))
        return normed


class Layer(nn.Module):
    """Attention and gated feed-forward, each normed before and added to the stream."""

    def __init__(self, shape: Shape, index: int) -> None:
        super().__init__()
        self.index = index
        # The embeddings' norm stands right before the first layer; a second one would be idle.
        self.attn_norm = _norm(shape.hidden_size) if index else nn.Identity()
        self.attn = Attention(shape, index)
        self.mlp_norm = _norm(shape.hidden_size)
        self.mlp = GatedFeedForward(shape)

    def forward(
        self, hidden: Tensor, *, plan: AttentionPlan, rotation: Rotation, dropout: Dropout | None
    ) -> Tensor:
        """[tokens, hidden_size] → the same."""
        projected: Tensor = self.attn(self.attn_norm(hidden), plan=plan, rotation=rotation)
        if dropout is not None:
            # In place: the product's gradient needs the scales alone.
            projected.mul_(
                dropout.scales(layer=self.index, channels=projected.shape[1], dtype=projected.dtype)
            )
        hidden = hidden + projected
        added: Tensor = hidden + self.mlp(self.mlp_norm(hidden))
        return added


class Attention(nn.Module):
    """Multi-head attention; no dropout on its probabilities."""

    def __init__(self, shape: Shape, index: int) -> None:
        super().__init__()
        self.local = index % GLOBAL_EVERY != 0
        self.num_attention_heads = shape.num_attention_heads
        self.head_size = shape.head_size
        self.Wqkv = nn.Linear(shape.hidden_size, 3 * shape.hidden_size, bias=False)
        self.Wo = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)

    def forward(self, states: Tensor, *, plan: AttentionPlan, rotation: Rotation) -> Tensor:
        """[tokens, hidden_size] → the same."""
        tokens = len(states)
        fused = self.Wqkv(states).view(tokens, 3, self.num_attention_heads, self.head_size)
        turned, value = fused.split([2, 1], dim=1)
        query, key = rotate(turned, rotation).unbind(1)
        mixed = attention(query, key, value.squeeze(1), plan=plan, local=self.local)
        projected: Tensor = self.Wo(mixed.reshape(tokens, states.shape[1]))
        return projected


class GatedFeedForward(nn.Module):
    """GeGLU (Shazeer 2020, arXiv 2002.05202): half is activated, half multiplies."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.Wi = nn.Linear(shape.hidden_size, 2 * shape.intermediate_size, bias=False)
        self.Wo = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """[tokens, hidden_size] → the same."""
        activated, multiplier = self.Wi(states).chunk(2, dim=-1)
        projected: Tensor = self.Wo(F.gelu(activated) * multiplier)
        return projected


class Head(nn.Module):
    """Dense, GELU, norm: the last step before the tied embeddings."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size, bias=False)
        self.norm = _norm(hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """[positions, hidden_size] → the same."""
        normed: Tensor = self.norm(F.gelu(self.dense(hidden)))
        return normed


class OutputBias(nn.Module):
    """Holds the bias that is added to the logits; their weight is the embeddings'."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocab_size))


def _norm(size: int) -> nn.LayerNorm:
    return nn.LayerNorm(size, eps=NORM_EPSILON, bias=False)
