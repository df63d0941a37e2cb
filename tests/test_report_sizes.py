"""Scores against size: what is averaged, what is compared with what, and what a figure says."""

from typing import Any

import pytest

from ettin.report.averages import average, chosen, compared
from ettin.report.chart import WIDE
from ettin.report.document import checked
from ettin.report.figures import Figure, svg
from ettin.report.published import published
from ettin.report.sizes import size_figures
from ettin.report.tidy import Result, results_of
from tests.made_up_records import PAPER, ROLES, suite_record, suite_records
from tests.pages import Page

SIX = ("17m", "32m", "68m", "150m", "400m", "1b")


def only(figures: list[Figure]) -> Figure:
    [figure] = figures
    return figure


def scored(value: float, seed: int = 21, **changed: Any) -> Result:
    record = suite_record("encoder", "nano", "lm/piqa", seed=seed, value=value, **changed)
    return results_of((record,))[0]


def test_an_average_over_training_seeds_has_the_larger_of_two_errors() -> None:
    apart = average([scored(0.5, 21), scored(0.7, 22)])
    assert apart.value == pytest.approx(0.6)
    assert apart.seeds == 2
    assert apart.error == pytest.approx(0.1)
    close = average([scored(0.6, 21), scored(0.601, 22)])
    assert close.error == pytest.approx(0.012)


def test_one_seed_has_the_error_that_its_record_states() -> None:
    assert average([scored(0.5)]).error == 0.012
    assert average([scored(0.5, stderr=None)]).error is None


def test_a_model_measured_in_two_ways_is_compared_in_that_which_most_have() -> None:
    rare = suite_record("encoder", "nano", "lm/piqa", settings={"mode": "pll"}, value=0.9)
    usual = suite_records(("nano", "micro"), tasks=("lm/piqa",), roles=("encoder",))
    kept = chosen(results_of((rare, *usual)))
    assert len(kept) == 2
    assert 0.9 not in [result.value for result in kept]


def test_a_mean_is_over_the_tasks_that_all_compared_models_have() -> None:
    records = suite_records(("nano", "micro"), tasks=("lm/piqa", "lm/sciq"))
    lone = suite_record("encoder", "nano", "lm/wsc273", value=1.0)
    half = suite_record("encoder", "17m", "lm/piqa")
    found = compared(results_of((*records, lone, half)))
    assert found is not None
    assert found.tasks == ("lm/piqa",)
    without = compared(results_of((*records, lone)))
    assert without is not None
    assert without.tasks == ("lm/piqa", "lm/sciq")
    value, _ = without.values["encoder-nano"]
    both = [suite_record("encoder", "nano", task)["value"] for task in ("lm/piqa", "lm/sciq")]
    assert value.value == pytest.approx(sum(both) / 2)
    assert value.error == pytest.approx(0.012 / 2**0.5)
    assert without.chance == pytest.approx(0.275)


def test_limited_scores_are_not_averaged_with_whole_ones() -> None:
    limited = suite_record("encoder", "nano", "lm/piqa", limit=10, value=0.99)
    found = compared(results_of((limited, *suite_records(("nano",), tasks=("lm/piqa",)))))
    assert found is not None
    assert found.limit == ""
    assert 0.99 not in [value.value for value, _ in found.values.values()]


def test_a_panel_a_family_has_a_point_a_role_and_size_with_its_error() -> None:
    records = suite_records(("nano", "micro"), seeds=(21, 22), shares=(0.5, 1.0))
    figure = only(size_figures(results_of(records), with_published=False))
    titles = list(dict.fromkeys(point["panel"] for point in figure.data))
    assert [title.partition(",")[0] for title in titles] == [
        "Classification", "Retrieval", "Generation"
    ]  # fmt: skip
    assert len(figure.data) == 3 * 2 * len(ROLES)
    assert {point["seeds"] for point in figure.data} == {2}
    values = [suite_record("decoder", "micro", "quick/retrieval", seed=seed)["value"]
              for seed in (21, 22)]  # fmt: skip
    [point] = [
        point
        for point in figure.data
        if (point["series"], point["size"]) == ("decoder", "micro")
        and "Retrieval" in point["panel"]
    ]
    assert point["value"] == pytest.approx(sum(values) / 2)
    assert point["error"] >= 0.012
    assert "between training seeds" in figure.caption
    assert [series.name for series in figure.series] == [
        "encoder", "decoder", "encoder from decoder (mntp)", "decoder from encoder"
    ]  # fmt: skip


def test_the_axis_of_sizes_is_logarithmic_and_says_so() -> None:
    figure = only(size_figures(results_of(suite_records(("nano", "17m"))), with_published=False))
    drawing = Page(checked(svg(figure.wide))).text
    assert "parameters (log scale)" in drawing
    assert "chance" in drawing
    axis = figure.wide["vconcat"][0]["layer"]
    scales = [layer["encoding"]["x"].get("scale", {}) for layer in axis if "x" in layer["encoding"]]
    assert {scale.get("type") for scale in scales if scale} == {"log"}
    assert "do not begin at 0" in figure.caption


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_one_size_is_drawn_as_points(layout: str) -> None:
    figure = only(size_figures(results_of(suite_records(("nano",))), with_published=False))
    drawing = checked(svg(getattr(figure, layout)))
    assert "nDCG@10" in Page(drawing).text
    assert "NaN" not in drawing


def test_published_numbers_are_hollow_marked_and_beside_ours() -> None:
    records = suite_records(SIX, tasks=PAPER)
    figure, own = size_figures(results_of(records), with_published=True)
    theirs = [point for point in figure.data if point.get("published")]
    assert len(theirs) == len(published("cross")) == 72
    assert all(point["series"].endswith(", published") for point in theirs)
    assert {point["series"] for point in figure.data if not point.get("published")} == {
        series.name for series in own.series
    }
    read = [point for point in theirs if point["published"].startswith("≈")]
    assert 0 < len(read) < len(theirs)
    assert "Hollow marks: published (arXiv 2507.11412" in figure.caption
    assert "published" not in own.caption


@pytest.mark.parametrize(
    "changed",
    [
        {"limit": 100},
        {"settings": {"preset": "quick", "layout": "of the known task"}},
        {"settings": {"preset": "published", "layout": "of a folder"}},
        {"metric": "f1", "metrics": {"f1": {"value": 0.5}}},
    ],
)
def test_other_measurements_are_not_drawn_among_the_papers(changed: dict[str, Any]) -> None:
    record = suite_record("encoder", "17m", "classification/mnli", **changed)
    figure = size_figures(results_of((record,)), with_published=True)[0]
    assert all(point.get("published") for point in figure.data)


def test_nothing_is_drawn_of_models_from_elsewhere_and_of_losses() -> None:
    elsewhere = suite_record("encoder", "nano", "lm/piqa", tag=None)
    loss = suite_record("encoder", "nano", "lm/piqa", metric="perplexity", value=0.4)
    assert size_figures(results_of((elsewhere, loss)), with_published=False) == []


def test_labels_fit_beside_a_panel() -> None:
    figure = only(size_figures(results_of(suite_records(("nano", "micro"))), with_published=False))
    assert figure.wide["vconcat"][0]["width"] == WIDE.width
    assert "encoder from decoder (mntp) 0." in Page(svg(figure.wide)).text
