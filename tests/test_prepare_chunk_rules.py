"""`prepare` with the published chunk rule: sound corpora, the same whoever makes them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ettin.check import check
from ettin.cli import app
from ettin.data.chunking import ChunkRule
from ettin.data.corpus import Corpus, rows_path
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source
from ettin.errors import InputError


@pytest.mark.parametrize("part_bytes", [1 << 25, 1 << 14])
def test_a_corpus_of_the_published_rule_is_sound_and_says_what_was_left_out(
    sources: list[Source], tokenizer_directory: Path, tmp_path: Path, part_bytes: int
) -> None:
    prepare(
        sources, tokenizer=tokenizer_directory, out=tmp_path / "c", context_lengths=(64, 128),
        chunk_rule="published", minimum_chunk=31, skip_below=9, part_bytes=part_bytes,
    )  # fmt: skip
    corpus = Corpus.open(tmp_path / "c")
    assert corpus.chunk_rule(64) == corpus.chunk_rule(128) == ChunkRule(31, 9)
    assert corpus.problems() == check(corpus.path) == []
    for source in corpus.source_names:
        facts, documents = corpus.source_facts(source), corpus.documents(source)
        for length in (64, 128):
            tables = [corpus.table(source, length), corpus.table(source, length, "held-out")]
            held = sum(int(table.all_chunks().length.sum()) for table in tables)
            skipped = facts["rows"][str(length)]["skipped_tokens"]
            assert 0 < skipped == documents.token_counts.sum() - held


def test_our_rule_leaves_nothing_out_and_states_no_rule(corpus_directory: Path) -> None:
    corpus = Corpus.open(corpus_directory)
    assert corpus.facts["chunk_rules"] == {}
    rows = [each["rows"]["64"] for each in corpus.facts["sources"].values()]
    assert [each["skipped_tokens"] for each in rows] == [0, 0]


def test_the_command_takes_the_rule_and_another_rule_is_another_corpus(
    text_folder: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    def run(*options: str) -> tuple[int, str]:
        words = ["prepare", "--text", str(text_folder / "prose"), "--tokenizer",
                 str(tokenizer_directory), "--out", str(tmp_path / "c"), "--context-length", "64",
                 "--json", *options]  # fmt: skip
        done = CliRunner().invoke(app, words)
        return done.exit_code, done.stdout if not done.exception else str(done.exception)

    published = ("--chunk-rule", "published", "--minimum-chunk", "31", "--skip-below", "9")
    code, output = run(*published)
    assert code == 0, output
    rows = rows_path(tmp_path / "c/text", 64, "train").read_bytes()
    assert json.loads(output.splitlines()[-1])["corpus"] == str(tmp_path / "c")
    assert run(*published)[0] == 0
    assert rows_path(tmp_path / "c/text", 64, "train").read_bytes() == rows
    assert run()[0] != 0
    assert run("--chunk-rule", "published")[0] != 0  # 512 do not fit in rows of 64


def test_a_rule_that_does_not_fit_the_rows_is_refused_before_anything_is_read(
    sources: list[Source], tokenizer_directory: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--minimum-chunk 32 --skip-below 2"):
        prepare(
            sources, tokenizer=tokenizer_directory, out=tmp_path / "c", context_lengths=(64,),
            chunk_rule="published",
        )  # fmt: skip
    assert not (tmp_path / "c").exists()
