"""Plans of quick jobs with real commands, and runners in processes of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ettin import files
from ettin.suite.attempts import Attempt, read_attempt
from ettin.suite.job import Job
from ettin.suite.plan import Plan
from ettin.suite.plan_file import write_plan
from tests.conftest import made_up_text
from tests.recipes import phased_values

RUNNER = """
import json, sys
from pathlib import Path
from ettin.console import log, set_up_logging
from ettin.errors import CommandFailed, InputError, StoppedError
from ettin.suite.plan_file import read_plan
from ettin.suite.run import run_suite
set_up_logging()
try:
    outcome = run_suite(read_plan(Path(sys.argv[1])), jobs=int(sys.argv[2]),
                        snakemake=Path(sys.argv[3]) if len(sys.argv) > 3 else None)
    print(json.dumps(outcome.facts))
    outcome.refuse_failures()
except (InputError, StoppedError, CommandFailed) as error:
    log.error("ettin: %s", error)
    sys.exit(error.exit_code)
"""
"""`ettin suite run` on the plan that lies in a directory, whatever the suite file says."""

SLOW_FILES = 6
"""Of 800 kB: a tokenizer is learned from them in more than a second."""


def tokenizer_job(out: Path, name: str, text: Path, *inputs: Path, size: int = 320) -> Job:
    """Learn a tokenizer; it reads `inputs` in that it comes after them."""
    output = out / "tokenizers" / name
    words = ("ettin", "tokenizer", "train", "--text", str(text), "--vocab-size", str(size))
    return Job(name, "tokenizer", ((*words, "--out", str(output)),), output, inputs)


def prepare_job(out: Path, name: str, text: Path, tokenizer: Path) -> Job:
    """Prepare a corpus with rows of 64 and 128 tokens."""
    output = out / "corpora" / name
    words: tuple[str, ...] = ("ettin", "prepare", "--text", str(text))
    words += ("--tokenizer", str(tokenizer))
    words += ("--context-length", "64,128", "--out", str(output))
    return Job(name, "prepare", (words,), output, (tokenizer,))


def train_job(out: Path, name: str, recipe: Path, corpus: Path, *, objective: str) -> Job:
    """Train one twin."""
    output = out / "runs" / name
    words = ("ettin", "train", str(recipe), "--objective", objective, "--corpus", str(corpus))
    return Job(name, "train", ((*words, "--out", str(output)),), output, (corpus,))


def plan_of(out: Path, *jobs: Job) -> Plan:
    """A plan, written into its directory as a runner writes it."""
    suite = out.parent / "suite.yaml"
    suite.parent.mkdir(parents=True, exist_ok=True)
    suite.write_text("# the jobs of this one are made by a test\n")
    plan = Plan(suite, out, jobs, {"jobs": [job.facts() for job in jobs], "totals": {}})
    write_plan(plan)
    return plan


def small_text(folder: Path, *, words: int = 1500) -> Path:
    """A folder with one file of made-up text."""
    folder.mkdir(parents=True)
    (folder / "text.txt").write_text(made_up_text(1, words=words))
    return folder


def slow_text(folder: Path) -> Path:
    """A folder that takes a tokenizer seconds to read."""
    folder.mkdir(parents=True)
    text = made_up_text(1, words=150_000)
    for number in range(SLOW_FILES):
        (folder / f"{number}.txt").write_text(text)
    return folder


def write_phased_recipe(path: Path, **changes: Any) -> Path:
    """A recipe of 28 small steps in three phases."""
    path.write_text(yaml.safe_dump(phased_values(**changes)))
    return path


def run(
    plan: Plan, *, jobs: int = 1, expected: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a plan to its end; fails unless it ends with the expected exit code."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(plan.out), str(jobs)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == expected, (done.returncode, done.stdout, done.stderr)
    return done


def started(
    plan: Plan, *, jobs: int = 1, snakemake: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """A runner that goes on while the test does."""
    words = [str(plan.out), str(jobs), *([str(snakemake)] if snakemake else [])]
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def ended(runner: subprocess.Popen[str]) -> str:
    """Wait for a runner; what it said."""
    return str(runner.communicate(timeout=120)[1])


def is_command(process: int, *words: str) -> bool:
    """Whether a process is an `ettin` command, rather than a worker that runs one."""
    line = Path(f"/proc/{process}/cmdline").read_bytes()
    return "\0".join(["", "ettin", *words, ""]).encode() in line


def states_in(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What `--json` says: job → state."""
    return {job["name"]: job["state"] for job in json.loads(done.stdout)["jobs"]}


def attempt(plan: Plan, name: str) -> Attempt:
    """The record of a job that was begun."""
    found = read_attempt(plan.out, name)
    assert found is not None, name
    return found


def until(condition: Callable[[], Any], *, seconds: float = 30) -> None:
    """Wait for something; fails when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def processes_about(path: Path) -> list[int]:
    """Processes, of whomever, whose command line names a path."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            continue
        if str(path).encode() in words and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def hashes(directory: Path) -> dict[str, str]:
    """Name → hash of what a finished directory lists."""
    listed = files.read_manifest(directory)["files"]
    return {name: facts["xxh3_128"] for name, facts in listed.items()}
