"""The command line: help at once, one message for a mistake, one JSON object for machines."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ettin.arguments import spread
from tests.recipes import tiny_values, write_recipe

COMMANDS = [
    ["quickstart"],
    ["tokenizer", "train"],
    ["prepare"],
    ["train"],
    ["export"],
    ["evaluate"],
    ["report"],
    ["check"],
    ["suite", "plan"],
    ["suite", "run"],
    ["suite", "status"],
    ["publish"],
    ["order", "show"],
    ["order", "find"],
    ["order", "verify"],
    ["order", "export"],
    ["order", "store"],
]


def ettin(*words: object, expected: int = 0) -> subprocess.CompletedProcess[str]:
    """Type a command; fails unless it ends with the expected exit code."""
    command = [sys.executable, "-m", "ettin", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expected, (done.returncode, done.stdout, done.stderr)
    return done


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(command):
    text = ettin(*command, "--help").stdout
    assert "Example: ettin " + " ".join(command) in " ".join(text.split())
    assert "--json" in text


def test_help_answers_at_once_and_loads_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['ettin', '--help']\nfrom ettin.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'transformers', 'pyarrow', 'pydantic', 'yaml', 'tokenizers'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    times = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - started)
    assert "HEAVY []" in done.stdout
    assert min(times) < 0.5  # 0.1 s alone; other tests share the machine


def test_a_bad_recipe_is_refused_without_torch(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_values(sede=1, phase_tokns=3)))
    code = (
        "import sys\n"
        f"sys.argv = ['ettin', 'train', {str(path)!r}, '--out', 'x', '--corpus', 'y']\n"
        "from ettin.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print('EXIT', end.code)\n"
        "print('TORCH', 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "EXIT 2" in done.stdout
    assert "TORCH False" in done.stdout
    assert "did you mean 'seed'?" in done.stderr
    assert "did you mean 'tokens'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_preparing_needs_neither_torch_nor_transformers(text_folder, tokenizer_directory, tmp_path):
    code = (
        "import sys\n"
        f"sys.argv = ['ettin', 'prepare', '--text', {str(text_folder)!r}, '--tokenizer', "
        f"{str(tokenizer_directory)!r}, '--out', {str(tmp_path / 'corpus')!r}]\n"
        "from ettin.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('HEAVY', sorted({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout


def test_all_stages_in_order_with_one_json_object_each(text_folder, tmp_path):
    def result(*words: object) -> dict:
        lines = ettin(*words, "--json").stdout.splitlines()
        assert len(lines) == 1
        return json.loads(lines[0])

    tokenizer, corpus = tmp_path / "tokenizer", tmp_path / "corpus"
    recipe = write_recipe(tmp_path / "recipe.yaml")
    made = result(
        *("tokenizer", "train", "--text", text_folder / "prose", text_folder / "letters"),
        *("--vocab-size", 512, "--out", tokenizer),
    )
    assert made["vocab_size"] == 512
    sources = [f"{name}={text_folder / name}" for name in ("prose", "letters")]
    prepared = result(
        *("prepare", "--source", *sources, "--tokenizer", tokenizer, "--out", corpus),
        *("--context-length", "64,128"),
    )
    assert prepared["documents"] == 170
    assert prepared["skipped"] == 0
    assert prepared["tokens"] > prepared["held_out_tokens"] > 0
    planned = result("train", recipe, "--corpus", corpus, "--out", tmp_path / "run", "--dry-run")
    assert planned["checkpoints"] == ["step0", "step7", "step14", "step20"]
    assert not (tmp_path / "run").exists()
    trained = result(
        *("train", recipe, "--corpus", corpus, "--out", tmp_path / "run", "--objective", "clm"),
        "phases.pretraining.batch_rows=8",
    )
    assert trained["checkpoints"] == ["step0", "step6", "step11", "step15"]
    assert Path(trained["run"]) == tmp_path / "run"
    assert 0 < trained["validation_loss"] < 6.3
    exported = result("export", f"{tmp_path / 'run'}@step6", "--out", tmp_path / "export")
    assert exported["parity"] < 1e-4
    looked = result(
        *("evaluate", tmp_path / "export", "--tasks", "quick", "--data", corpus),
        *("--out", tmp_path / "results"),
    )
    assert looked["results"][0]["cache_equal"] is True
    paths = [tmp_path / name for name in ("run", "export", "results")]
    page = result("report", *paths, "--out", tmp_path / "report")["page"]
    assert "<html" in Path(page).read_text()
    for name in ("tokenizer", "corpus", "run", "export", "report"):
        found = result("check", tmp_path / name)
        assert (found["ok"], found["problems"]) == (True, [])
    weights = tmp_path / "export" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    broken = json.loads(ettin("check", tmp_path / "export", "--json", expected=1).stdout)
    assert broken["ok"] is False
    assert "model.safetensors" in broken["problems"][0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prepare", "--text", "nowhere", "--tokenizer", "t", "--out", "c"], "nowhere"),
        (["prepare", "--tokenizer", "t", "--out", "c"], "either --text PATH… or --source"),
        (["prepare", "--source", "a", "--tokenizer", "t", "--out", "c"], "expected NAME=PATH"),
        (["train", "nowhere.yaml", "--out", "r"], "cannot read the recipe"),
        (["export", "nowhere", "--out", "e"], "no hub id"),
        (["check", "nowhere"], "nowhere"),
        (["report", "nowhere", "--out", "r"], "nowhere"),
        (["quickstart", "--text", "nowhere", "--out", "q"], "nowhere"),
        (["quickstart", "--tokens", "3", "--out", "q"], "too little"),
        (["quickstart", "--tokens", "many", "--out", "q"], "expected a number"),
        (["evaluate", "m", "--tasks", "quik", "--data", "d", "--out", "r"], "did you mean 'quick'"),
        (["frobnicate"], "frobnicate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_gets_one_message_and_exit_code_2(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ettin(*words, expected=2)
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_recipe_without_corpus_says_what_to_give(tmp_path):
    recipe = write_recipe(tmp_path / "recipe.yaml")
    assert "--corpus" in ettin("train", recipe, "--out", tmp_path / "r", expected=2).stderr


def test_options_of_many_words_are_spread():
    words = ["prepare", "--text", "a", "b", "--out", "c", "--exclude", "x", "y", "--json"]
    assert spread(words) == [
        *("prepare", "--text", "a", "--text", "b", "--out", "c"),
        *("--exclude", "x", "--exclude", "y", "--json"),
    ]
    assert spread(["train", "r", "--out", "o", "seed=3"]) == ["train", "r", "--out", "o", "seed=3"]


def test_ctrl_c_in_a_stage_that_does_not_catch_it_exits_3(tmp_path):
    suite = tmp_path / "suite.yaml"
    os.mkfifo(suite)
    # What is started in the background of a script is born deaf to Ctrl-C.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from ettin.cli import main; main()"
    )
    words = ["suite", "plan", suite, "--out", tmp_path / "out"]
    command = [sys.executable, "-c", start, *map(str, words)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with suite.open("w"):  # opens when the command reads
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=60)
    assert (child.returncode, "Traceback" in told) == (3, False)
    assert "the same command goes on" in told
