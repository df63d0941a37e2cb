"""The directory of a suite: what its jobs left is what they say that they left."""

from pathlib import Path

from ettin import files
from ettin.check.findings import Findings
from ettin.errors import InputError
from ettin.files import MANIFEST, Json

OWN_FOLDERS = ("jobs", "logs")
"""What a suite's directory holds beside the directories of stages."""

_PLAN = "plan.json"
_JOBS = OWN_FOLDERS[0]


def is_suite(folder: Path) -> bool:
    """Whether `ettin suite run` made a folder."""
    return (folder / _PLAN).is_file() and (folder / _JOBS).is_dir()


def check_suite(folder: Path, findings: Findings) -> None:
    """Compare the records of jobs with the plan, and with what lies there now."""
    with findings.reading(folder / _PLAN):
        plan = files.read_json(folder / _PLAN)
        outputs = {str(job["name"]): str(job["output"]) for job in plan["graph"]}
        was = Path(plan["out"])
        for name, output in outputs.items():
            path = folder / _JOBS / f"{name}.json"
            if "/" in name or not path.is_file():
                findings.note(f"{folder}: the job {name} has not run yet")
                continue
            with findings.reading(path):
                _check_job(folder, path, _moved(Path(output), was, folder), findings)
        for path in sorted((folder / _JOBS).glob("*.json")):
            if path.stem not in outputs:
                findings.note(f"{path}: the plan has no such job (any more)")


def _check_job(folder: Path, path: Path, output: Path, findings: Findings) -> None:
    job: Json = files.read_json(path)
    again = "run the same `ettin suite run` again"
    if job["result"] != "done":
        findings.note(f"{path}: the job did not come to its end ({job['result']}); {again}")
        return
    now = _digest(output)
    if now is None:
        findings.problem(f"{path}: the job is done, but its output {output} is unfinished; {again}")
    elif now != job["output"]:
        findings.problem(
            f"{path}: the job left {output} with the digest {job['output']}, now it is {now}; "
            f"{again}"
        )
    for place, digest in job["inputs"].items():
        read = folder / place
        found = _digest(read)
        if found is None:
            findings.note(f"{path}: what the job read, {read}, is not there (any more)")
        elif found != digest:
            findings.problem(
                f"{path}: the job read {read} with the digest {digest}, now it is {found}; {again}"
            )


def _digest(directory: Path) -> str | None:
    try:
        return str(files.read_json(directory / MANIFEST).get("digest"))
    except (InputError, RecursionError):
        return None


def _moved(output: Path, was: Path, folder: Path) -> Path:
    """Where the output of a job lies, if the suite's directory was moved since."""
    return folder / output.relative_to(was) if output.is_relative_to(was) else output
