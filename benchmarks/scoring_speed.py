"""How fast encoders answer multiple-choice questions, against one token at a time.

    python -m benchmarks.scoring_speed [--device cuda] [--sizes nano 17m] [--repeats 5]

Both score the same made-up questions (a context, four continuations, of which some begin alike)
with the same random weights by the published rule, in fp32, in turns, in one process:

    batched             EncoderScorer: equal inputs once, sorted, packed, the head at one position
    one at a time       one forward pass a token, no padding, the model's own logits

Before a cell is timed, both must find the same scores.
"""

import argparse
import datetime
import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.result_files import commit, hardware, spread
from ettin import files
from ettin.console import log, set_up_logging
from ettin.evaluation.lm.scorers import FUTURE_MASKS, EncoderScorer
from ettin.evaluation.lm.scoring_plan import Pair
from ettin.evaluation.token_probabilities import Surroundings
from ettin.files import Json
from ettin.presets import PUBLISHED_VOCABULARY, SIZES

ROOT = Path(__file__).parent.parent
NAME = "scoring-speed"
VOCABULARIES = {"nano": 8192}
"""Tokens of a size's vocabulary; the published one unless named here."""
QUESTIONS = {"nano": 24}
"""Questions of a size; `FEWER_QUESTIONS` for larger ones."""
FEWER_QUESTIONS = 12
CHOICES = 4
BATCH_TOKENS = {"cpu": 8192, "cuda": 65_536}
GREATEST_DIFFERENCE = 1e-4
BEGIN, END, PAD, MASK = 0, 1, 2, 3
SPECIAL = Surroundings((BEGIN,), (END,), MASK)


@dataclass(frozen=True)
class Cell:
    """One thing to measure.

    Attributes:
        size: a preset.
        vocabulary: its tokens.
        device: `cpu` or `cuda`.
        threads: of torch.
    """

    size: str
    vocabulary: int
    device: str
    threads: int


def model_of(cell: Cell) -> Any:
    """A random encoder of a preset's shape."""
    size = SIZES[cell.size]
    torch.manual_seed(21)
    config = transformers.ModernBertConfig(
        vocab_size=cell.vocabulary,
        num_hidden_layers=size.num_hidden_layers,
        hidden_size=size.hidden_size,
        intermediate_size=size.intermediate_size,
        num_attention_heads=size.num_attention_heads,
        bos_token_id=BEGIN,
        cls_token_id=BEGIN,
        eos_token_id=END,
        sep_token_id=END,
        pad_token_id=PAD,
    )
    model: Any = transformers.ModernBertForMaskedLM(config)
    return model.eval().to(cell.device)


def questions(count: int, *, vocabulary: int) -> list[Pair]:
    """Contexts of 15 to 60 tokens with four continuations of 2 to 10; a third begin alike."""
    draw = random.Random(5)

    def tokens(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw.randrange(4, vocabulary) for _ in range(draw.randint(least, most)))

    pairs = []
    for _ in range(count):
        context, word = tokens(15, 60), tokens(1, 1)
        for _ in range(CHOICES):
            shared = word if draw.random() < 1 / 3 else ()
            pairs.append(Pair(context, (*shared, *tokens(2 - len(shared), 10 - len(shared)))))
    return pairs


@torch.inference_mode()
def one_at_a_time(model: Any, pairs: list[Pair]) -> list[float]:
    """Log-likelihoods by the published rule, a forward pass for each token."""
    device = next(model.parameters()).device
    scores = []
    for pair in pairs:
        before, score = [BEGIN, *pair.context], 0.0
        for token in (*pair.continuation, END):
            row = [*before, *[MASK] * (1 + FUTURE_MASKS), END]
            logits = model(input_ids=torch.tensor([row], device=device)).logits[0, len(before)]
            score += logits.float().log_softmax(-1)[token].item()
            before.append(token)
        scores.append(score)
    return scores


def measure(cell: Cell, *, repeats: int) -> Json:
    """Measure one cell; the entry for the result file, without the commit."""
    torch.set_num_threads(cell.threads)
    load_before = os.getloadavg()
    model = model_of(cell)
    pairs = questions(QUESTIONS.get(cell.size, FEWER_QUESTIONS), vocabulary=cell.vocabulary)
    scorer = EncoderScorer(model, SPECIAL, max_length=8192, batch_tokens=BATCH_TOKENS[cell.device])
    contenders: list[Callable[[], Any]] = [
        lambda: scorer.score(pairs),
        lambda: one_at_a_time(model, pairs),
    ]
    # This also warms both up.
    batched = [answer.log_likelihood for answer in contenders[0]()]
    forwards, single_forwards = scorer.forwards, scorer.single_forwards
    singly = contenders[1]()
    difference = max(abs(ours - theirs) for ours, theirs in zip(batched, singly, strict=True))
    if not difference <= GREATEST_DIFFERENCE:
        raise AssertionError(f"{cell}: the scores differ by {difference}, nothing to compare")
    timings: list[list[float]] = []
    for turn in range(repeats):
        seconds = [0.0, 0.0]
        # Who comes first changes from turn to turn: a drift of the machine's speed favours nobody.
        for which in (0, 1) if turn % 2 else (1, 0):
            seconds[which] = _time(contenders[which])
        timings.append(seconds)
    return {
        "cell": asdict(cell),
        "settings": {
            "repeats": repeats,
            "questions": len(pairs) // CHOICES,
            "choices": CHOICES,
            "mode": scorer.mode,
            "batch_tokens": scorer.batch_tokens,
            "precision": "float32",
            "versions": files.versions("torch", "transformers"),
        },
        "greatest_difference": difference,
        "forwards": {"batched": forwards, "one_at_a_time": single_forwards},
        "summary": {
            "ratio": spread([single / batch for batch, single in timings]),
            "batched": {"seconds": spread([batch for batch, _ in timings])},
            "one_at_a_time": {"seconds": spread([single for _, single in timings])},
        },
        "repeats": [{"batched": batch, "one_at_a_time": single} for batch, single in timings],
        "machine_load": {
            "load_average_before": load_before,
            "load_average_after": os.getloadavg(),
            "note": "over 1, 5 and 15 minutes, our own threads included; other work may have run",
        },
    }


def table(results: Json) -> str:
    """The cells of a result file as text, one line a cell; median, [lowest – highest]."""
    lines = []
    for each in results["cells"]:
        cell, ratio, forwards = each["cell"], each["summary"]["ratio"], each["forwards"]
        lines.append(
            f"{cell['size']:>5}  {cell['vocabulary']:>6,} tokens  {cell['device']}  "
            f"{ratio['median']:6.1f} × [{ratio['lowest']:.1f} – {ratio['highest']:.1f}]  "
            f"{forwards['one_at_a_time']:>5} → {forwards['batched']} forward passes"
        )
    return "\n".join(lines)


def _time(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()  # ends with scores on the processor, so nothing is still under way
    return time.perf_counter() - started


def main() -> None:
    """Measure, print the table and write the file."""
    parser = argparse.ArgumentParser(description="scoring with encoders against one at a time")
    parser.add_argument("--sizes", nargs="+", default=["nano", "17m"], choices=list(SIZES))
    parser.add_argument("--device", default="cpu", choices=list(BATCH_TOKENS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="timings a cell, at least 5")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    if given.repeats < 5:
        parser.error("--repeats: at least 5")
    set_up_logging()
    machine = hardware()
    if given.device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    results: Json = {"date": date, "hardware": machine, "cells": []}
    path = given.out / f"{date}-{machine['slug']}-{given.device}-{NAME}.json"
    for size in given.sizes:
        cell = Cell(size, VOCABULARIES.get(size, PUBLISHED_VOCABULARY), given.device, given.threads)
        log.info("%s …", cell)
        results["cells"].append({**measure(cell, repeats=given.repeats), "commit": commit(ROOT)})
        files.write_json(path, results)
    print(table(results))
    print(f"\n{path}")


if __name__ == "__main__":
    main()
