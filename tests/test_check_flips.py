"""`check` finds every changed byte of a corpus, wherever it is, and files too many or too few."""

import random
import shutil
from pathlib import Path

import pytest

from ettin.check import check
from ettin.files import MANIFEST

FLIPS = 300
OF_EACH_FILE = 12


@pytest.fixture
def corpus(corpus_directory: Path, tmp_path: Path) -> Path:
    """A copy of the shared corpus that a test may damage."""
    return Path(shutil.copytree(corpus_directory, tmp_path / "corpus"))


def all_files(corpus: Path) -> list[Path]:
    return sorted(path for path in corpus.rglob("*") if path.is_file())


def put(path: Path, place: int, value: int) -> None:
    """Change one byte in place."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([value]))


def test_300_random_changes_of_a_single_byte_are_all_found(corpus: Path) -> None:
    draw = random.Random(300)
    paths = all_files(corpus)
    sizes = [path.stat().st_size for path in paths]
    chosen = paths * OF_EACH_FILE
    chosen += draw.choices(paths, sizes, k=FLIPS - len(chosen))
    assert len(chosen) == FLIPS
    assert {path.suffix for path in chosen} == {".json", ".arrow"}
    assert {MANIFEST, "tokenizer.json", "rows-64.arrow"} <= {path.name for path in chosen}
    for path in chosen:
        place = draw.randrange(path.stat().st_size)
        was = path.read_bytes()[place]
        put(path, place, was ^ draw.randrange(1, 256))
        assert check(corpus), f"{path.relative_to(corpus)}, byte {place}"
        put(path, place, was)
    assert check(corpus) == []


def test_white_space_of_the_manifest_counts(corpus: Path) -> None:
    draw, manifest = random.Random(0), corpus / MANIFEST
    content = manifest.read_bytes()
    blanks = [place for place, byte in enumerate(content) if byte in b" \n"]
    for place in (blanks[0], blanks[-1], *draw.sample(blanks, 20)):
        for other in b" \n\t\r":
            if other != content[place]:
                put(manifest, place, other)
                assert check(corpus), place
        put(manifest, place, content[place])
    for changed in (content + b"\n", content[:-1], content.replace(b"\n", b"\r\n")):
        manifest.write_bytes(changed)
        assert check(corpus)


@pytest.mark.parametrize("lost", [1, 8, 4096])
def test_truncation_is_found_in_every_file(corpus: Path, lost: int) -> None:
    for path in all_files(corpus):
        content = path.read_bytes()
        path.write_bytes(content[:-lost])
        assert any(path.name in problem for problem in check(corpus)), path
        path.write_bytes(content)
    assert check(corpus) == []


def test_an_added_and_a_removed_file_are_found(corpus: Path) -> None:
    for folder in {path.parent for path in all_files(corpus)}:
        added = folder / "tokens-00009.arrow"
        added.write_bytes(b"")
        assert any("not in the manifest" in problem for problem in check(corpus))
        added.unlink()
    for path in all_files(corpus):
        away = path.rename(corpus.parent / "away")
        assert check(corpus), path
        away.rename(path)
    assert check(corpus) == []


def test_a_file_in_the_place_of_another_of_equal_size_is_found(corpus: Path) -> None:
    for path in all_files(corpus):
        whole = path.read_bytes()
        other = whole[len(whole) // 2 :] + whole[: len(whole) // 2]
        assert sorted(other) == sorted(whole)
        assert other != whole
        path.write_bytes(other)
        assert any(path.name in problem for problem in check(corpus)), path
        path.write_bytes(whole)
    assert check(corpus) == []
