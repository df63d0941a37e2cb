"""The first ten minutes: from the text on this machine to a trained, exported, compared pair.

It finds text, writes a suite file, and types what a person would type, `ettin suite run`; that the
suite skips what is finished and resumes what was interrupted holds here too.

    ettin-quickstart/quickstart.yaml     an ordinary suite; recipes/quickstart.yaml with its text
    ettin-quickstart/report/index.html   the page to look at
"""

import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from ettin import files
from ettin.console import duration, log
from ettin.errors import CommandFailed, InputError
from ettin.numbers import parse_count

SUITE = Path(__file__).with_name("quickstart.yaml")
"""What is run, but for the text: `recipes/quickstart.yaml` is the same file."""

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

_TWINS = {"encoder": "encoder-nano", "decoder": "decoder-nano"}
_STEPS_AT_LEAST = 10
_SCALED = ("tokens", "warmup_tokens", "decay_tokens", "save_every_tokens", "validate_every_tokens")


@dataclass(frozen=True)
class QuickstartSummary:
    """Where everything is; absolute paths."""

    out: Path
    seconds: float

    def paths(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "corpus": str(self.out / "corpus"),
            "runs": {kind: str(self.out / "runs" / name) for kind, name in _TWINS.items()},
            "exports": {kind: str(self.out / "exports" / name) for kind, name in _TWINS.items()},
            "report": str(self.out / "report" / "index.html"),
            "seconds": self.seconds,
        }

    def text(self) -> str:
        """Where everything is, and three things to type next."""
        out = shlex.quote(_short(self.out))
        suite, corpus = (shlex.quote(_short(self.out / n)) for n in ("quickstart.yaml", "corpus"))
        paths = self.paths()
        return f"""
Done in {duration(self.seconds)}. Look at the page first:

  page      {paths["report"]}
  encoder   {paths["exports"]["encoder"]}
  decoder   {paths["exports"]["decoder"]}
  runs      {self.out / "runs"}        corpus  {self.out / "corpus"}

Three things to type next:

  ettin suite status {suite} --out {out}
  ettin quickstart --text YOUR_TEXTS --out my-pair
  ettin train {suite} --corpus {corpus} --out longer phases.0.tokens=4M
"""


def quickstart(text: Sequence[Path | str], *, out: Path, tokens: int) -> QuickstartSummary:
    """Train, export, check and draw a pair of size `nano`.

    Args:
        text: files, folders, patterns and URLs; the standard library's own sources when empty.
        out: a directory for everything.
        tokens: nominal tokens to train each twin on.

    Raises:
        InputError: too few tokens, no such text, or too little of it.
        CommandFailed: a command did not end well; it has said why.
    """
    suite = yaml.safe_load(SUITE.read_text(encoding="utf-8"))
    phase = suite["phases"][0]
    smallest = _STEPS_AT_LEAST * phase["batch_rows"] * phase["context_length"]
    if tokens < smallest:
        raise InputError(f"--tokens {tokens:,} is too little; give at least {smallest:,}")
    places = [str(each) for each in text]
    for place in places:
        if not ("://" in place or "*" in place or Path(place).exists()):
            raise InputError(f"--text {place}: there is no such file or folder")
    started = time.monotonic()
    out = out.absolute()
    if places:
        suite["text"] = [each if "://" in each else str(Path(each).absolute()) for each in places]
    else:
        suite |= {"text": [sysconfig.get_paths()["stdlib"]], "exclude": NOT_LIBRARY}
        log.info("text: the sources of Python's standard library, without its tests")
    suite["phases"] = [_scaled(phase, tokens)]
    path = out / "quickstart.yaml"
    _write(path, suite)
    _run("suite", "run", str(path), "--out", str(out))
    _run("check", str(out))
    return QuickstartSummary(out, time.monotonic() - started)


def _scaled(phase: dict[str, Any], tokens: int) -> dict[str, Any]:
    """The phase with another budget; everything counted in tokens keeps its share of it."""
    share = Fraction(tokens) / Fraction(parse_count(phase["tokens"]))
    return {**phase, **{key: int(parse_count(phase[key]) * share) for key in _SCALED}}


def _write(path: Path, suite: dict[str, Any]) -> None:
    """The suite file; an equal one is left alone."""
    comment = "# An ordinary suite: `ettin suite run` on this file goes on where it stopped.\n"
    content = comment + yaml.safe_dump(suite, sort_keys=False, allow_unicode=True)
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        files.write_atomic(path, content)


def _run(*words: str) -> None:
    """Type one command: show it and run it; what it prints is no part of our own output.

    Ctrl-C reaches the command by itself and it saves; an end asked of us is passed on to it.

    Raises:
        CommandFailed: it did not end well.
    """
    log.info("\n$ %s", shlex.join(["ettin", *(_short(Path(word)) for word in words)]))
    child = subprocess.Popen([sys.executable, "-m", "ettin", *words], stdout=subprocess.DEVNULL)

    def pass_on(number: int, _: FrameType | None) -> None:
        if number == signal.SIGTERM:
            child.terminate()

    before = {each: signal.signal(each, pass_on) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if child.returncode:
        raise CommandFailed(
            f"`ettin {words[0]}` ended with exit code {child.returncode}; its message stands above",
            exit_code=child.returncode if child.returncode > 0 else 1,
        )


def _short(path: Path) -> str:
    """A path from here, when it is below here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
