"""A report on a whole suite: trajectories, learning curves, cost, proofs, words, all together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ettin.report import twins
from ettin.report.collect import Findings, Run, collect
from ettin.report.contents import suite_figures, suite_tables
from ettin.report.cost import cost_figure, cost_table, flops_of
from ettin.report.curves import groups_of, learning_figures
from ettin.report.document import checked
from ettin.report.figures import STYLES, svg
from ettin.report.in_words import how_numbers_were_made, suite_sentences
from ettin.report.phases import phase_table
from ettin.report.tidy import results_of
from ettin.report.trajectories import trajectory_figures
from ettin.shape import Shape
from tests.made_up_records import ROLES, parameters_of, suite_record, suite_records
from tests.made_up_runs import write_run, write_sizes

SHARES = (0.1, 0.4, 1.0)
SIZES = {size: parameters_of(size) for size in ("nano", "micro")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ...]:
    """Two sizes, two seeds, both kinds and both cross directions."""
    return collect([write_sizes(tmp_path_factory.mktemp("runs"), SIZES, seeds=(21, 22))]).runs


def findings(records: tuple[dict[str, Any], ...] = (), runs: tuple[Run, ...] = ()) -> Findings:
    return Findings(runs, (), (), records, {}, {}, {})


def test_trajectories_have_a_line_a_role_and_size_and_cross_runs_their_own_figure(
    runs: tuple[Run, ...],
) -> None:
    records = suite_records(tuple(SIZES), shares=SHARES, seeds=(21, 22))
    native, cross = trajectory_figures(results_of(records), runs)
    assert (native.name, cross.name) == ("trajectories", "trajectories-cross")
    assert [series.name for series in native.series] == [
        "encoder, nano", "decoder, nano", "encoder, micro", "decoder, micro"
    ]  # fmt: skip
    assert {series.color for series in native.series} == {
        STYLES["encoder"].color, STYLES["decoder"].color
    }  # fmt: skip
    assert max(row["tokens"] for row in native.data) == 2_000_000
    assert max(row["tokens"] for row in cross.data) == 200_000
    assert "not counted here" in cross.caption
    assert "Bands" in native.caption
    assert "a phase begins" in native.caption
    assert "a phase begins" not in cross.caption
    untrained = [row for row in native.data if row["tag"] == "untrained"]
    assert {row["tokens"] for row in untrained} == {0}
    assert all(row["tag"] != "untrained" for row in cross.data)


def test_many_sizes_have_a_figure_each() -> None:
    sizes = ("17m", "32m", "68m", "150m")
    records = suite_records(sizes, tasks=("lm/piqa",), shares=SHARES, roles=("encoder", "decoder"))
    found = trajectory_figures(results_of(records), ())
    assert [figure.name for figure in found] == [f"trajectories-{size}" for size in sizes]
    assert "one training seed" in found[0].caption
    assert {row["series"] for row in found[0].data} == {"encoder", "decoder"}


def test_a_single_checkpoint_is_no_trajectory() -> None:
    assert trajectory_figures(results_of(suite_records(("nano",))), ()) == []


def test_learning_curves_stand_apart_by_size_smallest_first(runs: tuple[Run, ...]) -> None:
    found = groups_of(runs)
    assert [group.name for group in found] == [
        "learning-curves-nano", "learning-curves-micro",
        "learning-curves-cross-nano", "learning-curves-cross-micro",
    ]  # fmt: skip
    assert found[1].title == "How they learned, micro"
    assert {run.name for run in found[0].runs} == {
        f"{kind}-nano-seed{seed}" for kind in ("encoder", "decoder") for seed in (21, 22)
    }
    one = groups_of(tuple(run for run in runs if run.facts["size"] == "nano"))
    assert [group.name for group in one] == ["learning-curves", "learning-curves-cross"]


def test_learning_curves_of_a_group_are_a_figure(runs: tuple[Run, ...]) -> None:
    pair = [run for run in runs if run.name.endswith("coder-nano-seed21")][:2]
    [figure] = learning_figures(tuple(pair))
    assert {point["run"] for point in figure.data} == {"encoder", "decoder"}


def test_a_hostile_size_stays_within_the_folder_of_figures(runs: tuple[Run, ...]) -> None:
    changed = replace(runs[0], facts={**runs[0].facts, "size": "../../x"})
    names = [group.name for group in groups_of((changed, runs[1]))]
    assert len(set(names)) == 2
    assert all("/" not in name for name in names)


def test_more_runs_than_colours_have_a_figure_a_seed(runs: tuple[Run, ...]) -> None:
    pair = [run for run in runs if run.facts["size"] == "nano" and run.variant == "native"][:2]
    many = tuple(
        replace(run, path=Path(f"{run.path}-{seed}"), recipe={**run.recipe, "seed": seed})
        for run in pair
        for seed in range(4)
    )
    names = [group.name for group in groups_of(many)]
    assert names == [f"learning-curves-seed-{seed}" for seed in range(4)]


def test_cost_is_told_by_size_and_role_and_in_all(runs: tuple[Run, ...]) -> None:
    table = cost_table(runs)
    assert [(row["size"], row["role"]) for row in table.rows[:2]] == [
        ("nano", "encoder"), ("nano", "decoder")
    ]  # fmt: skip
    assert table.rows[0]["runs"] == 2
    assert table.rows[0]["total_hours"] == pytest.approx(2 * 54.4 / 3600)
    assert table.rows[-1]["size"] == "all"
    assert table.rows[-1]["total_hours"] == pytest.approx(16 * 54.4 / 3600)
    figure = cost_figure(runs)
    assert figure is not None
    assert len(figure.data) == 2 * len(ROLES)
    assert "hours in all" in svg(figure.narrow)
    assert cost_table(runs[:2]).rows == ()


def test_operations_follow_from_the_shape_the_phases_and_the_tokens(tmp_path: Path) -> None:
    write_run(tmp_path / "decoder", "clm", parameters=SIZES["nano"])
    [run] = collect([tmp_path]).runs
    shape = Shape(
        num_hidden_layers=4, hidden_size=128, intermediate_size=192, num_attention_heads=2,
        vocab_size=50_368,
    )  # fmt: skip
    each = shape.flops_per_token(context_length=512, labelled=1.0, visibility="causal")
    assert flops_of(run) == pytest.approx(run.facts["tokens"] * each)
    unknown = replace(run, facts={**run.facts, "parameters": SIZES["nano"] + 1})
    assert flops_of(unknown) is None


def test_many_pairs_are_proved_in_one_table_and_failures_below(runs: tuple[Run, ...]) -> None:
    pairs = twins.pairs_of(runs)
    assert len(pairs) == 8
    assert all(pair.encoder.recipe["seed"] == pair.decoder.recipe["seed"] for pair in pairs)
    [summary] = twins.proofs(pairs)
    assert {row["holds"] for row in summary.rows} == {"yes"}
    broken = replace(pairs[0].decoder, facts={**pairs[0].decoder.facts, "ledger_hash": "e" * 32})
    pairs[0] = twins.Pair(pairs[0].encoder, broken)
    summary, below = twins.proofs(pairs)
    assert [row["holds"] for row in summary.rows].count("NO") == 1
    assert any(row["holds"] == "NO" for row in below.rows)


def test_rows_that_are_true_of_many_runs_name_them_in_a_few_words(runs: tuple[Run, ...]) -> None:
    assert [row["run"] for row in phase_table(runs).rows] == [
        "all 8 native runs", "all 8 native runs", "all 8 native runs", "all 8 cross runs"
    ]  # fmt: skip


def test_the_first_sentence_says_what_was_trained(runs: tuple[Run, ...]) -> None:
    [sentence] = suite_sentences(findings(runs=runs))
    assert sentence.startswith(
        "16 runs of 2 sizes, nano (7.07M parameters) and micro (11M parameters), with the seeds 21 "
        "and 22: encoders, decoders, encoders from decoder (mntp) and decoders from encoder"
    )
    assert suite_sentences(findings(runs=runs[:1])) == []


def test_who_is_ahead_is_said_with_numbers_and_how_sure_that_is() -> None:
    def pair(encoder: float, decoder: float, **changed: Any) -> str:
        records = (
            suite_record("encoder", "nano", "quick/retrieval", value=encoder, **changed),
            suite_record("decoder", "nano", "quick/retrieval", value=decoder, **changed),
        )
        return " ".join(suite_sentences(findings(records)))

    sure = pair(0.5, 0.4)
    assert "at nano the encoder is ahead of the decoder, 0.500 against 0.400" in sure
    assert "0.100 ± 0.017: more than two standard errors" in sure
    unsure = pair(0.42, 0.4)
    assert "no more than two standard errors" in unsure
    assert "is ahead" not in unsure
    assert "encoder and decoder are level" in pair(0.4, 0.4)
    assert "whose error is not known" in pair(0.5, 0.4, stderr=None)
    assert "random weights of this size have 0.120" in sure


def test_the_page_can_say_how_every_number_was_made() -> None:
    limited = suite_record("encoder", "nano", "lm/piqa", limit=20)
    table = how_numbers_were_made(findings((*suite_records(("nano",)), limited)))
    assert {row["task"] for row in table.rows} == {
        "lm/piqa", "quick/classification", "quick/likelihood", "quick/retrieval"
    }  # fmt: skip
    [row] = [row for row in table.rows if row["task"] == "lm/piqa"]
    assert (row["metric"], row["limit"], row["examples"]) == ("acc", "20", "400")
    assert row["protocol"] == "mode: causal, num fewshot: 0"
    assert row["command"] == "ettin evaluate /somewhere/exports/encoder-nano --tasks lm/piqa"


@pytest.mark.slow
def test_every_figure_of_a_suite_is_drawn_in_both_layouts(runs: tuple[Run, ...]) -> None:
    found = findings(suite_records(tuple(SIZES), shares=SHARES, seeds=(21, 22)), runs)
    figures = suite_figures(found, published=True)
    names = [figure.name for figure in figures]
    assert len(set(names)) == len(names)
    assert {"sizes", "sizes-published", "trajectories", "cost"} <= set(names)
    for figure in figures:
        assert figure.series
        for layout in (figure.wide, figure.narrow):
            drawing = checked(svg(layout))
            assert "NaN" not in drawing
            assert "undefined" not in drawing


def test_every_table_of_a_suite_has_a_name_of_its_own(runs: tuple[Run, ...]) -> None:
    tables = suite_tables(findings(suite_records(tuple(SIZES)), runs), published=True)
    names = [table.name for table in tables]
    assert len(set(names)) == len(names)
    assert {"scores", "results", "methods", "pairs", "cost", "paper-cross"} <= set(names)
    for table in tables:
        assert table.rows
        assert all(len(row) == len(table.known_columns) for row in table.shown)
