"""The stage from text to corpus: what it counts, refuses, repeats, and leaves behind."""

import json
import random
from pathlib import Path

import pytest
from tokenizers import normalizers

from ettin.data.corpus import Corpus
from ettin.data.preparation.samples import measure, summarise_loss
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source
from ettin.errors import InputError
from ettin.files import read_manifest, verify
from ettin.tokenizer import Tokenizer, load_tokenizer

WORDS = ["kala", "mi", "toki", "pona", "suli", "[MASK]", "Ünï", "文字"]


def write_lines(path: Path, *, count: int = 40, bad: tuple[str, ...] = ()) -> Source:
    draw = random.Random(1)
    lines = [
        json.dumps({"text": " ".join(draw.choices(WORDS, k=30)), "name": n}) for n in range(count)
    ]
    path.mkdir()
    (path / "a.jsonl").write_text("\n".join([*lines, *bad]))
    return Source("lines", (path,))


def test_the_summary_counts_documents_tokens_bytes_and_skips(
    tmp_path: Path, tokenizer_directory: Path, told: pytest.LogCaptureFixture
) -> None:
    source = write_lines(tmp_path / "text", bad=("{", '{"text": null}', "{"))
    summary = prepare([source], tokenizer=tokenizer_directory, out=tmp_path / "corpus")
    corpus = Corpus.open(summary.corpus)
    assert summary.documents == 40
    assert summary.tokens == corpus.documents("lines").token_counts.sum()
    lines = (tmp_path / "text/a.jsonl").read_text().split("\n")[:40]
    text = [json.loads(line)["text"] for line in lines]
    assert summary.bytes == sum(len(each.encode()) for each in text)
    assert summary.skipped == {"broken JSON line": 2, "null text": 1}
    assert summary.held_out_tokens <= summary.tokens / 10
    assert 0 < summary.fill[1024] <= 1
    assert summary.fertility.bytes_per_token == pytest.approx(summary.bytes / summary.tokens)
    assert "40 documents" in told.text
    assert "a.jsonl:41" in told.text
    assert corpus.problems() == []
    assert verify(corpus.path) == []


def test_mask_in_raw_text_stays_text_in_the_corpus(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    source = write_lines(tmp_path / "text")
    summary = prepare([source], tokenizer=tokenizer_directory, out=tmp_path / "corpus")
    documents = Corpus.open(summary.corpus).documents("lines")
    tokenizer = load_tokenizer(tokenizer_directory)
    text = b"".join(tokenizer.decode_bytes(documents.tokens(n)) for n in range(len(documents)))
    assert text.count(b"[MASK]") > 50
    assert all(tokenizer.special.mask not in documents.tokens(n) for n in range(len(documents)))


def test_the_same_request_again_is_finished_and_another_refused(
    tmp_path: Path, tokenizer_directory: Path, told: pytest.LogCaptureFixture
) -> None:
    source, out = write_lines(tmp_path / "text"), tmp_path / "corpus"
    first = prepare([source], tokenizer=tokenizer_directory, out=out)
    written = (out / "manifest.json").stat().st_mtime_ns
    told.clear()
    again = prepare([source], tokenizer=tokenizer_directory, out=out)
    assert again == first
    assert "finished already" in told.text
    assert (out / "manifest.json").stat().st_mtime_ns == written
    with pytest.raises(InputError, match=r"different: settings"):
        prepare([source], tokenizer=tokenizer_directory, out=out, context_lengths=(64,))
    with (tmp_path / "text/a.jsonl").open("a") as file:
        file.write('\n{"text": "more"}')
    with pytest.raises(InputError, match=r"different: text"):
        prepare([source], tokenizer=tokenizer_directory, out=out)


def test_the_same_text_gives_the_same_files(tmp_path: Path, tokenizer_directory: Path) -> None:
    source = write_lines(tmp_path / "text")
    made = [prepare([source], tokenizer=tokenizer_directory, out=tmp_path / name) for name in "ab"]
    one, two = (read_manifest(each.corpus)["files"] for each in made)
    assert one == two


def test_a_document_is_held_out_whatever_stands_beside_it(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    held = []
    for name, bad in (("a", ()), ("b", ('{"text": "kala", "name": "another"}',))):
        source = write_lines(tmp_path / name, bad=bad)
        out = prepare(
            [source], tokenizer=tokenizer_directory, out=tmp_path / f"{name}-out", id_column="name"
        )
        table = Corpus.open(out.corpus).table("lines", 1024, "held-out")
        held.append({table.document_id(n) for n in set(table.all_chunks().document.tolist())})
    smaller, larger = sorted(held, key=len)
    assert smaller - {"another"} <= larger
    assert len(smaller) >= 3


def test_packing_none_gives_each_chunk_a_row(tmp_path: Path, tokenizer_directory: Path) -> None:
    source = write_lines(tmp_path / "text")
    summary = prepare([source], tokenizer=tokenizer_directory, out=tmp_path / "c", packing="none")
    table = Corpus.open(summary.corpus).table("lines", 1024)
    assert all(len(table.chunks(row)) == 1 for row in range(len(table)))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "the folder is empty"),
        (
            {"a.bin": b"\0" * 50, "b.png": b"\x89PNG\0"},
            r"2 files\); left out: binary file: 2 \(a.bin",
        ),
        ({"a.jsonl": b'{"body": "x"}'}, "no text column: 1"),
        ({"a.csv": b"title,body\n1,2\n"}, "--text-column"),
        ({"a.txt": b"too little"}, "source s: .* tokens are needed"),
    ],
)
def test_what_cannot_become_a_corpus_is_refused_and_leaves_nothing(
    tmp_path: Path, tokenizer_directory: Path, files: dict[str, bytes], expected: str
) -> None:
    (tmp_path / "text").mkdir()
    for name, content in files.items():
        (tmp_path / "text" / name).write_bytes(content)
    with pytest.raises(InputError, match=expected):
        prepare(
            [Source("s", (tmp_path / "text",))], tokenizer=tokenizer_directory, out=tmp_path / "c"
        )
    assert not list(tmp_path.glob("c/*"))
    assert not list(tmp_path.glob("*.partial"))


def test_mistakes_in_the_request_are_refused_before_reading(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    source = write_lines(tmp_path / "text")
    inside = tmp_path / "text" / "corpus"
    for options, expected in (
        ({"context_lengths": (4,)}, "context length 4 is too short"),
        ({"held_out": 0.5}, "between 0 and 0.1"),
        ({"out": inside}, "lies in the text folder"),
        ({"tokenizer": tmp_path}, r"no tokenizer\.json"),
    ):
        request = {"tokenizer": tokenizer_directory, "out": tmp_path / "c"} | options
        with pytest.raises(InputError, match=expected):
            prepare([source], **request)
    with pytest.raises(InputError, match="is taken"):
        prepare([source, source], tokenizer=tokenizer_directory, out=tmp_path / "c")


def test_a_lossy_tokenizer_is_measured_and_told(
    tmp_path: Path, tokenizer_directory: Path, told: pytest.LogCaptureFixture
) -> None:
    lossy = load_tokenizer(tokenizer_directory)
    lossy.backend.normalizer = normalizers.Lowercase()
    lossy.save(tmp_path / "lossy", closing=True)
    source = write_lines(tmp_path / "text")
    summary = prepare([source], tokenizer=tmp_path / "lossy", out=tmp_path / "c")
    loss = read_manifest(summary.corpus)["facts"]["tokenizer"]["loss"]
    assert loss["sampled"] == 40
    assert 0.9 < loss["documents"] <= 1
    assert "does not keep all text" in told.text
    measured = measure(lossy, [(1, "abCD"), (2, "abcd")])
    assert summarise_loss(measured) == {"sampled": 2, "documents": 0.5, "characters": 2 / 8}


def test_a_lossless_tokenizer_measures_no_loss(tokenizer_directory: Path) -> None:
    tokenizer: Tokenizer = load_tokenizer(tokenizer_directory)
    measured = measure(tokenizer, [(1, "Ünï [MASK]\r\n"), (2, "文字")])
    assert summarise_loss(measured) == {"sampled": 2, "documents": 0, "characters": 0}
