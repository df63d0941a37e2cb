"""Hiding series in a figure's own specification, and what its points say; without any browser."""

import re
from pathlib import Path

import pytest

from ettin.files import Json
from ettin.report.collect import collect
from ettin.report.curves import learning_figures
from ettin.report.figures import STYLES, Figure, svg
from ettin.report.interaction import HIDDEN
from ettin.report.labels import ends_of
from ettin.report.score_chart import score_figure
from ettin.report.scores import panels
from tests.made_up_runs import write_records, write_run


@pytest.fixture(name="learned")
def _learned(tmp_path: Path) -> Figure:
    write_run(tmp_path / "encoder", "mlm")
    write_run(tmp_path / "decoder", "clm")
    [figure] = learning_figures(collect([tmp_path]).runs)
    return figure


@pytest.fixture(name="scored")
def _scored(tmp_path: Path) -> Figure:
    return score_figure(panels(collect([write_records(tmp_path / "results")]).records))


def hiding(spec: Json, *names: str) -> Json:
    """A specification in which some series are hidden from the start."""
    [parameter] = [each for each in spec["params"] if each["name"] == HIDDEN]
    others = [each for each in spec["params"] if each is not parameter]
    return {**spec, "params": [*others, {**parameter, "value": list(names)}]}


def test_the_series_of_a_figure_look_as_they_are_drawn(learned: Figure, scored: Figure) -> None:
    for figure in (learned, scored):
        assert [series.name for series in figure.series] == ["encoder", "decoder"]
        assert [series.color for series in figure.series] == [
            STYLES["encoder"].color,
            STYLES["decoder"].color,
        ]


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("which", ["learned", "scored"])
def test_a_hidden_series_leaves_nothing_and_the_other_one_stays(
    which: str, layout: str, request: pytest.FixtureRequest
) -> None:
    figure: Figure = request.getfixturevalue(which)
    spec: Json = getattr(figure, layout)
    hidden, kept = figure.series
    whole, part = svg(spec), svg(hiding(spec, hidden.name))
    assert whole.count(hidden.color) > 3
    assert hidden.color not in part
    assert f">{hidden.name}" not in part
    assert part.count(kept.color) == whole.count(kept.color)
    assert f">{kept.name}" in part


def test_a_baseline_s_name_stays_until_all_its_runs_are_hidden(learned: Figure) -> None:
    assert ">unigram 6.28–6.31<" in svg(hiding(learned.wide, "encoder"))
    assert ">unigram 6.28–6.31<" in svg(hiding(learned.wide, "decoder"))
    assert ">unigram" not in svg(hiding(learned.wide, "encoder", "decoder"))


def test_labels_know_whose_they_are(tmp_path: Path) -> None:
    write_run(tmp_path / "encoder", "mlm")
    write_run(tmp_path / "decoder", "clm")
    runs = collect([tmp_path]).runs
    names = {run.path: run.role for run in runs}
    colors = dict.fromkeys(names, "#000000")
    ends = ends_of(runs, names=names, colors=colors, characters=32, muted="#6b7280")
    of = {label.lines[0].split()[0]: set(label.series) for label in ends}
    both = {"encoder", "decoder"}
    assert of == {"encoder": {"encoder"}, "decoder": {"decoder"}, "unigram": both, "bigram": both}


def test_long_names_break_where_they_were_shortened_and_only_where_there_is_no_room(
    tmp_path: Path,
) -> None:
    runs = collect([write_run(tmp_path / "run", "mlm")]).runs
    names = dict.fromkeys([run.path for run in runs], "full/decoder…rom-encoder")
    colors = dict.fromkeys(names, "#000000")
    for characters, lines in ((32, 1), (14, 2)):
        ends = ends_of(runs, names=names, colors=colors, characters=characters, muted="#6b7280")
        assert len(ends[0].lines) == lines
        assert re.sub(r"\s", "", "".join(ends[0].lines)).startswith("full/decoder…rom-encoder5.")


def test_every_point_says_its_numbers_in_words(learned: Figure, scored: Figure) -> None:
    def titles(found: object) -> list[list[str]]:
        if isinstance(found, list):
            return [one for item in found for one in titles(item)]
        if not isinstance(found, dict):
            return []
        own = found.get("tooltip")
        here = [[each["title"] for each in own]] if isinstance(own, list) else []
        return here + [one for item in found.values() for one in titles(item)]

    assert titles(learned.wide) == titles(learned.narrow)
    assert titles(learned.wide) == [
        ["run", "baseline", "loss of this n-gram model"],
        ["run", "phase", "text tokens", "loss on held-out text"],
    ]
    assert titles(scored.wide) == [
        ["model", "weights", "task", "metric", "score"],
        ["model", "weights", "task", "metric", "score", "standard error"],
    ]
