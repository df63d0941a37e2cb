"""Made-up finished directories with the files and facts that real stages write, for the readers'
tests: a pair of runs whose losses fall like real ones, exports with parity, and samples.
"""

import json
import math
from pathlib import Path
from typing import Any

import yaml

from ettin.files import write_json, write_manifest

BASELINES = {"mlm": {"unigram": 6.31, "bigram": 4.97}, "clm": {"unigram": 6.28, "bigram": 4.93}}
STEPS = 120
STEP_TOKENS = 6_800


def write_run(directory: Path, objective: str, **changed_facts: Any) -> Path:
    """A finished run; `changed_facts` replace facts of its manifest."""
    directory.mkdir(parents=True)
    floor = {"mlm": 5.52, "clm": 4.86}.get(objective, 5.0)
    lines = []
    for step in range(1, STEPS + 1):
        loss = floor + (9.0 - floor) * math.exp(-step / 14) + 0.5 * math.exp(-step / 60)
        line: dict[str, Any] = {
            "step": step, "phase": "pretraining", "phase_step": step, "tokens": step * STEP_TOKENS,
            "loss": loss + 0.12 * math.sin(step * 12.9898), "grad_norm": 1.0,
            "learning_rate": 3e-3 * min(1, step / 12, (STEPS + 1 - step) / 24),
            "tokens_per_second": 15_000.0 + step % 7, "peak_memory_bytes": 900_000_000,
        }  # fmt: skip
        if step % 12 == 0 or step == 1:
            line["validation_loss"] = loss + 0.03
        lines.append(line)
    ledger = [
        {"step": step, "first_row": 8 * (step - 1), "rows": 8, "tokens": STEP_TOKENS,
         "hash": f"{step:032x}"}
        for step in range(1, STEPS + 1)
    ]  # fmt: skip
    write_lines(directory / "metrics.jsonl", lines)
    write_lines(directory / "ledger.jsonl", ledger)
    recipe = {
        "size": "nano", "objective": objective, "seed": 21, "peak_lr": 3e-3,
        "phases": [{"name": "pretraining", "tokens": 800_000, "context_length": 512,
                    "batch_rows": 8}],
    }  # fmt: skip
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    write_json(directory / "baselines.json", BASELINES[objective])
    facts = {
        "objective": objective, "size": "nano", "parameters": 1_625_472, "steps": STEPS,
        "tokens": STEPS * STEP_TOKENS, "nominal_tokens": STEPS * STEP_TOKENS,
        "loss": lines[-1]["loss"], "validation_loss": lines[-1]["validation_loss"],
        "baselines": BASELINES[objective],
        "ledger_hash": ledger[-1]["hash"], "initial_weights_hash": "a" * 32,
        "recipe_fingerprint": "b" * 32, "checkpoints": ["step0", f"step{STEPS}"],
        "corpus": {"path": "/made/up/corpus", "fingerprint": "c" * 32}, "device": "cpu",
        "threads": 2,
        "tokens_per_second": 15_003.0, "peak_memory_bytes": 912_000_000, "seconds": 54.4,
        **changed_facts,
    }  # fmt: skip
    command = [
        "ettin",
        "train",
        "recipes/nano.yaml",
        "--objective",
        objective,
        "--out",
        str(directory),
    ]
    write_manifest(directory, "run", command=command, made_from={"corpus": "c" * 32}, facts=facts)
    return directory


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
