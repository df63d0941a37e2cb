"""Tasks out of their names (see `task_names`), and the family that measures each.

A family is a package here, measured by its module `family`.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from ettin.errors import InputError
from ettin.evaluation.task import Task
from ettin.task_names import BLIMP, GROUPS, families_of

SEEDED = {"classification", "retrieval"}
"""Families whose results depend on a seed."""


def family_module(family: str) -> ModuleType:
    """The module that measures a family's tasks."""
    return import_module(f"ettin.evaluation.{family}.family")


def parse_tasks(text: str, *, data: Path | None) -> tuple[list[Task], list[str]]:
    """Tasks out of what was typed after `--tasks`, each once, in that order.

    Args:
        text: names, groups and `family=PATH`, separated by commas.
        data: the folder with local data; the group `retrieval` means the collections in it.

    Returns:
        The tasks, and what is wrong with the other words, a sentence each.
    """
    tasks: list[Task] = []
    problems = []
    for word in filter(None, (each.strip() for each in text.split(","))):
        try:
            tasks += _tasks_of(word, data)
        except InputError as error:
            problems.append(str(error))
    return list(dict.fromkeys(tasks)), problems


def _tasks_of(word: str, data: Path | None) -> list[Task]:
    family, equals, given = word.partition("=")
    if equals:
        return _tasks_of_path(family, Path(given))
    families = families_of(word)
    if word in GROUPS:
        return [each for family in families for each in _all_of(family, data)]
    return [Task(families[0], word if word == BLIMP else word.partition("/")[2])]


def _all_of(family: str, data: Path | None) -> list[Task]:
    """All tasks of a family; with a folder of data, the collections that lie in it."""
    local = data / family if data is not None else None
    if family == "retrieval" and local is not None and local.is_dir():
        return [Task(family, each.name) for each in sorted(local.iterdir()) if each.is_dir()]
    group = getattr(family_module(family), "GROUP", None)
    return [Task(family, name) for name in group or family_module(family).names()]


def _tasks_of_path(family: str, path: Path) -> list[Task]:
    families_of(f"{family}={path}")
    if not path.exists():
        raise InputError(f"--tasks {family}={path}: there is no such folder")
    if family in {"quick", "text", "bias"}:
        return [Task(family, name, path) for name in family_module(family).names()]
    return [Task(family, path.absolute().name, path)]
