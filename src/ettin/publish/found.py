"""What the given paths hold: exports, runs, corpora and results, every hash compared.

Unlike a report, which shows what it can and lists the rest, this refuses: what goes out under a
name must be whole and unaltered. Folders are walked, suites too; tokenizers, reports and the like
are passed over, since they are published as parts of other things or not at all.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ettin import files
from ettin.console import Progress, log
from ettin.errors import InputError
from ettin.files import MANIFEST, Json
from ettin.identity import identity
from ettin.records import RESULTS, fingerprint_of_weights
from ettin.schedules import TAG_PREFIXES

WEIGHTS = "model.safetensors"
REPORT = "publish.json"
"""Marks a directory that this stage wrote; such are passed over when folders are walked."""
_TAG = re.compile(rf"({'|'.join(TAG_PREFIXES.values())})(0|[1-9]\d*)")
_TAKEN = {"export", "run", "corpus", RESULTS}
_EXPORT_FILES = {WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json",
                 "generation_config.json", "parity.json", "README.md"}  # fmt: skip
_SIGNS = {"start.json", "metrics.jsonl", "state.json", "config.json", WEIGHTS}
"""Without a manifest beside them, signs of a directory that is unfinished or of another program."""
_RECORD = {"task", "metric", "value", "weights"}


@dataclass(frozen=True)
class Export:
    """One exported checkpoint.

    Attributes:
        path: its directory.
        manifest: its manifest.
        config: its `config.json`.
        weights: what result records call its weights.
    """

    path: Path
    manifest: Json
    config: Json
    weights: str

    @property
    def described(self) -> Json:
        """What ettin wrote into the configuration."""
        described: Json = self.config["ettin"]
        return described

    @property
    def tag(self) -> str:
        """Which checkpoint of its run it is."""
        return str(self.described["tag"])

    @property
    def dtype(self) -> str:
        """Type of its weights, `float32` or `bfloat16`."""
        return str(self.manifest["facts"]["dtype"])


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        path: its directory.
        manifest: its manifest.
        recipe: what `recipe.yaml` holds.
        given: whether it was among the paths, or was found as the source of an export.
    """

    path: Path
    manifest: Json
    recipe: Json
    given: bool

    @property
    def facts(self) -> Json:
        """What its manifest states."""
        facts: Json = self.manifest["facts"]
        return facts

    def state(self, tag: str) -> Json:
        """The `state.json` of one of its checkpoints."""
        return files.read_json(self.path / "checkpoints" / tag / "state.json")


@dataclass(frozen=True)
class Corpus:
    """One corpus: its directory and its manifest."""

    path: Path
    manifest: Json

    @property
    def fingerprint(self) -> str:
        """How runs name it; a published copy with its tokens has the same."""
        return identity(self.path, self.manifest)


@dataclass(frozen=True)
class Found:
    """Everything publishable, in the order of paths; `records` are results."""

    exports: tuple[Export, ...]
    runs: tuple[Run, ...]
    corpora: tuple[Corpus, ...]
    records: tuple[Json, ...]


def find(paths: list[Path], shown: Progress | None = None) -> Found:
    """Read and verify everything below some paths that can be published.

    Args:
        paths: exports, runs, corpora, results, or folders that hold several of these.
        shown: counts what is verified.

    Raises:
        InputError: a path is not there, is unfinished or altered, or nothing publishable is found.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; give exports, runs or corpora")
    found: dict[str, list[Any]] = {"export": [], "run": [], "corpus": [], "record": []}
    candidates = [each.resolve() for given in paths for each in _candidates(given)]
    for path in dict.fromkeys(candidates):
        for kind, value in _read(path):
            found[kind].append(value)
        if shown is not None:
            shown.advance(1, path.name)
    if not (found["export"] or found["run"] or found["corpus"]):
        listed = ", ".join(map(str, paths))
        raise InputError(
            f"nothing to publish in {listed}: expected exports, finished runs or corpora; "
            "`ettin export RUN --out EXPORT` makes an export"
        )
    return Found(*(tuple(found[kind]) for kind in ("export", "run", "corpus", "record")))


def place_of_tag(tag: str) -> tuple[int, int]:
    """Sorts tags as a run makes them: by phase, then by step."""
    named = _TAG.fullmatch(tag)
    assert named is not None, tag
    return list(TAG_PREFIXES.values()).index(named[1]), int(named[2])


def is_tag(text: str) -> bool:
    """Whether a text names a checkpoint as runs do."""
    return _TAG.fullmatch(text) is not None


def source_run(export: Export) -> Run | None:
    """The run that an export was made from, if it is where it was and is still the same."""
    source = Path(str(export.manifest["made_from"].get("source", "")))
    run = source.parent.parent
    if source.parent.name != "checkpoints" or not files.is_finished(run):
        return None
    try:
        manifest = files.read_manifest(run, "run")
        stated = manifest["files"]["recipe.yaml"]["xxh3_128"]
        if files.fingerprint_file(run / "recipe.yaml") != stated:
            return None
        return _run(run, manifest, given=False)
    except (InputError, OSError, KeyError) as error:
        log.warning("%s, the source of %s, is passed over: %s", run, export.path, error)
        return None


def _candidates(path: Path) -> Iterator[Path]:
    """Directories with a manifest, unfinished ones, and JSON files that belong to no directory."""
    if path.is_file():
        yield path
        return
    for folder, below, names in os.walk(path):
        here = Path(folder)
        below[:] = sorted(name for name in below if not name.endswith((".partial", ".lock")))
        if REPORT in names:
            below.clear()
        elif MANIFEST in names or _SIGNS & set(names):
            below.clear()
            yield here
        else:
            yield from (here / name for name in sorted(names) if name.endswith(".json"))


def _read(path: Path) -> Iterator[tuple[str, Any]]:
    """What a candidate holds: nothing, one thing, or many records.

    Raises:
        InputError: it is unfinished or altered.
    """
    if path.is_file():
        yield from _read_record(path)
        return
    manifest = files.read_manifest(path)
    kind = manifest["kind"]
    if kind not in _TAKEN:
        log.debug("%s is a %s, which is not published by itself", path, kind)
        return
    if problems := files.verify(path):
        raise InputError(
            f"{path} is not as it was written, and is not published:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )
    if kind == "export":
        yield kind, _export(path, manifest)
    elif kind == "run":
        yield kind, _run(path, manifest, given=True)
    elif kind == "corpus":
        yield kind, Corpus(path, manifest)
    else:
        for name in manifest["files"]:
            yield from _read_record(files.inside(path, name))


def _read_record(path: Path) -> Iterator[tuple[str, Any]]:
    """A result; any other file is passed over."""
    if path.suffix != ".json":
        return
    try:
        value = files.read_json(path)
    except InputError:
        return
    if set(value) >= _RECORD:
        yield "record", value


def _export(path: Path, manifest: Json) -> Export:
    """Read an export; its manifest is right."""
    if unknown := sorted(set(manifest["files"]) - _EXPORT_FILES):
        raise InputError(f"{path} holds what no export of ettin holds: {', '.join(unknown)}")
    config = files.read_json(path / "config.json")
    described = config.get("ettin", {})
    if "converted_from" in described:
        raise InputError(
            f"{path} was converted from the class of another kind of model, not trained as what it "
            "is; publish the export that it was made from"
        )
    if "recipe_fingerprint" not in described or not is_tag(str(described.get("tag"))):
        raise InputError(
            f"{path} is of no checkpoint of a run of ettin; give what `ettin export RUN@TAG` writes"
        )
    weights = fingerprint_of_weights([manifest["files"][WEIGHTS]["xxh3_128"]])
    return Export(path=path, manifest=manifest, config=config, weights=weights)


def _run(path: Path, manifest: Json, *, given: bool) -> Run:
    recipe = yaml.safe_load((path / "recipe.yaml").read_text(encoding="utf-8"))
    if not isinstance(recipe, dict):
        raise InputError(f"{path / 'recipe.yaml'} holds no recipe")
    return Run(path=path, manifest=manifest, recipe=recipe, given=given)
