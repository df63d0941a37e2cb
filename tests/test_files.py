"""Files are whole or absent, and every change to a finished directory is found."""

import errno
import json
import os
import subprocess
import sys

import pytest

from ettin import files
from ettin.errors import InputError, NoSpaceError


def finished(directory):
    (directory / "inner").mkdir(parents=True)
    (directory / "a.txt").write_text("one")
    (directory / "inner" / "b.bin").write_bytes(bytes(range(256)))
    (directory / "part").mkdir()
    (directory / "part" / "c.txt").write_text("three")
    files.write_manifest(directory / "part", "part", command=[], made_from={}, facts={})
    files.write_manifest(directory, "whole", command=["x"], made_from={"y": 1}, facts={"z": 2})
    return directory


def test_a_manifest_lists_files_and_stands_for_finished_subdirectories(tmp_path):
    manifest = files.read_manifest(finished(tmp_path / "d"), "whole")
    assert set(manifest["files"]) == {"a.txt", "inner/b.bin", "part/manifest.json"}
    assert files.verify(tmp_path / "d") == []


def test_a_flipped_byte_in_any_file_is_found(tmp_path):
    directory = finished(tmp_path / "d")
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            for place in {0, len(content) // 2, len(content) - 1}:
                path.write_bytes(
                    content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
                )
                assert files.verify(directory), (path, place)
            path.write_bytes(content)
    assert files.verify(directory) == []


def test_missing_unlisted_and_truncated_files_are_found(tmp_path):
    directory = finished(tmp_path / "d")
    (directory / "extra").write_text("")
    assert any("not in the manifest" in problem for problem in files.verify(directory))
    (directory / "extra").unlink()
    (directory / "a.txt").write_text("on")
    assert any("2 bytes, expected 3" in problem for problem in files.verify(directory))
    (directory / "a.txt").unlink()
    assert any("missing" in problem for problem in files.verify(directory))


def test_an_unfinished_directory_and_another_kind_are_refused(tmp_path):
    directory = finished(tmp_path / "d")
    with pytest.raises(InputError, match="is a whole, expected a corpus"):
        files.read_manifest(directory, "corpus")
    (directory / "manifest.json").unlink()
    with pytest.raises(InputError, match="unfinished"):
        files.read_manifest(directory)


def test_a_manifest_of_another_format_is_refused(tmp_path):
    directory = finished(tmp_path / "d")
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["format"] = 99
    del manifest["digest"]
    manifest["digest"] = files.fingerprint(manifest)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="format 99"):
        files.read_manifest(directory)


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "f"
    files.write_atomic(path, "old")

    def full(_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpaceError, match=r"3 bytes needed.*bytes free"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


def test_staging_leaves_nothing_when_it_fails_and_everything_when_it_does_not(tmp_path):
    target = tmp_path / "d"

    def fails_half_way() -> None:
        with files.staging(target) as partial:
            (partial / "a").write_text("1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_half_way()
    assert list(tmp_path.iterdir()) == []
    with files.staging(target) as partial:
        (partial / "a").write_text("1")
    assert [path.name for path in target.iterdir()] == ["a"]
    with pytest.raises(InputError, match="not empty"), files.staging(target):
        pass


def test_a_lock_is_held_by_one_process_and_vanishes_with_it(tmp_path):
    target = tmp_path / "run"
    code = (
        "import sys; from pathlib import Path; from ettin import files\n"
        "try:\n"
        "    with files.locked(Path(sys.argv[1])): print('held')\n"
        "except ValueError as error: print(error)\n"
    )

    def other() -> str:
        command = [sys.executable, "-c", code, str(target)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with files.locked(target):
        assert f"in use by process {os.getpid()}" in other()
    assert other() == "held\n"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x"])
def test_a_name_that_leads_out_of_a_directory_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="leads out"):
        files.inside(tmp_path, name)


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert files.fingerprint({"a": 1, "b": [2]}) == files.fingerprint({"b": [2], "a": 1})
    assert files.fingerprint({"a": 1}) != files.fingerprint({"a": 2})
    with pytest.raises(ValueError, match="JSON"):
        files.canonical_json(float("nan"))
