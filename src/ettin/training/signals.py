"""An end asked for from outside: SIGINT and SIGTERM are noted, and acted on between steps."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ettin.console import log

SIGNALS = (signal.SIGINT, signal.SIGTERM)

PASSED_ON_SECONDS = 5.0
"""A signal that is sent to every process of a job comes to those of `torchrun` once more from it;
within this time it is the same one."""


@contextmanager
def listening() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM; the second one leaves at once, as if nobody had listened.

    Yields:
        The numbers of the signals that came, growing.
    """
    caught: list[int] = []
    patience = PASSED_ON_SECONDS if "TORCHELASTIC_RUN_ID" in os.environ else 0.0
    came: dict[int, float] = {}

    def catch(number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if number not in came:
            caught.append(number)
            came[number] = now
            log.info(
                "%s: saving after this step; once more to leave at once",
                signal.Signals(number).name,
            )
        elif now - came[number] > patience:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if not patience:
            signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, catch) for number in SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
