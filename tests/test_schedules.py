"""The clock, the learning rate and what is due, as tables."""

import pytest

from ettin.schedules import (
    clock,
    falls_on,
    learning_rate_factor,
    rows_before,
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
