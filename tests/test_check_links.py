"""`check` compares what stages were made from with what is there now."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ettin.check import Findings, check, examine
from ettin.check.weights import fingerprint_of
from ettin.export import export
from ettin.files import MANIFEST, read_json, read_manifest, write_json
from ettin.records import fingerprint_of_weights
from ettin.report import make_report
from tests.restated import restated
from tests.test_results_directory import put_record

Made = dict[str, Path]


@pytest.fixture(scope="module")
def made(
    phased_runs: Path, corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder of the shared corpus, runs, their exports and a report, linked where they lie."""
    folder = tmp_path_factory.mktemp("linked")
    for name in ("encoder", "decoder"):
        dtype = "float32" if name == "encoder" else "bfloat16"
        shutil.copytree(phased_runs / name, folder / "runs" / name)
        run = folder / "runs" / name
        export(str(run), out=folder / "exports" / name, objective=None, dtype=dtype, command=[])
    converted = folder / "exports" / "converted"
    export(
        str(folder / "exports" / "encoder"),
        out=converted, objective="clm", dtype="float32", command=[],
    )  # fmt: skip
    shutil.copytree(phased_runs / "decoder-from-encoder", folder / "runs" / "decoder-from-encoder")
    shutil.copytree(corpus_directory, folder / "corpus")
    weights = read_manifest(folder / "exports" / "encoder")["files"]["model.safetensors"]
    put_record(
        folder / "results", "encoder", weights=fingerprint_of_weights([weights["xxh3_128"]]),
        command=["ettin", "evaluate", str(folder / "exports" / "encoder"), "--tasks", "text"],
    )  # fmt: skip
    make_report([folder / "runs", folder / "exports"], out=folder / "report", command=[])
    for path in folder.rglob(MANIFEST):
        assert read_json(path)["kind"]
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage, at a place that nothing recorded."""
    return Path(shutil.copytree(made, tmp_path / "moved"))


def flip_last_number(path: Path) -> None:
    """Change the last weight of a safetensors file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def without_original(made: Path, folder: Path, aside: Path) -> Findings:
    """What a check of the copy finds while what was recorded is not where it was."""
    made.rename(aside)
    try:
        return examine(folder)
    finally:
        aside.rename(made)


def test_linked_directories_are_sound_where_they_lie_and_where_they_are_moved(
    made: Path, folder: Path, tmp_path: Path
) -> None:
    assert check(made) == []
    found = without_original(made, folder, tmp_path / "aside")
    assert found.problems == []
    # The shared corpus and the original runs of the fixtures are where they were.
    assert [note for note in found.notes if "not there" in note or "gone" in note] == []


def test_an_export_of_other_weights_than_its_checkpoint_is_found(
    made: Path, folder: Path, tmp_path: Path
) -> None:
    flip_last_number(folder / "exports" / "encoder" / "model.safetensors")
    restated(folder / "exports" / "encoder")
    problems = without_original(made, folder, tmp_path / "aside").problems
    assert len(problems) == 4
    mine = next(each for each in problems if each.startswith(str(folder / "exports" / "encoder")))
    assert "its source is another now" in mine
    assert str(folder / "runs" / "encoder" / "checkpoints" / "decay6") in mine
    assert "ettin export" in mine
    assert any(each.startswith(str(folder / "exports" / "converted")) for each in problems)
    assert any(each.startswith(str(folder / "report")) for each in problems)
    results = next(each for each in problems if each.startswith(str(folder / "results")))
    assert "evaluate it again" in results


def test_bfloat16_exports_are_compared_with_what_rounding_gives(
    made: Path, folder: Path, tmp_path: Path
) -> None:
    content = bytearray((folder / "exports" / "decoder" / "model.safetensors").read_bytes())
    content[-2] ^= 1
    (folder / "exports" / "decoder" / "model.safetensors").write_bytes(bytes(content))
    restated(folder / "exports" / "decoder")
    problems = without_original(made, folder, tmp_path / "aside").problems
    assert any("its source is another now" in each for each in problems)


def test_a_checkpoint_of_another_ledger_than_its_export_is_found(
    made: Path, folder: Path, tmp_path: Path
) -> None:
    export = folder / "exports" / "encoder"
    config = read_json(export / "config.json")
    config["ettin"]["ledger_hash"] = "e" * 32
    write_json(export / "config.json", config)
    restated(export, lambda facts: facts["ettin"].update(ledger_hash="e" * 32))
    problems = without_original(made, folder, tmp_path / "aside").problems
    assert any("has ledger_hash" in each and str(export) in each for each in problems)


def test_a_corpus_of_other_content_is_found(
    made: Path, corpus_directory: Path, folder: Path, tmp_path: Path
) -> None:
    restated(
        folder / "corpus",
        lambda facts: facts.update(sources=dict(reversed(facts["sources"].items()))),
    )
    corpus_directory.rename(tmp_path / "aside")
    try:
        problems = check(folder)
    finally:
        (tmp_path / "aside").rename(corpus_directory)
    assert len(problems) == 3
    assert all("its corpus is another now: " in each for each in problems)
    assert all(str(folder / "corpus") in each for each in problems)


def test_a_corpus_of_equal_content_is_the_same_one(
    made: Path, corpus_directory: Path, folder: Path, tmp_path: Path
) -> None:
    before = read_manifest(folder / "corpus")["digest"]
    restated(folder / "corpus", lambda facts: facts.update(more=1))
    assert read_manifest(folder / "corpus")["digest"] != before
    corpus_directory.rename(tmp_path / "aside")
    try:
        assert check(folder) == []
    finally:
        (tmp_path / "aside").rename(corpus_directory)


def test_a_start_that_was_trained_on_is_found(phased_runs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(phased_runs, tmp_path / "runs"))
    for run in ("encoder", "decoder-from-encoder"):
        for checkpoint in (folder / run / "checkpoints").iterdir():
            assert check(checkpoint) == []
    last = folder / "encoder" / "checkpoints" / "decay6"
    flip_last_number(last / "weights-0000.safetensors")
    restated(last)
    restated(folder / "encoder")
    phased_runs.rename(tmp_path / "aside")
    try:
        [problem] = check(folder)
    finally:
        (tmp_path / "aside").rename(phased_runs)
    assert "its start is another now" in problem
    assert str(last) in problem


def test_first_weights_that_are_not_those_of_the_run_are_found(folder: Path) -> None:
    first = folder / "runs" / "encoder" / "checkpoints" / "step0"
    stated = read_json(folder / "runs" / "encoder" / MANIFEST)["facts"]["initial_weights_hash"]
    assert fingerprint_of(first) == stated
    flip_last_number(first / "weights-0000.safetensors")
    restated(first)
    restated(folder / "runs" / "encoder")
    assert any("says that it began with" in each for each in check(folder))


def test_what_is_gone_is_a_note_and_no_problem(made: Path, folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "exports")
    shutil.rmtree(folder / "runs" / "encoder")
    found = without_original(made, folder, tmp_path / "aside")
    assert found.problems == []
    assert any("encoder" in note and "not checked" in note for note in found.notes)


def test_older_weights_are_a_note_once_the_task_is_measured_on_todays(folder: Path) -> None:
    record = put_record(
        folder / "results", "decoder", weights="e" * 32, kind="decoder", objective="clm",
        command=["ettin", "evaluate", str(folder / "exports" / "decoder"), "--tasks", "text"],
    )  # fmt: skip
    [problem] = check(folder)
    assert "are of the weights eeee" in problem
    assert str(folder / "results" / "decoder-eeeeeeee") in problem
    now = read_manifest(folder / "exports" / "decoder")["files"]["model.safetensors"]["xxh3_128"]
    put_record(
        folder / "results", "decoder", weights=fingerprint_of_weights([now]), kind="decoder",
        objective="clm", command=read_json(record)["command"],
    )  # fmt: skip
    assert check(folder) == []


def test_tensors_that_the_configuration_does_not_have_are_found(folder: Path) -> None:
    export = folder / "exports" / "encoder"
    config = read_json(export / "config.json")
    write_json(export / "config.json", {**config, "intermediate_size": 40})
    restated(export)
    problems = check(export)
    assert len(problems) == 4
    assert any("mlp.Wo.weight" in each and "by the stated shape" in each for each in problems)
    assert "more such differences" in problems[-1]


def test_rounding_to_bfloat16_is_to_the_nearest_and_ties_go_to_even() -> None:
    import torch

    from ettin.check.weights import _rounded

    numbers = np.random.default_rng(5).normal(size=1000).astype(np.float32)
    edges = [1 + 2**-8, 1 + 3 * 2**-8, -0.0, 1e-40]
    numbers = np.concatenate([numbers, np.array(edges, np.float32)])
    expected = torch.from_numpy(numbers).to(torch.bfloat16).float().numpy()
    assert np.array_equal(_rounded(numbers), expected)
