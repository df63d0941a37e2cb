"""How full rows get, how fast they are planned, and what each chunk rule costs in tokens.

    python -m benchmarks.packing_speed [--corpus DIR …] [--documents 200_000] [--repeats 5]

Takes the training documents of corpora as `ettin prepare` left them (their numbers of tokens and
their ids, nothing else), and of a made-up source whose documents are lognormally long. Their rows
are planned anew for 1,024 and 7,999 tokens under both chunk rules, in one thread.
"""

import argparse
import os
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from benchmarks.result_files import keep_result, spread
from ettin.data.chunking import ChunkRuleName, chunk_rule, skipped_tokens
from ettin.data.corpus import Corpus
from ettin.data.packing import RowBlock, hold_out, id_hash, plan_rows
from ettin.files import Json
from ettin.numbers import parse_count

ROOT = Path(__file__).parent.parent
NAME = "packing-speed"
CONTEXT_LENGTHS = (1024, 7999)
RULES: tuple[ChunkRuleName, ...] = ("ours", "published")
MEDIAN_TOKENS = 500
"""Of made-up documents; the mean is 1.65 times that."""
_CHUNKS_A_TIMING = 200_000


class Documents(NamedTuple):
    """The training documents of one source, in the order in which they are packed.

    Attributes:
        name: of the source.
        tokens: int64 [n].
        hashes: uint64 [n], of their ids.
    """

    name: str
    tokens: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]


def sources_of(path: Path) -> list[Documents]:
    """The sources of a corpus, without what is held out by default."""
    corpus = Corpus.open(path)
    found = []
    for name in corpus.source_names:
        documents = corpus.documents(name)
        ids = [documents.ids(shard) for shard in range(len(documents.shard_documents))]
        hashes = np.array([id_hash(each) for shard in ids for each in shard], dtype=np.uint64)
        shard = np.repeat(np.arange(len(ids)), documents.shard_documents)
        order = np.lexsort((hashes, shard))
        order = order[~hold_out(hashes, documents.token_counts)[order]]
        label = f"{path.name}/{name}"
        found.append(Documents(label, documents.token_counts[order], hashes[order]))
    return found


def made_up(count: int) -> Documents:
    """Documents of lognormal length."""
    draw = np.random.default_rng(0)
    tokens = np.maximum(1, draw.lognormal(np.log(MEDIAN_TOKENS), 1.0, count)).astype(np.int64)
    hashes = draw.integers(1 << 64, size=count, dtype=np.uint64)
    return Documents("made up", tokens, hashes)


def measure(
    documents: Documents, *, context_length: int, rule_name: ChunkRuleName, repeats: int
) -> Json:
    """Plan the rows of a source; the entry for the result file."""
    rule = chunk_rule(rule_name, context_length=context_length)

    def plan() -> list[RowBlock]:
        return list(
            plan_rows(
                np.arange(len(documents.tokens)),
                documents.tokens,
                context_length=context_length,
                rule=rule,
                hashes=documents.hashes,
            )
        )

    blocks = plan()
    chunks = sum(len(block.chunks.start) for block in blocks)
    rows = sum(len(block.offsets) - 1 for block in blocks)
    tokens = sum(block.tokens for block in blocks)
    times = max(1, _CHUNKS_A_TIMING // chunks)
    rates = []
    for _ in range(repeats):
        started = time.process_time()
        for _ in range(times):
            plan()
        rates.append(chunks * times / (time.process_time() - started))
    text = int(documents.tokens.sum())
    skipped = skipped_tokens(documents.tokens, context_length=context_length, rule=rule)
    return {
        "source": documents.name,
        "context_length": context_length,
        "rule": {"name": rule_name, **vars(rule)},
        "documents": len(documents.tokens),
        "text_tokens": text,
        "skipped_tokens": skipped,
        "skipped_share": skipped / text,
        "chunks": chunks,
        "rows": rows,
        "fill": tokens / (rows * context_length),
        "best_fill": tokens / (-(-tokens // context_length) * context_length),
        "tokens_a_chunk": tokens / chunks,
        "chunks_per_second": spread(rates),
    }


def table(cells: list[Json]) -> str:
    """The cells as text, one line each; rates as median, [lowest – highest]."""
    lines = [
        f"{'source':>24}  length  rule       {'chunks':>9}  {'rows':>8}    fill  skipped  "
        "a chunk  million chunks/s"
    ]
    for each in cells:
        rate = each["chunks_per_second"]
        lines.append(
            f"{each['source']:>24}  {each['context_length']:>6}  {each['rule']['name']:<9}  "
            f"{each['chunks']:>9,}  {each['rows']:>8,}  {each['fill']:7.3%}  "
            f"{each['skipped_share']:6.3%}  {each['tokens_a_chunk']:7,.0f}  "
            f"{rate['median'] / 1e6:.2f} [{rate['lowest'] / 1e6:.2f} – {rate['highest'] / 1e6:.2f}]"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, nargs="+", default=[])
    parser.add_argument("--documents", type=parse_count, default=200_000, help="made-up ones")
    parser.add_argument("--repeats", type=int, default=5, help="timings a cell, at least 5")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    if given.repeats < 5:
        parser.error("--repeats: at least 5")
    load_before = os.getloadavg()
    sources = [each for path in given.corpus for each in sources_of(path)]
    cells = [
        measure(each, context_length=length, rule_name=rule, repeats=given.repeats)
        for each in [*sources, made_up(given.documents)]
        for length in CONTEXT_LENGTHS
        for rule in RULES
    ]
    measured = {
        "machine_load": {"before": load_before, "after": os.getloadavg()},
        "repeats": given.repeats,
        "cells": cells,
    }
    path = keep_result(NAME, measured, "numpy", folder=given.out)
    print(table(cells))
    print(path)


if __name__ == "__main__":
    main()
