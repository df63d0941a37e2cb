"""How fast text is searched for evaluation data, beside how fast it is tokenised.

    python -m benchmarks.decontamination_speed --evaluation lm_eval --text texts --tokenizer DIR

Processor seconds of one thread, the two in turns on the same batches of about a million characters;
the median of three rounds. Documents can be cut to a length, since short ones cost more.
"""

import argparse
import json
import os
import pickle
import resource
import statistics
import time
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

from benchmarks.result_files import commit, hardware
from ettin.data.clean.decontamination import Decontamination
from ettin.data.reading.sources import Source, Tally, read_documents
from ettin.tokenizer import load_tokenizer

ROOT = Path(__file__).parent.parent
BATCH_CHARACTERS = 1 << 20
ROUNDS = 3


def main() -> None:
    """Measure, and print one JSON object."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("--evaluation", type=Path, nargs="+", required=True)
    asked.add_argument("--text", type=Path, nargs="+", required=True)
    asked.add_argument("--tokenizer", required=True)
    asked.add_argument("--cut", type=int, help="cut documents into pieces of so many characters")
    given = asked.parse_args()
    started = time.process_time()
    sets = Decontamination.load(given.evaluation)
    loaded = time.process_time() - started
    batches = batches_of(given.text, given.cut)
    text_bytes = sum(len(text.encode()) for batch in batches for text in batch)
    tokenizer = load_tokenizer(given.tokenizer)
    kinds = {"search": sets.search, "tokenise": tokenizer.encode}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        spent = dict.fromkeys(kinds, 0.0)
        for batch in batches:
            for kind, function in kinds.items():
                started = time.process_time()
                function(batch)
                spent[kind] += time.process_time() - started
        for kind in kinds:
            seconds[kind].append(spent[kind])
    found = [matches for batch in batches for matches in sets.search(batch)]
    median = {kind: statistics.median(each) for kind, each in seconds.items()}
    result: dict[str, Any] = {
        "ngrams": sum(each.ngrams for each in sets.sets),
        "load_seconds": loaded,
        "sent_to_workers_MB": len(pickle.dumps(sets)) / 1e6,
        "text_MB": text_bytes / 1e6,
        "documents": len(found),
        "documents_found": sum(map(bool, found)),
        **{f"{kind}_MB_per_second": text_bytes / 1e6 / median[kind] for kind in kinds},
        "search_share_of_tokenising": median["search"] / median["tokenise"],
        "memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": seconds,
    }
    print(json.dumps({**result, "commit": commit(ROOT), "hardware": hardware()}, indent=2))


def batches_of(paths: list[Path], cut: int | None) -> list[list[str]]:
    """All text, in batches as `prepare` makes them."""
    batches: list[list[str]] = [[]]
    characters = 0
    for document in read_documents(Source("text", tuple(paths)), tally=Tally()):
        whole = len(document.text)
        for start in range(0, whole, cut or whole):
            piece = document.text[start : start + (cut or whole)]
            batches[-1].append(piece)
            characters += len(piece)
            if characters >= BATCH_CHARACTERS:
                batches.append([])
                characters = 0
    return [batch for batch in batches if batch]


if __name__ == "__main__":
    main()
