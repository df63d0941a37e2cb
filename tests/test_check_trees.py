"""`check` on what `ettin publish` builds, and on what is downloaded of it."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from ettin.check import check, examine
from ettin.files import read_json, write_json
from ettin.publish.models import Thinning
from tests.hub import TOKEN, serving
from tests.publishing import dry_run, exports_of, send

REVISION = "org/it/decay6"


@pytest.fixture
def tree(phased_runs: Path, corpus_directory: Path, tmp_path: Path) -> Path:
    """A dry run of the decoder with all that belongs to it."""
    dry_run(
        [exports_of(phased_runs) / "decoder", phased_runs / "decoder", corpus_directory],
        tmp_path / "tree", repo="org/it", with_optimizer=True, thinning=Thinning(allow_gaps=True),
    )  # fmt: skip
    return tmp_path / "tree"


def test_a_tree_is_whole_and_its_resumable_checkpoints_are_not_unfinished(tree: Path) -> None:
    found = examine(tree)
    assert (found.problems, found.notes) == ([], [])
    assert check(tree.parent) == []


def test_what_is_other_than_listed_is_found_and_named(tree: Path) -> None:
    card = tree / REVISION / "README.md"
    text = card.read_text()
    (tree / REVISION / "config.json").unlink()
    card.write_text(text + "more")
    (tree / "org/it-checkpoints/main/ledger.jsonl").unlink()
    (tree / "org/new.txt").symlink_to("/etc/hostname")
    again = "the same `ettin publish` builds it again"
    assert check(tree) == [
        f"{tree}/org/new.txt: not in publish.json; {again} without it",
        f"{card}: content differs from publish.json; {again}",
        f"{tree / REVISION}/config.json: missing; {again}",
        f"{tree}/org/it-checkpoints/main/ledger.jsonl: missing; {again}",
    ]


def test_a_tree_that_was_never_built_to_its_end_is_unfinished(tree: Path) -> None:
    report = read_json(tree / "publish.json")
    write_json(tree / "publish.json", {**report, "repositories": []})
    [problem] = check(tree)
    assert "is unfinished: publish.json lists nothing" in problem
    report["repositories"][0]["repository"] = "../../etc"
    write_json(tree / "publish.json", report)
    [problem] = check(tree)
    assert "../../etc" in problem


def test_what_a_download_adds_is_no_problem(phased_runs: Path, tmp_path: Path) -> None:
    with serving() as hub:
        send(hub, [exports_of(phased_runs) / "decoder"], tmp_path / "out", repo="org/it")
        api = HfApi(endpoint=hub.endpoint, token=TOKEN)
        there = hub.repositories["model", "org/it"]
        for name in there.commits[there.head]:
            api.hf_hub_download("org/it", name, local_dir=tmp_path / "it")
    assert (tmp_path / "it/.gitattributes").is_file()
    assert (tmp_path / "it/.cache/huggingface").is_dir()
    assert check(tmp_path / "it") == []
    (tmp_path / "it/.cache/more").write_text("x")
    assert len(check(tmp_path / "it")) == 1


def test_a_damaged_directory_is_told_with_the_command_that_makes_it_again(
    phased_runs: Path, tmp_path: Path
) -> None:
    export = shutil.copytree(exports_of(phased_runs) / "decoder/decay6", tmp_path / "it")
    assert not any("make it again" in note for note in examine(export).notes)
    (export / "config.json").unlink()
    found = examine(export)
    assert found.problems == [f"{export}/config.json: missing"]
    command = f"ettin export {phased_runs}/decoder@decay6"
    assert found.notes == [
        f"{export}: take what is missing or differs from a copy, or remove it and make it again: "
        f"{command}"
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("one.json", "{", "it is not JSON: Exp"),
        ("many.jsonl", "{}\n{\n", "its line 2 is not JSON: Exp"),
    ],
)
def test_what_is_not_json_is_said_to_be_none(
    tmp_path: Path, name: str, content: str, sentence: str
) -> None:
    (tmp_path / name).write_text(content)
    [problem] = check(tmp_path)
    assert problem.startswith(f"{tmp_path / name}: {sentence}")
