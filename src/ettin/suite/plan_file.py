"""The plan that a suite is run by, as a file: `OUT/plan.json`, beside `OUT/suite.yaml`.

Workers and Snakemake read it, so that all of them run the same jobs, whatever happens to the suite
file meanwhile. It holds what `suite plan --json` prints, and below `graph` the whole of each job.
"""

import dataclasses
from pathlib import Path
from typing import Any

from ettin import files
from ettin.errors import InputError
from ettin.files import Json
from ettin.suite.job import Job
from ettin.suite.plan import PLAN, Plan

SUITE = "suite.yaml"

_ANEW = "the same `ettin suite run` without --only plans anew"


def write_plan(plan: Plan) -> None:
    """Write `plan.json` and a copy of the suite file into the suite's directory.

    Raises:
        InputError: the suite file cannot be read.
    """
    files.write_atomic(plan.out / SUITE, _suite_of(plan))
    files.write_json(
        plan.out / PLAN,
        {
            **plan.facts,
            "suite": str(plan.suite),
            "out": str(plan.out),
            "ettin": files.ettin_version(),
            "graph": [_written(job) for job in plan.jobs],
        },
    )


def is_written(plan: Plan) -> bool:
    """Whether the suite's directory holds this plan, up to estimates, and its suite file.

    Raises:
        InputError: the suite file cannot be read.
    """
    copy = plan.out / SUITE
    try:
        there = read_plan(plan.out)
    except InputError:
        return False
    return (
        there is not None
        and there.suite == plan.suite
        and [(job.name, job.commands, job.reads) for job in there.jobs]
        == [(job.name, job.commands, job.reads) for job in plan.jobs]
        and copy.is_file()
        and copy.read_bytes() == _suite_of(plan)
    )


def read_plan(out: Path) -> Plan | None:
    """The plan that was written into a suite's directory; None when there is none.

    Raises:
        InputError: the file is not a plan of this directory.
    """
    out = out.absolute()
    path = out / PLAN
    if not path.exists():
        return None
    try:
        facts = files.read_json(path)
        jobs = tuple(_read(job) for job in facts.pop("graph"))
        suite, place = Path(facts["suite"]), Path(facts["out"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a plan that this ettin reads; {_ANEW}") from error
    if place != out:
        raise InputError(f"{path} was written for {place}; {_ANEW}")
    return Plan(suite=suite, out=out, jobs=jobs, facts=facts)


def _suite_of(plan: Plan) -> bytes:
    try:
        return plan.suite.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the suite {plan.suite}: {error.strerror}") from error


def _written(job: Job) -> Json:
    """All fields of a job, paths as text."""
    return {
        **dataclasses.asdict(job),
        "output": str(job.output),
        "inputs": [str(path) for path in job.inputs],
        "scratch": [str(path) for path in job.scratch],
    }


def _read(written: dict[str, Any]) -> Job:
    """The inverse of `_written`."""
    values = dict(written)
    values["commands"] = tuple(tuple(words) for words in values["commands"])
    values["output"] = Path(values["output"])
    values["inputs"] = tuple(Path(path) for path in values["inputs"])
    values["scratch"] = tuple(Path(path) for path in values["scratch"])
    values["checkpoints"] = tuple(values["checkpoints"])
    return Job(**values)
