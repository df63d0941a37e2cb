"""What is seen of a suite while it runs: one live table on a terminal, plain lines in a log.

Thousands of jobs fit on a screen: what is done is counted by kind, what runs shows its time and the
last line of its log, what failed shows why.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from ettin.console import duration, log, plain_interval
from ettin.suite.attempts import job_file, last_line, printable, read_attempt
from ettin.suite.state import STATES, Board, State

FEW = 5
_REDRAW_SECONDS = 0.5


def table(board: Board, *, few: int = FEW) -> list[str]:
    """The lines of the table: totals, a line a kind, then what runs, failed and comes next.

    Args:
        board: the states.
        few: at most so many of each of the lists, and how many more there are.
    """
    lines = [_totals(board), ""]
    width = max((len(job.kind) for job in board.plan.jobs), default=0)
    lines += [f"  {kind:<{width}}  {said}" for kind, said in _by_kind(board).items()]
    for title, state, tell in _LISTS:
        names = board.named(state)
        if names:
            lines += ["", f"{title}:"]
            lines += [line for name in names[:few] for line in tell(board, name)]
            lines += [f"  … and {len(names) - few:,} more"] if len(names) > few else []
    return lines


def one_line(board: Board) -> str:
    """How many jobs are in each state that any is in: `3 done, 1 failed, 2 blocked of 6`."""
    counts = board.counts()
    parts = [f"{counts[state]:,} {state}" for state in STATES if counts[state]]
    return f"{', '.join(parts) or 'nothing'} of {len(board.jobs):,}"


class Shown:
    """Tells a person what happens; made by `shown`."""

    def __init__(self, board: Board, live: Any = None) -> None:
        self._board, self._live = board, live
        self._drawn = self._said = time.monotonic()

    @property
    def is_live(self) -> bool:
        """Whether it is drawn on a terminal."""
        return self._live is not None

    def say(self, line: str) -> None:
        """One line that stays."""
        if self._live is None:
            log.info("%s", line)
        else:
            from rich.text import Text

            self._live.console.print(Text(line))

    def started(self, name: str) -> None:
        """A job begins."""
        if self._live is None:
            attempt = self._board.attempt(name)
            again = " again" if attempt is not None else ""
            self.say(f"{self._place()} {printable(name)} starts{again}")

    def ended(self, name: str, *, code: int) -> None:
        """The worker of a job ended."""
        state, attempt = self._board.states[name], self._board.attempt(name)
        name_shown, spent = printable(name), duration(attempt.seconds if attempt else 0.0)
        if state == "done":
            if self._live is None:
                self.say(f"{self._place()} {name_shown} done in {spent}")
        elif state == "failed":
            first = self._board.reason(name).partition("\n")[0]
            log_path = job_file(self._board.plan.out, name, ".log")
            self.say(
                f"{self._place()} {name_shown} failed after {spent}: {first} (log: {log_path})"
            )
        elif state == "running":
            self.say(f"{self._place()} {name_shown}: its worker died, its command goes on")
        else:
            self.say(f"{self._place()} {name_shown} was interrupted (exit code {code})")

    def tick(self) -> None:
        """Called often: draws again, or says how far the running jobs are, when it is time."""
        now = time.monotonic()
        if self._live is not None:
            if now - self._drawn >= _REDRAW_SECONDS:
                self._drawn = now
                self._live.update(drawn(table(self._board)))
        elif now - self._said >= plain_interval():
            self._said = now
            for name in self._board.named("running"):
                log.info("%s", " ".join(_running(self._board, name)).strip())

    def _place(self) -> str:
        done = len(self._board.named("done"))
        return f"[{done}/{len(self._board.jobs)}]"


@contextmanager
def shown(board: Board) -> Iterator[Shown]:
    """Show a suite inside the block: a live table on a terminal, else plain lines."""
    if not sys.stderr.isatty():
        yield Shown(board)
        return
    from rich.console import Console
    from rich.live import Live

    terminal = Console(stderr=True)
    first = drawn(table(board))
    with Live(first, console=terminal, transient=True, auto_refresh=False) as live:
        yield Shown(board, _Refreshing(live))


class _Refreshing:
    """A live table that is drawn when it is given another content, and at no other time."""

    def __init__(self, live: Any) -> None:
        self._live, self.console = live, live.console

    def update(self, content: Any) -> None:
        self._live.update(content, refresh=True)


def drawn(lines: list[str]) -> Any:
    """Lines for `rich`: cut at the edge of the terminal, and taken as text, never as markup."""
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def _totals(board: Board) -> str:
    return f"{one_line(board)} jobs in {printable(str(board.plan.out))}"


def _by_kind(board: Board) -> dict[str, str]:
    """Kind → `3 of 4 done, 1 running`."""
    counted: dict[str, dict[State, int]] = {}
    for job in board.plan.jobs:
        of_kind = counted.setdefault(job.kind, dict.fromkeys(STATES, 0))
        of_kind[board.states[job.name]] += 1
    said = {}
    for kind, counts in counted.items():
        others = [f"{counts[state]:,} {state}" for state in STATES[1:] if counts[state]]
        total = sum(counts.values())
        said[kind] = ", ".join([f"{counts['done']:,} of {total:,} done", *others])
    return said


def _running(board: Board, name: str) -> list[str]:
    out = board.plan.out
    attempt = read_attempt(out, name)  # its worker writes it meanwhile
    elapsed = ""
    if attempt is not None and attempt.started:
        since = datetime.now().astimezone() - datetime.fromisoformat(attempt.started)
        elapsed = f"  {duration(since.total_seconds())}"
    said = last_line(job_file(out, name, ".log"))
    return [f"  {printable(name)}{elapsed}  {said or 'starting'}"]


def _failed(board: Board, name: str) -> list[str]:
    first, *rest = board.reason(name).splitlines() or [""]
    lines = [f"  {printable(name)}  {first}", *(f"    {line.strip()}" for line in rest)]
    return [*lines, f"    log: {printable(str(job_file(board.plan.out, name, '.log')))}"]


def _blocked(board: Board, name: str) -> list[str]:
    return [f"  {printable(name)}  {board.reason(name)}"]


def _name(_: Board, name: str) -> list[str]:
    return [f"  {printable(name)}"]


_LISTS: tuple[tuple[str, State, Callable[[Board, str], list[str]]], ...] = (
    ("running", "running", _running),
    ("failed", "failed", _failed),
    ("blocked", "blocked", _blocked),
    ("next", "ready", _name),
)
