"""Is a corpus that was killed again and again the same as one that was left alone?

    python -m benchmarks.prepare_kills [--size 1B] [--kills 5] [--workers 2] [--folder /tmp/here]

Made-up English-like lines of JSON are prepared once without a break; then once more, and killed
with all processes (SIGKILL) at random moments spread over the work; each time the same command goes
on. Told: whether the two corpora are equal to the byte, how many parts were made twice, and what
the kills cost in time.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result_files import keep_result
from ettin import files
from ettin.numbers import parse_count

NAME = "prepare-kills"
ETTIN = (sys.executable, "-m", "ettin")
WORDS, DOCUMENT_WORDS, SEED = 50_000, 400, 0


def main() -> None:
    """Measure, print one JSON object, and keep it among the results."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("--size", type=parse_count, default=1_000_000_000, help="bytes of text")
    asked.add_argument("--kills", type=int, default=5)
    asked.add_argument("--workers", type=int, default=2)
    asked.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    given = asked.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        result = measure(folder, given.size, kills=given.kills, workers=given.workers)
    finally:
        shutil.rmtree(folder)
    path = keep_result(NAME, result, "tokenizers", "pyarrow")
    print(path.read_text())


def measure(folder: Path, size: int, *, kills: int, workers: int) -> dict[str, Any]:
    """Prepare twice, once with kills, and compare."""
    write_text(folder / "text", size)
    _ettin("tokenizer", "train", "--text", folder / "text/0.jsonl", "--vocab-size", 8192,
           "--out", folder / "tokenizer")  # fmt: skip
    words = ["prepare", "--text", folder / "text", "--tokenizer", folder / "tokenizer",
             "--workers", workers, "--encoder", "tokenizers", "--out"]  # fmt: skip
    started = time.monotonic()
    _ettin(*words, folder / "whole")
    whole = time.monotonic() - started
    started = time.monotonic()
    hit, again = _kill_again_and_again(words, folder / "killed", kills=kills)
    killed = time.monotonic() - started
    one, two = (files.read_manifest(folder / name) for name in ("whole", "killed"))
    return {
        "text_bytes": size,
        "tokens": one["facts"]["sources"]["text"]["tokens"],
        "workers": workers,
        "kills": hit,
        "equal": one["files"] == two["files"] and one["facts"] == two["facts"],
        "problems": files.verify(folder / "killed"),
        "parts": len(one["facts"]["sources"]["text"]["shards"]),
        "finished_parts_made_again": again,
        "uninterrupted_seconds": whole,
        "killed_seconds": killed,
    }


def write_text(folder: Path, size: int) -> None:
    """Files of lines with made-up words, as frequent as words are (Zipf), `size` bytes in all."""
    draw = np.random.default_rng(SEED)
    letters = np.array(list("etaoinshrdlucmfwygpbvk"))
    words = np.array(["".join(draw.choice(letters, draw.integers(1, 9))) for _ in range(WORDS)])
    often = 1 / np.arange(1, WORDS + 1)
    folder.mkdir()
    written = number = 0
    for file in range(4):
        with (folder / f"{file}.jsonl").open("w") as stream:
            while written < size * (file + 1) / 4:
                chosen = draw.choice(words, (500, DOCUMENT_WORDS), p=often / often.sum())
                for each in chosen.tolist():
                    number += 1
                    text = " ".join(each[: int(draw.integers(20, DOCUMENT_WORDS))]) + ".\n"
                    written += stream.write(json.dumps({"id": f"d{number}", "text": text}) + "\n")


def _kill_again_and_again(words: list[object], out: Path, *, kills: int) -> tuple[int, int]:
    """Prepare with kills in between.

    Returns:
        How often a kill hit work that was not done, and how many finished parts were made again.
    """
    draw = random.Random(SEED)
    parts = out.with_name(out.name + ".parts")
    hit = again = 0
    before: dict[str, int] = {}
    for _ in range(kills):
        process = _start(*words, out)
        # At a random moment while the next few parts are made.
        wanted = len(before) + 1 + draw.randrange(4)
        while process.poll() is None and len(_made(parts)) < wanted:
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 2))
        hit += process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        made = _made(parts)
        again += sum(made.get(name, inode) != inode for name, inode in before.items())
        before = made or before
    _ettin(*words, out)
    return hit, again


def _made(parts: Path) -> dict[str, int]:
    """Finished parts with what tells a file from one that was made anew."""
    return {path.parent.name: path.stat().st_ino for path in parts.glob("*/part.json")}


def _start(*words: object) -> "subprocess.Popen[bytes]":
    """A command in a group of processes of its own, silent."""
    silent = subprocess.DEVNULL
    return subprocess.Popen(
        [*ETTIN, *map(str, words)], start_new_session=True, stdout=silent, stderr=silent
    )


def _ettin(*words: object) -> None:
    process = _start(*words)
    if process.wait():
        raise RuntimeError(f"ettin {words[0]} ended with {process.returncode}")


if __name__ == "__main__":
    main()
