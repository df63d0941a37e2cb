"""Made-up result records of whole suites: scores that grow with size and tokens as real ones do,
a little apart for every role, task and seed, and the same at every call.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

from ettin.files import write_json
from ettin.presets import SIZES
from ettin.records import folder_of, record_path
from ettin.shape import Shape

ROLES: dict[str, dict[str, str]] = {
    "encoder": {"kind": "encoder", "objective": "mlm", "variant": "native"},
    "decoder": {"kind": "decoder", "objective": "clm", "variant": "native"},
    "encoder-from-decoder": {"kind": "encoder", "objective": "mntp", "variant": "cross"},
    "decoder-from-encoder": {"kind": "decoder", "objective": "clm", "variant": "cross"},
}
QUICK = ("quick/classification", "quick/likelihood", "quick/retrieval")
PAPER = (
    "classification/mnli", "classification/sst2", "retrieval/msmarco", "lm/arc_challenge",
    "lm/hellaswag", "lm/lambada_openai", "lm/openbookqa", "lm/piqa", "lm/sciq", "lm/social_iqa",
    "lm/triviaqa", "lm/winogrande", "lm/wsc273",
)  # fmt: skip
_METRICS = {
    "quick/classification": ("balanced_accuracy", 0.125), "quick/retrieval": ("ndcg_at_10", 0.03),
    "quick/likelihood": ("accuracy_per_token", 0.25), "bias": ("gotcha_preference_rate", 1 / 3),
    "retrieval": ("ndcg_at_10", 0.001),
    "classification": ("accuracy", 0.34), "lm": ("acc", 0.3),
    "lm/arc_challenge": ("acc_norm", 0.25), "lm/hellaswag": ("acc_norm", 0.25),
    "lm/openbookqa": ("acc_norm", 0.25), "lm/sciq": ("acc_norm", 0.25),
    "lm/triviaqa": ("exact_match", 0.0),
}  # fmt: skip
_SETTINGS: dict[str, dict[str, Any]] = {
    "quick": {"pooling": "mean"},
    "lm": {"mode": "causal", "num_fewshot": 0},
    "classification": {"preset": "published", "layout": "of the known task"},
    "retrieval": {"preset": "published", "training": {"data": "msmarco"}},
}
_SEEDED = ("classification", "retrieval")
_LEADS = {"encoder": 0.02, "decoder": 0.0, "encoder-from-decoder": 0.01,
          "decoder-from-encoder": -0.01}  # fmt: skip


def parameters_of(size: str) -> int:
    """Of a preset's size with the published vocabulary."""
    row = SIZES[size]
    return Shape(
        num_hidden_layers=row.num_hidden_layers,
        hidden_size=row.hidden_size,
        intermediate_size=row.intermediate_size,
        num_attention_heads=row.num_attention_heads,
        vocab_size=50_368,
    ).parameters


def suite_record(
    role: str, size: str, task: str, *, seed: int = 21, share: float = 1.0, **changed: Any
) -> dict[str, Any]:
    """The record of a model of a suite on one task.

    Args:
        role: one of `ROLES`.
        size: of `presets.SIZES`.
        task: `family/name`.
        seed: of its training.
        share: of its training that the checkpoint has gone through.
        changed: replaces what the record states.
    """
    cross = ROLES[role]["variant"] == "cross"
    step = round(100 * share)
    tag = f"{'cross' if cross else 'step'}{step}"
    name = f"{role}-{size}" + ("" if seed == 21 else f"-seed{seed}")
    family = task.partition("/")[0]
    metric, chance = _METRICS.get(task) or _METRICS[family]
    value = _value(role, size, task, seed=seed, share=share, chance=chance)
    baselines = {"chance": chance}
    if task in ("quick/classification", "quick/retrieval"):
        baselines["untrained"] = chance + 0.09
    return {
        "model": name if share == 1 else f"{name}-{tag}", "revision": None,
        "weights": _digest(role, size, seed, step), **ROLES[role], "size": size,
        "phase": "cross" if cross else "pretraining", "tag": tag,
        "tokens": round((200_000 if cross else 2_000_000) * share),
        "parameters": parameters_of(size), "recipe": _digest(role, size, seed),
        "training_seed": seed, "seed": 21 if family in _SEEDED else None,
        "task": task, "task_version": "1", "data": "d" * 32, "metric": metric, "value": value,
        "stderr": 0.012, "metrics": {metric: {"value": value, "stderr": 0.012}},
        "baselines": baselines, "examples": 400, "limit": None,
        "settings": {**_SETTINGS.get(family, {}), "seed": 21 if family in _SEEDED else None},
        "samples": None, "seconds": 5.0 + share,
        "versions": {"ettin": "0.1.0"},
        "command": ["ettin", "evaluate", f"/somewhere/exports/{name}", "--tasks", task], **changed,
    }  # fmt: skip


def suite_records(
    sizes: tuple[str, ...],
    *,
    tasks: tuple[str, ...] = QUICK,
    roles: tuple[str, ...] = tuple(ROLES),
    seeds: tuple[int, ...] = (21,),
    shares: tuple[float, ...] = (1.0,),
) -> tuple[dict[str, Any], ...]:
    """Records of every size, role, seed and checkpoint on every task."""
    return tuple(
        suite_record(role, size, task, seed=seed, share=share)
        for size in sizes
        for role in roles
        for seed in seeds
        for share in shares
        for task in tasks
    )


def pronoun_record(role: str, size: str, **changed: Any) -> dict[str, Any]:
    """A record of `bias/winogender`, or of the task that `changed` names."""
    place = math.log(parameters_of(size) / 17e6) / math.log(60)
    neutral = (0.34 if ROLES[role]["kind"] == "encoder" else 0.12) + 0.09 * place
    male = (0.5 if ROLES[role]["kind"] == "encoder" else 0.84) - 0.3 * place
    male = min(male, 1 - neutral - 0.02)
    shares = {"male": male, "female": 1 - male - neutral, "neutral": neutral}
    value = 0.44 + 0.04 * place
    return suite_record(
        role,
        size,
        changed.pop("task", "bias/winogender"),
        **{
            "metric": "gotcha_preference_rate",
            "value": value,
            "metrics": {
                "gotcha_preference_rate": {"value": value, "stderr": 0.03},
                **{name: {"value": share, "stderr": 0.03} for name, share in shares.items()},
                "ties": {"value": 0.004, "stderr": 0.003},
            },
            "baselines": {"uniform": 1 / 3, "gold_shares": 0.5},
            "examples": 240,
            "settings": {"rule": "P(variant | shared words)"},
            **changed,
        },
    )


def write_suite_records(folder: Path, records: tuple[dict[str, Any], ...]) -> Path:
    """Write records where an evaluation would; returns the folder."""
    for record in records:
        place = folder_of(
            folder, model=record["model"], weights=record["weights"], task=record["task"]
        )
        path = record_path(place, record["settings"])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record)
    return folder


def _value(role: str, size: str, task: str, *, seed: int, share: float, chance: float) -> float:
    """Above chance by what size and tokens bring; generation is what decoders are better at."""
    bigger = math.log(parameters_of(size) / 5e6) / math.log(200)
    lead = _LEADS[role] * (-2 if task.startswith(("lm/", "quick/likelihood")) else 1)
    learned = (0.12 + 0.3 * bigger + lead) * (1 - math.exp(-4 * share))
    noise = int(_digest(role, size, seed, task, share)[:4], 16) / 65_536 - 0.5
    return round(chance + learned + 0.02 * noise, 6)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
