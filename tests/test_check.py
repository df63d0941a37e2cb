"""`check` finds every way in which a directory of ours can be damaged."""

import json
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel

from ettin.check import check
from ettin.errors import InputError
from ettin.files import MANIFEST, read_json, write_json, write_manifest
from ettin.identity import fingerprint_arrays
from ettin.report import make_report
from ettin.tokenizer import SPECIAL_TOKENS, Tokenizer, describe, load_tokenizer
from tests.made_up_runs import (
    NATIVE,
    safetensors_bytes,
    start_at,
    write_export,
    write_lines,
    write_run,
    write_samples,
)


def write_checkpoint(directory: Path, *, step: int = 120, ledger_hash: str = "") -> Path:
    """A finished checkpoint of one weight."""
    directory.mkdir(parents=True)
    (directory / "weights-0000.safetensors").write_bytes(safetensors_bytes())
    write_json(directory / "index.json", {"weights": {"weight": "weights-0000.safetensors"}})
    write_json(directory / "state.json", {"step": step, "ledger_hash": ledger_hash})
    write_manifest(directory, "checkpoint", command=[], made_from={}, facts={"step": step})
    return directory


def write_corpus(directory: Path) -> Path:
    """A finished corpus without a source, as far as `check` looks into one."""
    words = {word: number for number, word in enumerate([*SPECIAL_TOKENS.values(), "a", "b"])}
    backend = Backend(WordLevel(words, unk_token="[PAD]"))
    directory.mkdir()
    Tokenizer(backend, SPECIAL_TOKENS).save(directory / "tokenizer", closing=True)
    described = describe(load_tokenizer(directory / "tokenizer"))
    facts = {"tokenizer": described, "context_lengths": [64], "sources": {}}
    write_manifest(directory, "corpus", command=[], made_from={}, facts=facts)
    return directory


def write_report(directory: Path) -> Path:
    """A finished report on one run."""
    run = write_run(directory.with_name("reported"), "mlm")
    make_report([run], out=directory, command=["ettin", "report"])
    return directory


def run_with_checkpoints(directory: Path) -> Path:
    """A finished run of three phases that holds its checkpoints."""
    return with_checkpoints(write_run(directory, "clm", phases=NATIVE))


def with_checkpoints(run: Path) -> Path:
    """The same run with the checkpoints that its manifest names."""
    facts = facts_of(run)
    facts["initial_weights_hash"] = fingerprint_arrays({"weight": np.zeros(3, np.float32)})
    if facts["start"]:
        facts["start"]["weights"] = facts["initial_weights_hash"]
    ends = [0, *accumulate(phase["steps"] for phase in facts["phases"])]
    for tag, step in zip(facts["checkpoints"], ends, strict=True):
        line = f"{step:032x}" if step else ""
        write_checkpoint(run / "checkpoints" / tag, step=step, ledger_hash=line)
    return finish(run, "run", facts)


def facts_of(directory: Path) -> dict[str, Any]:
    """What a manifest states."""
    facts: dict[str, Any] = read_json(directory / MANIFEST)["facts"]
    return facts


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
    (run / "checkpoints" / "ext48" / "state.json").write_text("{}")
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


def edit(file: str, change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    """Damage to the lines of one file of a run."""

    def damage(run: Path) -> None:
        lines = [json.loads(line) for line in (run / file).read_text().splitlines()]
        change(lines)
        write_lines(run / file, lines)

    return damage


def facts(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Damage to what the manifest states."""

    def damage(run: Path) -> None:
        stated = facts_of(run)
        change(stated)
        finish(run, "run", stated)

    return damage


def recipe(old: str, new: str) -> Callable[[Path], None]:
    """Damage to the recipe."""

    def damage(run: Path) -> None:
        text = (run / "recipe.yaml").read_text()
        assert old in text
        (run / "recipe.yaml").write_text(text.replace(old, new))

    return damage


def torn_line(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')


METRICS, LEDGER = "metrics.jsonl", "ledger.jsonl"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (edit(LEDGER, lambda lines: lines.pop(50)), "step 52 stands where step 51 should"),
        (edit(METRICS, lambda lines: lines.pop(50)), "step 52 stands where step 51 should"),
        (edit(METRICS, lambda lines: lines.append(lines[-1])),
         "step 192 follows step 192, the recipe's last"),
        (edit(LEDGER, lambda lines: lines.pop()), "ends at step 191, the recipe at step 192"),
        (edit(LEDGER, lambda lines: lines[7].update(first_row=99)),
         "step 8 begins at row 99, not 98"),
        (edit(LEDGER, lambda lines: lines[120].update(first_row=1680)),
         "step 121 begins at row 1680, not 0"),
        (edit(LEDGER, lambda lines: lines[7].update(rows=13)),
         "step 8 has 13 rows, the recipe says 14"),
        (edit(LEDGER, lambda lines: lines[120].update(phase="decay")),
         "step 121 is step 1 of decay, by the recipe it is step 1 of extension"),
        (edit(METRICS, lambda lines: lines[120].update(phase_step=121)),
         "step 121 is step 121 of extension, by the recipe it is step 1 of extension"),
        (edit(METRICS, lambda lines: lines[150].update(tokens=1)), "metrics.jsonl says 1"),
        (edit(LEDGER, lambda lines: lines[-1].update(tokens=1)), "tokens until step 192"),
        (recipe("objective: clm", "objective: mlm"), "objective 'mlm', the manifest says 'clm'"),
        (recipe("tokens: 393216", "tokens: 401408"), "step 169 is step 1 of decay, by the recipe"),
        (torn_line, "metrics.jsonl"),
        (facts(lambda stated: stated.update(ledger_hash="e")), "ledger_hash"),
        (facts(lambda stated: stated["phases"].pop()),
         "the phases pretraining, extension, decay, the manifest says pretraining, extension"),
        (facts(lambda stated: stated["phases"][1].update(steps=47)),
         "steps of extension 48, the manifest says 47"),
        (facts(lambda stated: stated["phases"][1].update(tokens=5)),
         "tokens of extension 373,008, the manifest says 5"),
        (facts(lambda stated: stated["phases"][2].update(context_length=512)),
         "context_length of decay 2,048, the manifest says 512"),
        (facts(lambda stated: stated["phases"][2]["source_tokens"].update(code=0)),
         "the sources of decay have 111,902 tokens, it has 186,504"),
        (facts(lambda stated: stated.update(variant="cross")), "names no start"),
        (facts(lambda stated: stated["checkpoints"].append("decay25")),
         "checkpoint decay25 belongs to no step of the run"),
        (facts(lambda stated: stated["checkpoints"].append("cross40")),
         "checkpoint cross40 belongs to no step of the run"),
        (facts(lambda stated: stated["checkpoints"].append("ext40")),
         "checkpoint ext40 is missing or unfinished"),
    ],
)  # fmt: skip
def test_a_run_that_contradicts_itself_is_found_although_its_hashes_are_right(
    damage: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    run = run_with_checkpoints(tmp_path / "run")
    assert check(run) == []
    damage(run)
    problems = check(finish(run, "run", facts_of(run)))
    assert any(sentence in problem for problem in problems), problems


def test_a_checkpoint_of_another_ledger_is_found(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "mlm")
    write_checkpoint(run / "checkpoints" / "step0", step=0)
    write_checkpoint(run / "checkpoints" / "step120", step=120, ledger_hash="e" * 32)
    assert check(finish(run, "run", facts_of(run))) == [
        f"{run}: checkpoint step120 was saved after another step than the ledger's step 120"
    ]


def test_a_cross_run_is_sound_and_begins_with_the_weights_of_its_start(tmp_path: Path) -> None:
    start = start_at(write_run(tmp_path / "decoder", "clm", phases=NATIVE))
    run = with_checkpoints(write_run(tmp_path / "run", "mntp", phases=("cross",), start=start))
    assert facts_of(run)["checkpoints"] == ["cross0", "cross40"]
    assert check(run) == []
    changed = {**facts_of(run), "initial_weights_hash": "e" * 32}
    [problem] = check(finish(run, "run", changed))
    assert f"first weights are not those of its start, {start['where']}" in problem


def test_a_run_from_before_there_were_phases_is_sound(tmp_path: Path) -> None:
    run = with_checkpoints(write_run(tmp_path / "run", "mlm"))
    edit(LEDGER, lambda lines: [line.pop("phase") for line in lines])(run)
    stated = facts_of(run)
    for name in ("phases", "variant", "start"):
        del stated[name]
    assert check(finish(run, "run", stated)) == []


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
    (corpus / "books").mkdir()
    (corpus / "books" / "tokens-00000.arrow").write_bytes(b"ARROW1\0\0some")
    assert "not a complete Arrow file" in check(finish(corpus, "corpus", {}))[0]
