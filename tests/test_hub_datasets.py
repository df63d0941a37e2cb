"""Data sets on the hub: which of their files are read, and how, from a stand-in on this machine."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pyarrow
import pytest
from pyarrow import parquet

from ettin.data.reading import remote_files
from ettin.data.reading.hub_datasets import choose_files
from ettin.data.reading.remote_files import SourceUnavailableError
from ettin.data.reading.sources import Source, Tally, list_files, read_documents
from ettin.errors import InputError
from tests.hub import TOKEN, Hub, serving

URL = "hf://datasets/me/mine"
PLAIN = ["README.md", ".gitattributes", "LICENSE", "train.jsonl", "test.jsonl"]


def chosen(names: list[str], card: str = "", url: str = URL) -> list[str]:
    return choose_files(names, card=card, url=url)[0]


def card(configs: str) -> str:
    return f"---\nlicense: mit\nconfigs:\n{configs}\n---\n# Mine\n"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["README.md", "a.parquet", "b.parquet"], ["a.parquet", "b.parquet"]),
        (PLAIN, ["train.jsonl"]),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet",
          "data/validation-00000-of-00001.parquet"],
         ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]),
        (["a.csv.gz", "dev.csv.gz", "b/c.csv.gz"], ["a.csv.gz", "b/c.csv.gz"]),
        (["train/test_runs.csv", "train/a.csv"], ["train/a.csv"]),
        (["a.parquet", "b.parquet", "notes.csv"], ["a.parquet", "b.parquet"]),
        (["contest.jsonl", "trained.jsonl"], ["contest.jsonl", "trained.jsonl"]),
    ],
)  # fmt: skip
def test_without_a_card_names_tell_which_files_are_for_training(
    names: list[str], expected: list[str]
) -> None:
    assert chosen(names) == expected
    assert chosen(names, "# No front matter\n---\n") == expected


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ("- config_name: default\n  data_files: x/*.csv", ["x/a.csv", "x/b.csv"]),
        ("- config_name: default\n  data_files: [x/a.csv, y/c.csv]", ["x/a.csv", "y/c.csv"]),
        ("- config_name: x\n  data_files:\n  - split: train\n    path: x/b*\n"
         "  - split: test\n    path: y/**", ["x/b.csv"]),
        ("- config_name: x\n  data_files:\n  - split: all\n    path: [./x/a.csv]", ["x/a.csv"]),
        ("- config_name: x\n  data_files:\n    train: y/*.csv\n    test: x/a.csv", ["y/c.csv"]),
        ("- config_name: x\n  data_dir: y", ["y/c.csv"]),
        ("- config_name: x\n  data_dir: x\n  data_files: a.csv", ["x/a.csv"]),
        ("- config_name: x\n  data_files: x/*\n- config_name: default\n  data_files: y/*",
         ["y/c.csv"]),
        ("- config_name: x\n  data_files: x/*\n- config_name: y\n  default: true\n"
         "  data_files: y/*", ["y/c.csv"]),
    ],
)  # fmt: skip
def test_a_card_says_which_files_are_for_training(configs: str, expected: list[str]) -> None:
    names = ["README.md", "train.csv", "x/a.csv", "x/b.csv", "y/c.csv"]
    found, passed_over = choose_files(names, card=card(configs), url=URL)
    assert found == expected
    assert sorted(found + passed_over) == sorted(names[1:])


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ("- config_name: en\n  data_files: en/*\n- config_name: fr\n  data_files:\n"
         "  - split: train\n    path: fr/train*\n  - split: test\n    path: fr/test*",
         rf"2 configurations; choose one by its files:\n  en: '{URL}/en/\*'\n"
         rf"  fr: '{URL}/fr/train\*'"),
        ("- config_name: en\n  data_files:\n    one: en/a*\n    two: en/b*",
         rf"no split 'train'; choose one by its files:\n  one: '{URL}/en/a\*'\n  two: "),
        ("- config_name: en\n  data_files: https://host/a.csv", "names data elsewhere, https://host"),
        ("- config_name: en\n  data_files: de/*", r"its card names de/\*, where no file is"),
        ("- config_name: en\n  data_files: en/*.json", r"data as \.json.*@refs/convert/parquet"),
        ("- config_name: [", "README.md of the data set cannot be read"),
    ],
)  # fmt: skip
def test_what_a_card_leaves_open_is_asked_for(configs: str, message: str) -> None:
    names = ["README.md", "en/a.csv", "en/b.csv", "en/c.json", "fr/train.csv", "fr/test.csv"]
    with pytest.raises(InputError, match=message):
        chosen(names, card(configs))


def test_a_data_set_without_a_split_for_training_or_a_known_format_is_refused() -> None:
    with pytest.raises(InputError, match=rf"found: test, validation.*'{URL}/dev.csv'"):
        chosen(["dev.csv", "test.csv"])
    with pytest.raises(InputError, match=r"but 2 \.json, 1 \.tar\. The hub may have it as parquet"):
        chosen(["a.json", "b.json", "c.tar", ".gitattributes"])


def test_the_branch_of_converted_data_has_a_folder_for_each_configuration_and_split() -> None:
    names = ["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0.parquet"]
    branch = f"{URL}@refs/convert/parquet"
    assert chosen(names, url=branch) == names[:2]
    with pytest.raises(InputError, match=rf"2 configurations.*\n  de: '{branch}/de/train/\*'"):
        chosen(["de/train/0.parquet", "fr/train/0.parquet"], url=branch)


ROWS = [f"text {n}" for n in range(40)]


def table() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ROWS, "id": [f"i{n}" for n in range(40)]}), sink)
    return sink.getvalue()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as serves:
        data_set = serves.make("dataset", "me/mine")
        lines = b"".join(json.dumps({"text": f"line {n}"}).encode() + b"\n" for n in range(9))
        data_set.commit(
            {"README.md": b"# Mine", ".gitattributes": b"", "data/train-0.parquet": table(),
             "data/test-0.parquet": table(), "extra/a.jsonl": lines}, "data",
        )  # fmt: skip
        data_set.tags["v1"] = data_set.head
        fsspec.config.conf["hf"] = {"endpoint": serves.endpoint, "token": TOKEN}
        yield serves
        del fsspec.config.conf["hf"]
        fsspec.get_filesystem_class("hf").clear_instance_cache()


def read(place: str, **options: str) -> tuple[list[tuple[str, str]], Tally]:
    tally = Tally()
    documents = read_documents(Source("s", (place,)), tally=tally, **options)  # type: ignore[arg-type]
    return [(each.id, each.text) for each in documents], tally


def test_a_data_set_is_listed_once_and_read_at_one_commit(hub: Hub) -> None:
    found, tally = read(URL)
    assert found == [(f"data/train-0.parquet:{n}", text) for n, text in enumerate(ROWS)]
    assert tally.skipped == {"not among the data of the split": 2}
    head = hub.repositories["dataset", "me/mine"].head
    assert sum("/tree/" in each for each in hub.requests) == 1
    assert all(head in each for each in hub.requests if "/tree/" in each or "/resolve/" in each)


@pytest.mark.parametrize(
    ("place", "first", "count"),
    [
        (f"{URL}@v1", "data/train-0.parquet:0", 40),
        (f"{URL}/data", "test-0.parquet:0", 80),
        (f"{URL}/data/train-0.parquet", "train-0.parquet:0", 40),
        (f"{URL}@v1/extra/*.jsonl", "a.jsonl:1", 9),
        (f"{URL}/**/*.jsonl", "extra/a.jsonl:1", 9),
    ],
)
def test_a_path_or_pattern_names_files_of_a_data_set(
    hub: Hub, place: str, first: str, count: int
) -> None:
    found, _ = read(place)
    assert (found[0][0], len(found)) == (first, count)
    if "train" in place:
        assert read(place, id_column="id")[0][0][0] == "i0"


def test_only_folders_that_a_pattern_leads_through_are_listed(hub: Hub) -> None:
    assert len(read(f"{URL}/d*/*.parquet")[0]) == 80
    assert [each.partition("/tree/")[2][41:] for each in hub.requests if "/tree/" in each] == [
        "", "data",
    ]  # fmt: skip


def test_versions_are_those_of_files_and_not_of_the_whole_data_set(hub: Hub) -> None:
    data_set = hub.repositories["dataset", "me/mine"]
    before = list_files([Source("s", (URL,))])
    data_set.commit({**data_set.files_at("main"), "README.md": b"# Better"}, "words")
    fsspec.get_filesystem_class("hf").clear_instance_cache()
    after = list_files([Source("s", (URL,))])
    assert [each[2:] for each in before] == [each[2:] for each in after]
    assert before[0].location != after[0].location
    tree = {**data_set.files_at("main"), "data/train-0.parquet": table()[:-1] + b"?"}
    data_set.commit(tree, "other rows")
    fsspec.get_filesystem_class("hf").clear_instance_cache()
    (changed,) = list_files([Source("s", (URL,))])
    assert changed.version != before[0].version
    assert read(f"{URL}@v1")[0][0] == ("data/train-0.parquet:0", "text 0")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("hf://datasets/me/yours", "repository not found"),
        (f"{URL}@v2", "revision not found"),
        (f"{URL}/data/none.parquet", "there is nothing to read"),
        (f"{URL}/none/*.parquet", "no file matches|there is nothing to read"),
        ("hf://datasets/me", "there is nothing to read"),
    ],
)
def test_what_a_data_set_does_not_have_is_a_mistake_of_the_caller(
    hub: Hub, place: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(place)


def test_a_missing_token_is_asked_for(hub: Hub) -> None:
    fsspec.config.conf["hf"] = {"endpoint": hub.endpoint, "token": "hf_another"}
    with pytest.raises(InputError, match="`hf auth login`, or HF_TOKEN") as told:
        read(URL)
    assert "hf_another" not in str(told.value)


def test_a_hub_that_fails_ends_the_command(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "WAIT_SECONDS", (0.0, 0.0))
    files = list_files([Source("s", (URL,))])
    hub.faults.at_request = lambda _: 404
    with pytest.raises(SourceUnavailableError, match="did not come in 3 attempts"):
        files[0].open().read(1)


def test_the_endpoint_and_token_of_the_environment_are_used(hub: Hub, tmp_path: Path) -> None:
    script = (
        "from ettin.data.reading.sources import *\n"
        f"for each in read_documents(Source('s', ('{URL}/extra',)), tally=Tally()): "
        "print(each.id, each.text)\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN,
                   "HF_HOME": str(tmp_path)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "a.jsonl:9 line 8", done.stderr
