"""How fast rows become tensors, against other loaders on the same documents.

    python -m benchmarks.loader_speed [--tokens 100M] [--others VENV/bin/python] [--quick]

Everyone loads shuffled chunks of the same made-up documents (lognormal, 600 tokens on average) in
batches of at most 8 × 1,024 tokens, as int64 tokens and int32 boundaries, in one process with one
thread and a warm cache; see `loaders` for who does it how. Contenders wait in processes of their
own and load in turns, about a second of processor time each; a rate is tokens by the shorter of
clock and processor time, so that other work on the machine counts against nobody. Padding never
counts. MosaicML Streaming, Grain and litdata run in the Python of `--others`, where that has them.

Then, on sparse corpora of 10⁷ and 10⁹ tokens: how long it takes from an open corpus to the first
batch at the start, the middle and the end of a phase, and how much memory loading takes.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import order_queries
from benchmarks.loaders.made_up import write_formats
from benchmarks.result_files import commit, hardware, spread
from ettin import files
from ettin.files import Json
from ettin.numbers import parse_count

ROOT = Path(__file__).parent.parent
NAME = "loader-speed"
SETTINGS = {
    "ettin_rows": (
        "rows, steps of 4,608",
        "rows, steps of 512",
        "rows, steps of 512, in a thread",
        "rows and random keys",
    ),
    "numpy_memmap": ("memory map, permutation",),
    "litdata_items": (
        "StreamingDataset of bytes",
        "StreamingDataset of bytes, in windows",
        "StreamingDataset of arrays",
        "TokensLoader, boundaries from BOS",
    ),
    "grain_map": ("MapDataset, iterated", "MapDataset, indexed", "MapDataset, 512 at once"),
    "mosaicml": ("StreamingDataset, in process", "shard reader, permutation"),
}
"""By module of `loaders`, its settings; the first of all is what the others are compared with."""
OURS = ("ettin_rows", "numpy_memmap")
PLACES = {"start": 0.0, "middle": 0.5, "end": 1.0}
RUNS = 3
SCALES = {"10M": 10_000_000, "1B": 1_000_000_000}


@dataclass
class Contender:
    """A worker that waits for its turn.

    Attributes:
        module: of `loaders`.
        setting: one of its settings.
        process: the worker.
        errors: where its standard error goes.
        version: of its library; empty where it did not start.
        reason: why it did not start.
        turns: what each turn took.
    """

    module: str
    setting: str
    process: subprocess.Popen[str]
    errors: Path
    version: str = ""
    reason: str = ""
    turns: list[Json] | None = None

    def take_turn(self, seconds: float) -> Json:
        """Load for so many seconds of the processor."""
        assert self.process.stdin
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self._answer()

    def wait(self) -> None:
        """Until its first batch, or until it is clear that there will be none."""
        try:
            self.version = self._answer()["version"]
        except (json.JSONDecodeError, KeyError):
            self.process.communicate()
            self.reason = _last_line(self.errors)

    def _answer(self) -> Json:
        assert self.process.stdout
        answer: Json = json.loads(self.process.stdout.readline())
        return answer


def main() -> None:
    """Measure, print tables, write the file."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("--tokens", type=parse_count, default=100_000_000)
    asked.add_argument("--quick", action="store_true", help="10M tokens, short turns, no 10⁹")
    asked.add_argument("--others", type=Path, help="a Python that has the other libraries")
    asked.add_argument("--repeats", type=int, default=9, help="turns of each")
    asked.add_argument("--folder", type=Path, help="where the documents go, and stay; temporary")
    asked.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    given = asked.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    date, machine = datetime.datetime.now(datetime.UTC).date().isoformat(), hardware()
    path = given.out / f"{date}-{machine['slug']}-{NAME}.json"
    results: Json = {
        "date": date,
        "hardware": machine,
        "commit": commit(ROOT),
        "versions": files.versions("torch", "numpy", "pyarrow"),
        "tokens": 10_000_000 if given.quick else given.tokens,
    }
    try:
        for part in measure(folder, given, tokens=results["tokens"]):
            results |= part
            files.write_json(path, results)
    finally:
        if not given.folder:
            shutil.rmtree(folder)
    print(f"{table(results)}\n\n{scale_table(results)}\n\n{path}")


def measure(folder: Path, given: argparse.Namespace, *, tokens: int) -> Iterator[Json]:
    """Write the documents, and measure both parts."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = folder / f"documents-{tokens}"
    documents.mkdir(exist_ok=True)
    _say(f"writing {tokens:,} tokens …")
    write_formats(documents, tokens)
    seconds = 0.2 if given.quick else 1.0
    load = os.getloadavg()
    yield {
        "load_average_before": load,
        "contenders": race(documents, others=given.others, repeats=given.repeats, seconds=seconds),
        "load_average_after": os.getloadavg(),
    }
    scales = {"10M": SCALES["10M"]} if given.quick else SCALES
    yield {"scale": list(at_scale(folder, scales))}


def race(
    folder: Path,
    *,
    others: Path | None,
    repeats: int,
    seconds: float,
    settings: Mapping[str, tuple[str, ...]] = SETTINGS,
) -> list[Json]:
    """Let all contenders load in turns.

    Args:
        folder: of `made_up`.
        others: the Python that has the other libraries.
        repeats: turns of each.
        seconds: of the processor, a turn.
        settings: who takes part.

    Returns:
        One entry a contender: its turns, its rate, and how many times as fast the first was, the
        median over rounds; or why it did not run.
    """
    contenders = []
    for module, names in settings.items():
        for setting in names:
            python = Path(sys.executable) if module in OURS else others
            if python is None:
                continue
            contender = _start(module, setting, folder=folder, python=python)
            contender.wait()  # one at a time, since the first of a library writes its files
            _say(f"{module}, {setting}: {contender.reason or contender.version}")
            contenders.append(contender)
    running = [each for each in contenders if not each.reason]
    for turn in range(-1, repeats):  # turn −1 warms up and is not counted
        _say(f"turn {turn + 1} of {repeats}")
        # Who comes first changes from turn to turn: a drift of the machine favours nobody.
        for each in running if turn % 2 else running[::-1]:
            taken = each.take_turn(seconds)
            each.turns = [*(each.turns or []), taken] if turn >= 0 else []
    for each in running:
        each.process.communicate()  # ends it, since its input ends
    first = [rate(taken) for taken in running[0].turns or []]
    return [_summary(each, first=first) for each in contenders]


def rate(turn: Json) -> float:
    """Tokens a second, by the shorter of clock and processor time."""
    shorter = min(turn["seconds"], turn["processor_seconds"])
    return float(turn["tokens"] / shorter)


def at_scale(folder: Path, scales: dict[str, int]) -> Iterator[Json]:
    """The first batch and the memory for sparse corpora of several sizes."""
    for name, tokens in scales.items():
        corpus = folder / f"sparse-{name}"
        if not (corpus / "run" / files.MANIFEST).exists():
            _say(f"laying out a sparse corpus of {name} tokens …")
            shutil.rmtree(corpus, ignore_errors=True)
            corpus.mkdir()
            order_queries.make_run(corpus, tokens)
        for place, part in PLACES.items():
            runs = [_load_at(corpus / "corpus", part) for _ in range(RUNS)]
            yield {"corpus": name, "place": place, "runs": runs}


def _load_at(corpus: Path, part: float) -> Json:
    words = [sys.executable, "-m", "benchmarks.loaders.at_scale", str(corpus), str(part)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    answer: Json = json.loads(done.stdout)
    return answer


def _start(module: str, setting: str, *, folder: Path, python: Path) -> Contender:
    errors = Path(tempfile.mkdtemp(dir=folder)) / "errors.txt"
    words = [str(python), "-m", "benchmarks.loaders.worker", module, str(folder), setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with errors.open("w") as file:
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
        )  # fmt: skip
    return Contender(module, setting, process, errors)


def _last_line(path: Path) -> str:
    lines = path.read_text().strip().splitlines()
    return lines[-1][:200] if lines else "ended without a word"


def _summary(contender: Contender, *, first: list[float]) -> Json:
    entry: dict[str, Any] = {"module": contender.module, "setting": contender.setting}
    if contender.reason:
        return {**entry, "reason": contender.reason}
    turns = contender.turns or []
    rates = [rate(turn) for turn in turns]
    return {
        **entry,
        "version": contender.version,
        "tokens_per_second": spread(rates),
        "first_is_faster": spread([ours / own for ours, own in zip(first, rates, strict=True)]),
        "batch_tokens": sum(t["tokens"] for t in turns) / sum(t["batches"] for t in turns),
        "turns": turns,
    }


def table(results: Json) -> str:
    """The contenders as a Markdown table: medians, and the lowest and highest turn."""
    lines = [
        "| loader | million tokens/s | ours is × as fast |",
        "|---|--:|--:|",
    ]
    for each in results["contenders"]:
        name = f"{each['module']}: {each['setting']}"
        if "reason" in each:
            lines.append(f"| {name} | did not run: {each['reason']} | |")
            continue
        rates = [each["tokens_per_second"][key] / 1e6 for key in ("median", "lowest", "highest")]
        ratio = [each["first_is_faster"][key] for key in ("median", "lowest", "highest")]
        lines.append(
            f"| {name} {each['version']} | {rates[0]:.1f} [{rates[1]:.1f} – {rates[2]:.1f}] "
            f"| {ratio[0]:.2f} [{ratio[1]:.2f} – {ratio[2]:.2f}] |"
        )
    return "\n".join(lines)


def scale_table(results: Json) -> str:
    """First batches and memory as a Markdown table; medians of the runs."""
    lines = [
        "| corpus | place | first batch, ms | of that processor | cold process, s | memory, MB |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for each in results.get("scale", []):
        runs = each["runs"]
        first = median(run["first_batch_seconds"] for run in runs)
        processor = median(run["first_batch_processor_seconds"] for run in runs)
        cold = median(
            run["import_seconds"] + run["open_seconds"] + run["first_batch_seconds"] for run in runs
        )
        memory = median(run["private_bytes_at_most"] - run["private_bytes_before"] for run in runs)
        lines.append(
            f"| {each['corpus']} | {each['place']} | {1000 * first:.0f} | {1000 * processor:.0f} "
            f"| {cold:.1f} | {memory / 1e6:.1f} |"
        )
    return "\n".join(lines)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
