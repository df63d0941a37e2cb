"""How soon and with how much memory we load: `python -m benchmarks.loaders.at_scale CORPUS PLACE`.

PLACE is a part of the phase, 0 to 1: the first batch is the one that stands there, keys included.
One fresh process a place, one JSON object. Memory is what is private to the process (anonymous
pages), not the pages of mapped files, which the system keeps for everybody and gives back when it
wants to; `before` is that of the imports alone.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

BATCHES = 4000
MICRO_BATCH_ROWS = 8
STEP_ROWS = 4608
LOOK_EVERY_BATCHES = 200


def main() -> None:
    """Load, and print what it took."""
    started = time.perf_counter()
    import torch

    from ettin.data.batches import training_reader
    from ettin.data.corpus import Corpus
    from ettin.data.order import make_order

    torch.set_num_threads(1)
    imported, before = time.perf_counter(), private_bytes()
    corpus = Corpus.open(Path(sys.argv[1]))
    context_length = corpus.facts["context_lengths"][0]
    opened, opened_processor = time.perf_counter(), time.process_time()
    rows = {name: len(corpus.table(name, context_length)) for name in corpus.source_names}
    order = make_order(seed=0, phase="pretraining", rows=rows, mixture={})
    reader = training_reader(corpus, order, phase=order.phase, context_length=context_length)
    position = int(float(sys.argv[2]) * (sum(rows.values()) - MICRO_BATCH_ROWS))
    first = reader.stream(order.rows(position, MICRO_BATCH_ROWS))
    loaded, loaded_processor = time.perf_counter(), time.process_time()
    memory = [private_bytes()]
    tokens = count = 0
    at = position
    while count < BATCHES:
        for stream in reader.streams(order.rows(at, STEP_ROWS), size=MICRO_BATCH_ROWS):
            tokens += stream.text_tokens
            count += 1
            if count % LOOK_EVERY_BATCHES == 0:
                memory.append(private_bytes())
        at += STEP_ROWS
    started_step = time.perf_counter()
    list(reader.streams(order.rows(position, STEP_ROWS), size=MICRO_BATCH_ROWS))
    first_step = time.perf_counter() - started_step
    result: dict[str, Any] = {
        "rows": sum(rows.values()),
        "first_batch_tokens": first.text_tokens,
        "import_seconds": imported - started,
        "open_seconds": opened - imported,
        "first_batch_seconds": loaded - opened,
        "first_batch_processor_seconds": loaded_processor - opened_processor,
        "step_seconds": first_step,
        "batches": count,
        "tokens": tokens,
        "private_bytes_before": before,
        "private_bytes_after_first_batch": memory[0],
        "private_bytes_at_most": max(memory),
    }
    print(json.dumps(result))


def private_bytes() -> int:
    """Anonymous memory of this process, in bytes."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("smaps_rollup has no line on anonymous memory")


if __name__ == "__main__":
    main()
