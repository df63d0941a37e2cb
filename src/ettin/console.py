"""What a person sees while something runs, and what stays on disk of it.

Standard output belongs to results (and to `--json`); everything here writes to standard error.
On a terminal progress is one live bar; in a log file it is one plain line per interval, so that
a cluster's logs stay readable.
"""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger("ettin")

PLAIN_INTERVAL_SECONDS = 10.0
PLAIN_INTERVAL = "ETTIN_PROGRESS_SECONDS"
"""A variable of the environment that shortens or lengthens it."""


def set_up_logging() -> None:
    """Send the log to standard error; of ranks other than 0, errors alone.

    Called by commands, never on import.
    """
    log.handlers.clear()
    log.setLevel(logging.INFO)
    log.propagate = False
    rank = os.environ.get("RANK", "0")
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(
        logging.Formatter("%(message)s" if rank == "0" else f"rank {rank}: %(message)s")
    )
    console.setLevel(logging.INFO if rank == "0" else logging.ERROR)
    log.addHandler(console)


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append what is logged inside the block to a file too, with times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


class Progress:
    """One task's progress; made by `progress`. `update` may be called as often as one likes."""

    def __init__(self, title: str, total: float | None, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = self._before = 0.0
        self.started = time.monotonic()
        self._last_line = self.started
        self._bar: Any = None
        self._task: Any = None

    def update(self, done: float, note: str = "") -> None:
        """Say that `done` units of the total are done, with a note such as the current loss."""
        self.done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._last_line >= plain_interval():
            self._last_line = time.monotonic()
            log.info("%s", self.line(note))

    def begin_at(self, done: float) -> None:
        """Say that `done` units were done before, which tell nothing about the rate."""
        self.done = self._before = done
        if self._bar is not None:
            self._bar.reset(self._task, completed=done)

    def advance(self, amount: float, note: str = "") -> None:
        """`update` by a difference."""
        self.update(self.done + amount, note)

    def line(self, note: str = "") -> str:
        """Share done, note, rate and time left, as one line of text."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self._before) / seconds
        share = f"{100 * self.done / self.total:3.0f} %" if self.total else human(self.done)
        parts = [f"{self.title}: {share}", note]
        if self.unit:
            parts.append(f"{human(rate)}{self.unit}/s")
        if self.total and rate:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return "  ".join(part for part in parts if part)


@contextlib.contextmanager
def progress(title: str, *, total: float | None, unit: str = "") -> Iterator[Progress]:
    """Show the progress of a block of work.

    Args:
        title: what is being done.
        total: how much there is to do; None when unknown.
        unit: what is counted, e.g. `B`, to show a rate; none when the notes tell their own.
    """
    shown = Progress(title, total, unit)
    if not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":
        yield shown
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bar,
    )

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    ]
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        shown._bar, shown._task = bar, bar.add_task(title, total=total, note="")
        yield shown


class JsonLines:
    """A file of one JSON object a line, appended and flushed; each line holds a `step`.

    Opening it with `keep_until` cuts every line after that step, and a torn last line, so that
    what a resumed run appends continues the file as if nothing had happened.
    """

    def __init__(self, path: Path, *, keep_until: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = _lines_until(path, keep_until)
        with path.open("r+b" if path.exists() else "wb") as file:
            file.truncate(kept)
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        """Append one line. NaN and infinities become strings, since JSON has none."""
        self._file.write(json.dumps({key: _finite(line[key]) for key in line}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Put the file on the disk and close it."""
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a file of JSON lines; none when there is no file."""
    if not path.exists():
        return []
    return [
        json.loads(line)
        for line in path.read_bytes().splitlines(keepends=True)
        if line[-1:] == b"\n"
    ]


def plain_interval() -> float:
    """Seconds between two plain lines of progress."""
    return float(os.environ.get(PLAIN_INTERVAL) or PLAIN_INTERVAL_SECONDS)


def human(number: float) -> str:
    """A number in three digits: `950`, `1.23k`, `8.50M`, `1.70T`."""
    for suffix in ("", "k", "M", "B"):
        if abs(number) < 999.5:
            return f"{number:.3g}{suffix}"
        number /= 1000
    return f"{number:.3g}T"


def duration(seconds: float) -> str:
    """A length of time: `42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return str(value)
    return value


def _lines_until(path: Path, step: int) -> int:
    """How many bytes of a file of JSON lines hold whole lines with steps up to `step`."""
    if not path.exists():
        return 0
    kept = 0
    with path.open("rb") as file:
        for line in file:
            if line[-1:] != b"\n" or json.loads(line)["step"] > step:
                break
            kept += len(line)
    return kept
