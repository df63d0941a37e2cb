"""Suite files: a recipe's keys and a suite's, read together and refused with all mistakes at once.

    file = load_suite(Path("recipes/ettin.yaml"))
    file.suite.sizes                                    # ("17m", …, "1b")
    file.recipe("17m", seed=21, objective="clm")        # the recipe of one of its runs

    # recipes/quickstart.yaml
    sizes: [nano]
    text: [my-texts]
    tokenizer: {vocab_size: 8192}
    phases: [...]                                       # as in a recipe; all sizes have the same
    tasks: [quick]

Every run is trained by `ettin train FILE size=… seed=…`, so that the same file is read there.
Paths are relative to where the suite is first run, as on the command line.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ettin.errors import InputError
from ettin.recipe import CROSS, Recipe, Suite
from ettin.recipe_file import SUITE_KEYS, explain, load_recipe
from ettin.task_names import families_of
from ettin.yaml_file import read_yaml

_KEYS_OF_RUNS = {"size", "seed", "objective", "corpus"}
_CHECKPOINTS_AT_MOST = 100_000


@dataclass(frozen=True)
class SuiteFile:
    """A suite, and the file that holds it.

    Attributes:
        path: the file, as it was given.
        suite: what concerns the suite.
        corpus: the prepared corpus that the file names; None where the suite prepares its own.
    """

    path: Path
    suite: Suite
    corpus: Path | None

    def overrides(self, size: str, *, seed: int) -> list[str]:
        """`key.path=value` that make the file the recipe of one size and seed."""
        return [f"size={size}", f"seed={seed}", *self.suite.per_size.get(size, ())]

    def recipe(self, size: str, *, seed: int, objective: str) -> Recipe:
        """The recipe of one of its runs, with all its phases."""
        chosen = self.overrides(size, seed=seed)
        return load_recipe(self.path, overrides=chosen, objective=objective)


def load_suite(path: Path) -> SuiteFile:
    """Read and check a suite file, and the recipe of each of its sizes.

    Raises:
        InputError: every mistake at once, one a line, with the nearest valid name.
    """
    values = read_yaml(path)
    problems: list[str] = []
    suite: Suite | None = None
    try:
        suite = Suite.model_validate({key: values[key] for key in values if key in SUITE_KEYS})
    except ValidationError as error:
        problems += [explain(item) for item in error.errors()]
    sizes = values.get("sizes")
    recipes = []
    for size in map(str, sizes) if isinstance(sizes, list) else ():
        chosen = [f"size={size}", *(suite.per_size.get(size, ()) if suite else ())]
        try:
            recipes.append(load_recipe(path, overrides=chosen))
        except InputError as error:
            problems += [line.removeprefix("  - ") for line in str(error).splitlines()[1:]]
    if suite is not None:
        problems += _unfit(suite, values, recipes)
    if suite is None or problems:
        listed = "\n".join(f"  - {problem}" for problem in dict.fromkeys(problems))
        raise InputError(f"{path} cannot be used as a suite:\n{listed}")
    corpus = values.get("corpus")
    return SuiteFile(path, suite, Path(corpus) if corpus else None)


def _unfit(suite: Suite, values: dict[str, Any], recipes: list[Recipe]) -> list[str]:
    """What each key allows by itself and that does not go together."""
    texts = [key for key in ("text", "sources", "corpus") if values.get(key)]
    problems = []
    if len(texts) != 1:
        given = " and ".join(texts) or "none"
        problems.append(f"text: give one of text, sources and corpus; given: {given}")
    if "corpus" in texts:
        problems += [
            f"{key}: has no effect, because the corpus is prepared already"
            for key in ("tokenizer", "exclude", "held_out", "packing", "text_column", "id_column")
            if values.get(key)
        ]
    elif suite.tokenizer is None:
        problems.append("tokenizer: missing; a directory, a hub id, or {vocab_size: 8192}")
    problems += _unfit_overrides(suite) + _unfit_words(suite) + _too_many_checkpoints(recipes)
    if suite.cross and not all(_has_cross(recipe) for recipe in recipes):
        problems.append(f"cross: the phases have none named {CROSS!r}")
    for word in (*suite.tasks, *(suite.trajectories.tasks if suite.trajectories else ())):
        if "," in word:
            problems.append(f"tasks: {word!r} has a comma; give each task by itself")
        try:
            families_of(word)
        except InputError as error:
            problems.append(str(error).replace("--tasks", "tasks:"))
    return problems


def _unfit_overrides(suite: Suite) -> list[str]:
    """Overrides of keys that the runs get from the suite itself."""
    return [
        f"per_size.{size}: {text!r} has no effect on a run of the suite, or gives it a wrong name"
        for size, overrides in suite.per_size.items()
        for text in overrides
        if text.partition("=")[0].partition(".")[0] in SUITE_KEYS | _KEYS_OF_RUNS
    ]


def _unfit_words(suite: Suite) -> list[str]:
    """Words of commands that would be read as something else there."""
    given = {
        "exclude": suite.exclude,
        "text_mixture": (suite.text_mixture,),
        "text_column": (suite.text_column,),
        "id_column": (suite.id_column,),
        "tokenizer": (suite.tokenizer,),
        "sources": tuple(suite.sources),
    }
    problems = [
        f"{key}: {word!r} would be taken for an option; it may not begin with '-'"
        for key, words in given.items()
        for word in words
        if isinstance(word, str) and word.startswith("-")
    ]
    problems += [
        f"sources: {name!r} cannot be the name of a source; leave out '='"
        for name in suite.sources
        if not name or "=" in name
    ]
    return problems


def _too_many_checkpoints(recipes: list[Recipe]) -> list[str]:
    """Phases that save so often that nobody can have meant it."""
    return [
        f"phases.{phase.name}: {phase.tokens:,} tokens, saved every {phase.save_every_tokens:,}, "
        f"make more than {_CHECKPOINTS_AT_MOST:,} checkpoints; raise save_every_tokens"
        for recipe in recipes
        for phase in recipe.phases
        if phase.save_every_tokens
        and phase.tokens // phase.save_every_tokens > _CHECKPOINTS_AT_MOST
    ]


def _has_cross(recipe: Recipe) -> bool:
    return any(phase.name == CROSS for phase in recipe.phases)
