"""Recipes: what a run is, frozen once loaded, refused with all mistakes at once.

    recipe = load_recipe(Path("recipes/nano.yaml"), overrides=["phases.0.tokens=2M"])
    recipe.twin()            # the same recipe with the other objective, nothing else changed

A recipe describes the pair. `objective` alone decides which twin is trained, and with it what a
token may see; a key that one objective reads (`mask_rate`) stands there for both.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)

from ettin.errors import InputError, nearest
from ettin.files import fingerprint
from ettin.presets import SIZES

Objective = Literal["mlm", "clm", "mntp"]
Visibility = Literal["bidirectional", "causal"]

_MULTIPLIERS = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "%": 1e-2}


def parse_number(value: object) -> float | int:
    """Read a number as people write it: `3e-4`, `8.5B`, `1.7T`, `1_000`, `2 %`.

    Raises:
        ValueError: `value` is not a number written in one of these ways.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected a number such as 3e-4, 8.5B or 2 %, got {value!r}")
    text = value.strip().replace("_", "")
    multiplier = _MULTIPLIERS.get(text[-1:], None)
    try:
        number = float(text[:-1] if multiplier else text) * (multiplier or 1)
    except ValueError:
        raise ValueError(f"expected a number such as 3e-4, 8.5B or 2 %, got {value!r}") from None
    # 8.5 * 1e9 is exact, 2.8333 * 1e9 is not: counts are rounded to what was meant.
    return round(number) if abs(number) >= 1 and abs(number - round(number)) < 1e-6 else number


def _parse_count(value: object) -> object:
    number = parse_number(value)
    if number != int(number):
        raise ValueError(f"expected a whole number, got {value!r}")
    return int(number)


Count = Annotated[int, BeforeValidator(_parse_count), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_parse_count), Field(ge=1)]
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
    context_length: Annotated[int, BeforeValidator(_parse_count), Field(ge=8)]
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
    attention_output_dropout: Annotated[float, BeforeValidator(parse_number), Field(ge=0, lt=1)] = 0.1
    mixture: dict[str, Positive] = {}
    """Integer weights of sources, in rows; all sources in proportion to their rows when empty."""
    phases: Annotated[tuple[Phase, ...], Field(min_length=1, max_length=1)]
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

    def twin(self) -> "Recipe":
        """The same recipe with the other objective: mlm and mntp become clm, clm becomes mlm."""
        other: Objective = "mlm" if self.objective == "clm" else "clm"
        return self.model_copy(update={"objective": other})


def visibility_of(objective: Objective) -> Visibility:
    """`causal` for clm, `bidirectional` for mlm and mntp."""
    return "causal" if objective == "clm" else "bidirectional"


def load_recipe(
    path: Path, *, overrides: list[str] | None = None, objective: str | None = None
) -> Recipe:
    """Read, complete and check a recipe.

    Args:
        path: a YAML file.
        overrides: `key.path=value`; a phase is addressed by number or by name.
        objective: replaces the file's `objective`.

    Raises:
        InputError: every mistake at once, one a line, with the nearest valid name.
    """
    values = _read_yaml(path)
    problems = [problem for text in overrides or [] if (problem := _override(values, text))]
    if objective is not None:
        values["objective"] = objective
    return _build(values, source=str(path), problems=problems)


def resolve(values: dict[str, Any]) -> Recipe:
    """Complete and check a recipe given as a dictionary, as `load_recipe` does for a file."""
    return _build(values, source="recipe", problems=[])


def _build(values: dict[str, Any], *, source: str, problems: list[str]) -> Recipe:
    complete = dict(values)
    size = values.get("size")
    if isinstance(size, str) and size in SIZES:
        row = SIZES[size]._asdict()
        rates = {key: row.pop(key) for key in ("peak_lr", "weight_decay")}
        given = values.get("shape", {})
        complete = {**rates, **values, "shape": {**row, **given} if isinstance(given, dict) else given}
    elif "size" in values:
        problems.append(f"size: {size!r} is unknown; {nearest(str(size), SIZES)}")
    try:
        recipe = Recipe.model_validate(complete)
    except ValidationError as error:
        problems += [_explain(item) for item in error.errors()]
    else:
        problems += _inert(recipe)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in dict.fromkeys(problems))
        raise InputError(f"{source} cannot be used:\n{listed}")
    return recipe


def _inert(recipe: Recipe) -> list[str]:
    """Settings that are valid but that nothing would read."""
    batch_rows = recipe.phases[0].batch_rows
    if recipe.micro_batch_rows and recipe.micro_batch_rows > batch_rows:
        return [
            f"micro_batch_rows: {recipe.micro_batch_rows} has no effect beyond batch_rows {batch_rows}"
        ]
    return []


_MODELS: dict[str, type[Strict]] = {"shape": Dimensions, "phases": Phase}


def _explain(item: Any) -> str:
    """One pydantic error as one sentence that starts with the path of the key."""
    location = [str(part) for part in item["loc"]]
    path = ".".join(location)
    if item["type"] == "extra_forbidden":
        owner = _MODELS.get(location[0], Recipe) if len(location) > 1 else Recipe
        return f"{path}: unknown key; {nearest(location[-1], owner.model_fields)}"
    if item["type"] == "missing":
        return f"{path}: missing"
    message = item["msg"].removeprefix("Value error, ")
    given = "" if item["type"] == "value_error" else f", got {item['input']!r}"
    return f"{path or 'recipe'}: {message}{given}"


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key written twice is an error and not the last one's win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} stands here twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the recipe {path}: {error}") from error
    try:
        values = yaml.load(text, Loader=_UniqueKeyLoader)  # a SafeLoader  # noqa: S506
    except (yaml.YAMLError, TypeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} should hold keys and values, found {type(values).__name__}")
    return values


def _override(values: dict[str, Any], text: str) -> str | None:
    """Apply one `key.path=value`; returns what is wrong with it, if anything."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        return f"{text!r}: an override is written key.path=value"
    target: Any = values
    *parents, last = path.split(".")
    for parent in parents:
        target = _enter(target, parent)
        if target is None:
            return f"{path}: there is no {parent!r} to set this in; {nearest(path, Recipe.model_fields)}"
    if not isinstance(target, dict):
        return f"{path}: {'.'.join(parents)} holds no keys"
    try:
        target[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        return f"{path}: {value!r} is not a value: {error}"
    return None


def _enter(target: Any, name: str) -> Any:
    if isinstance(target, dict):
        return target.setdefault(name, {}) if name in ("shape", "mixture") else target.get(name)
    if isinstance(target, list):
        if name.isdigit() and int(name) < len(target):
            return target[int(name)]
        return next((item for item in target if isinstance(item, dict) and item.get("name") == name), None)
    return None
