"""Ranks: whoever loads it, a step is the same rows with the same masks and the same dropout."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ettin.data.corpus import Corpus
from ettin.data.ledger import StepHash
from ettin.errors import CommandFailed, InputError
from ettin.objectives import Task
from ettin.random_bits import USE_DROPOUT, key, keys
from ettin.recipe import Recipe
from ettin.schedules import total_steps
from ettin.training.distributed import ALONE, Ranks, started
from ettin.training.optimizer import load_optimizer_state, optimizer_state
from ettin.training.setup import PhaseSetup, build, load_first_weights, make_phases
from ettin.training.step import Step, empty_micro_batch, micro_batch_loss
from tests.recipes import tiny_recipe

WORLD_SIZES = [1, 2, 3, 4, 8]
THREADS = [0, 2, 5]


def phase_of(recipe: Recipe, corpus: Path, ranks: Ranks = ALONE) -> PhaseSetup:
    """What one rank loads from, without the others being there."""
    return make_phases(recipe, corpus=Corpus.open(corpus), ranks=ranks)[0]


def loaded(phase: PhaseSetup, numbers: range, *, threads: int) -> list[Step]:
    """Steps, loaded here or by several threads in any order."""
    if not threads:
        return [phase.load(number) for number in numbers]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(phase.load, numbers))


def what_is_trained_on(steps: list[Step]) -> list[Tensor]:
    """One step as all its ranks have it: tokens, inputs, answers, dropout's keys, labels."""
    parts: list[list[Tensor]] = [[] for _ in range(5)]
    before = 0
    for step in steps:
        for each in step.micro_batches:
            tokens = int(each.stream.row_tokens.sum())
            stream, task = each.stream, each.task
            dropout = keys(key(USE_DROPOUT), stream.position_keys[:tokens])
            found = (
                stream.tokens[:tokens], task.inputs[:tokens], task.positions + before, dropout,
                task.labels,
            )  # fmt: skip
            for part, more in zip(parts, found, strict=True):
                part.append(more)
            before += tokens
    return [torch.cat(part) for part in parts]


@pytest.mark.parametrize(
    ("objective", "steps"),
    [("mlm", 8), ("clm", 8), pytest.param("mlm", 200, marks=pytest.mark.slow)],
)
def test_rows_masks_and_dropout_are_equal_for_every_number_of_ranks_and_threads(
    corpus_directory, objective, steps
):
    recipe = tiny_recipe(
        objective=objective, micro_batch_rows=2, phase_tokens=steps * 6 * 64,
        phase_warmup_tokens=0, phase_decay_tokens=64,
        phase_batch_warmup_tokens=30 * 64, phase_batch_warmup_rows=1,
    )  # fmt: skip
    numbers = range(1, total_steps(recipe.phases[0]) + 1)
    expected = loaded(phase_of(recipe, corpus_directory), numbers, threads=0)
    assert len(numbers) > steps
    for size in WORLD_SIZES:
        everyone = [Ranks(rank=rank, size=size) for rank in range(size)]
        phases = [phase_of(recipe, corpus_directory, ranks) for ranks in everyone]
        for threads in THREADS:
            of_ranks = [loaded(phase, numbers, threads=threads) for phase in phases]
            for whole, *parts in zip(expected, *of_ranks, strict=True):
                pairs = zip(what_is_trained_on([whole]), what_is_trained_on(parts), strict=True)
                assert all(torch.equal(one, other) for one, other in pairs)
                assert sum(part.labels for part in parts) == whole.labels
                assert sum((part.sums for part in parts), StepHash()) == whole.sums
                assert (np.sum([part.source_tokens for part in parts], axis=0) ==
                        whole.source_tokens).all()  # fmt: skip
                assert len({len(part.micro_batches) for part in parts}) == 1


@given(st.integers(0, 50), st.integers(1, 12))
def test_blocks_are_all_places_in_order_and_differ_by_one_at_most(count, size):
    blocks = [Ranks(rank=rank, size=size).block(count) for rank in range(size)]
    assert [place for block in blocks for place in block] == list(range(count))
    lengths = [len(block) for block in blocks]
    assert max(lengths) == Ranks(size=size).largest_block(count) <= min(lengths) + 1


def test_an_empty_micro_batch_has_no_loss_and_no_gradient(corpus_directory):
    setup = build(tiny_recipe(), corpus=Corpus.open(corpus_directory))
    load_first_weights(setup)
    empty = empty_micro_batch()
    assert isinstance(empty.task, Task)
    loss = micro_batch_loss(setup.model, empty, recipe=setup.recipe, training=True)
    (loss / 7).backward()
    assert loss.item() == 0
    for name, parameter in setup.model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_moments_of_another_implementation_are_completed_for_the_kernels_of_a_gpu(
    corpus_directory,
):
    setup = build(tiny_recipe(), corpus=Corpus.open(corpus_directory))
    load_first_weights(setup)
    for parameter in setup.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    setup.optimizer.step()
    tensors, values = optimizer_state(setup.optimizer, setup.model)
    assert not any(name.endswith("/mean_square") for name in tensors)
    for kernels in (False, True):
        for group in setup.optimizer.param_groups:
            group["triton"] = kernels
        load_optimizer_state(setup.optimizer, setup.model, tensors.items(), values)
        again, _ = optimizer_state(setup.optimizer, setup.model)
        assert all(torch.equal(again[name], tensors[name]) for name in tensors)
        more = {name.rpartition("/")[2] for name in again.keys() - tensors.keys()}
        assert more == ({"mean_square", "kahan_comp"} if kernels else set())


def test_sums_of_one_rank_are_what_it_gave_and_words_stay_whole():
    assert ALONE.sum_integers([3, (1 << 64) - 1, 0]) == [3, (1 << 64) - 1, 0]
    assert ALONE.sum_numbers([0.1, 2]) == [0.1, 2.0]
    assert ALONE.decided(lambda: {"tag": None}) == {"tag": None}


def test_an_error_of_one_rank_alone_stays_as_it_is():
    with pytest.raises(KeyError, match="x"), ALONE.together():
        raise KeyError("x")
    with pytest.raises(CommandFailed), ALONE.together():
        raise CommandFailed("", exit_code=4)


def test_a_number_of_processes_that_shards_do_not_divide_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with (
        pytest.raises(InputError, match="shard_ranks: 2 does not divide 3 processes"),
        started("cpu", shard_ranks=2),
    ):
        pass
