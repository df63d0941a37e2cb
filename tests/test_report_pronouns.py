"""The figures of pronouns: whose shares, beside which expectation, by which rule."""

import re

import pytest

from ettin.report.document import checked
from ettin.report.figures import svg
from ettin.report.pronouns import PROTOCOL, pronoun_figures
from ettin.report.tidy import results_of
from tests.made_up_records import ROLES, pronoun_record, suite_record
from tests.pages import Page

TWO = ("17m", "1b")


def test_encoders_and_decoders_have_a_figure_each_with_a_bar_a_model() -> None:
    records = tuple(pronoun_record(role, size) for size in TWO for role in ROLES)
    encoders, decoders = pronoun_figures(results_of(records), with_published=False)
    assert (encoders.name, decoders.name) == ("pronouns-encoders", "pronouns-decoders")
    assert len(encoders.data) == len(decoders.data) == 2 * 2 * 3
    for model in {row["model"] for row in decoders.data}:
        shares = [row["share"] for row in decoders.data if row["model"] == model]
        assert sum(shares) == pytest.approx(1)
    [row] = [row for row in decoders.data
             if (row["model"], row["gender"]) == ("decoder 17m", "male")]  # fmt: skip
    assert row["share"] == pytest.approx(0.84, abs=0.01)
    assert row["error"] == 0.03
    assert "encoder" in encoders.data[0]["model"]
    assert "hidden" in encoders.caption
    assert "as a whole" in decoders.caption
    assert "published" not in decoders.caption.lower()


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_every_bar_is_labelled_and_the_sentences_own_shares_stand_below(layout: str) -> None:
    [figure] = pronoun_figures(results_of((pronoun_record("encoder", "17m"),)), with_published=True)
    text = Page(checked(svg(getattr(figure, layout)))).text
    assert re.search(r"50 %.*34 %.*encoder 17m.*male 50 %.*female 50 %.*the sentences have", text)
    assert "neutral ≈ 37 % (mean of six sizes)" in figure.caption
    assert "agree with 44 % of them" in figure.caption


def test_the_published_protocol_is_another_figure() -> None:
    own, theirs = pronoun_record("decoder", "17m"), pronoun_record("decoder", "17m", task=PROTOCOL)
    names = [
        figure.name for figure in pronoun_figures(results_of((own, theirs)), with_published=False)
    ]
    assert names == ["pronouns-decoders", "pronouns-decoders-published-protocol"]


def test_expected_shares_are_drawn_only_where_they_are_known() -> None:
    record = pronoun_record("encoder", "17m", baselines={"uniform": 1 / 3, "gold_shares": 0.52})
    [figure] = pronoun_figures(results_of((record,)), with_published=False)
    assert "the sentences have" not in Page(svg(figure.wide)).text
    assert "The last bar" not in figure.caption


def test_nothing_is_drawn_without_shares() -> None:
    other = suite_record("encoder", "nano", "lm/piqa")
    broken = pronoun_record("encoder", "nano", metrics={"male": {"value": 3}, "female": 1})
    assert pronoun_figures(results_of((other, broken)), with_published=True) == []
