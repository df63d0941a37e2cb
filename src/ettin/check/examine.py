"""The check itself: find finished directories, compare bytes, look into them, follow links."""

import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ettin import files
from ettin.check.corpora import check_corpus, is_shard, read_shard
from ettin.check.directories import Directory, compare_bytes, leads_out, read_directory
from ettin.check.findings import Findings
from ettin.check.formats import check_file, is_ours
from ettin.check.hashing import Hasher, Look
from ettin.check.links import check_links
from ettin.check.models import check_checkpoint, check_export
from ettin.check.neighbours import Neighbours
from ettin.check.result_links import check_result_links
from ettin.check.results import check_results, looks_like_results
from ettin.check.runs import check_run
from ettin.check.suites import OWN_FOLDERS, check_suite, is_suite
from ettin.check.tokenizers import Tokenizers
from ettin.check.trees import check_tree, is_tree
from ettin.console import Progress, progress
from ettin.errors import InputError
from ettin.files import MANIFEST

_BESIDE = (".lock", ".log", ".manifest", ".new", ".old")
"""Logs, locks and the like lie beside the directories of stages, in folders that hold several."""
_SIGNS = {"start.json", "metrics.jsonl", "ledger.jsonl", "state.json", "config.json",
          "tokenizer.json", "index.html"}  # fmt: skip
_SIGN_ENDINGS = (".arrow", ".safetensors")


def check(path: Path) -> list[str]:
    """Verify a directory, or a folder that holds several.

    Args:
        path: a corpus, run, checkpoint, export, tokenizer, directory of results, report, suite, or
            a folder of these.

    Returns:
        One sentence a problem; empty when all is well. An unfinished directory is a problem.

    Raises:
        InputError: `path` is not a directory.
    """
    return examine(path).problems


def examine(path: Path) -> Findings:
    """Verify a directory, and say what could not be compared too; see `check`.

    Raises:
        InputError: `path` is not a directory.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a directory; give one that an ettin command wrote")
    with (
        progress("check", total=_bytes_below(path), unit="B") as shown,
        Hasher(advance=shown.advance) as hasher,
    ):
        return _Examination(shown, hasher).run(path)


class _Examination:
    """One check, with what it has found so far."""

    def __init__(self, shown: Progress, hasher: Hasher) -> None:
        self.findings = Findings()
        self._shown, self._hasher = shown, hasher
        self._sound: list[Directory] = []
        self._seen: dict[Path, Any] = {}
        self._loose_results: list[Path] = []
        self._tokenizers = Tokenizers()

    def run(self, path: Path) -> Findings:
        self._look(path)
        neighbours = Neighbours(self._sound)
        for directory in self._sound:
            self._shown.advance(0, f"links of {directory.path.name}")
            check_links(directory, neighbours, self.findings)
        results = [each.path for each in neighbours.of("results")]
        for folder in (*results, *self._loose_results):
            with self.findings.reading(folder):
                check_result_links(folder, neighbours, self.findings)
        return self.findings

    def _look(self, path: Path) -> None:
        if files.is_finished(path):
            self._look_into(path)
        elif is_tree(path):
            self._look_through_tree(path)
        elif _is_started(path):
            self.findings.problem(
                f"{path} is unfinished: it holds no {MANIFEST}; the command that makes it goes on "
                "with it or begins it again"
            )
            for below in _finished_below(path):
                self._look_into(below)
        else:
            self._look_through(path)

    def _look_through_tree(self, tree: Path) -> None:
        """What is to be published; a resumable revision is a run that ends at its checkpoint."""
        with self.findings.reading(tree):
            for revision in check_tree(tree, self.findings, advance=self._shown.advance):
                for directory in _finished_below(revision):
                    self._look_into(directory)

    def _look_through(self, folder: Path) -> None:
        """A folder that is no directory of ours holds some, or single files, or nothing."""
        children = sorted(folder.iterdir())
        loose = [child for child in children if child.is_file() and is_ours(child)]
        for child in loose:
            self._look_at_file(child, inside=folder)
        # Jobs are named as people like, `tokenizer` or `config` too; `check_suite` reads them.
        apart = OWN_FOLDERS if is_suite(folder) else ()
        folders = [child for child in children if child.is_dir() and child.name not in apart]
        for child in folders:
            if child.is_symlink():
                self.findings.note(
                    f"{child}: a link to {child.resolve()}, not followed; check that by itself"
                )
            else:
                self._look(child)
        beside = [child for child in children if child.name.endswith(_BESIDE)]
        if not (loose or folders or beside):
            self.findings.problem(f"{folder} holds nothing that ettin writes")
        if is_suite(folder):
            check_suite(folder, self.findings)
        if looks_like_results(folder):
            self._loose_results.append(folder)
            self.findings.note(
                f"{folder}: results without {MANIFEST}: an evaluation is going on, was stopped, or "
                "is of an older version; the same `ettin evaluate` command finishes it"
            )

    def _look_into(self, path: Path) -> None:
        """A finished directory: its bytes, then what they say, its innermost parts first."""
        before = len(self.findings.problems)
        with self.findings.reading(path):
            outermost = read_directory(path)
            found, self._seen = compare_bytes(
                outermost, self.findings, hasher=self._hasher, look=_look_while_reading
            )
            if len(self.findings.problems) > before:
                self._tell_repair(outermost)
                return
            for directory in reversed(found):
                self._look_at_content(directory)
            if len(self.findings.problems) == before:
                self._sound += found

    def _tell_repair(self, directory: Directory) -> None:
        """What to do about a directory whose bytes are not as they were written."""
        again = "download it again"
        if directory.command:
            again = f"remove it and make it again: {shlex.join(directory.command)}"
        self.findings.note(
            f"{directory.path}: take what is missing or differs from a copy, or {again}"
        )

    def _look_at_content(self, directory: Directory) -> None:
        before = len(self.findings.problems)
        for name in directory.files:
            if Path(name).name != MANIFEST:
                self._look_at_file(directory.path / name, inside=directory.path)
        looks = self._kinds().get(directory.kind)
        if looks is not None and len(self.findings.problems) == before:
            with self.findings.reading(directory.path):
                for sentence in looks(directory):
                    self.findings.problem(sentence)

    def _look_at_file(self, path: Path, *, inside: Path) -> None:
        if path.is_symlink() and leads_out(inside, path):
            self.findings.problem(f"{path}: a link that leads out of its folder; not followed")
            return
        with self.findings.reading(path):
            try:
                check_file(path)
            except ValueError as error:
                self.findings.problem(f"{path}: {error}")

    def _kinds(self) -> dict[str, Callable[[Directory], Iterable[str]]]:
        return {
            "run": check_run,
            "checkpoint": check_checkpoint,
            "export": lambda export: check_export(export, self._tokenizers),
            "report": _check_report,
            "tokenizer": lambda found: self._tokenizers.differences(found.path, found.facts),
            "corpus": lambda corpus: check_corpus(corpus, self._tokenizers, seen=self._seen),
            "results": lambda results: check_results(results.path),
        }


def _look_while_reading(directory: Directory, name: str) -> Look | None:
    """What is looked up in a file while it is hashed: what a corpus holds is most of its bytes."""
    if directory.kind == "corpus" and is_shard(name):
        return lambda path: read_shard(path, directory.facts)
    return None


def _check_report(report: Directory) -> Iterator[str]:
    if not (report.path / "index.html").is_file():
        yield f"{report.path / 'index.html'}: missing"


def _is_started(path: Path) -> bool:
    """Whether a directory without a manifest is one of ours that never came to its end."""
    names = [child.name for child in path.iterdir() if not child.name.endswith(_BESIDE)]
    return (
        path.name.endswith(".partial")
        or bool(_SIGNS & set(names))
        or any(name.endswith(_SIGN_ENDINGS) for name in names)
    )


def _finished_below(path: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(path):
        if MANIFEST in names:
            below.clear()
            yield Path(folder)
        below.sort()


def _bytes_below(path: Path) -> int:
    """How much there is to read; links are not followed."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += (Path(folder) / name).lstat().st_size
    return total
