"""What the families of tasks and the program that runs them say to each other.

Each family is a module with two functions, and nothing else knows what they do:

    settings(name, model, request) -> dict      everything that the result depends on
    measure(name, model, request, settings) -> Measurement

`settings` is cheap and names the record; what is finished is not measured again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ettin.console import log
from ettin.errors import InputError
from ettin.files import Json
from ettin.records import Score


class Inapplicable(InputError):  # noqa: N818 - it names an outcome
    """A task cannot be made of these data, such as telling folders apart where there is one.

    Beside other tasks that is left out and said; it is an error where nothing else was asked for.
    """


@dataclass(frozen=True)
class Task:
    """One task of a family, such as `classification/sst2`.

    Attributes:
        family: `lm`, `classification`, `retrieval`, `bias`, `text` or `quick`.
        name: of the task in it.
        path: the folder or corpus that was given for it (`retrieval=PATH`), if any.
    """

    family: str
    name: str
    path: Path | None = None

    @property
    def full_name(self) -> str:
        """`family/name`."""
        return f"{self.family}/{self.name}"


@dataclass(frozen=True)
class Request:
    """How tasks are to be measured.

    Attributes:
        data: a folder with data of several tasks, or a corpus.
        path: data of this task alone, when it was given with the task; wins over `data`.
        offline: nothing may be fetched.
        limit: at most so many examples of a task; None for all.
        seed: of what is random in the task.
        mode: how encoders score likelihoods: `ettin`, `pll` or `pll_within_word`.
        preset: how much is tried in fine-tuning: `quick` or `published`.
        pooling: of fine-tuned models; None for the kind's own.
        batch_tokens: tokens of one forward pass, padding included.
        device: `cpu`, `cuda`, `mps`.
        out: the results directory.
        advance: to be told how much of the task is done (0 to 1), and a few words.
    """

    data: Path | None
    offline: bool
    limit: int | None
    seed: int | None
    mode: str
    preset: str
    pooling: str | None
    batch_tokens: int
    device: str
    out: Path
    path: Path | None = None
    advance: Callable[[float, str], None] = field(default=lambda _share, _note: None)


@dataclass(frozen=True)
class Measurement:
    """What a family found out.

    Attributes:
        metric: the name of the main metric, one of `metrics`.
        metrics: all of them.
        baselines: the main metric of simple methods on the same examples.
        examples: how many examples were measured.
        data: revision or fingerprint of the data.
        version: of the task.
        facts: what was found out on the way and belongs into the settings' company, such as the
            learning rate that a sweep picked; becomes `settings["found"]` of the record.
        packages: distributions whose versions matter.
        samples: one object an example, for `--log-samples`.
    """

    metric: str
    metrics: dict[str, Score]
    examples: int
    data: str
    version: str
    baselines: dict[str, float] = field(default_factory=dict)
    facts: Json = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    samples: list[Json] = field(default_factory=list)


def halving(size: int, run: Callable[[int], Any]) -> Any:
    """`run(size)`; when memory runs out, once more with half of it, and so on, saying so.

    Args:
        size: how much is computed at once, in the caller's unit.
        run: computes with a size.

    Raises:
        InputError: not even 1 fits.
    """
    while True:
        try:
            return run(size)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if size <= 1:
                raise InputError("out of memory with the smallest batch there is") from error
        size //= 2
        log.warning("out of memory; going on with half the batch: %d", size)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
