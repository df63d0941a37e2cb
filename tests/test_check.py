"""`check` finds every way in which a directory of ours can be damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ettin.check import check
from ettin.errors import InputError
from ettin.files import MANIFEST, read_json, write_json, write_manifest
from ettin.report import make_report
from tests.made_up_runs import safetensors_bytes, write_export, write_run, write_samples


def write_checkpoint(directory: Path) -> Path:
    """A finished checkpoint of one weight."""
    directory.mkdir(parents=True)
    (directory / "weights-0000.safetensors").write_bytes(safetensors_bytes())
    write_json(directory / "index.json", {"weights": {"weight": "weights-0000.safetensors"}})
    write_json(directory / "state.json", {"step": 120})
    write_manifest(directory, "checkpoint", command=[], made_from={}, facts={"step": 120})
    return directory


def write_corpus(directory: Path) -> Path:
    """A finished corpus, as far as `check` looks into one."""
    (directory / "books").mkdir(parents=True)
    (directory / "tokenizer").mkdir()
    (directory / "books" / "tokens-00000.arrow").write_bytes(b"ARROW1\0\0some tokensARROW1")
    write_json(directory / "tokenizer" / "tokenizer.json", {"model": {}})
    write_manifest(directory, "corpus", command=[], made_from={}, facts={})
    return directory


def write_report(directory: Path) -> Path:
    """A finished report on one run."""
    run = write_run(directory.with_name("reported"), "mlm")
    make_report([run], out=directory, command=["ettin", "report"])
    return directory


def run_with_checkpoints(directory: Path) -> Path:
    """A finished run that holds a finished checkpoint."""
    write_run(directory, "clm", checkpoints=["step120"])
    (directory / MANIFEST).unlink()
    write_checkpoint(directory / "checkpoints" / "step120")
    return finish(directory, "run", facts_of(write_run(directory.with_name("facts"), "clm")))


def facts_of(directory: Path) -> dict[str, Any]:
    """What a manifest states, for one checkpoint."""
    facts: dict[str, Any] = read_json(directory / MANIFEST)["facts"]
    return {**facts, "checkpoints": ["step120"]}


def finish(directory: Path, kind: str, facts: dict[str, Any]) -> Path:
    """Write the manifest anew, so that all hashes are right."""
    (directory / MANIFEST).unlink(missing_ok=True)
    write_manifest(directory, kind, command=[], made_from={}, facts=facts)
    return directory


Writer = Callable[[Path], Path]
WRITERS: dict[str, Writer] = {
    "run": run_with_checkpoints,
    "checkpoint": write_checkpoint,
    "export": lambda path: write_export(path, "mlm"),
    "corpus": write_corpus,
    "report": write_report,
}


def all_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", WRITERS)
def test_an_undamaged_directory_has_no_problems(kind: str, tmp_path: Path) -> None:
    assert check(WRITERS[kind](tmp_path / "made")) == []


@pytest.mark.parametrize("kind", WRITERS)
def test_a_flipped_byte_in_any_file_is_found_and_named(kind: str, tmp_path: Path) -> None:
    directory = WRITERS[kind](tmp_path / "made")
    for path in all_files(directory):
        whole = path.read_bytes()
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        problems = check(directory)
        assert any(str(path.parent) in problem for problem in problems), path
        path.write_bytes(whole)
    assert check(directory) == []


@pytest.mark.parametrize("kind", WRITERS)
def test_a_missing_file_is_found_and_named(kind: str, tmp_path: Path) -> None:
    directory = WRITERS[kind](tmp_path / "made")
    for path in all_files(directory):
        whole = path.read_bytes()
        path.unlink()
        assert check(directory) != [], path
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", WRITERS)
def test_an_extra_file_is_found_and_named(kind: str, tmp_path: Path) -> None:
    directory = WRITERS[kind](tmp_path / "made")
    (directory / "extra.txt").write_text("not ours")
    assert [problem for problem in check(directory) if "extra.txt" in problem]


def test_an_altered_manifest_is_found(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "mlm", checkpoints=[])
    manifest = read_json(run / MANIFEST)
    manifest["facts"]["validation_loss"] = 0.1
    write_json(run / MANIFEST, manifest)
    assert "altered" in check(run)[0]


def test_an_unfinished_directory_is_said_to_be_so_and_its_parts_are_checked(tmp_path: Path) -> None:
    run = run_with_checkpoints(tmp_path / "run")
    (run / MANIFEST).unlink()
    assert len(check(run)) == 1
    assert "unfinished" in check(run)[0]
    (run / "checkpoints" / "step120" / "state.json").write_text("{}")
    assert len(check(run)) == 2


def test_a_folder_of_directories_is_checked_through(tmp_path: Path) -> None:
    write_export(tmp_path / "exports" / "encoder", "mlm")
    write_samples(tmp_path / "results" / "encoder" / "quick" / "samples.json")
    (tmp_path / "exports" / "encoder.lock").write_text("1")
    assert check(tmp_path) == []
    (tmp_path / "exports" / "encoder" / "config.json").write_text("{}")
    assert len(check(tmp_path)) == 1


def test_a_directory_left_by_a_killed_process_is_unfinished(tmp_path: Path) -> None:
    (tmp_path / "corpus.partial").mkdir()
    assert "unfinished" in check(tmp_path)[0]


def test_an_empty_folder_and_a_path_that_is_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "nothing that ettin writes" in check(tmp_path / "empty")[0]
    with pytest.raises(InputError, match="not a directory"):
        check(tmp_path / "missing")


def cut_ledger(run: Path) -> None:
    lines = (run / "ledger.jsonl").read_text().splitlines(keepends=True)
    (run / "ledger.jsonl").write_text("".join(lines[:50] + lines[51:]))


def shift_rows(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    lines[7]["first_row"] += 1
    (run / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def repeat_metrics(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write((run / "metrics.jsonl").read_text().splitlines()[-1] + "\n")


def other_objective(run: Path) -> None:
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("objective: clm", "objective: mlm"))


def torn_line(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut_ledger, "step 52 stands where step 51 should"),
        (shift_rows, "step 8 begins at row 57, not 56"),
        (repeat_metrics, "step 120 follows step 120"),
        (other_objective, "objective mlm, the manifest says clm"),
        (torn_line, "metrics.jsonl"),
    ],
)
def test_a_run_that_contradicts_itself_is_found_although_its_hashes_are_right(
    damage: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    run = run_with_checkpoints(tmp_path / "run")
    facts = facts_of(run)
    damage(run)
    assert any(sentence in problem for problem in check(finish(run, "run", facts)))


def test_a_run_without_a_checkpoint_it_names_is_found(tmp_path: Path) -> None:
    run = run_with_checkpoints(tmp_path / "run")
    finish(run, "run", {**facts_of(run), "checkpoints": ["step120", "step240"]})
    assert check(run) == [f"{run}: checkpoint step240 is missing or unfinished"]


@pytest.mark.parametrize(
    "content",
    [
        b"\x10",
        safetensors_bytes()[:-4],
        safetensors_bytes() + b"\0",
        safetensors_bytes().replace(b"[0, 12]", b"[4, 12]"),
        b"\x05" + bytes(7) + b"{{{{{",
    ],
)
def test_a_safetensors_file_that_is_not_whole_is_found(content: bytes, tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", "mlm")
    (export / "model.safetensors").write_bytes(content)
    problems = check(finish(export, "export", {}))
    assert len(problems) == 1
    assert "model.safetensors" in problems[0]


def test_an_index_that_names_a_tensor_nobody_holds_is_found(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "step120")
    places = {"weight": "weights-0000.safetensors", "lost": "weights-0000.safetensors"}
    write_json(checkpoint / "index.json", {"weights": places})
    assert "no tensor lost" in check(finish(checkpoint, "checkpoint", {}))[0]


def test_a_parity_beyond_its_tolerance_is_found(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", "mlm")
    write_json(export / "parity.json", {"largest_logit_difference": 2e-4, "tolerance": 1e-4})
    assert "logits differ by 0.0002" in check(finish(export, "export", {}))[0]


def test_a_torn_arrow_file_is_found(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    (corpus / "books" / "tokens-00000.arrow").write_bytes(b"ARROW1\0\0some")
    assert "not a complete Arrow file" in check(finish(corpus, "corpus", {}))[0]
