"""A whole suite from its file: twins, two phases, a trajectory, results and a report.

Killed at three moments and started again it ends as one that nobody touched: the same weights to
the bit, the same table, and nothing that was finished done twice. All of it is one test, since
tests run in several processes, each of which would have to make the suite.
"""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import yaml

from ettin import files
from ettin.report.collect import collect
from tests.python_corpus import write_packages

pytestmark = pytest.mark.slow

KILLS = 3
MARK = f"ETTIN_TEST_OF_A_SUITE={uuid.uuid4()}"
"""In the environment of every process of this test, so that they are found."""
SUITE = {
    "sizes": ["nano"],
    "tokenizer": {"vocab_size": 512},
    "held_out": 0.1,
    "phases": [
        {"name": "pretraining", "tokens": "16k", "context_length": 64, "batch_rows": 8,
         "save_every_tokens": "4k"},
        {"name": "extension", "tokens": "4k", "context_length": 128, "batch_rows": 4},
    ],
    "tasks": ["quick/likelihood"],
    "limit": 12,
    "trajectories": {"checkpoints": {"log": 1}, "tasks": ["quick/likelihood"]},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite's file, and its text beside it."""
    values = {**SUITE, "text": [str(write_packages(tmp_path / "texts"))]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ettin", "suite", "run", "suite.yaml", "--out", str(out)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **dict([MARK.split("=")])},
        stderr=subprocess.DEVNULL,
    )


def finished(out: Path) -> dict[str, tuple[str, int]]:
    """Every finished directory: its digest, and when its manifest was written."""
    return {
        str(path.parent.relative_to(out)): (
            str(files.read_json(path)["digest"]),
            path.stat().st_mtime_ns,
        )
        for path in out.rglob(files.MANIFEST)
        if not any(
            word in str(path)
            for word in (".partial", ".new", "exports/encoder-nano-", "exports/decoder-nano-")
        )  # made to be removed
    }


def test_a_suite_killed_three_times_ends_as_one_that_was_not_and_its_report_shows_all_of_it(
    folder: Path,
) -> None:
    whole, killed = folder / "whole", folder / "out"
    started = time.monotonic()
    assert start(folder, killed).wait() == 0
    seconds = time.monotonic() - started
    killed.rename(whole)  # a corpus is identified by the command that made it too
    moments = random.Random()
    before: dict[str, tuple[str, int]] = {}
    for _ in range(KILLS):
        runner = start(folder, killed)
        time.sleep(moments.uniform(0.1, 0.4) * seconds)
        kill_all()
        runner.wait()
        now = finished(killed)
        assert {name: now.get(name) for name in before} == before, "done twice"
        before = {name: now[name] for name in now if not name.startswith("report")}
    assert start(folder, killed).wait() == 0
    now = finished(killed)
    assert {name: now[name] for name in before} == before, "done twice"
    same = [path.relative_to(whole) for path in whole.rglob("*.safetensors")]
    same += [path.relative_to(whole) for path in whole.rglob("ledger.jsonl")]
    same.append(Path("report/tables/results.csv"))
    assert len(same) > 10
    for path in same:
        assert (whole / path).read_bytes() == (killed / path).read_bytes(), path
    assert not list(killed.rglob("exports/*-step*")), "an export of a trajectory was left"
    assert_report_shows_all(killed)


def assert_report_shows_all(out: Path) -> None:
    """Fails unless a finished suite has a figure for each thing that it did, and is sound."""
    found = collect([out / "runs", out / "exports", out / "results"])
    assert {run.name for run in found.runs} == {"encoder-nano", "decoder-nano"}
    assert {(record["model"], record["tag"]) for record in found.records} == {
        (model, tag)
        for name in ("encoder-nano", "decoder-nano")
        for model, tag in ((f"{name}-step0", "step0"), (name, "ext8"))
    }
    names = {path.stem for path in (out / "report" / "figures").glob("*.svg")}
    assert names == {"learning-curves", "scores", "trajectories"}
    checked = subprocess.run([sys.executable, "-m", "ettin", "check", str(out)], check=False)
    assert checked.returncode == 0


def kill_all() -> None:
    """Kill the runner, its workers and their commands, whatever sessions they are in."""
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and MARK.encode() in (path / "environ").read_bytes():
                os.kill(int(path.name), signal.SIGKILL)
        except OSError:
            continue
