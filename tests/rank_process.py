"""`python -m tests.rank_process [WORD …] -- train …`: the command, with something done to it.

float64      the run computes in float64, where rounding hides nothing
signal=1@9   rank 1 gets a SIGTERM in step 9
fail=1@9     rank 1 meets an error of ours in step 9
small=1      rank 1 cannot write files beyond 20,000 bytes
other=1      rank 1 is given another seed
"""

import os
import resource
import signal
import sys

import torch

from ettin.cli import main
from ettin.training import trainer
from ettin.training.setup import Setup
from ettin.training.step import Step

LARGEST_BYTES = 20_000


def happen(what: str, step: int) -> None:
    """Let it happen in a step of this rank."""
    real = trainer._optimise

    def optimise(setup: Setup, step_now: Step, *, learning_rate: float) -> tuple[float, float]:
        if step_now.number == step and what == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if step_now.number == step and what == "fail":
            raise RuntimeError("a defect")
        return real(setup, step_now, learning_rate=learning_rate)

    setattr(trainer, "_optimise", optimise)  # noqa: B010 - a function is replaced, knowingly


def obey(word: str) -> None:
    """Do what one of the words above says."""
    what, _, where = word.partition("=")
    rank, _, step = where.partition("@")
    if what == "float64":
        torch.set_default_dtype(torch.float64)
    elif rank == os.environ["RANK"] and what == "small":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_BYTES, LARGEST_BYTES))
    elif rank == os.environ["RANK"] and what == "other":
        sys.argv.append("seed=22")
    elif rank == os.environ["RANK"]:
        happen(what, int(step))


if __name__ == "__main__":
    border = sys.argv.index("--")
    words = sys.argv[1:border]
    sys.argv = ["ettin", *sys.argv[border + 1 :]]
    for each in words:
        obey(each)
    main()
