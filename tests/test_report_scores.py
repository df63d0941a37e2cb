"""Result records on the page: whose score stands where, beside what, and what is not drawn."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ettin.files import write_json
from ettin.report import make_report
from ettin.report.chart import MUTED, NARROW, PALETTE
from ettin.report.collect import collect
from ettin.report.figures import STYLES, svg
from ettin.report.result_tables import result_table
from ettin.report.score_chart import _lanes, _named, score_figure
from ettin.report.scores import panels
from ettin.report.tidy import results_of
from tests.made_up_runs import made_up_record, write_records
from tests.pages import Page, page_of


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_records(tmp_path / "results")


def drawn_texts(records: tuple[dict[str, Any], ...]) -> str:
    return Page(svg(score_figure(panels(records)).wide)).text


def test_every_task_has_a_score_of_both_twins_beside_simple_methods(results: Path) -> None:
    found = panels(collect([results]).records)
    assert {panel.task for panel in found} == {"quick/classification", "quick/likelihood"}
    for panel in found:
        assert [score.model for score in panel.scores] == ["encoder", "decoder"]
        assert [score.color for score in panel.scores] == list(PALETTE[:2])
        assert panel.baselines[0][0] == "chance"
    classification = next(panel for panel in found if panel.task == "quick/classification")
    assert [name for name, _ in classification.baselines] == ["chance", "bag of words"]
    assert [score.untrained for score in classification.scores] == [0.45, 0.45]


def test_the_figure_says_values_errors_and_simple_methods(results: Path) -> None:
    text = drawn_texts(collect([results]).records)
    for expected in ("quick/classification: balanced accuracy", "0.62 ± 0.04", "chance 0.12"):
        assert expected in text
    figure = score_figure(panels(collect([results]).records))
    assert "ring" in figure.caption
    row = next(row for row in figure.data if row["of"] == "decoder, untrained")
    assert row["value"] == 0.45


def test_the_page_shows_the_figure_and_the_table(results: Path, tmp_path: Path) -> None:
    page = page_of([results], tmp_path / "report")
    text = re.sub(r"\s+", " ", page.text)
    assert text.index("What they can do") < text.index("What they can do, in numbers")
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert any("Right is better" in label for label in labels)
    rows = json.loads((tmp_path / "report" / "tables" / "results.json").read_text())
    assert 0.125 in rows[0].values()
    assert (tmp_path / "report" / "figures" / "scores.png").stat().st_size > 1000


def test_losses_are_in_the_table_and_not_among_scores() -> None:
    loss = made_up_record("text/perplexity", metric="bits_per_byte", value=0.9)
    assert panels((loss,)) == []
    assert result_table(results_of((loss,))).rows[0]["value"] == 0.9


def test_no_figure_is_drawn_of_what_is_no_number(tmp_path: Path) -> None:
    record = made_up_record("lm/arc", metric="acc", value="0.5")
    write_json(tmp_path / "results" / "a.json", record)
    make_report([tmp_path / "results"], out=tmp_path / "report", command=[])
    assert not (tmp_path / "report" / "figures" / "scores.svg").exists()


def test_seeds_become_one_score_with_their_spread() -> None:
    records = tuple(
        made_up_record(
            "classification/sst2",
            metric="accuracy",
            value=value,
            seed=seed,
            settings={"seed": seed},
        )
        for seed, value in enumerate((0.7, 0.8, 0.9))
    )
    [panel] = panels(records)
    [score] = panel.scores
    assert score.value == pytest.approx(0.8)
    assert score.error == pytest.approx(0.1 / 3**0.5)


def test_other_settings_are_another_score() -> None:
    records = tuple(
        made_up_record(
            "quick/retrieval", metric="ndcg_at_10", value=0.5, settings={"pooling": each}
        )
        for each in ("mean", "last")
    )
    assert len(panels(records)[0].scores) == 2


def test_models_from_elsewhere_are_called_by_their_names() -> None:
    ours = made_up_record("lm/arc", metric="acc", value=0.3)
    other = made_up_record("lm/arc", metric="acc", value=0.4, model="bert", weights="b", tag=None)
    assert [score.model for score in panels((ours, other))[0].scores] == ["encoder", "bert"]
    cross = made_up_record(
        "lm/arc", metric="acc", value=0.3, weights="c", variant="cross", objective="mntp"
    )
    [panel] = panels((ours, cross))
    assert [score.model for score in panel.scores] == ["encoder", "encoder from decoder (mntp)"]
    assert panel.scores[1].color == STYLES["encoder from decoder (mntp)"].color


def test_names_of_simple_methods_are_kept_apart_and_those_of_one_value_share_one() -> None:
    assert _named((("chance", 0.2), ("majority", 0.2), ("bm25", 0.5))) == (
        ("chance, majority 0.20", 0.2),
        ("bm25 0.50", 0.5),
    )
    close = (("chance 0.25", 0.25), ("bm25 0.34", 0.34), ("majority 0.36", 0.36))
    assert len(set(_lanes(close, NARROW.width, 0.0))) == 3
    assert _lanes((("chance 0.03", 0.03), ("bm25 0.60", 0.6)), NARROW.width, 0.0) == (0, 0)


def test_chance_is_dashed_and_other_rules_are_not(results: Path) -> None:
    drawing = svg(score_figure(panels(collect([results]).records)).wide)
    dashes = re.findall(rf'<line[^>]*stroke="{MUTED}"[^>]*stroke-dasharray="([0-9,]+)"', drawing)
    assert dashes.count("4,3") == 2
    assert set(dashes) == {"4,3", "1,0"}


def test_hostile_names_in_records_are_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    record = made_up_record(
        hostile, metric="accuracy", value=0.5, model=hostile, tag=None,
        baselines={hostile: 0.2, "chance": "x"}, settings={hostile: hostile}, limit=hostile,
    )  # fmt: skip
    write_json(tmp_path / "results" / "a.json", record)
    page = page_of([tmp_path / "results"], tmp_path / "report")
    assert "script" not in page.tags
    assert hostile in page.text
    assert hostile in Page((tmp_path / "report" / "figures" / "scores.svg").read_text()).text
