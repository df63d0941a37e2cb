"""What is on disk of a job besides its output: the record of its attempts, its lock, its log.

OUT/jobs/<name>.json       the last attempt: how it ended, on what, how long it took
OUT/jobs/<name>.lock       held by the kernel for as long as a worker, or its command, lives
OUT/jobs/<name>.manifest   a copy of the output's manifest, once it is done
OUT/logs/<name>.log        everything that its commands said, of all attempts

Names of jobs are names of files; nothing else of a suite is kept by name.
"""

import contextlib
import dataclasses
import errno
import fcntl
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from ettin import files
from ettin.errors import InputError
from ettin.files import MANIFEST

JOBS = "jobs"
LOGS = "logs"
HEADER = "== "
"""How the line begins in a log that says which command follows, and when."""

_TAIL_BYTES = 8192
_LINE_AT_MOST = 500
"""Characters of a line of a log, where it is shown elsewhere."""
_REASON_LINES = 6
_DIGEST = re.compile(rb'"digest": "([0-9a-f]{32})"\s*}\s*\Z')
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}

Result = Literal["running", "done", "failed", "stopped"]


@dataclass(frozen=True)
class Attempt:
    """The last attempt at a job.

    Attributes:
        result: how it ended; `running` while it goes on, and for ever if its worker was killed.
        fingerprint: of the job, as it was then.
        inputs: digests of the manifests of its inputs.
        output: digest of the manifest of its output, once it is done.
        exit_code: of the command that ended last; negative for a signal.
        reason: why it failed, in the words of its log.
        seconds: that it took, all attempts together.
        started: when it began; ISO 8601 with the time zone.
        ended: when it ended; empty while it goes on.
        attempts: how often it was begun.
        threads: `OMP_NUM_THREADS` of its commands.
        from_nothing: its output was absent or empty when it was begun for the first time, so that
            whatever lies there is its own.
    """

    result: Result
    fingerprint: str
    inputs: dict[str, str]
    output: str | None = None
    exit_code: int | None = None
    reason: str = ""
    seconds: float = 0.0
    started: str = ""
    ended: str = ""
    log: str = ""
    attempts: int = 0
    threads: int = 0
    from_nothing: bool = field(default=False)


_RECORD = TypeAdapter(Attempt)


def job_file(out: Path, name: str, ending: str) -> Path:
    """Where a file of a job lies: `.json`, `.lock`, `.manifest`, `.log`.

    Raises:
        InputError: the name would lead elsewhere.
    """
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise InputError(f"a job cannot be called {name!r}: its name becomes that of a file")
    return out / (LOGS if ending == ".log" else JOBS) / (name + ending)


def read_attempt(out: Path, name: str) -> Attempt | None:
    """The last attempt; None when there was none, or its record is of another version or damaged.

    Nothing is lost by that: the job is started again, and its commands skip what is finished.
    """
    path = job_file(out, name, ".json")
    try:
        attempt = _RECORD.validate_python(files.read_json(path))
        if attempt.started:
            datetime.fromisoformat(attempt.started)
    except (InputError, ValueError, RecursionError):
        return None
    return attempt


def write_attempt(out: Path, name: str, attempt: Attempt) -> None:
    """Keep an attempt, atomically.

    Raises:
        NoSpaceError: the disk is full.
    """
    files.write_json(job_file(out, name, ".json"), dataclasses.asdict(attempt))


def manifest_digest(directory: Path) -> str | None:
    """What identifies a finished directory: the last line of its manifest; None if unfinished."""
    try:
        with (directory / MANIFEST).open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 128))
            found = _DIGEST.search(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found[1].decode() if found else files.fingerprint_file(directory / MANIFEST)


def is_locked(out: Path, name: str) -> bool:
    """Whether a worker, or a command that outlived its worker, is at a job."""
    try:
        descriptor = os.open(job_file(out, name, ".lock"), os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def holder(out: Path, name: str) -> str:
    """The process that took a job's lock last, for messages."""
    try:
        return job_file(out, name, ".lock").read_text().strip() or "unknown"
    except OSError:
        return "unknown"


@contextlib.contextmanager
def job_lock(out: Path, name: str, *, wait: Callable[[], None]) -> Iterator[int]:
    """Hold a job's lock.

    The lock is the kernel's and belongs to the open file: a command that inherits the descriptor
    holds it too, and it vanishes with the last of them, however that one dies.

    Args:
        out: the suite's directory.
        name: of the job.
        wait: called again and again while another holds it; it may raise.

    Yields:
        The descriptor.
    """
    path = job_file(out, name, ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        while not _take(descriptor, fcntl.LOCK_EX):
            wait()
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise InputError(
            f"this file system gives no locks ({error.strerror}); put --out on one that does"
        ) from error
    return True


def last_line(log: Path) -> str:
    """The last line of a log that says something; empty when there is none."""
    for line in reversed(_tail(log)):
        if line.strip() and not line.startswith(HEADER):
            return _shown(line)
    return ""


def reason_of(log: Path, *, exit_code: int) -> str:
    """Why a command failed: its own message, or the last line that it wrote."""
    lines = _tail(log)
    headers = [place for place, line in enumerate(lines) if line.startswith(HEADER)]
    lines = lines[headers[-1] + 1 :] if headers else lines
    own = [place for place, line in enumerate(lines) if line.startswith("ettin: ")]
    if exit_code < 0:
        memory = " (out of memory?)" if exit_code == -signal.SIGKILL else ""
        return f"killed by {signal_name(-exit_code)}{memory}"
    if own:
        message = [line.removeprefix("ettin: ") for line in lines[own[-1] :] if line.strip()]
        return "\n".join(_shown(line) for line in message[:_REASON_LINES])
    if exit_code == 4:
        return "no space left"
    said = [line for line in lines if line.strip()]
    return _shown(said[-1]) if said else f"exit code {exit_code}, and nothing was said"


def signal_name(number: int) -> str:
    """`SIGTERM` for 15; the number where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def printable(text: str) -> str:
    """A line without control characters: no text from a log moves the cursor."""
    return "".join(character if character.isprintable() else " " for character in text).rstrip()


def _shown(line: str) -> str:
    """A line of a log as it is shown elsewhere."""
    return printable(line if len(line) <= _LINE_AT_MOST else line[:_LINE_AT_MOST] + " …")


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
