"""The published recipe, number by number, as the tables of the original state it."""

from itertools import pairwise
from pathlib import Path

import pytest

from ettin.presets import SIZES
from ettin.recipe import Phase, Recipe
from ettin.recipe_file import load_recipe
from ettin.schedules import (
    batch_rows,
    clock,
    learning_rate_factor,
    place,
    saved_steps,
    tag,
    total_steps,
)
from tests.recipes import shape_of

ROOT = Path(__file__).parents[1]
B = 1_000_000_000

PUBLISHED = {
    #        parameters  peak_lr weight_decay warm-up  batch warm-up  first rows  budget ÷
    "17m":  (16_913_600,    3e-3, 3e-4, 4 * B, 125 * B, 4 * 144, 1),
    "32m":  (32_081_344,    3e-3, 3e-4, 4 * B, 100 * B, 4 * 128, 1),
    "68m":  (68_457_664,    3e-3, 3e-4, 3 * B,  75 * B,  4 * 96, 1),
    "150m": (149_655_232,   8e-4, 1e-5, 3 * B,  50 * B,  4 * 72, 1),
    "400m": (395_881_664,   5e-4, 1e-5, 2 * B,  10 * B,  4 * 48, 1),
    "1b":   (1_031_314_112, 5e-4, 5e-5, 2 * B,   3 * B,  4 * 24, 3),
}  # fmt: skip
"""Sections 1.1 and 3.2 of the notes on the original; the 1b model saw a third of each budget."""

AT_CLOCK = [
    # phase,       share of the budget, learning rate / peak, mask, context, RoPE, order
    ("pretraining", 0.0,    1e-10, 0.30, 1024, 1e4, "pretraining"),
    ("pretraining", 0.01,   1.0,   0.30, 1024, 1e4, "pretraining"),
    ("pretraining", 1.0,    1.0,   0.30, 1024, 1e4, "pretraining"),
    ("extension",   0.0,    1.0,   0.30, 7999, 1.6e5, "extension"),
    ("extension",   0.25,   0.75,  0.30, 7999, 1.6e5, "extension"),
    ("extension",   1.0,    0.5,   0.30, 7999, 1.6e5, "extension"),
    ("decay",       0.0,    0.5,   0.15, 7999, 1.6e5, "decay"),
    ("decay",       0.25,   0.26,  0.15, 7999, 1.6e5, "decay"),
    ("decay",       1.0,    0.02,  0.15, 7999, 1.6e5, "decay"),
    ("cross",       0.03,   0.25,  0.15, 7999, 1.6e5, "decay"),
    ("cross",       0.5,    0.5,   0.15, 7999, 1.6e5, "decay"),
    ("cross",       0.9,    0.255, 0.15, 7999, 1.6e5, "decay"),
]  # fmt: skip
"""Twelve readings of the clock: 3.3 and 3.4 for rates and masks, 1.4 for RoPE (the intent)."""

FIRST_TAGS = {
    # 4,608 rows a step, full at 1,024 and at 7,999 tokens; a checkpoint every 8.5B (1b: 2.8333B).
    # last of:  pretraining    extension   decay       cross
    "17m":  ("step360277", "ext6783", "decay1357", "cross1357"),
    "1b":   ("step120093", "ext2261", "decay453", "cross453"),
}  # fmt: skip


def published(size: str, *overrides: str, objective: str = "mlm") -> dict[str, Phase]:
    """The phases of the shipped recipe for a size."""
    recipe = load(size, *overrides, objective=objective)
    return {phase.name: phase for phase in recipe.phases}


def load(size: str, *overrides: str, objective: str = "mlm") -> Recipe:
    path = ROOT / "recipes" / "ettin.yaml"
    return load_recipe(path, overrides=[f"size={size}", *overrides], objective=objective)


@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_are_as_published(size):
    parameters, peak_lr, weight_decay, warmup, batch_warmup, first_rows, divisor = PUBLISHED[size]
    assert shape_of(size, vocab_size=50_368).parameters == parameters
    recipe = load(size, "phases.pretraining.batch_warmup_tokens=published")
    assert (recipe.peak_lr, recipe.weight_decay) == (peak_lr, weight_decay)
    assert recipe.phases[0].warmup_tokens == warmup
    assert recipe.phases[0].batch_warmup_tokens == batch_warmup
    assert recipe.phases[0].batch_warmup_rows == first_rows
    budgets = [phase.tokens for phase in recipe.phases]
    assert budgets == [round(tokens * B / divisor) for tokens in (1700, 250, 50, 50)]


@pytest.mark.parametrize("objective", ["mlm", "clm"])
@pytest.mark.parametrize("size", PUBLISHED)
def test_every_clock_reading_gives_the_published_values(size, objective):
    phases = published(size, objective=objective)
    for name, share, factor, mask_rate, context_length, rope_theta, order in AT_CLOCK:
        phase = phases[name]
        reading = share * phase.tokens
        assert learning_rate_factor(phase, reading) == pytest.approx(factor, abs=1e-9), (
            name,
            share,
        )
        assert phase.mask_rate == mask_rate
        assert phase.context_length == context_length
        assert (phase.global_rope_theta, phase.local_rope_theta) == (rope_theta, rope_theta)
        assert phase.order == order
        step = max(1, round(share * total_steps(phase)))
        assert batch_rows(phase, step) == 4608
        assert clock(phase, step) == step * 4608 * context_length


@pytest.mark.parametrize("size", PUBLISHED)
def test_each_native_run_has_236_checkpoints_besides_the_first(size):
    phases = published(size)
    counts = {name: len(saved_steps(phase)) for name, phase in phases.items()}
    assert counts == {"pretraining": 200, "extension": 30, "decay": 6, "cross": 5}
    assert not any(phase.save_early for phase in phases.values())


@pytest.mark.parametrize("size", PUBLISHED)
def test_tags_fall_on_the_first_step_past_each_multiple(size):
    divisor = PUBLISHED[size][-1]
    every = {"cross": 10 * B}
    for name, phase in published(size).items():
        interval, row = every.get(name, 8.5 * B) / divisor, 4608 * phase.context_length
        expected = [-(-number * interval // row) for number in range(1, 400)]
        expected = [step for step in expected if step < total_steps(phase)]
        prefix = {"pretraining": "step", "extension": "ext"}.get(name, name)
        wanted = [f"{prefix}{step:.0f}" for step in (*expected, total_steps(phase))]
        assert [tag(phase, step) for step in saved_steps(phase)] == wanted


@pytest.mark.parametrize("size", FIRST_TAGS)
def test_last_tags(size):
    phases = published(size).values()
    assert tuple(tag(phase, total_steps(phase)) for phase in phases) == FIRST_TAGS[size]


def test_one_chunk_a_row_gives_the_published_number_of_steps():
    """The published tags are 2,997 steps apart: 8.5B tokens at 615 tokens a row on average."""
    phase = published("150m", "phases.pretraining.row_tokens=615")["pretraining"]
    assert saved_steps(phase)[0] == pytest.approx(2997, abs=3)
    assert total_steps(phase) == pytest.approx(599_525, rel=1e-3)


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_learning_rate_is_continuous_from_phase_to_phase(size):
    phases = list(published(size).values())[:3]
    for before, after in pairwise(phases):
        end = learning_rate_factor(before, before.tokens)
        assert learning_rate_factor(after, 0) == pytest.approx(end)


AS_EXECUTED_LOCAL_BASES = {
    # (phase, objective): sizes whose local layers kept 10,000 in the executed configurations
    ("extension", "mlm"): {"17m"},
    ("extension", "clm"): {"17m"},
    ("decay", "mlm"): set(),
    ("decay", "clm"): {"17m", "32m", "68m", "400m"},
    ("cross", "mlm"): set(),
    ("cross", "clm"): set(),
}


@pytest.mark.parametrize(("name", "objective"), AS_EXECUTED_LOCAL_BASES)
def test_as_executed_has_the_rope_exceptions_of_the_configurations(name, objective):
    found = {
        size
        for size in PUBLISHED
        if published(size, "variant=as-executed", objective=objective)[name].local_rope_theta == 1e4
    }
    assert found == AS_EXECUTED_LOCAL_BASES[name, objective]


def test_as_executed_decays_from_the_peak_to_four_percent_of_it():
    decay = published("150m", "variant=as-executed")["decay"]
    rates = [learning_rate_factor(decay, share * decay.tokens) for share in (0, 0.01, 0.25, 1)]
    assert rates == pytest.approx([1.0, 0.904, 0.52, 0.04])


def test_as_executed_has_no_twin_of_one_field():
    with pytest.raises(ValueError, match="differs in more than its objective"):
        load("17m", "variant=as-executed").twin()


def test_cross_runs_differ_from_native_ones_in_start_objective_and_phase_alone():
    for path in ("ettin.yaml", "nano-phases.yaml"):
        native = load_recipe(ROOT / "recipes" / path).of_phases(None)
        start = {"where": "runs/decoder", "format": "checkpoint"}
        cross = load_recipe(ROOT / "recipes" / path, objective="mntp", start=start)
        one, other = native.model_dump(), cross.of_phases("cross").model_dump()
        different = {key for key in one if one[key] != other[key]}
        assert different == {"start_from", "objective", "phases"}, path


@pytest.mark.parametrize("size", ["nano", "micro"])
def test_sizes_without_a_published_budget_ask_for_one(size):
    with pytest.raises(ValueError, match=r"phases\.0\.tokens: missing"):
        load(size)
    assert SIZES[size].budget_divisor is None


def test_an_own_budget_scales_what_the_row_gives_as_a_share():
    tokens = [f"phases.{n}.tokens={count}" for n, count in enumerate(("100M", "10M", "4M", "4M"))]
    phases = {phase.name: phase for phase in load("nano", *tokens).phases}
    assert phases["pretraining"].warmup_tokens == 10_000_000  # the size's 4B, cut to a tenth
    assert phases["extension"].decay_tokens == 10_000_000
    assert (phases["cross"].warmup_tokens, phases["cross"].decay_tokens) == (240_000, 800_000)
    assert all(phase.save_every_tokens is None for phase in phases.values())


def test_steps_of_a_run_are_counted_through_its_phases():
    phases = list(published("17m").values())[:3]
    ends = [360_277, 360_277 + 6783, 360_277 + 6783 + 1357]
    assert place(phases, 0) == (0, 0)
    for number, end in enumerate(ends):
        assert place(phases, end) == (number, total_steps(phases[number]))
        if number < 2:
            assert place(phases, end + 1) == (number + 1, 1)
