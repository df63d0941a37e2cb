"""Training goes on with the corpus that it began with, wherever that lies, and with no other."""

import shutil
from pathlib import Path

import pytest

from ettin import files
from ettin.errors import InputError
from ettin.training.checkpoint import list_checkpoints
from ettin.training.trainer import train
from tests.recipes import tiny_recipe
from tests.restated import restated
from tests.runs import assert_same_run

SHARD = "prose/tokens-00000.arrow"


@pytest.fixture(scope="module")
def whole(corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    return trained(tmp_path_factory.mktemp("runs") / "whole", corpus_directory)


@pytest.fixture
def begun(whole: Path, tmp_path: Path) -> Path:
    """The same run as it was after its second checkpoint."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    (run / files.MANIFEST).unlink()
    for checkpoint in list_checkpoints(run)[2:]:
        shutil.rmtree(checkpoint.path)
    return run


@pytest.fixture
def corpus(corpus_directory: Path, tmp_path: Path) -> Path:
    """A copy of the shared corpus that a test may change."""
    return Path(shutil.copytree(corpus_directory, tmp_path / "corpus"))


def trained(run: Path, corpus: Path) -> Path:
    train(tiny_recipe(), out=run, corpus_path=corpus, command=["test"])
    return run


def test_a_run_goes_on_with_an_equal_corpus_that_was_made_again_elsewhere(
    whole: Path, begun: Path, corpus: Path, corpus_directory: Path
) -> None:
    restated(corpus, lambda facts: facts.update(more="another summary"))
    digests = {files.read_manifest(each)["digest"] for each in (corpus, corpus_directory)}
    assert len(digests) == 2
    assert_same_run(whole, trained(begun, corpus))


def test_a_run_refuses_a_corpus_whose_content_changed_since_it_began(
    begun: Path, corpus: Path
) -> None:
    content = bytearray((corpus / SHARD).read_bytes())
    content[len(content) // 2] ^= 1
    (corpus / SHARD).write_bytes(content)
    restated(corpus)
    with pytest.raises(InputError, match=r"corpus: begun with .*its content differs"):
        trained(begun, corpus)
    assert [each.tag for each in list_checkpoints(begun)] == ["step0", "step7"]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_corpus_that_lacks_bytes_is_refused_before_the_first_step(
    begun: Path, corpus: Path, tmp_path: Path, *, resumed: bool
) -> None:
    content = (corpus / SHARD).read_bytes()
    (corpus / SHARD).write_bytes(content[:-8])
    out = begun if resumed else tmp_path / "new"
    with pytest.raises(InputError, match=f"{SHARD} has .* `ettin check .*corpus`"):
        trained(out, corpus)
    assert resumed or not out.exists()
    (corpus / SHARD).unlink()
    with pytest.raises(InputError, match=f"{SHARD} is missing"):
        trained(out, corpus)


def test_a_manifest_that_was_altered_is_refused(begun: Path, corpus: Path) -> None:
    manifest = corpus / files.MANIFEST
    manifest.write_text(manifest.read_text().replace('"packing": "chunks"', '"packing": "none"'))
    with pytest.raises(InputError, match="was altered"):
        trained(begun, corpus)
