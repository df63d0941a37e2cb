"""Run a suite on this machine: start what is ready, N at a time, until nothing is left to start.

    run_suite(make_plan(Path("suite.yaml"), out=Path("out")), jobs=2)

Every job is a worker process that outlives this one if it must: after a kill the next `suite run`
sees by its lock that it goes on, and waits for it. What is done is not started again.
"""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from ettin import files
from ettin.console import PLAIN_INTERVAL
from ettin.errors import CommandFailed, InputError, StoppedError
from ettin.files import Json
from ettin.suite.attempts import (
    JOBS,
    Attempt,
    job_file,
    printable,
    reason_of,
    signal_name,
    write_attempt,
)
from ettin.suite.devices import Devices
from ettin.suite.plan import Plan
from ettin.suite.plan_file import is_written, write_plan
from ettin.suite.state import Board, refuse_missing_inputs
from ettin.suite.table import FEW, Shown, one_line, shown, table
from ettin.suite.worker import SECONDS_TO_LEAVE, THREADS, caught, kill_group, threads_of_each

_LOOK_AGAIN_SECONDS = 0.1
_LIVE_INTERVAL_SECONDS = "2"
"""Between two lines of progress in a log that a live table shows."""
_ASKING = signal.SIGINT
"""What workers hear from us: not what a scheduler sends to them directly, see `worker`."""
_STARTS_AT_MOST = 2
"""Of one job by one runner: a worker that ends without a result is tried once more."""


@dataclass(frozen=True)
class Outcome:
    """How a suite stands after a run.

    Attributes:
        facts: what `--json` prints.
        text: the table; empty when it was stopped.
        failed: each failed job, why, and where its log is.
        blocked: how many jobs depend on a failed one.
        stopped: by what, and how far it was; empty when nobody stopped it.
    """

    facts: Json
    text: str
    failed: tuple[str, ...]
    blocked: int
    stopped: str = ""

    def refuse_failures(self) -> None:
        """Raise what ends the command otherwise than well.

        Raises:
            StoppedError: a signal asked for an end.
            CommandFailed: a job failed.
        """
        if self.stopped:
            raise StoppedError(self.stopped)
        if self.failed:
            jobs = "1 job" if len(self.failed) == 1 else f"{len(self.failed)} jobs"
            blocked = f", {self.blocked} blocked by that" if self.blocked else ""
            listed = "\n".join(f"  - {each}" for each in self.failed[:FEW])
            if len(self.failed) > FEW:
                listed += f"\n  … and {len(self.failed) - FEW:,} more, which --json and status list"
            raise CommandFailed(
                f"{jobs} failed{blocked}:\n{listed}\nthe same command tries them again",
                exit_code=1,
            )


def run_suite(plan: Plan, *, jobs: int, snakemake: Path | None = None) -> Outcome:
    """Run all jobs of a suite that are not done.

    Args:
        plan: the suite's plan.
        jobs: how many at a time; each gets its share of the processor's cores, unless
            `OMP_NUM_THREADS` says how many threads it may use.
        snakemake: write a Snakefile there and let Snakemake start the jobs.

    Returns:
        How it ended; failed jobs do not raise here, nor does a signal, after which all workers
        have ended.

    Raises:
        InputError: what no job makes is not there, or another runner is at work in `plan.out`.
        NoSpaceError: the disk is full.
    """
    refuse_missing_inputs(plan)
    board = Board(plan)  # refuses names that are none of a file
    if len(board.named("done")) == len(board.jobs) and is_written(plan) and snakemake is None:
        return outcome_of(board)
    _refuse_unwritable(plan.out)
    threads = threads_of_each(jobs)
    with _only_runner(plan.out):
        write_plan(plan)
        with _Signals().listening() as signals:
            if snakemake is None:
                board = _run(Board(plan, forgiving=True), jobs, threads, signals)
            else:
                from ettin.suite.snakemake import run_snakemake

                run_snakemake(plan, snakemake, jobs=jobs, threads=threads, asked=signals.numbers)
                # What Snakemake takes for made, because its manifest is there, and is not as
                # recorded: finished by hand, or planned otherwise since.
                board = _run(Board(plan), jobs, threads, signals)
    if signals.numbers and len(board.named("done")) < len(board.jobs):
        asked = signal_name(signals.numbers[0])
        stopped = f"stopped by {asked} ({one_line(board)} jobs); the same command goes on"
        return replace(outcome_of(board), text="", stopped=stopped)
    return outcome_of(board)


def outcome_of(board: Board) -> Outcome:
    """What is to be said of a board."""
    failed = []
    for name in board.named("failed"):
        reason = board.reason(name).replace("\n", "\n    ")
        log_path = job_file(board.plan.out, name, ".log")
        failed.append(f"{printable(name)}: {reason}\n    log: {log_path}")
    text = "\n".join(table(board))
    return Outcome(board.facts(), text, tuple(failed), len(board.named("blocked")))


def _refuse_unwritable(out: Path) -> None:
    """Raise `InputError` when nothing can be written into the suite's directory."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return  # is told where something of use is written
        raise InputError(
            f"--out {out} cannot be written to ({error.strerror}); choose another one"
        ) from error


class _Signals:
    """SIGINT and SIGTERM, counted; acted on between two looks at the workers."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator["_Signals"]:
        """Catch them inside the block."""
        with caught(self._catch):
            yield self

    def _catch(self, number: int, _: FrameType | None) -> None:
        self.numbers.append(number)


@contextlib.contextmanager
def _only_runner(out: Path) -> Iterator[None]:
    """Refuse a second runner in the same directory; `suite status` never asks for this."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(out / JOBS))
        except InputError as error:
            raise InputError(
                f"another `ettin suite run` is at work in {out} ({error}); "
                f"`ettin suite status` shows how far it is"
            ) from error
        yield


def _run(board: Board, jobs: int, threads: int, signals: _Signals) -> Board:
    with shown(board) as display:
        runner = _Runner(board, jobs, threads, display)
        try:
            runner.run(signals)
        finally:
            runner.leave()
    return board


class _Runner:
    """Starts workers, and sees how they end."""

    def __init__(self, board: Board, jobs: int, threads: int, display: Shown) -> None:
        self._board, self._jobs, self._display = board, jobs, display
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._starts: Counter[str] = Counter()
        self._told = False
        self._waited_for: set[str] = set()
        self._defaults = {THREADS: str(threads)}
        self._devices = Devices([] if jobs == 1 else None)
        if display.is_live:
            self._defaults[PLAIN_INTERVAL] = _LIVE_INTERVAL_SECONDS

    def run(self, signals: _Signals) -> None:
        """Until nothing runs and nothing can be started, or until an end is asked for."""
        while True:
            self._collect()
            if signals.numbers:
                self._pass_on(signals)
                if not self._workers or len(signals.numbers) > 1:
                    return
            else:
                self._start()
                if not self._board.named("running"):
                    return
            self._display.tick()
            time.sleep(_LOOK_AGAIN_SECONDS)

    def leave(self) -> None:
        """End workers that are still there: at once, and no command of theirs lives on."""
        until = time.monotonic() + SECONDS_TO_LEAVE
        while time.monotonic() < until and any(each.poll() is None for each in self._all()):
            for worker in self._all():
                worker.send_signal(_ASKING)  # from the second one on it kills its command
            time.sleep(_LOOK_AGAIN_SECONDS)
        for name, worker in self._workers.items():
            kill_group(worker.pid)
            self._board.refresh(name)
        self._workers.clear()

    def _all(self) -> list[subprocess.Popen[bytes]]:
        return list(self._workers.values())

    def _start(self) -> None:
        """As many ready jobs as there is room for; what others run takes room too."""
        room = max(0, self._jobs - len(self._board.named("running")))
        for name in self._board.named("ready")[:room]:
            self._display.started(name)
            self._starts[name] += 1
            self._workers[name] = self._worker(name)
            self._board.states[name] = "running"

    def _worker(self, name: str) -> subprocess.Popen[bytes]:
        plan = self._board.plan
        path = job_file(plan.out, name, ".log")
        path.parent.mkdir(parents=True, exist_ok=True)
        words = ["suite", "run", str(plan.suite), "--out", str(plan.out), "--only", name]
        with path.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "ettin", *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**self._defaults, **os.environ, **self._devices.take(name)},
            )

    def _collect(self) -> None:
        """See who has ended, among our workers and among those of others."""
        for name, worker in list(self._workers.items()):
            code = worker.poll()
            if code is not None:
                del self._workers[name]
                self._devices.give_back(name)
                state = self._board.refresh(name)
                if state == "ready" and self._starts[name] >= _STARTS_AT_MOST:
                    self._give_up(name, code)
                self._display.ended(name, code=code)
        for name in self._board.named("running"):
            if name in self._workers or self._board.refresh(name) != "running":
                continue
            if name not in self._waited_for:
                self._waited_for.add(name)
                self._display.say(f"{name} is run by another process; waiting for it")

    def _give_up(self, name: str, code: int) -> None:
        """A worker ended again without a result: record that as a failure."""
        plan, job = self._board.plan, self._board.jobs[name]
        log_path = job_file(plan.out, name, ".log")
        before = self._board.attempt(name) or Attempt("failed", "", {}, log=str(log_path))
        reason = f"interrupted {_STARTS_AT_MOST} times (exit code {code}): "
        failed = replace(
            before,
            result="failed",
            fingerprint=job.fingerprint(plan.out),
            exit_code=code,
            reason=reason + reason_of(log_path, exit_code=code),
            attempts=before.attempts + 1,
        )
        write_attempt(plan.out, name, failed)
        self._board.refresh(name)

    def _pass_on(self, signals: _Signals) -> None:
        """Tell the workers once that they should end; they tell their commands."""
        if not self._told:
            self._told = True
            for worker in self._workers.values():
                worker.send_signal(_ASKING)
            if self._workers:
                name = signal_name(signals.numbers[0])
                self._display.say(
                    f"{name}: jobs are saving ({len(self._workers)}); once more to leave at once"
                )
