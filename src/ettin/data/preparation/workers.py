"""Processes that make parts: as many as asked for, each ending with its parent.

    make_parts(parts, workshop, workers=4, shown=progress)

With one worker, or one part, all happens in this process, and the tokenizer uses every core.
Otherwise each worker is a fresh process at the other end of a pipe: it is sent a part, tells how
far it is, and says that it is done or why not. When the parent is killed the pipe breaks and the
worker ends; when a worker is killed, the parent says so and ends the others. Nothing else is
shared: no memory, no queue, no lock.
"""

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import NamedTuple

from ettin.console import Progress
from ettin.data.preparation.parts import Part
from ettin.data.preparation.working import PartMaker, Workshop, is_made
from ettin.data.reading.remote_files import SourceUnavailableError
from ettin.errors import InputError, NoSpaceError, StoppedError

_GOODBYE_SECONDS = 5.0


class Said(NamedTuple):
    """What a worker tells its parent.

    Attributes:
        identity: of the part that it is about.
        bytes_read: so far; all of it when `done`.
        done: whether the part is finished.
        error: what ended it.
        trace: where, of an error that is a defect of ours.
    """

    identity: str
    bytes_read: int
    done: bool = False
    error: Exception | None = None
    trace: str = ""


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make_parts(parts: list[Part], workshop: Workshop, *, workers: int, shown: Progress) -> None:
    """Make all parts that are not there yet.

    Args:
        parts: what to make.
        workshop: what all makers share.
        workers: processes to make them with, at least 1.
        shown: is told the bytes read, those of finished parts included.

    Raises:
        InputError: a defect of the text that ends the work.
        NoSpaceError: the disk is full.
        RuntimeError: a worker died.
        StoppedError: a worker was stopped by a signal of its own.
    """
    waiting = deque(part for part in parts if not is_made(workshop.folder, part))
    counter = _Counter(parts, waiting, shown)
    if not waiting:
        return
    if min(workers, len(waiting)) > 1:
        _Team(workshop, min(workers, len(waiting))).work(waiting, counter)
        return
    maker = PartMaker(workshop)
    for part in waiting:
        maker.make(part, lambda read, name=part.identity: counter.note(name, read))  # type: ignore[misc]
        counter.note(part.identity, part.size)


class _Counter:
    """Adds up what is read, over all parts."""

    def __init__(self, parts: list[Part], waiting: deque[Part], shown: Progress) -> None:
        open_parts = {part.identity for part in waiting}
        self._read = {p.identity: 0 if p.identity in open_parts else p.size for p in parts}
        self._shown = shown
        shown.begin_at(sum(self._read.values()))

    def note(self, identity: str, bytes_read: int) -> None:
        self._read[identity] = bytes_read
        self._shown.update(sum(self._read.values()))


class _Team:
    """Worker processes with the parts that they are at."""

    def __init__(self, workshop: Workshop, size: int) -> None:
        # A fresh interpreter, not a copy of this one: threads and locks do not survive a fork.
        context = multiprocessing.get_context("spawn")
        threads = max(1, available_cores() // size)
        self._workshop = workshop
        self._members: dict[Connection, tuple[BaseProcess, Part | None]] = {}
        # Ctrl-C reaches every process of a terminal; the parent decides what it means. Blocked
        # while they are made, it stays blocked in them: also before they run code of ours.
        # Only the first start of all lets it through again, for a process of Python's own.
        resource_tracker.ensure_running()
        with _blocked(signal.SIGINT):
            for _ in range(size):
                ours, theirs = context.Pipe()
                # The workshop comes later: a process that died here would leave `start` waiting
                # for somebody to read it.
                process = context.Process(target=_serve, args=(theirs, threads), daemon=True)
                process.start()
                theirs.close()
                self._members[ours] = (process, None)

    def work(self, waiting: deque[Part], counter: _Counter) -> None:
        """Have all parts made; ends the processes, whatever happens."""
        place = {part.identity: number for number, part in enumerate(waiting)}
        refused: tuple[int, Exception] | None = None
        try:
            while self._members:
                for ready in wait(list(self._members)):
                    assert isinstance(ready, Connection)
                    said = self._hear(ready)
                    if said is None:
                        self._welcome(ready)
                    else:
                        counter.note(said.identity, said.bytes_read)
                    if said and said.error:
                        # Parts before this one may hold an earlier defect, and have all begun.
                        number = place[said.identity]
                        if refused is None or number < refused[0]:
                            refused = (number, said.error)
                        waiting.clear()
                    if said is None or said.done or said.error:
                        self._give(ready, waiting)
                at_work = (part for _, part in self._members.values() if part)
                if refused and all(place[part.identity] > refused[0] for part in at_work):
                    raise refused[1]
        finally:
            for process, _ in self._members.values():
                process.terminate()
            for process, _ in self._members.values():
                process.join(_GOODBYE_SECONDS)

    def _welcome(self, member: Connection) -> None:
        """Send a worker that has started what it needs to know."""
        with contextlib.suppress(ConnectionError):  # it has died: `_hear` will tell
            member.send(self._workshop)

    def _give(self, member: Connection, waiting: deque[Part]) -> None:
        """Send the next part, or send the worker home."""
        process, _ = self._members[member]
        if waiting:
            part = waiting.popleft()
            self._members[member] = (process, part)
            with contextlib.suppress(ConnectionError):
                member.send(part)
        else:
            member.close()
            del self._members[member]
            process.join(_GOODBYE_SECONDS)

    def _hear(self, member: Connection) -> Said | None:
        """What a worker says; None of one that has just started.

        Raises:
            RuntimeError: it died, or met a defect of ours.
        """
        try:
            said = member.recv()
        except (EOFError, ConnectionError):
            process, part = self._members[member]
            process.join(_GOODBYE_SECONDS)
            raise _death(process.exitcode, part) from None
        assert said is None or isinstance(said, Said)
        if said and said.trace:
            raise RuntimeError(said.trace)
        if said and said.error and not isinstance(said.error, InputError):
            raise said.error
        return said


def _death(code: int | None, part: Part | None) -> Exception:
    """What to raise when a worker has ended."""
    if code in (-signal.SIGTERM, -signal.SIGINT):  # a cluster signals each process by itself
        return StoppedError(
            "a worker process was stopped; finished parts are kept: the same command goes on"
        )
    if part is None and code == 1:
        return RuntimeError(
            "a worker process ended before it began; a script that asks for several workers needs "
            'the guard `if __name__ == "__main__":` around what it does'
        )
    memory = " (out of memory?)" if code == -signal.SIGKILL else ""
    when = f"while it prepared {part.pieces[0].file.relative}" if part else "before it began"
    return RuntimeError(
        f"a worker process ended with {code}{memory} {when}; finished parts are kept: the same "
        "command goes on, and --workers N takes fewer processes"
    )


@contextlib.contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Keep a signal from this thread, and for good from processes that are started meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(parent: Connection, threads: int) -> None:
    """The life of a worker: parts come, and go out made, until the pipe is closed."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    with contextlib.suppress(EOFError, ConnectionError):
        parent.send(None)
        maker = PartMaker(parent.recv())
        while True:
            part: Part = parent.recv()
            parent.send(_made(maker, part, parent))


def _made(maker: PartMaker, part: Part, parent: Connection) -> Said:
    try:
        maker.make(part, lambda read: parent.send(Said(part.identity, read)))
    except ConnectionError:
        raise
    except (InputError, NoSpaceError, SourceUnavailableError) as error:
        return Said(part.identity, 0, error=error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it and ends
        return Said(part.identity, 0, error=RuntimeError(str(error)), trace=traceback.format_exc())
    return Said(part.identity, part.size, done=True)


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `StoppedError`; outside the main thread they stay as they are.

    Raises:
        StoppedError: one came; finished parts are kept.
    """

    def stop(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        raise StoppedError(f"stopped by {name}; finished parts are kept: the same command goes on")

    before = {}
    with contextlib.suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
