"""Derived and recorded ledgers: equal for every run as it was made, and every change is named."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow
import pytest
from pyarrow import ipc

from ettin import files
from ettin.check import check
from ettin.console import read_json_lines
from ettin.data import ledger
from ettin.data.corpus import Corpus
from ettin.data.order import Rows
from ettin.data.seen.runs import open_run
from ettin.data.seen.verify import Verified, derive, verify
from ettin.files import Json
from ettin.training.checkpoint import list_checkpoints
from ettin.training.trainer import train
from tests.runs import phased_recipe

RUNS = ["encoder", "decoder", "encoder-from-decoder", "decoder-from-encoder"]


def ettin(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ettin", "order", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def first_of(verified: Verified | None) -> Json:
    """The first difference, which must be there."""
    assert verified is not None
    assert verified.first is not None
    return verified.first


@pytest.fixture
def copied(phased_runs, tmp_path):
    """A run that a test may change."""
    run = tmp_path / "run"
    shutil.copytree(phased_runs / "encoder", run)
    return run


def rewrite(run, change):
    """Change the lines of a run's ledger."""
    lines = read_json_lines(run / "ledger.jsonl")
    change(lines)
    (run / "ledger.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))


@pytest.mark.parametrize("name", RUNS)
def test_every_run_is_as_derived(phased_runs, name):
    found = verify(phased_runs / name)
    assert found.equal
    assert found.run.facts()["first_difference"] is None
    recorded = files.read_manifest(phased_runs / name)["facts"]["ledger_hash"]
    assert found.run.hash == found.run.recorded == recorded


def test_twins_are_equal_against_each_other_and_other_orders_are_not(phased_runs):
    for one, other in (RUNS[:2], RUNS[2:]):
        found = verify(phased_runs / one, against=phased_runs / other)
        assert found.equal
        assert found.against is not None
        assert found.against.steps == found.run.steps
        assert found.against.hash == found.run.hash
    found = verify(phased_runs / "encoder", against=phased_runs / "encoder-from-decoder")
    assert found.run.equal
    assert not found.equal
    assert first_of(found.against)["step"] == 1


def test_a_run_that_was_resumed_thrice_is_as_derived(corpus_directory, phased_runs, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(phased_runs / "encoder", out)
    for kept in (1, 4, 6):
        (out / "manifest.json").unlink()
        for checkpoint in list_checkpoints(out)[kept:]:
            shutil.rmtree(checkpoint.path)
        train(phased_recipe("mlm"), out=out, corpus_path=corpus_directory, command=["test"])
    found = verify(out, against=phased_runs / "decoder")
    assert found.equal
    assert found.run.steps == 28


def test_an_unfinished_run_is_compared_up_to_its_last_checkpoint(copied, phased_runs):
    (copied / "manifest.json").unlink()
    for name in ("ext8", "decay4", "decay6"):
        shutil.rmtree(copied / "checkpoints" / name)
    found = verify(copied, against=phased_runs / "decoder")
    assert found.equal
    assert found.against is not None
    assert found.run.steps == found.against.steps == 19
    assert "goes on to step 28" in found.notes[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [("rows_hash", "0" * 16), ("places_hash", "zz"), ("hash", "0" * 32), ("tokens", 1),
     ("first_row", 0), ("rows", 7), ("phase", "decay"), ("step", 99), ("rows_hash", None)],
)  # fmt: skip
def test_a_changed_line_is_named(copied, key, value):
    rewrite(copied, lambda lines: lines[16].update({key: value}))
    found = verify(copied)
    assert not found.equal
    assert first_of(found.run)["step"] == 17
    assert (first_of(found.run)["phase"], first_of(found.run)["phase_step"]) == ("extension", 3)
    assert f"{key} is {value!r}" in first_of(found.run)["what"]


def test_a_missing_line_and_one_left_out_are_named(copied):
    rewrite(copied, lambda lines: lines.pop())
    assert first_of(verify(copied).run)["step"] == 28
    rewrite(copied, lambda lines: lines.pop(10))
    assert first_of(verify(copied).run)["step"] == 11


def test_a_ledger_written_anew_from_other_rows_is_refuted(copied):
    """Sums and chain may be consistent in themselves, and the checkpoints too."""

    def change(lines):
        running = ledger.EMPTY
        for number, line in enumerate(lines):
            sums = ledger.StepHash(number * 12345 + 1, number)
            running = ledger.chain(running, sums)
            line["rows_hash"], line["places_hash"] = sums.words
            line["hash"] = running

    rewrite(copied, change)
    found = verify(copied).run
    assert (first_of(found)["step"], found.differing) == (1, 28)


def test_a_checkpoint_of_another_ledger_is_named(copied):
    state = copied / "checkpoints" / "ext5" / "state.json"
    files.write_json(state, {**files.read_json(state), "ledger_hash": "f" * 32})
    found = verify(copied).run
    assert first_of(found)["step"] == 19
    assert "checkpoint ext5" in first_of(found)["what"]


def changed_corpus(corpus_directory, run, path, change):
    """A copy of the corpus with one file changed and its manifest as it was; the run points there.

    Args:
        change: gets the columns of the file's batches, each as a writable array of its values.
    """
    copy = run.parent / "corpus"
    shutil.copytree(corpus_directory, copy)
    start = files.read_json(run / "start.json")
    files.write_json(
        run / "start.json", {**start, "corpus": {**start["corpus"], "path": str(copy)}}
    )
    with pyarrow.memory_map(str(copy / path), "r+") as mapped:
        batch = ipc.open_file(mapped).get_batch(0)
        change(batch, np.memmap(copy / path, np.uint8, "r+"))
    return copy


def poke(batch_array, mapped, place, value):
    """Set one entry of an array that lies in a mapped file to another value."""
    old = batch_array.to_numpy()
    raw = old.tobytes()
    begin = bytes(mapped).find(raw)
    assert begin >= 0
    size = old.dtype.itemsize
    mapped[begin + place * size : begin + (place + 1) * size] = np.frombuffer(
        np.array([value], old.dtype).tobytes(), np.uint8
    )
    mapped.flush()


def trained_row(run, step=9, place=2):
    """A row that a step trained on, and its table's source."""
    opened = open_run(run)
    derived = next(each for each in derive(opened) if each.step == step)
    source = derived.at.order.sources[int(derived.rows.source[place])].name
    return source, int(derived.rows.row[place])


def test_a_flipped_token_is_found_and_its_row_named(copied, corpus_directory):
    source, row = trained_row(copied)
    corpus = Corpus.open(corpus_directory)
    table = corpus.table(source, 64)
    chunk = table.chunks(row)[0]
    first = int(corpus.documents(source).token_counts[: chunk.document].sum())

    def flip(batch, mapped):
        values = batch.column("tokens").values
        place = first + chunk.start
        poke(values, mapped, place, int(values[place].as_py()) ^ 1)

    changed_corpus(corpus_directory, copied, f"{source}/tokens-00000.arrow", flip)
    found = verify(copied).run
    first_seen = first_of(found)
    assert (first_seen["step"], first_seen["place"]) == (9, 2)
    assert (first_seen["source"], first_seen["row"]) == (source, row)
    assert first_seen["documents"][0] == table.document_id(chunk.document)
    said = ettin("verify", copied)
    assert said.returncode == 1
    assert f"row {row} of {source}" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("value", ["other", "beyond"])
def test_a_flipped_row_is_found_and_named(copied, corpus_directory, value):
    source, row = trained_row(copied)
    table = Corpus.open(corpus_directory).table(source, 64)
    at = sum(len(table.chunks(each)) for each in range(row))
    chunk = table.chunks(row)[0]
    other = (chunk.document + 1) % len(table.documents) if value == "other" else 4_000_000_000

    def flip(batch, mapped):
        poke(batch.column("chunks").values.field("document"), mapped, at, other)

    changed_corpus(corpus_directory, copied, f"{source}/rows-64.arrow", flip)
    first = first_of(verify(copied).run)
    assert (first["step"], first["place"]) == (9, 2)
    assert (first["source"], first["row"]) == (source, row)


def test_an_older_ledger_without_sums_is_verified_and_can_be_continued_with_sums(
    copied, phased_runs
):
    derived = list(derive(open_run(phased_runs / "encoder")))

    def change(lines):
        running = ledger.EMPTY
        for line, step in zip(lines, derived, strict=True):
            if step.step <= 14:
                running = ledger.chain_of_before(running, step.rows, step.tokens)
                del line["rows_hash"], line["places_hash"]
            else:
                running = ledger.chain(running, step.sums)
            line["hash"] = running

    rewrite(copied, change)
    for state in copied.glob("checkpoints/*/state.json"):
        stated = files.read_json(state)
        lines = read_json_lines(copied / "ledger.jsonl")
        stated["ledger_hash"] = lines[stated["step"] - 1]["hash"] if stated["step"] else ""
        files.write_json(state, stated)
    assert verify(copied).equal
    rewrite(copied, lambda lines: lines[4].update(hash="0" * 32))
    assert first_of(verify(copied).run)["step"] == 5


def test_check_names_a_chain_that_does_not_follow(copied):
    rewrite(copied, lambda lines: lines[16].update(rows_hash="0" * 16))
    manifest = files.read_manifest(copied)
    facts = {key: manifest[key] for key in ("command", "made_from", "facts")}
    (copied / "manifest.json").unlink()
    files.write_manifest(copied, "run", **facts)
    assert any("the hash of step 17 does not follow" in each for each in check(copied))


def test_no_row_of_a_step_is_hashed_alike_in_another_place(phased_runs):
    step = next(iter(derive(open_run(phased_runs / "encoder"))))
    turned = Rows(*(column[::-1] for column in step.rows))
    ends = np.cumsum(step.row_tokens)
    tokens = [step.tokens[end - n : end] for end, n in zip(ends, step.row_tokens, strict=True)]
    places = np.arange(len(tokens))
    other = ledger.hash_rows(turned, places, np.concatenate(tokens[::-1]), step.row_tokens[::-1])
    assert other != step.sums


def test_the_commands_print_what_was_agreed(phased_runs, corpus_directory, tmp_path):
    run = phased_runs / "encoder"
    shown = json.loads(ettin("show", run, "--after", "step5", "--until", "ext5", "--json").stdout)
    assert {"rows", "documents", "hash", "sources", "counts"} <= shown.keys()
    assert {"id", "source"} <= shown["documents"][0].keys()
    name = shown["documents"][0]["id"]
    found = json.loads(ettin("find", run, "--document", name, "--json").stdout)
    assert found["steps"][0]["step"] >= 1
    text = ettin("show", run, "--limit", 2)
    assert "hash " in text.stdout
    assert text.returncode == 0
    equal = ettin("verify", run, "--against", phased_runs / "decoder", "--json")
    assert json.loads(equal.stdout)["equal"] is True
    assert len(json.loads(equal.stdout)["hash"]) == 32
    unknown = ettin("find", run, "--document", "\x1b[31mno")
    assert unknown.returncode == 2
    assert "\x1b" not in unknown.stderr + unknown.stdout
    assert "the nearest:" in unknown.stderr
    done = ettin("export", run, "--out", tmp_path / "order", "--json")
    assert json.loads(done.stdout)["export"] == str(tmp_path / "order")
    other = ettin("verify", run, "--against", phased_runs / "encoder-from-decoder", "--json")
    assert other.returncode == 1
    assert json.loads(other.stdout)["equal"] is False
    moved = ettin("show", run, "--corpus", phased_runs)
    assert (moved.returncode, "Traceback" in moved.stderr) == (2, False)


def test_no_query_loads_torch(phased_runs):
    program = (
        "import sys; from pathlib import Path; from ettin.data.seen import find, show, verify, "
        f"export; show.show(Path({str(phased_runs / 'encoder')!r})); "
        f"verify.verify(Path({str(phased_runs / 'encoder')!r})); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
