"""A plan as people read it: a table of its jobs, totals, and the command of each job.

Trajectories are many jobs of one pattern: they are told in one line a run, with the first of their
commands; `--json` holds every one.
"""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from ettin.console import duration, human
from ettin.files import Json
from ettin.suite.job import Job
from ettin.suite.plan import Plan
from ettin.suite.sources import describe_reading

_HEADINGS = ("job", "tokens", "steps", "saved", "FLOP", "time", "memory", "disk", "from", "to")
_NUMBERS = slice(1, 8)
_INPUTS_AT_MOST = 3


def describe(plan: Plan) -> str:
    """The table, the totals, and what to type."""
    groups = [list(group) for _, group in groupby(plan.jobs, key=_place)]
    rows = [_row(group, plan.out) for group in groups]
    lines = [*_aligned([list(_HEADINGS), *rows]), "", _totals(plan)]
    lines += ["", *reading] if (reading := list(describe_reading(plan.jobs))) else []
    lines += ["", "Commands, in an order in which they can be typed:", ""]
    for group in groups:
        lines.append(group[0].command)
        if len(group) > 1:
            lines.append(f"# … and {len(group) - 1:,} more like this (--json lists all)")
    return "\n".join(lines)


def _place(job: Job) -> str:
    """Jobs of one trajectory share it; every other job stands alone."""
    if job.kind == "evaluate" and len(job.commands) > 1:
        return f"trajectory of {job.inputs[0]}"
    return job.name


def _row(group: list[Job], out: Path) -> list[str]:
    job, numbers = group[0], [""] * 7
    name = job.name
    if len(group) > 1:
        name = f"evaluate {len(group):,} checkpoints of {job.inputs[0].name}"
    if job.kind == "train":
        numbers = [
            human(job.tokens),
            f"{job.steps:,}",
            f"{len(job.checkpoints):,}",
            f"{job.flops:.1e}",
            "–" if job.seconds is None else duration(job.seconds),
            "–" if job.memory_bytes is None else _bytes(job.memory_bytes),
            _bytes(job.disk_bytes),
        ]
    target = f"{len(group):,} in results" if len(group) > 1 else _short(job.output, out)
    return [name, *numbers, _inputs(job.inputs, out), target]


def _totals(plan: Plan) -> str:
    totals: Json = plan.facts["totals"]
    told = [
        f"{len(plan.jobs):,} jobs",
        f"{totals['models']:,} models",
        f"{totals['checkpoints']:,} checkpoints",
        f"{human(totals['tokens'])} tokens",
        f"{totals['flops']:.2e} FLOP",
        f"{_bytes(totals['disk_bytes'])} of disk",
    ]
    if totals["seconds"] is None:
        told.append("time unknown (state tokens_per_second of each size, or train one run of each)")
    else:
        told.append(f"{duration(totals['seconds'])} of training one after another")
        told.append(f"{totals['device_hours']:,.1f} device-hours")
    return ", ".join(told)


def _inputs(inputs: Iterable[Path], out: Path) -> str:
    names = [_short(path, out) for path in inputs]
    return ", ".join(names) if len(names) <= _INPUTS_AT_MOST else f"{len(names):,} directories"


def _short(path: Path, out: Path) -> str:
    return str(path.relative_to(out)) if path.is_relative_to(out) else str(path)


def _bytes(count: float) -> str:
    """`48.1 GB`: bytes in powers of 1,000, as disks are sold."""
    number = human(count).replace("B", "G")
    return f"{number.rstrip('kMGT')} {number.lstrip('0123456789.')}B"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns of equal width: numbers to the right, words to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = range(len(_HEADINGS))[_NUMBERS]
    return [
        "  ".join(
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
