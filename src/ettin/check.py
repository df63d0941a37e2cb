"""A verifier of any directory that ettin writes: whole, unaltered, and sound in itself.

`check` compares every file with the manifest (presence, size, hash), inside finished directories
too. Only when all bytes are as they were written does it look at what they say: JSON parses,
safetensors and Arrow files are complete, a run's steps and ledger are one unbroken chain, an
export's proof of parity holds. It imports none of the stages; it knows their files alone.
"""

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ettin import files
from ettin.console import read_json_lines
from ettin.errors import InputError
from ettin.files import MANIFEST, Json
from ettin.recipe import Phase
from ettin.recipe_file import load_recipe
from ettin.schedules import batch_rows, clock, rows_before, tag, total_steps

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
    try:
        recipe = load_recipe(run / "recipe.yaml")
    except InputError as error:
        return [str(error)]
    metrics = read_json_lines(run / "metrics.jsonl")
    ledger = read_json_lines(run / "ledger.jsonl")
    problems = [
        *_check_steps(run / "metrics.jsonl", metrics, recipe.phases),
        *_check_steps(run / "ledger.jsonl", ledger, recipe.phases),
    ]
    if problems:
        return problems
    problems = [
        f"{run}: {name} {found!r}, the manifest says {facts[name]!r}"
        for name, found in (
            ("objective", recipe.objective),
            ("steps", len(ledger)),
            ("tokens", sum(line["tokens"] for line in ledger)),
            ("ledger_hash", ledger[-1]["hash"]),
        )
        if facts[name] != found
    ]
    start = facts.get("start")
    if start and start["weights"] != facts["initial_weights_hash"]:
        problems.append(f"{run}: its first weights are not those of its start, {start['where']}")
    if not start and facts.get("variant") == "cross":
        problems.append(f"{run}: a cross run, and the manifest names no start")
    return [
        *problems,
        *_check_ledger(run / "ledger.jsonl", ledger, metrics, recipe.phases),
        *_check_phases(run, ledger, facts, recipe.phases),
        *_check_tags(run, ledger, facts["checkpoints"], recipe.phases),
    ]


def _places(phases: tuple[Phase, ...]) -> list[tuple[Phase, int]]:
    """The phase, and the step in it, of every step of a run."""
    return [(phase, step) for phase in phases for step in range(1, total_steps(phase) + 1)]


def _check_steps(path: Path, lines: list[Json], phases: tuple[Phase, ...]) -> list[str]:
    """One line for each step that the recipe gives the run, in order; the first fault alone."""
    places = _places(phases)
    for step, (line, (phase, phase_step)) in enumerate(zip(lines, places, strict=False), start=1):
        if line["step"] != step:
            return [f"{path}: step {line['step']} stands where step {step} should"]
        # Ledgers of runs of one phase did not always name it.
        found = line.get("phase", phase.name), line.get("phase_step", phase_step)
        if found != (phase.name, phase_step):
            return [
                f"{path}: step {step} is step {found[1]} of {found[0]}, by the recipe it is "
                f"step {phase_step} of {phase.name}"
            ]
    if len(lines) > len(places):
        extra = lines[len(places)]["step"]
        return [f"{path}: step {extra} follows step {len(places)}, the recipe's last"]
    if len(lines) < len(places):
        return [f"{path} ends at step {len(lines)}, the recipe at step {len(places)}"]
    return []


def _check_ledger(
    path: Path, ledger: list[Json], metrics: list[Json], phases: tuple[Phase, ...]
) -> list[str]:
    """Rows continue each other from 0 in every phase, as many as the recipe says; tokens add up
    to those of the metrics.
    """
    problems = []
    tokens = 0
    for line, measured, (phase, phase_step) in zip(ledger, metrics, _places(phases), strict=True):
        step, tokens = line["step"], tokens + line["tokens"]
        first, rows = rows_before(phase, phase_step), batch_rows(phase, phase_step)
        if line["first_row"] != first:
            problems.append(f"{path}: step {step} begins at row {line['first_row']}, not {first}")
        if line["rows"] != rows:
            problems.append(f"{path}: step {step} has {line['rows']} rows, the recipe says {rows}")
        if measured["tokens"] != tokens:
            return [
                *problems,
                f"{path}: {tokens:,} tokens until step {step}, "
                f"metrics.jsonl says {measured['tokens']:,}",
            ]
    return problems


def _check_phases(
    run: Path, ledger: list[Json], facts: Json, phases: tuple[Phase, ...]
) -> list[str]:
    """What the manifest says of each phase is what recipe and ledger say."""
    stated = facts.get("phases")
    if stated is None:
        return []
    names = [phase.name for phase in phases]
    if [fact["name"] for fact in stated] != names:
        listed = ", ".join(str(fact["name"]) for fact in stated)
        return [f"{run}: its recipe has the phases {', '.join(names)}, the manifest says {listed}"]
    problems = []
    lines = iter(ledger)
    for phase, fact in zip(phases, stated, strict=True):
        steps = total_steps(phase)
        tokens = sum(line["tokens"] for line in islice(lines, steps))
        problems += [
            f"{run}: {name} of {phase.name} {found:,}, the manifest says {fact[name]:,}"
            for name, found in (
                ("steps", steps),
                ("tokens", tokens),
                ("nominal_tokens", clock(phase, steps)),
                ("context_length", phase.context_length),
            )
            if fact[name] != found
        ]
        of_sources = sum(fact["source_tokens"].values())
        if of_sources != tokens:
            problems.append(
                f"{run}: the sources of {phase.name} have {of_sources:,} tokens, it has {tokens:,}"
            )
    return problems


def _check_tags(
    run: Path, ledger: list[Json], tags: list[str], phases: tuple[Phase, ...]
) -> list[str]:
    """Every checkpoint is there, belongs to a step of the run, and stands where the ledger does."""
    steps = {tag(phase, step): at for at, (phase, step) in enumerate(_places(phases), start=1)}
    steps |= {tag(phase, 0): 0 for phase in phases[:1]}
    problems = []
    for name in tags:
        if name not in steps:
            problems.append(f"{run}: checkpoint {name} belongs to no step of the run")
        elif not files.is_finished(run / "checkpoints" / name):
            problems.append(f"{run}: checkpoint {name} is missing or unfinished")
        elif steps[name]:
            state = files.read_json(run / "checkpoints" / name / "state.json")
            line = ledger[steps[name] - 1]
            if (state["step"], state["ledger_hash"]) != (line["step"], line["hash"]):
                problems.append(
                    f"{run}: checkpoint {name} was saved after another step than the ledger's "
                    f"step {line['step']}"
                )
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
