"""Recipes: what a run is; frozen, strict, and the same for both twins but for one field.

    recipe = load_recipe(Path("recipes/nano.yaml"))     # see `recipe_file`
    recipe.twin()            # the same recipe with the other objective, nothing else changed
    recipe.of_phases(None)   # what a native run goes through: all phases but `cross`

A recipe describes the pair. `objective` alone decides which twin is trained, and with it what a
token may see; a key that one objective reads (`mask_rate`) stands there for both.
"""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, StrictBool, field_validator, model_validator

from ettin.errors import InputError, nearest
from ettin.fields import Amount, Count, Positive, PositiveAmount, Rate, Share, Strict
from ettin.files import fingerprint
from ettin.numbers import parse_count, parse_number
from ettin.presets import Variant
from ettin.shape import Dimensions, Visibility

Objective = Literal["mlm", "clm", "mntp"]
PhaseName = Literal["pretraining", "extension", "decay", "cross"]
PHASE_NAMES: tuple[PhaseName, ...] = get_args(PhaseName)
"""In the order in which a run may go through them."""
DecayShape = Literal["linear", "one_minus_sqrt"]
CROSS: PhaseName = "cross"
"""The phase that trains the weights of one twin with the objective of the other."""


class Phase(Strict):
    """One stretch of training: a budget, a context, a schedule. Tokens are nominal (the clock).

    What a recipe file does not state comes from `presets.PHASES`, by the phase's name.
    """

    name: PhaseName
    tokens: Positive
    context_length: Annotated[int, BeforeValidator(parse_count), Field(ge=8)]
    row_tokens: Positive | None = None
    """Tokens that the clock counts for one row; the context length unless given."""
    batch_rows: Positive
    """Rows of one optimiser step, over all processes."""
    batch_warmup_tokens: Count = 0
    """Tokens over which the batch grows to `batch_rows`, as many steps at each size."""
    batch_warmup_rows: Positive | None = None
    """Rows of the first step of that warm-up."""
    micro_batch_rows: Positive | None = None
    """Rows of one forward pass in this phase; the recipe's unless given."""
    mask_rate: Rate
    lr_factor: PositiveAmount
    """The phase's highest learning rate, as a share of the recipe's `peak_lr`."""
    warmup_tokens: Count = 0
    decay_tokens: Count = 0
    decay_shape: DecayShape | None = None
    final_lr_factor: Rate | None = None
    """The learning rate at the end of the decay, as a share of the phase's highest."""
    global_rope_theta: PositiveAmount
    local_rope_theta: PositiveAmount
    order: PhaseName
    """The phase whose order the rows follow; its own name, but for `cross`."""
    mixture: dict[str, Share] = Field(default={})
    """What the phase reads of each source; the recipe's when empty."""
    row_order: str | None = None
    """A directory of `ettin order store` whose order the rows follow, instead of a computed one."""
    save_every_tokens: Positive | None = None
    """A checkpoint on the first step whose clock reaches each multiple, and on the last step."""
    save_early: StrictBool = False
    """Also on steps 1, 2, 4, 8, … before the first of those."""
    validate_every_tokens: Positive | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*self._schedule_problems(), *self._batch_problems()]
        if self.row_order is not None and self.mixture:
            problems.append("mixture has no effect with row_order, which orders every row")
        if not 0 < self.mask_rate < 1:
            problems.append(f"mask_rate {self.mask_rate} should lie between 0 and 1")
        for key in ("save_every_tokens", "validate_every_tokens"):
            every = getattr(self, key)
            if every is not None and every > self.tokens:
                problems.append(f"{key} {every:,} has no effect: it exceeds tokens {self.tokens:,}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _schedule_problems(self) -> list[str]:
        problems = []
        if self.warmup_tokens + self.decay_tokens > self.tokens:
            problems.append(
                f"warmup_tokens {self.warmup_tokens:,} + decay_tokens {self.decay_tokens:,} "
                f"exceed tokens {self.tokens:,}"
            )
        for key in ("decay_shape", "final_lr_factor"):
            given = getattr(self, key) is not None
            if given and not self.decay_tokens:
                problems.append(f"{key} has no effect while decay_tokens is 0")
            if not given and self.decay_tokens:
                problems.append(f"{key} is missing, and decay_tokens are {self.decay_tokens:,}")
        return problems

    def _batch_problems(self) -> list[str]:
        problems = []
        if self.row_tokens is not None and self.row_tokens > self.context_length:
            problems.append(
                f"row_tokens {self.row_tokens} exceed context_length {self.context_length}"
            )
        first = self.batch_warmup_rows
        if self.batch_warmup_tokens > self.tokens:
            problems.append(
                f"batch_warmup_tokens {self.batch_warmup_tokens:,} exceed tokens {self.tokens:,}"
            )
        if self.batch_warmup_tokens and first is None:
            problems.append(
                "batch_warmup_tokens need batch_warmup_rows, the rows of the first step"
            )
        if first is not None and not self.batch_warmup_tokens:
            problems.append("batch_warmup_rows has no effect while batch_warmup_tokens is 0")
        if first is not None and first >= self.batch_rows:
            problems.append(
                f"batch_warmup_rows {first} should be below batch_rows {self.batch_rows}"
            )
        return problems

    @property
    def nominal_row_tokens(self) -> int:
        """What one row adds to the clock."""
        return self.row_tokens or self.context_length


class Recipe(Strict):
    """A whole run. Both twins are trained from one recipe; `objective` alone tells them apart."""

    size: str
    objective: Objective = "mlm"
    seed: Count = 21
    variant: Variant = "intended"
    """What the paper intends, or `as-executed`: what its configurations and code did instead."""
    corpus: str | None = None
    """The corpus directory; `--corpus` wins."""
    start_from: str | None = None
    """Whose weights a run begins with: a run, `RUN@TAG`, a model directory or hub id."""
    shape: Dimensions
    peak_lr: PositiveAmount
    weight_decay: Amount
    attention_output_dropout: Annotated[float, BeforeValidator(parse_number), Field(ge=0, lt=1)] = (
        0.1
    )
    mixture: dict[str, Share] = Field(default={})
    """What a phase reads of each source; all sources in proportion to their rows when empty."""
    warn_above_epochs: PositiveAmount = 4.0
    """A source that a phase reads more often than this is told (arXiv 2305.16264)."""
    phases: tuple[Phase, ...]
    micro_batch_rows: Positive | None = None
    """Rows of one forward pass of one process; all that it has of the batch unless given. Never
    changes what is learned."""
    shard_ranks: Positive = 1
    """Processes that share one copy of weights and moments; their number is a multiple of it."""
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
        return fingerprint(self.what_is_learned())

    def what_is_learned(self) -> dict[str, Any]:
        """The recipe as plain values, but for where it runs and in which portions.

        Of a stored order only that there is one: it has a fingerprint of its own, and may be moved.
        """
        values = self.model_dump(
            mode="json",
            exclude={
                "corpus": True,
                "device": True,
                "micro_batch_rows": True,
                "shard_ranks": True,
                "phases": {"__all__": {"micro_batch_rows"}},
            },
        )
        for phase in values["phases"]:
            phase["row_order"] = None if phase["row_order"] is None else "stored"
        return values

    @field_validator("phases", mode="after")
    @classmethod
    def _in_order(cls, phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
        places = [PHASE_NAMES.index(phase.name) for phase in phases]
        if not places or places != sorted(set(places)):
            raise ValueError(
                f"expected one or more of {', '.join(PHASE_NAMES)}, each once and in this order"
            )
        return phases

    def twin(self) -> "Recipe":
        """The same recipe with the other objective: mlm and mntp become clm, clm becomes mlm.

        Raises:
            InputError: the recipe is `as-executed`; its phases depend on the objective.
        """
        if self.variant != "intended":
            raise InputError(
                "the twin of a recipe `as-executed` differs in more than its objective; "
                "load its file once more with the other --objective"
            )
        other: Objective = "mlm" if self.objective == "clm" else "clm"
        return self.model_copy(update={"objective": other})

    def of_phases(self, name: str | None) -> "Recipe":
        """The recipe of one run: the phase of that name alone, or all native ones.

        A native run goes through all phases but `cross`, unless there is no other.

        Raises:
            InputError: the recipe has no such phase.
        """
        names = [phase.name for phase in self.phases]
        if name is not None and name not in names:
            raise InputError(
                f"--phase {name}: the recipe has no such phase; {nearest(name, names)}"
            )
        native = [each for each in names if each != CROSS] or names
        wanted = native if name is None else [name]
        kept = tuple(phase for phase in self.phases if phase.name in wanted)
        return self.model_copy(update={"phases": kept})

    def mixture_of(self, phase: Phase) -> dict[str, Share]:
        """What a phase reads of each source; empty means in proportion to their rows."""
        return phase.mixture or self.mixture

    def micro_batch_rows_of(self, phase: Phase) -> int:
        """Rows of one forward pass in a phase."""
        return phase.micro_batch_rows or self.micro_batch_rows or phase.batch_rows


def visibility_of(objective: Objective) -> Visibility:
    """`causal` for clm, `bidirectional` for mlm and mntp."""
    return "causal" if objective == "clm" else "bidirectional"


class TrainedTokenizer(Strict):
    """A tokenizer that a suite trains on its own text."""

    vocab_size: Annotated[int, BeforeValidator(parse_count), Field(ge=300)]
    """Entries, special tokens included."""


class Trajectories(Strict):
    """Which checkpoints of every run are measured, and on what."""

    checkpoints: Literal["all"] | dict[Literal["every", "log"], Positive] = "all"
    """`all`; `every: k`, each k-th; or `log: n`, about n at even distances of log tokens. The
    first and the last one always belong to them."""
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]

    @field_validator("checkpoints", mode="after")
    @classmethod
    def _one_rule(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) != 1:
            raise ValueError("expected `all`, `every: k` or `log: n`")
        return given


class Suite(Strict):
    """Pairs of several sizes and seeds from one file, which holds the keys of a recipe too.

    Text becomes one corpus, every size, objective and seed a run, every cross direction another.
    """

    sizes: Annotated[tuple[str, ...], Field(min_length=1)]
    objectives: Annotated[tuple[Literal["mlm", "clm"], ...], Field(min_length=1)] = ("mlm", "clm")
    cross: tuple[Objective, ...] = ()
    """Objectives of the runs that go on from the twin's last checkpoint: `mntp` or `mlm` make an
    encoder from the decoder, `clm` a decoder from the encoder."""
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)] = (21,)
    per_size: dict[str, tuple[str, ...]] = Field(default={})
    """`key.path=value` for the runs of one size, as on the command line of `train`."""
    text: tuple[str, ...] = ()
    """Files and folders of text; or `sources`, or `corpus`, which is prepared already."""
    sources: dict[str, str] = Field(default={})
    """Name → path, where the corpus has several sources."""
    text_mixture: str | None = None
    """Phases whose published sources the one folder of `text` holds."""
    exclude: tuple[str, ...] = ()
    text_column: str | None = None
    id_column: str | None = None
    held_out: Annotated[float, BeforeValidator(parse_number), Field(ge=0, le=0.1)] | None = None
    packing: Literal["chunks", "none"] | None = None
    tokenizer: str | TrainedTokenizer | None = None
    """A directory, an id on the hub, or the size of a vocabulary to train."""
    tasks: tuple[str, ...] = ()
    """What the last checkpoint of every run is measured on."""
    data: str | None = None
    """The folder with local data of tasks; from the hub unless given."""
    preset: Literal["quick", "published"] | None = None
    task_seeds: tuple[Count, ...] = ()
    limit: Positive | None = None
    trajectories: Trajectories | None = None
    keep_exports: StrictBool = False
    """Keep the exports of trajectories, which are removed once they are measured."""
    published: StrictBool = False
    """Show the published numbers beside those of this suite in the report."""
    devices: Positive = 1
    """Devices of one run, for estimates alone."""
    tokens_per_second: dict[str, PositiveAmount] = Field(default={})
    """Size → tokens/s of one run on all its devices, for estimates; what finished runs of the
    suite show is used where nothing is stated."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [
            f"{key}: {value!r} stands there twice"
            for key in ("sizes", "objectives", "cross", "seeds")
            for value in dict.fromkeys(getattr(self, key))
            if getattr(self, key).count(value) > 1
        ]
        for objective in self.cross:
            twin = "mlm" if objective == "clm" else "clm"
            if twin not in self.objectives:
                problems.append(
                    f"cross: {objective!r} starts from a run with {twin}; objectives has none"
                )
        for key in ("per_size", "tokens_per_second"):
            problems += [
                f"{key}: {size!r} is not among the sizes; {nearest(size, self.sizes)}"
                for size in getattr(self, key)
                if size not in self.sizes
            ]
        if problems:
            raise ValueError("; ".join(problems))
        return self
