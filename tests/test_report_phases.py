"""Several phases and cross-objective runs in a report: curves, captions, tables, pairs."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from ettin.files import Json
from ettin.report import figures, phases
from ettin.report.captions import caption_of
from ettin.report.collect import Run, collect
from ettin.report.curves import learning_figures
from ettin.report.labels import Border, Label, flags, labels_of, spread
from ettin.report.tables import Table
from tests.made_up_runs import NATIVE, start_at, write_run, write_suite
from tests.pages import page_of

CROSS_ROLES = [
    "encoder from decoder (mntp)",
    "encoder from decoder (mlm)",
    "decoder from encoder",
]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A native pair of three phases, and three cross runs."""
    return write_suite(tmp_path_factory.mktemp("made") / "runs")


@pytest.fixture(scope="module")
def runs(suite: Path) -> tuple[Run, ...]:
    return collect([suite]).runs


@pytest.fixture(scope="module")
def drawn(runs: tuple[Run, ...]) -> list[figures.Figure]:
    """The figure of the native pair, and that of the cross runs."""
    return learning_figures(runs)


def layers_of(spec: Json, panel: int, mark: str) -> list[Json]:
    """The layers of a panel that draw one kind of mark."""
    return [layer for layer in spec["vconcat"][panel]["layer"] if layer["mark"].get("type") == mark]


def values_of(spec: Json, layer: Json) -> list[Json]:
    """The points that a layer draws."""
    values: list[Json] = spec["datasets"][layer["data"]["name"]]
    return values


def texts(value: object) -> list[str]:
    """Every string in a specification."""
    if isinstance(value, dict):
        return [text for inside in value.values() for text in texts(inside)]
    if isinstance(value, list):
        return [text for inside in value for text in texts(inside)]
    return [value] if isinstance(value, str) else []


def native_of(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    return tuple(run for run in runs if run.variant == "native")


def rows_of(table: Table) -> list[Json]:
    return list(table.rows)


def test_runs_are_called_by_what_they_are_and_native_ones_come_first(
    runs: tuple[Run, ...],
) -> None:
    assert list(labels_of(runs).values()) == ["encoder", "decoder", *CROSS_ROLES]


def test_cross_runs_of_one_role_are_called_by_their_names(
    suite: Path, tmp_path: Path, runs: tuple[Run, ...]
) -> None:
    other = write_run(
        tmp_path / "earlier", "mntp", phases=("cross",), start=start_at(suite / "decoder")
    )
    assert list(labels_of(collect([suite, other]).runs).values()) == [
        "encoder",
        "decoder",
        "encoder-from-decoder",
        "encoder-from-decoder-mlm",
        "earlier",
        "decoder-from-encoder",
    ]


def test_cross_runs_have_a_figure_of_their_own_over_their_own_tokens(
    runs: tuple[Run, ...], drawn: list[figures.Figure]
) -> None:
    native, cross = drawn
    assert {point["run"] for point in native.data} == {"encoder", "decoder"}
    assert {point["run"] for point in cross.data} == set(CROSS_ROLES)
    assert max(point["tokens"] for point in cross.data) == runs[-1].facts["tokens"]
    assert [figure.name for figure in drawn] == ["learning-curves", "learning-curves-cross"]


def test_weights_taken_over_are_drawn_as_a_ring_and_said_to_be_trained(
    drawn: list[figures.Figure],
) -> None:
    for figure, rings in zip(drawn, (0, 3), strict=True):
        [layer] = layers_of(figure.wide, 0, "point")
        points = values_of(figure.wide, layer)
        assert len(points) == rings
        assert all((point["tokens"], point["value"]) == (0, 7.61) for point in points)
        assert ("another run had trained" in figure.caption) is bool(rings)


def test_borders_are_drawn_and_named_where_phases_begin(
    runs: tuple[Run, ...], drawn: list[figures.Figure]
) -> None:
    native, cross = drawn
    begins = [phase.begins for phase in phases.phases_of(runs[0])]
    assert begins == [0, 816_000, 816_000 + 373_008]
    for spec in (native.wide, native.narrow):
        for panel, names in ((0, list(NATIVE)), (1, [])):
            shown = {
                mark: [
                    values_of(spec, layer)[0]
                    for layer in layers_of(spec, panel, mark)
                    if "x" in layer["encoding"] and "field" in layer["encoding"]["x"]
                ]
                for mark in ("rule", "text")
            }
            assert [rule["tokens"] for rule in shown["rule"]] == begins[1:]
            assert [text["text"] for text in shown["text"]] == names
    assert phases.borders_of(runs[2:], labels_of(runs)) == []
    assert "Vertical rules" not in cross.caption


def test_a_border_that_differs_between_runs_names_them(suite: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "short", "clm", phases=("pretraining", "decay"))
    both = collect([suite / "encoder", other]).runs
    names = [border.name for border in phases.borders_of(both, labels_of(both))]
    assert names == ["pretraining", "extension", "decay (encoder)", "decay (decoder)"]


def test_lines_and_their_smoothing_break_at_a_border(
    runs: tuple[Run, ...], drawn: list[figures.Figure]
) -> None:
    lines = layers_of(drawn[0].wide, 0, "line")
    assert [layer["encoding"]["detail"]["field"] for layer in lines] == ["phase", "phase"]
    smoothed = [
        point["value"]
        for point in drawn[0].data
        if (point["run"], point["series"], point["phase"]) == ("encoder", "training", "decay")
    ]
    losses = [line["loss"] for line in runs[0].metrics if line["phase"] == "decay"]
    # The level of the phase's first steps: neither the phase before, nor the noise of one step.
    assert smoothed[0] == pytest.approx(sum(losses[:4]) / 4, abs=0.03)
    assert abs(losses[0] - smoothed[0]) > 0.03


def test_the_caption_says_what_changes_at_a_border(
    runs: tuple[Run, ...], drawn: list[figures.Figure]
) -> None:
    both = drawn[0].caption
    assert "At extension the context goes from 512 to 2,048 tokens." in both
    assert "At decay the mask rate falls from 30\u00a0% to 15\u00a0%" in both
    assert "a drop of the mlm loss there is not learning" in both
    alone = caption_of(runs[1:2], labels_of(runs))
    assert "mask rate" not in alone
    assert "the context goes" in alone


def test_a_run_of_one_phase_is_drawn_without_borders(tmp_path: Path) -> None:
    [run] = collect([write_run(tmp_path / "run", "mlm")]).runs
    figure = figures.learning_curves((run,))
    assert "Vertical rules" not in figure.caption
    assert layers_of(figure.wide, 1, "rule") == layers_of(figure.wide, 1, "text") == []


def test_names_of_phases_meet_no_other_name_and_no_pole() -> None:
    borders = [Border("pretraining", 0), Border("extension", 850), Border("decay", 975)]
    placed = {flag.border.name: flag.lane for flag in flags(borders, tokens=1000, width=205)}
    assert placed == {"pretraining": 0, "extension": 1, "decay": 0}
    crowded = [Border("pretraining", 0), Border("extension", 50), Border("decay", 60)]
    placed = {flag.border.name: flag.lane for flag in flags(crowded, tokens=1000, width=205)}
    assert placed == {"pretraining": 2, "extension": 1, "decay": 0}


def test_labels_of_several_lines_do_not_overlap() -> None:
    lines = (("one", "two", "three"), ("four",), ("five", "six"))
    labels = [Label(text, 5.0, "#000000", 600) for text in lines]
    placed = spread(labels, (4.0, 6.0), 200)
    edges = [
        (at * 100 - 17 * len(label.lines) / 2, at * 100 + 17 * len(label.lines) / 2)
        for label, at in placed
    ]
    assert all(below[1] <= above[0] + 1e-6 for above, below in pairwise(edges))


def test_long_roles_go_on_below_on_a_telephone(drawn: list[figures.Figure]) -> None:
    native, cross = drawn
    assert "encoder from decoder (mntp) 5.14" in texts(cross.wide)
    assert {"encoder from", "decoder (mntp)", "5.14"} <= set(texts(cross.narrow))
    widths = [re.search(r'width="(\d+)', figures.svg(each.narrow)) for each in (native, cross)]
    usual, longer = (int(width[1]) for width in widths if width is not None)
    assert longer < usual + 15


def test_phases_are_one_row_each_and_twins_share_it(runs: tuple[Run, ...]) -> None:
    table = phases.phase_table(runs)
    rows = rows_of(table)
    assert [(row["run"], row["phase"]) for row in rows] == [
        *(("encoder, decoder", name) for name in NATIVE),
        (", ".join(CROSS_ROLES), "cross"),
    ]
    decay = rows[2]
    assert {key: decay[key] for key in ("steps", "tokens", "context_length", "mask_rate")} == {
        "steps": 24, "tokens": 186_504, "context_length": 2048, "mask_rate": 0.15,
    }  # fmt: skip
    assert decay["learning_rate_first"] == pytest.approx(1.5e-3)
    assert 6e-5 < decay["learning_rate_last"] < 1e-4
    assert rows[0]["learning_rate_highest"] == 3e-3
    assert "RoPE base" in [column.heading for column in table.columns]


def test_a_decoder_alone_has_no_mask_rate_and_its_own_rope_bases_are_shown(
    runs: tuple[Run, ...],
) -> None:
    stated = [dict(phase) for phase in runs[1].recipe["phases"]]
    stated[2]["local_rope_theta"] = 1e4
    changed = replace(runs[1], recipe={**runs[1].recipe, "phases": stated})
    rows = rows_of(phases.phase_table((runs[0], changed)))
    assert [row["run"] for row in rows] == ["encoder, decoder"] * 2 + ["encoder", "decoder"]
    assert [row["mask_rate"] for row in rows] == [0.3, 0.3, 0.15, None]
    headings = [column.heading for column in phases.phase_table((changed,)).columns]
    assert "RoPE base, local layers" in headings


def test_sources_of_each_phase_have_tokens_shares_and_epochs(runs: tuple[Run, ...]) -> None:
    rows = rows_of(phases.source_table(native_of(runs)))
    assert len(rows) == 6
    assert rows[0]["source"] == "books"
    assert rows[0]["tokens"] + rows[1]["tokens"] == 816_000
    assert rows[0]["share"] == pytest.approx(0.6)
    assert rows[1]["epochs"] == 1.26


def test_runs_from_before_there_were_phases_are_still_shown(runs: tuple[Run, ...]) -> None:
    older = replace(
        runs[0], facts={key: value for key, value in runs[0].facts.items() if key != "phases"}
    )
    assert [phase.tokens for phase in phases.phases_of(older)] == [816_000, 373_008, 186_504]
    assert [phase.steps for phase in phases.phases_of(older)] == [120, 48, 24]
    assert phases.source_table((older,)).rows == ()


def test_starts_are_named_and_judged_by_the_runs_that_are_given(runs: tuple[Run, ...]) -> None:
    rows = rows_of(phases.start_table(runs))
    assert [row["began_with"] for row in rows] == [
        "decoder, decay24",
        "decoder, decay24",
        "encoder, decay24",
    ]
    assert {row["last_checkpoint"] for row in rows} == {"yes"}
    assert rows[0]["first_held_out_loss"] == 7.61
    alone = rows_of(phases.start_table(runs[2:]))
    assert alone[0]["last_checkpoint"] is None
    assert str(alone[0]["began_with"]).endswith("decoder@decay24")


def test_the_page_of_a_suite_says_how_its_runs_belong_together(suite: Path, tmp_path: Path) -> None:
    text = re.sub(r"\s+", " ", page_of([suite], tmp_path / "report").text)
    assert "An encoder and its twin, a decoder, of size nano, and 3 cross-objective runs" in text
    assert "each consumed 1.38M tokens of text" in text
    assert "in 3 phases: pretraining, extension, decay" in text
    assert "The decoder from encoder went on from trained weights (encoder, decay24)" in text
    assert "Were they cross-trained alike?" in text
    assert "pretraining 120 816k 512 30 % 10,000 0 3e-3 3e-3" in text
    assert " NO " not in text
