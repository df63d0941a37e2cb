"""A verifier of any directory that ettin writes: whole, unaltered, and sound in itself.

`check` compares every file with the manifest (presence, size, hash), inside finished directories
too. Only when all bytes are as they were written does it look at what they say: JSON parses,
safetensors and Arrow files are complete, a run's steps and ledger are one unbroken chain, an
export's proof of parity holds. It imports none of the stages; it knows their files alone.
"""

import json
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from ettin import files
from ettin.console import read_json_lines
from ettin.errors import InputError
from ettin.files import MANIFEST, Json
from ettin.recipe_file import load_recipe

_ARROW = b"ARROW1"
_BESIDE = (".lock", ".log")
"""Logs and locks lie beside the directories of stages, in folders that hold several."""
_SIGNS = {"start.json", "metrics.jsonl", "ledger.jsonl", "state.json", "config.json",
          "tokenizer.json", "index.html"}  # fmt: skip
_SIGN_ENDINGS = (".arrow", ".safetensors")


def check(path: Path) -> list[str]:
    """Verify a directory, or a folder that holds several.

    Args:
        path: a corpus, run, checkpoint, export, tokenizer or report, or a folder of these.

    Returns:
        One sentence a problem; empty when all is well. An unfinished directory is a problem.

    Raises:
        InputError: `path` is not a directory.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a directory; give one that an ettin command wrote")
    if files.is_finished(path):
        return files.verify(path) or _contents(path)
    if _is_started(path):
        return [
            f"{path} is unfinished: it holds no {MANIFEST}; the command that makes it goes on "
            "with it or begins it again",
            *(problem for below in _finished_below(path) for problem in check(below)),
        ]
    return _check_folder(path)


def _check_folder(folder: Path) -> list[str]:
    """A folder that is no directory of ours holds some, or single results, or nothing."""
    children = sorted(folder.iterdir())
    results = [child for child in children if child.suffix in {".json", ".jsonl"}]
    problems = [problem for result in results for problem in _check_file(result)]
    folders = [child for child in children if child.is_dir()]
    problems += [problem for child in folders for problem in check(child)]
    if not results and not folders:
        problems.append(f"{folder} holds nothing that ettin writes")
    return problems


def _is_started(path: Path) -> bool:
    """Whether a directory without a manifest is one of ours that never came to its end."""
    names = [child.name for child in path.iterdir() if not child.name.endswith(_BESIDE)]
    return (
        path.name.endswith(".partial")
        or bool(_SIGNS & set(names))
        or any(name.endswith(_SIGN_ENDINGS) for name in names)
    )


def _finished_below(path: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(path):
        if MANIFEST in names:
            below.clear()
            yield Path(folder)
        below.sort()


def _contents(directory: Path) -> list[str]:
    """What only the content shows, in a directory whose bytes are right, and inside it."""
    manifest = files.read_manifest(directory)
    problems = []
    for name in manifest["files"]:
        path = directory / name
        problems += _contents(path.parent) if path.name == MANIFEST else _check_file(path)
    if not problems and manifest["kind"] in _KINDS:
        problems = _KINDS[manifest["kind"]](directory, manifest["facts"])
    return problems


def _check_file(path: Path) -> list[str]:
    """What a file's ending promises of its content."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".jsonl":
            for line in path.read_bytes().splitlines():
                json.loads(line)
        elif path.suffix == ".safetensors":
            _safetensors_header(path)
        elif path.suffix == ".arrow":
            _check_arrow(path)
    except ValueError as error:
        return [f"{path}: {error}"]
    return []


def _safetensors_header(path: Path) -> Json:
    """Tensor name → dtype, shape and offsets; the format is described at
    https://huggingface.co/docs/safetensors.

    Raises:
        ValueError: no such header, or the tensors do not fill the file exactly.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length:
            raise ValueError("its safetensors header is longer than the file")
        header: Json = json.loads(file.read(length))
    header.pop("__metadata__", None)
    end = 0
    for start, stop in sorted(tensor["data_offsets"] for tensor in header.values()):
        if start != end or stop < start:
            raise ValueError(f"its tensors leave a gap or overlap at byte {end}")
        end = stop
    if 8 + length + end != size:
        raise ValueError(f"it has {size} bytes, its tensors end at {8 + length + end}")
    return header


def _check_arrow(path: Path) -> None:
    """Raise `ValueError` unless an Arrow IPC file has its marks at both ends."""
    with path.open("rb") as file:
        head = file.read(len(_ARROW))
        file.seek(-min(len(_ARROW), path.stat().st_size), os.SEEK_END)
        tail = file.read()
    if head != _ARROW or tail != _ARROW:
        raise ValueError("it is not a complete Arrow file")


def _check_run(run: Path, facts: Json) -> list[str]:
    metrics = read_json_lines(run / "metrics.jsonl")
    ledger = read_json_lines(run / "ledger.jsonl")
    problems = [
        f"{run / 'metrics.jsonl'}: step {line['step']} follows step {before['step']}"
        for before, line in pairwise(metrics)
        if line["step"] <= before["step"]
    ]
    problems += _check_ledger(run / "ledger.jsonl", ledger, facts)
    try:
        recipe = load_recipe(run / "recipe.yaml")
    except InputError as error:
        problems.append(str(error))
    else:
        if recipe.objective != facts["objective"]:
            problems.append(
                f"{run / 'recipe.yaml'}: objective {recipe.objective}, "
                f"the manifest says {facts['objective']}"
            )
    if metrics and metrics[-1]["step"] != facts["steps"]:
        problems.append(
            f"{run / 'metrics.jsonl'} ends at step {metrics[-1]['step']}, "
            f"the run at step {facts['steps']}"
        )
    return problems + [
        f"{run}: checkpoint {tag} is missing or unfinished"
        for tag in facts["checkpoints"]
        if not files.is_finished(run / "checkpoints" / tag)
    ]


def _check_ledger(path: Path, ledger: list[Json], facts: Json) -> list[str]:
    """Steps, rows and tokens continue each other, from nothing to what the manifest states."""
    problems = []
    row, tokens = 0, 0
    for step, line in enumerate(ledger, start=1):
        if line["step"] != step:
            return [f"{path}: step {line['step']} stands where step {step} should"]
        if line["first_row"] != row:
            problems.append(f"{path}: step {step} begins at row {line['first_row']}, not {row}")
        row, tokens = line["first_row"] + line["rows"], tokens + line["tokens"]
    last = ledger[-1]["hash"] if ledger else ""
    for name, found in (("steps", len(ledger)), ("tokens", tokens), ("ledger_hash", last)):
        if facts[name] != found:
            problems.append(f"{path}: {name} {found!r}, the manifest says {facts[name]!r}")
    return problems


def _check_checkpoint(checkpoint: Path, _: Json) -> list[str]:
    index = files.read_json(checkpoint / "index.json")
    problems = []
    for kind, places in index.items():
        for file in sorted(set(places.values())):
            path = files.inside(checkpoint, file)
            expected = {tensor for tensor, holder in places.items() if holder == file}
            held = set(_safetensors_header(path)) if path.is_file() else set()
            problems += [
                f"{path}: no tensor {tensor}, which the index names among the {kind}"
                for tensor in sorted(expected - held)
            ]
    return problems


def _check_export(export: Path, _: Json) -> list[str]:
    missing = [
        f"{export / name}: missing"
        for name in ("config.json", "model.safetensors", "parity.json")
        if not (export / name).is_file()
    ]
    if missing:
        return missing
    parity = files.read_json(export / "parity.json")
    largest: Any = parity.get("largest_logit_difference")
    allowed: Any = parity.get("tolerance")
    numbers = isinstance(largest, int | float) and isinstance(allowed, int | float)
    if numbers and largest <= allowed:
        return []
    return [f"{export / 'parity.json'}: logits differ by {largest}, allowed are {allowed}"]


def _needs(name: str) -> Callable[[Path, Json], list[str]]:
    """A check that one file is there."""

    def needed(directory: Path, _: Json) -> list[str]:
        path = directory / name
        return [] if path.is_file() else [f"{path}: missing"]

    return needed


_KINDS: dict[str, Callable[[Path, Json], list[str]]] = {
    "run": _check_run,
    "checkpoint": _check_checkpoint,
    "export": _check_export,
    "report": _needs("index.html"),
    "tokenizer": _needs("tokenizer.json"),
    "corpus": _needs("tokenizer/tokenizer.json"),
}
