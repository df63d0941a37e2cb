"""Finished directories as they lie on the disk: the manifest, the files, and whether they agree.

A manifest is anyone's text. Nothing is opened because a manifest names it: only ordinary files
that were found below the directory are read, and links that lead out of it are never followed.
"""

import os
import stat
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ettin import files
from ettin.check.findings import Findings
from ettin.check.hashing import Hashed, Hasher, Look
from ettin.errors import InputError
from ettin.files import MANIFEST, Json
from ettin.identity import identity

_OF_DOWNLOADS = {".gitattributes", ".cache/huggingface"}
"""What the hub adds to a repository, and `hf download --local-dir` to a folder."""
_FIELDS = {"kind": str, "command": list, "made_from": dict, "facts": dict, "files": dict}


@dataclass(frozen=True)
class Directory:
    """A finished directory: where it is and what its manifest says."""

    path: Path
    manifest: Json

    @property
    def kind(self) -> str:
        """What it is: `corpus`, `run` and so on."""
        return str(self.manifest["kind"])

    @property
    def facts(self) -> Json:
        """What the stage states."""
        facts: Json = self.manifest["facts"]
        return facts

    @property
    def made_from(self) -> Json:
        """What went in."""
        made_from: Json = self.manifest["made_from"]
        return made_from

    @property
    def command(self) -> list[str]:
        """The words of the command that made it."""
        return [str(word) for word in self.manifest["command"]]

    @property
    def files(self) -> dict[str, Json]:
        """Name → `bytes` and `xxh3_128`."""
        listed: dict[str, Json] = self.manifest["files"]
        return listed

    @property
    def digest(self) -> str:
        """Proves its manifest; another command or another time gives another one."""
        return str(self.manifest["digest"])

    @cached_property
    def identity(self) -> str:
        """Identifies what it holds, however that came about.

        Raises:
            InputError: the manifest of a directory inside is missing or altered.
        """
        return identity(self.path, self.manifest)

    def hash_of(self, name: str) -> str | None:
        """The xxh3_128 that the manifest states of a file; None when it lists no such file."""
        return str(self.files[name]["xxh3_128"]) if name in self.files else None


def read_directory(path: Path) -> Directory:
    """Read the manifest of a finished directory; its files are not looked at.

    Raises:
        InputError: the manifest is altered, or not one of ours; the sentence says how.
    """
    manifest_path = path / MANIFEST
    if manifest_path.is_symlink() and leads_out(path, manifest_path):
        raise InputError(f"{manifest_path} is a link that leads out of the directory")
    try:
        manifest = files.read_manifest(path)
    except KeyError as error:
        raise InputError(f"{manifest_path} lacks {error}") from error
    except (UnicodeError, RecursionError) as error:
        raise InputError(f"{manifest_path} is no manifest: {type(error).__name__}") from error
    for name, kind in _FIELDS.items():
        if not isinstance(manifest.get(name), kind):
            found = type(manifest.get(name)).__name__
            raise InputError(f"{manifest_path}: {name} is a {found}, expected a {kind.__name__}")
    for name, expected in manifest["files"].items():
        numbers = isinstance(expected, dict) and type(expected.get("bytes")) is int
        if not numbers or not isinstance(expected.get("xxh3_128"), str):
            raise InputError(f"{manifest_path}: {name!r} has no bytes and xxh3_128")
    return Directory(path, manifest)


def leads_out(directory: Path, path: Path) -> bool:
    """Whether a link points to somewhere outside of a directory."""
    try:
        return not path.resolve().is_relative_to(directory.resolve())
    except (OSError, RuntimeError):  # a circle of links
        return True


class Compared(NamedTuple):
    """What came of comparing bytes.

    Attributes:
        found: the directory and all finished ones inside, as far as their manifests can be read.
        seen: what was looked up in files while they were read, or the error that came of it.
    """

    found: list[Directory]
    seen: dict[Path, Any]


def compare_bytes(
    directory: Directory,
    findings: Findings,
    *,
    hasher: Hasher,
    look: Callable[[Directory, str], Look | None],
) -> Compared:
    """Compare a directory with its manifest, and finished directories inside it with theirs.

    Args:
        directory: the outermost.
        findings: gets a problem for each file that is missing, unlisted, or other than listed.
        hasher: reads the files.
        look: how to look into a file of a directory while it is read; None for not at all.
    """
    compared = Compared([], {})
    pending: list[tuple[Path, Future[Hashed]]] = []
    _submit(directory, findings, hasher=hasher, look=look, found=compared.found, pending=pending)
    for path, future in pending:
        with findings.reading(path):
            hashed = future.result()
            if not hashed.equal:
                findings.problem(f"{path}: content differs from the manifest")
            elif hashed.seen is not None:
                compared.seen[path] = hashed.seen
    return compared


def _submit(
    directory: Directory,
    findings: Findings,
    *,
    hasher: Hasher,
    look: Callable[[Directory, str], Look | None],
    found: list[Directory],
    pending: list[tuple[Path, Future[Hashed]]],
) -> None:
    """Compare names and sizes, and have hashed what is there; directories inside follow."""
    found.append(directory)
    manifest = directory.path / MANIFEST
    with findings.reading(manifest):
        if manifest.read_bytes() != files.rendered(directory.manifest):
            findings.problem(f"{manifest}: altered, though it says the same")
    present = _present(directory.path, findings)
    for name in sorted(present - set(directory.files)):
        findings.problem(
            f"{directory.path / name}: not in the manifest; remove it, or keep it elsewhere"
        )
    for name, expected in directory.files.items():
        path = directory.path / name
        if name not in present:
            findings.problem(_absent(directory.path, name))
            continue
        with findings.reading(path):
            size = path.stat().st_size
            if size != expected["bytes"]:
                findings.problem(f"{path}: {size} bytes, expected {expected['bytes']}")
            else:
                hashed = hasher.submit(path, expected["xxh3_128"], look=look(directory, name))
                pending.append((path, hashed))
        if path.name == MANIFEST and path.parent != directory.path:
            with findings.reading(path):
                inner = read_directory(path.parent)
                _submit(inner, findings, hasher=hasher, look=look, found=found, pending=pending)


def _present(directory: Path, findings: Findings) -> set[str]:
    """Names of the ordinary files of a directory, as `files.list_files` counts them.

    Links that lead out, and what is neither file nor folder, are problems and left out.
    """
    names: set[str] = set()
    for folder, subfolders, held in os.walk(directory):
        here = Path(folder)
        for listed in (subfolders, held):
            listed[:] = [
                name
                for name in listed
                if (here / name).relative_to(directory).as_posix() not in _OF_DOWNLOADS
            ]
        links = [name for name in subfolders if (here / name).is_symlink()]
        if here != directory and MANIFEST in held:
            subfolders.clear()
            held, links = [MANIFEST], []
        for name in (*held, *links):
            path = here / name
            if path.is_symlink() and leads_out(directory, path):
                findings.problem(
                    f"{path}: a link that leads out of the directory; it is not followed. Put "
                    "what it points to in its place"
                )
            elif name in links or not stat.S_ISREG(path.stat().st_mode):
                findings.problem(f"{path}: not an ordinary file")
            else:
                names.add(path.relative_to(directory).as_posix())
    return names - {MANIFEST}


def _absent(directory: Path, name: str) -> str:
    """The sentence about a listed file that is not among those found."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name or pure.as_posix() != name:
        return f"{directory / MANIFEST}: lists {name!r}, which is no name of a file inside"
    return f"{directory / name}: missing"
