"""Jobs of a suite: in order, each once, whatever fails, and started again where that helps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ettin import files
from ettin.errors import InputError
from ettin.suite.attempts import (
    is_locked,
    job_file,
    job_lock,
    manifest_digest,
    printable,
    reason_of,
)
from ettin.suite.job import Job
from ettin.suite.plan import Plan
from ettin.suite.plan_file import read_plan
from ettin.suite.state import Board
from ettin.suite.table import table
from ettin.suite.worker import work
from tests.suite_jobs import (
    attempt,
    ended,
    plan_of,
    prepare_job,
    run,
    small_text,
    started,
    states_in,
    tokenizer_job,
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return small_text(tmp_path / "text")


def chain(out: Path, text: Path) -> Plan:
    """Three tokenizers, each after the one before."""
    first = tokenizer_job(out, "first", text)
    second = tokenizer_job(out, "second", text, first.output)
    return plan_of(out, first, second, tokenizer_job(out, "third", text, second.output))


def times(plan: Plan) -> dict[str, int]:
    """When each file of the outputs and each record was written."""
    found = [path for job in plan.jobs for path in job.output.rglob("*")]
    found += [job_file(plan.out, job.name, ".json") for job in plan.jobs]
    return {str(path): path.stat().st_mtime_ns for path in found}


def test_jobs_run_in_the_order_of_what_they_read_and_never_again(tmp_path, text):
    plan = chain(tmp_path / "out", text)
    assert Board(plan).states == {"first": "ready", "second": "waiting", "third": "waiting"}
    done = run(plan, jobs=3)
    assert set(states_in(done).values()) == {"done"}
    lines = [line.split("] ")[1].split(" in ")[0] for line in done.stderr.splitlines()]
    names = ("first", "second", "third")
    assert lines == [f"{name} {what}" for name in names for what in ("starts", "done")]
    before = times(plan)
    again = run(plan, jobs=3)
    assert "starts" not in again.stderr
    assert times(plan) == before
    assert [attempt(plan, name).attempts for name in names] == [1, 1, 1]


def test_a_corpus_is_prepared_with_the_tokenizer_of_the_job_before(tmp_path, text_folder):
    out = tmp_path / "out"
    tokenizer = tokenizer_job(out, "tokenizer", text_folder)
    corpus = prepare_job(out, "corpus", text_folder, tokenizer.output)
    plan = plan_of(out, tokenizer, corpus)
    run(plan)
    made_from = files.read_manifest(corpus.output, "corpus")["made_from"]
    assert made_from["tokenizer"] == files.read_manifest(tokenizer.output)["facts"]["fingerprint"]
    assert attempt(plan, "corpus").inputs == {
        "tokenizers/tokenizer": files.read_manifest(tokenizer.output)["digest"]
    }


def test_a_failure_blocks_what_depends_on_it_alone_and_is_tried_again(tmp_path, text):
    out, late = tmp_path / "out", tmp_path / "late"
    bad = tokenizer_job(out, "bad", late)
    after = tokenizer_job(out, "after", text, bad.output)
    later = tokenizer_job(out, "later", text, after.output)
    plan = plan_of(out, bad, after, later, tokenizer_job(out, "other", text))
    failed = run(plan, expected=1)
    assert states_in(failed) == {
        "bad": "failed", "after": "blocked", "later": "blocked", "other": "done"
    }  # fmt: skip
    assert f"bad: {late} is neither a file nor a folder" in failed.stderr
    assert f"log: {out / 'logs' / 'bad.log'}" in failed.stderr
    facts = json.loads(failed.stdout)["jobs"][0]
    assert facts["exit_code"] == 2
    assert facts["reason"] == f"{late} is neither a file nor a folder"
    assert Board(plan).reason("later") == "needs after, which is blocked"
    small_text(late)
    assert set(states_in(run(plan)).values()) == {"done"}
    assert [attempt(plan, name).attempts for name in ("bad", "after", "other")] == [2, 1, 1]


def test_a_missing_input_of_no_job_is_named_before_anything_starts(tmp_path, text):
    out = tmp_path / "out"
    plan = plan_of(
        out, tokenizer_job(out, "a", text), tokenizer_job(out, "b", text, tmp_path / "corpus")
    )
    assert f"{tmp_path / 'corpus'}, read by b" in run(plan, expected=2).stderr
    assert Board(plan).attempt("a") is None


def test_an_output_that_was_made_by_hand_is_taken_as_it_is(tmp_path, text):
    plan = chain(tmp_path / "out", text)
    words = [sys.executable, "-m", "ettin", *plan.jobs[0].commands[0][1:]]
    subprocess.run(words, check=True, capture_output=True)
    by_hand = files.read_manifest(plan.jobs[0].output)
    assert Board(plan).states["first"] == "ready"
    run(plan)
    assert files.read_manifest(plan.jobs[0].output) == by_hand
    assert attempt(plan, "first").output == by_hand["digest"]
    assert "finished already" in job_file(plan.out, "first", ".log").read_text()


def test_what_changed_since_is_not_done(tmp_path, text):
    plan = chain(tmp_path / "out", text)
    run(plan)
    first, second, _ = plan.jobs
    larger = tokenizer_job(plan.out, "third", text, second.output, size=384)
    changed = plan_of(plan.out, first, second, larger)
    assert Board(changed).states == {"first": "done", "second": "done", "third": "ready"}
    for path in first.output.iterdir():
        path.unlink()
    assert Board(plan).states == {"first": "ready", "second": "waiting", "third": "waiting"}
    assert set(states_in(run(plan_of(plan.out, *plan.jobs))).values()) == {"done"}
    assert attempt(plan, "first").attempts == 2
    assert attempt(plan, "third").attempts == 1


def test_a_job_is_not_done_when_what_it_reads_is_another(tmp_path, text):
    out, foreign = tmp_path / "out", tmp_path / "foreign"
    plan = plan_of(out, tokenizer_job(out, "a", text, foreign))
    foreign.mkdir()
    files.write_manifest(foreign, "corpus", command=[], made_from={}, facts={})
    run(plan)
    assert Board(plan).states == {"a": "done"}
    files.write_manifest(foreign, "corpus", command=[], made_from={}, facts={"tokens": 1})
    assert Board(plan).states == {"a": "ready"}


def test_a_job_that_another_process_runs_is_waited_for_and_not_started(tmp_path, text):
    plan = chain(tmp_path / "out", text)
    with job_lock(plan.out, "first", wait=lambda: None):
        assert is_locked(plan.out, "first")
        assert Board(plan).states["first"] == "running"
        runner = started(plan)
        assert runner.stderr is not None
        assert "first is run by another process" in runner.stderr.readline()
        assert Board(plan).attempt("first") is None
    said = ended(runner)
    assert runner.returncode == 0, said
    assert attempt(plan, "first").attempts == 1


def test_a_worker_waits_for_the_lock_and_then_finds_the_job_done(tmp_path, text):
    plan = chain(tmp_path / "out", text)
    words = ["suite", "run", str(plan.suite), "--out", str(plan.out), "--only", "first"]
    command = [sys.executable, "-m", "ettin", *words]
    both = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(2)
    ]
    said = sorted(worker.communicate(timeout=60)[1] for worker in both)
    assert [worker.returncode for worker in both] == [0, 0]
    assert ["is done, in" in each or "is done already" in each for each in said] == [True, True]
    assert attempt(plan, "first").attempts == 1


def test_a_worker_refuses_a_job_whose_inputs_are_unfinished(tmp_path, text):
    plan = chain(tmp_path / "out", text)
    with pytest.raises(InputError, match=r"third reads what is not finished:\n  - .*/second"):
        work(plan, "third")
    with pytest.raises(InputError, match="did you mean 'third'"):
        work(plan, "thrid")
    assert Board(plan).attempt("third") is None


def test_a_second_runner_is_refused_and_status_is_not(tmp_path, text):
    plan = chain(tmp_path / "out", text)
    with files.locked(plan.out / "jobs"):
        assert "another `ettin suite run` is at work" in run(plan, expected=2).stderr
        assert Board(plan).states["first"] == "ready"


def test_the_number_of_threads_of_the_first_start_is_kept(tmp_path, text):
    out = tmp_path / "out"
    started(plan_of(out, tokenizer_job(out, "a", text)), OMP_NUM_THREADS="3").communicate()
    other = plan_of(out, tokenizer_job(out, "a", text, size=384), tokenizer_job(out, "b", text))
    started(other, OMP_NUM_THREADS="5").communicate()
    assert attempt(other, "a").attempts == 2
    assert attempt(other, "a").threads == 3
    assert attempt(other, "b").threads == 5


def test_scratch_is_removed_at_the_end_and_never_elsewhere(tmp_path, text):
    out = tmp_path / "out"
    job = tokenizer_job(out, "a", text)
    own, foreign = out / "scratch", tmp_path / "scratch"
    for folder in (own, foreign):
        folder.mkdir(parents=True)
        (folder / "file").write_text("")
    plain = Job(job.name, job.kind, job.commands, job.output, scratch=(own,))
    run(plan_of(out, plain))
    assert not own.exists()
    outside = Job("b", job.kind, job.commands, job.output, scratch=(foreign,))
    assert "lies outside of" in run(plan_of(out, outside), expected=1).stderr
    assert (foreign / "file").exists()


def test_a_name_that_is_none_of_a_file_is_refused(tmp_path, text):
    for name in ("../x", "a/b", ".hidden", ""):
        job = Job(name, "tokenizer", (("ettin", "--help"),), tmp_path / "out" / "x")
        with pytest.raises(InputError, match="cannot be called"):
            Board(plan_of(tmp_path / "out", job))


def test_status_tells_the_states_of_a_suite_file_as_one_object_or_a_table(tmp_path):
    suite, out = Path(__file__).parent.parent / "recipes" / "nano-micro.yaml", tmp_path / "out"
    command = [sys.executable, "-m", "ettin", "suite"]
    words = [str(suite), "--out", str(out)]
    told = subprocess.run([*command, "status", *words, "--json"], capture_output=True, check=True)
    states = {job["name"]: job["state"] for job in json.loads(told.stdout)["jobs"]}
    assert states.pop("tokenizer") == "ready"
    assert set(states.values()) == {"waiting"}
    assert not out.exists()
    train = subprocess.run(
        [*command, "run", *words, "--only", "train-encoder-nano"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert train.returncode == 2
    assert f"train-encoder-nano reads what is not finished:\n  - {out / 'corpus'}" in train.stderr
    shown = subprocess.run([*command, "status", *words], capture_output=True, text=True, check=True)
    assert "  train      0 of 8 done, 8 waiting" in shown.stdout


def test_a_plan_comes_back_from_its_file_and_not_in_another_place(tmp_path, text):
    plan = chain(tmp_path / "out", text)
    assert read_plan(plan.out) == Plan(plan.suite, plan.out, plan.jobs, {**plan.facts, **{
        "suite": str(plan.suite), "out": str(plan.out), "ettin": files.ettin_version()
    }})  # fmt: skip
    plan.out.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="was written for"):
        read_plan(tmp_path / "moved")


def test_the_digest_of_a_manifest_is_read_from_its_end(tmp_path):
    assert manifest_digest(tmp_path) is None
    (tmp_path / "file").write_text("x")
    written = files.write_manifest(
        tmp_path, "run", command=[], made_from={}, facts={"digest": "0" * 32}
    )
    assert manifest_digest(tmp_path) == written["digest"]


@pytest.mark.parametrize(
    ("log", "exit_code", "reason"),
    [
        ("== 1 $ ettin a\nettin: old\n== 2 $ ettin a\nettin: new\n  - more\n", 2, "new\n  - more"),
        ("== 1 $ ettin a\nTraceback …\nKeyError: 'x'\n\n", 1, "KeyError: 'x'"),
        ("== 1 $ ettin a\nstep 3\n", -9, "killed by SIGKILL (out of memory?)"),
        ("== 1 $ ettin a\n", 4, "no space left"),
        ("== 1 $ ettin a\n", 1, "exit code 1, and nothing was said"),
        ("== 1 $ ettin a\nettin: \x1b[2Jgone\r\n", 2, " [2Jgone"),
    ],
)
def test_the_reason_of_a_failure_is_what_its_command_said_last(log, exit_code, reason, tmp_path):
    (tmp_path / "log").write_text(log)
    assert reason_of(tmp_path / "log", exit_code=exit_code) == reason


def test_the_table_counts_by_kind_and_shows_text_as_text(tmp_path, text):
    out = tmp_path / "out"
    bad = tokenizer_job(out, "[red]\x1b[2J", tmp_path / "nowhere")
    jobs = [bad, *(tokenizer_job(out, f"next-{number}", text) for number in range(9))]
    plan = plan_of(out, *jobs)
    run(plan_of(out, bad), expected=1)
    lines = table(Board(plan), few=3)
    assert "  tokenizer  0 of 10 done, 9 ready, 1 failed" in lines
    assert (
        f"  {printable(bad.name)}  {tmp_path / 'nowhere'} is neither a file nor a folder" in lines
    )
    assert lines[-1] == "  … and 6 more"
    assert all(line.isprintable() for line in lines)


def test_a_runner_says_how_far_a_running_job_is(tmp_path, text):
    plan = chain(tmp_path / "out", text)
    with job_lock(plan.out, "first", wait=lambda: None):
        job_file(plan.out, "first", ".log").parent.mkdir()
        job_file(plan.out, "first", ".log").write_text("== $ ettin\nreading: 42 %\n\n")
        runner = started(plan, ETTIN_PROGRESS_SECONDS="0.1")
        assert runner.stderr is not None
        assert "first is run by another process" in runner.stderr.readline()
        assert runner.stderr.readline() == "first  reading: 42 %\n"
    ended(runner)
    assert runner.returncode == 0
