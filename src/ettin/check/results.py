"""Results: every record parses, lies where its content says, and has its samples beside it."""

import math
from collections.abc import Iterator
from pathlib import Path

from ettin import files
from ettin.records import Record, file_name, folder_of, read_records, record_path, settings_of


def check_results(out: Path) -> Iterator[str]:
    """What is wrong with the records below a directory of results."""
    for name, record in read_records(out).items():
        path = out / name
        if isinstance(record, Record):
            yield from _check_record(out, path, record)
        elif record.startswith(str(path)):
            yield record
        else:
            yield f"{path}: no record: {record}"


def _check_record(out: Path, path: Path, record: Record) -> Iterator[str]:
    folder = folder_of(out, model=record.model, weights=record.weights, task=record.task)
    expected = record_path(folder, settings_of(record))
    if path.parent != folder:
        yield f"{path}: a record of {record.model} on {record.task}, which belongs into {folder}"
    elif path != expected:
        yield f"{path}: its settings belong into {expected.name}; it was altered or renamed"
    if record.metric not in record.metrics or record.metrics[record.metric].value != record.value:
        yield f"{path}: its value is not that of its metric, {record.metric}"
    elif record.metrics[record.metric].stderr != record.stderr:
        yield f"{path}: its standard error is not that of its metric, {record.metric}"
    if not all(math.isfinite(score.value) for score in record.metrics.values()):
        yield f"{path}: holds a score that is no finite number"
    if (record.kind == "decoder") != (record.objective == "clm"):
        yield f"{path}: a {record.kind} with the objective {record.objective}"
    if record.samples is not None:
        samples = path.parent / record.samples
        if file_name(record.samples) != record.samples or not samples.is_file():
            yield f"{path}: its samples, {record.samples!r}, are not beside it"


def looks_like_results(folder: Path) -> bool:
    """Whether a folder without a manifest holds records of models, as evaluations lay them out."""
    return any(
        isinstance(record, Record) or "task" in _keys(folder / name)
        for name, record in read_records(folder).items()
    )


def _keys(path: Path) -> set[str]:
    try:
        return set(files.read_json(path))
    except (ValueError, RecursionError):
        return set()
