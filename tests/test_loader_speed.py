"""The benchmark of loading: everyone loads the same chunks, and the sums are right."""

import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.loader_speed import race, rate, scale_table, table
from benchmarks.loaders.ettin_rows import open_reader
from benchmarks.loaders.made_up import BOS, document_sizes, write_formats
from benchmarks.loaders.numpy_memmap import open_chunks
from benchmarks.loaders.packer import BATCH_TOKENS, packed

TOKENS = 150_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made-up")
    write_formats(made, TOKENS)
    return made


def stored_chunks(folder: Path) -> list[bytes]:
    flat, boundaries = open_chunks(folder)
    return [flat[begin:end].tobytes() for begin, end in pairwise(boundaries)]


def test_an_epoch_of_ours_is_the_chunks_that_the_others_get(folder):
    order, reader = open_reader(folder)
    rows = order.rows(0, len(reader.tables[0]))
    ours: list[bytes] = []
    for joined in reader.joined(rows, size=8):
        edges = joined.boundaries.tolist()
        tokens = joined.tokens.numpy().astype(np.uint16)
        ours += [tokens[a:b].tobytes() for a, b in pairwise(edges)]
    others = stored_chunks(folder)
    assert Counter(ours) == Counter(others)
    assert ours != others, "ours is shuffled"
    assert sum(document_sizes(TOKENS)) == pytest.approx(TOKENS, rel=0.1)


def test_the_given_packer_keeps_every_token_and_fills_batches(folder):
    flat, boundaries = open_chunks(folder)
    chunks = [flat[begin:end] for begin, end in pairwise(boundaries)]
    batches = list(packed([*chunks, flat[:BATCH_TOKENS]]))  # the last only closes a batch
    assert np.concatenate([tokens.numpy() for tokens, _ in batches]).tolist() == flat.tolist()
    for tokens, edges in batches:
        assert edges[-1] == len(tokens) <= BATCH_TOKENS
        assert (tokens[edges[:-1].long()] == BOS).all()
    assert all(len(tokens) > 0.8 * BATCH_TOKENS for tokens, _ in batches[:-1])


def test_a_rate_is_by_the_shorter_of_clock_and_processor():
    assert rate({"tokens": 600, "seconds": 3.0, "processor_seconds": 2.0}) == 300
    assert rate({"tokens": 600, "seconds": 3.0, "processor_seconds": 6.0}) == 200


def test_tables_name_rates_ratios_and_who_did_not_run():
    spread = {"median": 2e6, "lowest": 1e6, "highest": 3e6}
    ran = {
        "module": "grain_map", "setting": "indexed", "version": "0.2", "tokens_per_second": spread,
        "first_is_faster": {"median": 4.0, "lowest": 3.5, "highest": 5.0},
    }  # fmt: skip
    absent = {"module": "litdata_items", "setting": "blocks", "reason": "No module named 'litdata'"}
    shown = table({"contenders": [ran, absent]})
    assert "| grain_map: indexed 0.2 | 2.0 [1.0 – 3.0] | 4.00 [3.50 – 5.00] |" in shown
    assert "did not run: No module named 'litdata'" in shown
    run = {
        "first_batch_seconds": 0.05, "first_batch_processor_seconds": 0.04, "import_seconds": 2,
        "open_seconds": 0.01, "private_bytes_before": 1e6, "private_bytes_at_most": 3e6,
    }  # fmt: skip
    shown = scale_table({"scale": [{"corpus": "10M", "place": "end", "runs": [run]}]})
    assert "| 10M | end | 50 | 40 | 2.1 | 2.0 |" in shown


@pytest.mark.slow
def test_contenders_load_in_turns_and_a_missing_library_is_told(folder):
    settings = {
        "ettin_rows": ("rows, steps of 512",),
        "numpy_memmap": ("memory map, permutation",),
        "litdata_items": ("StreamingDataset of arrays",),
    }
    ours, memmap, absent = race(
        folder, others=Path(sys.executable), repeats=2, seconds=0.02, settings=settings
    )
    assert absent["reason"] == "ModuleNotFoundError: No module named 'litdata'"
    assert ours["first_is_faster"] == {"median": 1.0, "lowest": 1.0, "highest": 1.0}
    for each in (ours, memmap):
        assert len(each["turns"]) == 2
        assert each["tokens_per_second"]["lowest"] > 1e5
        assert 0.8 * BATCH_TOKENS < each["batch_tokens"] <= BATCH_TOKENS
