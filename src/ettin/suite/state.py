"""The state of every job of a suite, read from files alone.

waiting   something that it reads is not there yet
ready     it can be started; so can what was interrupted
running   its lock is held, by whomever
done      the job, its inputs and its output are as they were when it ended well
failed    its last attempt failed, and it is still the same job
blocked   something that it reads comes from a job that failed

A job whose record shows that nothing changed since it ended well is done and is not started again.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ettin.errors import InputError, nearest
from ettin.files import Json, is_finished
from ettin.suite.attempts import (
    Attempt,
    is_locked,
    job_file,
    manifest_digest,
    printable,
    read_attempt,
)
from ettin.suite.job import Job
from ettin.suite.plan import Plan

State = Literal["waiting", "ready", "running", "done", "failed", "blocked"]
STATES: tuple[State, ...] = ("done", "running", "ready", "waiting", "failed", "blocked")


@dataclass(frozen=True)
class Digests:
    """What a job depends on, as it is now.

    Attributes:
        inputs: digests of the manifests of its inputs; empty text for an unfinished one.
        output: digest of the manifest of its output; None if it is unfinished.
    """

    inputs: dict[str, str]
    output: str | None


class Board:
    """The state of every job; `refresh` looks again at one, and at what depends on it.

    Args:
        plan: the jobs.
        forgiving: count failures that are there already as `ready`; they are tried again.
    """

    def __init__(self, plan: Plan, *, forgiving: bool = False) -> None:
        self.plan = plan
        self.jobs = {job.name: job for job in plan.jobs}
        self.states: dict[str, State] = {}
        self.attempts: dict[str, Attempt | None] = {}
        self._forgiving = forgiving
        self._forgiven: dict[str, int] = {}
        self._digests: dict[Path, str | None] = {}
        made_by = {job.output: job.name for job in plan.jobs}
        self._needs = {
            job.name: [made_by[path] for path in job.inputs if path in made_by] for job in plan.jobs
        }
        self._needed_by = defaultdict(list)
        for name, needs in self._needs.items():
            for need in needs:
                self._needed_by[need].append(name)
        for job in plan.jobs:
            self.states[job.name] = self._look(job)

    def refresh(self, name: str) -> State:
        """Look at a job again; when its state is another now, at those that depend on it too."""
        due = [name]
        while due:
            job = self.jobs[due.pop()]
            self._digests.pop(job.output, None)
            before, self.states[job.name] = self.states[job.name], self._look(job)
            if self.states[job.name] != before:
                due += self._needed_by[job.name]
        return self.states[name]

    def named(self, *states: State) -> list[str]:
        """Names of the jobs in some states, in the order of the plan."""
        return [name for name, state in self.states.items() if state in states]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        counts = dict.fromkeys(STATES, 0)
        for state in self.states.values():
            counts[state] += 1
        return {str(state): count for state, count in counts.items()}

    def facts(self) -> Json:
        """What `suite run --json` and `suite status --json` print."""
        return {
            "suite": str(self.plan.suite),
            "out": str(self.plan.out),
            "jobs": [self._facts(job) for job in self.plan.jobs],
            "counts": self.counts(),
        }

    def attempt(self, name: str) -> Attempt | None:
        """The last attempt at a job, as it was when its state was looked at."""
        if name not in self.attempts:
            self.attempts[name] = read_attempt(self.plan.out, name)
        return self.attempts[name]

    def _look(self, job: Job) -> State:
        self.attempts.pop(job.name, None)
        if is_locked(self.plan.out, job.name):
            return "running"
        needs = {self.states[need] for need in self._needs[job.name]}
        if needs & {"failed", "blocked"}:
            return "blocked"
        if needs - {"done"}:
            return "waiting"
        attempt = self.attempt(job.name)
        begun = attempt.attempts if attempt else 0
        forgiven = self._forgiven.setdefault(job.name, begun) if self._forgiving else 0
        if attempt is None:
            return "ready"
        if is_done(attempt, job, self.plan.out, digests=self._digests_of(job)):
            return "done"
        failed = attempt.result == "failed" and begun > forgiven
        same = attempt.fingerprint == job.fingerprint(self.plan.out)
        return "failed" if failed and same else "ready"

    def _digests_of(self, job: Job) -> Digests:
        for path in (*job.inputs, job.output):
            if path not in self._digests:
                self._digests[path] = manifest_digest(path)
        inputs = {place(path, self.plan.out): self._digests[path] or "" for path in job.inputs}
        return Digests(inputs, self._digests[job.output])

    def _facts(self, job: Job) -> Json:
        attempt = self.attempt(job.name)
        log = job_file(self.plan.out, job.name, ".log")
        ended = attempt is not None and attempt.result != "running"
        return {
            "name": job.name,
            "kind": job.kind,
            "state": self.states[job.name],
            "exit_code": attempt.exit_code if attempt and ended else None,
            "seconds": attempt.seconds if attempt else None,
            "attempts": attempt.attempts if attempt else 0,
            "threads": attempt.threads if attempt else None,
            "output": str(job.output),
            "log": str(log) if attempt else None,
            "reason": self.reason(job.name),
        }

    def reason(self, name: str) -> str:
        """Why a job failed or is blocked; empty for the others."""
        if self.states[name] == "failed":
            attempt = self.attempt(name)
            return attempt.reason if attempt else ""
        if self.states[name] == "blocked":
            failed = [need for need in self._needs[name] if self.states[need] in _NOT_COMING]
            return f"needs {printable(failed[0])}, which {_NOT_COMING[self.states[failed[0]]]}"
        return ""


_NOT_COMING: dict[State, str] = {"failed": "failed", "blocked": "is blocked"}


def digests_of(job: Job, out: Path) -> Digests:
    """What a job depends on, as it is now."""
    inputs = {place(path, out): manifest_digest(path) or "" for path in job.inputs}
    return Digests(inputs, manifest_digest(job.output))


def is_done(attempt: Attempt, job: Job, out: Path, *, digests: Digests) -> bool:
    """Whether an attempt ended well, and nothing has changed since."""
    return (
        attempt.result == "done"
        and digests.output is not None
        and attempt.output == digests.output
        and attempt.inputs == digests.inputs
        and attempt.fingerprint == job.fingerprint(out)
    )


def place(path: Path, out: Path) -> str:
    """A path as records name it: from the suite's directory, if it lies there."""
    return str(path.relative_to(out)) if path.is_relative_to(out) else str(path)


def find_job(plan: Plan, name: str) -> Job:
    """A job by its name.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    for job in plan.jobs:
        if job.name == name:
            return job
    hint = nearest(name, [job.name for job in plan.jobs])
    raise InputError(f"--only {name}: the suite has no such job; {hint}")


def refuse_missing_inputs(plan: Plan) -> None:
    """Raise `InputError` that names what no job makes and is not there."""
    made = {job.output for job in plan.jobs}
    missing: dict[Path, str] = {}
    for job in plan.jobs:
        for path in job.inputs:
            if path not in made and path not in missing and not is_finished(path):
                missing[path] = job.name
    if missing:
        listed = "\n".join(f"  - {path}, read by {name}" for path, name in missing.items())
        raise InputError(
            f"the suite reads directories that are not there or unfinished:\n{listed}\n"
            "make them first, or correct the suite file"
        )


def unfinished(paths: Iterable[Path]) -> list[str]:
    """Those of some directories that hold no manifest."""
    return [str(path) for path in paths if not is_finished(path)]
