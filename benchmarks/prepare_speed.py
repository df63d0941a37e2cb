"""How fast text becomes a corpus, against `tokenizers.encode_batch` alone on the same text.

    python -m benchmarks.prepare_speed --text PATH… [--cores 2] [--encoder auto] [--repeats 5]

In turns, each in a process of its own that may use the same cores:

    raw        the documents are in memory; encode_batch turns them into ids, which are forgotten
    raw fast   the same by encode_batch_fast, which keeps no offsets (`Tokenizer.encode` uses it)
    prepare    the whole of `ettin prepare`: start, read, tokenise, write, lay out rows, finish

Raw is timed inside its process, without the start; it gets about 16 million characters a call, so
that the objects it makes fit into memory. Seconds are told twice: by the clock, and of the
processor, which other work on the same machine disturbs less. Memory is the largest that any
process of a contender had, watched in /proc.
"""

import argparse
import datetime
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.result_files import commit, hardware, spread
from ettin import files
from ettin.console import log, set_up_logging
from ettin.data.reading.sources import Source, Tally, read_documents
from ettin.files import Json
from ettin.tokenizer import load_tokenizer

ROOT = Path(__file__).parent.parent
NAME = "prepare-speed"
RAW, RAW_FAST, PREPARE = "raw", "raw fast", "prepare"
CALL_CHARACTERS = 1 << 24
LOOKED_EVERY_SECONDS = 0.02


def main() -> None:
    """Measure, print the table and write the file; or be the process that is measured."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("--text", type=Path, nargs="+", required=True)
    asked.add_argument("--tokenizer", type=Path, help="else one is trained on the text")
    asked.add_argument("--vocab-size", type=int, default=8192)
    asked.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    asked.add_argument("--encoder", help="passed to `ettin prepare`")
    asked.add_argument("--repeats", type=int, default=5)
    asked.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    asked.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    asked.add_argument("--be", choices=(RAW, RAW_FAST), help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.be:
        print(json.dumps(encode_in_memory(given.text, given.tokenizer, fast=given.be == RAW_FAST)))
        return
    set_up_logging()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        results = measure(folder, given)
    finally:
        shutil.rmtree(folder)
    path = given.out / f"{results['date']}-{results['hardware']['slug']}-{NAME}.json"
    files.write_json(path, results)
    print(f"{table(results)}\n\n{path}")


def measure(folder: Path, given: argparse.Namespace) -> Json:
    """Time all three in turns; everything for the result file."""
    tokenizer = given.tokenizer or folder / "tokenizer"
    if given.tokenizer is None:
        size = str(given.vocab_size)
        run([*_ettin(), "tokenizer", "train", "--vocab-size", size, "--out", str(tokenizer),
             "--text", *map(str, given.text)], cores=given.cores)  # fmt: skip
    texts = [str(path.absolute()) for path in given.text]
    again = [sys.executable, "-m", "benchmarks.prepare_speed", "--tokenizer", str(tokenizer)]
    whole = [*_ettin(), "prepare", "--json", "--tokenizer", str(tokenizer)]
    for path in texts:
        whole += ["--text", path]
    for option, value in (("--workers", given.cores), ("--encoder", given.encoder)):
        if value is not None and option in _help_of_prepare():
            whole += [option, str(value)]
    commands = {
        RAW: [*again, "--be", RAW, "--text", *texts],
        RAW_FAST: [*again, "--be", RAW_FAST, "--text", *texts],
        PREPARE: [*whole, "--out", str(folder / "corpus")],
    }
    repeats: list[dict[str, Json]] = []
    for number in range(given.repeats):
        turn = {}
        # Who comes first changes: a drift of the machine's speed favours nobody.
        for name in list(commands)[number % 3 :] + list(commands)[: number % 3]:
            turn[name] = run(commands[name], cores=given.cores)
            shutil.rmtree(folder / "corpus", ignore_errors=True)
            log.info("%s: %.2f s", name, _work(turn[name])["seconds"])
        if len({turn[name]["printed"]["tokens"] for name in turn}) > 1:
            raise AssertionError(f"not the same work: {turn}")
        repeats.append(turn)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(ROOT),
        "hardware": hardware(),
        "settings": {
            "cores": given.cores,
            "vocabulary": load_tokenizer(tokenizer).size,
            "text": [path.name for path in given.text],
            "prepare": [word for word in whole if word not in texts and word != str(tokenizer)][1:],
            "versions": files.versions("tokenizers", "pyarrow", "numpy"),
        },
        "text": {key: repeats[0][RAW]["printed"][key] for key in ("documents", "bytes", "tokens")},
        "summary": summarise(repeats),
        "repeats": repeats,
        "load_average": os.getloadavg(),
    }


def encode_in_memory(texts: list[Path], tokenizer: Path, *, fast: bool) -> Json:
    """The raw contender: read everything, then time the library's call alone."""
    source = Source("text", tuple(texts))
    batches: list[list[str]] = [[]]
    size = characters = 0
    for document in read_documents(source, tally=Tally()):
        size += len(document.text.encode())
        characters += len(document.text)
        batches[-1].append(document.text)
        if characters >= CALL_CHARACTERS:
            batches.append([])
            characters = 0
    loaded = load_tokenizer(tokenizer)
    encode = loaded.backend.encode_batch_fast if fast else loaded.backend.encode_batch
    started, used = time.perf_counter(), time.process_time()
    tokens = 0
    for batch in batches:
        tokens += sum(len(each) for each in encode(batch, add_special_tokens=False))
    return {
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - used,
        "documents": sum(map(len, batches)),
        "bytes": size,
        "tokens": tokens,
    }


def run(command: list[str], *, cores: int) -> Json:
    """Run a command on the first cores; what it printed, seconds, and the memory it took.

    Raises:
        RuntimeError: it failed.
    """
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    started, used = time.perf_counter(), _processor_seconds_of_children()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "RAYON_NUM_THREADS": str(cores), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )
    peaks: dict[int, int] = {}
    watching = threading.Thread(target=_watch, args=(process, peaks))
    watching.start()
    printed, _ = process.communicate()
    seconds = time.perf_counter() - started
    watching.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "seconds": seconds,
        "processor_seconds": _processor_seconds_of_children() - used,
        "printed": _told(printed),
        "processes": len(peaks),
        "largest_process_MB": max(peaks.values(), default=0) / 1024,
    }


def _told(printed: bytes) -> Json:
    """The numbers of what a command printed, without its folders."""
    if not printed.startswith(b"{"):
        return {}
    return {key: value for key, value in json.loads(printed).items() if type(value) in (int, float)}


def _watch(process: subprocess.Popen[bytes], peaks: dict[int, int]) -> None:
    """The highest resident memory, in KiB, of a process and all below it."""
    while process.poll() is None:
        for number in _family(process.pid):
            status = Path(f"/proc/{number}/status")
            try:
                lines = status.read_text().splitlines()
            except OSError:  # it has just ended
                continue
            for line in lines:
                if line.startswith("VmHWM:"):
                    peaks[number] = max(peaks.get(number, 0), int(line.split()[1]))
        time.sleep(LOOKED_EVERY_SECONDS)


def _family(number: int) -> Iterator[int]:
    yield number
    for children in Path(f"/proc/{number}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:
            continue
        for child in found:
            yield from _family(int(child))


def summarise(repeats: list[dict[str, Json]]) -> Json:
    """Bytes a second of each, prepare's share of both raw rates in the same turn, and memory."""
    summary: dict[str, Any] = {}
    size = repeats[0][RAW]["printed"]["bytes"]
    for name in (RAW, RAW_FAST, PREPARE):
        runs = [turn[name] for turn in repeats]
        summary[name] = {
            "MB_per_second": spread([size / 1e6 / _work(each)["seconds"] for each in runs]),
            "MB_per_processor_second": spread(
                [size / 1e6 / _work(each)["processor_seconds"] for each in runs]
            ),
            "largest_process_MB": max(each["largest_process_MB"] for each in runs),
            "processes": max(each["processes"] for each in runs),
        }
    for name in (RAW, RAW_FAST):
        for clock in ("seconds", "processor_seconds"):
            summary[f"prepare_of_{name.replace(' ', '_')}_by_{clock}"] = spread(
                [_work(turn[name])[clock] / _work(turn[PREPARE])[clock] for turn in repeats]
            )
    return summary


def table(results: Json) -> str:
    """The result as text; medians, [lowest – highest]."""
    summary, text = results["summary"], results["text"]
    lines = [
        f"{text['bytes'] / 1e6:,.1f} MB in {text['documents']:,} documents, {text['tokens']:,} "
        f"tokens of {results['settings']['vocabulary']:,}, {results['settings']['cores']} cores"
    ]
    for name in (RAW, RAW_FAST, PREPARE):
        rate = summary[name]["MB_per_second"]
        lines.append(
            f"{name:>9}  {rate['median']:7.2f} MB/s [{rate['lowest']:.2f} – {rate['highest']:.2f}]"
            f"  {summary[name]['MB_per_processor_second']['median']:6.2f} MB a processor second"
            f"  {summary[name]['largest_process_MB']:6,.0f} MB in the largest of "
            f"{summary[name]['processes']} processes"
        )
    for name, share in summary.items():
        if name.startswith("prepare_of"):
            lines.append(
                f"{name.replace('_', ' '):>40}  {share['median']:.0%} "
                f"[{share['lowest']:.0%} – {share['highest']:.0%}]"
            )
    return "\n".join(lines)


def _work(run_of: Json) -> Json:
    """The times of encoding alone where a contender gives them, else of the whole process."""
    printed: Json = run_of["printed"]
    return printed if "processor_seconds" in printed else run_of


def _processor_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _ettin() -> list[str]:
    return [sys.executable, "-m", "ettin"]


def _help_of_prepare() -> str:
    command = [*_ettin(), "prepare", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
