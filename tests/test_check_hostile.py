"""`check` reads what anyone may have written: it never raises, and never reads outside."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ettin import files
from ettin.check import check, examine
from ettin.files import MANIFEST, read_json, write_json, write_manifest
from tests.made_up_runs import write_export, write_run
from tests.test_check import WRITERS, all_files, finish
from tests.test_results_directory import put_record


def write_manifest_text(directory: Path, **changed: Any) -> None:
    """Write a manifest whose digest is right, whatever it says."""
    manifest = {**read_json(directory / MANIFEST), **changed}
    manifest.pop("digest")
    manifest["digest"] = files.fingerprint(manifest)
    (directory / MANIFEST).write_bytes(files.rendered(manifest))


@pytest.mark.parametrize(
    "name", ["../secret.json", "../../x", "/etc/passwd", "a/../b", "./x", "a//b", "nul\0", ""]
)
def test_names_that_lead_out_are_problems_and_are_not_followed(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{")
    export = write_export(tmp_path / "export", "mlm")
    listed = read_json(export / MANIFEST)["files"]
    listed[name] = {"bytes": 1, "xxh3_128": files.fingerprint_file(secret)}
    write_manifest_text(export, files=listed)
    [problem] = check(export)
    assert "is no name of a file inside" in problem


def test_links_that_lead_out_are_problems_and_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.json").write_text("{not json")
    export = write_export(tmp_path / "made" / "export", "mlm")
    (export / "key.json").symlink_to(tmp_path / "secret" / "key.json")
    (export / "folder").symlink_to(tmp_path / "secret")
    os.mkfifo(export / "pipe")
    problems = check(finish_as_it_is(export))
    assert len([each for each in problems if "leads out" in each]) == 2
    assert any("not an ordinary file" in each for each in problems)
    (tmp_path / "made" / "other").symlink_to(tmp_path / "secret")
    (tmp_path / "made" / "loose.json").symlink_to(tmp_path / "secret" / "key.json")
    found = examine(tmp_path / "made")
    assert any("not followed" in note for note in found.notes)
    assert not any("not JSON" in each or "Expecting" in each for each in found.problems)


def finish_as_it_is(directory: Path) -> Path:
    """List the links too, as a hostile manifest would."""
    listed = read_json(directory / MANIFEST)["files"]
    listed["key.json"] = {"bytes": 9, "xxh3_128": "0" * 32}
    write_manifest_text(directory, files=listed)
    return directory


@pytest.mark.parametrize(
    "changed",
    [
        {"files": {"config.json": 5}}, {"files": []}, {"files": {"config.json": {"bytes": 1e400}}},
        {"facts": None}, {"kind": 7}, {"made_from": "x"}, {"command": {}}, {"format": [1]},
        {"facts": {"ettin": "\ud800"}}, {"kind": "\x1b[31mred\n"},
    ],
)  # fmt: skip
def test_a_manifest_of_wrong_types_is_a_sentence(changed: dict[str, Any], tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", "mlm")
    try:
        write_manifest_text(export, **changed)
    except ValueError:  # no digest can be made of it
        manifest = {**read_json(export / MANIFEST), **changed}
        (export / MANIFEST).write_text(json.dumps(manifest))
    found = examine(export)
    assert found.problems or changed.get("kind") == "\x1b[31mred\n"
    assert all(sentence.isprintable() for sentence in (*found.problems, *found.notes))


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 10_000, "{", "[]", "null", "NaN"])
@pytest.mark.parametrize("name", ["manifest.json", "config.json", "parity.json"])
def test_json_beyond_all_bounds_is_a_sentence(content: str, name: str, tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", "mlm")
    (export / name).write_text(content)
    if name != MANIFEST:
        finish(export, "export", {"ettin": {}})
    assert check(export)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside JSON."""
    inside = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ())  # fmt: skip
    return [path, *(place for key, each in inside for place in _places(each, (*path, key)))]


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(copy[path[0]], path[1:], new)
    return copy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from([10**400, -(10**30), 1e308, "../../x", "/", "a" * 5000]),
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(st.text(max_size=3), inside,
                                                                 max_size=2),
    max_leaves=4,
)  # fmt: skip


def _write_results(directory: Path) -> Path:
    put_record(directory, "encoder")
    write_manifest(directory, "results", command=[], made_from={}, facts={})
    return directory


FUZZED = {**{kind: WRITERS[kind] for kind in ("run", "checkpoint", "export", "corpus")},
          "results": _write_results}  # fmt: skip


@pytest.mark.parametrize("kind", FUZZED)
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_value_in_any_file_may_be_replaced_and_the_check_says_what_it_thinks(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzzed")
    try:
        directory = FUZZED[kind](folder / "made")
        paths = [path for path in all_files(directory) if path.suffix in {".json", ".jsonl"}]
        path = data.draw(st.sampled_from(paths))
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        at = data.draw(st.integers(0, len(lines) - 1))
        value = json.loads(lines[at])
        place = data.draw(st.sampled_from(_places(value)))
        new = data.draw(JSON)
        lines[at] = json.dumps(_replaced(value, place, new))
        path.write_text("\n".join(lines) + "\n")
        changed = json.loads(lines[at]) != value
        if path.name == MANIFEST or data.draw(st.booleans()):
            problems = check(directory)
            assert problems or not changed
        else:
            kept = read_json(directory / MANIFEST)
            finish(directory, kept["kind"], kept["facts"])
            check(directory)
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_sixty_random_flips_in_each_kind_are_all_found(kind: str, tmp_path: Path) -> None:
    directory = WRITERS[kind](tmp_path / "made")
    draw = random.Random(17)
    for _ in range(60):
        path = draw.choice(all_files(directory))
        whole = path.read_bytes()
        place, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        meant = path.name != MANIFEST or _meaning(path.read_bytes()) != _meaning(whole)
        assert check(directory) or not meant, (path, place, bit)
        path.write_bytes(whole)


def _meaning(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content


def test_a_recipe_of_more_steps_than_anyone_could_list_is_a_sentence(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "mlm", checkpoints=[])
    text = (run / "recipe.yaml").read_text()
    tokens = 120 * 14 * 512
    assert f"tokens: {tokens}" in text
    (run / "recipe.yaml").write_text(text.replace(f"tokens: {tokens}", f"tokens: {10**18}"))
    [problem] = [each for each in check(finish(run, "run", read_json(run / MANIFEST)["facts"]))
                 if "metrics" in each]  # fmt: skip
    assert "ends at step 120" in problem


def test_a_file_that_may_not_be_read_is_a_sentence(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", "mlm")
    (export / "config.json").unlink()
    (export / "config.json").mkdir()
    assert any("missing" in each for each in check(export))
    write_json(export / "config.json" / "inner.json", {})
    assert any("not in the manifest" in each for each in check(export))
