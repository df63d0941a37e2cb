"""The files of this machine that a path or a pattern means, in the order in which they are read.

In each folder first its files, by name, then its folders. Hidden files and folders, what is
excluded, links to folders and what is no regular file are left out and counted.
"""

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from ettin.data.reading.places import Pattern, split_pattern
from ettin.data.reading.tally import Reading
from ettin.errors import InputError

_EVERYTHING = Pattern(())


class Listed(NamedTuple):
    """A file that was found.

    Attributes:
        location: a path on this machine, or else a URL.
        relative: its path below the folder that was given, or below the fixed part of a pattern;
            the name of a file that was given itself.
        size: bytes.
        version: changes with the content; empty when nothing tells it.
    """

    location: Path | str
    relative: str
    size: int
    version: str


def top_of(place: Path | str) -> tuple[Path, Pattern | None]:
    """The file or folder that a path means; or the folder below which a pattern is looked for.

    A path that is there is taken as it stands, whatever characters it has.
    """
    path = Path(place).expanduser()
    if path.exists():
        return path, None
    fixed, pattern = split_pattern(path.as_posix())
    return Path(fixed), pattern


def list_local(
    place: Path | str, *, exclude: tuple[str, ...], reading: Reading
) -> Iterator[Listed]:
    """The files that a path or a pattern means.

    Args:
        place: a file, a folder that is read with all folders below, or a pattern of these.
        exclude: names, or patterns of names, of files and folders to leave out.
        reading: counts what is left out.

    Raises:
        InputError: there is neither a file nor a folder.
    """
    top, pattern = top_of(place)
    if top.is_file() and pattern is None:
        yield _listed(top, printable(top.name))
        return
    if not top.is_dir():
        if pattern:
            raise InputError(f"{place}: no file matches, since there is no folder {top}")
        raise InputError(f"{place} is neither a file nor a folder")
    for path in _walk(top, pattern or _EVERYTHING, exclude, reading):
        yield _listed(path, _relative(path, top))


def _walk(
    top: Path, pattern: Pattern, exclude: tuple[str, ...], reading: Reading
) -> Iterator[Path]:
    """Regular files below a folder that match."""

    def unreadable(error: OSError) -> None:
        reading.defect("unreadable folder", str(error.filename), str(error.strerror))

    for folder, subfolders, names in os.walk(top, onerror=unreadable):
        here = Path(folder)
        parts = list(here.relative_to(top).parts)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if pattern.enters([*parts, name]) and _wanted(here / name, top, exclude, reading)
        )
        for name in sorted(names):
            path = here / name
            if (
                pattern.matches([*parts, name])
                and _wanted(path, top, exclude, reading)
                and _is_regular(path, top, reading)
            ):
                yield path


def _wanted(path: Path, top: Path, exclude: tuple[str, ...], reading: Reading) -> bool:
    if reason := why_unwanted(path.name, exclude):
        reading.empty(reason, _relative(path, top))
        return False
    if path.is_symlink() and path.is_dir():
        reading.empty("link to a folder", _relative(path, top))
        return False
    return True


def why_unwanted(name: str, exclude: tuple[str, ...]) -> str:
    """Why a file or folder of this name is left out; empty when it is wanted."""
    if name.startswith("."):
        return "hidden"
    return "excluded" if any(fnmatchcase(name, pattern) for pattern in exclude) else ""


def _is_regular(path: Path, top: Path, reading: Reading) -> bool:
    """Whether reading ends: a pipe or a device would block or never end."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return True
        reading.defect("not a regular file", _relative(path, top))
    except OSError as error:
        reading.defect("unreadable file", _relative(path, top), str(error.strerror))
    return False


def _listed(path: Path, relative: str) -> Listed:
    state = path.stat()
    return Listed(path, relative, state.st_size, str(state.st_mtime_ns))


def _relative(path: Path, top: Path) -> str:
    return printable(path.relative_to(top).as_posix())


def printable(name: str) -> str:
    """A file's name as text; names need not be valid UTF-8."""
    return os.fsencode(name).decode(errors="replace")
