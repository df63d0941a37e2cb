"""Parts of a corpus: the same bytes however the work is split, interrupted, or shared by tasks."""

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from ettin.data.corpus import Corpus
from ettin.data.preparation.pieces import line_spans, list_pieces, read_piece
from ettin.data.preparation.samples import DocumentSample
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source
from ettin.data.reading.tally import Reading, SourceFile, Tally
from ettin.errors import InputError, NoSpaceError
from ettin.files import Json, read_json, read_manifest, verify

WORDS = ["kala", "mi", "toki", "pona", "suli", "[MASK]", "Ünï", "文字"]
PART_BYTES = 20_000


def write_text(folder: Path, *, seed: int = 1) -> Source:
    """Lines, a table, packed lines and plain files; some broken, some empty, ids that repeat."""
    draw = random.Random(seed)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randrange(1, 120)))

    folder.mkdir()
    lines = [json.dumps({"text": text(), "id": f"d{draw.randrange(300)}"}) for _ in range(400)]
    lines[7], lines[300], lines[301] = "{", '{"text": ""}', '{"text": "kala"}'
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    table = {"text": [text() for _ in range(300)], "id": [f"p{n % 250}" for n in range(300)]}
    parquet.write_table(pyarrow.table(table), folder / "b.parquet", row_group_size=20)
    for number in range(30):
        (folder / f"c{number}.txt").write_text(text())
    (folder / "d.png").write_bytes(b"\0\0")
    return Source("mixed", (folder,))


def contents(corpus: Path) -> tuple[Json, Json]:
    manifest = read_manifest(corpus)
    return manifest["files"], manifest["facts"]


@given(
    lines=st.lists(st.text(st.sampled_from("ab é"), max_size=12), max_size=60),
    ended=st.booleans(),
    piece_bytes=st.integers(1, 80),
)
def test_spans_of_lines_are_whole_lines_and_count_those_before(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], ended: bool, piece_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    content = ("\n".join(lines) + "\n" * ended).encode()
    path.write_bytes(content)
    spans = line_spans(SourceFile("s", path, "a.jsonl", len(content), "1"), piece_bytes)
    if not content:
        assert [tuple(span) for span in spans] == [(0, None, 0)]
        return
    assert spans[0].begin == 0
    assert spans[-1].end == len(content)
    for one, two in itertools.pairwise(spans):
        assert one.end == two.begin
        assert content[two.begin - 1 : two.begin] == b"\n"
        assert two.first == content[: two.begin].count(b"\n")
        assert piece_bytes <= two.begin - one.begin


def test_pieces_give_the_documents_of_the_whole_files(tmp_path: Path) -> None:
    source = write_text(tmp_path / "text")
    found = []
    for piece_bytes in (1 << 30, 1000):
        tally = Tally()
        reading = Reading("text", "id", "skip", tally)
        pieces = list_pieces(source, reading, piece_bytes=piece_bytes)
        documents = [
            each for one in pieces for each in read_piece(one, reading=reading, rules=None)
        ]
        found.append((documents, tally.skipped, tally.noted, tally.text_bytes))
        assert tally.bytes_read == pytest.approx(sum(piece.size for piece in pieces))
    assert found[0] == found[1]
    assert len(pieces) > 30 + 30
    whole = {"a.jsonl", "b.parquet"}
    assert {p.file.relative for p in pieces if p.span.end is not None} == whole


def test_the_corpus_is_the_same_for_all_numbers_of_workers_and_tasks(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    source = write_text(tmp_path / "text")

    def make(name: str, **options: object) -> int:
        summary = prepare(
            [source], tokenizer=tokenizer_directory, out=tmp_path / name, id_column="id",
            context_lengths=(64, 256), part_bytes=PART_BYTES, **options,  # type: ignore[arg-type]
        )  # fmt: skip
        return summary.parts_left

    make("one")
    make("three", workers=3)
    left = [make("tasks", task=(number, 4)) for number in (3, 1, 4)]
    assert left[0] > left[1] > left[2] > 0
    assert not (tmp_path / "tasks").exists()
    assert make("tasks", task=(2, 4), workers=2) == 0
    expected = contents(tmp_path / "one")
    assert len([name for name in expected[0] if "tokens-" in name]) > 5
    assert contents(tmp_path / "three") == expected
    assert contents(tmp_path / "tasks") == expected
    assert verify(tmp_path / "three") == []
    assert Corpus.open(tmp_path / "three").problems() == []
    assert not list(tmp_path.glob("*.parts"))
    assert make("tasks", task=(1, 4)) == 0  # knows that it is finished


def test_ids_are_unique_over_all_parts_and_those_given_stay(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    (tmp_path / "text").mkdir()
    names = ["a", "b", "a", "a#2", "c", "a", "b"] + [f"n{number}" for number in range(60)]
    texts = [f"{name} kala {number}" for number, name in enumerate(names)]
    for number, (name, text) in enumerate(zip(names, texts, strict=True)):
        path = tmp_path / f"text/{number:02}.jsonl"
        path.write_text(json.dumps({"id": name, "text": text}))
    source = Source("s", (tmp_path / "text",))
    out = prepare(
        [source], tokenizer=tokenizer_directory, out=tmp_path / "c", id_column="id", part_bytes=60
    ).corpus
    documents = Corpus.open(out).documents("s")
    ids = [documents.id(number) for number in range(len(documents))]
    assert ids[:7] == ["a", "b", "a#3", "a#2", "c", "a#4", "b#2"]
    assert ids[7:] == names[7:]
    assert [documents.origin(number) for number in (2, 6)] == ["02.jsonl:1", "06.jsonl:1"]
    noted = read_manifest(out)["facts"]["sources"]["s"]
    assert noted["noted"] == {"duplicate ids, made unique": 3}
    assert noted["examples"]["duplicate ids, made unique"][0] == "02.jsonl:1 'a'"
    assert documents.find("a#4") == 5


PROGRAM = """
import sys
from pathlib import Path
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source
from ettin.errors import StoppedError

if __name__ == "__main__":
    text, tokenizer, out, workers = sys.argv[1:]
    try:
        prepare([Source("mixed", (Path(text),))], tokenizer=tokenizer, out=Path(out),
                id_column="id", part_bytes=20_000, workers=int(workers))
    except StoppedError as error:
        print(error)
        sys.exit(3)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def started(program: Path, *words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, str(program), *map(str, words)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def made_parts(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_ino for path in folder.glob("*/part.json")}


def children_of(process: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == process:
                yield int(path.parent.name)
        except OSError:
            continue


def wait_until(condition: "object", seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.005)
    raise AssertionError("waited in vain")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_stage_goes_on_and_leaves_no_process_behind(
    tmp_path: Path, tokenizer_directory: Path, program: Path, number: signal.Signals
) -> None:
    source = write_text(tmp_path / "text")
    whole = prepare(
        [source], tokenizer=tokenizer_directory, out=tmp_path / "whole", id_column="id",
        part_bytes=PART_BYTES,
    ).corpus  # fmt: skip
    request = (tmp_path / "text", tokenizer_directory, tmp_path / "out", 2)
    parts = tmp_path / "out.parts"
    process = started(program, *request)
    wait_until(lambda: made_parts(parts))
    children = list(children_of(process.pid))
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == (-number if number == signal.SIGKILL else 3)
    if number == signal.SIGTERM:
        assert "stopped by SIGTERM; finished parts are kept: the same command goes on" in said
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    before = made_parts(parts)
    assert before
    assert not (tmp_path / "out").exists()
    again = started(program, *request)
    wait_until(lambda: len(made_parts(parts)) > len(before) or again.poll() is not None)
    kept = made_parts(parts)
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert not kept or before.items() <= kept.items()  # the same files: nothing was made twice
    assert contents(tmp_path / "out") == contents(whole)


def test_a_worker_that_dies_is_told_and_the_same_command_goes_on(
    tmp_path: Path, tokenizer_directory: Path, program: Path
) -> None:
    write_text(tmp_path / "text")
    request = (tmp_path / "text", tokenizer_directory, tmp_path / "out", 2)
    process = started(program, *request)

    def workers() -> list[int]:
        found = []
        for child in children_of(process.pid):
            with contextlib.suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
        return found

    wait_until(workers)  # it takes a while until they can begin
    os.kill(workers()[0], signal.SIGKILL)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "a worker process ended with -9 (out of memory?) before it began" in said
    again = started(program, *request)
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said


def test_an_error_of_a_worker_is_the_errors_of_the_stage(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    write_text(tmp_path / "text")
    source = Source("mixed", (tmp_path / "text",))
    with pytest.raises(InputError, match=r"a\.jsonl:8: broken JSON line .*--on-error fail"):
        prepare(
            [source], tokenizer=tokenizer_directory, out=tmp_path / "c", id_column="id",
            part_bytes=PART_BYTES, workers=2, on_error="fail",
        )  # fmt: skip
    assert not (tmp_path / "c").exists()


def test_only_the_parts_of_changed_text_are_made_again(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    source = write_text(tmp_path / "text")

    def make_one_task() -> dict[str, int]:
        prepare(
            [source], tokenizer=tokenizer_directory, out=tmp_path / "c", id_column="id",
            part_bytes=2000, task=(0, 2),
        )  # fmt: skip
        return made_parts(tmp_path / "c.parts")

    before = make_one_task()
    last = sorted((tmp_path / "text").glob("c*.txt"))[-1]
    last.write_text("suli " * 40)
    after = make_one_task()
    assert before.items() <= after.items()
    assert len(after) - len(before) <= 1
    record = read_json(next((tmp_path / "c.parts").glob("*/part.json")))
    assert record["documents"] == sum(record["shards"])


def test_samples_are_the_same_however_documents_are_split() -> None:
    draw = np.random.default_rng(3)
    hashes = [int(each) for each in draw.integers(0, 1 << 62, 2000)]
    whole = DocumentSample()
    for each in hashes:
        whole.offer(each, str(each))
    parts = [DocumentSample() for _ in range(7)]
    for place, each in enumerate(hashes):
        parts[place % 7].offer(each, str(each))
    joined = sorted(pair for part in parts for pair in part.texts())[:256]
    assert joined == whole.texts() == [(each, str(each)) for each in sorted(hashes)[:256]]


def test_errors_can_be_sent_between_processes() -> None:
    import pickle

    error = NoSpaceError(Path("x"), needed=5, free=3)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, NoSpaceError)
    assert str(again) == str(error)


def test_shards_of_tokens_are_not_taken_for_text(tmp_path: Path, tokenizer_directory: Path) -> None:
    write_text(tmp_path / "text")
    (tmp_path / "text/split_0").mkdir()
    (tmp_path / "text/split_0/shard.00000.mds.zstd").write_bytes(b"\0")
    source = Source("mixed", (tmp_path / "text",))
    with pytest.raises(InputError, match=r"split_0/shard\.00000\.mds\.zstd is an MDS .* --mds"):
        prepare([source], tokenizer=tokenizer_directory, out=tmp_path / "c")
