"""Patterns of files on this machine, as sources."""

from pathlib import Path

import pytest

from ettin.data.reading.sources import (
    Source,
    Tally,
    list_files,
    local_tops,
    named_sources,
    read_documents,
)
from ettin.data.reading.tally import Reading
from ettin.errors import InputError


@pytest.fixture
def books(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.txt", "a.md", ".a.txt", "poe/c.txt", "poe/.d/e.txt", "poe/f/g.txt",
                 "doyle/h.md"):  # fmt: skip
        path = tmp_path / "books" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "books"


def found(*places: Path | str, exclude: tuple[str, ...] = ()) -> tuple[list[str], dict[str, int]]:
    tally = Tally()
    files = list_files([Source("s", places, exclude)], reading=Reading("", None, "skip", tally))
    return [each.relative for each in files], dict(tally.skipped)


def test_a_pattern_finds_files_below_its_fixed_part_and_counts_hidden_ones(books: Path) -> None:
    assert found(f"{books}/*.txt") == (["a.txt", "b.txt"], {"hidden": 1})
    assert found(f"{books}/**/*.txt") == (
        ["a.txt", "b.txt", "poe/c.txt", "poe/f/g.txt"], {"hidden": 2},
    )  # fmt: skip
    assert found(books / "po*" / "*.txt") == (["poe/c.txt"], {})
    assert found(f"{books}/**/*.txt", exclude=("b*", "f"))[0] == ["a.txt", "poe/c.txt"]


def test_a_folder_that_matches_is_read_whole_as_a_shell_would_give_it(books: Path) -> None:
    assert found(f"{books}/[pd]*")[0] == ["doyle/h.md", "poe/c.txt", "poe/f/g.txt"]
    by_shell = Source("s", tuple(sorted(books.glob("[pd]*"))))
    by_us = Source("s", (f"{books}/[pd]*",))
    texts, expected = (
        [each.text for each in read_documents(source, tally=Tally())]
        for source in (by_us, by_shell)
    )
    assert texts == expected == ["doyle/h.md", "poe/c.txt", "poe/f/g.txt"]


def test_documents_keep_their_ids_when_a_folder_is_given_as_a_pattern(books: Path) -> None:
    both = [
        [(each.id, each.text) for each in read_documents(Source("s", (place,)), tally=Tally())]
        for place in (books, f"{books}/**", f"file://{books}", f"file://{books}/**")
    ]
    assert both[0] == both[1] == both[2] == both[3]


def test_a_path_that_is_there_is_taken_as_it_stands(books: Path) -> None:
    odd = books / "a[1]*.txt"
    odd.write_text("odd")
    (books / "a1x.txt").write_text("other")
    assert found(odd)[0] == [odd.name]


def test_a_pattern_without_a_match_says_so_and_what_was_left_out(books: Path) -> None:
    with pytest.raises(InputError, match=r"/\*\.html: no file matches\. `\*` stands for"):
        found(f"{books}/*.html")
    with pytest.raises(InputError, match=r"no file matches \(left out: 1 hidden, 2 excluded\)"):
        found(f"{books}/*.txt", exclude=("a.*", "b.*"))
    with pytest.raises(InputError, match="no file matches, since there is no folder"):
        found(f"{books}/verne/*.txt")


def test_patterns_and_folders_and_urls_mix_in_named_sources(books: Path) -> None:
    sources = named_sources([], [f"a={books}/*.txt", f"b={books}/poe", f"a=file://{books}/doyle"])
    assert [(each.source, each.relative) for each in list_files(sources)] == [
        ("a", "a.txt"), ("a", "b.txt"), ("a", "h.md"), ("b", "c.txt"), ("b", "f/g.txt"),
    ]  # fmt: skip
    assert [local_tops(each) for each in sources] == [[books, books / "doyle"], [books / "poe"]]


@pytest.mark.parametrize(
    ("text", "named", "mixture"),
    [
        ([], ["a=https://me:s3cr3t@host/x"], None),
        ([], ["https://me:s3cr3t@host/x"], None),
        ([], ["https://host/x?sig=s3cr3t"], None),
        (["https://me:s3cr3t@host/x"], [], None),
        (["https://me:s3cr3t@host/x"], [], "decay"),
    ],
)
def test_sources_with_credentials_are_refused_before_anything_is_opened(
    text: list[str], named: list[str], mixture: str | None
) -> None:
    with pytest.raises(InputError) as told:
        named_sources(text, named, mixture=mixture)
    assert "s3cr3t" not in str(told.value)
