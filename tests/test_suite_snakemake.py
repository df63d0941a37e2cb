"""The same suite by Snakemake: the same files, nothing twice, checkpoints survive."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ettin import files
from ettin.errors import InputError
from ettin.suite.attempts import job_file, write_attempt
from ettin.suite.job import Job
from ettin.suite.plan import Plan
from ettin.suite.snakemake import write_snakefile
from ettin.suite.state import Board
from ettin.suite.worker import work
from tests.runs import assert_same_run
from tests.suite_jobs import (
    attempt,
    ended,
    hashes,
    is_command,
    plan_of,
    processes_about,
    run,
    slow_text,
    small_text,
    started,
    tokenizer_job,
    train_job,
    until,
    write_phased_recipe,
)

ODD = """it's {odd} "dir" $HOME"""


def chain(out: Path, text: Path) -> Plan:
    """Two tokenizers, one after the other."""
    first = tokenizer_job(out, "first", text)
    return plan_of(out, first, tokenizer_job(out, "a $(touch x) 'b' \"c\"", text, first.output))


def by_snakemake(plan: Plan, *words: str, expected: int = 0) -> str:
    """Call Snakemake as on a cluster, without our runner; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(plan.out / "Snakefile"), *words],
        cwd=plan.out,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == expected, done.stdout
    return done.stdout


def test_snakemake_makes_what_a_local_run_makes_and_nothing_twice(tmp_path):
    text = small_text(tmp_path / "text")
    local, other = chain(tmp_path / "local", text), chain(tmp_path / ODD / "out put", text)
    run(local)
    runner = started(other, jobs=2, snakemake=tmp_path / ODD / "Snake file")
    said = ended(runner)
    assert runner.returncode == 0, said
    for job, twin in zip(local.jobs, other.jobs, strict=True):
        assert hashes(job.output) == hashes(twin.output)
        assert attempt(other, twin.name).attempts == 1
    again = started(other, jobs=2, snakemake=tmp_path / ODD / "Snake file")
    assert "Nothing to be done" in ended(again)
    assert {path.name for path in tmp_path.iterdir()} == {"text", "local", ODD, "suite.yaml"}
    assert {path.name for path in (tmp_path / ODD).iterdir()} == {
        "out put", "Snake file", "suite.yaml"
    }  # fmt: skip


def test_a_manifest_that_was_taken_away_is_put_back(tmp_path):
    plan = chain(tmp_path / "out", small_text(tmp_path / "text"))
    run(plan)
    first = plan.jobs[0].output
    before, written = files.read_manifest(first), (first / "tokenizer.json").stat().st_mtime_ns
    (first / "manifest.json").unlink()
    work(plan, "first")
    assert files.read_manifest(first) == before
    assert (first / "tokenizer.json").stat().st_mtime_ns == written
    assert attempt(plan, "first").attempts == 1
    (first / "manifest.json").unlink()
    (first / "tokenizer.json").write_text("{}")  # of another size: no longer what was finished
    with pytest.raises(Exception, match="not empty"):
        work(plan, "first")


def test_an_output_that_lost_its_manifest_before_it_was_recorded_is_made_again(tmp_path):
    plan = chain(tmp_path / "out", small_text(tmp_path / "text"))
    run(plan)
    first, record = plan.jobs[0].output, attempt(plan, "first")
    digest = record.output
    (first / "manifest.json").unlink()
    write_attempt(plan.out, "first", type(record)("running", record.fingerprint, {}, attempts=1,
                                                  from_nothing=True))  # fmt: skip
    work(plan, "first")
    assert attempt(plan, "first").output == digest
    assert attempt(plan, "first").attempts == 2


def test_what_snakemake_cannot_take_is_refused(tmp_path):
    out = tmp_path / "out"
    for output, problem in ((tmp_path / "x", "lies outside of"), (out / "{x}", "braces")):
        plan = plan_of(out, Job("a", "tokenizer", (("ettin", "--help"),), output))
        with pytest.raises(InputError, match=problem):
            write_snakefile(plan, tmp_path / "Snakefile", threads=1)


def test_a_missing_snakemake_is_said_with_what_to_install(tmp_path):
    plan = chain(tmp_path / "out", small_text(tmp_path / "text"))
    code = (
        "import sys\nsys.modules['snakemake'] = None\nfrom pathlib import Path\n"
        "from ettin.suite.plan_file import read_plan\nfrom ettin.suite.run import run_suite\n"
        f"run_suite(read_plan(Path({str(plan.out)!r})), jobs=1, snakemake=Path('Snakefile'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "pip install 'ettin[cluster]'" in done.stderr
    assert not (tmp_path / "Snakefile").exists()


@pytest.mark.slow
def test_a_signal_reaches_the_commands_through_snakemake(tmp_path):
    out = tmp_path / "out"
    plan = plan_of(out, tokenizer_job(out, "slow", slow_text(tmp_path / "slow")))
    runner = started(plan, snakemake=tmp_path / "Snakefile")
    commands: list[int] = []

    def command_runs() -> bool:
        commands[:] = [
            each for each in processes_about(out) if is_command(each, "tokenizer", "train")
        ]
        return bool(commands)

    until(command_runs, seconds=60)
    runner.terminate()
    said = ended(runner)
    assert runner.returncode == 3, said
    assert processes_about(out) == []
    assert Board(plan).states == {"slow": "ready"}
    write_snakefile(plan, out / "Snakefile", threads=1)
    assert "slow is done" in by_snakemake(plan, "--cores", "1", "--rerun-incomplete")
    forced = by_snakemake(plan, "--cores", "1", "--forceall")
    assert "slow is done already; nothing to do" in forced
    assert attempt(plan, "slow").attempts == 2


@pytest.mark.slow
def test_a_training_killed_inside_snakemake_goes_on_from_its_checkpoint(tmp_path, corpus_directory):
    def planned(out: Path) -> Plan:
        recipe = write_phased_recipe(tmp_path / "recipe.yaml")
        native = train_job(out, "encoder", recipe, corpus_directory, objective="mlm")
        export = out / "exports" / "encoder"
        words = ("ettin", "export", str(native.output), "--out", str(export))
        return plan_of(out, native, Job("export", "export", (words,), export, (native.output,)))

    local, other = planned(tmp_path / "local" / "out"), planned(tmp_path / "other" / "out")
    run(local, OMP_NUM_THREADS="1")
    write_snakefile(other, other.out / "Snakefile", threads=1)
    words = ["--snakefile", str(other.out / "Snakefile"), "--cores", "1"]
    snakemake = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *words],
        cwd=other.out, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    encoder = other.jobs[0].output
    until(lambda: (encoder / "checkpoints" / "step5" / "manifest.json").exists(), seconds=120)
    (command,) = [each for each in processes_about(encoder) if is_command(each, "train")]
    os.kill(command, signal.SIGKILL)
    assert snakemake.wait(60) == 1
    assert attempt(other, "encoder").reason == "killed by SIGKILL (out of memory?)"
    by_snakemake(other, "--cores", "1", "--rerun-incomplete")
    log = job_file(other.out, "encoder", ".log").read_text()
    assert log.count("== ") == 2
    assert "resuming" in log
    assert_same_run(local.jobs[0].output, encoder)
    weights = [plan.jobs[1].output / "model.safetensors" for plan in (local, other)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert set(Board(other).states.values()) == {"done"}
