"""One job: its commands one after another, with a lock, a log, and a record of how it went.

A worker is a process of its own, started by `suite run`, by Snakemake, or by hand:

    ettin suite run SUITE --out OUT --only NAME

It holds the job's lock together with the command that it runs, so that a job is never run twice at
a time, even when the worker is killed and its command lives on.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import FrameType

from ettin import files
from ettin.console import duration, log
from ettin.errors import CommandFailed, InputError, StoppedError
from ettin.files import MANIFEST
from ettin.suite.attempts import (
    HEADER,
    Attempt,
    holder,
    job_file,
    job_lock,
    manifest_digest,
    read_attempt,
    reason_of,
    signal_name,
    write_attempt,
)
from ettin.suite.job import Job
from ettin.suite.plan import Plan
from ettin.suite.state import digests_of, find_job, is_done, unfinished

THREADS = "OMP_NUM_THREADS"
SECONDS_TO_LEAVE = 5.0
"""After the second signal, until workers that are still there are killed."""

_OTHER_THREADS = ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_STAGED = {"tokenizer", "prepare", "export", "report"}
"""Kinds whose output is built elsewhere and renamed: there is never a part of it to go on with."""
_LOOK_AGAIN_SECONDS = 0.1


def work(plan: Plan, name: str) -> None:
    """Run one job to its end, unless it is done.

    Args:
        plan: the suite's plan.
        name: of the job.

    Raises:
        InputError: no such job, or something that it reads is unfinished.
        StoppedError: a signal asked for an end; the job goes on when it is started again.
        CommandFailed: a command did not end well; the record and the message say why.
        NoSpaceError: the disk is too full for the record.
    """
    job = find_job(plan, name)
    with _Ending(job.kind).listening() as ending, _locked(plan, name, ending) as lock:
        attempt = read_attempt(plan.out, name)
        if attempt is not None:
            _put_back_manifest(plan, job, attempt)
            if is_done(attempt, job, plan.out, digests=digests_of(job, plan.out)):
                log.info("%s is done already; nothing to do", name)
                return
        missing = unfinished(job.inputs)
        if missing:
            listed = "\n".join(f"  - {path}" for path in missing)
            raise InputError(f"{name} reads what is not finished:\n{listed}\nrun these jobs first")
        if attempt is not None:
            _clear_leftovers(plan, job, attempt)
        _attempt(plan, job, _begun(plan, job, attempt), ending, lock=lock)


def threads_of_each(jobs: int) -> int:
    """Threads of one of so many jobs at a time: as stated, or its share of the cores."""
    return _stated_threads() or max(1, _cores() // jobs)


def _cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _stated_threads() -> int | None:
    """The number of threads that the environment asks for, if any."""
    first = os.environ.get(THREADS, "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


class _Ending:
    """An end asked for from outside: told to the command that runs, and to none after it.

    The first signal asks the command to end; the second one of the same kind ends it at once.
    Schedulers of clusters signal every process of a job, the command too; that it hears SIGINT from
    us and not the same again keeps a training from taking it for the second.

    Args:
        kind: of the job.
    """

    def __init__(self, kind: str) -> None:
        self.signals: list[int] = []
        self.command: subprocess.Popen[bytes] | None = None
        # Others save nothing, and some would hear SIGINT only after a long computation.
        self._asking = signal.SIGINT if kind == "train" else signal.SIGTERM

    @contextlib.contextmanager
    def listening(self) -> Iterator["_Ending"]:
        """Catch SIGINT and SIGTERM inside the block."""
        with caught(self._catch):
            yield self

    def tell(self) -> None:
        """Pass on what was asked for."""
        if self.command is None or self.command.poll() is not None or not self.signals:
            return
        if len(self.signals) == len(set(self.signals)):
            self.command.send_signal(self._asking)
        else:
            kill_group(self.command.pid)

    def _catch(self, number: int, _: FrameType | None) -> None:
        self.signals.append(number)
        self.tell()


@contextlib.contextmanager
def caught(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give the signals that ask for an end, SIGINT and SIGTERM, to a handler inside the block."""
    before = {each: signal.signal(each, handler) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def kill_group(leader: int) -> None:
    """Kill a process that leads a session, and everything that it started, at once."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


@contextlib.contextmanager
def _locked(plan: Plan, name: str, ending: _Ending) -> Iterator[int]:
    said = time.monotonic()

    def wait() -> None:
        nonlocal said
        if ending.signals:
            raise StoppedError(f"stopped while another process ran {name}")
        if time.monotonic() - said > 1:
            log.info("%s is run by process %s; waiting for it", name, holder(plan.out, name))
            said = float("inf")
        time.sleep(_LOOK_AGAIN_SECONDS)

    with job_lock(plan.out, name, wait=wait) as descriptor:
        yield descriptor


def _put_back_manifest(plan: Plan, job: Job, attempt: Attempt) -> None:
    """Give a finished output its manifest again, which Snakemake takes away before it runs a job.

    The copy is trusted as far as the files that it lists are there, with their sizes.
    """
    copy = job_file(plan.out, job.name, ".manifest")
    if attempt.result != "done" or files.is_finished(job.output) or not copy.exists():
        return
    try:
        manifest = files.read_json(copy)
    except InputError:
        return  # damaged; the command decides what its output is worth
    if manifest.get("digest") != attempt.output or not job.output.is_dir():
        return
    listed = manifest["files"]
    if files.list_files(job.output) == sorted(listed) and all(
        (job.output / name).stat().st_size == listed[name]["bytes"] for name in listed
    ):
        files.write_atomic(job.output / MANIFEST, copy.read_bytes())


def _clear_leftovers(plan: Plan, job: Job, attempt: Attempt) -> None:
    """Remove an output that was whole and lost its manifest before its worker could record it."""
    if (
        job.kind in _STAGED
        and attempt.from_nothing
        and attempt.result != "done"
        and not files.is_finished(job.output)
        and job.output.is_dir()
    ):
        _remove(plan, job.output)


def _remove(plan: Plan, directory: Path) -> None:
    """Remove a directory of the suite, and nothing else.

    Raises:
        InputError: it lies elsewhere.
    """
    if directory == plan.out or not directory.resolve().is_relative_to(plan.out.resolve()):
        raise InputError(f"{directory} lies outside of {plan.out} and is not removed")
    shutil.rmtree(directory, ignore_errors=True)


def _begun(plan: Plan, job: Job, before: Attempt | None) -> Attempt:
    """The record of an attempt that begins."""
    empty = not job.output.is_dir() or not any(job.output.iterdir())
    threads = threads_of_each(1)
    if before is not None and before.threads and not empty:
        threads = before.threads  # a resumed training is the same to the bit only with as many
    return Attempt(
        result="running",
        fingerprint=job.fingerprint(plan.out),
        inputs=digests_of(job, plan.out).inputs,
        seconds=before.seconds if before else 0.0,
        started=_now(),
        log=str(job_file(plan.out, job.name, ".log")),
        attempts=(before.attempts if before else 0) + 1,
        threads=threads,
        from_nothing=empty or (before is not None and before.from_nothing),
    )


def _attempt(plan: Plan, job: Job, attempt: Attempt, ending: _Ending, *, lock: int) -> None:
    """Run the commands, and record how they ended."""
    write_attempt(plan.out, job.name, attempt)
    started = time.monotonic()
    left = list(job.commands)
    exit_code = 0
    while left and not exit_code and not ending.signals:
        exit_code = _run(left.pop(0), attempt, ending, lock=lock)
    ended = replace(
        attempt,
        exit_code=exit_code,
        seconds=attempt.seconds + time.monotonic() - started,
        ended=_now(),
    )
    if exit_code == 3 or (ending.signals and (exit_code or left)):
        write_attempt(plan.out, job.name, replace(ended, result="stopped"))
        asked = signal_name(ending.signals[0]) if ending.signals else "a signal to its command"
        raise StoppedError(f"{job.name} was stopped by {asked}; started again, it goes on")
    if exit_code:
        reason = reason_of(Path(attempt.log), exit_code=exit_code)
        _fail(plan, job, ended, reason)
    for directory in job.scratch:
        _remove(plan, directory)
    output = manifest_digest(job.output)
    if output is None:
        _fail(plan, job, ended, f"its commands ended well and left no {job.output / MANIFEST}")
    copy = job_file(plan.out, job.name, ".manifest")
    files.write_atomic(copy, (job.output / MANIFEST).read_bytes())
    write_attempt(plan.out, job.name, replace(ended, result="done", output=output))
    log.info("%s is done, in %s", job.name, duration(ended.seconds))


def _fail(plan: Plan, job: Job, ended: Attempt, reason: str) -> None:
    write_attempt(plan.out, job.name, replace(ended, result="failed", reason=reason))
    exit_code = ended.exit_code if ended.exit_code and ended.exit_code > 0 else 1
    raise CommandFailed(f"{job.name} failed: {reason}\nlog: {ended.log}", exit_code=exit_code)


def _run(words: tuple[str, ...], attempt: Attempt, ending: _Ending, *, lock: int) -> int:
    """Run one command, appending all that it says to the log; returns its exit code.

    It leads a session of its own, so that a signal from a terminal reaches it through us alone,
    and once; whatever it started ends with it.
    """
    assert words[0] == "ettin", words
    path = Path(attempt.log)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        with files.space_checked(path):
            file.write(f"{HEADER}{_now()} $ {shlex.join(words)}\n".encode())
            file.flush()
        ending.command = subprocess.Popen(
            [sys.executable, "-P", "-m", "ettin", *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            start_new_session=True,
            env=_environment(attempt.threads),
        )
    ending.tell()  # of a signal that came while it was being started
    exit_code = ending.command.wait()
    kill_group(ending.command.pid)
    ending.command = None
    return exit_code


def _environment(threads: int) -> dict[str, str]:
    """Ours, with one number of threads wherever one is stated."""
    stated = {name: str(threads) for name in _OTHER_THREADS if name in os.environ}
    return {**os.environ, **stated, THREADS: str(threads)}


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
