"""Find what finished stages left behind: runs, exports, samples, results, and nothing else.

A report reads files alone. Given folders, in any mix, this walks them and returns frozen records:

    runs/encoder/    manifest.json (kind run)  recipe.yaml  metrics.jsonl  baselines.json
    exports/encoder/ manifest.json (kind export)  parity.json
    samples.json     {"kind": "samples", "fill_mask": […], "generation": […]}
    *.json           a result record: an object with `task`, `metric` and `value`

What cannot be read is not dropped in silence: it is listed in `left_out` with the reason.
Text from files is hostile until shown: control characters and lone surrogates are replaced here,
and escaping is the page's.
"""

import os
import re
import statistics
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ettin.console import read_json_lines
from ettin.errors import InputError
from ettin.files import MANIFEST, Json, read_json, read_manifest
from ettin.records import RESULTS, kind_of_objective, role_words

BASELINES = ("unigram", "bigram")
_SKIPPED_KINDS = {"corpus", "tokenizer", "checkpoint", "report", "finetuned"}
_PLAN, _JOBS = "plan.json", "jobs"
"""What a suite keeps beside the directories of its stages."""
_PARTS_OF_RECORD = 4
"""`<model>-<weights>/<family>/<task>/<settings>.json`, the place of a record in its results."""


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        path: its directory.
        name: what to call it: its directory's name.
        facts: what its manifest states (objective, size, parameters, tokens, hashes, speed, …).
        recipe: the resolved recipe as nested dictionaries.
        metrics: one dictionary a step, in the order of steps.
        baselines: name → nats per label on the run's own held-out labels; empty when not fitted.
        command: the command that made it.
        version: the version of ettin that made it.
        digest: the digest of its manifest, which identifies all that is in it.
    """

    path: Path
    name: str
    facts: Json
    recipe: Json
    metrics: tuple[Json, ...]
    baselines: dict[str, float]
    command: tuple[str, ...]
    version: str
    digest: str

    @property
    def objective(self) -> str:
        """`mlm`, `clm` or `mntp`."""
        return str(self.facts.get("objective", self.recipe.get("objective", "unknown")))

    @property
    def kind(self) -> str:
        """`decoder` for clm, `encoder` otherwise."""
        return kind_of_objective(self.objective)

    @property
    def variant(self) -> str:
        """`cross` for a run that went on with its twin's weights, `native` for all others."""
        return str(self.facts.get("variant", "native"))

    @property
    def role(self) -> str:
        """What a reader calls it: its kind, and for a cross run whose weights it began with.

        One of `encoder`, `decoder`, `decoder from encoder`, `encoder from decoder (mlm)` and
        `encoder from decoder (mntp)`.
        """
        return role_words(self.kind, variant=self.variant, objective=self.objective)

    @property
    def start(self) -> Json | None:
        """Whose weights it began with, as its manifest states; None: it drew its own."""
        stated = self.facts.get("start")
        return stated if isinstance(stated, dict) else None

    @property
    def validation_loss(self) -> float | None:
        """The last held-out loss, in nats per label; None when it was never measured."""
        measured = self.series("validation_loss")
        return measured[-1][1] if measured else number(self.facts.get("validation_loss"))

    @property
    def tokens_per_second(self) -> float | None:
        """The median over steps; None when it was not logged."""
        speeds = [speed for _, speed in self.series("tokens_per_second")]
        return statistics.median(speeds) if speeds else number(self.facts.get("tokens_per_second"))

    def series(self, key: str, *, phase: str | None = None) -> list[tuple[float, float]]:
        """(text tokens, value) for each line of the metrics that holds a finite `key`.

        Args:
            key: of a line; `validation_loss` begins with that of the first weights, at 0 tokens.
            phase: the lines of this phase alone.
        """
        first = self.metrics[0].get("phase") if self.metrics else None
        before: Json = {"tokens": 0, "phase": first}
        before["validation_loss"] = self.facts.get("initial_validation_loss")
        lines = [
            line for line in (before, *self.metrics) if phase is None or line.get("phase") == phase
        ]
        pairs = ((number(line.get("tokens")), number(line.get(key))) for line in lines)
        return [(at, value) for at, value in pairs if at is not None and value is not None]


@dataclass(frozen=True)
class Export:
    """One exported model: its directory, what its manifest states, its parity report."""

    path: Path
    name: str
    facts: Json
    parity: Json
    command: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Findings:
    """Everything that was found, in the order of paths; native runs stand before cross runs, and
    encoders before decoders.

    Attributes:
        samples: objects of kind `samples`, as the program that made them wrote them.
        records: result records, each with its `path` within its results.
        results: path of a finished directory of results → the digest that its manifest states.
        corpora: path of a run's corpus → what its manifest states, where the corpus still is.
        left_out: path → why it could not be used.
    """

    runs: tuple[Run, ...]
    exports: tuple[Export, ...]
    samples: tuple[Json, ...]
    records: tuple[Json, ...]
    results: dict[str, str]
    corpora: dict[str, Json]
    left_out: dict[str, str]


def collect(paths: list[Path]) -> Findings:
    """Read everything below some paths that a report can show.

    Args:
        paths: runs, exports, folders of results, or folders that hold several of these.

    Raises:
        InputError: a path does not exist, or none of them holds anything to report.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; give runs, exports or results")
    found: dict[str, list[Any]] = {"run": [], "export": [], "samples": [], "record": []}
    results: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for path in dict.fromkeys(path.resolve() for given in paths for path in _candidates(given)):
        try:
            kind, value = _read(path)
        except (InputError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            left_out[str(path)] = plain(str(error))
            continue
        if kind == RESULTS:
            results[str(path)] = value
        elif kind in found:
            found[kind].append(value)
    if not any(found.values()):
        reasons = "".join(f"\n  - {path}: {reason}" for path, reason in left_out.items())
        listed = ", ".join(map(str, paths))
        raise InputError(
            f"nothing to report in {listed}: expected finished runs, exports, samples or results"
            + reasons
        )
    return Findings(
        runs=tuple(sorted(found["run"], key=_place_of_run)),
        exports=tuple(sorted(found["export"], key=_is_decoder)),
        samples=tuple(sorted(found["samples"], key=_is_decoder)),
        records=tuple(found["record"]),
        results=dict(sorted(results.items())),
        corpora=_corpora(found["run"]),
        left_out=left_out,
    )


def _corpora(runs: list[Run]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for run in runs:
        corpus = run.facts.get("corpus")
        path = Path(str(corpus.get("path"))) if isinstance(corpus, dict) else None
        if path is not None and _kind(path) == "corpus":
            found[str(path)] = _clean(read_json(path / MANIFEST))["facts"]
    return found


def _place_of_run(run: Run) -> tuple[bool, bool]:
    """Sorts native runs first, and encoders before decoders."""
    return run.variant == "cross", run.kind == "decoder"


def _is_decoder(found: Export | Json) -> bool:
    """Sorts encoders first; the sort keeps the order of paths otherwise."""
    stated = found.facts if isinstance(found, Export) else found
    described = stated.get("ettin", stated)
    return isinstance(described, dict) and described.get("objective") == "clm"


def number(value: object) -> float | None:
    """A finite number, or None for anything else (metrics spell NaN and infinities as text)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < float("inf") else None


def plain(text: str) -> str:
    """Text in which control characters, direction overrides and lone surrogates became `�`."""
    return "".join("\ufffd" if _harmful(character) else character for character in text)


def _harmful(character: str) -> bool:
    if character in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068":
        return True
    return unicodedata.category(character) in {"Cc", "Cs"} and character not in "\n\t"


def _candidates(path: Path) -> Iterator[Path]:
    """Directories with a manifest, unfinished runs, and JSON files of results or by themselves."""
    if path.is_file():
        yield path
        return
    for folder, below, names in os.walk(path):
        here = Path(folder)
        below[:] = sorted(
            name
            for name in below
            if not name.endswith((".partial", ".lock")) and not (name == _JOBS and _PLAN in names)
        )
        manifest = _kind(here) if MANIFEST in names else None
        if manifest in {"run", "export", *_SKIPPED_KINDS} or (
            manifest is None and {"start.json", "metrics.jsonl"} & set(names)
        ):
            below.clear()
            yield here
        else:
            if manifest == RESULTS:
                yield here
            yield from (here / name for name in sorted(names) if _may_be_record(name))


def _may_be_record(name: str) -> bool:
    return name.endswith(".json") and name not in (MANIFEST, _PLAN)


def _place_of_record(path: Path) -> str:
    """The record's path within its results, wherever they lie; of any other file its name."""
    parts = path.parts[-_PARTS_OF_RECORD:]
    model, _, weights = parts[0].rpartition("-")
    in_results = len(parts) == _PARTS_OF_RECORD and model and re.fullmatch("[0-9a-f]{8}", weights)
    return plain("/".join(parts) if in_results else path.name)


def _kind(directory: Path) -> str | None:
    try:
        return str(read_json(directory / MANIFEST).get("kind"))
    except InputError:
        return None


def _read(path: Path) -> tuple[str, Any]:
    """What a candidate is, and its content; the kind is one of those collected, or another."""
    if path.is_file():
        value = _clean(read_json(path))
        if value.get("kind") == "samples":
            return "samples", value
        named = isinstance(value.get("task"), str) and isinstance(value.get("metric"), str)
        is_record = named and "value" in value
        # Where it lies is known to whoever found it, whatever the file says of that.
        return (
            ("record", {**value, "path": _place_of_record(path)}) if is_record else ("other", None)
        )
    if _kind(path) == RESULTS:
        # Its records are shown whatever became of its manifest; `check` tells that.
        return RESULTS, str(read_json(path / MANIFEST).get("digest"))
    manifest = _clean(read_manifest(path))
    if manifest["kind"] == "run":
        return "run", _read_run(path, manifest)
    if manifest["kind"] == "export":
        parity = path / "parity.json"
        return "export", Export(
            path=path,
            name=plain(path.name),
            facts=manifest["facts"],
            parity=_clean(read_json(parity)) if parity.exists() else {},
            command=tuple(map(str, manifest["command"])),
            digest=str(manifest["digest"]),
        )
    return manifest["kind"], manifest["facts"]


def _read_run(path: Path, manifest: Json) -> Run:
    recipe = yaml.safe_load((path / "recipe.yaml").read_text(encoding="utf-8"))
    baselines = path / "baselines.json"
    stated = read_json(baselines) if baselines.exists() else manifest["facts"].get("baselines", {})
    return Run(
        path=path,
        name=plain(path.name),
        facts=manifest["facts"],
        recipe=_clean(recipe) if isinstance(recipe, dict) else {},
        metrics=tuple(_clean(line) for line in read_json_lines(path / "metrics.jsonl")),
        baselines={
            name: value for name in BASELINES if (value := number(stated.get(name))) is not None
        },
        command=tuple(map(str, manifest["command"])),
        version=str(manifest["ettin"]),
        digest=str(manifest["digest"]),
    )


def _clean(value: Json) -> Json:
    """`plain`, for every text inside a JSON object."""
    return {plain(key): _clean_value(inside) for key, inside in value.items()}


def _clean_value(value: object) -> object:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(str(key)): _clean_value(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_clean_value(inside) for inside in value]
    # Python's JSON has a NaN that no other has.
    return str(value) if isinstance(value, float) and number(value) is None else value
