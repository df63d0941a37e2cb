"""What `ettin publish` builds: the folders of all revisions are what `publish.json` lists."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from ettin import files
from ettin.check.findings import Findings
from ettin.errors import InputError
from ettin.files import Json

_REPORT = "publish.json"
_AGAIN = "the same `ettin publish` builds it again"


def is_tree(folder: Path) -> bool:
    """Whether `ettin publish` wrote a folder."""
    try:
        return files.read_json(folder / _REPORT).get("kind") == "publish"
    except (InputError, OSError, RecursionError):
        return False


def check_tree(folder: Path, findings: Findings, *, advance: Callable[[int], None]) -> list[Path]:
    """Compare every file with the list.

    Args:
        folder: the tree.
        findings: gets a problem for each file that is missing, unlisted, or other than listed.
        advance: told the bytes that were read.

    Returns:
        The folders of revisions, in which every file is as it was listed.
    """
    listed: dict[str, Json] = {}
    revisions = []
    for repository in files.read_json(folder / _REPORT)["repositories"]:
        for revision in repository["revisions"]:
            place = f"{repository['repository']}/{revision['revision']}"
            revisions.append(files.inside(folder, place))
            listed |= {f"{place}/{name}": file for name, file in revision["files"].items()}
    if not revisions:
        findings.problem(f"{folder} is unfinished: {_REPORT} lists nothing; {_AGAIN}")
        return []
    before = len(findings.problems)
    present = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    for name in sorted(present - set(listed) - {_REPORT}):
        findings.problem(f"{folder / name}: not in {_REPORT}; {_AGAIN} without it")
    for name, file in listed.items():
        path = folder / name
        if name not in present:
            findings.problem(f"{path}: missing; {_AGAIN}")
        elif path.is_symlink() or not path.is_file():
            findings.problem(f"{path}: not an ordinary file; {_AGAIN}")
        else:
            with findings.reading(path):
                if _sha256(path) != file["sha256"]:
                    findings.problem(f"{path}: content differs from {_REPORT}; {_AGAIN}")
                advance(path.stat().st_size)
    return revisions if len(findings.problems) == before else []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
