"""Hashes of many files, by as many threads as there are cores; whoever is next looks into them.

    with Hasher(advance=progress.advance) as hasher:
        future = hasher.submit(path, "0123…", look=count_tokens)
        future.result()                # Hashed(equal=True, seen=…)

A file is looked into by the thread that has just hashed it, while its bytes are still in memory:
of a corpus that is larger than memory, every byte is read from the disk once.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import xxhash

_BLOCK_BYTES = 1 << 20
"""Read at a time; what fits the cache of a core is hashed about twice as fast."""
_MOST_THREADS = 16
Look = Callable[[Path], Any]


@dataclass(frozen=True)
class Hashed:
    """What came of a file.

    Attributes:
        equal: its hash is the expected one.
        seen: what `look` returned, or the error that it raised; None without it.
    """

    equal: bool
    seen: Any


class Hasher:
    """Threads that hash files; use it in a `with` block, whose end cancels what is not begun.

    Args:
        advance: told the bytes that were read, by one thread at a time.
    """

    def __init__(self, *, advance: Callable[[int], None]) -> None:
        self._advance, self._lock = advance, threading.Lock()
        self._ended = False
        self._pool = ThreadPoolExecutor(min(_cores(), _MOST_THREADS))
        self._own = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        self._pool.shutdown(cancel_futures=True)

    def submit(self, path: Path, expected: str, *, look: Look | None = None) -> Future[Hashed]:
        """Hash a file, and look into it if it is the expected one.

        Args:
            path: the file.
            expected: its xxh3_128 in hexadecimal.
            look: told the path; its errors are kept for whoever asks for what it saw.

        Returns:
            A future; it raises `OSError` where the file cannot be read.
        """
        return self._pool.submit(self._hashed, path, expected, look)

    def _hashed(self, path: Path, expected: str, look: Look | None) -> Hashed:
        if self._hash(path) != expected:
            return Hashed(equal=False, seen=None)
        try:
            return Hashed(equal=True, seen=look(path) if look else None)
        except Exception as error:  # noqa: BLE001 - the content is anyone's
            return Hashed(equal=True, seen=error)

    def _hash(self, path: Path) -> str:
        digest = xxhash.xxh3_128()
        if not hasattr(self._own, "block"):
            self._own.block = memoryview(bytearray(_BLOCK_BYTES))
        block = self._own.block
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                if self._ended:
                    break  # interrupted: nobody asks any more
                digest.update(block[:count])
                with self._lock:
                    self._advance(count)
        return digest.hexdigest()


def _cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
