"""The report: what it finds, what it says, and that hostile text stays text."""

import csv
import json
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ettin.errors import InputError
from ettin.files import MANIFEST, read_manifest, verify, write_json, write_manifest
from ettin.report import figures, make_report, tables, twins
from ettin.report.collect import collect
from ettin.report.labels import labels_of
from tests.made_up_runs import BASELINES, write_export, write_run, write_samples
from tests.pages import page_of


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with a pair of runs, their exports, and samples."""
    folder = tmp_path / "made"
    write_run(folder / "runs" / "encoder", "mlm")
    write_run(folder / "runs" / "decoder", "clm")
    write_export(folder / "exports" / "encoder", "mlm")
    write_export(folder / "exports" / "decoder", "clm")
    write_samples(folder / "results" / "encoder" / "quick" / "samples.json")
    (folder / "recipe.yaml").write_text("size: nano\n")
    return folder


def test_a_folder_is_searched_for_runs_exports_and_samples(pair: Path) -> None:
    found = collect([pair])
    assert [run.name for run in found.runs] == ["encoder", "decoder"]
    assert [export.name for export in found.exports] == ["encoder", "decoder"]
    assert [samples["model"] for samples in found.samples] == ["encoder"]
    assert found.left_out == {}


def test_paths_given_twice_or_within_each_other_are_read_once(pair: Path) -> None:
    assert len(collect([pair, pair / "runs", pair / "runs" / "encoder"]).runs) == 2


def test_an_unfinished_run_and_an_altered_manifest_are_left_out_and_said(
    pair: Path, tmp_path: Path
) -> None:
    (pair / "runs" / "decoder" / MANIFEST).unlink()
    manifest = pair / "exports" / "decoder" / MANIFEST
    manifest.write_text(manifest.read_text().replace("decoder", "another").replace("2.4e-06", "0"))
    found = collect([pair])
    assert [Path(path).parent.name for path in found.left_out] == ["exports", "runs"]
    assert "unfinished" in page_of([pair], tmp_path / "report").text


def test_nothing_to_report_is_refused_with_the_reasons(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "mlm")
    (run / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"nothing to report(.|\n)*unfinished"):
        collect([run])
    with pytest.raises(InputError, match="does not exist"):
        collect([tmp_path / "missing"])


def test_result_records_become_a_table(pair: Path, tmp_path: Path) -> None:
    record = {"model": "m", "task": "lm/arc", "metric": "accuracy", "value": 0.25, "stderr": 0.01}
    write_json(pair / "results" / "m" / "arc.json", record)
    page = page_of([pair], tmp_path / "report")
    assert "lm/arc" in page.text
    saved = json.loads((tmp_path / "report" / "tables" / "results.json").read_text())
    assert saved[0]["value"] == 0.25


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (5.0, "1.31 nats below the unigram baseline, 0.03 nats above the bigram baseline"),
        (6.312, "level with the unigram baseline, 1.34 nats above the bigram baseline"),
    ],
)
def test_the_verdict_says_on_which_side_of_each_baseline_a_loss_is(loss: float, words: str) -> None:
    assert tables.verdict(loss, BASELINES["mlm"]) == words


def test_no_verdict_is_given_without_something_to_compare() -> None:
    assert tables.verdict(None, BASELINES["mlm"]) is None
    assert tables.verdict(5.0, {}) is None


def proof_of(folder: Path) -> dict[str, str]:
    [found] = twins.pairs_of(collect([folder]).runs)
    return {row["point"]: row["holds"] for row in twins.proof(found, 1).rows}


def test_the_proof_of_a_pair_holds_for_twins(pair: Path) -> None:
    assert set(proof_of(pair).values()) == {"yes"}


@pytest.mark.parametrize(
    ("facts", "point"),
    [
        ({"ledger_hash": "e" * 32}, "the rows of every step, in order"),
        ({"initial_weights_hash": "e" * 32}, "the weights at the start"),
        ({"tokens": 5}, "the text tokens consumed"),
    ],
)
def test_the_proof_fails_at_the_point_in_which_runs_differ(
    facts: dict[str, Any], point: str, tmp_path: Path
) -> None:
    write_run(tmp_path / "encoder", "mlm")
    write_run(tmp_path / "decoder", "clm", **facts)
    proof = proof_of(tmp_path)
    assert proof.pop(point) == "NO"
    assert set(proof.values()) == {"yes"}


def test_recipes_that_differ_in_more_than_the_objective_are_no_pair(pair: Path) -> None:
    [found] = twins.pairs_of(collect([pair]).runs)
    other = replace(found.decoder, recipe={**found.decoder.recipe, "seed": 22})
    last = twins.proof(twins.Pair(found.encoder, other), 1).rows[-1]
    assert last["holds"] == "NO"
    assert last["found"] == "differ in objective, seed"


def test_differences_name_nested_keys() -> None:
    one, other = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 3}
    assert twins.differences(one, other) == ["a.c", "d", "e"]
    decay, longer = ({"name": "decay", "tokens": tokens} for tokens in (5, 6))
    cross = {"name": "cross"}
    assert twins.differences({"phases": [decay]}, {"phases": [longer, cross]}) == [
        "phases.cross",
        "phases.decay.tokens",
    ]


def test_a_parity_beyond_its_tolerance_is_shown_as_such(pair: Path, tmp_path: Path) -> None:
    export = tmp_path / "made" / "exports" / "decoder"
    (export / MANIFEST).unlink()
    write_json(export / "parity.json", {"largest_logit_difference": 2e-4, "tolerance": 1e-4})
    write_manifest(
        export, "export", command=[], made_from={}, facts={"ettin": {"objective": "clm"}}
    )
    assert [row["holds"] for row in tables.parity(collect([pair]).exports).rows] == ["yes", "NO"]


def test_smoothing_keeps_a_constant_and_follows_a_step() -> None:
    assert figures.smooth([2.0] * 5, span=4) == pytest.approx([2.0] * 5)
    risen = figures.smooth([0.0] * 20 + [1.0] * 20, span=4)
    assert risen[19] == 0
    assert 0.2 < risen[20] < 0.3
    assert risen[-1] > 0.99
    assert figures.smooth([3.0, 1.0], span=0.1) == [3.0, 1.0]


def test_the_figure_draws_the_last_point_of_every_curve_and_few_enough(pair: Path) -> None:
    runs = collect([pair]).runs
    figure = figures.learning_curves(runs)
    for run, name in zip(runs, ("encoder", "decoder"), strict=True):
        drawn = [
            (point["tokens"], point["value"])
            for point in figure.data
            if point["run"] == name and point["series"] == "held-out"
        ]
        assert drawn == run.series("validation_loss")
    long = replace(runs[0], metrics=runs[0].metrics * 30)
    training = [
        point for point in figures.learning_curves((long,)).data if point["series"] == "training"
    ]
    assert 120 < len(training) <= 241
    assert training[-1]["tokens"] == runs[0].metrics[-1]["tokens"]


def test_lines_that_are_not_numbers_are_not_drawn(pair: Path) -> None:
    run = replace(collect([pair]).runs[0], facts={})
    broken = ({"tokens": 5, "loss": "nan"}, {"loss": 3.0}, {"tokens": 7, "validation_loss": True})
    assert replace(run, metrics=broken).series("loss") == []
    assert replace(run, metrics=broken).series("validation_loss") == []


def test_runs_of_one_kind_are_called_by_their_names(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "encoder", "mlm")
    write_run(tmp_path / "b" / "encoder", "mlm")
    runs = collect([tmp_path]).runs
    assert list(labels_of(runs).values()) == ["a/encoder", "b/encoder"]


def test_long_names_are_shortened_and_stay_apart(tmp_path: Path) -> None:
    run = collect([write_run(tmp_path / "run", "mlm")]).runs[0]
    runs = tuple(
        replace(run, path=tmp_path / str(place), name=name)
        for place, name in enumerate(("x" * 40 + "first", "x" * 40 + "second", "x" * 50 + "first"))
    )
    labels = list(labels_of(runs).values())
    assert labels[0] == "xxxxxxxxxxxx…xxxxxxfirst"
    assert len(set(labels)) == 3
    assert max(map(len, labels)) <= 28


def test_the_report_is_a_finished_directory_with_figures_and_tables(
    pair: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    summary = make_report([pair], out=out, command=["ettin", "report"])
    assert verify(out) == []
    assert read_manifest(out, "report")["facts"]["runs"] == 2
    assert summary.page.is_file()
    assert all(path.is_absolute() and path.is_file() for path in summary.tables + summary.figures)
    png = (out / "figures" / "learning-curves.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert png.startswith(b"\x89PNG")
    assert width > height > 600
    assert (out / "figures" / "learning-curves.pdf").read_bytes().startswith(b"%PDF-")
    with (out / "tables" / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["objective"] for row in rows] == ["mlm", "clm"]
    assert float(rows[0]["unigram"]) == BASELINES["mlm"]["unigram"]


def test_the_page_says_what_was_trained_how_it_ended_and_whether_it_is_a_pair(
    pair: Path, tmp_path: Path
) -> None:
    text = re.sub(r"\s+", " ", page_of([pair], tmp_path / "report").text)
    assert "An encoder and its twin, a decoder, of size nano" in text
    assert "1.63M parameters each" in text
    assert "816k tokens of text" in text
    assert "nats below the unigram baseline" in text
    assert "the rows of every step, in order yes" in text
    assert "2.4e-6" in text
    assert "15,003" in text
    assert "870 MiB" in text
    assert "ettin train recipes/nano.yaml --objective mlm" in text


def test_a_report_is_replaced_whole_and_equal_input_gives_equal_bytes(
    pair: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    first = make_report([pair], out=out, command=["ettin", "report"]).page.read_bytes()
    hashes = read_manifest(out)["files"]
    (out / "stray.txt").write_text("from before")
    again = make_report([pair], out=out, command=["ettin", "report"]).page.read_bytes()
    assert first == again
    assert read_manifest(out)["files"] == hashes
    assert verify(out) == []
    assert {path.name for path in tmp_path.iterdir()} == {"made", "report"}


def test_a_directory_that_is_no_report_is_not_replaced(pair: Path) -> None:
    before = sorted((pair / "runs").rglob("*"))
    with pytest.raises(InputError, match="not empty"):
        make_report([pair], out=pair / "runs" / "encoder", command=[])
    assert sorted((pair / "runs").rglob("*")) == before
