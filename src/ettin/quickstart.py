"""The first ten minutes: from the text on this machine to a trained, exported, compared pair.

It types the commands that a person would type, one after another, and shows each before it runs;
every one of them skips what is finished and resumes what was interrupted, so the quickstart does.
"""

import json
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from ettin import files
from ettin.console import duration, log
from ettin.errors import CommandFailed, InputError

VOCABULARY = 8192
CONTEXT_LENGTH = 256
BATCH_ROWS = 4
"""Many small steps: of the shapes tried this one learns most from 800k tokens (see LOG.md)."""
HELD_OUT = "5 %"
"""More than usual, so that the quick tasks have examples."""
NOT_LIBRARY = [
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "__pycache__",
    "lib-dynload",
    "config-*",
]
"""What lies in the standard library's folder and is not its sources."""

_TWINS = {"encoder": "mlm", "decoder": "clm"}
_SMALLEST_BUDGET = 10 * BATCH_ROWS * CONTEXT_LENGTH


@dataclass(frozen=True)
class QuickstartSummary:
    """Where everything is; absolute paths."""

    out: Path
    seconds: float

    def paths(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "corpus": str(self.out / "corpus"),
            "runs": {name: str(self.out / "runs" / name) for name in _TWINS},
            "exports": {name: str(self.out / "exports" / name) for name in _TWINS},
            "report": str(self.out / "report" / "index.html"),
            "seconds": self.seconds,
        }

    def text(self) -> str:
        """Where everything is, and three things to type next."""
        shown = _short(self.out)
        return f"""
Done in {duration(self.seconds)}. Look at the page first:

  page      {self.out / "report" / "index.html"}
  encoder   {self.out / "exports" / "encoder"}
  decoder   {self.out / "exports" / "decoder"}
  runs      {self.out / "runs"}        corpus  {self.out / "corpus"}

Three things to type next:

  ettin check {shown}/runs/encoder
  ettin quickstart --text YOUR_TEXTS --out my-pair
  ettin train {shown}/recipe.yaml --corpus {shown}/corpus --out {shown}/longer phases.0.tokens=4M
"""


def quickstart(text: list[Path], *, out: Path, tokens: int) -> QuickstartSummary:
    """Train, export, check and draw a pair of size `nano`.

    Args:
        text: files and folders; the standard library's own sources when empty.
        out: a directory for everything.
        tokens: nominal tokens to train each twin on.

    Raises:
        InputError: too few tokens, no such text, or too little of it.
        CommandFailed: a command did not end well; it has said why.
    """
    if tokens < _SMALLEST_BUDGET:
        raise InputError(f"--tokens {tokens:,} is too little; give at least {_SMALLEST_BUDGET:,}")
    for path in text:
        if not path.exists():
            raise InputError(f"--text {path}: there is no such file or folder")
    started = time.monotonic()
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    chosen = [str(path.absolute()) for path in text]
    if not chosen:
        chosen = [sysconfig.get_paths()["stdlib"], "--exclude", *NOT_LIBRARY]
        log.info("text: the sources of Python's standard library, without its tests")
    tokenizer, corpus = str(out / "tokenizer"), str(out / "corpus")
    _run(
        "tokenizer", "train", "--text", *chosen, "--vocab-size", str(VOCABULARY), "--out", tokenizer
    )
    _run(
        *("prepare", "--text", *chosen, "--tokenizer", tokenizer),
        *("--context-length", str(CONTEXT_LENGTH), "--held-out", HELD_OUT, "--out", corpus),
    )
    recipe = out / "recipe.yaml"
    _write_recipe(recipe, tokens)
    for name, objective in _TWINS.items():
        run, export = str(out / "runs" / name), str(out / "exports" / name)
        _run("train", str(recipe), "--corpus", corpus, "--objective", objective, "--out", run)
        _run("export", run, "--out", export)
    exports = [str(out / "exports" / name) for name in _TWINS]
    results, report = str(out / "results"), str(out / "report")
    _run("evaluate", *exports, "--tasks", "quick", "--data", corpus, "--out", results)
    runs = [str(out / "runs" / name) for name in _TWINS]
    _run("report", *runs, *exports, results, "--out", report)
    for each in (tokenizer, corpus, *runs, *exports, report):
        _run("check", each)
    return QuickstartSummary(out, time.monotonic() - started)


def _write_recipe(path: Path, tokens: int) -> None:
    """The recipe of both twins: a tenth of warm-up, half of decay."""
    recipe = {
        "size": "nano",
        "phases": [
            {
                "name": "pretraining",
                "tokens": tokens,
                "context_length": CONTEXT_LENGTH,
                "batch_rows": BATCH_ROWS,
                "warmup_tokens": tokens // 10,
                "decay_tokens": tokens // 2,
                "save_every_tokens": tokens // 4,
                "save_early": True,
                "validate_every_tokens": tokens // 10,
            }
        ],
        "ngram_baselines": True,
    }
    comment = "# Both twins: `--objective` alone tells them apart.\n"
    content = comment + yaml.safe_dump(recipe, sort_keys=False)
    if not path.exists() or path.read_text() != content:
        files.write_atomic(path, content)


def _run(*words: str) -> Any:
    """Type one command: show it, run it, and return what it printed.

    Ctrl-C reaches the command by itself and it saves; an end asked of us is passed on to it.

    Raises:
        CommandFailed: it did not end well.
    """
    log.info("\n$ %s", shlex.join(["ettin", *(_short(Path(word)) for word in words)]))
    child = subprocess.Popen(
        [sys.executable, "-m", "ettin", *words, "--json"], stdout=subprocess.PIPE
    )

    def pass_on(number: int, _: FrameType | None) -> None:
        if number == signal.SIGTERM:
            child.terminate()

    before = {each: signal.signal(each, pass_on) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        printed, _ = child.communicate()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if child.returncode:
        raise CommandFailed(
            f"`ettin {words[0]}` ended with exit code {child.returncode}; its message stands above",
            exit_code=child.returncode if child.returncode > 0 else 1,
        )
    return json.loads(printed)


def _short(path: Path) -> str:
    """A path from here, when it is below here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
