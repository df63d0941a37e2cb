"""The table of all results: one row a measurement, whose it is, and nothing of when or where."""

import csv
import json
import random
import time
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from ettin.files import write_json
from ettin.report.collect import collect
from ettin.report.result_tables import result_table, score_table
from ettin.report.tables import save
from ettin.report.tidy import ELSEWHERE, finals, results_of
from tests.made_up_records import QUICK, ROLES, suite_record, suite_records, write_suite_records


def table_of(folder: Path) -> Any:
    return result_table(results_of(collect([folder]).records))


def test_the_table_is_the_same_bytes_wherever_whenever_and_in_whatever_order(
    tmp_path: Path,
) -> None:
    records = suite_records(("nano", "micro"), shares=(0.1, 1.0))
    write_suite_records(tmp_path / "one" / "results", records)
    again = [
        {**record, "seconds": 77.0, "command": ["/elsewhere/ettin", record["model"]]}
        for record in records
    ]
    random.Random(1).shuffle(again)
    # As a suite does it: every job has a directory of its own.
    for record in again:
        write_suite_records(tmp_path / "two" / record["model"] / record["tag"], (record,))
    one, two = (
        [path.read_bytes() for path in save(table_of(tmp_path / name), tmp_path / f"{name}-out")]
        for name in ("one", "two")
    )
    assert len(one) == 3
    assert one == two
    text = one[0].decode()
    assert str(tmp_path) not in text
    assert "elsewhere/ettin" not in text


def test_every_record_is_a_row_that_says_whose_it_is(tmp_path: Path) -> None:
    records = suite_records(("nano",), shares=(0.1, 1.0), seeds=(21, 22))
    write_suite_records(tmp_path / "results", records)
    [path, *_] = save(table_of(tmp_path), tmp_path / "out")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records) == 2 * 2 * len(ROLES) * len(QUICK)
    [row] = [
        row
        for row in rows
        if (row["model"], row["task"]) == ("encoder-from-decoder-nano-seed22-cross10", QUICK[0])
    ]
    expected = {
        "run": "encoder-from-decoder-nano-seed22", "role": "encoder from decoder (mntp)",
        "size": "nano", "parameters": "7072192", "training_seed": "22", "tag": "cross10",
        "phase": "cross", "tokens": "20000", "last": "False", "family": "quick",
        "metric": "balanced_accuracy", "baseline_chance": "0.125", "examples": "400", "limit": "",
    }  # fmt: skip
    assert {key: row[key] for key in expected} == expected
    assert row["path"].startswith(f"encoder-from-decoder-nano-seed22-cross10-{row['weights'][:8]}/")
    assert (tmp_path / "results" / row["path"]).is_file()
    assert Path(row["path"]).stem == row["settings"]


def test_parquet_has_types_and_the_same_rows(tmp_path: Path) -> None:
    table = result_table(results_of(suite_records(("nano",), tasks=("lm/piqa",))))
    paths = save(table, tmp_path)
    read = pyarrow.parquet.read_table(paths[-1])
    assert read.schema.field("tokens").type == pyarrow.int64()
    assert read.schema.field("value").type == pyarrow.float64()
    assert read.schema.field("last").type == pyarrow.bool_()
    assert read.schema.field("baseline_chance").type == pyarrow.float64()
    assert read.to_pylist() == list(table.rows)


def test_models_stand_by_size_then_role_then_seed() -> None:
    records = list(suite_records(("17m", "nano"), tasks=("lm/piqa",), seeds=(22, 21)))
    found = [(each.size, each.role, each.training_seed) for each in results_of(tuple(records))]
    assert found[:2] == [("nano", "encoder", 21), ("nano", "encoder", 22)]
    assert found[2][1] == "decoder"
    assert found[4][1] == "encoder from decoder (mntp)"
    assert found[8][0] == "17m"


def test_the_last_checkpoint_is_that_of_the_last_phase() -> None:
    records = tuple(
        suite_record("encoder", "nano", "lm/piqa", phase=phase, tag=tag, tokens=tokens,
                     model=f"encoder-nano-{tag}", weights=tag)
        for phase, tag, tokens in (("pretraining", "step9", 900), ("decay", "decay2", 800),
                                   ("extension", "ext3", 850))
    )  # fmt: skip
    results = results_of(records)
    assert {result.run for result in results} == {"encoder-nano"}
    assert [result.tag for result in finals(results)] == ["decay2"]


def test_the_page_shows_last_checkpoints_and_the_files_hold_all() -> None:
    table = result_table(results_of(suite_records(("nano",), shares=(0.1, 0.5, 1.0))))
    assert len(table.shown) == len(ROLES) * len(QUICK)
    assert len(table.rows) == 3 * len(table.shown)
    assert f"all {len(table.rows)} measurements" in table.note


def test_two_trainings_of_one_name_are_two_runs() -> None:
    one = suite_record("encoder", "nano", "lm/piqa", recipe=None)
    other = suite_record("encoder", "nano", "lm/piqa", recipe=None, weights="f" * 32)
    assert {result.run for result in results_of((one, other))} == {
        f"encoder-nano ({one['weights'][:8]})",
        "encoder-nano (ffffffff)",
    }


def test_a_checkpoint_measured_under_two_names_is_one_run() -> None:
    final = suite_record("encoder", "nano", "lm/piqa")
    followed = {**final, "model": "encoder-nano-step100"}
    assert {result.run for result in results_of((final, followed))} == {"encoder-nano"}
    [row] = score_table(results_of((final, followed))).rows
    assert row["lm/piqa"] == final["value"]


def test_thousands_of_measurements_of_a_run_take_no_longer_than_they_must() -> None:
    tasks = [f"lm/task{number}" for number in range(6)]
    one = suite_record("encoder", "nano", "lm/piqa")
    records = tuple(
        {**one, "task": task, "tag": f"step{step}", "weights": f"{step:032x}", "tokens": step,
         "model": f"encoder-nano-step{step}"}
        for step in range(200)
        for task in tasks
    )  # fmt: skip
    started = time.process_time()
    results = results_of(records)
    assert time.process_time() - started < 2
    assert {result.run for result in results} == {"encoder-nano"}
    assert len(finals(results)) == len(tasks)


def test_records_that_state_little_are_rows_too() -> None:
    old = {key: value for key, value in suite_record("encoder", "nano", "lm/piqa").items()
           if key not in ("recipe", "training_seed")}  # fmt: skip
    bare = {"task": "lm/piqa", "metric": "acc", "value": "not a number", "settings": 3}
    found = results_of((old, bare))
    assert [(each.role, each.training_seed, each.value) for each in found] == [
        ("encoder", None, old["value"]),
        (ELSEWHERE, None, None),
    ]
    assert len(result_table(found).rows) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "<script>alert(1)</script>", "size": "../../x"},
        {"tokens": 10**30, "parameters": True, "seed": 1.5},
        {"baselines": {"chance": "x", "</script>": 0.2}, "limit": {"a": 1}},
        {"settings": {"a": float("nan"), "found": [1]}, "metrics": 5, "phase": ["x"]},
    ],
)
def test_hostile_records_are_rows_of_text_and_numbers(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    record = {**suite_record("encoder", "nano", "lm/piqa"), **changed}
    write_json(tmp_path / "results" / "a.json", {"task": "lm/x", "metric": "acc", "value": 1})
    (tmp_path / "results" / "b.json").write_text(json.dumps(record))
    paths = save(table_of(tmp_path / "results"), tmp_path / "out")
    assert pyarrow.parquet.read_table(paths[-1]).num_rows == 2


def test_the_path_of_a_record_is_where_it_lies_and_not_what_it_says(tmp_path: Path) -> None:
    record = suite_record("encoder", "nano", "lm/piqa")
    write_json(tmp_path / "a.json", {**record, "path": "/etc/passwd"})
    [result] = results_of(collect([tmp_path]).records)
    assert result.path == "a.json"


def test_what_a_suite_keeps_beside_its_stages_is_no_result(tmp_path: Path) -> None:
    write_suite_records(tmp_path / "results", (suite_record("encoder", "nano", "lm/piqa"),))
    write_json(tmp_path / "plan.json", {"task": "a", "metric": "b", "value": 1})
    write_json(tmp_path / "jobs" / "x.json", {"task": "a", "metric": "b", "value": 1})
    found = collect([tmp_path])
    assert len(found.records) == 1
    assert found.left_out == {}


def test_people_read_a_row_a_model_and_a_column_a_task() -> None:
    limited = suite_record("encoder", "nano", "lm/piqa", limit=10, value=0.9, settings={"x": 1})
    table = score_table(results_of((*suite_records(("nano",), shares=(0.5, 1.0)), limited)))
    assert len(table.rows) == len(ROLES)
    encoder, decoder = table.rows[0], table.rows[1]
    assert encoder["lm/piqa, limit 10"] == 0.9
    assert decoder["lm/piqa, limit 10"] is None
    assert decoder["quick/retrieval"] == suite_record("decoder", "nano", "quick/retrieval")["value"]


def test_seeds_of_a_task_are_averaged() -> None:
    records = tuple(
        suite_record("encoder", "nano", "classification/sst2", seed=21, value=value)
        | {"seed": number, "settings": {"seed": number}}
        for number, value in ((1, 0.6), (2, 0.8))
    )
    [row] = score_table(results_of(records)).rows
    assert row["classification/sst2"] == pytest.approx(0.7)
