"""Chunks and rows: every token once, no row too long, rows full; and what is held out."""

import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings, strategies

from ettin.data.chunking import cut_into_chunks
from ettin.data.packing import (
    WINDOW_CHUNKS,
    Packing,
    RowBlock,
    hold_out,
    id_hash,
    pack_window,
    plan_rows,
)
from ettin.errors import InputError


def rows_of(block: RowBlock) -> list[list[tuple[int, int, int]]]:
    chunks = list(zip(*(column.tolist() for column in block.chunks), strict=True))
    return [chunks[a:b] for a, b in zip(block.offsets, block.offsets[1:], strict=False)]


def size(chunk: tuple[int, int, int], tokens: dict[int, int]) -> int:
    document, start, length = chunk
    return 1 + length + (start + length == tokens[document])


def test_a_document_is_cut_as_the_docstring_says() -> None:
    chunks = cut_into_chunks(np.array([7, 9]), np.array([13, 6]), context_length=8)
    assert chunks.document.tolist() == [7, 7, 7, 9]
    assert chunks.start.tolist() == [0, 6, 12, 0]
    assert chunks.length.tolist() == [6, 6, 1, 6]


@settings(max_examples=150, deadline=None)
@given(
    counts=strategies.lists(strategies.integers(1, 90), min_size=1, max_size=60),
    context_length=strategies.integers(8, 40),
    packing=strategies.sampled_from(["chunks", "none"]),
)
def test_rows_hold_every_token_exactly_once_and_are_never_too_long(
    counts: list[int], context_length: int, packing: Packing
) -> None:
    numbers = np.arange(len(counts)) * 3 + 5
    tokens = dict(zip(numbers.tolist(), counts, strict=True))
    blocks = list(
        plan_rows(numbers, np.array(counts), context_length=context_length, packing=packing)
    )
    rows = [row for block in blocks for row in rows_of(block)]
    sizes = [sum(size(chunk, tokens) for chunk in row) for row in rows]
    assert all(0 < each <= context_length for each in sizes)
    assert sum(block.tokens for block in blocks) == sum(sizes)
    held = sorted((d, s + i) for row in rows for d, s, length in row for i in range(length))
    assert held == [(d, i) for d, count in sorted(tokens.items()) for i in range(count)]
    assert packing == "chunks" or all(len(row) == 1 for row in rows)


def test_packing_is_best_fit_decreasing() -> None:
    order, counts = pack_window(np.array([3, 6, 5, 4, 2, 6]), context_length=10)
    assert order.tolist() == [1, 0, 5, 3, 2, 4]
    assert counts.tolist() == [2, 2, 2]


def test_windows_do_not_depend_on_the_blocks_in_which_documents_come() -> None:
    counts = np.random.default_rng(0).integers(1, 300, 70_000)
    blocks = list(plan_rows(np.arange(len(counts)), counts, context_length=64))
    assert len(blocks) > 1
    assert sum(int(block.chunks.length.sum()) for block in blocks) == counts.sum()
    first = cut_into_chunks(np.arange(WINDOW_CHUNKS), counts[:WINDOW_CHUNKS], context_length=64)
    window = list(zip(*(column[:WINDOW_CHUNKS].tolist() for column in first), strict=True))
    rows = rows_of(blocks[0])
    held = [chunk for row in rows for chunk in row][:WINDOW_CHUNKS]
    assert sorted(held) == sorted(window)


@pytest.mark.parametrize(
    ("context_length", "digits"),
    [
        (64, "cb6e14086e120efbb26ce57c8856168b"),
        (1024, "9b18196f6fdfe1a506d8fdc91e99bc6c"),
        (7999, "89e7abd74fcaca39b5367acae9d67345"),
    ],
)
def test_the_same_documents_give_the_same_rows_in_every_release(
    context_length: int, digits: str
) -> None:
    # Recorded: other rows would be another corpus, and runs on the old one could not go on.
    counts = (np.arange(9000) * 7919) % 2500 + 1
    digest = xxhash.xxh3_128()
    for block in plan_rows(np.arange(9000), counts, context_length=context_length):
        for column in (block.offsets, *block.chunks):
            digest.update(column.tobytes())
    assert digest.hexdigest() == digits


@pytest.mark.parametrize("context_length", [1024, 7999])
def test_real_text_fills_more_than_998_per_mille_of_rows(context_length: int) -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    modules = [path for path in sorted(library.rglob("*.py")) if "-packages" not in str(path)]
    counts = np.array([max(1, path.stat().st_size // 4) for path in modules])
    order = np.argsort([id_hash(str(number)) for number in range(len(counts))])
    begin = time.perf_counter()
    blocks = list(plan_rows(order, counts[order], context_length=context_length))
    assert time.perf_counter() - begin < 5
    rows = sum(len(block.offsets) - 1 for block in blocks)
    assert rows > 200  # a Debian library has no tests of its own
    assert sum(block.tokens for block in blocks) / (rows * context_length) > 0.998


def test_held_out_documents_have_the_smallest_hashes_until_there_are_enough() -> None:
    hashes = np.array([id_hash(f"document {number}") for number in range(4000)], dtype=np.uint64)
    counts = np.full(4000, 1000)
    held = hold_out(hashes, counts)
    assert held.sum() == 40  # one per cent of 4 million tokens is more than 32,768
    assert hashes[held].max() < hashes[~held].min()
    assert hold_out(hashes, counts, fraction=0.05).sum() == 200
    assert hold_out(hashes[:1000], counts[:1000]).sum() == 33  # 32,768 tokens
    assert hold_out(hashes[:100], counts[:100]).sum() == 10  # never more than 10 %


def test_an_id_has_the_same_place_in_the_queue_of_every_corpus() -> None:
    # Recorded: a change of the hash would move documents between training and validation.
    assert id_hash("poe/raven.txt") == 15300058718218563917


def test_a_huge_document_is_never_held_out_and_does_not_end_the_queue() -> None:
    hashes = np.arange(101, dtype=np.uint64)
    counts = np.array([50_000, *[1000] * 100])
    held = hold_out(hashes, counts)
    assert not held[0]
    assert held.sum() == 15
    assert counts[held].sum() <= counts.sum() / 10


@pytest.mark.parametrize("counts", [[500], [400, 500, 600], [1] * 9])
def test_too_little_text_is_refused_with_what_is_needed(counts: list[int]) -> None:
    with pytest.raises(
        InputError, match=f"{sum(counts):,} tokens in .* {10 * min(counts):,} tokens are needed"
    ):
        hold_out(np.arange(len(counts), dtype=np.uint64), np.array(counts))
