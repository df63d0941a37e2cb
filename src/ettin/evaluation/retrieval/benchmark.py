"""The English benchmark of `mteb` as a whole: 41 tasks of seven types, and one mean.

Retrieval is one type of them; clustering, classification, similarity and the rest are asked of the
same embeddings, each by the metric that the benchmark gives it. The mean counts every task once.
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ettin import files
from ettin.errors import InputError
from ettin.evaluation.libraries import quiet
from ettin.evaluation.retrieval import mteb_tasks
from ettin.records import Score, file_name

FOLDER = "mteb"
"""Of these tasks, in the folder with data."""
_CONTENTS = "contents.json"
_VALUE = "value.json"


def main_score(task: Any, embedder: Any, *, batch_rows: int) -> float:
    """The score that a task of any type is known by: the mean of its subsets and splits.

    Args:
        task: of `mteb`, with its data.
        embedder: a model of `sentence-transformers`.
        batch_rows: texts that are embedded at once.
    """
    import mteb

    with quiet():
        found = mteb.evaluate(
            embedder, [task], encode_kwargs={"batch_size": batch_rows, "show_progress_bar": False},
            cache=None, co2_tracker=False, show_progress_bar=False,
        )  # fmt: skip
    return float(found.task_results[0].get_score())


def measure_all(
    embedder: Any,
    *,
    data: Path | None,
    offline: bool,
    batch_rows: int,
    advance: Callable[[float, str], None],
) -> dict[str, Score]:
    """All tasks of the benchmark.

    Args:
        embedder: a model of `sentence-transformers`.
        data: a folder that `prefetch_all` filled; None: the hub.
        offline: the hub must not be asked.
        batch_rows: texts that are embedded at once.
        advance: told the share that is done, and a few words.

    Returns:
        `mean`, the mean of each type, and each task.
    """
    scores: dict[str, float] = {}
    types: dict[str, list[float]] = {}
    tasks = mteb_tasks.benchmark_tasks()
    for number, task in enumerate(tasks):
        name = task.metadata.name
        advance(number / len(tasks), name)
        folder = data / FOLDER / file_name(name) if data is not None else None
        if folder is not None and folder.is_dir():
            restore(task, folder)
        else:
            mteb_tasks.load(task, None, offline=offline)
        scores[name] = main_score(task, embedder, batch_rows=batch_rows)
        types.setdefault(task.metadata.type, []).append(scores[name])
        task.dataset, task.data_loaded = {}, False
    means = {f"mean/{kind}": statistics.fmean(values) for kind, values in types.items()}
    found = {"mean": statistics.fmean(scores.values()), **means, **scores}
    return {name: Score(value=value) for name, value in found.items()}


def prefetch_all(out: Path) -> None:
    """Fetch the data of all tasks into a folder that `--data` reads."""
    for task in mteb_tasks.benchmark_tasks():
        folder = out / FOLDER / file_name(task.metadata.name)
        if not (folder / _CONTENTS).is_file():
            mteb_tasks.load(task, None)
            keep(task, folder)


def keep(task: Any, folder: Path) -> None:
    """Write the data of a loaded task of any type."""
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    _write(task.dataset, folder)


def restore(task: Any, folder: Path) -> None:
    """Give a task the data that `keep` wrote.

    Raises:
        InputError: the folder is not one of these, or not whole.
    """
    task.dataset = _read(folder)
    task.data_loaded = True


def _write(value: Any, folder: Path) -> None:
    """Tables as `datasets` saves them, dictionaries of them as folders, the rest as JSON."""
    import datasets

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(value, datasets.Dataset | datasets.DatasetDict):
        value.save_to_disk(folder)
    elif _holds_tables(value):
        for number, part in enumerate(value.values()):
            _write(part, folder / str(number))
        # Written last, so that a folder without it is unfinished.
        files.write_json(folder / _CONTENTS, {"names": list(value)})
    else:
        files.write_atomic(folder / _VALUE, json.dumps(value, ensure_ascii=False))


def _holds_tables(value: Any) -> bool:
    import datasets

    if isinstance(value, datasets.DatasetDict | datasets.Dataset):
        return True
    return isinstance(value, dict) and any(_holds_tables(each) for each in value.values())


def _read(folder: Path) -> Any:
    import datasets

    if (folder / _CONTENTS).is_file():
        names = files.read_json(folder / _CONTENTS)["names"]
        return {name: _read(folder / str(number)) for number, name in enumerate(names)}
    if (folder / _VALUE).is_file():
        return json.loads((folder / _VALUE).read_bytes())
    try:
        return datasets.load_from_disk(folder)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} is unfinished; remove it and run `ettin prefetch` again"
        ) from error
