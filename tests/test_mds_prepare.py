"""MDS as a source of a corpus: what is taken off samples, what is refused, and that it is equal."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ettin.cli import main
from ettin.console import read_json_lines
from ettin.data.corpus import Corpus
from ettin.data.mds.export import write_mds
from ettin.data.mds.source import mds_sources
from ettin.data.mds.writing import MdsWriter
from ettin.data.prepare import prepare
from ettin.data.reading.sources import OnError, Source
from ettin.data.reading.tally import Reading, Tally
from ettin.data.reading.tokenised import SampleRules, TokenisedDocument
from ettin.errors import InputError
from ettin.files import read_manifest, verify
from ettin.mixtures import published
from ettin.tokenizer import Tokenizer, load_tokenizer
from ettin.training.trainer import train
from tests.mds_folders import read_tokens
from tests.recipes import tiny_recipe
from tests.word_tokenizer import save_word_tokenizer

COLUMNS = {"id": "str", "input_ids": "ndarray:uint32"}


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_directory)


@pytest.fixture(scope="module")
def whole_documents(corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All documents of the shared corpus, laid out as published, some of it compressed."""
    folder, corpus = tmp_path_factory.mktemp("mds"), Corpus.open(corpus_directory)
    for source in corpus.source_names:
        documents = corpus.documents(source)
        half = len(documents) // 2
        for number, part in enumerate((range(half), range(half, len(documents)))):
            with MdsWriter(
                folder / "train" / source / f"split_{number}-tokenized",
                COLUMNS,
                compression="zstd" if number else None,
                shard_bytes=40_000,
            ) as writer:
                for each in part:
                    ids = [corpus.special.bos, *documents.tokens(each), corpus.special.eos]
                    writer.write({"id": documents.id(each), "input_ids": np.array(ids, np.uint32)})
            (writer.folder / "stats.json").write_text('{"total_tokens_written": 1}')
    return folder


@pytest.fixture(scope="module")
def from_mds(
    whole_documents: Path, tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "corpus"
    sources = {source.name: source for source in mds_sources(whole_documents)}
    prepare(
        [sources["prose"], sources["letters"]],
        tokenizer=tokenizer_directory,
        out=out,
        context_lengths=(64, 128),
    )
    return out


def samples(
    folder: Path, rows: Iterable[dict[str, Any]], columns: dict[str, str] = COLUMNS, **settings: Any
) -> Source:
    with MdsWriter(folder, columns, **settings) as writer:
        for row in rows:
            writer.write(row)
    return mds_sources(folder)[0]


def read(
    source: Source,
    tokenizer: Tokenizer,
    *,
    id_column: str | None = None,
    on_error: OnError = "skip",
) -> tuple[list[TokenisedDocument], Tally]:
    tally = Tally()
    reading = Reading("", id_column, on_error, tally)
    return read_tokens(source, SampleRules(tokenizer), reading), tally


def test_a_corpus_from_mds_has_the_rows_of_the_one_from_text(
    corpus_directory: Path, from_mds: Path
) -> None:
    text, mds = Corpus.open(corpus_directory), Corpus.open(from_mds)
    assert mds.source_names == text.source_names
    for source in text.source_names:
        for name in ("rows-64", "held-out-64", "rows-128", "held-out-128"):
            path = Path(source) / f"{name}.arrow"
            assert (from_mds / path).read_bytes() == (corpus_directory / path).read_bytes()
        one, other = text.documents(source), mds.documents(source)
        assert one.ids(0) == other.ids(0)
        assert all((one.tokens(n) == other.tokens(n)).all() for n in range(len(one)))
        facts = mds.source_facts(source)
        assert facts | {"bytes": 0} == text.source_facts(source) | {"bytes": 0}
        # A tokenizer that keeps all text tells its bytes, but for a byte order mark.
        assert facts["bytes"] == text.source_facts(source)["bytes"]
        assert other.origin(0) == "split_0-tokenized/shard.00000.mds:0"
    assert mds.problems() == []
    assert verify(from_mds) == []


def test_training_on_it_writes_the_same_ledger(
    corpus_directory: Path, from_mds: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    ledgers = []
    for number, corpus in enumerate((corpus_directory, from_mds)):
        recipe = tiny_recipe(
            phase_tokens=8 * 6 * 64, phase_warmup_tokens=6 * 64, phase_decay_tokens=6 * 64
        )
        train(recipe, corpus_path=corpus, out=tmp_path / str(number), command=["test"])
        ledgers.append(read_json_lines(tmp_path / str(number) / "ledger.jsonl"))
    assert len(ledgers[0]) >= 4
    assert ledgers[0] == ledgers[1]


def test_one_bos_and_one_eos_are_taken_off_and_never_a_second(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    bos, eos = tokenizer.special.bos, tokenizer.special.eos
    a, b = (int(each) for each in tokenizer.ordinary_ids[[5, 9]])
    rows = [
        [bos, a, b, eos], [a, b], [bos, a, b], [a, b, eos], [bos, bos, a], [a, eos, eos],
        [bos, eos], [bos], [eos], [bos, a, tokenizer.special.pad, eos], [a],
    ]  # fmt: skip
    source = samples(
        tmp_path / "s",
        ({"id": str(n), "input_ids": np.array(row, np.uint32)} for n, row in enumerate(rows)),
    )
    documents, tally = read(source, tokenizer)
    assert {each.id: each.tokens.tolist() for each in documents} == {
        "0": [a, b], "1": [a, b], "2": [a, b], "3": [a, b], "10": [a]
    }  # fmt: skip
    assert tally.skipped == {"special token inside a sample": 3, "sample without tokens": 3}
    assert tally.noted == {
        "samples that do not begin with [CLS]": 5, "samples that do not end with [SEP]": 5
    }  # fmt: skip
    assert tally.documents == 5
    assert tally.text_bytes == sum(len(tokenizer.decode_bytes(each.tokens)) for each in documents)
    assert f"shard.00000.mds:4 (id {bos})" in tally.examples["special token inside a sample"]
    with pytest.raises(InputError, match=r"shard\.00000\.mds:4: special token inside"):
        read(source, tokenizer, on_error="fail")


@pytest.mark.parametrize(
    ("values", "named"),
    [(np.array([7, 512], "u4"), "512"), (np.array([3, -1], "i8"), "-1")],
)
def test_ids_of_another_tokenizer_end_the_reading_whatever_defects_do(
    tmp_path: Path, tokenizer: Tokenizer, values: np.ndarray[Any, Any], named: str
) -> None:
    rows = [{"id": "a", "input_ids": np.array([7], values.dtype)}, {"id": "b", "input_ids": values}]
    columns = {"id": "str", "input_ids": "ndarray"}
    source = samples(tmp_path / "s", rows, columns)
    with pytest.raises(
        InputError, match=rf"mds:1: holds the id {named}, .* below 512.*--tokenizer"
    ):
        read(source, tokenizer)


def test_ids_come_from_the_column_or_the_place(tmp_path: Path, tokenizer: Tokenizer) -> None:
    ids = tokenizer.ordinary_ids[:3].astype(np.uint16)
    columns = {"id": "str", "name": "str", "tokens": "ndarray:uint16:3", "n": "int"}
    rows = [
        {"id": "x", "name": name, "tokens": ids, "n": 1} for name in ("a", "", "a", "shard.00000")
    ]
    source = samples(tmp_path / "s", rows, columns)
    assert [each.id for each in read(source, tokenizer)[0]] == ["x"] * 4
    documents, tally = read(source, tokenizer, id_column="name")
    assert [each.id for each in documents] == ["a", "shard.00000.mds:1", "a", "shard.00000"]
    assert tally.noted["no id (the place stands for it)"] == 1
    assert [each.origin for each in documents][3] == "shard.00000.mds:3"
    for wrong, expected in (("body", "no column 'body'"), ("n", "'n' has int, not str")):
        with pytest.raises(InputError, match=expected):
            read(source, tokenizer, id_column=wrong)
    del columns["id"], columns["name"]
    places = samples(tmp_path / "t", rows, columns)
    assert read(places, tokenizer)[0][1].id == "shard.00000.mds:1"


def test_a_len_column_says_where_padding_begins(tmp_path: Path, tokenizer: Tokenizer) -> None:
    pad = tokenizer.special.pad
    a = int(tokenizer.ordinary_ids[0])
    columns = {"input_ids": "ndarray:uint16:6", "len": "int"}
    rows = [
        {"input_ids": np.array([a] * n + [pad] * (6 - n), np.uint16), "len": n} for n in (2, 6, 5)
    ]
    found, _ = read(samples(tmp_path / "s", rows, columns), tokenizer)
    assert [len(each.tokens) for each in found] == [2, 6, 5]
    rows[1]["len"] = 7
    found, tally = read(samples(tmp_path / "t", rows, columns), tokenizer)
    assert not found
    assert tally.skipped == {"damaged MDS shard": 1}


def test_damaged_and_missing_shards_are_counted_and_the_others_read(
    whole_documents: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(whole_documents, folder)
    source = mds_sources(folder)[0]
    whole, _ = read(source, tokenizer)
    first, packed = (sorted((folder / f"train/letters/split_{n}-tokenized").glob("shard*"))
                     for n in (0, 1))  # fmt: skip
    first[0].write_bytes(first[0].read_bytes()[:-1])
    packed[1].unlink()
    content = bytearray(packed[0].read_bytes())
    content[len(content) // 2] ^= 255
    packed[0].write_bytes(content)
    (folder / "train/letters/split_2").mkdir()
    (folder / "train/letters/split_2/index.json").write_text("{")
    rest, tally = read(source, tokenizer)
    gone = {"split_0-tokenized/shard.00000.mds", "split_1-tokenized/shard.00000.mds",
            "split_1-tokenized/shard.00001.mds"}  # fmt: skip
    assert [each.id for each in rest] == [
        each.id for each in whole if each.origin.rpartition(":")[0] not in gone
    ]
    assert 0 < len(rest) < len(whole)
    assert tally.skipped == {
        "damaged index.json": 1, "missing MDS shard": 1, "damaged MDS shard": 2
    }  # fmt: skip
    with pytest.raises(InputError, match=r"index\.json.*--on-error fail"):
        read(source, tokenizer, on_error="fail")


def test_a_merged_index_alone_is_enough_and_beside_others_changes_nothing(
    corpus_directory: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    write_mds(Corpus.open(corpus_directory), tmp_path / "mds")
    both = [read(source, tokenizer)[0] for source in mds_sources(tmp_path / "mds")]
    for source in ("prose", "letters"):
        (tmp_path / f"mds/train/{source}/index.json").unlink()
    merged = mds_sources(tmp_path / "mds/train")
    assert [source.name for source in merged] == ["letters", "prose"]
    alone = [read(source, tokenizer)[0] for source in merged]
    for one, other in zip(both, alone, strict=True):
        assert len(one) > 10
        assert [(a.id, a.tokens.tolist()) for a in one] == [
            (b.id, b.tokens.tolist()) for b in other
        ]


def test_published_mixtures_are_found_by_name_and_plain_folders_by_their_own(
    tmp_path: Path,
) -> None:
    for source in published("extension").sources:
        path = tmp_path / "train" / (source.hub_folder or source.label) / "split_0"
        path.mkdir(parents=True)
        (path / "shard.00000.mds").touch()
    names = [source.name for source in mds_sources(tmp_path, mixture="extension")]
    assert names == [source.name for source in published("extension").sources]
    assert "stackexchange-dolmino" in [source.name for source in mds_sources(tmp_path)]
    assert [each.name for each in mds_sources(path)] == ["split_0"]
    (tmp_path / "empty").mkdir()
    for wrong, expected in (("empty", "neither shards"), ("absent", "not a folder")):
        with pytest.raises(InputError, match=expected):
            mds_sources(tmp_path / wrong)


def test_a_vocabulary_that_is_not_byte_level_gives_a_corpus_without_bytes(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    save_word_tokenizer(tmp_path / "words", [f"w{n}" for n in range(50)], closing=True)
    words = load_tokenizer(tmp_path / "words")
    ids = words.ordinary_ids.astype(np.uint32)
    rows = ({"id": str(n), "input_ids": np.roll(ids, n)} for n in range(40))
    source = samples(tmp_path / "s", rows)
    summary = prepare([source], tokenizer=tmp_path / "words", out=tmp_path / "c")
    assert summary.bytes == 0
    assert summary.tokens == 40 * len(ids)
    assert "tokens; held out" in told.text
    assert "loss" not in read_manifest(tmp_path / "c")["facts"]["tokenizer"]


def test_the_command_prepares_mds_checks_it_and_knows_it_again(
    whole_documents: Path, tokenizer_directory: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def ettin(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["ettin", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().out

    out = str(tmp_path / "c")
    command = ["prepare", "--mds", str(whole_documents), "--tokenizer", str(tokenizer_directory),
               "--out", out, "--context-length", "64", "--json"]  # fmt: skip
    code, printed = ettin(*command)
    assert code == 0
    assert json.loads(printed)["documents"] == 170
    assert json.loads(printed)["bytes_per_token"] > 1
    assert ettin(*command) == (0, printed)
    assert ettin("check", out)[0] == 0
    assert ettin(*command, "--text", out)[0] == 2
