"""Files that are whole or absent: atomic writes, fingerprints, manifests, staging, locks.

Stages meet only in directories. A finished directory holds `manifest.json`, written last, which
lists every other file with its size and hash and carries a digest of itself:

    {"kind": "corpus", "format": 1, "ettin": "0.1.0", "command": [...], "made_from": {...},
     "facts": {...}, "files": {"tokenizer/tokenizer.json": {"bytes": 1234, "xxh3_128": "…"}},
     "digest": "…"}

A directory inside that has a manifest of its own (a checkpoint in a run) is listed by that
manifest alone; verifying descends into it. Logs and locks live beside a directory, never in it.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import xxhash

from ettin.errors import InputError, NoSpaceError

MANIFEST = "manifest.json"
FORMAT = 1
_READ_BLOCK_BYTES = 1 << 22

Json = dict[str, Any]


def ettin_version() -> str:
    """The installed version of this package, or `unknown` when run from a bare source tree."""
    try:
        return version("ettin")
    except PackageNotFoundError:
        return "unknown"


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, ours first."""
    return {"ettin": ettin_version(), **{package: version(package) for package in packages}}


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal bytes.

    Raises:
        ValueError: `value` holds a NaN or an infinity.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def fingerprint(value: object) -> str:
    """32 hexadecimal digits (xxh3_128) that identify a JSON value."""
    return xxhash.xxh3_128_hexdigest(canonical_json(value))


def fingerprint_file(path: Path) -> str:
    """32 hexadecimal digits (xxh3_128) of a file's bytes, read in blocks of 4 MiB."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_READ_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def space_checked(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn a full disk into a `NoSpaceError` that names `path`, `needed` bytes and what is free."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(_existing_parent(path)).free
        raise NoSpaceError(path, needed=needed, free=free) from error


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Raises:
        NoSpaceError: the disk is full; the old content is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with space_checked(path, len(data)), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def rendered(value: object) -> bytes:
    """The bytes of a JSON file of ours: indented, keys in the order given, a line end."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: object) -> None:
    """Write indented JSON atomically, keys in the order given."""
    write_atomic(path, rendered(value))


def read_json(path: Path) -> Json:
    """Read a JSON object.

    Raises:
        InputError: the file is missing, unreadable, or not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} should hold a JSON object, found {type(value).__name__}")
    return value


def write_manifest(
    directory: Path,
    kind: str,
    *,
    command: list[str],
    made_from: Json,
    facts: Json,
    known: Mapping[str, Json] | None = None,
) -> Json:
    """Declare a directory finished: list and hash what it holds, and write `manifest.json` last.

    Args:
        directory: the directory, complete but for the manifest.
        kind: what it is (`corpus`, `checkpoint`, `run`, `export`, …).
        command: the command line that made it.
        made_from: fingerprints of what went in.
        facts: anything readers want to know without opening the files.
        known: what `describe` said of files when they were written, so as not to read them again.

    Returns:
        The manifest as written.
    """
    for leftover in directory.rglob(".*.tmp"):
        leftover.unlink()  # of a process killed inside `write_atomic`
    manifest: Json = {
        "kind": kind,
        "format": FORMAT,
        "ettin": ettin_version(),
        "command": command,
        "made_from": made_from,
        "facts": facts,
        "files": {
            name: (known or {}).get(name) or describe(directory / name)
            for name in list_files(directory)
        },
    }
    manifest["digest"] = fingerprint(manifest)
    write_json(directory / MANIFEST, manifest)
    return manifest


def is_finished(directory: Path) -> bool:
    """Whether a directory says that the stage that makes it came to its end."""
    return (directory / MANIFEST).is_file()


def read_manifest(directory: Path, kind: str | None = None) -> Json:
    """Read a manifest and check its digest, format and kind.

    Raises:
        InputError: missing, altered, of an unknown format, or of another kind.
    """
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory")
    if not is_finished(directory):
        raise InputError(
            f"{directory} holds no {MANIFEST}: it is unfinished or was not made by ettin; "
            "run the command that makes it again"
        )
    manifest = read_json(directory / MANIFEST)
    stated = manifest.get("digest")
    if stated != fingerprint({key: manifest[key] for key in manifest if key != "digest"}):
        raise InputError(f"{directory / MANIFEST} was altered: its digest does not match")
    if manifest["format"] != FORMAT:
        raise InputError(f"{directory} has format {manifest['format']}, this ettin reads {FORMAT}")
    if kind is not None and manifest["kind"] != kind:
        raise InputError(f"{directory} is a {manifest['kind']}, expected a {kind}")
    return manifest


def list_files(directory: Path) -> list[str]:
    """Names, relative and sorted, of all files of a directory but its own manifest.

    A subdirectory that has a manifest of its own contributes that manifest alone.
    """
    names: list[str] = []
    for folder, subfolders, files in os.walk(directory):
        here = Path(folder)
        if here != directory and MANIFEST in files:
            subfolders.clear()
            files = [MANIFEST]
        names += [(here / name).relative_to(directory).as_posix() for name in files]
    return sorted(set(names) - {MANIFEST})


def verify(directory: Path) -> list[str]:
    """Compare a finished directory with its manifest, descending into finished subdirectories.

    Returns:
        One sentence a problem: a file missing, unlisted, of another size or another hash.
    """
    try:
        manifest = read_manifest(directory)
    except InputError as error:
        return [str(error)]
    listed: dict[str, Json] = manifest["files"]
    present = set(list_files(directory))
    problems = [f"{directory / name}: not in the manifest" for name in sorted(present - {*listed})]
    if (directory / MANIFEST).read_bytes() != rendered(manifest):
        problems.append(f"{directory / MANIFEST}: altered, though it says the same")
    for name, expected in listed.items():
        path = directory / name
        if name not in present:
            problems.append(f"{path}: missing")
        elif path.stat().st_size != expected["bytes"]:
            problems.append(f"{path}: {path.stat().st_size} bytes, expected {expected['bytes']}")
        elif fingerprint_file(path) != expected["xxh3_128"]:
            problems.append(f"{path}: content differs from the manifest")
        if path.name == MANIFEST:
            problems += verify(path.parent)
    return problems


@contextlib.contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """Build a directory as `<directory>.partial` and rename it when the block ends well.

    A `.partial` left by a killed process is removed first. When the block raises, what was made
    is removed and `directory` does not appear.

    Raises:
        InputError: `directory` exists and is not empty.
    """
    refuse_occupied(directory)
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with space_checked(partial):
            yield partial
        synchronise(partial)
        if directory.is_dir():
            directory.rmdir()
        partial.rename(directory)
        _sync(directory.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def synchronise(directory: Path) -> None:
    """Have all files of a directory written to the disk itself."""
    for folder, _, names in os.walk(directory):
        for name in names:
            _sync(Path(folder) / name)


def inside(directory: Path, name: str) -> Path:
    """`directory / name`, for a name that was read from a file.

    Raises:
        InputError: the name leads out of the directory.
    """
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{directory}: {name!r} leads out of the directory")
    return path


def refuse_occupied(directory: Path) -> None:
    """Raise `InputError` when `directory` is a file or holds anything."""
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; choose another --out")
    if directory.is_dir() and any(directory.iterdir()):
        raise InputError(f"{directory} is not empty; choose another --out or remove it")


@contextlib.contextmanager
def locked(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold `<directory>.lock`, so that one process at a time works on a directory.

    The lock is the kernel's: it vanishes with its holder, however that one dies.

    Args:
        directory: what to work on.
        wait: until another process has released it, rather than raise.

    Raises:
        InputError: another process holds it.
    """
    path = directory.with_name(directory.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise InputError(
                f"{directory} is in use by process {holder}; wait or stop it"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def describe(path: Path) -> Json:
    """A file's size and hash, as a manifest lists them."""
    return {"bytes": path.stat().st_size, "xxh3_128": fingerprint_file(path)}


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _sync(path: Path) -> None:
    """Ask the kernel to put a file, or a directory's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
