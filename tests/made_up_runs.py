"""Made-up finished directories with the files and facts that real stages write, for the readers'
tests: runs of one or several phases whose losses fall like real ones, cross runs that begin with
their weights, exports with parity, and samples.
"""

import json
import math
from pathlib import Path
from typing import Any

import yaml

from ettin.files import read_json, write_json, write_manifest
from ettin.recipe import Phase
from ettin.recipe_file import resolve
from ettin.schedules import batch_rows, clock, learning_rate_factor, tag, total_steps

BASELINES = {
    "mlm": {"unigram": 6.31, "bigram": 4.97},
    "mntp": {"unigram": 6.31, "bigram": 4.97},
    "clm": {"unigram": 6.28, "bigram": 4.93},
}
FLOORS = {"mlm": 5.52, "mntp": 5.6, "clm": 4.86}
STEPS = 120
STEP_TOKENS = 6_800
STEP_ROWS = 14
NATIVE = ("pretraining", "extension", "decay")
PHASES: dict[str, dict[str, Any]] = {
    "pretraining": {"tokens": STEPS * STEP_ROWS * 512, "context_length": 512,
                    "batch_rows": STEP_ROWS, "decay_tokens": 0},
    "extension": {"tokens": 48 * 4 * 2048, "context_length": 2048, "batch_rows": 4},
    "decay": {"tokens": 24 * 4 * 2048, "context_length": 2048, "batch_rows": 4},
    "cross": {"tokens": 40 * 4 * 2048, "context_length": 2048, "batch_rows": 4},
}  # fmt: skip


def write_run(
    directory: Path,
    objective: str,
    *,
    phases: tuple[str, ...] = ("pretraining",),
    start: dict[str, Any] | None = None,
    size: str = "nano",
    seed: int = 21,
    **changed_facts: Any,
) -> Path:
    """A finished run; `changed_facts` replace facts of its manifest."""
    directory.mkdir(parents=True)
    recipe = resolve(
        {
            "size": size,
            "seed": seed,
            "objective": objective,
            "start_from": start and start["where"],
            "phases": [{"name": name, **PHASES[name]} for name in phases],
        }
    )
    (directory / "recipe.yaml").write_text(
        yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8"
    )
    lines, ledger = _steps(recipe.phases, objective)
    write_lines(directory / "metrics.jsonl", lines)
    write_lines(directory / "ledger.jsonl", ledger)
    write_json(directory / "baselines.json", BASELINES[objective])
    ends = [tag(phase, total_steps(phase)) for phase in recipe.phases]
    kind = "decoder" if objective == "clm" else "encoder"
    facts = {
        "objective": objective, "size": size, "parameters": 1_625_472, "steps": len(lines),
        "variant": "cross" if start and start["kind"] != kind else "native", "start": start,
        "tokens": lines[-1]["tokens"],
        "nominal_tokens": sum(clock(phase, total_steps(phase)) for phase in recipe.phases),
        "phases": [_phase_facts(phase, ledger) for phase in recipe.phases], "order": "9" * 32,
        "loss": lines[-1]["loss"], "validation_loss": lines[-1]["validation_loss"],
        "initial_validation_loss": 7.61 if start else 9.43, "baselines": BASELINES[objective],
        "ledger_hash": ledger[-1]["hash"],
        "initial_weights_hash": start["weights"] if start else "a" * 32,
        "recipe_fingerprint": recipe.fingerprint,
        "checkpoints": [tag(recipe.phases[0], 0), *ends],
        "corpus": {"path": "/made/up/corpus", "fingerprint": "c" * 32}, "device": "cpu",
        "threads": 2,
        "tokens_per_second": 15_003.0, "peak_memory_bytes": 912_000_000, "seconds": 54.4,
        **changed_facts,
    }  # fmt: skip
    command = ["ettin", "train", "recipes/nano.yaml", "--objective", objective]
    command += ["--out", str(directory)]
    write_manifest(directory, "run", command=command, made_from={"corpus": "c" * 32}, facts=facts)
    return directory


def write_suite(folder: Path) -> Path:
    """A native pair of three phases, and three cross runs that begin with its last weights."""
    encoder = write_run(folder / "encoder", "mlm", phases=NATIVE)
    decoder = write_run(folder / "decoder", "clm", phases=NATIVE)
    for name, objective, origin in (
        ("encoder-from-decoder", "mntp", decoder),
        ("encoder-from-decoder-mlm", "mlm", decoder),
        ("decoder-from-encoder", "clm", encoder),
    ):
        write_run(folder / name, objective, phases=("cross",), start=start_at(origin))
    return folder


def write_sizes(folder: Path, sizes: dict[str, int], *, seeds: tuple[int, ...] = (21,)) -> Path:
    """Pairs of several sizes and seeds, each with a cross run both ways.

    Args:
        folder: gets a directory a run.
        sizes: name → parameters.
        seeds: of training.
    """
    for size, parameters in sizes.items():
        for seed in seeds:
            shared: dict[str, Any] = {"size": size, "seed": seed, "parameters": parameters}
            end = f"{size}-seed{seed}"
            encoder = write_run(folder / f"encoder-{end}", "mlm", phases=NATIVE, **shared)
            decoder = write_run(folder / f"decoder-{end}", "clm", phases=NATIVE, **shared)
            for name, objective, origin in (
                ("encoder-from-decoder", "mntp", decoder),
                ("decoder-from-encoder", "clm", encoder),
            ):
                start = start_at(origin)
                directory = folder / f"{name}-{end}"
                write_run(directory, objective, phases=("cross",), start=start, **shared)
    return folder


def start_at(run: Path, *, checkpoint: str | None = None) -> dict[str, Any]:
    """What a run states that begins with the weights of another one's last checkpoint."""
    facts: dict[str, Any] = read_json(run / "manifest.json")["facts"]
    name = checkpoint or facts["checkpoints"][-1]
    return {
        "where": f"{run}@{name}", "path": str(run.absolute() / "checkpoints" / name),
        "format": "checkpoint", "kind": "decoder" if facts["objective"] == "clm" else "encoder",
        "objective": facts["objective"], "variant": facts["variant"],
        "phase": facts["phases"][-1]["name"], "tag": name, "tokens": facts["tokens"],
        "size": "nano", "weights": f"{facts['objective']:f<32}",
    }  # fmt: skip


def _steps(
    phases: tuple[Phase, ...], objective: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of metrics and ledger."""
    lines: list[dict[str, Any]] = []
    ledger: list[dict[str, Any]] = []
    tokens = 0
    for phase in phases:
        first_row = 0
        for phase_step in range(1, total_steps(phase) + 1):
            step, rows = len(lines) + 1, batch_rows(phase, phase_step)
            share = STEP_TOKENS / (STEP_ROWS * 512)
            step_tokens = round(rows * phase.context_length * share)
            tokens += step_tokens
            loss = _loss(phase, objective, step)
            place = {"step": step, "phase": phase.name}
            line = {
                **place, "phase_step": phase_step, "tokens": tokens,
                "loss": loss + 0.12 * math.sin(step * 12.9898), "grad_norm": 1.0,
                "learning_rate": 3e-3 * learning_rate_factor(phase, clock(phase, phase_step - 1)),
                "tokens_per_second": 15_000.0 + step % 7, "peak_memory_bytes": 900_000_000,
            }  # fmt: skip
            if phase_step % 12 == 0 or step == 1 or phase_step == total_steps(phase):
                line["validation_loss"] = loss + 0.03
            lines.append(line)
            ledger.append({**place, "first_row": first_row, "rows": rows, "tokens": step_tokens,
                           "hash": f"{step:032x}"})  # fmt: skip
            first_row += rows
    return lines, ledger


def _loss(phase: Phase, objective: str, step: int) -> float:
    """Falls as real ones do; lower where less is hidden, and from trained weights faster."""
    floor = FLOORS[objective]
    if phase.name == "cross":
        return floor - 0.5 + 2.2 * math.exp(-step / 8)
    loss = floor + (9.0 - floor) * math.exp(-step / 14) + 0.5 * math.exp(-step / 60)
    hidden = 0.45 if phase.mask_rate < 0.3 and objective != "clm" else 0.0
    return loss - hidden - {"pretraining": 0.0, "extension": 0.12, "decay": 0.3}[phase.name]


def _phase_facts(phase: Phase, ledger: list[dict[str, Any]]) -> dict[str, Any]:
    """What a manifest states of one phase, of two sources."""
    tokens = sum(line["tokens"] for line in ledger if line["phase"] == phase.name)
    books = round(0.6 * tokens)
    return {
        "name": phase.name, "steps": total_steps(phase), "tokens": tokens,
        "nominal_tokens": clock(phase, total_steps(phase)),
        "context_length": phase.context_length, "order": f"{phase.order:0<32}",
        "source_tokens": {"books": books, "code": tokens - books},
        "epochs": {"books": 0.84, "code": 1.26},
    }  # fmt: skip


def write_export(directory: Path, objective: str) -> Path:
    """A finished export, with a small weight file and a parity report."""
    directory.mkdir(parents=True)
    write_json(directory / "config.json", {"model_type": "modernbert"})
    (directory / "model.safetensors").write_bytes(safetensors_bytes())
    write_json(
        directory / "parity.json",
        {
            "largest_logit_difference": 2.4e-6,
            "tolerance": 1e-4,
            "rows": 4,
            "longest_row_tokens": 512,
        },
    )
    write_manifest(
        directory, "export", command=["ettin", "export"], made_from={},
        facts={"kind": "encoder", "parity": 2.4e-6, "ettin": {"objective": objective}},
    )  # fmt: skip
    return directory


def safetensors_bytes() -> bytes:
    """A whole safetensors file with one tensor of three numbers."""
    header = json.dumps(
        {"weight": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + bytes(12)


def write_samples(path: Path) -> Path:
    """Fill-mask and generation samples of a pair."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, SAMPLES)
    return path


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


SAMPLES: dict[str, Any] = {
    "kind": "samples",
    "model": "encoder",
    "objective": "mlm",
    "fill_mask": [
        {
            "document": "library/http/server.py",
            "text": "    def __init__([MASK], name):\n        self.name = name",
            "mask_answer": "self",
            "predictions": [
                {"token": "self", "probability": 0.912},
                {"token": " cls", "probability": 0.03},
                {"token": "x", "probability": 0.011},
            ],
        }
    ],
    "generation": [
        {
            "prompt": "def main(",
            "drawn": "args):\n    return",
            "text": "):\n    parser = argparse.ArgumentParser(\n        desc",
        }
    ],
    "cache_equal": True,
}


def made_up_record(task: str, *, metric: str, value: object, **changed: Any) -> dict[str, Any]:
    """A result of an encoder, as a record states it; `changed` replaces what else it states."""
    return {
        "model": "encoder", "revision": None, "weights": "a" * 32, "kind": "encoder",
        "objective": "mlm", "variant": "native", "size": "nano", "phase": "pretraining",
        "tag": "step120", "tokens": 816_000, "parameters": 1_625_472, "seed": None, "task": task,
        "task_version": "1", "data": "d" * 32, "metric": metric, "value": value, "stderr": 0.04,
        "metrics": {metric: {"value": value, "stderr": 0.04}}, "baselines": {}, "examples": 160,
        "limit": None, "settings": {}, "samples": None, "seconds": 5.0, "versions": {},
        "command": ["ettin", "evaluate"], **changed,
    }  # fmt: skip


def write_records(folder: Path) -> Path:
    """Results of a pair on two tasks; returns the folder."""
    decoder = {"model": "decoder", "weights": "b" * 32, "kind": "decoder", "objective": "clm"}
    for name, twin in (("a-encoder", {}), ("decoder", decoder)):
        scored = made_up_record(
            "quick/classification", metric="balanced_accuracy", value=0.62,
            baselines={"chance": 0.125, "untrained": 0.45, "bag_of_words": 0.6}, **twin,
        )  # fmt: skip
        chosen = made_up_record(
            "quick/likelihood", metric="accuracy_per_token", value=0.31,
            baselines={"chance": 0.25, "bm25": 0.4}, **twin,
        )  # fmt: skip
        for record in (scored, chosen):
            path = folder / name / str(record["task"]) / "1.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, record)
    return folder
