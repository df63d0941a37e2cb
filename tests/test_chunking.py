"""Chunk rules: every token once, or left out as the rule says; nothing twice, nothing shuffled."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from hypothesis.strategies import DrawFn

from ettin.data.chunking import (
    OURS,
    RESERVED_TOKENS,
    ChunkRule,
    Chunks,
    chunk_rule,
    chunk_sizes,
    cut_into_chunks,
    plan_cuts,
    skipped_tokens,
)
from ettin.data.packing import Packing, RowBlock, id_hash, plan_rows
from ettin.errors import InputError

Piece = tuple[int, int]
Row = list[tuple[int, int, int]]


def hashes_of(count: int, *, name: str = "document") -> np.ndarray:
    return np.array([id_hash(f"{name} {number}") for number in range(count)], dtype=np.uint64)


def pieces_of(chunks: Chunks, documents: int) -> list[list[Piece]]:
    """First and end token of the pieces of each document, in the order in which they came."""
    found: list[list[Piece]] = [[] for _ in range(documents)]
    for document, start, length in zip(*(column.tolist() for column in chunks), strict=True):
        found[document].append((start, start + length))
    return found


def rows_of(blocks: list[RowBlock]) -> list[Row]:
    rows: list[Row] = []
    for block in blocks:
        chunks = list(zip(*(column.tolist() for column in block.chunks), strict=True))
        rows += [chunks[a:b] for a, b in zip(block.offsets, block.offsets[1:], strict=False)]
    return rows


@strategies.composite
def cases(draw: DrawFn) -> tuple[np.ndarray, int, ChunkRule]:
    """Lengths of documents, a context length and a rule, all small enough to meet often."""
    context_length = draw(strategies.integers(8, 40))
    within = strategies.integers(0, context_length - RESERVED_TOKENS)
    rule = draw(
        strategies.one_of(strategies.just(OURS), strategies.builds(ChunkRule, within, within))
    )
    counts = draw(strategies.lists(strategies.integers(1, 130), min_size=1, max_size=60))
    return np.array(counts), context_length, rule


def test_the_examples_of_the_docstring_hold() -> None:
    counts, hashes = np.full(60, 9), hashes_of(60)
    ours = cut_into_chunks(np.arange(60), counts, context_length=8)
    assert pieces_of(ours, 60) == [[(0, 6), (6, 9)]] * 60
    filled = cut_into_chunks(
        np.arange(60), counts, context_length=8, rule=ChunkRule(6), hashes=hashes
    )
    drawn = {tuple(pieces) for pieces in pieces_of(filled, 60)}
    assert drawn == {((0, cut), (cut, 9)) for cut in (4, 5, 6)}
    skipped = cut_into_chunks(np.arange(60), counts, context_length=8, rule=ChunkRule(0, 4))
    assert pieces_of(skipped, 60) == [[(0, 6)]] * 60
    assert chunk_sizes(skipped, counts).tolist() == [7] * 60  # no EOS: the document goes on
    assert chunk_sizes(filled, counts[filled.document]).reshape(60, 2).sum(1).tolist() == [12] * 60


@settings(max_examples=200, deadline=None)
@given(cases())
def test_a_rule_changes_nothing_but_the_last_cut_of_a_document(
    case: tuple[np.ndarray, int, ChunkRule],
) -> None:
    counts, context_length, rule = case
    full = context_length - RESERVED_TOKENS
    chunks = cut_into_chunks(
        np.arange(len(counts)), counts, context_length=context_length, rule=rule,
        hashes=hashes_of(len(counts)),
    )  # fmt: skip
    assert (np.diff(chunks.document) >= 0).all()
    for count, pieces in zip(counts.tolist(), pieces_of(chunks, len(counts)), strict=True):
        usual = [(start, min(start + full, count)) for start in range(0, count, full)]
        rest = usual[-1][1] - usual[-1][0]
        if len(usual) > 1 and rest < rule.skip_below:
            assert pieces == usual[:-1]
        elif len(usual) > 1 and rest < rule.minimum_length:
            assert pieces[:-2] == usual[:-2]
            assert [pieces[-2][0], pieces[-1][1]] == [usual[-2][0], count]
            assert pieces[-2][1] == pieces[-1][0]
            assert rest <= pieces[-1][1] - pieces[-1][0] < full
        else:
            assert pieces == usual


@settings(max_examples=200, deadline=None)
@given(cases(), strategies.sampled_from(["chunks", "none"]))
def test_rows_hold_every_token_once_but_those_of_skipped_rests(
    case: tuple[np.ndarray, int, ChunkRule], packing: Packing
) -> None:
    counts, context_length, rule = case
    numbers = np.arange(len(counts)) * 3 + 5
    blocks = list(plan_rows(
        numbers, counts, context_length=context_length, packing=packing, rule=rule,
        hashes=hashes_of(len(counts)),
    ))  # fmt: skip
    rows, tokens = rows_of(blocks), dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    sizes = [
        sum(1 + length + (start + length == tokens[document]) for document, start, length in row)
        for row in rows
    ]
    assert all(0 < size <= context_length for size in sizes)
    assert sum(block.tokens for block in blocks) == sum(sizes)
    held = sorted((d, s + i) for row in rows for d, s, length in row for i in range(length))
    assert len(held) == len(set(held))
    missing = {(d, i) for d, count in tokens.items() for i in range(count)} - set(held)
    full = context_length - RESERVED_TOKENS
    expected = set()
    for document, count in tokens.items():
        rest = count % full
        if count > full and 0 < rest < rule.skip_below:
            expected |= {(document, count - 1 - back) for back in range(rest)}
    assert missing == expected
    assert len(missing) == skipped_tokens(counts, context_length=context_length, rule=rule)
    assert packing == "chunks" or all(len(row) == 1 for row in rows)


def test_cuts_do_not_depend_on_the_blocks_in_which_documents_come() -> None:
    numbers, counts = np.arange(70_000), np.full(70_000, 9)
    hashes = np.random.default_rng(0).integers(1 << 64, size=70_000, dtype=np.uint64)
    rule = ChunkRule(6)
    cut = cut_into_chunks(numbers, counts, context_length=8, rule=rule, hashes=hashes)
    blocks = plan_rows(numbers, counts, context_length=8, rule=rule, hashes=hashes)
    columns = (np.concatenate(column) for column in zip(*(b.chunks for b in blocks), strict=True))
    rows = Chunks(*columns)
    rows = rows.take(np.lexsort((rows.start, rows.document)))
    assert all(map(np.array_equal, rows, cut))


def test_what_is_borrowed_depends_on_the_id_and_the_length_alone() -> None:
    counts, rule = np.full(500, 1300), chunk_rule("published", context_length=1024)
    hashes, mixed = hashes_of(500), np.random.default_rng(0).permutation(500)
    last = plan_cuts(counts, context_length=1024, rule=rule, hashes=hashes).last
    again = plan_cuts(counts[mixed], context_length=1024, rule=rule, hashes=hashes[mixed]).last
    assert (again == last[mixed]).all()
    other = plan_cuts(counts, context_length=1023, rule=rule, hashes=hashes).last
    assert np.mean(other - 1021 == last - 1022) < 0.05


def test_any_number_of_tokens_is_borrowed_equally_often() -> None:
    counts = np.full(60_000, 6 + 2)
    hashes = np.random.default_rng(0).integers(1 << 64, size=60_000, dtype=np.uint64)
    last = plan_cuts(counts, context_length=8, rule=ChunkRule(3), hashes=hashes).last
    times = np.bincount(6 - last, minlength=4)
    assert len(times) == 4  # 0 to 3 tokens: with 4 the rest would be a full piece
    assert np.abs(times - 15_000).max() < 500


def test_what_is_borrowed_is_the_same_in_every_release() -> None:
    # Recorded: another draw would give other rows for the same corpus.
    cuts = plan_cuts(
        np.full(4, 1300), context_length=1024, rule=ChunkRule(512, 32), hashes=hashes_of(4)
    )
    assert cuts.last.tolist() == [711, 351, 580, 922]


def test_the_published_rule_has_the_values_of_the_published_folders() -> None:
    assert chunk_rule("published", context_length=1024) == ChunkRule(512, 32)
    assert chunk_rule("published", context_length=7999) == ChunkRule(512, 128)
    assert chunk_rule(
        "published", context_length=256, minimum_length=128, skip_below=8
    ) == ChunkRule(128, 8)
    assert chunk_rule("ours", context_length=64) == OURS


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        ({"context_length": 256}, "--minimum-chunk 128 --skip-below 8"),
        ({"context_length": 1024, "skip_below": 1023}, "pieces of 0 to 1,022"),
        ({"context_length": 1024, "minimum_length": -1}, "minimum of -1"),
    ],
)
def test_a_rule_that_would_leave_out_full_pieces_is_refused(
    given_values: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        chunk_rule("published", **given_values)


def test_values_that_nothing_would_read_are_refused() -> None:
    with pytest.raises(InputError, match="Give --chunk-rule published"):
        chunk_rule("ours", context_length=1024, skip_below=32)
    with pytest.raises(InputError, match="give their hashes"):
        plan_cuts(np.array([9]), context_length=8, rule=ChunkRule(4))
