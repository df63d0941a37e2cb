"""Tasks of lm-eval with its own prompts, on data of the hub or on local files.

    built = build(name, local, limit=None)      built.tasks["piqa"] is a task of lm-eval

Local rows take the place of what lm-eval would download; prompts, choices and metrics stay its own.
What would silently count as wrong answers is an error: a column that the prompt names and the data
lack, an empty split, a right answer that is not among the choices.
"""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin.console import log
from ettin.errors import InputError, nearest
from ettin.evaluation.lm.files import (
    ONE_FILE,
    SPLITS,
    LocalData,
    common_columns,
    read_rows,
)
from ettin.files import Json

LAYOUTS: dict[str, tuple[frozenset[str], Json]] = {
    "hellaswag": (
        frozenset({"query", "choices", "gold"}),
        {"process_docs": None, "doc_to_target": "gold"},
    ),
    "triviaqa": (frozenset({"question", "aliases"}), {"doc_to_target": "{{aliases}}"}),
    "wsc273": (
        frozenset({"context_options", "continuation", "gold"}),
        {
            "process_docs": None,
            "doc_to_text": "gold",
            "doc_to_choice": "{{context_options}}",
            "doc_to_target": "continuation",
        },
    ),
}
"""Task → columns by which another layout than the hub's is known, and what then changes."""

_DEFINITION = re.compile(rb"^(?:task|group):[ \t]*[\"']?([\w.-]+)", re.MULTILINE)
_PROMPT = ("doc_to_text", "doc_to_choice", "doc_to_target")


@dataclass(frozen=True)
class Built:
    """A task that can be asked, or the tasks of a group.

    Attributes:
        tasks: lm-eval's, by name.
        version: of the task or group.
        weighted: whether a group's mean counts each example alike, instead of each task.
        data: fingerprint of local files, or revisions on the hub.
        facts: what was done to the data.
        counts: how many examples of each task are asked.
    """

    tasks: dict[str, Any]
    version: str
    weighted: bool
    data: str
    facts: Json
    counts: dict[str, int]


def build(name: str, local: LocalData | None, *, limit: int | None) -> Built:
    """A task or group by lm-eval's name.

    Args:
        name: lm-eval's.
        local: its files; None: its data on the hub (or in the hub's cache).
        limit: at most so many examples; spread evenly over the tasks of a group.

    Raises:
        InputError: lm-eval knows no such task; its data cannot be got; columns are missing; an
            answer is not among its choices.
    """
    manager = task_manager(name)
    entry = manager.task_index[name]
    facts: Json = {}
    if local is None:
        loaded = _from_hub(manager, name)
    else:
        members = _members(name, entry.cfg or {})
        # One file may hold all members: it is read once.
        rows = {split: read_rows(path) for split, path in local.splits.items()}
        changes = [_changed(manager, each, local, rows, facts) for each in members]
        with _prompt_errors(name, local):
            loaded = manager.load({"group": f"local {name}", "task": changes})
    tasks: dict[str, Any] = loaded["tasks"]
    for task in tasks.values():
        task.set_config(key="num_fewshot", value=0)
    counts = _spread({each: len(task.eval_docs) for each, task in tasks.items()}, limit)
    tasks = {each: task for each, task in tasks.items() if counts[each]}
    with _prompt_errors(name, local):
        for each, task in tasks.items():
            _check_answers(task, each, counts[each])
    aggregated = (entry.cfg or {}).get("aggregate_metric_list") or [{}]
    metadata = (entry.cfg or {}).get("metadata") or {}
    return Built(
        tasks,
        version=str(metadata.get("version", "unknown")),
        weighted=bool(aggregated[0].get("weight_by_size", True)),
        data=local.fingerprint if local else _hub_revisions(tasks),
        facts=facts,
        counts={each: counts[each] for each in tasks},
    )


def task_manager(name: str) -> Any:
    """lm-eval's manager of tasks that knows this one, and of the others as few as can be.

    Raises:
        InputError: no task of lm-eval has that name.
    """
    folders = _folders()
    if name not in folders:
        raise InputError(f"lm/{name} is no task of lm-eval; {nearest(name, folders)}")
    manager = _manager(folders[name])
    needed = [name]
    if name in manager.task_index:
        members = (manager.task_index[name].cfg or {}).get("task")
        needed += (
            [each for each in members if isinstance(each, str)] if isinstance(members, list) else []
        )
    if all(each in manager.task_index for each in needed):
        return manager
    log.info("reading all tasks that lm-eval has, which takes about ten seconds")
    return _manager(None)


@functools.cache
def _folders() -> dict[str, Path]:
    """Task or group → the folder that defines it.

    Found by a look at the text: to parse all of the files, as lm-eval would, takes ten times as
    long.
    """
    from lm_eval import tasks

    folders: dict[str, Path] = {}
    for path in sorted(Path(tasks.__file__).parent.rglob("*.yaml")):
        for match in _DEFINITION.finditer(path.read_bytes()):
            folders.setdefault(match[1].decode(), path.parent)
    return folders


@functools.cache
def _manager(folder: Path | None) -> Any:
    from lm_eval.tasks import TaskManager

    if folder is None:
        return TaskManager()
    return TaskManager(include_path=str(folder), include_defaults=False)


def _from_hub(manager: Any, name: str) -> Any:
    try:
        return manager.load(name)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot get the data of lm/{name} from the hub: {reason}; give local files with "
            f"--data DIR (DIR/lm_eval/{name}/SPLIT.jsonl[.gz], made by `ettin prefetch`)"
        ) from error


def _members(name: str, config: Json) -> list[str]:
    members = config.get("task")
    if "group" not in config:
        return [name]
    if not isinstance(members, list) or not all(isinstance(each, str) for each in members):
        raise InputError(
            f"lm/{name} is a group of groups, which local data cannot stand for; name its tasks"
        )
    if name not in ONE_FILE:
        raise InputError(
            f"lm/{name} is a group of {len(members)} tasks, each with data of its own; with local "
            f"data name them: {', '.join(members[:3])}, …"
        )
    return members


def _changed(
    manager: Any, name: str, local: LocalData, all_rows: dict[str, list[Json]], facts: Json
) -> Json:
    """A member of a group: the task's name, and what changes in its definition."""
    import datasets

    group = next((each for each in ONE_FILE if name.startswith(f"{each}_")), None)
    config: Json = manager.task_index[name].cfg
    splits = {}
    change: Json = {}
    for split, path in local.splits.items():
        rows = all_rows[split]
        if group is not None:
            rows = _part(rows, str(config["dataset_name"]), path)
        columns = common_columns(rows)
        layout, change = LAYOUTS.get(name, (None, {}))
        change = change if layout is not None and layout <= set(columns) else {}
        _check_columns({**config, **change}, columns, rows, path)
        try:
            splits[split] = datasets.Dataset.from_list(
                [{column: row[column] for column in columns} for row in rows]
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: rows differ in kind: {error}") from error
    filled = _fill(splits, config)
    if filled:
        facts["filled_splits"] = filled
    return {
        "task": name,
        **change,
        "should_decontaminate": False,
        # No examples are put before a question, so none need to be kept in memory.
        "fewshot_config": {"sampler": "first_n", "samples": []},
        "custom_dataset": lambda **_its_own: datasets.DatasetDict(splits),
    }


def _part(rows: list[Json], uid: str, path: Path) -> list[Json]:
    if not all("UID" in row for row in rows):
        raise InputError(f"{path}: every row needs a column UID, by which its part is known")
    part = [row for row in rows if row["UID"] == uid]
    if not part:
        there = sorted({str(row["UID"]) for row in rows})
        raise InputError(
            f"{path} holds no row with UID {uid!r}; it has {len(there)} others: "
            f"{', '.join(there[:5])}{', …' if len(there) > 5 else ''}"
        )
    return part


def _fill(splits: dict[str, Any], config: Json) -> dict[str, str]:
    """Put one that is there in the place of each split that the task names; returns which."""
    fewshot = config.get("fewshot_config") or {}
    named = [config.get(f"{each}_split") for each in ("training", "validation", "test", "fewshot")]
    wanted = {split for split in [*named, fewshot.get("split")] if split} - set(splits)
    source = next(split for split in SPLITS if split in splits)
    for split in wanted:
        splits[split] = splits[source]
    return dict.fromkeys(sorted(wanted), source)


def _check_columns(config: Json, columns: list[str], rows: list[Json], path: Path) -> None:
    """Every column that the prompt names must be there; lm-eval takes some names for text."""
    from jinja2 import Environment, meta

    if config.get("process_docs"):
        return
    for field in _PROMPT:
        template = config.get(field)
        if not isinstance(template, str):
            continue
        # A bare word names a column; anything else is a template that may use some.
        parsed = Environment(autoescape=True).parse(template)
        named = {template} if template.isidentifier() else meta.find_undeclared_variables(parsed)
        for column in sorted(named - set(columns)):
            raise _missing(column, columns, rows, path)


def _missing(column: str, columns: list[str], rows: list[Json], path: Path) -> InputError:
    without = [number for number, row in enumerate(rows, start=1) if column not in row]
    where = "" if len(without) == len(rows) else f" in its example {without[0]}"
    return InputError(
        f"{path} has no column {column!r}{where}, which the prompt needs; it has "
        f"{', '.join(columns) or 'no column that all rows have'}"
    )


@contextmanager
def _prompt_errors(name: str, local: LocalData | None) -> Iterator[None]:
    """What a prompt that does not fit its data raises, as a mistake of the caller."""
    from jinja2 import UndefinedError

    where = f"the data of lm/{name}" if local is None else str(local.folder)
    try:
        yield
    except KeyError as error:
        there = common_columns(read_rows(next(iter(local.splits.values())))) if local else []
        raise InputError(
            f"{where} has no column {error}, which the prompt needs; it has {', '.join(there)}"
        ) from error
    except UndefinedError as error:
        raise InputError(f"{where} does not fit the prompt of lm/{name}: {error}") from error


def _check_answers(task: Any, name: str, count: int) -> None:
    """A right answer outside of the choices would count as a wrong one, in silence."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return
    for number in range(count):
        example = task.eval_docs[number]
        answer = task.doc_to_text(example) if task.multiple_input else task.doc_to_target(example)
        choices = task.doc_to_choice(example)
        for each in answer if isinstance(answer, list) else [answer]:
            valid = each in choices if isinstance(each, str) else 0 <= each < len(choices)
            if not valid:
                raise InputError(
                    f"lm/{name}, example {number + 1}: its answer {each!r} is none of the "
                    f"{len(choices)} choices; are these data of a test without answers?"
                )


def _spread(sizes: dict[str, int], limit: int | None) -> dict[str, int]:
    """How many examples of each task: at most `limit` together, as even as can be."""
    if limit is None:
        return sizes
    each, rest = divmod(limit, len(sizes))
    return {
        name: min(size, each + (place < rest)) for place, (name, size) in enumerate(sizes.items())
    }


def _hub_revisions(tasks: dict[str, Any]) -> str:
    """Commits on the hub, which name the folders of its cache."""
    found = set()
    for task in tasks.values():
        docs = task.dataset[next(iter(task.dataset))]
        cached = getattr(docs, "cache_files", None)
        found.add(Path(cached[0]["filename"]).parent.name if cached else docs._fingerprint)
    return ",".join(sorted(found))
