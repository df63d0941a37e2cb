"""One contender in a process: `python -m benchmarks.loaders.worker MODULE FOLDER SETTING`.

It answers each line of standard input, a number of seconds, by loading for so long, with one line
of JSON: what it loaded, and the seconds of the clock and of the processor that this took. Before
the first it says its library's version, once a batch has been loaded and looked at.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks.loaders.packer import BATCH_TOKENS, Batch

LOOK_EVERY_BATCHES = 16


def main() -> None:
    """Serve until standard input ends."""
    module = import_module(f"benchmarks.loaders.{sys.argv[1]}")
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # some libraries print
    folder = Path(sys.argv[2])
    if hasattr(module, "write"):
        module.write(folder)
    batches = module.SETTINGS[sys.argv[3]](folder)
    check(next(batches))
    answers.write(json.dumps({"version": version(module.LIBRARY)}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(timed(batches, float(line))) + "\n")
    answers.flush()
    os._exit(0)  # threads of some libraries never end


def check(batch: Batch) -> None:
    """Fail unless a batch has the form that all have to have."""
    tokens, boundaries = batch
    assert (tokens.dtype, boundaries.dtype) == (torch.int64, torch.int32), batch
    assert boundaries[0] == 0, boundaries
    assert boundaries[-1] == len(tokens), (boundaries, len(tokens))
    assert (boundaries.diff() > 0).all(), boundaries
    assert BATCH_TOKENS * 3 // 4 < len(tokens) <= BATCH_TOKENS, len(tokens)


def timed(batches: Iterator[Batch], seconds: float) -> dict[str, Any]:
    """Take batches for so many seconds of the processor; what came."""
    tokens = chunks = count = 0
    wall, processor = time.perf_counter(), time.process_time()
    while (taken := time.process_time() - processor) < seconds:
        for _ in range(LOOK_EVERY_BATCHES):
            batch = next(batches)
            tokens += len(batch[0])
            chunks += len(batch[1]) - 1
        count += LOOK_EVERY_BATCHES
    return {
        "tokens": tokens,
        "chunks": chunks,
        "batches": count,
        "seconds": time.perf_counter() - wall,
        "processor_seconds": taken,
    }


if __name__ == "__main__":
    main()
