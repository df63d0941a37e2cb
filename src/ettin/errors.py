"""The ways in which a command can end other than well, each with its exit code.

    InputError      2   the caller can mend it: what was given, what was expected, what to do
    StoppedError    3   a signal arrived, everything is saved, the same command goes on
    NoSpaceError    4   the disk is full: path, needed, free
    ProblemsFound   1   a check looked and found something wrong
    CommandFailed   its own: a command run by another did not end well

Anything else that is raised is a defect of ours: it keeps its traceback and exits 1.
"""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path


class InputError(ValueError):
    """A mistake of the caller. The message says what was given, what was expected, what to do."""

    exit_code = 2


class StoppedError(RuntimeError):
    """A signal asked for an end, and all state is on disk; the same command resumes."""

    exit_code = 3


class NoSpaceError(OSError):
    """No room to write.

    Args:
        path: what could not be written.
        needed: bytes it would have taken (0 when unknown).
        free: bytes left on that file system.
    """

    exit_code = 4

    def __init__(self, path: Path, *, needed: int, free: int) -> None:
        amount = f"{needed:,} bytes needed, " if needed else ""
        super().__init__(f"no space left to write {path}: {amount}{free:,} bytes free")
        self._given = (path, needed, free)

    def __reduce__(self) -> tuple[Callable[..., "NoSpaceError"], tuple[Path, int, int]]:
        """Worker processes send it to their parents."""
        return _no_space, self._given


def _no_space(path: Path, needed: int, free: int) -> NoSpaceError:
    return NoSpaceError(path, needed=needed, free=free)


class CommandFailed(RuntimeError):  # noqa: N818 - it names an outcome
    """A command that another one ran did not end well; it has said why itself.

    Args:
        message: which command, and how it ended.
        exit_code: its exit code, passed on.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ProblemsFound(RuntimeError):  # noqa: N818 - it names an outcome
    """A verification ran to its end and found problems; the message lists them."""

    exit_code = 1


def nearest(given: str, valid: Iterable[str]) -> str:
    """A hint naming the most similar valid name, or all of them when none is similar.

    Example:
        >>> nearest("objectiv", ["objective", "seed"])
        "did you mean 'objective'?"
    """
    names = sorted(valid)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"valid: {', '.join(names)}"
