"""Recipes: what a run is; frozen, strict, and the same for both twins but for one field.

    recipe = load_recipe(Path("recipes/nano.yaml"))     # see `recipe_file`
    recipe.twin()            # the same recipe with the other objective, nothing else changed

A recipe describes the pair. `objective` alone decides which twin is trained, and with it what a
token may see; a key that one objective reads (`mask_rate`) stands there for both.
"""

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    field_validator,
    model_validator,
)

from ettin.files import fingerprint
from ettin.numbers import parse_count, parse_number

Objective = Literal["mlm", "clm", "mntp"]
Visibility = Literal["bidirectional", "causal"]

Count = Annotated[int, BeforeValidator(parse_count), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(parse_count), Field(ge=1)]
Rate = Annotated[float, BeforeValidator(parse_number), Field(ge=0, le=1)]
Amount = Annotated[float, BeforeValidator(parse_number), Field(ge=0, allow_inf_nan=False)]
PositiveAmount = Annotated[float, BeforeValidator(parse_number), Field(gt=0, allow_inf_nan=False)]


class Strict(BaseModel):
    """Frozen, and no key is accepted that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class Phase(Strict):
    """One stretch of training: a budget, a context, a schedule. Tokens are nominal (the clock)."""

    name: Literal["pretraining"]
    tokens: Positive
    context_length: Annotated[int, BeforeValidator(parse_count), Field(ge=8)]
    row_tokens: Positive | None = None
    """Tokens that the clock counts for one row; the context length unless given."""
    batch_rows: Positive
    """Rows of one optimiser step, over all processes."""
    mask_rate: Rate = 0.3
    warmup_tokens: Count = 0
    decay_tokens: Count = 0
    final_lr_factor: Rate = 0.02
    """The learning rate at the end of the decay, as a share of the peak."""
    global_rope_theta: PositiveAmount = 10_000.0
    local_rope_theta: PositiveAmount = 10_000.0
    save_every_tokens: Positive | None = None
    """A checkpoint on the first step whose clock reaches each multiple, and on the last step."""
    validate_every_tokens: Positive | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if self.warmup_tokens + self.decay_tokens > self.tokens:
            problems.append(
                f"warmup_tokens {self.warmup_tokens:,} + decay_tokens {self.decay_tokens:,} "
                f"exceed tokens {self.tokens:,}"
            )
        if not 0 < self.mask_rate < 1:
            problems.append(f"mask_rate {self.mask_rate} should lie between 0 and 1")
        if self.row_tokens is not None and self.row_tokens > self.context_length:
            problems.append(
                f"row_tokens {self.row_tokens} exceed context_length {self.context_length}"
            )
        for key in ("save_every_tokens", "validate_every_tokens"):
            every = getattr(self, key)
            if every is not None and every > self.tokens:
                problems.append(f"{key} {every:,} has no effect: it exceeds tokens {self.tokens:,}")
        if "final_lr_factor" in self.model_fields_set and not self.decay_tokens:
            problems.append("final_lr_factor has no effect while decay_tokens is 0")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def nominal_row_tokens(self) -> int:
        """What one row adds to the clock."""
        return self.row_tokens or self.context_length


class Recipe(Strict):
    """A whole run. Both twins are trained from one recipe; `objective` alone tells them apart."""

    size: str
    objective: Objective = "mlm"
    seed: Count = 21
    corpus: str | None = None
    """The corpus directory; `--corpus` wins."""
    shape: Dimensions
    peak_lr: PositiveAmount
    weight_decay: Amount
    attention_output_dropout: Annotated[float, BeforeValidator(parse_number), Field(ge=0, lt=1)] = (
        0.1
    )
    mixture: dict[str, Positive] = {}
    """Integer weights of sources, in rows; all sources in proportion to their rows when empty."""
    phases: tuple[Phase, ...]
    micro_batch_rows: Positive | None = None
    """Rows of one forward pass; the whole batch unless given. Never changes what is learned."""
    validation_rows: Positive = 64
    """Held-out rows of which the validation loss is the mean; all when fewer are there."""
    ngram_baselines: StrictBool = False
    """Fit unigram and bigram models on the consumed tokens and score them like this run."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @property
    def visibility(self) -> Visibility:
        """What a token may see; it follows from the objective."""
        return visibility_of(self.objective)

    @property
    def fingerprint(self) -> str:
        """Identifies what is learned: everything but where it runs and in which portions."""
        return fingerprint(
            self.model_dump(mode="json", exclude={"corpus", "device", "micro_batch_rows"})
        )

    @field_validator("phases", mode="before")
    @classmethod
    def _one_phase(cls, value: object) -> object:
        if not isinstance(value, (list, tuple)) or len(value) != 1:
            raise ValueError("expected a list of one phase")
        return value

    def twin(self) -> "Recipe":
        """The same recipe with the other objective: mlm and mntp become clm, clm becomes mlm."""
        other: Objective = "mlm" if self.objective == "clm" else "clm"
        return self.model_copy(update={"objective": other})


def visibility_of(objective: Objective) -> Visibility:
    """`causal` for clm, `bidirectional` for mlm and mntp."""
    return "causal" if objective == "clm" else "bidirectional"
