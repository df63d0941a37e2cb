"""A suite for Snakemake: one rule over the jobs of `OUT/plan.json`, and a local run of it.

A rule's output is a stage's `manifest.json` and never a directory, since Snakemake removes the
outputs of jobs that fail, and checkpoints must survive. Each job is a worker, as in a local run:
what is done it recognises by its record, what was interrupted it goes on with.

All paths of the rule are relative to the suite's directory, in which Snakemake works, so that no
part of that directory's own path is taken for a wildcard.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from ettin import files
from ettin.console import log
from ettin.errors import CommandFailed, InputError
from ettin.files import MANIFEST, Json
from ettin.suite.job import Job
from ettin.suite.plan import Plan
from ettin.suite.plan_file import write_plan
from ettin.suite.state import Board, place
from ettin.suite.worker import SECONDS_TO_LEAVE

_LOOK_AGAIN_SECONDS = 0.1
_RULES = "rules"
_TIME_MARGIN = 1.5
_LEAST_MINUTES = 30
_HOST_MEGABYTES = 4000
"""What a job takes beside its model: libraries and text."""

_TEXT = """\
# A suite as one rule, written by `ettin suite plan --snakemake`. Write it again after a change of
# the suite file. See docs/cluster.md.
#
#   --config gpus=0        graphics processors of a job that trains or evaluates (1 unless given)
#   --config threads=8     threads of a job
#   --config runtime=600   minutes of a job whose time cannot be estimated

import json

OUT = {out}
SUITE = {suite}
PYTHON = {python}

with open({rules}, encoding="utf-8") as file:
    JOBS = json.load(file)


workdir: OUT


def of(wildcards):
    return JOBS[wildcards.directory]


rule all:
    input:
        [directory + "/{manifest}" for directory in JOBS if JOBS[directory]["last"]],
    localrule: True


rule job:
    input:
        lambda wildcards: of(wildcards)["inputs"],
    output:
        "{{directory}}/{manifest}",
    wildcard_constraints:
        directory="[^/].*",
    params:
        name=lambda wildcards: of(wildcards)["name"],
        fingerprint=lambda wildcards: of(wildcards)["fingerprint"],
    threads: int(config.get("threads", {threads}))
    resources:
        runtime=lambda wildcards: of(wildcards)["minutes"] or int(config.get("runtime", 1440)),
        mem_mb=lambda wildcards, attempt: attempt * of(wildcards)["megabytes"],
        gpu=lambda wildcards: of(wildcards)["gpus"] * int(config.get("gpus", 1)),
    shell:
        "exec {{PYTHON:q}} -P -m ettin suite run {{SUITE:q}} --out {{OUT:q}}"
        " --only {{params.name:q}}"
"""


def write_snakefile(plan: Plan, path: Path, *, threads: int) -> None:
    """Write a Snakefile, and into the suite's directory the plan and the rule's table.

    Args:
        plan: the suite's plan.
        path: the file to write.
        threads: of each job, unless `--config threads=N` says otherwise.

    Raises:
        InputError: a job writes outside of the suite's directory, or a directory's name has
            braces, which Snakemake takes for wildcards.
    """
    rules = plan.out / f"{_RULES}.json"
    write_plan(plan)
    files.write_json(rules, _table(plan))
    content = _TEXT.format(
        out=repr(str(plan.out)),
        suite=repr(str(plan.suite)),
        python=repr(sys.executable),
        rules=repr(str(rules)),
        manifest=MANIFEST,
        threads=threads,
    )
    files.write_atomic(path.absolute(), content)


def run_snakemake(plan: Plan, path: Path, *, jobs: int, threads: int, asked: list[int]) -> None:
    """Write a Snakefile and let Snakemake run it on this machine.

    Args:
        plan: the suite's plan.
        path: the file to write.
        jobs: how many at a time.
        threads: of each job.
        asked: signals that arrived, growing; the first is passed on, the second ends everything.

    Raises:
        InputError: Snakemake is not installed.
        CommandFailed: Snakemake failed for another reason than a failed job.
    """
    if find_spec("snakemake") is None:
        raise InputError("--snakemake needs Snakemake: pip install 'ettin[cluster]'")
    write_snakefile(plan, path, threads=threads)
    words = ["--snakefile", str(path.absolute()), "--cores", str(jobs * threads)]
    # Its own lock would survive a kill, and the runner holds one already. Of its triggers, changed
    # code would run a finished job again for another path of Python.
    words += ["--nolock", "--keep-going", "--rerun-incomplete", "--scheduler", "greedy"]
    words += ["--rerun-triggers", "mtime", "params", "--config", f"threads={threads}"]
    words += [
        "--quiet",
        "host",
        "--runtime-source-cache-path",
        str(plan.out / ".snakemake" / "sources"),
    ]
    board = Board(plan)
    before = {name: board.attempt(name) for name in board.named("failed")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "snakemake", *words],
        cwd=plan.out,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,
    )
    _wait(process, asked)
    board = Board(plan)
    failed = [name for name in board.named("failed") if board.attempt(name) != before.get(name)]
    if process.returncode and not asked and not failed:
        raise CommandFailed(
            f"snakemake ended with exit code {process.returncode}; its message stands above",
            exit_code=1,
        )


def _wait(process: subprocess.Popen[bytes], asked: list[int]) -> None:
    """Until Snakemake has ended; passes on what is asked for meanwhile."""
    leave_at = 0.0
    while process.poll() is None:
        if asked and not leave_at:
            log.info("jobs are saving; once more to leave at once")
            _tell(process, signal.SIGTERM)
            leave_at = math.inf
        if len(asked) > 1:
            leave_at = min(leave_at, time.monotonic() + SECONDS_TO_LEAVE)
            # Workers kill their commands at the second signal.
            _tell(process, signal.SIGTERM if time.monotonic() < leave_at else signal.SIGKILL)
        time.sleep(_LOOK_AGAIN_SECONDS)


def _tell(process: subprocess.Popen[bytes], number: int) -> None:
    """A signal to Snakemake, which then starts nothing more, and to its workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _table(plan: Plan) -> Json:
    """Directory of the output → what the rule asks of its job."""
    read = {path for job in plan.jobs for path in job.inputs}
    table: Json = {}
    for job in plan.jobs:
        if not job.output.is_relative_to(plan.out) or job.output == plan.out:
            raise InputError(f"{job.name} writes {job.output}, which lies outside of {plan.out}")
        table[_plain(place(job.output, plan.out))] = {
            "name": job.name,
            "fingerprint": job.fingerprint(plan.out),
            "inputs": _inputs(plan, job),
            "last": job.output not in read,
            "minutes": _minutes(job),
            "megabytes": _HOST_MEGABYTES + (job.memory_bytes or 0) // 10**6,
            "gpus": 1 if job.kind in ("train", "evaluate") else 0,
        }
    return table


def _inputs(plan: Plan, job: Job) -> list[str]:
    """Manifests of the inputs; one from elsewhere with braces in its path is left to the worker."""
    inside = [place(path, plan.out) for path in job.inputs]
    return [f"{path}/{MANIFEST}" for path in inside if not ("{" in path and path.startswith("/"))]


def _minutes(job: Job) -> int | None:
    if job.seconds is None:
        return None
    return max(_LEAST_MINUTES, round(_TIME_MARGIN * job.seconds / 60))


def _plain(directory: str) -> str:
    if "{" in directory:
        raise InputError(f"{directory}: Snakemake takes braces for wildcards; choose another name")
    return directory
