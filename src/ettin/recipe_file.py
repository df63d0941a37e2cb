"""Recipe files: read, completed from the presets, and refused with all mistakes at once.

load_recipe(Path("recipes/nano.yaml"), overrides=["phases.pretraining.tokens=2M"])

A size fills in the shape and the rates, a phase's name its row of the table of phases; a phase may
be its name alone. Three words stand for values that are found elsewhere:

    size: start                 the shape of the model that the run starts from (RoPE bases: alike)
    mixture: published          the published mixture of each phase, or of this one
    batch_warmup_tokens: published       the size's published batch warm-up

recipes/nano.yaml cannot be used:
  - phases.0.maskrate: unknown key; did you mean 'mask_rate'?
  - size: 'nan' is unknown; did you mean 'nano'?
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ettin import mixtures
from ettin.errors import InputError, nearest
from ettin.fields import Share, Strict
from ettin.files import Json
from ettin.numbers import parse_count
from ettin.presets import PHASES, SIZES, phase_values
from ettin.recipe import Phase, Recipe, Suite, TrainedTokenizer, Trajectories
from ettin.shape import Dimensions
from ettin.yaml_file import override, read_yaml

START = "start"
PUBLISHED = "published"
CUSTOM = "custom"
"""The size of a recipe that states its whole shape itself."""
SUITE_KEYS = frozenset(Suite.model_fields)
"""Keys that a file may hold besides a recipe's: with them it is a suite; see `suite_file`."""
_SHAPE_KEYS = frozenset(Dimensions.model_fields)


def load_recipe(
    path: Path,
    *,
    overrides: list[str] | None = None,
    objective: str | None = None,
    start: Json | None = None,
) -> Recipe:
    """Read, complete and check a recipe.

    Args:
        path: a YAML file.
        overrides: `key.path=value`; a phase is addressed by number or by name.
        objective: replaces the file's `objective`.
        start: what is known of the model that the run starts from, as `training.start` finds it.

    Raises:
        InputError: every mistake at once, one a line, with the nearest valid name.
    """
    values = read_yaml(path)
    if isinstance(values.get("phases"), list):
        values["phases"] = [_as_phase(phase) for phase in values["phases"]]
    problems = [
        problem
        for text in overrides or []
        if (problem := override(values, text, known=Recipe.model_fields))
    ]
    values = _of_one_run(values, problems)
    if objective is not None:
        values["objective"] = objective
    if start is not None:
        values["start_from"] = start["where"]
    return _build(values, source=str(path), problems=problems, start=start)


def resolve(values: dict[str, Any], *, start: Json | None = None) -> Recipe:
    """Complete and check a recipe given as a dictionary, as `load_recipe` does for a file."""
    if isinstance(values.get("phases"), list):
        values = {**values, "phases": [_as_phase(phase) for phase in values["phases"]]}
    return _build(values, source="recipe", problems=[], start=start)


def start_of(path: Path, *, overrides: list[str]) -> str | None:
    """The `start_from` of a recipe file, before anything else in it is looked at.

    Raises:
        InputError: the file is no YAML.
    """
    values = read_yaml(path)
    for text in overrides:
        if text.startswith("start_from="):
            override(values, text, known=Recipe.model_fields)
    given = values.get("start_from")
    return given if isinstance(given, str) else None


def _of_one_run(values: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """A suite's file as the recipe of one of its runs: without what concerns the suite alone."""
    if not SUITE_KEYS & values.keys():
        return values
    recipe = {key: value for key, value in values.items() if key not in SUITE_KEYS}
    for one, many in (("size", "sizes"), ("seed", "seeds")):
        given = values.get(many)
        if one not in recipe and isinstance(given, list) and given:
            recipe[one] = given[0]
            if one == "size" and len(given) > 1:
                listed = ", ".join(map(str, given))
                problems.append(
                    f"size: the file is a suite of {listed}; choose one: size={given[0]}"
                )
    return recipe


def _build(
    values: dict[str, Any], *, source: str, problems: list[str], start: Json | None
) -> Recipe:
    size, size_problems = _size_of(values, start)
    problems += size_problems
    complete = _complete(values, size=size, start=start, problems=problems)
    try:
        recipe = Recipe.model_validate(complete)
    except ValidationError as error:
        problems += [
            explain(item)
            for item in error.errors()
            if not (size_problems and _follows_from_size(item))
        ]
    else:
        problems += _inert(recipe)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in dict.fromkeys(problems))
        raise InputError(f"{source} cannot be used:\n{listed}")
    return recipe


def _size_of(values: dict[str, Any], start: Json | None) -> tuple[str, list[str]]:
    """The name of the size, and what is wrong with it."""
    size = values.get("size")
    if size is None:
        return CUSTOM, []  # that it is missing is said later
    if size == START:
        if start is None:
            return CUSTOM, [f"size: {START!r} needs a start: give --from WHERE"]
        alike = [name for name in SIZES if _dimensions(name).items() <= start["shape"].items()]
        return (alike[0] if alike else CUSTOM), []
    if size not in (*SIZES, CUSTOM):
        return str(size), [f"size: {size!r} is unknown; {nearest(str(size), [*SIZES, CUSTOM])}"]
    return str(size), []


def _complete(
    values: dict[str, Any], *, size: str, start: Json | None, problems: list[str]
) -> dict[str, Any]:
    """Fill in what the size, the start and the names of the phases imply."""
    complete = dict(values)
    if size in SIZES:
        row = SIZES[size]
        complete = {"peak_lr": row.peak_lr, "weight_decay": row.weight_decay, **complete}
    shape: dict[str, Any] = _dimensions(size) if size in SIZES else {}
    if start is not None and values.get("size") == START:
        shape = {key: start["shape"][key] for key in Dimensions.model_fields}
    elif start is not None and start["format"] == "huggingface":
        shape["local_reach"] = start["shape"]["local_reach"]
    given = values.get("shape", {})
    if isinstance(given, dict) and (shape or given):
        complete["shape"] = {**shape, **given}
    if "size" in values:
        complete["size"] = size
    phases = values.get("phases")
    published = complete.get("mixture") == PUBLISHED
    if published:
        complete["mixture"] = {}
    if isinstance(phases, list):
        complete["phases"] = [
            _complete_phase(
                {"mixture": PUBLISHED, **phase} if published else phase,
                number=number,
                size=size,
                values=values,
                start=start,
                problems=problems,
            )
            if isinstance(phase, dict)
            else phase
            for number, phase in enumerate(phases)
        ]
    return complete


def _complete_phase(
    phase: dict[str, Any],
    *,
    number: int,
    size: str,
    values: dict[str, Any],
    start: Json | None,
    problems: list[str],
) -> dict[str, Any]:
    """A phase with the values of its row where it states none."""
    name = phase.get("name")
    if name not in PHASES:
        return phase
    variant: Any = values.get("variant", "intended")
    implied = phase_values(
        name,
        size=size,
        objective=str(values.get("objective", "mlm")),
        variant=variant,
        tokens=_count(phase.get("tokens")),
        decay_tokens=_count(phase.get("decay_tokens")),
    )
    complete = {**implied, **phase}
    if phase.get("mixture") == PUBLISHED:
        complete["mixture"] = mixtures.published(name).weights()
    if phase.get("batch_warmup_tokens") == PUBLISHED:
        row = SIZES.get(size)
        if row is None or row.batch_warmup_tokens is None:
            problems.append(
                f"phases.{number}.batch_warmup_tokens: none is published for size {size!r}"
            )
            del complete["batch_warmup_tokens"]
        else:
            complete["batch_warmup_tokens"] = row.batch_warmup_tokens
            complete.setdefault("batch_warmup_rows", row.batch_warmup_rows)
    for key in ("global_rope_theta", "local_rope_theta"):
        if phase.get(key) == START:
            complete[key] = start[key] if start else implied[key]
            if start is None:
                problems.append(
                    f"phases.{number}.{key}: {START!r} needs a start: give --from WHERE"
                )
    return complete


def _as_phase(phase: Any) -> Any:
    """A phase that is written as its name alone has all values of its row."""
    return {"name": phase} if isinstance(phase, str) else phase


def _dimensions(size: str) -> dict[str, int]:
    return {key: value for key, value in SIZES[size]._asdict().items() if key in _SHAPE_KEYS}


def _count(value: Any) -> int | None:
    """A count as it will be read; None where it is missing, or wrong, which is said later."""
    try:
        return None if value is None else parse_count(value)
    except ValueError:
        return None


def _follows_from_size(item: Any) -> bool:
    """Whether something is missing only because the size is unknown, which has been said."""
    derived = {"shape", "peak_lr", "weight_decay", "tokens"}
    return item["type"] == "missing" and bool(derived & set(item["loc"]))


def _inert(recipe: Recipe) -> list[str]:
    """Settings that are valid but that nothing would read."""
    problems = []
    largest = max(phase.batch_rows for phase in recipe.phases)
    if recipe.micro_batch_rows and recipe.micro_batch_rows > largest:
        problems.append(
            f"micro_batch_rows: {recipe.micro_batch_rows} has no effect beyond batch_rows {largest}"
        )
    if recipe.mixture and all(phase.mixture or phase.row_order for phase in recipe.phases):
        problems.append("mixture: has no effect, because every phase has its own, or a row_order")
    return problems


_MODELS: dict[str, type[Strict]] = {
    "shape": Dimensions,
    "phases": Phase,
    "mixture": Share,
    "tokenizer": TrainedTokenizer,
    "trajectories": Trajectories,
}


def explain(item: Any) -> str:
    """One error of pydantic as one sentence that starts with the path of the key."""
    location = [str(part) for part in item["loc"]]
    path = ".".join(location)
    if item["type"] == "extra_forbidden":
        known = {*Recipe.model_fields, *SUITE_KEYS}
        if len(location) > 1:
            holder = "mixture" if "mixture" in location[:-1] else location[0]
            known = set(_MODELS.get(holder, Recipe).model_fields)
        return f"{path}: unknown key; {nearest(location[-1], known)}"
    if item["type"] == "missing":
        return f"{path}: missing"
    message = item["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list: […]")
    given = "" if item["type"] == "value_error" else f", got {item['input']!r}"
    return f"{path or 'recipe'}: {message}{given}"
