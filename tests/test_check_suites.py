"""`check` on results, on folders without a manifest, and on the directory of a suite."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ettin.check import check, examine
from ettin.files import MANIFEST, read_json, write_json, write_manifest
from tests.made_up_runs import write_export, write_samples
from tests.test_check import finish
from tests.test_results_directory import put_record


def finished_results(out: Path) -> Path:
    """A directory of one record."""
    put_record(out, "encoder")
    write_manifest(out, "results", command=[], made_from={}, facts={})
    return out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"value": 9.5}, "its value is not that of its metric"),
        ({"stderr": 9.5}, "its standard error is not that"),
        ({"metric": "other"}, "not that of its metric"),
        ({"settings": {"altered": 1}}, "it was altered or renamed"),
        ({"weights": "e" * 32}, "which belongs into"),
        ({"task": "text/other"}, "which belongs into"),
        ({"kind": "decoder"}, "a decoder with the objective mlm"),
        ({"samples": "absent.samples.jsonl"}, "are not beside it"),
        ({"samples": "../../x"}, "are not beside it"),
        ({"tokens": "many"}, "no record: tokens"),
        ({"more": 1}, "no record: more"),
    ],
)
def test_a_record_that_contradicts_itself_is_found(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    out = finished_results(tmp_path / "results")
    assert check(out) == []
    [path] = out.glob("*/*/*/*.json")
    write_json(path, {**read_json(path), **change})
    [problem] = check(finish(out, "results", {}))
    assert sentence in problem


def test_results_without_a_manifest_are_a_note(tmp_path: Path) -> None:
    put_record(tmp_path / "results", "encoder")
    write_samples(tmp_path / "results" / "encoder-aaaaaaaa" / "quick" / "samples.json")
    found = examine(tmp_path)
    assert found.problems == []
    assert any("without manifest.json" in note for note in found.notes)


def suite(folder: Path) -> Path:
    """What two jobs of a suite leave, as far as a check looks into it."""
    export = write_export(folder / "exports" / "encoder", "mlm")
    results = finished_results(folder / "results" / "encoder")
    digests = {path: read_json(path / MANIFEST)["digest"] for path in (export, results)}
    graph = [
        {"name": "export", "output": str(export)},
        {"name": "evaluate", "output": str(results)},
    ]
    write_json(folder / "plan.json", {"out": str(folder), "graph": graph})
    inputs = {"exports/encoder": digests[export]}
    for name, output, read in (("export", export, {}), ("evaluate", results, inputs)):
        job = {"result": "done", "fingerprint": "f", "inputs": read, "output": digests[output]}
        write_json(folder / "jobs" / f"{name}.json", job)
    (folder / "jobs" / "export.manifest").write_bytes((export / MANIFEST).read_bytes())
    write_json(folder / "jobs" / "config.json", {})
    (folder / "logs").mkdir()
    (folder / "logs" / "export.log").write_text("done\n")
    (folder / "suite.yaml").write_text("name: mine\n")
    return folder


def test_a_suite_whose_jobs_left_what_they_say_is_sound_wherever_it_lies(tmp_path: Path) -> None:
    folder = suite(tmp_path / "suite")
    assert check(folder) == []
    assert check(folder.rename(tmp_path / "moved")) == []


def test_an_output_that_changed_after_its_job_is_found(tmp_path: Path) -> None:
    folder = suite(tmp_path / "suite")
    finish(folder / "exports" / "encoder", "export", {"ettin": {}, "more": 1})
    problems = check(folder)
    assert len(problems) == 2
    assert all("ettin suite run" in problem for problem in problems)
    assert "jobs/export.json" in problems[0]
    assert "jobs/evaluate.json" in problems[1]


def test_a_job_that_is_done_has_an_output(tmp_path: Path) -> None:
    folder = suite(tmp_path / "suite")
    (folder / "results" / "encoder" / MANIFEST).unlink()
    [problem] = check(folder)
    assert "its output" in problem


def test_jobs_that_have_not_ended_are_notes(tmp_path: Path) -> None:
    folder = suite(tmp_path / "suite")
    job = read_json(folder / "jobs" / "evaluate.json")
    write_json(folder / "jobs" / "evaluate.json", {**job, "result": "failed", "output": None})
    (folder / "jobs" / "export.json").unlink()
    found = examine(folder)
    assert found.problems == []
    assert any("(failed)" in note for note in found.notes)
    assert any("export has not run" in note for note in found.notes)


@pytest.mark.parametrize("plan", ["[]", '{"graph": 5}', '{"graph": [{"name": "../x"}], "out": ""}'])
def test_a_plan_that_is_none_is_a_sentence(plan: str, tmp_path: Path) -> None:
    folder = suite(tmp_path / "suite")
    (folder / "plan.json").write_text(plan)
    [problem] = check(folder)
    assert "plan.json" in problem


def test_the_command_prints_notes_beside_problems(tmp_path: Path) -> None:
    put_record(tmp_path / "results", "encoder")
    command = [sys.executable, "-m", "ettin", "check", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert (printed["ok"], printed["problems"]) == (True, [])
    assert printed["notes"]
    assert "note: " in done.stderr
