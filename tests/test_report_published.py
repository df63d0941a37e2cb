"""The paper's numbers: what stands where, what is marked, and which of ours may stand beside."""

from typing import Any

import pytest

from ettin.presets import SIZES
from ettin.report.paper_tables import paper_tables
from ettin.report.published import DECODER_COLUMNS, GENERATIVE, MNLI, ours, published
from ettin.report.tables import Table
from ettin.report.tidy import Result, results_of
from tests.made_up_records import PAPER, parameters_of, suite_record, suite_records


def table(name: str, results: tuple[Result, ...] = (), *, with_published: bool = True) -> Table:
    found = paper_tables(results, with_published=with_published)
    return next(each for each in found if each.name == f"paper-{name}")


def row(of: Table, model: str, whose: str = "published") -> dict[str, Any]:
    [found] = [each for each in of.rows if (each["model"], each["whose"]) == (model, whose)]
    return found


def test_published_numbers_are_those_that_were_printed() -> None:
    encoders, decoders, cross = table("encoders"), table("decoders"), table("cross")
    assert (len(encoders.rows), len(decoders.rows), len(cross.rows)) == (17, 14, 24)
    assert row(encoders, "Ettin 1b encoder")["GLUE"] == 91.6
    assert row(encoders, "ModernBERT-base")["MLDR"] == 30.4
    assert row(decoders, "Llama-3.2-1B")["TQA"] == 24.9
    assert row(decoders, "Ettin 17m decoder")["SciQ"] == 71.1
    assert row(cross, "Ettin 400m encoder")["MS MARCO"] == 42.24
    assert row(cross, "Ettin 68m decoder from encoder")["mean of ten"] == 42.1


def test_means_of_published_rows_are_the_means_of_their_columns() -> None:
    for each in table("decoders").rows:
        values = [each[column.heading] for column in DECODER_COLUMNS]
        assert sum(values) / 10 == pytest.approx(each["mean of ten"], abs=0.11)


def test_every_published_number_is_marked_has_a_source_and_says_if_it_was_read_off() -> None:
    for name in ("encoders", "decoders", "cross"):
        assert all("2507.11412" in each["source"] for each in table(name).rows)
        assert {each["whose"] for each in table(name).rows} == {"published"}
    found = table("cross")
    drawn = row(found, "Ettin 17m encoder from decoder (mntp)")
    assert drawn["read_from_a_figure"] == "MS MARCO, MNLI, mean of ten"
    headings = [column.heading for column in found.known_columns]
    shown = found.shown[found.rows.index(drawn)]
    assert shown[headings.index("MNLI")] == "≈ 77.6"
    printed = found.shown[found.rows.index(row(found, "Ettin 17m encoder"))]
    assert printed[headings.index("MNLI")] == "79.5"
    assert "exchanged" in table("decoders").note


def test_published_sizes_are_ours() -> None:
    stated = {each.size: each.parameters for each in published("cross")}
    assert stated == {size: parameters_of(size) for size in SIZES if SIZES[size].budget_divisor}


def test_without_the_flag_nothing_published_is_shown() -> None:
    results = results_of(suite_records(("17m",), tasks=PAPER))
    for found in paper_tables(results, with_published=False):
        assert {each["whose"] for each in found.rows} == {"this report"}
        assert "2507" not in found.note
    assert all(not found.rows for found in paper_tables((), with_published=False))


def test_ours_stand_beside_the_published_ones_in_percent() -> None:
    records = suite_records(("17m", "32m"), tasks=PAPER, seeds=(21, 22))
    found = table("cross", results_of(records))
    own = row(found, "decoder 17m", "this report")
    values = [suite_record("decoder", "17m", "classification/mnli", seed=seed)["value"]
              for seed in (21, 22)]  # fmt: skip
    assert own["MNLI"] == pytest.approx(100 * sum(values) / 2)
    assert own["source"] == "mean of 2 training seeds"
    assert own["mean of ten"] is not None
    assert len(found.rows) == 24 + 8


def test_a_mean_stands_only_where_all_its_tasks_were_measured() -> None:
    some = [task for task in PAPER if task != "lm/piqa"]
    results = results_of(suite_records(("17m",), tasks=tuple(some), roles=("decoder",)))
    assert ours(results, GENERATIVE) is None
    assert ours(results, MNLI) is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"limit": 50},
        {"settings": {"mode": "pll", "num_fewshot": 0}},
        {"settings": {"mode": "causal", "num_fewshot": 5}},
        {"settings": {"mode": "causal", "num_fewshot": 0, "found": {"filled_splits": ["test"]}}},
    ],
)
def test_what_was_measured_otherwise_is_in_no_column_of_the_paper(changed: dict[str, Any]) -> None:
    usual = suite_record("decoder", "17m", "lm/piqa")
    column = DECODER_COLUMNS[4]
    assert ours(results_of((usual,)), column) is not None
    assert ours(results_of(({**usual, **changed},)), column) is None


def test_retrieval_trained_on_its_own_judgements_is_not_the_papers() -> None:
    own = suite_record(
        "encoder", "17m", "retrieval/mldr",
        settings={"preset": "published", "training": {"data": "own"}},
    )  # fmt: skip
    assert table("encoders", results_of((own,)), with_published=False).rows == ()


def test_a_mean_of_glue_counts_each_task_by_all_its_metrics() -> None:
    tasks = ("mnli", "cola", "sst2", "mrpc", "stsb", "qqp", "qnli", "rte")
    names = {"cola": "matthews", "stsb": "spearman"}
    extra = {"mrpc": "f1", "qqp": "f1", "mnli": "accuracy_mismatched"}
    records = []
    for task in tasks:
        metric = names.get(task, "accuracy")
        metrics = {metric: {"value": 0.8, "stderr": 0.01}}
        if task in extra:
            metrics[extra[task]] = {"value": 0.6, "stderr": 0.01}
        records.append(
            suite_record("encoder", "17m", f"classification/{task}", metric=metric, value=0.8,
                         metrics=metrics)
        )  # fmt: skip
    found = table("encoders", results_of(tuple(records)), with_published=False)
    assert found.rows[0]["GLUE"] == pytest.approx(100 * (5 * 0.8 + 3 * 0.7) / 8)
