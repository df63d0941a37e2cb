"""How fast we train, against stock `transformers` trained as its documentation advises.

    make bench              all cells; `make bench QUICK=1`: the smallest size and context alone

Both train the same weights on the same chunks of real documents (the sources of Python's standard
library), in fp32, in turns, in one process:

    ettin          packed rows without padding; logits at labelled positions alone; StableAdamW;
                   reading, masking and joining the rows is part of its time
    transformers   ModernBertForMaskedLM or ModernBertDecoderForCausalLM, one chunk a row, padded
                   to the longest of the batch; full logits; labels −100 where nothing is asked;
                   AdamW and gradient clipping as its `Trainer` sets them unless told otherwise;
                   its batches are ready before the clock starts

Before a cell is timed, both must find the same loss on the same batch. Padding never counts.
"""

import argparse
import os
import platform
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks.result_files import commit
from benchmarks.speed_results import (
    Cell,
    Repeat,
    draw,
    is_measured,
    open_results,
    put,
    summarise,
    table,
)
from ettin import files, huggingface
from ettin.console import log, set_up_logging
from ettin.data.corpus import Corpus
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source, Tally, read_documents
from ettin.files import Json
from ettin.objectives import ANSWER_OFFSETS
from ettin.quickstart import NOT_LIBRARY
from ettin.recipe import Objective, Recipe
from ettin.recipe_file import resolve
from ettin.records import kind_of_objective
from ettin.tokenizer_training import train_tokenizer
from ettin.training.device import measure_matmul_rate
from ettin.training.setup import Setup, build, load_first_weights
from ettin.training.step import MicroBatch, Step, micro_batch_loss

ROOT = Path(__file__).parent.parent
VOCABULARY = 8192
CONTEXT_LENGTHS = (256, 1024)
SIZES = ("nano", "17m")
OBJECTIVES: tuple[Objective, ...] = ("mlm", "clm")
STEP_TOKENS = 4096
"""Nominal tokens of a step: 16 rows of 256, or 4 of 1,024."""
STEPS_PER_REPEAT = {"nano": 2, "17m": 1}
WARM_UP_STEPS = 2
LEARNING_RATE = 1e-4
GREATEST_LOSS_DIFFERENCE = 1e-4
NO_LABEL = -100

_Run = tuple[Callable[[Any], None], list[Any]]


@dataclass(frozen=True)
class PaddedBatch:
    """The chunks of a step as stock models take them: one a row, padded to the longest.

    Attributes:
        input_ids: int64 [chunks, longest].
        attention_mask: int64, like `input_ids`: 1 on text.
        labels: int64, like `input_ids`: −100 where nothing is asked. For `clm` they are the
            inputs themselves, which the model shifts.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def pad(batch: MicroBatch, *, objective: Objective, pad_id: int) -> PaddedBatch:
    """Our batch, padded."""
    edges = batch.stream.boundaries.tolist()
    lengths = [right - left for left, right in pairwise(edges)]
    asked = torch.full_like(batch.task.inputs, NO_LABEL)
    if objective == "clm":
        asked = batch.task.inputs
    else:
        asked[batch.task.positions + ANSWER_OFFSETS[objective]] = batch.task.labels

    def rows(flat: Tensor, filler: int) -> Tensor:
        chunks = list(torch.split(flat, lengths))
        return torch.nn.utils.rnn.pad_sequence(chunks, batch_first=True, padding_value=filler)

    return PaddedBatch(
        rows(batch.task.inputs, pad_id),
        rows(torch.ones_like(batch.task.inputs), 0),
        rows(asked, NO_LABEL),
    )


def library_corpus() -> Corpus:
    """The sources of Python's standard library as a corpus, made once in the temporary folder."""
    version = f"{files.ettin_version()}-python-{sys.version_info.major}.{sys.version_info.minor}"
    folder = Path(tempfile.gettempdir()) / f"ettin-benchmark-{os.getuid()}-{version}"
    library = Path(sysconfig.get_paths()["stdlib"])
    source = Source("library", (library,), tuple(NOT_LIBRARY))
    if not files.is_finished(folder / "tokenizer"):
        texts = (each.text for each in read_documents(source, tally=Tally()))
        train_tokenizer(texts, vocab_size=VOCABULARY, out=folder / "tokenizer")
    if not files.is_finished(folder / "corpus"):
        prepare(
            [source],
            tokenizer=folder / "tokenizer",
            out=folder / "corpus",
            context_lengths=CONTEXT_LENGTHS,
        )
    return Corpus.open(folder / "corpus")


def settings_of(cell: Cell, *, repeats: int, corpus: Corpus) -> Json:
    """Everything a measurement depends on besides the cell, the code and the machine."""
    return {
        "repeats": repeats,
        "steps_per_repeat": STEPS_PER_REPEAT[cell.size],
        "warm_up_steps": WARM_UP_STEPS,
        "step_tokens": STEP_TOKENS,
        "vocabulary": VOCABULARY,
        "mask_rate": 0.3,
        "dropout": 0.0,
        "learning_rate": LEARNING_RATE,
        "precision": "float32",
        "device": "cpu",
        "transformers_optimizer": "AdamW(fused=True), gradients clipped at 1.0",
        "text": files.fingerprint(corpus.facts["sources"]),
        "python": platform.python_version(),
        "versions": files.versions("torch", "transformers", "torch-optimi"),
    }


def recipe_of(cell: Cell, settings: Json) -> Recipe:
    """The recipe of a cell: constant learning rate, no dropout, all rows of a step at once."""
    steps = settings["warm_up_steps"] + settings["repeats"] * settings["steps_per_repeat"]
    phase = {
        "name": "pretraining",
        "tokens": steps * STEP_TOKENS,
        "context_length": cell.context_length,
        "batch_rows": STEP_TOKENS // cell.context_length,
        "mask_rate": settings["mask_rate"],
    }
    return resolve(
        {
            "size": cell.size,
            "objective": cell.objective,
            "peak_lr": LEARNING_RATE,
            "attention_output_dropout": settings["dropout"],
            "device": "cpu",
            "precision": "float32",
            "validation_rows": 1,
            "phases": [phase],
        }
    )


def stock_model(setup: Setup) -> Any:
    """The class of `transformers` for a setup, with the setup's weights, in training mode."""
    kind = kind_of_objective(setup.recipe.objective)
    config = huggingface.make_config(
        kind,
        setup.model.shape,
        context_length=setup.phases[0].phase.context_length,
        global_rope_theta=setup.phases[0].phase.global_rope_theta,
        local_rope_theta=setup.phases[0].phase.local_rope_theta,
        special=setup.corpus.special._asdict(),
        ettin={},
    )
    architecture = getattr(transformers, huggingface.ARCHITECTURES[kind])
    model = architecture(architecture.config_class(**config))
    weights = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    if kind == "decoder":
        weights = huggingface.to_decoder(weights)
    loaded = model.load_state_dict(weights, strict=False)
    assert not loaded.unexpected_keys, loaded
    assert set(loaded.missing_keys) <= {"decoder.weight"}, loaded  # tied to the embedding
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return model.train()


class Ours:
    """Training as `ettin train` does it, without its files."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.setup.model.train()

    def loss(self, step: Step) -> Tensor:
        """Mean loss of a step, in nats per label."""
        (batch,) = step.micro_batches
        summed = micro_batch_loss(self.setup.model, batch, recipe=self.setup.recipe, training=True)
        return summed / step.labels

    def train(self, number: int) -> None:
        """One step, its rows read and masked first."""
        self.loss(self.setup.phases[0].load(number)).backward()  # type: ignore[no-untyped-call]
        gradients = [each.grad for each in self.setup.model.parameters() if each.grad is not None]
        torch.nn.utils.get_total_norm(gradients).item()
        self.setup.optimizer.step()
        self.setup.optimizer.zero_grad()


class Theirs:
    """Training as the documentation of `transformers` advises."""

    def __init__(self, setup: Setup) -> None:
        self.model = stock_model(setup)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True
        )

    def loss(self, batch: PaddedBatch) -> Tensor:
        """Mean loss of a batch, in nats per label."""
        loss: Tensor = self.model(**vars(batch)).loss
        return loss

    def train(self, batch: PaddedBatch) -> None:
        """One step on a batch that is ready."""
        self.loss(batch).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def measure(cell: Cell, *, corpus: Corpus, settings: Json) -> Json:
    """Measure one cell; the entry for the result file, without the commit."""
    torch.set_num_threads(cell.threads)
    setup = build(recipe_of(cell, settings), corpus=corpus)
    load_first_weights(setup)
    load_before = os.getloadavg()
    ours, theirs = Ours(setup), Theirs(setup)

    def padded(step: Step) -> PaddedBatch:
        (batch,) = step.micro_batches
        return pad(batch, objective=cell.objective, pad_id=corpus.special.pad)

    first = setup.phases[0].load(1)
    losses = {"ettin": ours.loss(first).item(), "transformers": theirs.loss(padded(first)).item()}
    difference = abs(losses["ettin"] - losses["transformers"])
    if not difference <= GREATEST_LOSS_DIFFERENCE:
        raise AssertionError(f"{cell.label}: the losses differ, nothing to compare: {losses}")
    matmul_rate = measure_matmul_rate(setup.device, setup.precision)
    repeats: list[Repeat] = []
    timed: list[Step] = []
    positions = number = 0
    for turn in range(-1, settings["repeats"]):  # turn −1 warms up and is not counted
        count = settings["steps_per_repeat"] if turn >= 0 else settings["warm_up_steps"]
        numbers = range(number + 1, number + count + 1)
        number += count
        steps = [setup.phases[0].load(each) for each in numbers]
        batches = [padded(step) for step in steps]
        runs: list[_Run] = [(ours.train, list(numbers)), (theirs.train, batches)]
        seconds = [0.0, 0.0]
        # Who comes first changes from turn to turn: a drift of the machine's speed favours nobody.
        for which in (0, 1) if turn % 2 else (1, 0):
            seconds[which] = _time(*runs[which])
        if turn >= 0:
            repeats.append(Repeat(sum(step.text_tokens for step in steps), *seconds))
            timed += steps
            positions += sum(batch.input_ids.numel() for batch in batches)
    flops = _flops_per_token(setup, timed)
    matmul_rate = max(matmul_rate, measure_matmul_rate(setup.device, setup.precision))
    return {
        "cell": asdict(cell),
        "settings": settings,
        "transformers_attention": theirs.model.config._attn_implementation,
        "loss": {**losses, "difference": difference},
        "text_share_of_padded": sum(step.text_tokens for step in timed) / positions,
        "flops_per_token": flops,
        "matmul_flops_per_second": matmul_rate,
        "summary": summarise(repeats, flops_per_token=flops, matmul_rate=matmul_rate),
        "repeats": [asdict(each) for each in repeats],
        "machine_load": {
            "load_average_before": load_before,
            "load_average_after": os.getloadavg(),
            "note": "over 1, 5 and 15 minutes, our own threads included; other work may have run",
        },
    }


def _time(train: Callable[[Any], None], batches: list[Any]) -> float:
    started = time.perf_counter()
    for batch in batches:
        train(batch)
    return time.perf_counter() - started


def _flops_per_token(setup: Setup, steps: list[Step]) -> float:
    """Useful FLOP a text token; its global layers see its own chunk: Σ n² / Σ n on average."""
    batches = [batch for step in steps for batch in step.micro_batches]
    lengths = torch.cat([batch.stream.boundaries.diff().double() for batch in batches])
    return setup.model.shape.flops_per_token(
        context_length=round(((lengths**2).sum() / lengths.sum()).item()),
        labelled=sum(step.labels for step in steps) / sum(step.text_tokens for step in steps),
        visibility=setup.recipe.visibility,
    )


def main() -> None:
    """Measure what is missing, cell by cell; print the table, write the file and the picture."""
    parser = argparse.ArgumentParser(description="training speed against stock transformers")
    parser.add_argument("--quick", action="store_true", help="nano at context 256 alone")
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--repeats", type=int, default=7, help="timings a cell, at least 5")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    if given.repeats < 5:
        parser.error("--repeats: at least 5")
    set_up_logging()
    version = commit(ROOT)
    path, results = open_results(given.out, commit=version)
    corpus = library_corpus()
    kept = 1 if given.quick else None
    every = product(given.threads, SIZES[:kept], CONTEXT_LENGTHS[:kept], OBJECTIVES)
    for threads, size, length, objective in every:
        cell = Cell(size, objective, length, threads)
        settings = settings_of(cell, repeats=given.repeats, corpus=corpus)
        if is_measured(results, cell, commit=version, settings=settings):
            log.info("%s: measured already", cell.label)
            continue
        log.info("%s …", cell.label)
        put(results, {**measure(cell, corpus=corpus, settings=settings), "commit": version})
        files.write_json(path, results)
    draw(results, path.with_suffix(".png"))
    print(f"{table(results)}\n\n{path}\n{path.with_suffix('.png')}")


if __name__ == "__main__":
    main()
