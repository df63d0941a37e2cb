"""The libraries behind retrieval: kept from talking into our progress, and from connecting."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

_TALKATIVE = ("mteb", "sentence_transformers", "transformers", "bm25s", "datasets", "accelerate")


def allow_hub(*, offline: bool) -> None:
    """Let the hub's library go on, unless it would connect though it must not.

    Raises:
        ConnectionError: offline was asked for, and the library does not know of it.
    """
    import huggingface_hub

    if offline and not huggingface_hub.is_offline_mode():
        raise ConnectionError("offline")


@contextlib.contextmanager
def quiet(*, bars: bool = True) -> Iterator[None]:
    """Keep remarks of the libraries out of our progress; errors still come through.

    Args:
        bars: whether they may draw bars; BM25 draws them whatever it is told, so without, all that
            is written to standard error meanwhile is dropped.
    """
    import datasets

    datasets.disable_progress_bars()
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if not bars:
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
