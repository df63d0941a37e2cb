"""The directory of results: filled by any number of evaluations at once, finished by the last one.

    with measuring(out) as results:
        results.begin()             # before anything is written: unfinished from here on
        …
        results.finish(command)     # the last one to leave writes manifest.json

Every evaluation holds a shared lock of the kernel on `<out>.lock`, which vanishes with its holder.
The manifest follows from the records alone, so whoever is last writes the same one; records that
were written before there were manifests are taken up.
"""

import contextlib
import fcntl
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ettin import files
from ettin.console import log
from ettin.errors import InputError
from ettin.files import MANIFEST, Json
from ettin.records import FINETUNED, RESULTS, Record, read_records

_OF_A_MODEL = re.compile(r".+-[0-9a-f]{8}")
_OF_THE_SYSTEM = re.compile(r"\..*|.*\.(lock|log)")
_MODEL = ("model", "weights", "kind", "objective", "variant", "tag", "tokens")


class ResultsDirectory:
    """One evaluation's part in a directory of results; made by `measuring`."""

    def __init__(self, out: Path, lock: IO[str]) -> None:
        self.out = out
        self._lock = lock

    def begin(self) -> None:
        """Say that the directory is unfinished: something in it is about to change."""
        (self.out / MANIFEST).unlink(missing_ok=True)

    def finish(self, command: list[str]) -> None:
        """Write the manifest, unless it stands already or another evaluation is still measuring.

        Args:
            command: the command line, for a directory without any record.
        """
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another evaluation goes on in %s; the last one finishes it", self.out)
            return
        if strange := _strangers(self.out):
            log.warning(
                "%s holds more than results (%s), so no %s is written; choose a folder of its "
                "own as --out",
                *(self.out, ", ".join(strange[:4]), MANIFEST),
            )
            return
        self.out.mkdir(parents=True, exist_ok=True)
        _tidy(self.out / FINETUNED)
        if not _stands(self.out):
            made_from, facts, commands = _described(self.out)
            first = min(commands, default=command)
            files.write_manifest(self.out, RESULTS, command=first, made_from=made_from, facts=facts)


@contextlib.contextmanager
def measuring(out: Path) -> Iterator[ResultsDirectory]:
    """Take part in filling a directory of results; others may do so at the same time.

    Args:
        out: the directory; need not be there.

    Raises:
        InputError: it is a finished directory of another kind.
    """
    _refuse_another_kind(out)
    path = out.with_name(out.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        # Waits only while another evaluation writes the manifest.
        fcntl.flock(file, fcntl.LOCK_SH)
        yield ResultsDirectory(out, file)


def _refuse_another_kind(out: Path) -> None:
    if not files.is_finished(out):
        return
    kind = files.read_json(out / MANIFEST).get("kind")
    if kind != RESULTS:
        raise InputError(
            f"--out {out} is a finished {kind}; results need a directory of their own: choose "
            "another --out"
        )


def _strangers(out: Path) -> list[str]:
    """Names in the directory that no evaluation writes there."""
    if not out.is_dir():
        return []
    return sorted(
        path.name
        for path in out.iterdir()
        if not (path.is_dir() and (path.name == FINETUNED or _OF_A_MODEL.fullmatch(path.name)))
        and path.name != MANIFEST
        and not (path.is_file() and _OF_THE_SYSTEM.fullmatch(path.name))
    )


def _tidy(folder: Path) -> None:
    """Remove locks and what killed processes left; nobody else is here, by the exclusive lock."""
    for path in folder.glob("*.lock"):
        path.unlink()
    for path in folder.glob("*.partial"):
        shutil.rmtree(path)


def _stands(out: Path) -> bool:
    """Whether the manifest is there and names what is there; whoever changes a file removes it."""
    if not files.is_finished(out):
        return False
    return list(files.read_json(out / MANIFEST).get("files", {})) == files.list_files(out)


def _described(out: Path) -> tuple[Json, Json, list[list[str]]]:
    """What the records were made from, what is in them, and the commands that made them."""
    found = read_records(out)
    records = [value for value in found.values() if isinstance(value, Record)]
    tasks = sorted({record.task for record in records})
    data = {
        task: sorted({record.data for record in records if record.task == task}) for task in tasks
    }
    models = {
        record.weights: {key: getattr(record, key) for key in _MODEL}
        for record in sorted(records, key=lambda record: (record.weights, record.model))
    }
    made_from = {"weights": sorted(models), "data": data}
    facts = {
        "models": sorted(models.values(), key=lambda model: (model["model"], model["weights"])),
        "tasks": tasks,
        "seeds": sorted({record.seed for record in records if record.seed is not None}),
        "limits": sorted({record.limit for record in records if record.limit is not None}),
        "records": len(records),
    }
    return made_from, facts, [record.command for record in records]
