"""An end asked for from outside: SIGINT and SIGTERM are noted, and acted on between steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ettin.console import log


@contextmanager
def listening() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM; the second one leaves at once, as if nobody had listened.

    Yields:
        The numbers of the signals that came, growing.
    """
    caught: list[int] = []

    def catch(number: int, _: FrameType | None) -> None:
        caught.append(number)
        log.info(
            "%s: saving after this step; once more to leave at once", signal.Signals(number).name
        )
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
