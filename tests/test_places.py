"""Where text lies, as it is written: patterns, URLs, and what of them may be written down."""

from pathlib import Path

import pytest

from ettin.data.reading.places import (
    Pattern,
    check_url,
    local_place,
    split_pattern,
    without_secrets,
)
from ettin.errors import InputError


@pytest.mark.parametrize(
    ("place", "fixed", "parts"),
    [
        ("books/**/*.jsonl.gz", "books", ("**", "*.jsonl.gz")),
        ("*.txt", "", ("*.txt",)),
        ("/*.txt", "/", ("*.txt",)),
        ("/a/b?/c[12].txt", "/a", ("b?", "c[12].txt")),
        ("s3://bucket/crawl-*/text", "s3://bucket", ("crawl-*", "text")),
        (
            "hf://datasets/me/mine@v1/data/*.parquet",
            "hf://datasets/me/mine@v1/data",
            ("*.parquet",),
        ),
        ("https://host/books/*.txt", "https://host/books", ("*.txt",)),
    ],
)
def test_a_pattern_begins_at_its_first_wildcard(
    place: str, fixed: str, parts: tuple[str, ...]
) -> None:
    assert split_pattern(place) == (fixed, Pattern(parts))


def test_what_has_no_wildcard_is_no_pattern() -> None:
    for place in ("books/a.txt", "s3://bucket/a", "https://host/a?b"):
        assert split_pattern(place) == (place, None)
    with pytest.raises(InputError, match="wildcards can stand in the path alone, after s3://…/"):
        split_pattern("s3://my-*/a.txt")


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.txt", ["a.txt"], ["a/b.txt", "a.md"]),
        ("**/*.txt", ["a.txt", "a/b.txt", "a/b/c.txt"], ["a.md", "a/b.md"]),
        ("**", ["a.txt", "a/b.txt"], []),
        ("a*", ["a.txt", "a1/b.txt", "a1/b/c.md"], ["b/a.txt"]),
        ("a*/**/x.txt", ["a1/x.txt", "a1/b/c/x.txt"], ["x.txt", "b/x.txt", "a1/y.txt"]),
        ("**/x/**/*.txt", ["x/a.txt", "b/x/c/x/d.txt"], ["a.txt", "b/a.txt"]),
        ("?[12]", ["a1", "b2/c.txt"], ["a3", "ab1"]),
    ],
)
def test_a_pattern_means_what_a_shell_makes_of_it(
    pattern: str, yes: list[str], no: list[str]
) -> None:
    found = Pattern(tuple(pattern.split("/")))
    assert [name for name in yes + no if found.matches(name.split("/"))] == yes
    for name in yes:
        folders = name.split("/")[:-1]
        assert all(found.enters(folders[:depth]) for depth in range(len(folders) + 1))


def test_folders_that_cannot_hold_a_match_are_not_entered() -> None:
    pattern = Pattern(("a*", "b", "*.txt"))
    assert [each for each in ("a1", "b", "a1/b", "a1/c", "a1/b/c") if pattern.enters(
        each.split("/"))] == ["a1", "a1/b"]  # fmt: skip
    assert not pattern.takes_all_below(["a1"])
    assert Pattern(("a*",)).takes_all_below(["a1"])


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        f"https://me:{SECRET}@host/a.txt",
        f"https://{SECRET}@host/a.txt",
        f"https://me:{SECRET}/with/slashes@host/a.txt",
        f"https://host/a.txt?X-Amz-Signature={SECRET}",
        f"HTTPS://host/a.txt?{SECRET}",
        f"https://host/a.txt#token={SECRET}",
        f"s3://key:{SECRET}@bucket/a.txt",
        f"s3://bucket/a.txt?AWSAccessKeyId=me&Signature={SECRET}",
        f"gs://{SECRET}@bucket/a.txt",
        f"sftp://me:{SECRET}@host/a.txt",
        f"zip://a.txt::https://me:{SECRET}@host/a.zip",
        f"simplecache::https://host/a.txt?sig={SECRET}",
        f"hf://me:{SECRET}@datasets/me/mine",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError) as raised:
        check_url(url)
    assert SECRET not in str(raised.value)
    assert SECRET not in without_secrets(f"ClientError: no way to {url!r}, sorry")


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/part-?.txt",
        "https://host:8080/a@b/c.txt",
        "http://[::1]:80/a.txt",
        "hf://datasets/me/mine@refs/convert/parquet/default/train",
        "abfs://container@account.dfs.core.windows.net/a.txt",
        "sftp://me@host/a.txt",
        "memory://a/b.txt",
    ],
)
def test_a_url_without_secrets_is_taken_and_shown_as_it_stands(url: str) -> None:
    check_url(url)
    if "@account" not in url and "me@host" not in url:
        assert without_secrets(f"<{url}> is there") == f"<{url}> is there"


def test_file_urls_are_paths_of_this_machine() -> None:
    assert local_place("file:///a/b c.txt") == Path("/a/b c.txt")
    assert local_place("file://localhost/a.txt") == Path("/a.txt")
    assert local_place("a/b.txt") == local_place(Path("a/b.txt")) == Path("a/b.txt")
    assert local_place("s3://bucket/a.txt") is None
    with pytest.raises(InputError, match="with three slashes"):
        local_place("file://a/b.txt")
