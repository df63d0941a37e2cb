"""The clock, the learning rate and what is due, as tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin.schedules import (
    batch_rows,
    clock,
    falls_on,
    learning_rate_factor,
    rows_before,
    saved_steps,
    saves_after,
    tag,
    total_steps,
)
from tests.recipes import tiny_recipe

PHASE = tiny_recipe(
    phase_tokens=1000,
    phase_context_length=10,
    phase_batch_rows=3,
    phase_warmup_tokens=100,
    phase_decay_tokens=400,
    phase_final_lr_factor=0.02,
    phase_save_every_tokens=100,
    phase_validate_every_tokens=None,
    micro_batch_rows=1,
).phases[0]


@pytest.mark.parametrize(
    ("clock_tokens", "factor"),
    [
        (0, 1e-10),
        (25, 0.25),
        (50, 0.5),
        (99, 0.99),
        (100, 1.0),
        (600, 1.0),
        (601, 1 - 0.98 / 400),
        (800, 0.51),
        (900, 0.265),
        (1000, 0.02),
        (1020, 0.02),
    ],
)
def test_learning_rate_warms_up_holds_and_decays_to_its_final_factor(clock_tokens, factor):
    assert learning_rate_factor(PHASE, clock_tokens) == pytest.approx(factor, abs=2e-10)


def test_the_last_step_is_the_first_whose_clock_reaches_the_budget():
    assert total_steps(PHASE) == 34
    assert clock(PHASE, 33) < 1000 <= clock(PHASE, 34)


def test_a_checkpoint_falls_on_the_first_step_past_each_multiple_and_on_the_last():
    due = [step for step in range(1, 35) if falls_on(PHASE, step, PHASE.save_every_tokens)]
    assert due == [4, 7, 10, 14, 17, 20, 24, 27, 30, 34]
    assert [step for step in range(1, 35) if falls_on(PHASE, step, None)] == [34]


def test_steps_take_consecutive_rows():
    assert [rows_before(PHASE, step) for step in (1, 2, 34)] == [0, 3, 99]
    assert tag(PHASE, 34) == "step34"


def test_row_tokens_sets_what_a_row_counts():
    other = PHASE.model_copy(update={"row_tokens": 6})
    assert clock(other, 10) == 180
    assert total_steps(other) == 56


def test_early_checkpoints_fall_on_powers_of_two_before_the_first_regular_one():
    early = PHASE.model_copy(update={"save_early": True})
    due = [step for step in range(1, 35) if saves_after(early, step)]
    assert due == [1, 2, 4, 7, 10, 14, 17, 20, 24, 27, 30, 34]
    alone = early.model_copy(update={"save_every_tokens": None})
    assert saved_steps(alone) == [1, 2, 4, 8, 16, 32, 34]


@given(
    batch=st.integers(2, 40),
    share=st.floats(0.01, 0.99),
    warmup=st.integers(1, 5000),
    every=st.one_of(st.none(), st.integers(7, 5000)),
    early=st.booleans(),
)
def test_closed_forms_of_a_growing_batch_equal_counting(batch, share, warmup, every, early):
    phase = PHASE.model_copy(
        update={
            "tokens": 5000,
            "batch_rows": batch,
            "batch_warmup_rows": max(1, min(batch - 1, int(batch * share))),
            "batch_warmup_tokens": warmup,
            "save_every_tokens": every,
            "save_early": early,
        }
    )
    rows, step = 0, 0
    while rows * 10 < 5000:
        step += 1
        assert rows_before(phase, step) == rows
        rows += batch_rows(phase, step)
        assert clock(phase, step) == rows * 10
    assert total_steps(phase) == step
    assert saved_steps(phase) == [n for n in range(1, step + 1) if saves_after(phase, n)]


def test_a_growing_batch_takes_as_many_steps_at_each_size_as_the_published_scheduler():
    """The published thresholds: after a share Σ_{j≤k} b_j / Σ b_j of the warm-up, one row more."""
    first, last, warmup = 4, 20, 400_000
    phase = PHASE.model_copy(
        update={
            "tokens": 10**6,
            "batch_rows": last,
            "batch_warmup_rows": first,
            "batch_warmup_tokens": warmup,
        }
    )
    sizes = range(first, last)
    for step in range(1, total_steps(phase) + 1):
        reading = clock(phase, step - 1)
        passed = [sum(sizes[: k + 1]) * warmup / sum(sizes) <= reading for k in range(len(sizes))]
        assert abs(batch_rows(phase, step) - (first + sum(passed))) <= 1
    grown = [batch_rows(phase, step) for step in range(1, total_steps(phase) + 1)]
    assert grown[0] == first
    assert grown[-1] == last
    held = [grown.count(size) for size in sizes]
    assert max(held) - min(held) <= 1


@pytest.mark.parametrize(
    ("clock_tokens", "factor"), [(0, 1.0), (0.25, 0.75), (0.49, 0.65), (0.81, 0.55), (1, 0.5)]
)
def test_one_minus_sqrt_falls_fast_at_first(clock_tokens, factor):
    phase = PHASE.model_copy(
        update={
            "warmup_tokens": 0,
            "decay_tokens": 1000,
            "decay_shape": "one_minus_sqrt",
            "final_lr_factor": 0.5,
        }
    )
    assert learning_rate_factor(phase, clock_tokens * 1000) == pytest.approx(factor)
    halved = phase.model_copy(update={"lr_factor": 0.5})
    assert learning_rate_factor(halved, clock_tokens * 1000) == pytest.approx(factor / 2)
