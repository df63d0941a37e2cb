"""A suite that is stopped or killed: nothing is lost or left behind, and nothing runs twice."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ettin.suite.attempts import holder, is_locked, job_file
from ettin.suite.plan import Plan
from ettin.suite.state import Board
from tests.runs import assert_same_run
from tests.suite_jobs import (
    attempt,
    ended,
    is_command,
    plan_of,
    processes_about,
    run,
    slow_text,
    small_text,
    started,
    states_in,
    tokenizer_job,
    train_job,
    until,
    write_phased_recipe,
)


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    """A job of some seconds, and a quick one after it; nothing of them lives on after the test."""
    out = tmp_path / "out"
    slow = tokenizer_job(out, "slow", slow_text(tmp_path / "slow"))
    quick = tokenizer_job(out, "quick", small_text(tmp_path / "quick"), slow.output)
    yield plan_of(out, slow, quick)
    for process in processes_about(out):
        os.kill(process, signal.SIGKILL)


def command_runs(plan: Plan, name: str) -> bool:
    """Whether the command of a job has begun: its log has a header."""
    path = job_file(plan.out, name, ".log")
    return path.exists() and path.read_text().count("== ") > 0 and is_locked(plan.out, name)


def test_a_killed_runner_leaves_a_worker_that_the_next_one_waits_for(plan):
    runner = started(plan)
    until(lambda: command_runs(plan, "slow"))
    # A terminal's Ctrl-C goes to the runner alone, which passes it on once.
    assert os.getpgid(int(holder(plan.out, "slow"))) != os.getpgid(runner.pid)
    runner.kill()
    ended(runner)
    assert Board(plan).states == {"slow": "running", "quick": "waiting"}
    again = run(plan)
    assert "slow is run by another process; waiting for it" in again.stderr
    assert set(states_in(again).values()) == {"done"}
    assert [attempt(plan, name).attempts for name in ("slow", "quick")] == [1, 1]
    assert job_file(plan.out, "slow", ".log").read_text().count("== ") == 1


def test_a_killed_worker_leaves_its_command_the_lock_and_the_job_is_started_again(plan):
    runner = started(plan)
    until(lambda: command_runs(plan, "slow"))
    os.kill(int(holder(plan.out, "slow")), signal.SIGKILL)
    until(lambda: len(processes_about(plan.jobs[0].output)) == 1)
    assert Board(plan).states["slow"] == "running"
    said = ended(runner)
    assert runner.returncode == 0, said
    assert "its worker died, its command goes on" in said
    assert attempt(plan, "slow").attempts == 2
    assert "finished already" in job_file(plan.out, "slow", ".log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_and_the_same_command_goes_on(plan, number):
    runner = started(plan)
    until(lambda: command_runs(plan, "slow"))
    runner.send_signal(number)
    said = ended(runner)
    assert runner.returncode == 3, said
    assert f"stopped by {number.name}" in said
    assert "the same command goes on" in said
    assert processes_about(plan.out) == []
    assert Board(plan).states == {"slow": "ready", "quick": "waiting"}
    assert attempt(plan, "slow").result == "stopped"
    assert Board(plan).facts()["jobs"][0]["reason"] == ""


def test_the_second_signal_leaves_at_once_and_nothing_behind(plan):
    runner = started(plan)
    until(lambda: command_runs(plan, "slow"))
    (command,) = [
        each for each in processes_about(plan.out) if is_command(each, "tokenizer", "train")
    ]
    os.kill(command, signal.SIGSTOP)  # it does not hear the first one
    runner.send_signal(signal.SIGINT)
    assert runner.stderr is not None
    while "once more to leave at once" not in runner.stderr.readline():
        pass
    runner.send_signal(signal.SIGINT)
    assert "(1 ready, 1 waiting of 2 jobs)" in ended(runner)
    assert runner.returncode == 3
    assert processes_about(plan.out) == []
    assert Board(plan).states["slow"] == "ready"


def test_a_command_that_is_killed_fails_and_says_so(plan):
    runner = started(plan)
    until(lambda: command_runs(plan, "slow"))
    until(
        lambda: [
            each for each in processes_about(plan.out) if is_command(each, "tokenizer", "train")
        ]
    )
    (command,) = [
        each for each in processes_about(plan.out) if is_command(each, "tokenizer", "train")
    ]
    os.kill(command, signal.SIGKILL)
    said = ended(runner)
    assert runner.returncode == 1, said
    assert "slow: killed by SIGKILL (out of memory?)" in said
    assert Board(plan).states == {"slow": "failed", "quick": "blocked"}


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_with_as_many_threads_and_ends_the_same(
    tmp_path, corpus_directory
):
    def planned(out: Path) -> Plan:
        recipe = write_phased_recipe(tmp_path / "recipe.yaml")
        job = train_job(out, "encoder", recipe, corpus_directory, objective="mlm")
        return plan_of(out, job)

    whole, stopped = planned(tmp_path / "whole" / "out"), planned(tmp_path / "stopped" / "out")
    run(whole, OMP_NUM_THREADS="1")
    runner = started(stopped, OMP_NUM_THREADS="1")
    metrics = stopped.jobs[0].output / "metrics.jsonl"
    until(lambda: metrics.exists() and metrics.read_text().count("\n") >= 3)
    # As a scheduler does: to the runner, the worker and the command alike.
    for process in {
        runner.pid,
        *processes_about(stopped.jobs[0].output),
        *processes_about(stopped.out),
    }:
        os.kill(process, signal.SIGTERM)
    assert "stopped by SIGTERM" in ended(runner)
    assert runner.returncode == 3
    again = started(stopped, OMP_NUM_THREADS="2")
    said = ended(again)
    assert again.returncode == 0, said
    log = job_file(stopped.out, "encoder", ".log").read_text()
    assert "saving after this step" in log
    assert log.count("1 threads") == 2
    assert_same_run(whole.jobs[0].output, stopped.jobs[0].output)
