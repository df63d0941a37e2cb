"""What a run had seen, against walking through all its steps: intervals, documents, exports."""

import json
import shutil
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import yaml
from pyarrow import parquet

from ettin import files
from ettin.check import check
from ettin.data.corpus import Corpus
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source
from ettin.data.seen import show as show_module
from ettin.data.seen.documents import SeenDocuments
from ettin.data.seen.export import export
from ettin.data.seen.find import Finder, find
from ettin.data.seen.runs import open_run
from ettin.data.seen.show import show
from ettin.data.seen.slabs import slabs
from ettin.errors import InputError
from ettin.schedules import tag, total_steps
from ettin.training.setup import make_phases
from tests.ledger_reference import walked
from tests.recipes import tiny_recipe
from tests.runs import tags

FIRST_CHECKPOINTS = {"step5": 5, "step10": 10, "step14": 14, "ext5": 19, "ext8": 22,
                     "decay4": 26, "decay6": 28}  # fmt: skip
ROW = ("step", "phase", "phase_step", "place", "source", "epoch", "row")


@pytest.fixture(scope="module")
def entries(phased_runs, corpus_directory):
    return walked(phased_runs / "encoder", corpus_directory)


@pytest.fixture(scope="module")
def many_epochs(corpus_directory, tmp_path_factory):
    """A run that goes through one source several times and in part, with a growing batch."""
    out = tmp_path_factory.mktemp("epochs") / "run"
    recipe = tiny_recipe(
        mixture={"letters": 5, "prose": 1}, phase_tokens=250 * 24 * 64, phase_batch_rows=24,
        phase_batch_warmup_tokens=2000, phase_batch_warmup_rows=3, phase_warmup_tokens=0,
        phase_save_every_tokens=100 * 24 * 64, phase_validate_every_tokens=None,
    )  # fmt: skip
    corpus = Corpus.open(corpus_directory)
    out.mkdir()
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    orders = [at.order.fingerprint for at in make_phases(recipe, corpus=corpus)]
    files.write_json(
        out / "start.json",
        {
            "corpus": {"path": str(corpus_directory), "fingerprint": corpus.fingerprint},
            "order": files.fingerprint(orders),
        },
    )
    last = tag(recipe.phases[0], total_steps(recipe.phases[0]))
    checkpoints = {"checkpoints": ["step0", "step100", last]}
    files.write_manifest(out, "run", command=[], made_from={}, facts=checkpoints)
    return out


def expected_rows(entries):
    seen = {tuple(each[key] for key in ROW): None for each in entries}
    return [dict(zip(ROW, key, strict=True)) for key in seen]


@pytest.mark.parametrize(
    ("after", "until"),
    [(None, None), ("step5", "step10"), ("step10", "ext5"), ("ext8", "decay6"), ("step3", "step4")],
)
def test_an_interval_is_what_walking_through_its_steps_finds(
    phased_runs, entries, after, until, monkeypatch
):
    run = open_run(phased_runs / "encoder")
    first = run.step_of(after) if after else 0
    last = run.step_of(until) if until else 28
    wanted = [each for each in entries if first < each["step"] <= last]
    shown = show(phased_runs / "encoder", after=after, until=until)
    assert shown.rows == expected_rows(wanted)
    tokens: Counter[tuple[str, str]] = Counter()
    for each in wanted:
        tokens[each["source"], each["id"]] += each["size"]
    listed = [(each["source"], each["id"], each["tokens"]) for each in shown.documents]
    assert listed == [(*key, tokens[key]) for key in tokens]
    assert shown.row_count == len(shown.rows)
    assert shown.document_count == len(tokens)
    assert shown.tokens == sum(tokens.values())
    for name, each in shown.sources.items():
        assert each["rows"] == sum(row["source"] == name for row in shown.rows)
        assert each["documents"] == sum(source == name for source, _ in tokens)
        assert each["tokens"] == sum(
            count for (source, _), count in tokens.items() if source == name
        )
    # However the interval is cut into slabs, and whatever is listed, nothing else changes.
    monkeypatch.setattr(
        show_module, "slabs", lambda *given, **named: slabs(*given, **named, slab_rows=7)
    )
    again = show(phased_runs / "encoder", after=after, until=until)
    assert again.facts() == shown.facts()
    few = show(phased_runs / "encoder", after=after, until=until, limit=2).facts()
    assert few == {**shown.facts(), "rows": shown.rows[:2], "documents": shown.documents[:2]}


def test_tokens_of_an_interval_are_those_of_the_ledger(phased_runs):
    manifest = files.read_manifest(phased_runs / "encoder")
    shown = show(phased_runs / "encoder", limit=0)
    assert shown.tokens == manifest["facts"]["tokens"]
    assert not shown.rows + shown.documents


def test_hashes_of_intervals_agree_between_twins_and_differ_between_intervals(phased_runs):
    hashes = {}
    for name in ("encoder", "decoder"):
        names = tags(phased_runs / name)
        hashes[name] = [
            show(phased_runs / name, after=one, until=two, limit=0).hash
            for one, two in pairwise(names)
        ]
    assert hashes["encoder"] == hashes["decoder"]
    assert len(set(hashes["encoder"])) == 7
    # The cross phase reads the rows of the decay once more.
    decay = show(phased_runs / "decoder", after="ext8", limit=0)
    assert show(phased_runs / "encoder-from-decoder", limit=0).hash == decay.hash


def test_every_document_is_found_where_walking_finds_it(phased_runs, corpus_directory, entries):
    finder = Finder(open_run(phased_runs / "encoder"))
    corpus = Corpus.open(corpus_directory)
    found_steps = 0
    for source in corpus.source_names:
        documents = corpus.documents(source)
        for number in range(len(documents)):
            name = documents.id(number)
            found = finder.find(name)
            wanted = [
                {**each, "checkpoint": next(t for t, s in FIRST_CHECKPOINTS.items()
                                            if s >= each["step"])}
                for each in entries if each["id"] == name
            ]  # fmt: skip
            for each in wanted:
                del each["id"], each["size"]
            # Equal ids of several sources are found together.
            assert found.steps == sorted(
                wanted, key=lambda each: (each["step"], each["place"], each["tokens"])
            )
            found_steps += len(wanted)
    assert found_steps >= len(entries)


def test_every_document_is_found_as_often_as_epochs_say(many_epochs, corpus_directory):
    entries = walked(many_epochs, corpus_directory)
    finder = Finder(open_run(many_epochs))
    wanted = Counter((each["source"], each["id"]) for each in entries)
    epochs = {(each["source"], each["epoch"]) for each in entries}
    assert max(epoch for source, epoch in epochs if source == "letters") >= 2
    corpus = Corpus.open(corpus_directory)
    for source in corpus.source_names:
        documents = corpus.documents(source)
        for number in range(len(documents)):
            found = finder.find(documents.id(number))
            steps = [each for each in found.steps if each["source"] == source]
            assert len(steps) == wanted[source, documents.id(number)]
            whole = [
                each for each in steps if source == "letters" and each["epoch"] == 0
            ]  # an epoch that was gone through in full
            if source == "letters":
                place = next(each for each in found.sources if each["source"] == source)
                expected = 0 if place["held_out"] else place["tokens"]
                assert sum(end - first for first, end in (e["tokens"] for e in whole)) == expected


def test_a_held_out_document_says_so_and_has_no_steps(phased_runs, corpus_directory):
    corpus = Corpus.open(corpus_directory)
    table = corpus.table("prose", 64, split="held-out")
    name = table.document_id(table.chunks(0)[0].document)
    found = find(phased_runs / "decoder", name)
    assert {each["held_out"] for each in found.sources if each["source"] == "prose"} == {True}
    assert not [each for each in found.steps if each["source"] == "prose"]


def test_an_unknown_document_is_refused_with_the_nearest(phased_runs):
    with pytest.raises(InputError, match=r"no document 'l0001\.txt'; the nearest: '.*00.*txt'"):
        find(phased_runs / "encoder", "l0001.txt")


def test_hostile_and_odd_ids_are_found_and_told_apart(tokenizer_directory, tmp_path):
    odd = ["\x1b[31mred", "a", "b", "ab" * 40 + "x", "ab" * 40 + "y", "é" * 9, "é" * 8,
           "line\nbreak", "12345678", "23456781", "0" * 15 + "1", "0" * 16,
           "1" + "0" * 16]  # fmt: skip
    text = tmp_path / "text"
    text.mkdir()
    lines = [{"id": each, "text": "ba be bi bo bu " * 600} for each in odd]
    (text / "all.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    prepare(
        [Source("odd", (text,))], tokenizer=tokenizer_directory, out=tmp_path / "corpus",
        context_lengths=(64,), id_column="id",
    )  # fmt: skip
    corpus = Corpus.open(tmp_path / "corpus")
    documents = SeenDocuments(corpus)
    numbers = {each: corpus.documents("odd").find(each) for each in odd}
    for _ in range(2):  # by scanning, and by keys
        assert {each: documents.find(each) for each in odd} == {
            each: [number] for each, number in numbers.items()
        }
    for missing in ("", "0" * 14 + "1", "c", "ab" * 40, "\0a"):
        assert documents.find(missing) == []


def test_a_run_that_has_not_ended_is_asked_up_to_its_last_checkpoint(phased_runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(phased_runs / "encoder", run)
    (run / "manifest.json").unlink()
    for name in ("ext8", "decay4", "decay6"):
        shutil.rmtree(run / "checkpoints" / name)
    shown = show(run)
    assert shown.rows == show(phased_runs / "encoder", until="ext5").rows
    with pytest.raises(InputError, match="last checkpoint is ext5; ext8 is not reached"):
        show(run, until="ext8")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"until": "stop10"}, "no step 'stop10'; did you mean 'step10'"),
        ({"until": "step15"}, "no step 'step15'"),
        ({"until": "cross4"}, "no step 'cross4'"),
        ({"after": "ext5", "until": "step10"}, "the other way round"),
    ],
)
def test_tags_that_cannot_be_are_refused(phased_runs, given, message):
    with pytest.raises(InputError, match=message):
        show(phased_runs / "encoder", **given)


def test_a_corpus_that_is_another_or_gone_is_refused(phased_runs, corpus_directory, tmp_path):
    run, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(phased_runs / "encoder", run)
    shutil.copytree(corpus_directory, moved)
    start = files.read_json(run / "start.json")
    start["corpus"]["path"] = str(tmp_path / "gone")
    files.write_json(run / "start.json", start)
    with pytest.raises(InputError, match="is not there; give --corpus CORPUS"):
        show(run)
    assert show(run, corpus=moved).hash == show(phased_runs / "encoder").hash
    start["corpus"]["fingerprint"] = "0" * 32
    files.write_json(run / "start.json", start)
    with pytest.raises(InputError, match="is not the corpus"):
        show(run, corpus=moved)
    with pytest.raises(InputError, match=r"is not a run: it has no start\.json"):
        show(corpus_directory)


def test_a_changed_recipe_is_refused_instead_of_answered_from(phased_runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(phased_runs / "encoder", run)
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("seed: 21", "seed: 22"))
    with pytest.raises(InputError, match="the recipe was changed"):
        show(run)


def test_an_export_holds_what_walking_finds_a_file_for_each_checkpoint(
    phased_runs, entries, tmp_path
):
    out = tmp_path / "order"
    exported = export(phased_runs / "encoder", out=out, command=["test"])
    assert list(exported.facts["checkpoints"]) == list(FIRST_CHECKPOINTS)
    rows: list[dict[str, Any]] = []
    before = 0
    for name, each in exported.facts["checkpoints"].items():
        table = parquet.read_table(out / each["file"]).to_pylist()
        assert {row["step"] for row in table} == set(range(before + 1, FIRST_CHECKPOINTS[name] + 1))
        after = tags(phased_runs / "encoder")[list(FIRST_CHECKPOINTS).index(name)]
        shown = show(phased_runs / "encoder", after=after, until=name, limit=0)
        assert (each["rows"], each["tokens"], each["hash"]) == (
            shown.row_count, shown.tokens, shown.hash,
        )  # fmt: skip
        rows, before = rows + table, FIRST_CHECKPOINTS[name]
    wanted = expected_rows(entries)
    assert [{key: row[key] for key in ROW} for row in rows] == wanted
    chunks = [
        (name, [first, end], row["position"], row["step"])
        for row in rows
        for name, first, end in zip(row["documents"], row["starts"], row["ends"], strict=True)
    ]
    assert chunks == [(e["id"], e["tokens"], e["position"], e["step"]) for e in entries]
    assert sum(row["tokens"] for row in rows) == sum(each["size"] for each in entries)
    assert check(out) == []
    assert export(phased_runs / "encoder", out=out, command=["test"]).facts == exported.facts
    with pytest.raises(InputError, match="order of another run"):
        export(phased_runs / "encoder-from-decoder", out=out, command=["test"])
