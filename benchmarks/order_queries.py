"""How fast a run can be asked what it had seen, on a made-up corpus of a billion tokens.

    python -m benchmarks.order_queries [--tokens 1B] [--folder /tmp/somewhere]

Documents of made-up sizes and ids are laid out in rows as `prepare` does; their tokens are holes in
sparse files, since no query reads them. Measured in one process, one thread: opening, `show` over
everything and over one interval, and `find` for random documents.
"""

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow
import yaml

from benchmarks.result_files import keep_result
from ettin import files
from ettin.data.corpus import Corpus
from ettin.data.corpus_writing import SHARD_TOKENS, SourceWriter, write_rows
from ettin.data.documents import Documents
from ettin.data.phase_orders import fingerprint_of, order_of
from ettin.data.seen.find import Finder
from ettin.data.seen.runs import open_run
from ettin.data.seen.show import show_steps
from ettin.data.seen.slabs import Tables
from ettin.numbers import parse_count
from ettin.recipe_file import resolve
from ettin.schedules import clock, saved_steps, tag, total_steps

NAME = "order-queries"
CONTEXT_LENGTH = 1024
SHARES = {"web": 0.5, "books": 0.3, "code": 0.2}
MEDIAN_TOKENS = 500
ASKED = 300


def main() -> None:
    """Measure, print one JSON object, and keep it among the results."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("--tokens", type=parse_count, default=1_000_000_000)
    asked.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    given = asked.parse_args()
    pyarrow.set_cpu_count(1)
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        result = measure(make_run(folder, given.tokens))
    finally:
        shutil.rmtree(folder)
    path = keep_result(NAME, result, "numpy", "pyarrow")
    print(path.read_text())


def make_run(folder: Path, tokens: int) -> Path:
    """A corpus of about so many tokens, and a finished run through all of its rows."""
    sources, draw = {}, np.random.default_rng(0)
    for name, share in SHARES.items():
        sizes = draw.lognormal(np.log(MEDIAN_TOKENS), 1.0, int(tokens * share / MEDIAN_TOKENS))
        counts = np.maximum(1, sizes[: np.searchsorted(sizes.cumsum(), tokens * share)]).astype(int)
        sources[name] = _write_source(folder / "corpus" / name, name, counts)
    files.write_manifest(
        folder / "corpus",
        "corpus",
        command=[],
        made_from={},
        facts={
            "sources": sources,
            "context_lengths": [CONTEXT_LENGTH],
            "tokenizer": {"special": {"bos": 0, "eos": 1, "pad": 2, "mask": 3}, "padded_size": 512},
        },
    )
    rows = sum(each["rows"][str(CONTEXT_LENGTH)]["train"] for each in sources.values())
    phase = {
        "name": "pretraining",
        "tokens": rows * CONTEXT_LENGTH,
        "context_length": CONTEXT_LENGTH,
        "batch_rows": 512,
        "save_every_tokens": rows * CONTEXT_LENGTH // 100,
    }
    recipe = resolve({"size": "17m", "phases": [phase]})
    run = folder / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    corpus = Corpus.open(folder / "corpus")
    order = order_of(recipe, recipe.phases[0], corpus)
    files.write_json(
        run / "start.json",
        {
            "corpus": {"path": str(corpus.path), "fingerprint": corpus.fingerprint},
            "order": fingerprint_of([order]),
        },
    )
    tags = [tag(recipe.phases[0], step) for step in saved_steps(recipe.phases[0])]
    files.write_manifest(run, "run", command=[], made_from={}, facts={"checkpoints": tags})
    return run


def _write_source(
    folder: Path, name: str, counts: np.ndarray[Any, np.dtype[np.int64]]
) -> dict[str, Any]:
    nothing = np.zeros(SHARD_TOKENS, dtype=np.uint32)
    with SourceWriter(folder, padded_vocab_size=512) as writer:
        for number, count in enumerate(counts.tolist()):
            done = len(writer.shard_documents)
            writer.add(
                f"{name}/part-{number % 97:05d}/{number:09d}.txt", "made up", nothing[:count]
            )
            if len(writer.shard_documents) > done:
                _dig_holes(folder)
    _dig_holes(folder)
    documents = np.random.default_rng(1).permutation(len(counts))
    # Shard by shard, as `prepare` lays documents out.
    ends = np.cumsum(writer.shard_documents)
    documents = documents[np.argsort(np.searchsorted(ends, documents, "right"), kind="stable")]
    rows, row_tokens = write_rows(
        folder, documents, counts[documents], context_length=CONTEXT_LENGTH, packing="chunks",
        held_out=False,
    )  # fmt: skip
    assert len(Documents(folder, writer.shard_documents)) == len(counts)
    table = {"train": rows, "held_out": 0, "tokens": row_tokens}
    return {"shards": writer.shard_documents, "rows": {str(CONTEXT_LENGTH): table}}


def _dig_holes(folder: Path) -> None:
    """Give the room of the newest shard's zeros back, where the system can."""
    newest = max(folder.glob("tokens-*.arrow"))
    if shutil.which("fallocate"):
        subprocess.run(["fallocate", "--dig-holes", str(newest)], check=False)


def measure(path: Path) -> dict[str, Any]:
    """Processor seconds of opening and of each kind of question."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    run = open_run(path)
    opened = time.process_time() - started
    tables = Tables(run.corpus)
    started = time.process_time()
    first = run.checkpoints[0].step
    part = show_steps(run, after=first, until=run.checkpoints[1].step, limit=10, tables=tables)
    interval = time.process_time() - started
    started = time.process_time()
    whole = show_steps(run, after=0, until=run.last_step, limit=10, tables=tables)
    everything = time.process_time() - started
    phase = run.recipe.phases[0]
    nominal = clock(phase, total_steps(phase))
    finder = Finder(run)
    draw = np.random.default_rng(2).integers(0, len(tables.documents), ASKED)
    ids = tables.documents.ids(draw).to_pylist()
    times = []
    for each in ids:
        started = time.process_time()
        assert finder.find(each).sources
        times.append(1000 * (time.process_time() - started))
    return {
        "tokens": whole.tokens,
        "rows": whole.row_count,
        "documents": len(tables.documents),
        "open_seconds": opened,
        "show_interval_tokens": part.tokens,
        "show_interval_seconds": interval,
        "show_everything_seconds": everything,
        "show_tokens_per_second": nominal / everything,
        "find_first_ms": times[0],
        "find_second_ms": times[1],
        "find_median_ms": float(np.median(times[2:])),
        "find_mean_ms": float(np.mean(times[2:])),
        "find_most_ms": float(np.max(times[2:])),
        "memory_of_preparing_MB": before / 1024,
        "memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
