"""Equal content has one identity, however it came about; all that steers reading changes it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ettin import files
from ettin.data.corpus import Corpus
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source
from ettin.errors import InputError
from ettin.identity import identity, refuse_incomplete
from ettin.training.setup import build
from tests.recipes import tiny_recipe
from tests.restated import restated


@pytest.fixture
def corpus(corpus_directory: Path, tmp_path: Path) -> Path:
    """A copy of the shared corpus that a test may change."""
    return Path(shutil.copytree(corpus_directory, tmp_path / "corpus"))


def finished(directory: Path, *, content: str = "one", command: str = "x") -> Path:
    """A directory with a finished one inside."""
    (directory / "part").mkdir(parents=True)
    (directory / "a.txt").write_text("a")
    (directory / "part" / "b.txt").write_text(content)
    for each in (directory / "part", directory):
        files.write_manifest(each, "thing", command=[command], made_from={}, facts={"seconds": 1})
    return directory


def test_a_corpus_made_again_in_another_place_at_another_time_is_the_same(
    text_folder: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    made = []
    for number, name in enumerate(("here", "there")):
        text = Path(shutil.copytree(text_folder / "letters", tmp_path / name / "letters"))
        for path in text.iterdir():
            os.utime(path, (number, number))
        out = tmp_path / name / "corpus"
        prepare([Source("letters", (text,))], tokenizer=tokenizer_directory, out=out,
                context_lengths=(64,), command=["ettin", "prepare", name])  # fmt: skip
        made.append(out)
    assert len({files.read_manifest(each)["digest"] for each in made}) == 2
    assert len({Corpus.open(each).fingerprint for each in made}) == 1


def test_a_corpus_of_one_other_letter_is_another(
    text_folder: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    text = Path(shutil.copytree(text_folder / "letters", tmp_path / "letters"))
    found = []
    for name in ("before", "after"):
        prepare([Source("letters", (text,))], tokenizer=tokenizer_directory,
                out=tmp_path / name, context_lengths=(64,))  # fmt: skip
        found.append(identity(tmp_path / name))
        first = text / "000.txt"
        first.write_text("Z" + first.read_text()[1:])
    assert found[0] != found[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.update(sources=dict(reversed(facts["sources"].items()))),
        lambda facts: facts["sources"]["prose"]["shards"].append(0),
        lambda facts: facts["sources"].pop("prose"),
        lambda facts: facts["sources"]["prose"]["rows"]["64"].update(tokens=1),
        lambda facts: facts.update(chunk_rules={"64": {"skip_below": 9}}),
        lambda facts: facts["context_lengths"].append(256),
        lambda facts: facts["tokenizer"]["special"].update(eos=9),
        lambda facts: facts["tokenizer"].update(padded_size=1024),
        lambda facts: facts["tokenizer"].update(size=511),
        lambda facts: facts["tokenizer"]["ordinary_ranges"][0].__setitem__(0, 7),
    ],
)
def test_facts_that_steer_reading_change_the_identity(
    corpus: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    before = identity(corpus)
    assert identity(restated(corpus, change)) != before


def test_what_is_told_for_people_does_not(corpus: Path) -> None:
    before = identity(corpus)
    (corpus / "README.md").write_text("A card.")
    restated(corpus, lambda facts: facts["sources"]["prose"].update(skipped={"odd": 3}))
    assert "README.md" in files.read_manifest(corpus)["files"]
    assert identity(corpus) == before
    shutil.move(corpus / "README.md", corpus / "prose" / "README.md")
    assert identity(restated(corpus)) != before


def test_a_directory_inside_counts_by_its_own_identity(tmp_path: Path) -> None:
    first = identity(finished(tmp_path / "1"))
    assert identity(finished(tmp_path / "2", command="y")) == first
    assert identity(finished(tmp_path / "3", content="two")) != first
    (tmp_path / "1" / "part" / files.MANIFEST).unlink()
    with pytest.raises(InputError, match="unfinished"):
        identity(tmp_path / "1")


def test_rows_are_read_by_facts_of_the_identity_alone(corpus: Path) -> None:
    manifest = files.read_manifest(corpus, "corpus")
    facts = manifest["facts"]
    tokenizer = ("size", "padded_size", "special", "ordinary_ranges")
    steering = {
        "sources": {
            name: {each: told[each] for each in ("shards", "rows")}
            for name, told in facts["sources"].items()
        },
        "context_lengths": facts["context_lengths"],
        "tokenizer": {name: facts["tokenizer"][name] for name in tokenizer},
    } | {name: facts[name] for name in ("chunk_rules",) if name in facts}
    known, bare = Corpus(corpus, manifest), Corpus(corpus, {**manifest, "facts": steering})
    assert bare.fingerprint == known.fingerprint
    phases = [build(tiny_recipe(), corpus=each).phases[0] for each in (known, bare)]
    for batches in ([phase.held_out for phase in phases],
                    [phase.load(3).micro_batches for phase in phases]):  # fmt: skip
        for one, other in zip(*batches, strict=True):
            assert torch.equal(one.task.inputs, other.task.inputs)
            assert torch.equal(one.task.positions, other.task.positions)


def test_a_file_that_is_missing_or_of_another_size_is_refused_before_anything_is_read(
    corpus: Path,
) -> None:
    refuse_incomplete(corpus)
    shard = corpus / "prose" / "tokens-00000.arrow"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"has [\d,]+ bytes, expected [\d,]+ bytes.*ettin check"):
        refuse_incomplete(corpus)
    shard.unlink()
    with pytest.raises(InputError, match=r"tokens-00000\.arrow is missing"):
        refuse_incomplete(corpus)
    shard.write_bytes(content)
    refuse_incomplete(corpus)
