"""The program around the tasks: names, records, failures, and no network when told."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ettin import files
from ettin.errors import InputError
from ettin.evaluation.models import open_model
from ettin.evaluation.run import evaluate
from ettin.evaluation.task import Request, Task, halving
from ettin.evaluation.tasks import family_module, parse_tasks
from ettin.records import Record, file_name, read_records
from ettin.task_names import FAMILIES
from tests.stock_models import save_models

TEXT = Task("text", "perplexity")


@pytest.fixture(scope="module")
def models(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`encoder/` and `decoder/` with random weights, and the shared corpus's tokenizer."""
    return save_models(tmp_path_factory.mktemp("models"), tokenizer_directory=tokenizer_directory)


def request_for(out: Path, corpus: Path | None, **changes: Any) -> Request:
    values: dict[str, Any] = {
        "data": corpus, "offline": True, "limit": 2, "seed": None, "mode": "ettin",
        "preset": "quick", "pooling": None, "batch_tokens": 2048, "device": "cpu", "out": out,
    }  # fmt: skip
    return Request(**{**values, **changes})


def measure(models: list[str], tasks: list[Task], request: Request, **changes: Any) -> Any:
    options: dict[str, Any] = {"seeds": (21,), "log_samples": False, "command": ["test"]}
    return evaluate(models, tasks, request=request, **{**options, **changes})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_says_its_names_and_measures(family: str) -> None:
    module = family_module(family)
    assert all(isinstance(name, str) for name in module.names())
    assert {"settings", "measure", "prefetch"} <= set(dir(module))


def test_groups_tasks_and_folders_are_read(tmp_path: Path) -> None:
    (tmp_path / "retrieval" / "cisi").mkdir(parents=True)
    tasks, problems = parse_tasks(
        f"generative, lm/arc_easy,retrieval={tmp_path / 'retrieval' / 'cisi'},lm/piqa", data=None
    )
    assert problems == []
    names = [task.full_name for task in tasks]
    assert len([name for name in names if name.startswith("lm/")]) == 11
    assert parse_tasks("blimp", data=None)[0] == [Task("lm", "blimp")]
    assert names.count("lm/piqa") == 1
    assert tasks[-1] == Task("retrieval", "cisi", tmp_path / "retrieval" / "cisi")
    assert parse_tasks("retrieval", data=tmp_path)[0] == [Task("retrieval", "cisi")]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("glu", "did you mean 'glue'?"),
        ("clasification/sst2", "did you mean 'classification'?"),
        ("retreival=somewhere", "did you mean 'retrieval'?"),
        ("retrieval=nowhere", "there is no such folder"),
    ],
)
def test_unknown_words_are_told_and_the_others_are_kept(word: str, expected: str) -> None:
    tasks, problems = parse_tasks(f"text/perplexity,{word}", data=None)
    assert tasks == [TEXT]
    assert len(problems) == 1
    assert expected in problems[0]


def test_a_record_is_whole_and_is_not_made_twice(
    models: Path, corpus_directory: Path, tmp_path: Path, told: Any
) -> None:
    request = request_for(tmp_path / "results", corpus_directory)
    wheres = [str(models / "decoder")]
    first = measure(wheres, [TEXT], request)
    assert first.failures == []
    assert [record["kind"] for record in first.records] == ["decoder"]
    for record in first.records:
        stored = files.read_json(Path(record["path"]))
        assert Record.model_validate(stored).task == "text/perplexity"
        assert (stored["limit"], stored["seed"], stored["tag"]) == (2, None, None)
        assert stored["value"] == stored["metrics"][stored["metric"]]["value"]
        folder = Path(record["path"]).relative_to(tmp_path / "results")
        name = f"{record['kind']}-{record['weights'][:8]}"
        assert folder.parts[:-1] == (name, "text", "perplexity")
        assert len(folder.stem) == 8
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    again = measure(wheres, [TEXT], request)
    assert again.records == first.records
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == before
    assert "measured already" in told.text


def test_a_changed_setting_is_a_new_record(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    where = [str(models / "decoder")]
    for limit in (1, 2):
        request = request_for(tmp_path / "results", corpus_directory, limit=limit)
        measure(where, [TEXT], request)
    assert len(read_records(tmp_path / "results")) == 2


def test_samples_are_written_when_asked_for(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    request = request_for(tmp_path / "results", corpus_directory)
    plain = measure([str(models / "decoder")], [TEXT], request).records[0]
    assert plain["samples"] is None
    record = measure([str(models / "decoder")], [TEXT], request, log_samples=True).records[0]
    lines = (Path(record["path"]).parent / record["samples"]).read_text().splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_one_failing_task_leaves_the_others(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    request = request_for(tmp_path / "results", corpus_directory)
    tasks = [Task("bias", "winogender"), TEXT, Task("text", "nonsense")]
    outcome = measure([str(models / "decoder"), str(tmp_path / "nothing")], tasks, request)
    assert [record["task"] for record in outcome.records] == ["text/perplexity"]
    assert len(outcome.failures) == 5
    assert all(failure.by_caller for failure in outcome.failures)


def test_samples_of_models_from_elsewhere_are_left_out_and_no_failure(
    models: Path, corpus_directory: Path, tmp_path: Path, told: Any
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    files.write_json(other / "config.json", {"architectures": ["LlamaForCausalLM"]})
    (other / "model.safetensors").write_bytes(b"x")
    request = request_for(tmp_path / "results", corpus_directory)
    wheres = [str(other), str(models / "decoder")]
    outcome = measure(wheres, [Task("quick", "samples")], request)
    assert outcome.failures == []
    assert [record["model"] for record in outcome.records] == ["decoder"]
    assert "other: samples are made of ettin's exports alone" in told.text


def test_a_task_that_the_data_do_not_allow_is_left_out_beside_others(
    models: Path, flat_corpus: Path, tmp_path: Path
) -> None:
    """A flat folder of texts has no classes to tell apart; the other quick tasks go on."""
    common = [sys.executable, "-m", "ettin", "evaluate", str(models / "decoder"), "--offline"]
    common += ["--data", str(flat_corpus), "--limit", "4", "--json", "--out"]
    for tasks, code in (("quick/classification,quick/samples", 0), ("quick/classification", 2)):
        command = [*common, str(tmp_path / f"results{code}"), "--tasks", tasks]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        assert child.returncode == code, child.stderr[-1500:]
        assert json.loads(child.stdout)["failed"][0]["left_out"] is True


def test_models_that_are_none_are_refused_with_the_reason(models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickled").mkdir()
    files.write_json(tmp_path / "pickled" / "config.json", {"architectures": ["BertForMaskedLM"]})
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    for where, expected in (
        (str(tmp_path / "empty"), "ettin export"),
        (str(tmp_path / "pickled"), "never read"),
        (str(models / "encodr"), "did you mean"),
    ):
        with pytest.raises(InputError, match=expected):
            open_model(where)


def test_kinds_follow_from_architectures(tmp_path: Path) -> None:
    for architecture, kind in (
        ("BertForMaskedLM", "encoder"),
        ("GPT2LMHeadModel", "decoder"),
        ("LlamaForCausalLM", "decoder"),
        ("BertForPreTraining", "encoder"),
    ):
        folder = tmp_path / architecture
        folder.mkdir()
        files.write_json(folder / "config.json", {"architectures": [architecture]})
        (folder / "model.safetensors").write_bytes(b"x")
        assert open_model(str(folder)).kind == kind
    files.write_json(folder / "config.json", {"architectures": ["ViTForImageClassification"]})
    with pytest.raises(InputError, match="neither a masked nor a causal"):
        open_model(str(folder))


def test_another_window_or_tokenizer_is_another_record(
    models: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    """Weights are not all that a model is: its configuration and tokenizer count, too."""
    copy = tmp_path / "model"
    shutil.copytree(models / "decoder", copy)
    request = request_for(tmp_path / "results", corpus_directory)
    measure([str(copy)], [TEXT], request)
    config = files.read_json(copy / "config.json")
    files.write_json(copy / "config.json", {**config, "local_attention": 4, "sliding_window": 2})
    measure([str(copy)], [TEXT], request)
    records = read_records(tmp_path / "results").values()
    assert len({record.value for record in records if isinstance(record, Record)}) == 2


def test_a_language_model_head_that_would_be_random_is_refused(
    models: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "headless"
    shutil.copytree(models / "encoder", copy)
    weights = load_file(copy / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"no weights for head\.dense\.weight"):
        open_model(str(copy)).load_language_model()
    files.write_json(copy / "config.json", {"architectures": ["ElectraForPreTraining"]})
    with pytest.raises(InputError, match="neither a masked nor a causal"):
        assert open_model(str(copy)).kind


def test_an_objective_that_a_model_does_not_state_can_be_told(models: Path) -> None:
    where = str(models / "encoder")
    assert open_model(where).answer_offset == 0
    assert open_model(where, objective="mntp").answer_offset == 1
    with pytest.raises(InputError, match="is an encoder"):
        assert open_model(where, objective="clm").kind


def test_names_stay_inside_their_folder() -> None:
    assert file_name("../../etc/passwd") == "etc-passwd"
    assert file_name("jhu-clsp/ettin-encoder-17m") == "jhu-clsp-ettin-encoder-17m"
    assert file_name("..") == "unnamed"


def test_memory_that_runs_out_halves_the_batch(told: Any) -> None:
    tried = []

    def run(size: int) -> int:
        tried.append(size)
        if size > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return size

    assert halving(12, run) == 3
    assert tried == [12, 6, 3]
    assert "half the batch: 6" in told.text
    with pytest.raises(InputError, match="smallest batch"):
        halving(1, lambda _: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(RuntimeError, match="something else"):
        halving(4, lambda _: (_ for _ in ()).throw(RuntimeError("something else")))


OFFLINE = """
import sys
seen = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        seen.append((event, str(arguments[1:3])))
sys.addaudithook(hook)
sys.argv = ["ettin", *{words!r}]
from ettin.cli import main
try:
    main()
except SystemExit as stop:
    code = stop.code
else:
    code = 0
print("SEEN", seen, "CODE", code, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("tasks", "code"), [("text,quick/retrieval", 0), ("glue,lm/piqa,retrieval/scifact", 2)]
)
def test_offline_means_no_connection_and_no_name_look_up(
    models: Path, corpus_directory: Path, tmp_path: Path, tasks: str, code: int
) -> None:
    words = ["evaluate", str(models / "decoder"), "--tasks", tasks, "--offline", "--limit", "2"]
    words += ["--data", str(corpus_directory), "--out", str(tmp_path / "results"), "--json"]
    child = subprocess.run(
        [sys.executable, "-c", OFFLINE.format(words=words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"SEEN [] CODE {code}" in child.stderr, child.stderr[-2000:]
