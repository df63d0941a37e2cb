"""The complete tree on the disk: what is uploaded is what lies there, byte for byte.

    <out>/
        org/name/step100/…    org/name/main/…
        org/name-order/main/…
        publish.json          every repository, revision and file, with size, hash and state

Big files are hard links to where they were made, so that a tree costs no space; they are copied
where the file system is another.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ettin import files
from ettin.console import Progress
from ettin.errors import InputError
from ettin.files import Json, ettin_version
from ettin.publish.found import REPORT

MAIN = "main"
RepositoryType = Literal["model", "dataset"]


@dataclass(frozen=True)
class File:
    """One file of a revision: where it lies, its size in bytes, its SHA-256 in hexadecimal."""

    path: Path
    bytes: int
    sha256: str


@dataclass
class Revision:
    """What one tag, or `main`, holds.

    Attributes:
        name: the tag, or `main`.
        folder: where it lies in the tree.
        note: the commit's message.
        files: name → file, once described.
        state: `planned`, then `uploaded`, or `there` when the hub had it already.
        commit: the commit on the hub that was read back and compared.
    """

    name: str
    folder: Path
    note: str
    files: dict[str, File] = field(default_factory=dict)
    state: str = "planned"
    commit: str | None = None

    @property
    def is_tag(self) -> bool:
        """Whether it is a tag, which never changes."""
        return self.name != MAIN

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(file.bytes for file in self.files.values())


@dataclass
class Repository:
    """One repository: its id, what the hub takes it for, what it holds, its revisions in order.

    `holds` is `model`, `checkpoints`, `order` or `corpus`; `key` tells the model or corpus that it
    belongs to from every other.
    """

    name: str
    type: RepositoryType
    holds: str
    key: str
    revisions: list[Revision]


def begin(out: Path) -> None:
    """Make room for a tree: what this stage wrote there before goes, anything else is refused.

    Raises:
        InputError: `out` holds what this stage did not write.
    """
    if (out / REPORT).is_file():
        if files.read_json(out / REPORT).get("kind") != "publish":
            raise InputError(f"{out} was not written by ettin publish; choose another --out")
        shutil.rmtree(out)
    files.refuse_occupied(out)
    write_report(out, [], dry_run=True)


def place(source: Path, target: Path) -> None:
    """A hard link to a file, or a copy where there can be none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        with files.space_checked(target, source.stat().st_size):
            shutil.copyfile(source, target)


def write_text(path: Path, text: str) -> None:
    """Write a text file of the tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.space_checked(path, len(text)):
        path.write_text(text, encoding="utf-8", newline="\n")


def describe(repositories: list[Repository], shown: Progress) -> None:
    """Find size and hash of every file of every revision; what is linked twice is read once."""
    known: dict[tuple[int, int], str] = {}
    for repository in repositories:
        for revision in repository.revisions:
            for path in sorted(revision.folder.rglob("*")):
                if not path.is_file():
                    continue
                status = path.stat()
                key = (status.st_dev, status.st_ino)
                if key not in known:
                    known[key] = _sha256(path)
                name = path.relative_to(revision.folder).as_posix()
                revision.files[name] = File(path, status.st_size, known[key])
                shown.advance(status.st_size, f"{repository.name} {revision.name}")


def total_bytes(out: Path) -> int:
    """Of all files below a folder; links count each time."""
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def write_report(out: Path, repositories: list[Repository], *, dry_run: bool) -> Json:
    """Write `publish.json`, and return what it holds."""
    report: Json = {
        "kind": "publish",
        "format": 1,
        "ettin": ettin_version(),
        "dry_run": dry_run,
        "repositories": [
            {
                "repository": repository.name,
                "type": repository.type,
                "holds": repository.holds,
                "revisions": [
                    {
                        "revision": revision.name,
                        "state": revision.state,
                        "commit": revision.commit,
                        "bytes": revision.bytes,
                        "files": {
                            name: {"bytes": file.bytes, "sha256": file.sha256}
                            for name, file in revision.files.items()
                        },
                    }
                    for revision in repository.revisions
                ],
            }
            for repository in repositories
        ],
    }
    files.write_json(out / REPORT, report)
    return report


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
