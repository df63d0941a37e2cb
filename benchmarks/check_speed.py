"""How fast `ettin check` verifies a corpus, on made-up tokens, with all files in memory.

    python -m benchmarks.check_speed [--bytes 1e9] [--repeats 7] [--folder /tmp/somewhere]

A corpus of random ids is written as `prepare` writes one: shards, row tables, a tokenizer whose
special ids stand apart as published ones do. Then, in turns, so that what disturbs a shared machine
disturbs all alike:

    read        the files read from beginning to end by one thread, nothing else
    hash        the same, and xxh3_128 of them
    check       `ettin.check.check`, in this process: hashes and structure, all cores
    command     `ettin check PATH`, in a process of its own, from start to end

Every file was read just before: these are figures of a warm cache, not of a disk. Rates of a core
are of processor time, those of the wall clock of `check` and `command` are of all cores together.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import xxhash
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel

from benchmarks.result_files import keep_result, spread
from ettin import files
from ettin.check import check
from ettin.data.corpus_writing import SHARD_TOKENS, SourceWriter, write_rows
from ettin.data.documents import Documents
from ettin.files import Json
from ettin.numbers import parse_count
from ettin.tokenizer import SPECIAL_TOKENS, Tokenizer, describe, load_tokenizer

ROOT = Path(__file__).parent.parent
NAME = "check-speed"
CONTEXT_LENGTH = 1024
MEDIAN_TOKENS = 500
WORDS = 50_000
FIRST_SPECIAL = 40_000
"""Where the special ids stand: text has the ids below them and those above."""
HELD_OUT_EVERY = 100
BLOCK_BYTES = 1 << 20


def main() -> None:
    """Measure, print one JSON object, and keep it among the results."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("--bytes", type=parse_count, default=1_000_000_000)
    asked.add_argument("--repeats", type=int, default=7)
    asked.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    given = asked.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        corpus = make_corpus(folder / "corpus", given.bytes)
        measured = measure(corpus, repeats=given.repeats)
    finally:
        shutil.rmtree(folder)
    path = keep_result(NAME, measured, "numpy", "pyarrow", "xxhash")
    print(path.read_text())


def make_corpus(corpus: Path, size: int) -> Path:
    """A corpus of about so many bytes, of random ids in documents of random lengths."""
    words = [f"w{number}" for number in range(WORDS - len(SPECIAL_TOKENS))]
    words[FIRST_SPECIAL:FIRST_SPECIAL] = SPECIAL_TOKENS.values()
    backend = Backend(WordLevel({word: number for number, word in enumerate(words)}, "[PAD]"))
    Tokenizer(backend, SPECIAL_TOKENS).save(corpus / "tokenizer", closing=True)
    described = describe(load_tokenizer(corpus / "tokenizer"))
    ordinary = np.concatenate([np.arange(*each) for each in described["ordinary_ranges"]])
    source = _write_source(corpus / "text", ordinary.astype(np.uint32), size // 2)
    facts = {
        "tokenizer": described,
        "context_lengths": [CONTEXT_LENGTH],
        "packing": "chunks",
        "sources": {"text": source},
    }
    files.write_manifest(corpus, "corpus", command=[], made_from={}, facts=facts)
    return corpus


def _write_source(
    folder: Path, ordinary: np.ndarray[Any, np.dtype[np.uint32]], tokens: int
) -> Json:
    draw = np.random.default_rng(0)
    drawn = ordinary[draw.integers(0, len(ordinary), SHARD_TOKENS)]
    with SourceWriter(folder, padded_vocab_size=WORDS) as writer:
        written = number = 0
        while written < tokens:
            length = min(1 + int(draw.lognormal(np.log(MEDIAN_TOKENS), 1.0)), SHARD_TOKENS // 2)
            place = int(draw.integers(0, SHARD_TOKENS - length))
            name = f"part-{number % 97:05d}/{number:09d}.txt"
            writer.add(name, name, drawn[place : place + length])
            written, number = written + length, number + 1
    documents = Documents(folder, writer.shard_documents)
    counts = documents.token_counts
    kept_out = np.arange(len(counts)) % HELD_OUT_EVERY == 0
    made = []
    for held_out in (False, True):
        chosen = np.flatnonzero(kept_out == held_out)
        made.append(write_rows(
            folder, chosen, counts[chosen], context_length=CONTEXT_LENGTH, packing="chunks",
            held_out=held_out,
        ))  # fmt: skip
    (rows, row_tokens), (held_out_rows, _) = made
    table = {"train": rows, "held_out": held_out_rows, "tokens": row_tokens}
    return {
        "documents": len(counts),
        "tokens": int(counts.sum()),
        "shards": writer.shard_documents,
        "rows": {str(CONTEXT_LENGTH): table},
    }


def measure(corpus: Path, *, repeats: int) -> Json:
    """Rates of each way through the files, in MB/s; the first round warms and is not counted."""
    paths = sorted(path for path in corpus.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in paths)
    ways: dict[str, Callable[[], None]] = {
        "read": lambda: _pass(paths, hashed=False),
        "hash": lambda: _pass(paths, hashed=True),
        "check": lambda: _check(corpus),
        "command": lambda: _command(corpus),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    core: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            started, used = time.perf_counter(), _processor_seconds()
            way()
            if repeat:
                wall[name].append(size / (time.perf_counter() - started) / 1e6)
                core[name].append(size / (_processor_seconds() - used) / 1e6)
    return {
        "bytes": size,
        "files": len(paths),
        "repeats": repeats,
        "cache": "warm",
        "MB_per_second": {name: spread(wall[name]) for name in ways},
        "MB_per_second_of_a_core": {name: spread(core[name]) for name in ways},
    }


def _processor_seconds() -> float:
    """Of this process and of its children that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _pass(paths: list[Path], *, hashed: bool) -> None:
    """Read all files in blocks that stay in the cache of a core."""
    block = memoryview(bytearray(BLOCK_BYTES))
    for path in paths:
        digest = xxhash.xxh3_128()
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                if hashed:
                    digest.update(block[:count])


def _check(corpus: Path) -> None:
    problems = check(corpus)
    assert not problems, problems


def _command(corpus: Path) -> None:
    words = [sys.executable, "-m", "ettin", "check", str(corpus), "--json"]
    done = subprocess.run(words, capture_output=True, check=True)
    assert json.loads(done.stdout)["ok"]


if __name__ == "__main__":
    main()
