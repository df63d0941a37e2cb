"""Recipe files: read, completed from the presets, and refused with all mistakes at once.

load_recipe(Path("recipes/nano.yaml"), overrides=["phases.pretraining.tokens=2M"])

recipes/nano.yaml cannot be used:
  - phases.0.maskrate: unknown key; did you mean 'mask_rate'?
  - size: 'nan' is unknown; did you mean 'nano'?
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ettin.errors import InputError, nearest
from ettin.presets import SIZES
from ettin.recipe import Dimensions, Phase, Recipe, Strict


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
        complete = {
            **rates,
            **values,
            "shape": {**row, **given} if isinstance(given, dict) else given,
        }
    elif "size" in values:
        problems.append(f"size: {size!r} is unknown; {nearest(str(size), SIZES)}")
    try:
        recipe = Recipe.model_validate(complete)
    except ValidationError as error:
        # Without a known size these three are missing because of it, which has been said.
        derived = set() if size in SIZES else {"shape", "peak_lr", "weight_decay"}
        problems += [
            _explain(item)
            for item in error.errors()
            if not (problems and item["type"] == "missing" and item["loc"][0] in derived)
        ]
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
            f"micro_batch_rows: {recipe.micro_batch_rows} has no effect beyond "
            f"batch_rows {batch_rows}"
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

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - the parent's signature
    ) -> dict[Any, Any]:
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
            hint = nearest(parents[0], Recipe.model_fields)
            return f"{path}: there is no {parent!r} to set this in; {hint}"
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
        return next(
            (item for item in target if isinstance(item, dict) and item.get("name") == name), None
        )
    return None
