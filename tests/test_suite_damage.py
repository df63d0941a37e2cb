"""Suites whose files were damaged, moved or edited by hand: nothing is lost, all is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ettin.errors import InputError
from ettin.suite.attempts import job_file, last_line, reason_of
from ettin.suite.job import Job
from ettin.suite.plan import Plan
from ettin.suite.plan_file import read_plan
from ettin.suite.run import outcome_of
from ettin.suite.state import Board
from ettin.suite.table import table
from tests.suite_jobs import attempt, ended, plan_of, run, small_text, started, states_in, until
from tests.suite_jobs import tokenizer_job as tokenizer
from tests.test_suite_file import written


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return small_text(tmp_path / "text")


def typed(*words: str, expected: int) -> subprocess.CompletedProcess[str]:
    """Type a command; fails unless it ends with the expected exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "ettin", "suite", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == expected, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_a_finished_suite_that_is_run_again_changes_no_file(tmp_path, text):
    plan = plan_of(tmp_path / "out", tokenizer(tmp_path / "out", "a", text))
    run(plan)
    before = {path: path.stat().st_mtime_ns for path in plan.out.rglob("*")}
    assert states_in(run(plan)) == {"a": "done"}
    assert {path: path.stat().st_mtime_ns for path in plan.out.rglob("*")} == before
    plan.suite.write_text("# another comment\n")
    run(plan)
    assert (plan.out / "suite.yaml").read_text() == "# another comment\n"


def test_a_failure_of_another_version_of_a_job_is_not_its_failure(tmp_path, text):
    out = tmp_path / "out"
    run(plan_of(out, tokenizer(out, "a", text)))
    run(plan_of(out, tokenizer(out, "a", text, size=384)), expected=1)
    assert (
        "made from something else" in attempt(plan_of(out, tokenizer(out, "a", text)), "a").reason
    )
    plan = plan_of(out, tokenizer(out, "a", text))
    assert Board(plan).states == {"a": "ready"}
    assert states_in(run(plan)) == {"a": "done"}


@pytest.mark.parametrize(
    "record",
    ["", "{", "[1]", "null", '{"result": "done", "fingerprint": 5, "inputs": 3}',
     '{"result": "done", "fingerprint": "", "inputs": {}, "started": "soon"}',
     '{"result": "failed", "fingerprint": "", "inputs": {}, "attempts": "many"}',
     '{"result": "gone", "fingerprint": "", "inputs": {}}'],
)  # fmt: skip
def test_a_damaged_record_starts_the_job_again_which_finds_its_output(tmp_path, text, record):
    plan = plan_of(tmp_path / "out", tokenizer(tmp_path / "out", "a", text))
    run(plan)
    job_file(plan.out, "a", ".json").write_text(record)
    assert Board(plan).states == {"a": "ready"}
    assert "1 ready of 1 jobs" in table(Board(plan))[0]
    assert states_in(run(plan)) == {"a": "done"}
    assert "finished already" in job_file(plan.out, "a", ".log").read_text()


@pytest.mark.parametrize("content", ["{", '{"graph": ["x"]}', '{"graph": 3}', "{}"])
def test_a_damaged_plan_says_how_to_get_another(tmp_path, text, content):
    plan = plan_of(tmp_path / "out", tokenizer(tmp_path / "out", "a", text))
    (plan.out / "plan.json").write_text(content)
    with pytest.raises(InputError, match="without --only plans anew"):
        read_plan(plan.out)


def test_a_copy_of_a_manifest_that_is_damaged_is_not_used(tmp_path, text):
    plan = plan_of(tmp_path / "out", tokenizer(tmp_path / "out", "a", text))
    run(plan)
    job_file(plan.out, "a", ".manifest").write_text("{")
    (plan.jobs[0].output / "manifest.json").unlink()
    assert "is not empty; choose another" in run(plan, expected=1).stderr


def test_an_out_that_cannot_be_written_is_a_mistake_of_the_caller(tmp_path):
    suite = written(tmp_path)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", Path("/proc/nowhere")):
        told = typed("run", str(suite), "--out", str(out), expected=2).stderr
        assert f"--out {out} cannot be written to" in told
        typed("status", str(suite), "--out", str(out), expected=0)


def test_one_job_by_a_wrong_name_writes_nothing(tmp_path):
    words = ["run", str(written(tmp_path)), "--out", str(tmp_path / "out"), "--only"]
    assert "did you mean 'tokenizer'" in typed(*words, "tokeniser", expected=2).stderr
    assert not (tmp_path / "out").exists()
    snakemake = ["--snakemake", str(tmp_path / "Snakefile")]
    assert "leave out --snakemake" in typed(*words, "prepare", *snakemake, expected=2).stderr


def test_json_is_one_object_however_the_command_ends(tmp_path, text):
    suite, out = written(tmp_path, text=[str(tmp_path / "nowhere")]), tmp_path / "out"
    words = ["run", str(suite), "--out", str(out), "--json"]
    failed = typed(*words, "--only", "tokenizer", expected=2)
    assert json.loads(failed.stdout) == {"job": "tokenizer", "state": "failed"}
    jobs = json.loads(typed(*words, expected=1).stdout)["jobs"]
    assert {job["state"] for job in jobs} == {"failed", "blocked"}
    plan = plan_of(tmp_path / "other", Job("a", "prepare", (("ettin", "--help"),) * 99, text))
    runner = started(plan)
    until(lambda: Board(plan).states["a"] == "running")
    runner.terminate()
    stdout, said = runner.communicate(timeout=60)
    assert runner.returncode == 3, said
    assert json.loads(stdout)["jobs"][0]["state"] == "ready"


def test_a_line_without_end_is_cut_where_it_is_shown(tmp_path):
    log = tmp_path / "log"
    log.write_text("x" * 10**6)
    assert last_line(log) == "x" * 500 + " …"
    assert len(reason_of(log, exit_code=1)) == 502


def many_failures(out: Path, nowhere: Path) -> Plan:
    return plan_of(out, *(tokenizer(out, f"job-{number}", nowhere) for number in range(8)))


def test_many_failures_are_told_shortly_and_each_below_its_name(tmp_path):
    plan = many_failures(tmp_path / "out", tmp_path / "nowhere")
    runner = started(plan, jobs=4)
    said = ended(runner).partition("8 jobs failed:")[2]
    assert runner.returncode == 1
    assert said.count("\n  - job-") == 5
    assert "… and 3 more" in said
    record = job_file(plan.out, "job-0", ".json")
    written_there = json.loads(record.read_text())
    record.write_text(json.dumps({**written_there, "reason": "one\n  - two"}))
    assert outcome_of(Board(plan)).failed[0].startswith("job-0: one\n      - two\n    log: ")
