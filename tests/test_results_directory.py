"""The directory of results is finished by a manifest, whoever measures into it, and how often."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ettin import files
from ettin.check import check
from ettin.errors import InputError
from ettin.evaluation.results_directory import measuring
from ettin.evaluation.run import evaluate
from ettin.evaluation.task import Request, Task
from ettin.files import MANIFEST
from tests.made_up_runs import made_up_record, write_run
from tests.stock_models import save_models

TEXT = Task("text", "perplexity")


@pytest.fixture(scope="module")
def models(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`encoder/` and `decoder/` with random weights, and the shared corpus's tokenizer."""
    return save_models(tmp_path_factory.mktemp("models"), tokenizer_directory=tokenizer_directory)


def measure(models: Path, out: Path, corpus: Path, *tasks: Task, limit: int = 2) -> Any:
    request = Request(
        data=corpus, offline=True, limit=limit, seed=None, mode="ettin", preset="quick",
        pooling=None, batch_tokens=2048, device="cpu", out=out,
    )  # fmt: skip
    wheres = [str(models / "decoder")]
    return evaluate(
        wheres, list(tasks or [TEXT]), request=request, seeds=(21,), log_samples=True,
        command=["ettin", "evaluate"],
    )  # fmt: skip


def put_record(out: Path, name: str, **changed: Any) -> Path:
    """A record where its content says that it belongs."""
    record = made_up_record("text/perplexity", metric="bits", value=2.5, model=name, **changed)
    stem = files.fingerprint(record["settings"])[:8]
    path = out / f"{name}-{record['weights'][:8]}" / "text" / "perplexity" / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, {**record, "metrics": {"bits": {"value": 2.5, "stderr": 0.04}}})
    return path


def test_an_evaluation_finishes_its_directory_and_a_second_one_leaves_it_as_it_is(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    [record] = measure(models, out, corpus_directory).records
    manifest = files.read_manifest(out, "results")
    name = Path(record["path"]).relative_to(out).as_posix()
    assert set(manifest["files"]) == {name, name.replace(".json", ".samples.jsonl")}
    assert manifest["made_from"]["weights"] == [record["weights"]]
    assert manifest["made_from"]["data"] == {"text/perplexity": [record["data"]]}
    assert [model["model"] for model in manifest["facts"]["models"]] == ["decoder"]
    assert manifest["facts"]["limits"] == [2]
    assert check(out) == []
    before = (out / MANIFEST).read_bytes(), (out / MANIFEST).stat().st_mtime_ns
    measure(models, out, corpus_directory)
    assert ((out / MANIFEST).read_bytes(), (out / MANIFEST).stat().st_mtime_ns) == before


def test_a_manifest_that_was_removed_comes_back_equal_and_nothing_is_measured_again(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    [record] = measure(models, out, corpus_directory).records
    manifest = (out / MANIFEST).read_bytes()
    (out / MANIFEST).unlink()
    assert measure(models, out, corpus_directory).records == [record]
    assert (out / MANIFEST).read_bytes() == manifest


def test_another_task_reopens_the_directory_and_takes_older_records_up(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    old = put_record(out, "encoder")
    measure(models, out, corpus_directory)
    measure(models, out, corpus_directory, limit=1)
    manifest = files.read_manifest(out)
    assert old.relative_to(out).as_posix() in manifest["files"]
    assert manifest["facts"]["records"] == 3
    assert check(out) == []


def test_after_a_failed_task_there_is_no_manifest_until_all_is_there(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    for tasks in ((TEXT, Task("text", "nonsense")), (TEXT,), (TEXT, Task("text", "nonsense"))):
        outcome = measure(models, out, corpus_directory, *tasks)
        assert len(outcome.records) == 1
        assert files.is_finished(out) == (len(tasks) == 1)
    # A mistake that measures nothing leaves what is finished alone.
    measure(models, out, corpus_directory)
    measure(models, out, corpus_directory, Task("text", "nonsense"))
    assert files.is_finished(out)


def test_samples_are_made_once_and_the_directory_stays_as_it_is(
    models: Path, corpus_directory: Path, tmp_path: Path, told: Any
) -> None:
    out = tmp_path / "results"
    measure(models, out, corpus_directory, Task("quick", "samples"))
    seen = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    assert len(seen) == 2
    measure(models, out, corpus_directory, Task("quick", "samples"))
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.json")} == seen
    assert "samples are made already" in told.text


def test_the_last_of_several_evaluations_finishes_the_directory(tmp_path: Path) -> None:
    out = tmp_path / "results"
    with measuring(out) as one:
        with measuring(out) as other:
            one.begin()
            put_record(out, "encoder")
            other.begin()
            put_record(out, "decoder", kind="decoder", objective="clm", weights="b" * 32)
            other.finish(["ettin"])
            assert not files.is_finished(out)
        one.finish(["ettin"])
    assert files.read_manifest(out)["facts"]["records"] == 2
    assert check(out) == []


def test_the_manifest_follows_from_the_records_whoever_writes_it(tmp_path: Path) -> None:
    out = tmp_path / "results"
    put_record(out, "encoder", command=["ettin", "evaluate", "b"])
    put_record(out, "other", command=["ettin", "evaluate", "a"])
    written = set()
    for command in (["one"], ["another"]):
        with measuring(out) as results:
            results.begin()
            results.finish(command)
        written.add((out / MANIFEST).read_bytes())
    assert len(written) == 1


def test_what_a_killed_evaluation_left_is_tidied_up(tmp_path: Path) -> None:
    out = tmp_path / "results"
    put_record(out, "encoder")
    (out / "finetuned" / "model.partial").mkdir(parents=True)
    (out / "finetuned" / "model.lock").write_text("123")
    with measuring(out) as results:
        results.finish(["ettin"])
    assert not list((out / "finetuned").iterdir())
    assert check(out) == []


def test_results_keep_out_of_other_directories(tmp_path: Path, told: Any) -> None:
    run = write_run(tmp_path / "run", "mlm")
    with pytest.raises(InputError, match="is a finished run"), measuring(run):
        pass
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "thesis.tex").write_text("mine")
    put_record(tmp_path / "mixed", "encoder")
    with measuring(tmp_path / "mixed") as results:
        results.finish(["ettin"])
    assert not files.is_finished(tmp_path / "mixed")
    assert "thesis.tex" in told.text


def test_what_is_left_out_for_good_reasons_does_not_keep_it_unfinished(
    models: Path, flat_corpus: Path, tmp_path: Path
) -> None:
    tasks = (Task("quick", "classification"), TEXT)
    outcome = measure(models, tmp_path / "results", flat_corpus, *tasks)
    assert [failure.left_out for failure in outcome.failures] == [True]
    assert files.is_finished(tmp_path / "results")


@pytest.mark.slow
def test_two_evaluations_at_the_same_time_finish_one_directory(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    words = [sys.executable, "-m", "ettin", "evaluate", "--tasks", "text", "--offline", "--limit"]
    words += ["2", "--data", str(corpus_directory), "--out", str(out), "--json"]
    children = [
        subprocess.Popen([*words, str(models / kind)], stdout=subprocess.PIPE)
        for kind in ("encoder", "decoder")
    ]
    for child in children:
        assert json.loads(child.communicate()[0])["failed"] == []
        assert child.returncode == 0
    facts = files.read_manifest(out)["facts"]
    assert [model["model"] for model in facts["models"]] == ["decoder", "encoder"]
    assert check(out) == []
